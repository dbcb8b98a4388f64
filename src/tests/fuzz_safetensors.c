// Any bytes are a file or refused; every element of a file can be read.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_all(const df_view *view) {
  float real[100];
  int64_t whole[100];
  for (size_t at = 0; at < view->count; at += 100) {
    size_t count = view->count - at < 100 ? view->count - at : 100;
    df_view_floats(view, at, count, real);
    df_view_ints(view, at, count, whole, NULL);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  df_safetensors file;
  df_error error = {DF_OK, ""};
  if (df_safetensors_open(&file, bytes, size, &error) == DF_OK) {
    for (int i = 0; i < file.count; i++) {
      const df_view *found = df_safetensors_find(&file, file.views[i].name);
      if (found != &file.views[i]) abort();
      read_all(found);
    }
    df_safetensors_meta(&file, "config");
  } else if (!error.message[0] || file.views || file.count) {
    abort();
  }
  df_safetensors_close(&file);
  if (df_alloc_bytes()) abort();
  return 0;
}
