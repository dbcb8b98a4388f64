// Any bytes are a model or refused, and however they are cut into pieces it is the same model or the
// same words. The first byte is the length of the pieces, the rest the file. The models of the corpus are small ones
// with random weights, made by the library.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/sampler.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static df_model *load(const uint8_t *bytes, size_t size, size_t piece, size_t known,
                      df_error *error) {
  df_loader *loader;
  df_model *model;
  *error = (df_error){DF_OK, ""};
  if (df_loader_create(&loader, known, error)) abort();
  for (size_t at = 0, n; at < size; at += n) {
    n = size - at < piece ? size - at : piece;
    if (df_loader_feed(loader, bytes + at, n, error)) break;
  }
  df_status status = df_loader_finish(loader, &model, error);
  if (!status != !!model || (status && !error->message[0])) abort();
  return model;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size < 1) return 0;
  size_t piece = bytes[0] ? bytes[0] : 1;
  bytes++, size--;
  df_error whole_error, error;
  df_model *whole;
  df_status status = df_model_open(&whole, bytes, size, &whole_error);
  for (int known = 1; known >= 0; known--) {
    // A header may promise gigabytes that a file of unknown size never brings.
    if (!known && status) break;
    df_model *model = load(bytes, size, piece, known ? size : SIZE_MAX, &error);
    if (error.code != status || (status && strcmp(error.message, whole_error.message))) abort();
    if (model &&
        memcmp(model->params.values, whole->params.values, whole->params.size * sizeof(float)))
      abort();
    df_model_free(model);
  }
  df_model_free(whole);
  if (df_alloc_bytes()) abort();
  return 0;
}
