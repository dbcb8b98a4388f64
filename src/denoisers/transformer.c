// The token transformer of the authors' code (branch `main`): an encoder of PyTorch (Vaswani et al. 2017, norms
// behind the residual sums) over the tokens of a window, each with its own noise level. What a token sees of
// the others goes through attention alone, so there are no latents.
//
//   h = W2 relu(W1 [x, code(level), condition]) + code(position)
//   layer:  h = norm1(h + attention(h)),  h = norm2(h + V2 relu(V1 h))
//
// Not in that code, and off by default: with `gated` the feed-forward part is V2 (silu(V1 h) * V3 h) (Shazeer 2020,
// SwiGLU), V1 and V3 in one matrix.
#include <stdio.h>

#include "denoisers/denoiser.h"

enum { MAX_SIZE = 1 << 14, MAX_WINDOW = 1 << 14 };

static const df_network_key keys[] = {
    DF_NETWORK_KEY(network_size, 8, MAX_SIZE, DF_REQUIRED),
    DF_NETWORK_KEY(layers, 1, 256, DF_REQUIRED),
    DF_NETWORK_KEY(heads, 1, 256, DF_REQUIRED),
    DF_NETWORK_KEY(hidden_size, 1, MAX_SIZE, 0), // 0: 4 times the width
    DF_NETWORK_KEY(window, 1, MAX_WINDOW, DF_REQUIRED),
    DF_NETWORK_KEY(causal, 0, 1, true),
    DF_NETWORK_KEY(gated, 0, 1, false),
    {0},
};

static df_status check(df_network *net, df_error *error) {
  if (!net->hidden_size) net->hidden_size = 4 * net->network_size;
  if (net->network_size % 4) // codes are pairs of halves
    return df_fail(error, DF_BAD_CONFIG,
                   "denoiser.network_size: expected a multiple of 4, found %d", net->network_size);
  if (net->network_size % net->heads)
    return df_fail(error, DF_BAD_CONFIG,
                   "denoiser.heads: expected a divisor of network_size = %d, found %d",
                   net->network_size, net->heads);
  if (net->stop_head && !net->causal)
    return df_fail(error, DF_BAD_CONFIG,
                   "denoiser.stop_head: needs a causal network, as a token must not know whether "
                   "there are others behind it");
  return DF_OK;
}

// T of (B, n) become the tokens of a sequence, (B x T, n); before them come T others, (B, T n), if there are.
static df_tensor *together(df_tensor *others, df_tensor *const *list, int T) {
  df_tensor *all = df_concat((df_tensor *[]){others, df_concat(list, T)}, 2);
  return all ? df_reshape(all, others ? 2 * T : T, list[0]->cols) : NULL;
}

// The inverse: row `first` + t of each sequence.
static void apart(df_tensor *x, int first, int T, df_tensor **parts) {
  df_tensor *flat = x ? df_reshape(x, 1, x->rows * x->cols) : NULL;
  for (int t = 0; t < T; t++)
    parts[t] = flat ? df_columns(flat, (first + t) * x->cols, x->cols) : NULL;
}

// 0 .. T-1, with `twice` two times, (B x T, 1).
static df_tensor *positions(df_graph *g, int T, bool twice) {
  df_tensor *row = df_reshape(df_row_numbers(g, T, true), 1, T);
  return df_reshape(df_concat((df_tensor *[]){row, twice ? row : NULL}, 2), twice ? 2 * T : T, 1);
}

static df_tensor *attention(const df_network *net, df_nn *nn, const df_unrolled *seq, df_tensor *h,
                            int i) {
  char name[96];
  snprintf(name, sizeof name, "model.transformer.layers.%d.self_attn", i);
  df_tensor *qkv = df_nn_attention_inputs(nn, h, name); // (B x T, 3 C)
  df_tensor *seen = seq->kept
                        ? df_attention_kept(qkv, seq->place, seq->kept[i], net->window, net->heads)
                        : df_attention(qkv, net->heads,
                                       !net->causal ? DF_ATTEND_ALL
                                       : seq->clean ? DF_ATTEND_CLEAN
                                                    : DF_ATTEND_PAST);
  return df_nn_linear(nn, seen, net->network_size, "%s.out_proj", name);
}

static df_tensor *feed_forward(const df_network *net, df_nn *nn, df_tensor *h, int i) {
  const int F = net->hidden_size;
  df_tensor *wide = df_nn_linear(nn, h, net->gated ? 2 * F : F, // (B x T, F or 2 F)
                                 "model.transformer.layers.%d.linear1", i);
  if (net->gated) {
    df_tensor *gate = df_unary_op(DF_SILU, 0, 0, df_columns(wide, 0, F));
    wide = df_mul(gate, df_columns(wide, F, F));
  } else {
    wide = df_unary_op(DF_RELU, 0, 0, wide);
  }
  return df_nn_linear(nn, wide, net->network_size, "model.transformer.layers.%d.linear2", i);
}

static df_tensor *norm(df_nn *nn, df_tensor *h, int i, int which) {
  char name[96];
  snprintf(name, sizeof name, "model.transformer.layers.%d.norm%d", i, which);
  return df_nn_layer_norm(nn, h, 1e-5f, name);
}

static df_tensor *layer(const df_network *net, df_nn *nn, const df_unrolled *seq, df_tensor *h,
                        int i) {
  h = norm(nn, df_add(attention(net, nn, seq, h, i), h), i, 1);
  return norm(nn, df_add(feed_forward(net, nn, h, i), h), i, 2);
}

static void build(const df_network *net, df_nn *nn, df_unrolled *seq) {
  const int T = seq->T, C = net->network_size;
  df_graph *g = nn->graph;
  const bool clean = seq->clean != NULL;
  df_tensor *x = together(clean ? df_concat(seq->clean, T) : NULL, seq->x, T), *cond = NULL;
  df_tensor *level = together(clean ? df_constant(g, 1, T, true, 0) : NULL, seq->level, T);
  if (seq->cond) cond = together(clean ? df_concat(seq->cond, T) : NULL, seq->cond, T);
  df_tensor *position = seq->place ? df_columns(seq->place, 1, 1) : positions(g, T, clean);

  df_tensor *h = df_concat((df_tensor *[]){x, df_position_code(level, C / 2), cond}, 3);
  h = df_unary_op(DF_RELU, 0, 0, df_nn_linear(nn, h, C, "model.init_mlp.0"));
  h = df_add(df_nn_linear(nn, h, C, "model.init_mlp.2"), df_position_code(position, C));
  for (int i = 0; i < net->layers; i++) h = layer(net, nn, seq, h, i); // (B x T, C)

  apart(df_nn_linear(nn, h, net->token_size, "model.out"), clean ? T : 0, T, seq->out);
  if (seq->stop) {
    seq->stop[0] = df_nn_linear(nn, df_constant(g, 1, C, true, 0), 1, "stop");
    apart(df_nn_linear(nn, h, 1, "stop"), 0, T, seq->stop + 1);
  }
}

const df_denoiser df_denoiser_transformer = {"transformer", keys, check, build, NULL};
