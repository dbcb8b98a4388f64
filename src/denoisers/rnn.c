// The vector network of the paper (Chen et al. 2024, branch `paper` of the authors' code): residual MLP, a stack of
// GRU cells, residual MLP. The result of the second MLP is the latent that the next token gets, and a linear head
// reads the model output from it.
#include <stdio.h>

#include "denoisers/denoiser.h"

static df_status check(const df_network *net, df_error *error) {
  int layers = net->gru_layers;
  if (net->network_size < 4 || net->network_size % 2)
    return df_fail(error, DF_BAD_CONFIG,
                   "denoiser.network_size: expected an even number from 4 on, found %d",
                   net->network_size);
  if (layers > 0 && net->latent_size % layers)
    return df_fail(error, DF_BAD_CONFIG,
                   "denoiser.latent_size: expected a multiple of gru_layers = %d, found %d", layers,
                   net->latent_size);
  // Not before: it may follow from the fields of the observation.
  if ((net->initial == DF_INITIAL_ENCODED) != (net->observation_size > 0))
    return df_fail(
        error, DF_BAD_CONFIG,
        "denoiser.observation_size: expected a size exactly if initial is \"encoded\", found %d",
        net->observation_size);
  return DF_OK;
}

// num_mlp_layers = n: 0 nothing; 1 a block to the latent size (before) or a Linear (after); else n - 1 blocks of the
// hidden size and a Linear to the latent size.
static df_tensor *mlp(const df_network *net, df_nn *nn, df_tensor *x, bool after) {
  int n = net->mlp_layers;
  const char *prefix = after ? "model.mlp_after_gru" : "model.mlp_before_gru";
  if (n == 0) return x;
  if (n == 1)
    return after ? df_nn_linear(nn, x, net->latent_size, "%s", prefix)
                 : df_nn_residual(nn, x, net->latent_size, prefix);
  for (int i = 0; i < n - 1; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d", prefix, i);
    x = df_nn_residual(nn, x, net->hidden_size, name);
  }
  return df_nn_linear(nn, x, net->latent_size, "%s.%d", prefix, n - 1);
}

static df_tensor *code(df_nn *nn, df_tensor *x, int size, const char *prefix, int first,
                       int second) {
  df_tensor *h = df_unary_op(DF_GELU, 0, 0, df_nn_linear(nn, x, size, "%s.%d", prefix, first));
  return df_nn_linear(nn, h, size, "%s.%d", prefix, second);
}

static void build(const df_network *net, df_nn *nn, df_unrolled *seq) {
  int s = net->network_size, Z = net->latent_size, L = net->gru_layers;
  df_tensor *z = seq->z0;
  for (int t = 0; t < seq->T; t++) {
    if (seq->stop) seq->stop[t] = df_nn_linear(nn, z, 1, "stop");
    df_tensor *time =
        code(nn, df_position_code(seq->level[t], s), s, "model.time_mlp", 1, 3); // (B, s)
    df_tensor *cond =
        net->condition_size ? code(nn, seq->cond[t], s, "model.external_cond_mlp", 0, 2) : NULL;
    df_tensor *guess = net->self_condition ? seq->guess[t] : NULL;
    df_tensor *v = df_concat((df_tensor *[]){guess, z, seq->x[t], time, cond}, 5);
    v = mlp(net, nn, v, false);
    if (L > 0) {
      df_tensor *state[16];
      for (int i = 0; i < L; i++) { // cell i keeps the i-th piece of the latent
        char name[64];
        snprintf(name, sizeof name, "model.gru_stack.%d", i);
        v = state[i] = df_nn_gru(nn, v, df_columns(z, i * (Z / L), Z / L), name);
      }
      v = df_concat(state, L);
    }
    z = seq->z[t] = mlp(net, nn, v, true); // (B, Z)
    seq->out[t] = df_nn_linear(nn, z, net->token_size, "x_from_z");
  }
  if (seq->stop) seq->stop[seq->T] = df_nn_linear(nn, z, 1, "stop");
}

static df_tensor *initial(const df_network *net, df_nn *nn, df_tensor *observation) {
  int Z = net->latent_size;
  switch (net->initial) {
  case DF_INITIAL_ZERO: return df_constant(nn->graph, 1, Z, true, 0);
  case DF_INITIAL_LEARNED:
    return df_broadcast(df_nn_vector(nn, Z, DF_INIT_NORMAL, 1, "init_z"), 1, Z, true);
  case DF_INITIAL_ENCODED: {
    df_tensor *h = df_unary_op(DF_ELU, 0, 0, df_nn_linear(nn, observation, 128, "init_encoder.0"));
    h = df_unary_op(DF_ELU, 0, 0, df_nn_linear(nn, h, 128, "init_encoder.2"));
    return df_nn_linear(nn, h, Z, "init_encoder.4");
  }
  }
  return NULL;
}

const df_denoiser df_denoiser_rnn = {"rnn", check, build, initial};
