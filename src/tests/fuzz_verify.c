// Any bytes are a reference for a small model or refused with a reason. The corpus has one with made-up outputs.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

// With everything that a reference may hold: conditions, a guess, an observation.
static const char config_text[] =
    "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 2,"
    " \"network_size\": 4, \"self_condition\": true, \"initial\": \"encoded\"}, \"diffusion\":"
    " {\"levels\": 4, \"objective\": \"v\", \"schedule\": \"cosine\"}, \"tokens\": {\"fields\":"
    " [{\"name\": \"a\"}]}, \"condition\": {\"fields\": [\"c\"]}, \"observation\": {\"fields\":"
    " [{\"name\": \"o\"}]}}";

static df_model *make_model(void) {
  df_config config;
  df_params params = {0};
  df_tensor_out tensors[64];
  df_error error;
  void *bytes = NULL;
  size_t size;
  df_model *model = NULL;
  const char *meta[] = {"config", config_text, NULL};
  if (df_config_parse(&config, config_text, strlen(config_text), &error) ||
      df_network_declare(&config.network, &params, &error) || params.count > 64)
    abort();
  df_params_init(&params, 1);
  for (int i = 0; i < params.count; i++) {
    const df_param *p = params.items[i];
    tensors[i] = (df_tensor_out){p->name, DF_F16, p->dims, {p->rows, p->cols}, p->value};
    if (p->dims == 1) tensors[i].shape[0] = p->cols;
  }
  if (df_safetensors_write(&bytes, &size, tensors, params.count, meta, &error) ||
      df_model_open(&model, bytes, size, &error))
    abort();
  df_free(bytes);
  df_params_free(&params);
  df_config_free(&config);
  return model;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  df_model *model = make_model();
  df_error error = {DF_OK, ""};
  df_verification report;
  df_status status = df_model_verify(model, bytes, size, NULL, &report, &error);
  if (status ? !error.message[0] || report.ok || report.count : report.count != 7) abort();
  for (int i = 0; i < report.count; i++) { // what is not finite is never fine
    const df_difference *d = &report.outputs[i];
    if (d->ok != (isfinite(d->absolute) && d->absolute <= d->tolerance)) abort();
  }
  df_model_free(model);
  if (df_alloc_bytes()) abort();
  return 0;
}
