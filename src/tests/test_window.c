// Samplers of networks with attention: what is kept from row to row, and the window that slides. Each row is compared
// with all of its window computed anew, as one graph.
#include "base/random.h"
#include "tests/sampler_models.h"

enum { D = 4, MOST = 16 };

typedef struct window_case {
  const char *name;
  df_schedule schedule;
  int B, T, steps; // T > 0, or a DF_LENGTH_*
  double u, eta;
  int N; // tokens that the network sees
  bool all, ancestral;
  int E, stabilization;
  unsigned known; // bit t: token t of the odd sequences is known
  const int32_t *table;
  int rows;
} window_case;

static const int32_t resting[] = {4, 4, 4, 2, 4, 4, 2, 4, 2, 2, 3, 2, 1, 3,
                                  2, 1, 3, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0};
static const int32_t repeated[] = {3, 3, 3, 1, 3, 3, 0, 2, 3, 2, 2, 3,
                                   0, 1, 3, 1, 0, 2, 3, 0, 1, 0, 0, 0};
// Token 0 is noised again after the window has left it.
static const int32_t again[] = {2, 2, 2, 2, 1, 2, 2, 2, 0, 2, 2, 2, 0, 0, 2, 2, 0, 0,
                                0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};

static const window_case cases[] = {
    {"full sequence", DF_FULL_SEQUENCE, 2, 6, 5, .N = 6},
    {"pyramid", DF_PYRAMID, 1, 6, 5, .u = 1, .N = 9},
    {"pyramid with noise", DF_PYRAMID, 3, 7, 6, .u = 1.7, .eta = 0.5, .N = 7},
    {"autoregressive", DF_AUTOREGRESSIVE, 2, 5, 4, .N = 5, .stabilization = 3},
    {"trapezoid", DF_TRAPEZOID, 2, 8, 5, .u = 1, .eta = 1, .N = 8},
    {"ancestral", DF_PYRAMID, 1, 4, 40, .u = 5, .ancestral = true, .N = 4},
    {"known tokens", DF_PYRAMID, 4, 9, 5, .u = 1, .known = 0x113, .stabilization = 3, .N = 9},
    {"conditions", DF_PYRAMID, 3, 7, 5, .u = 1, .E = 2, .known = 0x2, .N = 7},
    {"a table that rests", DF_CUSTOM, 2, 3, 4, .table = resting, .rows = 9, .N = 3},
    {"a table that rises", DF_CUSTOM, 2, 3, 3, .table = repeated, .rows = 8, .eta = 0.5, .N = 3},
    {"one token at a time", DF_AUTOREGRESSIVE, 2, 9, 4, .N = 1},
    {"a short window", DF_AUTOREGRESSIVE, 2, 9, 4, .N = 4, .known = 0x3, .stabilization = 2},
    {"a short window, pyramid", DF_PYRAMID, 3, 12, 4, .u = 1.5, .N = 5, .eta = 1},
    {"a short window, conditions", DF_PYRAMID, 2, 9, 4, .u = 2, .N = 4, .E = 1},
    {"back to what was left", DF_CUSTOM, 2, 4, 2, .table = again, .rows = 9, .N = 2},
    {"without end", DF_PYRAMID, 2, -1, 6, .u = 1.5, .N = 7, .known = 0x5},
    {"without end, one at a time", DF_AUTOREGRESSIVE, 1, -1, 3, .N = 4, .eta = 1},
    {"all", DF_FULL_SEQUENCE, 2, 6, 5, .N = 6, .all = true},
    {"all, with padding", DF_PYRAMID, 2, 5, 4, .u = 1, .N = 8, .all = true, .stabilization = 3},
    {"all, known", DF_PYRAMID, 3, 6, 4, .u = 2, .N = 7, .all = true, .E = 2, .known = 0x21},
    {"all, a short window", DF_AUTOREGRESSIVE, 2, 9, 3, .N = 4, .all = true, .eta = 0.5},
    {"all, noised again", DF_CUSTOM, 2, 3, 3, .table = repeated, .rows = 8, .N = 4, .all = true},
};

static df_status create(df_sampler **s, const df_model *m, const window_case *c, int threads) {
  df_sampler_options o = options_of(c->B, c->T, c->schedule, c->steps, c->u);
  o.eta = c->eta, o.ancestral = c->ancestral, o.stabilization = c->stabilization;
  o.table = c->table, o.table_rows = c->rows, o.allow_renoise = c->table != NULL;
  o.threads = threads, o.max_length = 4;
  return df_sampler_create(s, m, &o, &test_error);
}

static void keep_known(df_sampler *s, const window_case *c) {
  for (int b = 1; b < c->B; b += 2)
    for (int t = 0; t < MOST; t++) {
      const float values[D] = {(float)b, (float)t, -1, 0.5f};
      if (c->known >> t & 1) CHECK_OK(df_sampler_keep(s, b, t, values, 1, &test_error));
    }
}

// The network over n tokens: (n, D), levels (n), conditions (n, E).
static void run_network(const df_model *m, int n, const float *x, const int *level,
                        const float *cond, float *out) {
  const df_network *net = &m->config.network;
  df_graph *g = df_graph_create();
  df_error declared = {0};
  df_nn nn = {g, (df_params *)&m->params, &declared};
  df_tensor *xs[MOST], *levels[MOST], *conds[MOST], *outs[MOST];
  for (int t = 0; t < n; t++) {
    xs[t] = df_input(g, "x", 1, D, true);
    levels[t] = df_input(g, "level", 1, 1, true);
    if (net->condition_size) conds[t] = df_input(g, "cond", 1, net->condition_size, true);
  }
  df_unrolled seq = {
      .T = n, .x = xs, .level = levels, .cond = net->condition_size ? conds : NULL, .out = outs};
  net->denoiser->build(net, &nn, &seq);
  df_plan *plan = NULL;
  if (CHECK_OK(df_plan_create(&plan, g, outs, n, &(df_plan_options){.batch = 1}, &test_error))) {
    for (int t = 0; t < n; t++) {
      memcpy(df_plan_data(plan, xs[t]), x + t * D, D * sizeof *x);
      df_plan_data(plan, levels[t])[0] = (float)df_network_level(level[t]);
      for (int j = 0; j < net->condition_size; j++)
        df_plan_data(plan, conds[t])[j] = cond[t * net->condition_size + j];
    }
    CHECK_OK(df_plan_run(plan, 1, &test_error));
    for (int t = 0; t < n; t++) memcpy(out + t * D, df_plan_data(plan, outs[t]), D * sizeof *out);
  }
  df_plan_free(plan);
  df_graph_free(g);
}

static float condition_of(int b, int64_t t, int j) {
  return (float)sin(1 + b + 3 * (double)t + 7 * j);
}

// A row of sequence b: from state (T, D) at levels (T) to next levels (T), into next (T, D). *start: the first token of
// the window.
static void row_anew(const df_model *m, const window_case *c, const int32_t *grid, int b,
                     int64_t row, int64_t first, int T, const float *x, const int32_t *level,
                     const int32_t *next_level, int *start, float *next) {
  const int N = c->N, E = c->E, S = c->steps;
  int last = -1, earliest = T;
  for (int t = T - 1; t >= 0; t--)
    if (next_level[t] < level[t]) earliest = t, last = last < 0 ? t : last;
  memcpy(next, x, (size_t)(T * D) * sizeof *x);
  if (last >= 0) {
    if (last + 1 - N > *start || earliest < *start) *start = last + 1 > N ? last + 1 - N : 0;
    const int n = c->all ? N : last + 1 - *start;
    float in[MOST * D] = {0}, cond[MOST * 2] = {0}, out[MOST * D];
    int levels[MOST];
    for (int i = 0; i < n; i++) {
      const int t = *start + i;
      levels[i] = t < T ? grid[level[t]] : m->config.K;
      float scale = 1;
      if (t < T && level[t] == 0 && c->stabilization) {
        levels[i] = c->stabilization;
        scale = m->noise.sqrt_abar[c->stabilization];
      }
      for (int j = 0; t < T && j < D; j++) in[i * D + j] = scale * x[t * D + j];
      for (int j = 0; t < T && j < E; j++) cond[i * E + j] = condition_of(b, first + t, j);
    }
    run_network(m, n, in, levels, cond, out);
    for (int t = *start; t < T && t < *start + n; t++) {
      if (next_level[t] >= level[t]) continue;
      float x0[D], eps[D], noise[D];
      const int from = grid[level[t]], to = grid[next_level[t]];
      df_predict(&m->noise, m->config.objective, 20, from, D, x + t * D, out + (t - *start) * D, x0,
                 eps);
      df_random place = {5, (uint32_t)b, (uint32_t)(first + t), (uint32_t)row, DF_RANDOM_STEP};
      df_random_normal(&place, D, noise);
      const df_move move = df_noise_move(&m->noise, from, to, (float)c->eta);
      for (int j = 0; j < D; j++)
        next[t * D + j] =
            c->ancestral
                ? m->noise.posterior_mean_x0[from] * x0[j] +
                      m->noise.posterior_mean_x[from] * x[t * D + j] +
                      (from > 1 ? expf(m->noise.posterior_log_variance[from] / 2) : 0) * noise[j]
            : to == 0 ? x0[j]
                      : move.a * x0[j] + move.c * eps[j] + move.sigma * noise[j];
    }
  }
  for (int t = 0; t < T; t++) { // noised again
    float noise[D];
    if (next_level[t] <= level[t] || next_level[t] > S) continue;
    df_random place = {5, (uint32_t)b, (uint32_t)(first + t), (uint32_t)row, DF_RANDOM_STEP};
    df_random_normal(&place, D, noise);
    df_noise_raise(&m->noise, 20, grid[level[t]], grid[next_level[t]], D, x + t * D, noise,
                   next + t * D);
  }
}

static void check_anew(const window_case *c, int threads) {
  df_model m;
  df_sampler *s = NULL;
  int32_t grid[64];
  DURING("%s", c->name);
  if (make_transformer(&m, D, c->E, c->N, !c->all, false) && CHECK_OK(create(&s, &m, c, threads)) &&
      CHECK_OK(
          df_noise_grid(DF_GRID_UNIFORM, (df_warp){0}, m.config.K, c->steps, grid, &test_error))) {
    const df_sampler_info *info = df_sampler_state(s);
    const int T = info->tokens;
    condition_all(s, c->E, T);
    keep_known(s, c);
    float x[4 * MOST * D], next[MOST * D];
    int32_t levels[4 * MOST], after[MOST];
    int start[4] = {0};
    CHECK(T <= MOST && c->B <= 4);
    for (int row = 0; !df_sampler_done(s) && row < 60; row++) {
      const int64_t first = info->first;
      memcpy(x, info->values, (size_t)(c->B * T * D) * sizeof *x);
      memcpy(levels, info->levels, (size_t)(c->B * T) * sizeof *levels);
      DURING("%s, row %d", c->name, row);
      if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
      const int by = (int)(info->first - first);
      for (int b = 0; b < c->B; b++) {
        for (int t = 0; t < T; t++) after[t] = t < by ? 0 : info->levels[b * T + t - by];
        row_anew(&m, c, grid, b, row, first, T, x + b * T * D, levels + b * T, after, &start[b],
                 next);
        DURING("%s, row %d, sequence %d", c->name, row, b);
        CHECK_FLOATS(info->values + b * T * D, next + by * D, (T - by) * D, 2e-5);
        start[b] = start[b] > by ? start[b] - by : 0;
      }
    }
    if (c->T > 0) CHECK(df_sampler_done(s));
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(every_row_is_its_window_computed_anew) {
  for (int i = 0; i < COUNT(cases); i++) check_anew(&cases[i], 1 + i % 3);
}

// ---- What is kept ----

static const window_case drawn[] = {
    {"drawn, full sequence", DF_FULL_SEQUENCE, 4, 0, 5, .N = 4},
    {"drawn, pyramid", DF_PYRAMID, 4, 0, 5, .u = 1, .N = 6, .known = 0x4},
    {"drawn, autoregressive", DF_AUTOREGRESSIVE, 4, 0, 3, .N = 2, .stabilization = 2},
    {"until the end", DF_PYRAMID, 4, -1, 4, .u = 1, .N = 6},
};

static void check_kept(const window_case *c, bool stop) {
  df_model m;
  df_sampler *keeps = NULL, *forgets = NULL;
  DURING("%s", c->name);
  if (make_transformer(&m, D, c->E, c->N, !c->all, stop) && CHECK_OK(create(&keeps, &m, c, 1)) &&
      CHECK_OK(create(&forgets, &m, c, 2))) {
    const df_sampler_info *a = df_sampler_state(keeps), *b = df_sampler_state(forgets);
    df_sampler_forget(forgets);
    for (int seed = 5; seed < (stop ? 15 : 6); seed++) {
      df_sampler_restart(keeps, (uint64_t)seed), df_sampler_restart(forgets, (uint64_t)seed);
      condition_all(keeps, c->E, a->tokens), condition_all(forgets, c->E, a->tokens);
      keep_known(keeps, c), keep_known(forgets, c);
      const size_t allocations = df_alloc_count();
      for (int row = 0; !df_sampler_done(keeps) && row < 60; row++) {
        DURING("%s, seed %d, row %d", c->name, seed, row);
        if (!CHECK_OK(df_sampler_step(keeps, &test_error)) ||
            !CHECK_OK(df_sampler_step(forgets, &test_error)))
          break;
        const int n = a->batch * a->tokens;
        CHECK_INT(a->rows, b->rows);
        for (int i = 0; i < n; i++) CHECK_INT(a->levels[i], b->levels[i]);
        for (int i = 0; i < a->batch; i++) CHECK_INT(a->lengths[i], b->lengths[i]);
        CHECK_FLOATS(a->values, b->values, n * D, 2e-5);
        CHECK_FLOATS(a->estimates, b->estimates, n * D, 2e-5);
      }
      CHECK_INT(df_sampler_done(keeps), df_sampler_done(forgets));
      CHECK(a->cells <= b->cells);
      CHECK_INT(df_alloc_count(), allocations);
    }
  }
  df_sampler_free(keeps);
  df_sampler_free(forgets);
  drop(&m);
}

TEST(what_is_kept_changes_nothing) {
  for (int i = 0; i < COUNT(cases); i++) check_kept(&cases[i], false);
  for (int i = 0; i < COUNT(drawn); i++) check_kept(&drawn[i], true);
}

TEST(a_row_costs_the_active_tokens) {
  static const struct {
    df_schedule schedule;
    int T, steps;
    double u;
    int N;
    bool all, posterior;
    int cells, batches;
  } costs[] = {
      {DF_FULL_SEQUENCE, 6, 5, 0, .N = 6, .cells = 6 * 5, .batches = 5},
      // each token: its steps, and once more when it is finished, but for the last one
      {DF_AUTOREGRESSIVE, 6, 5, 5, .N = 6, .cells = 6 * 5 + 5, .batches = 30},
      {DF_PYRAMID, 6, 5, 1, .N = 6, .cells = 6 * 5 + 5, .batches = 10},
      // where the window moves on, all of it
      {DF_AUTOREGRESSIVE, 4, 5, 5, .N = 2, .cells = 5 + 3 * (2 + 4), .batches = 20},
      {DF_FULL_SEQUENCE, 4, 5, 0, .N = 6, .all = true, .cells = 6 * 5, .batches = 5},
      // a token behind the other, twice
      {DF_FULL_SEQUENCE, 4, 5, 0, .N = 4, .posterior = true, .cells = 4 * 5 + 3 * 5, .batches = 35},
  };
  for (int i = 0; i < COUNT(costs); i++) {
    df_model m;
    df_sampler *s = NULL;
    DURING("case %d", i);
    if (make_transformer(&m, D, 0, costs[i].N, !costs[i].all, false)) {
      df_sampler_options o =
          options_of(1, costs[i].T, costs[i].schedule, costs[i].steps, costs[i].u);
      o.posterior = costs[i].posterior;
      if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error)) && run_all(s)) {
        if (!costs[i].all) CHECK_INT(df_sampler_state(s)->cells, costs[i].cells);
        CHECK_INT(df_sampler_state(s)->batches, costs[i].batches);
      }
    }
    df_sampler_free(s);
    drop(&m);
  }
}

TEST(a_batch_gives_the_bits_of_its_sequences_whatever_the_threads) {
  enum { B = 11, T = 5 };
  df_model m;
  if (make_transformer(&m, D, 0, T, true, true)) {
    df_sampler *all = NULL, *one = NULL;
    for (int threads = 1; threads < 5; threads++) {
      df_sampler_options o = options_of(B, DF_LENGTH_DRAWN, DF_PYRAMID, 4, 1);
      o.threads = threads, o.max_length = T;
      if (!CHECK_OK(df_sampler_create(&all, &m, &o, &test_error)) || !run_all(all)) break;
      o.batch = 1, o.threads = 1;
      for (int b = 0; b < B; b++) {
        o.first_sequence = (uint32_t)b;
        DURING("sequence %d, %d threads", b, threads);
        if (CHECK_OK(df_sampler_create(&one, &m, &o, &test_error)) && run_all(one)) {
          const df_sampler_info *a = df_sampler_state(all), *c = df_sampler_state(one);
          CHECK_INT(a->lengths[b], c->lengths[0]);
          CHECK_FLOATS(a->values + b * T * D, c->values, a->lengths[b] * D, 0);
        }
        df_sampler_free(one);
      }
      df_sampler_free(all);
      all = NULL;
    }
    df_sampler_free(all);
  }
  drop(&m);
}

TEST(what_a_window_cannot_do_is_refused) {
  static const struct {
    df_schedule schedule;
    int T, steps;
    double u;
    bool all, posterior;
    const char *want;
  } wrong[] = {
      {DF_FULL_SEQUENCE, 6, 4, 0, .want = "tokens 0 to 5 fall together, but the network sees 4"},
      {DF_PYRAMID, 9, 4, 0.5, .want = "fall together, but the network sees 4 tokens at most"},
      {DF_TRAPEZOID, 5, 4, 1, .want = "tokens 0 to 4 fall together"},
      {DF_PYRAMID, DF_LENGTH_UNBOUNDED, 4, 0.5, .want = "fall together"},
      {DF_PYRAMID, DF_LENGTH_UNBOUNDED, 4, 2, .all = true, .want = "needs a causal network"},
      {DF_PYRAMID, 4, 4, 1, .all = true, .posterior = true, .want = "posterior"},
  };
  for (int i = 0; i < COUNT(wrong); i++) {
    df_model m;
    df_sampler *s = NULL;
    DURING("case %d", i);
    if (make_transformer(&m, D, 0, 4, !wrong[i].all, false)) {
      df_sampler_options o =
          options_of(1, wrong[i].T, wrong[i].schedule, wrong[i].steps, wrong[i].u);
      o.posterior = wrong[i].posterior;
      df_status status = df_sampler_create(&s, &m, &o, &test_error);
      if (!status) status = df_sampler_step(s, &test_error);
      CHECK_INT(status, DF_NOT_SUPPORTED);
      CHECK_CONTAINS(test_error.message, wrong[i].want);
    }
    df_sampler_free(s);
    drop(&m);
  }
}

TEST(samplers_with_attention_are_made_without_memory) {
  df_model m;
  df_sampler *s = NULL;
  if (make_transformer(&m, D, 0, 4, true, true)) {
    const df_sampler_options o = options_of(3, 4, DF_PYRAMID, 4, 1);
    CHECK_OK(
        df_sampler_create(&s, &m, &o, &test_error)); // the model keeps packed weights from now on
    df_sampler_free(s);
    s = NULL;
    CHECK_WITHOUT_MEMORY(df_sampler_create(&s, &m, &o, &test_error));
    CHECK(s && df_sampler_bytes(s) > 0);
    df_sampler_free(s);
  }
  drop(&m);
}
