#include "nn/nn.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

// The parameter "prefix.suffix", declared on the first build.
static df_tensor *parameter(df_nn *nn, int rows, int cols, int dims, df_init init, int fan,
                            const char *prefix, const char *suffix) {
  char name[192];
  snprintf(name, sizeof name, "%s.%s", prefix, suffix);
  return df_parameter(nn->graph,
                      df_params_declare(nn->params, name, rows, cols, dims, init, fan, nn->error));
}

df_tensor *df_nn_linear(df_nn *nn, df_tensor *x, int out, const char *format, ...) {
  if (!x) return NULL;
  char prefix[160];
  va_list args;
  va_start(args, format);
  vsnprintf(prefix, sizeof prefix, format, args);
  va_end(args);
  df_tensor *w = parameter(nn, out, x->cols, 2, DF_INIT_UNIFORM, x->cols, prefix, "weight");
  df_tensor *b = parameter(nn, 1, out, 1, DF_INIT_UNIFORM, x->cols, prefix, "bias");
  return b ? df_linear_op(x, w, b) : NULL;
}

df_tensor *df_nn_residual(df_nn *nn, df_tensor *x, int out, const char *prefix) {
  if (!x) return NULL;
  df_tensor *shortcut = x->cols == out ? x : df_nn_linear(nn, x, out, "%s.shortcut", prefix);
  df_tensor *h =
      df_unary_op(DF_GELU, 0, 0, df_nn_linear(nn, x, out, "%s.mlp.0", prefix)); // (R, out)
  h = df_nn_linear(nn, h, out, "%s.mlp.2", prefix);
  return df_unary_op(DF_GELU, 0, 0, df_add(shortcut, h));
}

df_tensor *df_nn_gru(df_nn *nn, df_tensor *x, df_tensor *h, const char *prefix) {
  if (!x || !h) return NULL;
  int n = h->cols;
  df_tensor *w_ih = parameter(nn, 3 * n, x->cols, 2, DF_INIT_UNIFORM, n, prefix, "weight_ih");
  df_tensor *w_hh = parameter(nn, 3 * n, n, 2, DF_INIT_UNIFORM, n, prefix, "weight_hh");
  df_tensor *b_ih = parameter(nn, 1, 3 * n, 1, DF_INIT_UNIFORM, n, prefix, "bias_ih");
  df_tensor *b_hh = parameter(nn, 1, 3 * n, 1, DF_INIT_UNIFORM, n, prefix, "bias_hh");
  if (!b_ih || !b_hh) return NULL;
  return df_gru_op(df_linear_op(x, w_ih, b_ih), df_linear_op(h, w_hh, b_hh), h);
}

df_tensor *df_nn_attention_inputs(df_nn *nn, df_tensor *x, const char *prefix) {
  if (!x) return NULL;
  int n = x->cols;
  df_tensor *w = parameter(nn, 3 * n, n, 2, DF_INIT_UNIFORM, n, prefix, "in_proj_weight");
  df_tensor *b = parameter(nn, 1, 3 * n, 1, DF_INIT_ZERO, n, prefix, "in_proj_bias");
  return b ? df_linear_op(x, w, b) : NULL;
}

static df_tensor *ones(df_nn *nn, int n, const char *prefix) {
  return parameter(nn, 1, n, 1, DF_INIT_ONE, n, prefix, "weight");
}
static df_tensor *zeros(df_nn *nn, int n, const char *prefix) {
  return parameter(nn, 1, n, 1, DF_INIT_ZERO, n, prefix, "bias");
}

df_tensor *df_nn_group_norm(df_nn *nn, df_tensor *x, int groups, float eps, const char *prefix) {
  if (!x) return NULL;
  df_tensor *scale = ones(nn, x->cols, prefix), *shift = zeros(nn, x->cols, prefix);
  return scale && shift ? df_group_norm(x, groups, scale, shift, eps) : NULL;
}

df_tensor *df_nn_layer_norm(df_nn *nn, df_tensor *x, float eps, const char *prefix) {
  return df_nn_group_norm(nn, x, 1, eps, prefix);
}

df_tensor *df_nn_rms_norm(df_nn *nn, df_tensor *x, float eps, const char *prefix) {
  if (!x) return NULL;
  df_tensor *scale = ones(nn, x->cols, prefix);
  return scale ? df_rms_norm(x, scale, eps) : NULL;
}

df_tensor *df_nn_vector(df_nn *nn, int n, df_init init, int fan, const char *name) {
  return df_parameter(nn->graph,
                      df_params_declare(nn->params, name, 1, n, 1, init, fan, nn->error));
}
