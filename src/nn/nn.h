// Layers in graph operations. A layer declares its parameters by name while it is built: the first build of a
// network, on a list that is not sealed yet, is the declaration; later builds find the same parameters.
#ifndef DF_NN_NN_H
#define DF_NN_NN_H

#include "graph/graph.h"

typedef struct df_nn {
  df_graph *graph;
  df_params *params;
  df_error *error; // first failure of a declaration
} df_nn;

// "prefix.weight" (out, in) and "prefix.bias" (out) on x (R, in).
df_tensor *df_nn_linear(df_nn *nn, df_tensor *x, int out, const char *prefix, ...);
// gelu(shortcut(x) + W2 gelu(W0 x)), prefix.mlp.0, prefix.mlp.2, prefix.shortcut (only if sizes differ).
df_tensor *df_nn_residual(df_nn *nn, df_tensor *x, int out, const char *prefix);
// PyTorch's GRUCell: prefix.weight_ih (3 n, in), prefix.weight_hh (3 n, n), prefix.bias_ih, prefix.bias_hh.
df_tensor *df_nn_gru(df_nn *nn, df_tensor *x, df_tensor *h, const char *prefix);
// The inputs of PyTorch's MultiheadAttention, q, k and v side by side: prefix.in_proj_weight (3 n, n) and
// prefix.in_proj_bias (3 n) on x (R, n) -> (R, 3 n).
df_tensor *df_nn_attention_inputs(df_nn *nn, df_tensor *x, const char *prefix);
// PyTorch's LayerNorm and GroupNorm, eps 1e-5 there: prefix.weight (n) and prefix.bias (n) on x (R, n).
df_tensor *df_nn_layer_norm(df_nn *nn, df_tensor *x, float eps, const char *prefix);
df_tensor *df_nn_group_norm(df_nn *nn, df_tensor *x, int groups, float eps, const char *prefix);
// PyTorch's RMSNorm: prefix.weight (n).
df_tensor *df_nn_rms_norm(df_nn *nn, df_tensor *x, float eps, const char *prefix);
// A parameter vector (1, n) on its own.
df_tensor *df_nn_vector(df_nn *nn, int n, df_init init, int fan, const char *name);

#endif
