// The reference's planner (branch `paper`) by the library's guided sampler.
//
// It steps every token in every row: one that waits from pure noise again and again, one that is finished from the last
// level before, and then its value stays. No table of levels says that, but its rows do, one by one or some in a row: a
// sampler walks down these, and the next one starts from the tokens that they leave.
#include "diffusion/internal.h"
#include "tests/golden_model.h"

enum { MAX_T = 5, MAX_B = 2, MAX_X = 12, MAX_ROWS = 16, TOKENS = MAX_T * MAX_B * MAX_X };

typedef struct planner {
  golden_model m;
  df_field fields[MAX_X];
  df_model model;
  int B, T, X, C, R, rows; // R samples of a token
  const int64_t *index;    // (rows, T) steps made
  const float *observation, *goal;
} planner;

static bool open(planner *p, const char *name) {
  *p = (planner){0};
  golden_model *m = &p->m;
  if (!golden_model_open(m, name)) return false;
  const int repeats = golden_int(m->run, "ddim_repeats");
  p->B = golden_int(m->run, "batch"), p->T = golden_int(m->run, "tokens");
  p->X = m->network.token_size, p->C = p->X / m->frame_stack, p->R = repeats > 1 ? repeats : 1;
  p->index = golden_ints(&m->g, "out.index");
  p->observation = golden_floats(&m->g, "in.obs"), p->goal = golden_floats(&m->g, "in.goal");
  const float *mean = golden_floats(&m->g, "weights.data_mean"),
              *std = golden_floats(&m->g, "weights.data_std");
  if (!CHECK(p->index && p->observation && p->goal && mean && std)) return false;
  p->rows = (int)golden_view(&m->g, "out.index")->shape[0];
  for (int j = 0; j < p->C; j++)
    p->fields[j] = (df_field){.name = "x", .mean = mean[j], .std = std[j]};
  p->model = (df_model){.config = {.network = m->network,
                                   .objective = m->objective,
                                   .K = m->noise.K,
                                   .clip_noise = m->clip_noise,
                                   .frame_stack = m->frame_stack,
                                   .fields = p->fields,
                                   .field_count = p->C,
                                   .observation = p->fields, // the first of a frame
                                   .sampling = {.max_tokens = p->T}},
                        .noise = m->noise,
                        .params = m->params};
  return CHECK(p->B <= MAX_B && p->T <= MAX_T && p->X <= MAX_X && p->rows < MAX_ROWS);
}

static void compare(planner *p, const char *name, const float *got, int at, int n) {
  const float *want = golden_floats(&p->m.g, name);
  if (want) CHECK_FLOATS(got, want + at * n, n, golden_tolerance(&p->m, name));
}

// Tokens (X) are normalised in the file.
static void normalise(const planner *p, const float *values, float *x) {
  for (int j = 0; j < p->X; j++) {
    const df_field *field = &p->fields[j % p->C];
    x[j] = (float)(((double)values[j] - field->mean) / field->std);
  }
}

// Where token t of sequence q starts. Of one that starts from pure noise the reference clamps the value: no matter here.
static void start(const planner *p, df_sampler *s, int q, int t, const float *x) {
  float values[MAX_X];
  for (int j = 0; j < p->X; j++) {
    const df_field *field = &p->fields[j % p->C];
    values[j] = (float)((double)x[j] * field->std + field->mean);
    CHECK(fabsf(x[j]) < p->m.clip_noise);
  }
  CHECK_OK(df_sampler_start(s, q, t, values, p->m.frame_stack, true, &test_error));
}

// The row up to which a table of levels goes on from `row`: no token is stepped from the same level again.
static int end_of_table(const planner *p, int row) {
  for (int m = row + 1; m < p->rows; m++)
    for (int t = 0; t < p->T; t++)
      if (p->index[m * p->T + t] == p->index[(m - 1) * p->T + t]) return m;
  return p->rows;
}

// A sampler of rows `row` .. end - 1, every sequence so many times; tokens (T, B, X).
static df_sampler *sampler_of(const planner *p, int row, int end, int copies, const float *tokens) {
  const int T = p->T, S = p->m.S;
  int32_t table[MAX_ROWS * MAX_T];
  for (int i = 0; i < (end - row) * T; i++) table[i] = S - (int)p->index[row * T + i];
  for (int t = 0; t < T; t++) table[(end - row) * T + t] = table[(end - row - 1) * T + t] - 1;
  df_sampler_options o = df_sampler_defaults();
  o.batch = p->B * copies, o.length = T, o.steps = S, o.eta = 0;
  o.table = table, o.table_rows = end - row + 1, o.allow_partial = true;
  df_sampler *s = NULL;
  if (!CHECK_OK(df_sampler_create(&s, &p->model, &o, &test_error))) return NULL;
  for (int q = 0; q < o.batch; q++) {
    const int b = q / copies;
    CHECK_OK(
        df_sampler_observe(s, q, p->observation + b * p->m.network.observation_size, &test_error));
    for (int t = 0; t < T; t++) start(p, s, q, t, tokens + (t * p->B + b) * p->X);
  }
  return s;
}

// The part of J that frames `first` .. end - 1 of so many samples of sequence b have: J is minus the length of the
// episode times the mean over frames and samples of the distance to the goal. The last frame may not count.
static df_guide_term goal_term(const planner *p, int b, int first, int end, int samples) {
  const df_json *run = p->m.run;
  const int frames = p->T * p->m.frame_stack;
  if (end == frames && golden_number(run, "last_frame_weight") == 0) end--;
  return (df_guide_term){
      .kind = golden_is(run, "objective", "norm") ? DF_GUIDE_AT : DF_GUIDE_TARGET,
      .weight = (double)golden_int(run, "n_frames") * (end - first) * samples / (frames * p->R),
      .x = 0,
      .y = 1,
      .first = first,
      .last = end - 1,
      .at = {(double)p->goal[2 * b], (double)p->goal[2 * b + 1]}};
}

// Monte Carlo guidance of the reference: of three samples of a token two are its estimate, and the third one is what
// the network makes of that estimate, noised anew, behind the latents of the tokens as they are. So these are not one
// rollout, as the library's further samples: that of token t is in a sequence of its own, in which token t is another
// one and nothing else counts. Adds J and its derivative by the estimates to `own`, that by the tokens before to rest
// (T, B, X).
static void third_samples(planner *p, int row, const float *tokens, df_samples *own, float *rest) {
  const int B = p->B, T = p->T, X = p->X, fs = p->m.frame_stack;
  const float *noise = golden_floats(&p->m.g, "in.mc_noise"); // (rows, T, R - 1, B, X)
  df_sampler *s = sampler_of(p, row, row + 1, T, tokens);
  df_guide_term terms[MAX_B * MAX_T];
  if (!CHECK(p->R == 3) || !noise || !s) return df_sampler_free(s);
  const df_noise *table = &p->m.noise;
  for (int q = 0; q < B * T; q++) {
    const int b = q / T, t = q % T, level = s->grid[df_sampler_level(s, q, t, 0)];
    float x[MAX_X];
    normalise(p, own->values + q * X, x);
    df_noise_raise(table, p->m.clip_noise, 0, level, X, x, noise + ((row * T + t) * 2 * B + b) * X,
                   x);
    start(p, s, q, t, x);
    terms[q] = goal_term(p, b, t * fs, (t + 1) * fs, 1);
    terms[q].sequence = q;
  }
  const df_guidance g = {.terms = terms, .term_count = B * T, .futures = 1};
  if (CHECK_OK(df_sampler_guide(s, &g, &test_error)) && CHECK_OK(df_sampler_step(s, &test_error))) {
    const df_sampler_info *info = df_sampler_state(s);
    for (int q = 0; q < B * T; q++) {
      const int b = q / T, t = q % T;
      float x[MAX_X];
      normalise(p, info->estimates + (q * T + t) * X, x);
      compare(p, "out.x_start", x, ((row * T + t) * 3 + 2) * B + b, X);
      own->objective[b] += info->objective[q];
      const float *slope = df_guided_gradient(s, q, t);
      const float a = table->sqrt_abar[s->grid[df_sampler_level(s, q, t, 0)]];
      for (int j = 0; j < X; j++)
        own->gradient[q * X + j] += a * slope[j] / (float)p->fields[j % p->C].std;
      for (int u = 0; u < t; u++)
        for (int j = 0; j < X; j++) rest[(u * B + b) * X + j] += df_guided_gradient(s, q, u)[j];
    }
  }
  df_sampler_free(s);
}

// What the sampler's step has made of row `row`, and the tokens (T, B, X) after it. rest: what is not in its own
// derivative.
static void take(planner *p, const df_sampler *s, int row, double scale, const char *plan,
                 const float *rest, float *tokens) {
  const int B = p->B, T = p->T, X = p->X, S = p->m.S;
  const df_sampler_info *info = df_sampler_state(s);
  double J = 0;
  for (int b = 0; b < B; b++) J += info->objective[b];
  const float value = (float)J;
  if (scale) compare(p, "out.objective", &value, row, 1);
  for (int t = 0; t < T; t++) {
    const int i = (int)p->index[row * T + t], from = s->grid[S - i];
    const df_move by = df_noise_move(&p->m.noise, from, s->grid[S - i - 1], 0);
    const bool finished = row > 0 && i == S - 1 && p->index[(row - 1) * T + t] == i;
    compare(p, "out.guidance_const", &by.guidance, row * T + t, 1);
    for (int b = 0; b < B; b++) {
      const int at = t * B + b;
      float x[MAX_X], stepped[MAX_X], estimate[MAX_X], slope[MAX_X];
      normalise(p, info->values + (b * T + t) * X, x);
      normalise(p, info->estimates + (b * T + t) * X, estimate);
      for (int j = 0; j < X; j++) {
        const float own = df_guided_gradient(s, b, t)[j], w = (float)scale * by.guidance;
        stepped[j] = x[j] - w * own;
        slope[j] = own + rest[at * X + j];
        if (!finished) tokens[at * X + j] = x[j] + w * rest[at * X + j];
      }
      compare(p, plan, tokens + at * X, row * T * B + at, X);
      if (scale == 0) continue;
      compare(p, "out.x_step", stepped, row * T * B + at, X);
      compare(p, "out.grad", slope, row * T * B + at, X);
      for (int k = 0; k < (p->R > 1 ? 2 : 1); k++)
        compare(p, "out.x_start", estimate, ((row * T + t) * p->R + k) * B + b, X);
    }
  }
}

// Latents of row `row`, by a pass over the tokens (T, B, X) before it.
static void check_latents(planner *p, int row, const df_sampler *s, const float *tokens) {
  enum { MAX_Z = 32 };
  const int B = p->B, T = p->T, X = p->X, Z = p->m.network.latent_size;
  float x[TOKENS], out[TOKENS], z[MAX_B * MAX_T * MAX_Z];
  int32_t level[MAX_B * MAX_T];
  df_cell_runner *runner = NULL;
  const df_cell_options options = {.cells = B, .threads = 1};
  REQUIRE(Z <= MAX_Z);
  for (int q = 0; q < B * T; q++) {
    const int b = q / T, t = q % T;
    memcpy(x + q * X, tokens + (t * B + b) * X, (size_t)X * sizeof *x);
    level[q] = s->grid[p->m.S - (int)p->index[row * T + t]];
  }
  const df_cell_tokens in = {.x = x, .level = level, .z0 = s->z0};
  if (CHECK_OK(df_cell_create(&runner, &p->model.config, &p->m.noise, &p->m.params, &options,
                              &test_error)) &&
      CHECK_OK(df_cell_unroll(runner, B, T, &in, out, z, &test_error)))
    for (int q = 0; q < B * T; q++)
      compare(p, "out.z", z + q * Z, (row * T + q % T) * B + q / T, Z);
  df_cell_free(runner);
}

static void follow(planner *p, double scale, const char *plan) {
  const int B = p->B, T = p->T, X = p->X, frames = T * p->m.frame_stack;
  const bool more = p->R > 1 && scale != 0;
  const float *noise = golden_floats(&p->m.g, "in.plan_noise");
  float tokens[TOKENS];
  REQUIRE(noise != NULL);
  memcpy(tokens, noise, (size_t)(T * B * X) * sizeof *tokens);
  df_guide_term terms[MAX_B];
  for (int b = 0; b < B; b++) {
    terms[b] = goal_term(p, b, 0, frames, p->R > 1 ? p->R - 1 : 1);
    terms[b].sequence = b;
  }
  const df_guidance g = {
      .terms = terms, .term_count = B, .scale = scale, .futures = 1, .shift = DF_SHIFT_TOKEN};
  for (int row = 0, end; row < p->rows; row = end) {
    end = more ? row + 1 : end_of_table(p, row);
    df_sampler *s = sampler_of(p, row, end, 1, tokens);
    if (!s || !CHECK_OK(df_sampler_guide(s, &g, &test_error))) return df_sampler_free(s);
    for (int m = row; m < end; m++) {
      float rest[TOKENS] = {0};
      df_samples own;
      DURING("row %d, guidance %g", m, scale);
      if (more && CHECK_OK(df_sampler_estimate(s, &own, &test_error)))
        third_samples(p, m, tokens, &own, rest);
      if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
      if (scale != 0) check_latents(p, m, s, tokens);
      take(p, s, m, scale, plan, rest, tokens);
      compare(p, "out.z0", s->z0, 0, B * s->Z);
    }
    df_sampler_free(s);
  }
}

TEST(guided_plans_are_those_of_the_reference_row_by_row) {
  static const char *const files[] = {"rnn_guided_norm", "rnn_guided_square", "rnn_guided_mc"};
  for (int i = 0; i < COUNT(files); i++) {
    planner p;
    if (open(&p, files[i])) {
      follow(&p, golden_number(p.m.run, "guidance_scale"), "out.plan");
      follow(&p, 0, "out.unguided.plan");
    }
    golden_model_close(&p.m);
  }
}
