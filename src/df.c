#include "df.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "graph/packed.h"
#include "io/safetensors.h"

// "(96, 32)"
static const char *shape_text(char text[128], const int64_t *shape, int dims) {
  int at = snprintf(text, 128, "(");
  for (int i = 0; i < dims && at < 100; i++)
    at += snprintf(text + at, (size_t)(128 - at), "%s%lld", i ? ", " : "", (long long)shape[i]);
  snprintf(text + at, (size_t)(128 - at), ")");
  return text;
}

static df_status load_parameter(df_param *p, const df_view *view, df_error *error) {
  if (!view) return df_fail(error, DF_BAD_FILE, "tensor %s is missing", p->name);
  const int64_t shape[2] = {p->rows, p->cols}, *want = p->dims == 2 ? shape : shape + 1;
  bool same = view->dims == p->dims;
  for (int i = 0; same && i < p->dims; i++) same = view->shape[i] == want[i];
  if (!same) {
    char expected[128], found[128];
    return df_fail(error, DF_BAD_SHAPE, "tensor %s: expected shape %s, found %s", p->name,
                   shape_text(expected, want, p->dims), shape_text(found, view->shape, view->dims));
  }
  if (view->dtype != DF_F32 && view->dtype != DF_F16 && view->dtype != DF_BF16)
    return df_fail(error, DF_BAD_FILE, "tensor %s: expected F32, F16 or BF16, found %s", p->name,
                   df_dtype_name(view->dtype));
  df_view_floats(view, 0, view->count, p->value);
  for (size_t i = 0; i < view->count; i++)
    if (!isfinite(p->value[i]))
      return df_fail(error, DF_BAD_VALUE, "tensor %s: entry %zu is %g", p->name, i,
                     (double)p->value[i]);
  return DF_OK;
}

static df_status load(df_model *model, const df_safetensors *file, df_error *error) {
  const char *text = df_safetensors_meta(file, "config");
  if (!text)
    return df_fail(error, DF_BAD_FILE, "expected the model's config in __metadata__, found none");
  size_t size = strlen(text) + 1;
  if (!(model->text = df_alloc(size)))
    return df_fail(error, DF_NO_MEMORY, "no memory for the config");
  memcpy(model->text, text, size);
  df_status status = df_config_parse(&model->config, text, size - 1, error);
  if (!status) status = df_noise_create(&model->noise, model->config.noise, model->config.K, error);
  if (!status) status = df_network_declare(&model->config.network, &model->params, error);
  for (int i = 0; !status && i < model->params.count; i++) {
    df_param *p = model->params.items[i];
    status = load_parameter(p, df_safetensors_find(file, p->name), error);
  }
  for (int i = 0; !status && i < file->count; i++)
    if (!df_params_find(&model->params, file->views[i].name))
      status = df_fail(error, DF_BAD_FILE,
                       "tensor %s is not part of the network that the config describes",
                       file->views[i].name);
  return status;
}

df_status df_model_open(df_model **model, const void *bytes, size_t size, df_error *error) {
  *model = NULL;
  df_safetensors file;
  df_status status = df_safetensors_open(&file, bytes, size, error);
  if (status) return status;
  df_model *m = df_alloc(sizeof *m);
  status = m ? load(m, &file, error) : df_fail(error, DF_NO_MEMORY, "no memory for the model");
  df_safetensors_close(&file);
  if (status)
    df_model_free(m);
  else
    *model = m;
  return status;
}

void df_model_free(df_model *model) {
  if (!model) return;
  df_params_free(&model->params);
  df_noise_free(&model->noise);
  df_config_free(&model->config);
  df_free(model->text);
  df_free(model);
}

const char *df_model_config(const df_model *model) { return model->text; }
size_t df_model_parameters(const df_model *model) { return df_params_count(&model->params); }

size_t df_model_bytes(const df_model *model) {
  size_t bytes = sizeof *model + strlen(model->text) + model->config.arena.bytes +
                 model->params.arena.bytes + model->params.size * sizeof(float) +
                 ((size_t)model->noise.K + 1) * (sizeof(double) + 9 * sizeof(float));
  for (int i = 0; i < model->params.count; i++) bytes += df_packed_bytes(model->params.items[i]);
  return bytes;
}

const char *df_version(void) { return "0.1.0"; }
const char *df_isa(void) { return df_kernels_best()->name; }
