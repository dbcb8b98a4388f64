// A denoiser is a causal network over T tokens, each with its own noise level. One interface, one list.
#ifndef DF_DENOISERS_DENOISER_H
#define DF_DENOISERS_DENOISER_H

#include "io/json.h"
#include "nn/nn.h"

// How the latent before the first token is made.
typedef enum df_initial { DF_INITIAL_ZERO, DF_INITIAL_LEARNED, DF_INITIAL_ENCODED } df_initial;

// Sizes of a network, the object "denoiser" of a config.
typedef struct df_network {
  const struct df_denoiser *denoiser;
  int token_size;   // D, floats per token
  int latent_size;  // Z
  int network_size; // s: width of the time and condition codes
  int hidden_size;  // width of the residual blocks where mlp_layers >= 2; the reference has 32 s
  int mlp_layers, gru_layers;
  int condition_size;  // E, floats of external condition per token; 0: none
  bool self_condition; // an earlier guess of the clean token is an input
  bool stop_head;      // the network tells when the sequence ends
  df_initial initial;
  int observation_size; // floats of the observation that the initial latent is encoded from
} df_network;

// T tokens in a row. Inputs first, results below; (B, n): batched, one row per sequence.
// A caller that samples uses T = 1 and feeds z back; training unrolls T tokens.
typedef struct df_unrolled {
  int T;
  df_tensor *z0;           // (B, Z) latent before token 0
  df_tensor *const *x;     // T of (B, D) noised tokens
  df_tensor *const *level; // T of (B, 1) level index as the network counts: 0 (least noisy) .. K-1
  df_tensor *const *cond;  // T of (B, E), or NULL if condition_size is 0
  df_tensor *const *guess; // T of (B, D), or NULL unless self_condition
  df_tensor **out;         // T of (B, D) model output (x0, eps or v, as the objective says)
  df_tensor **z;           // T of (B, Z) latent after each token
  df_tensor **
      stop; // T+1 of (B, 1): logit that the sequence ends before token t (from the latent before t); NULL: not wanted
} df_unrolled;

typedef struct df_denoiser {
  const char *name; // "rnn"
  // Checks sizes; called after the JSON was read.
  df_status (*check)(const df_network *net, df_error *error);
  void (*build)(const df_network *net, df_nn *nn, df_unrolled *seq);
  // The latent before the first token, (B, Z): zeros, the learned vector, or encoded from observation (B, observation_size).
  df_tensor *(*initial)(const df_network *net, df_nn *nn, df_tensor *observation);
} df_denoiser;

extern const df_denoiser df_denoiser_rnn;
const df_denoiser *df_denoisers(int i); // the list; NULL past the end

df_status df_network_read(df_network *net, const df_json *object, df_error *error);
void df_network_write(const df_network *net, df_json_writer *w, const char *key);
// Lists all parameters by building the network once; they have no values before df_params_seal.
df_status df_network_list(const df_network *net, df_params *params, df_error *error);
// The same, and seals the list.
df_status df_network_declare(const df_network *net, df_params *params, df_error *error);

#endif
