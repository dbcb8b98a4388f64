// The vector network of the paper (Chen et al. 2024, branch `paper` of the authors' code): residual MLP, a stack of
// GRU cells, residual MLP. The result of the second MLP is the latent that the next token gets, and a linear head
// reads the model output from it.
#include <stdio.h>

#include "denoisers/denoiser.h"

enum { MAX_SIZE = 1 << 16 };

static const df_network_key keys[] = {
    DF_NETWORK_KEY(latent_size, 1, MAX_SIZE, DF_REQUIRED),
    DF_NETWORK_KEY(network_size, 4, MAX_SIZE / 32, DF_REQUIRED),
    DF_NETWORK_KEY(hidden_size, 1, MAX_SIZE, 0), // 0: 32 s, as in the reference
    DF_NETWORK_KEY(mlp_layers, 0, 64, 1),
    DF_NETWORK_KEY(gru_layers, 0, 4, 1),
    DF_NETWORK_KEY(self_condition, 0, 1, false),
    DF_NETWORK_KEY(observation_size, 0, MAX_SIZE, 0),
    {0},
};

static df_status check(df_network *net, df_error *error) {
  int layers = net->gru_layers;
  if (!net->hidden_size) net->hidden_size = 32 * net->network_size;
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

// The latent after a token, from that of the token before.
static df_tensor *cell(const df_network *net, df_nn *nn, df_tensor *z, df_tensor *x,
                       df_tensor *level, df_tensor *condition, df_tensor *guess) {
  int s = net->network_size, Z = net->latent_size, L = net->gru_layers;
  df_tensor *time = code(nn, df_position_code(level, s), s, "model.time_mlp", 1, 3); // (B, s)
  df_tensor *cond =
      net->condition_size ? code(nn, condition, s, "model.external_cond_mlp", 0, 2) : NULL;
  df_tensor *v =
      df_concat((df_tensor *[]){net->self_condition ? guess : NULL, z, x, time, cond}, 5);
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
  return mlp(net, nn, v, true); // (B, Z)
}

static void build(const df_network *net, df_nn *nn, df_unrolled *seq) {
  df_tensor *z = seq->z0, *zero = seq->clean ? df_constant(nn->graph, 1, 1, true, 0) : NULL;
  for (int t = 0; t < seq->T; t++) {
    df_tensor *cond = seq->cond ? seq->cond[t] : NULL, *guess = seq->guess ? seq->guess[t] : NULL;
    if (seq->stop) seq->stop[t] = df_nn_linear(nn, z, 1, "stop");
    seq->z[t] = cell(net, nn, z, seq->x[t], seq->level[t], cond, guess);
    seq->out[t] = df_nn_linear(nn, seq->z[t], net->token_size, "x_from_z");
    z = seq->clean ? cell(net, nn, z, seq->clean[t], zero, cond, NULL) : seq->z[t];
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

const df_denoiser df_denoiser_rnn = {"rnn", keys, check, build, initial};
