// Rows of guided sampling (Chen et al. 2024, section 3.3 and algorithm 3; Dhariwal & Nichol 2021, algorithm 2).
//
// A row is one pass over all tokens of the sequence with its derivative: J is a function of the clean estimates of
// all of them, and dJ/dx of each noisy token goes through the network and everything that the tokens behind it see of
// it. So nothing is kept from row to row and no row is computed ahead.
//
//   first part of the plan    x_t -> clean estimates x0_t                     (B rows)
//   futures (Monte Carlo)     x_t' = sqrt(abar) x0_t + sqrt(1 - abar) e, N - 1 independent e, -> x0_t'  (B (N-1) rows)
//   J and dJ/dx0              of each, in data units, from the caller
//   second part               dJ/dx0' -> dJ/dx', which adds to dJ/dx0; dJ/dx0 -> dJ/dx
//   moves                     x0' = x0 + w (1 - abar) / sqrt(abar) dJ/dx, eps' that goes with it, then DDIM
//
// J counts as the mean over the N samples.
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "diffusion/internal.h"

typedef struct token {
  df_tensor *x, *level, *cond, *guess, *of_x, *of_out, *seed; // inputs: (1, .) of each sequence
  df_tensor *x0, *grad;
} token;

struct df_guided {
  df_guidance o;
  df_guide_term *terms; // of o
  int room;             // for so many
  df_arena arena;
  df_graph *graph;
  df_plan *plans[2]; // of the tokens, of the futures (NULL: none)
  df_tensor *z0;
  token *tokens;         // (T)
  int T;                 // tokens of a pass, padding included
  double *objective;     // (B) as the caller sees it
  double *J;             // (B)
  float *frames, *slope; // (B, N, W fs, C) clean estimates in data units, and dJ of them
  bool estimated;        // they and J are those before the next row
  float *next;           // (B, W, D)
  float *noise;          // ((N - 1) D)
};

const char *const df_shift_names[DF_SHIFTS] = {"exact", "next", "token"};

// Below it, abar counts as this where the shift is divided by its root. A token so noisy says next to nothing of its
// clean value, so dx0/dx should all but vanish there, as sqrt(abar); a trained network's does not, and with cosine
// levels (abar = 2e-9 at the highest one) the first step would throw the token out of the data.
static const float least_abar = 0.01f;

// ---- Making ----

static df_status build(df_guided *g, df_sampler *s, df_error *error) {
  const df_config *c = &s->model->config;
  const df_network *net = &c->network;
  const int T = g->T, futures = g->o.futures - 1;
  df_error declared = {0};
  if (!(g->graph = df_graph_create()))
    return df_fail(error, DF_NO_MEMORY, "no memory for the network");
  // The list of parameters is sealed: building the network finds them and adds none.
  df_nn nn = {g->graph, (df_params *)&s->model->params, &declared};
  df_tensor **lists = df_arena_alloc(&g->arena, (size_t)T * 8 * sizeof *lists);
  g->tokens = df_arena_alloc(&g->arena, (size_t)T * sizeof *g->tokens);
  if (!lists || !g->tokens) return df_fail(error, DF_NO_MEMORY, "no memory for %d tokens", T);
  df_tensor **x = lists, **level = x + T, **cond = level + T, **guess = cond + T, **out = guess + T,
            **z = out + T, **x0 = z + T, **seed = x0 + T;
  g->z0 = s->Z ? df_input(g->graph, "z0", 1, s->Z, true) : NULL;
  for (int t = 0; t < T; t++) {
    token *k = &g->tokens[t];
    x[t] = k->x = df_input_grad(g->graph, "x", 1, s->D, true);
    level[t] = k->level = df_input(g->graph, "level", 1, 1, true);
    if (s->E) cond[t] = k->cond = df_input(g->graph, "cond", 1, s->E, true);
    if (net->self_condition) guess[t] = k->guess = df_input(g->graph, "guess", 1, s->D, true);
    k->of_x = df_input(g->graph, "of_x", 1, 1, true);
    k->of_out = df_input(g->graph, "of_out", 1, 1, true);
  }
  df_unrolled seq = {.T = T,
                     .z0 = g->z0,
                     .x = x,
                     .level = level,
                     .cond = s->E ? cond : NULL,
                     .guess = net->self_condition ? guess : NULL,
                     .out = out,
                     .z = z};
  net->denoiser->build(net, &nn, &seq);
  for (int t = 0; t < T; t++) {
    token *k = &g->tokens[t];
    df_tensor *o = out[t];
    if (c->objective == DF_PREDICT_NOISE)
      o = df_unary_op(DF_CLAMP, -c->clip_noise, c->clip_noise, o);
    x0[t] = k->x0 = df_add(df_mul(x[t], k->of_x), df_mul(o, k->of_out));
  }
  for (int t = 0; t < T; t++)
    seed[t] = g->tokens[t].seed = df_input(g->graph, "seed", 1, s->D, true);
  if (declared.code) return df_fail(error, declared.code, "%s", declared.message);
  if (df_graph_error(g->graph)->code)
    return df_fail(error, df_graph_error(g->graph)->code, "%s", df_graph_error(g->graph)->message);
  df_tensor **grads = out, **outputs = df_arena_alloc(&g->arena, (size_t)T * 2 * sizeof *outputs);
  if (!outputs) return df_fail(error, DF_NO_MEMORY, "no memory for %d tokens", T);
  df_status status = df_gradient_seeded(x0, seed, T, x, grads, T, error);
  for (int t = 0; t < T && !status; t++) {
    outputs[t] = x0[t];
    outputs[T + t] = g->tokens[t].grad = grads[t];
  }
  const df_plan_options plan = {
      .batch = s->B, .fixed_weights = true, .weights = (df_weights)s->o.weights, .border = seed[0]};
  if (!status) status = df_plan_create(&g->plans[0], g->graph, outputs, 2 * T, &plan, error);
  df_plan_options more = plan;
  more.batch = s->B * futures;
  if (!status && futures)
    status = df_plan_create(&g->plans[1], g->graph, outputs, 2 * T, &more, error);
  return status;
}

static df_status check(const df_sampler *s, const df_guidance *o, df_error *error) {
  if (o->futures < 1 || o->futures > 4096)
    return df_fail(error, DF_BAD_ARGUMENT, "futures: expected 1 to 4096, found %d", o->futures);
  if (o->shift < 0 || o->shift >= DF_SHIFTS)
    return df_fail(error, DF_BAD_ARGUMENT, "shift: expected 0 to %d, found %d", DF_SHIFTS - 1,
                   o->shift);
  if (!isfinite(o->scale) || !(o->clip >= 0) || !isfinite(o->level_power))
    return df_fail(
        error, DF_BAD_ARGUMENT,
        "guidance: expected finite numbers and a clip of 0 or more, found scale %g, clip %g, "
        "level_power %g",
        o->scale, o->clip, o->level_power);
  if (s->unbounded || s->drawn)
    return df_fail(error, DF_NOT_SUPPORTED, "guidance needs a length that is known");
  if (s->o.ancestral || s->o.posterior || s->o.allow_renoise)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "guidance goes with DDIM, not with ancestral, posterior or allow_renoise");
  if (s->N && s->W > s->N)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "guidance of %d tokens: the network sees %d tokens at most", s->W, s->N);
  const df_config *c = &s->model->config;
  return df_guide_check(o->terms, o->term_count, s->B, c->field_count, s->W * c->frame_stack,
                        error);
}

// Takes over what can change without another plan: all but the futures.
static df_status adopt(df_guided *g, const df_guidance *o, df_error *error) {
  const int n = o->term_count;
  if (n > g->room) {
    df_guide_term *terms = df_alloc((size_t)n * sizeof *terms);
    if (!terms) return df_fail(error, DF_NO_MEMORY, "no memory for %d terms", n);
    df_free(g->terms);
    g->terms = terms, g->room = n;
  }
  if (n) memcpy(g->terms, o->terms, (size_t)n * sizeof *g->terms);
  g->o = *o;
  g->o.terms = g->terms;
  g->estimated = false; // J is another one
  return DF_OK;
}

df_status df_sampler_guide(df_sampler *s, const df_guidance *guidance, df_error *error) {
  df_status status = check(s, guidance, error);
  if (status) return status;
  if (s->guided && s->guided->o.futures == guidance->futures)
    return adopt(s->guided, guidance, error);
  if (s->info.row > 0)
    return df_fail(error, DF_WRONG_STATE,
                   "guidance%s is given before the first step, %lld rows are done",
                   s->guided ? " with other futures" : "", (long long)s->info.row);
  df_guided *g = df_alloc(sizeof *g);
  if (!g) return df_fail(error, DF_NO_MEMORY, "no memory for guidance");
  status = adopt(g, guidance, error);
  g->o.futures = guidance->futures;
  g->T = s->sees_all ? s->N : s->W;
  const size_t W = (size_t)s->W, B = (size_t)s->B, D = (size_t)s->D, V = (size_t)s->V;
  g->objective = df_arena_alloc(&g->arena, B * sizeof(double));
  g->J = df_arena_alloc(&g->arena, B * sizeof(double));
  const size_t samples = B * (size_t)g->o.futures;
  g->frames = df_arena_alloc(&g->arena, samples * W * V * sizeof(float));
  g->slope = df_arena_alloc(&g->arena, samples * W * V * sizeof(float));
  g->next = df_arena_alloc(&g->arena, B * W * D * sizeof(float));
  g->noise = df_arena_alloc(&g->arena, (size_t)g->o.futures * D * sizeof(float));
  if (!g->objective || !g->J || !g->frames || !g->slope || !g->next || !g->noise)
    status = df_fail(error, DF_NO_MEMORY, "no memory for guidance of %d tokens", s->W);
  if (!status) status = build(g, s, error);
  if (status) {
    df_guided_free(g);
    return status;
  }
  df_guided_free(s->guided);
  s->guided = g;
  s->info.objective = g->objective;
  df_guided_reset(s);
  return DF_OK;
}

void df_guided_reset(df_sampler *s) {
  s->guided->estimated = false;
  for (int b = 0; b < s->B; b++) s->guided->objective[b] = NAN;
}

void df_guided_free(df_guided *g) {
  if (!g) return;
  for (int i = 0; i < 2; i++) df_plan_free(g->plans[i]);
  df_graph_free(g->graph);
  df_arena_free(&g->arena);
  df_free(g->terms);
  df_free(g);
}

size_t df_guided_bytes(const df_guided *g) {
  size_t bytes = sizeof *g + g->arena.bytes + (size_t)g->room * sizeof *g->terms;
  for (int i = 0; i < 2; i++) bytes += g->plans[i] ? df_plan_bytes(g->plans[i]) : 0;
  return bytes;
}

// ---- A row ----

static float *at(const df_plan *plan, const df_tensor *t, int row) {
  return df_plan_data(plan, t) + (size_t)row * (size_t)t->cols;
}

// The level at which token t enters the network, and its entry's scale. Padding is at the highest one.
static int level_of(const df_sampler *s, int b, int t, int64_t m, float *scale) {
  *scale = 1;
  if (t >= s->W) return s->grid[s->o.steps];
  const int index = df_sampler_level(s, b, t, m);
  if (index > 0) return s->grid[index];
  if (s->o.stabilization > 0) *scale = s->model->noise.sqrt_abar[s->o.stabilization];
  return s->o.stabilization;
}

// Everything but x of row `row` of a plan: token t of sequence b. x0 = of_x x + of_out o.
static void fill(const df_sampler *s, const df_plan *plan, int row, int b, int t, int64_t m) {
  const token *k = &s->guided->tokens[t];
  const df_noise *table = &s->model->noise;
  const df_objective objective = s->model->config.objective;
  float scale, of_x, of_out = 0;
  const int level = level_of(s, b, t, m, &scale);
  const bool clean = t < s->W && df_sampler_level(s, b, t, m) == 0;
  if (clean) { // its own estimate
    of_x = 1 / scale;
  } else {
    of_x = objective == DF_PREDICT_NOISE ? table->sqrt_recip[level]
           : objective == DF_PREDICT_X0  ? 0
                                         : table->sqrt_abar[level];
    of_out = objective == DF_PREDICT_NOISE ? -table->sqrt_recipm1[level]
             : objective == DF_PREDICT_X0  ? 1
                                           : -table->sqrt_1m[level];
  }
  *at(plan, k->level, row) = (float)df_network_level(level);
  *at(plan, k->of_x, row) = of_x;
  *at(plan, k->of_out, row) = of_out;
  const size_t i = df_at(s, b, t < s->W ? t : 0), D = (size_t)s->D, E = (size_t)s->E;
  if (k->cond && t < s->W)
    memcpy(at(plan, k->cond, row), s->cond + i * E, E * sizeof(float));
  else if (k->cond)
    memset(at(plan, k->cond, row), 0, E * sizeof(float));
  if (k->guess)
    memcpy(at(plan, k->guess, row), (clean ? s->x : s->estimate) + i * D, D * sizeof(float));
}

static void fill_latent(const df_sampler *s, const df_plan *plan, int row, int b) {
  const size_t Z = (size_t)s->Z;
  if (Z) memcpy(at(plan, s->guided->z0, row), s->z0 + (size_t)b * Z, Z * sizeof(float));
}

// The plan and its row that sample n of sequence b is in.
static df_plan *plan_of(const df_guided *g, int b, int n, int *row) {
  *row = n ? b * (g->o.futures - 1) + n - 1 : b;
  return g->plans[n > 0];
}

static size_t frames_at(const df_sampler *s, int b, int n, int t) {
  return ((size_t)(b * s->guided->o.futures + n) * (size_t)s->W + (size_t)t) * (size_t)s->V;
}

// x' of the further samples of token t of sequence b.
static void renoise(df_sampler *s, int b, int t, int64_t m) {
  df_guided *g = s->guided;
  const df_noise *table = &s->model->noise;
  const int more = g->o.futures - 1, D = s->D;
  float scale;
  const int level = level_of(s, b, t, m, &scale);
  const bool noisy = t < s->W && df_sampler_level(s, b, t, m) > 0;
  const df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, df_number(s, b, t),
                           (uint32_t)m, DF_RANDOM_FUTURE};
  if (noisy) df_random_normal(&place, more * D, g->noise);
  const float *x = at(g->plans[0], g->tokens[t].x, b), *x0 = at(g->plans[0], g->tokens[t].x0, b);
  const float clip = s->model->config.clip_noise;
  for (int n = 0; n < more; n++) {
    const int row = b * more + n;
    float *to = at(g->plans[1], g->tokens[t].x, row);
    if (t == 0) fill_latent(s, g->plans[1], row, b);
    fill(s, g->plans[1], row, b, t, m);
    for (int j = 0; j < D; j++)
      to[j] = noisy ? table->sqrt_abar[level] * x0[j] +
                          table->sqrt_1m[level] * df_clip(g->noise[n * D + j], clip)
                    : x[j];
  }
}

// J of all samples and its derivative: what terms and objective make of it, and 0 where there are none.
static void rate(df_sampler *s) {
  df_guided *g = s->guided;
  const df_guidance *o = &g->o;
  const df_config *c = &s->model->config;
  const int frames = s->W * c->frame_stack;
  memset(g->slope, 0, frames_at(s, s->B, 0, 0) * sizeof(float));
  for (int b = 0; b < s->B; b++) {
    g->J[b] = 0;
    for (int n = 0; n < o->futures; n++) {
      const size_t i = frames_at(s, b, n, 0);
      const float *values = g->frames + i;
      float *slope = g->slope + i;
      double J = df_guide_value(o->terms, o->term_count, b, c->field_count, frames, values, slope);
      if (o->objective) J += o->objective(o->context, b, n, frames, values, slope);
      g->J[b] += J / o->futures;
    }
  }
}

// The clean estimates of all samples at the state before row m, and J of them.
static df_status estimate(df_sampler *s, int64_t m, df_error *error) {
  df_guided *g = s->guided;
  const int more = g->o.futures - 1;
  for (int b = 0; b < s->B; b++) {
    fill_latent(s, g->plans[0], b, b);
    for (int t = 0; t < g->T; t++) {
      float scale, *x = at(g->plans[0], g->tokens[t].x, b);
      level_of(s, b, t, m, &scale);
      fill(s, g->plans[0], b, b, t, m);
      for (int j = 0; j < s->D; j++)
        x[j] = t < s->W ? scale * s->x[df_at(s, b, t) * (size_t)s->D + (size_t)j] : 0;
    }
  }
  df_status status = df_plan_run_part(g->plans[0], s->B, false, error);
  for (int b = 0; b < s->B && more && !status; b++)
    for (int t = 0; t < g->T; t++) renoise(s, b, t, m);
  if (more && !status) status = df_plan_run_part(g->plans[1], s->B * more, false, error);
  if (status) return status;
  for (int b = 0; b < s->B; b++)
    for (int n = 0; n <= more; n++)
      for (int t = 0, row; t < s->W; t++) {
        const df_plan *plan = plan_of(g, b, n, &row);
        df_config_decode(&s->model->config, at(plan, g->tokens[t].x0, row),
                         g->frames + frames_at(s, b, n, t));
      }
  rate(s);
  g->estimated = true;
  return DF_OK;
}

// From dJ/dframes to dJ/dx.
static df_status go_back(df_sampler *s, int64_t m, df_error *error) {
  df_guided *g = s->guided;
  const size_t D = (size_t)s->D;
  const int more = g->o.futures - 1;
  for (int b = 0; b < s->B; b++)
    for (int n = 0; n <= more; n++)
      for (int t = 0, row; t < g->T; t++) {
        const df_plan *plan = plan_of(g, b, n, &row);
        float *seed = at(plan, g->tokens[t].seed, row);
        memset(seed, 0, D * sizeof *seed);
        if (t < s->W)
          df_config_decode_gradient(&s->model->config, g->slope + frames_at(s, b, n, t),
                                    1 / (float)g->o.futures, seed);
      }
  if (more) {
    const df_status status = df_plan_run_part(g->plans[1], s->B * more, true, error);
    if (status) return status;
    for (int b = 0; b < s->B; b++) // through x' = sqrt(abar) x0 + ..
      for (int t = 0; t < s->W; t++) {
        float scale, *seed = at(g->plans[0], g->tokens[t].seed, b);
        const float a = s->model->noise.sqrt_abar[level_of(s, b, t, m, &scale)];
        for (int n = 0; n < more && df_sampler_level(s, b, t, m) > 0; n++) {
          const float *slope = at(g->plans[1], g->tokens[t].grad, b * more + n);
          for (size_t j = 0; j < D; j++) seed[j] += a * slope[j];
        }
      }
  }
  return df_plan_run_part(g->plans[0], s->B, true, error);
}

// J and its derivatives at the state before row m.
static df_status look(df_sampler *s, int64_t m, df_error *error) {
  df_guided *g = s->guided;
  df_status status = g->estimated ? DF_OK : estimate(s, m, error);
  if (status) return status;
  g->estimated = false;
  return go_back(s, m, error);
}

static void show_objective(df_sampler *s) {
  memcpy(s->guided->objective, s->guided->J, (size_t)s->B * sizeof(double));
}

df_status df_guided_look(df_sampler *s, int64_t m, df_error *error) {
  df_status status = look(s, m, error);
  show_objective(s);
  return status;
}

const float *df_guided_gradient(const df_sampler *s, int b, int t) {
  return at(s->guided->plans[0], s->guided->tokens[t].grad, b);
}

// The next value of token t of sequence b, which falls in row m.
static void move(const df_sampler *s, int b, int t, int64_t m, float *next) {
  const df_guided *g = s->guided;
  const df_config *c = &s->model->config;
  const df_noise *table = &s->model->noise;
  const int from = s->grid[df_sampler_level(s, b, t, m)],
            to = s->grid[df_sampler_level(s, b, t, m + 1)], D = s->D;
  const float *x = s->x + df_at(s, b, t) * (size_t)D, *x0 = at(g->plans[0], g->tokens[t].x0, b),
              *grad = df_guided_gradient(s, b, t);
  const df_move by = df_noise_move(table, from, to, (float)s->o.eta);
  double norm = 0;
  for (int j = 0; j < D; j++) norm += (double)grad[j] * (double)grad[j];
  norm = sqrt(norm);
  double w = g->o.scale * pow(1 - (double)table->abar[from], g->o.level_power);
  if (g->o.clip > 0 && norm > g->o.clip) w *= g->o.clip / norm;
  if (by.sigma > 0) {
    const df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, df_number(s, b, t),
                             (uint32_t)m, DF_RANDOM_STEP};
    df_random_normal(&place, D, s->noise);
  }
  // How far the clean estimate is shifted: by (1 - abar) / sqrt(abar), which the noise estimate follows.
  const float a = table->abar[from];
  const float shift =
      (float)w * (g->o.shift == DF_SHIFT_EXACT  ? (1 - a) / sqrtf(fmaxf(a, least_abar))
                  : g->o.shift == DF_SHIFT_NEXT ? sqrtf((1 - a) * (1 - table->abar[to]) / a)
                                                : 0);
  for (int j = 0; j < D; j++) {
    const float clean = x0[j] + shift * grad[j];
    const float eps = (table->sqrt_recip[from] * x[j] - clean) / table->sqrt_recipm1[from];
    next[j] = to == 0 ? clean : by.a * clean + by.c * eps;
    if (by.sigma > 0) next[j] += by.sigma * df_clip(s->noise[j], c->clip_noise);
    if (g->o.shift == DF_SHIFT_TOKEN) next[j] += (float)w * by.guidance * grad[j];
  }
}

// What has to hold before a row.
static df_status begin(df_sampler *s, df_error *error) {
  df_status status = df_wavefront_begin(s, error);
  for (int b = 0; b < s->B && s->E && !status; b++)
    for (int t = 0; t < s->W && !status; t++)
      if (!s->slots[df_at(s, b, t)].given)
        status = df_fail(error, DF_WRONG_STATE, "sequence %d, token %d has no condition", b, t);
  return status;
}

df_status df_sampler_estimate(df_sampler *s, df_samples *samples, df_error *error) {
  df_guided *g = s->guided;
  if (!g || g->o.objective)
    return df_fail(error, DF_WRONG_STATE, "the sampler %s",
                   g ? "has its objective" : "is not guided");
  if (df_sampler_done(s)) return df_fail(error, DF_WRONG_STATE, "no row is left");
  df_status status = begin(s, error);
  if (!status) status = estimate(s, s->info.row, error);
  if (status) return status;
  *samples = (df_samples){.batch = s->B,
                          .futures = g->o.futures,
                          .frames = s->W * s->model->config.frame_stack,
                          .fields = s->model->config.field_count,
                          .values = g->frames,
                          .gradient = g->slope,
                          .objective = g->J};
  return DF_OK;
}

df_status df_guided_run(df_sampler *s, df_error *error) {
  df_guided *g = s->guided;
  const int64_t m = s->info.row;
  const size_t D = (size_t)s->D, V = (size_t)s->V;
  if (!g->o.objective && !g->o.term_count && !g->estimated)
    return df_fail(error, DF_WRONG_STATE,
                   "the objective is the caller's: df_sampler_estimate comes before each step");
  df_status status = begin(s, error);
  if (!status) status = look(s, m, error);
  if (status) return status;
  for (int b = 0; b < s->B; b++)
    for (int t = 0; t < s->W; t++) {
      float *next = g->next + ((size_t)b * (size_t)s->W + (size_t)t) * D;
      if (df_sampler_level(s, b, t, m + 1) == df_sampler_level(s, b, t, m)) continue;
      move(s, b, t, m, next);
      for (size_t j = 0; j < D; j++)
        if (!isfinite(next[j]))
          return df_fail(error, DF_BAD_VALUE, "row %lld, sequence %d, token %d: the token is %g",
                         (long long)m, b, t, (double)next[j]);
    }
  show_objective(s);
  s->ran[m % s->R] = (int64_t)s->B * s->W * g->o.futures;
  s->info.batches++;
  for (int b = 0; b < s->B; b++)
    for (int t = 0; t < s->W; t++) {
      const size_t i = df_at(s, b, t), n = df_news_at(s, b, t, m);
      const int index = df_sampler_level(s, b, t, m);
      s->news[n] = 0;
      if (index == 0) continue;
      memcpy(s->estimate + i * D, at(g->plans[0], g->tokens[t].x0, b), D * sizeof(float));
      s->news[n] = DF_NEW_ESTIMATE;
      s->row_frames[n] =
          df_config_decode(&s->model->config, s->estimate + i * D, s->row_estimates + n * V);
      if (df_sampler_level(s, b, t, m + 1) == index) continue;
      memcpy(s->x + i * D, g->next + ((size_t)b * (size_t)s->W + (size_t)t) * D, D * sizeof(float));
      s->news[n] |= DF_NEW_VALUE;
      df_config_decode(&s->model->config, s->x + i * D, s->row_values + n * V);
    }
  return DF_OK;
}
