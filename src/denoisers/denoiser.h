// A denoiser is a network over T tokens, each with its own noise level. One interface, one list.
#ifndef DF_DENOISERS_DENOISER_H
#define DF_DENOISERS_DENOISER_H

#include <stddef.h>

#include "io/json.h"
#include "nn/nn.h"

// How the latent before the first token is made.
typedef enum df_initial { DF_INITIAL_ZERO, DF_INITIAL_LEARNED, DF_INITIAL_ENCODED } df_initial;

// Sizes of a network, the object "denoiser" of a config. What a denoiser does not know stays 0.
typedef struct df_network {
  const struct df_denoiser *denoiser;
  int token_size;      // D, floats per token
  int condition_size;  // E, floats of external condition per token; 0: none
  bool self_condition; // an earlier guess of the clean token is an input
  bool stop_head;      // the network tells when the sequence ends
  int network_size;    // rnn: s, width of the time and condition codes; transformer: width
  int hidden_size;     // width of the residual blocks (mlp_layers >= 2), of the feed-forward layers
  // recurrent
  int latent_size; // Z
  int mlp_layers, gru_layers;
  df_initial initial;
  int observation_size; // floats of the observation that the initial latent is encoded from
  // attention
  int layers, heads;
  int window;  // N, tokens that enter the network at most; 0: recurrent
  bool causal; // a token sees those before it; else all of the window
  bool gated;  // feed-forward layers have a gate
} df_network;

static inline bool df_network_sees_all(const df_network *net) {
  return net->window && !net->causal;
}

// T tokens in a row. Inputs first, results below; (B, n): batched, one row per sequence.
// A recurrent network hands a latent on from token to token: a caller that samples uses T = 1 and feeds z
// back; training unrolls T tokens. A network with attention has no latents (z0, z are not looked at). It
// reads the tokens of the sequence: in training all T are there, a caller that samples uses T = 1 and
// keeps what attention needs of the others in `kept`.
typedef struct df_unrolled {
  int T;
  df_tensor *z0;           // (B, Z) latent before token 0
  df_tensor *const *x;     // T of (B, D) noised tokens
  df_tensor *const *level; // T of (B, 1) level index as the network counts: 0 (least noisy) .. K-1
  df_tensor *const *cond;  // T of (B, E), or NULL if condition_size is 0
  df_tensor *const *guess; // T of (B, D), or NULL unless self_condition
  // T of (B, D), or NULL. Given: tokens and stop logits have these, at level 0, for their history instead
  // of x (teacher forcing). Not together with guess.
  df_tensor *const *clean;
  // Attention, T = 1: a layer's keys and values of the sequences (df_attention_kept), `layers` of them, and
  // the place of each row in it (B, 3). NULL: none.
  df_tensor *const *kept;
  df_tensor *place;
  df_tensor **out; // T of (B, D) model output (x0, eps or v, as the objective says)
  df_tensor **z;   // T of (B, Z) latent after each token
  df_tensor **
      stop; // T+1 of (B, 1): logit that the sequence ends before token t (from what is before t); NULL: not wanted
} df_unrolled;

// A key of the object "denoiser" of a config.
typedef struct df_network_key {
  const char *name;
  size_t offset; // in df_network: of an int, or of a bool where high is 1
  int low, high;
  int otherwise; // value if the key is missing; DF_REQUIRED: it may not be
} df_network_key;
enum { DF_REQUIRED = -1 };
#define DF_NETWORK_KEY(field, low, high, otherwise)                                                \
  { #field, offsetof(df_network, field), low, high, otherwise }

int df_network_get(const df_network *net, const df_network_key *key);

typedef struct df_denoiser {
  const char *name;           // "rnn"
  const df_network_key *keys; // beside those that all networks have; the end has no name
  // Checks sizes, and fills in those that follow from others; called after the JSON was read.
  df_status (*check)(df_network *net, df_error *error);
  void (*build)(const df_network *net, df_nn *nn, df_unrolled *seq);
  // The latent before the first token, (B, Z): zeros, the learned vector, or encoded from observation (B,
  // observation_size). NULL: there are no latents.
  df_tensor *(*initial)(const df_network *net, df_nn *nn, df_tensor *observation);
} df_denoiser;

extern const df_denoiser df_denoiser_rnn, df_denoiser_transformer;
const df_denoiser *df_denoisers(int i); // the list; NULL past the end

df_status df_network_read(df_network *net, const df_json *object, df_error *error);
void df_network_write(const df_network *net, df_json_writer *w, const char *key);
// Lists all parameters by building the network once; they have no values before df_params_seal.
df_status df_network_list(const df_network *net, df_params *params, df_error *error);
// The same, and seals the list.
df_status df_network_declare(const df_network *net, df_params *params, df_error *error);

#endif
