// Models for the tests of the sampler: a network that knows the answer, and a recurrent one with random
// weights.
#ifndef DF_TESTS_SAMPLER_MODELS_H
#define DF_TESTS_SAMPLER_MODELS_H

#include "diffusion/sampler.h"
#include "tests/test.h"

// A network that knows the answer. Its condition is the clean token (E = D), or x0 ~ N(mean,
// deviation^2) in each entry.
// Its latent counts the tokens before, and its stop logit rises with it.
static struct {
  const df_noise *noise;
  df_objective objective;
  bool gaussian;
  double mean, deviation;
  float stop_slope, stop_shift; // logit = slope z + shift
  float poison_from;            // levels of the network from here on give infinities; 0: none
  float poison_below;           // and those below this one
} oracle;

// sum_k f[k] [level == k]: the entry of a table that belongs to a level.
static inline df_tensor *lookup(df_tensor *level, const double *table, int K) {
  df_tensor *sum = NULL;
  for (int k = 0; k < K; k++) {
    df_tensor *above = df_unary_op(DF_RELU, 0, 0, df_unary_op(DF_AFFINE, 1, (float)-k, level));
    df_tensor *below = df_unary_op(DF_RELU, 0, 0, df_unary_op(DF_AFFINE, -1, (float)k, level));
    df_tensor *is = df_unary_op(DF_RELU, 0, 0, df_unary_op(DF_AFFINE, -1, 1, df_add(above, below)));
    df_tensor *term = df_scale(is, (float)table[k]);
    sum = sum ? df_add(sum, term) : term;
  }
  return sum;
}

static inline void oracle_build(const df_network *net, df_nn *nn, df_unrolled *seq) {
  (void)nn;
  const int K = oracle.noise->K;
  double a[512], b[512], recip_b[512], gain[512], shift[512];
  for (int k = 0; k < K; k++) {
    a[k] = oracle.noise->sqrt_abar[k + 1], b[k] = oracle.noise->sqrt_1m[k + 1];
    recip_b[k] = 1 / b[k];
    double variance = oracle.deviation * oracle.deviation,
           total = a[k] * a[k] * variance + b[k] * b[k];
    gain[k] = a[k] * variance / total; // E[x0 | x] = mean + gain (x - a mean)
    shift[k] = oracle.mean * (1 - gain[k] * a[k]);
  }
  df_tensor *x = seq->x[0], *level = seq->level[0];
  df_tensor *A = lookup(level, a, K), *B = lookup(level, b, K), *x0;
  if (oracle.gaussian)
    x0 = df_add(df_mul(x, lookup(level, gain, K)), lookup(level, shift, K));
  else
    x0 = df_scale(seq->cond[0], 1);
  df_tensor *eps = df_mul(df_sub(x, df_mul(x0, A)), lookup(level, recip_b, K));
  df_tensor *out = oracle.objective == DF_PREDICT_X0      ? x0
                   : oracle.objective == DF_PREDICT_NOISE ? eps
                                                          : df_sub(df_mul(eps, A), df_mul(x0, B));
  if (oracle.poison_from > 0) { // exp(1000) for levels from poison_from on
    df_tensor *far =
        df_unary_op(DF_RELU, 0, 0, df_unary_op(DF_AFFINE, 1, 1 - oracle.poison_from, level));
    out = df_mul(out, df_unary_op(DF_EXP, 0, 0, df_scale(far, 1000)));
  }
  if (oracle.poison_below > 0) {
    df_tensor *below =
        df_unary_op(DF_RELU, 0, 0, df_unary_op(DF_AFFINE, -1, oracle.poison_below, level));
    out = df_mul(out, df_unary_op(DF_EXP, 0, 0, df_scale(below, 1000)));
  }
  seq->out[0] = out;
  seq->z[0] = df_unary_op(DF_AFFINE, 1, 1, seq->z0);
  if (seq->stop) {
    seq->stop[0] = df_unary_op(DF_AFFINE, oracle.stop_slope, oracle.stop_shift, seq->z0);
    seq->stop[1] = df_unary_op(DF_AFFINE, oracle.stop_slope, oracle.stop_shift, seq->z[0]);
  }
  (void)net;
}

static inline df_status oracle_check(df_network *net, df_error *error) {
  return (void)net, (void)error, DF_OK;
}
static inline df_tensor *oracle_initial(const df_network *net, df_nn *nn, df_tensor *observation) {
  (void)observation;
  return df_constant(nn->graph, 1, net->latent_size, true, 0);
}
static const df_denoiser oracle_denoiser = {
    .name = "oracle", .check = oracle_check, .build = oracle_build, .initial = oracle_initial};

static df_field plain_fields[16];

// The rest of a model whose config.network, objective and noise are set.
static inline bool finish(df_model *m) {
  df_config *c = &m->config;
  for (int i = 0; i < COUNT(plain_fields); i++) plain_fields[i] = (df_field){.name = "x", .std = 1};
  c->clip_noise = 20;
  if (!c->frame_stack) c->frame_stack = 1;
  if (!c->fields)
    c->fields = plain_fields, c->field_count = c->network.token_size / c->frame_stack - c->present;
  c->sampling.schedule = DF_PYRAMID, c->sampling.steps = 5, c->sampling.uncertainty = 1,
  c->sampling.max_tokens = 6;
  oracle.noise = &m->noise, oracle.objective = c->objective;
  if (!CHECK_OK(df_noise_create(&m->noise, c->noise, c->K, &test_error))) return false;
  return CHECK_OK(df_network_declare(&c->network, &m->params, &test_error));
}

static inline bool make_oracle(df_model *m, df_objective objective, int D, bool stop_head) {
  *m = (df_model){.config = {.network = {.denoiser = &oracle_denoiser,
                                         .token_size = D,
                                         .latent_size = 1,
                                         .network_size = 4,
                                         .condition_size = oracle.gaussian ? 0 : D,
                                         .stop_head = stop_head},
                             .objective = objective,
                             .noise = DF_NOISE_COSINE,
                             .K = 24}};
  return finish(m);
}

// A model with random weights.
static inline bool make_random(df_model *m, df_network network) {
  *m = (df_model){
      .config = {
          .network = network, .objective = DF_PREDICT_V, .noise = DF_NOISE_SIGMOID, .K = 40}};
  if (!finish(m)) return false;
  df_params_init(&m->params, 11);
  for (size_t i = 0; i < m->params.size; i++) m->params.values[i] *= 2; // far from linear
  return true;
}

// A recurrent network.
static inline bool make_rnn(df_model *m, int D, int E, bool guess, bool stop_head) {
  return make_random(m, (df_network){.denoiser = &df_denoiser_rnn,
                                     .token_size = D,
                                     .latent_size = 12,
                                     .network_size = 4,
                                     .hidden_size = 8,
                                     .mlp_layers = 1,
                                     .gru_layers = 2,
                                     .condition_size = E,
                                     .self_condition = guess,
                                     .stop_head = stop_head,
                                     .initial = DF_INITIAL_LEARNED});
}

// A transformer that sees `window` tokens.
static inline bool make_transformer(df_model *m, int D, int E, int window, bool causal,
                                    bool stop_head) {
  return make_random(m, (df_network){.denoiser = &df_denoiser_transformer,
                                     .token_size = D,
                                     .network_size = 12,
                                     .hidden_size = 20,
                                     .layers = 2,
                                     .heads = 3,
                                     .window = window,
                                     .causal = causal,
                                     .condition_size = E,
                                     .stop_head = stop_head});
}

static inline void drop(df_model *m) {
  df_params_free(&m->params);
  df_noise_free(&m->noise);
}

static inline df_sampler_options options_of(int batch, int length, df_schedule schedule, int steps,
                                            double u) {
  df_sampler_options o = df_sampler_defaults();
  o.batch = batch, o.length = length, o.schedule = schedule, o.steps = steps, o.uncertainty = u,
  o.eta = 0, o.seed = 5;
  return o;
}

// Condition of a token: numbers that tell sequence and token.
static inline void condition_all(df_sampler *s, int E, int T) {
  float cond[16];
  for (int b = 0; b < df_sampler_state(s)->batch; b++)
    for (int t = 0; t < T; t++) {
      for (int j = 0; j < E; j++) cond[j] = (float)sin(1 + b + 3 * t + 7 * j);
      if (E) CHECK_OK(df_sampler_condition(s, b, t, cond, &test_error));
    }
}

static inline bool run_all(df_sampler *s) {
  while (!df_sampler_done(s))
    if (!CHECK_OK(df_sampler_step(s, &test_error))) return false;
  return true;
}

// The levels (up to S) of sequence 0 as text: a row per line, an entry per character, '-' behind
// the end.
static inline const char *walk(df_sampler *s, int S) {
  static char text[4096];
  char *end = text;
  const df_sampler_info *info = df_sampler_state(s);
  for (;;) {
    for (int t = 0; t < info->tokens; t++) {
      int level = info->levels[t];
      *end++ = (char)(level > S ? '-' : '0' + level);
    }
    *end++ = '\n';
    if (df_sampler_done(s) || end - text + info->tokens + 2 > (long)sizeof text ||
        !CHECK_OK(df_sampler_step(s, &test_error)))
      break;
  }
  *end = 0;
  return text;
}

#endif
