// Does an imported model compute what the official code computed with its checkpoint? Run by the tests of df_export:
//
//   MODEL=OUT/model.safetensors EXPECTED=RUN/expected check_import
//
// expected.safetensors is described beside the checkpoints (models/df_export/tests/checkpoints/README.md): single
// steps, and a whole run in the order in which the reference visits its tokens. eta is 0.
#include <stdlib.h>

#include "diffusion/sampler.h"
#include "tests/golden_model.h"

enum { MAX_B = 4, MAX_X = 64, MAX_Z = 256, MAX_T = 64 };

typedef struct imported {
  df_model *model;
  void *bytes;
  golden_model expected; // its file and numerics
  df_cell_runner *runner;
  int B, X, Z, E, S, N;
  int32_t grid[1024]; // by steps left: grid[S] is the noisiest level
} imported;

static bool has(const imported *f, const char *name) {
  return df_safetensors_find(&f->expected.g.file, name) != NULL;
}
static float *floats(imported *f, const char *name) { return golden_floats(&f->expected.g, name); }
static int64_t size(imported *f, const char *name, int axis) {
  const df_view *v = golden_view(&f->expected.g, name);
  return v && axis < v->dims ? v->shape[axis] : 0;
}

static void compare(imported *f, const char *name, const float *got, int64_t at, int n) {
  const float *want = floats(f, name);
  DURING("%s from %d on", name, (int)at);
  if (want) CHECK_FLOATS(got, want + at, n, golden_tolerance(&f->expected, name));
}

static bool open(imported *f) {
  *f = (imported){0};
  const char *model = getenv("MODEL"), *expected = getenv("EXPECTED");
  size_t bytes = 0;
  if (!CHECK(model && expected) || !CHECK_OK(df_file_read(&f->bytes, &bytes, model, &test_error)) ||
      !CHECK_OK(df_model_open(&f->model, f->bytes, bytes, &test_error)))
    return false;
  f->expected.g = golden_open(expected);
  const df_config *c = &f->model->config;
  const char *x = "in.step.x";
  f->N = c->network.window;
  f->B = (int)size(f, x, f->N ? 1 : 0);
  f->X = c->network.token_size, f->Z = c->network.latent_size, f->E = c->network.condition_size;
  f->S = c->sampling.steps;
  return CHECK(f->B > 0 && f->B <= MAX_B && f->X <= MAX_X && f->Z <= MAX_Z && f->N <= MAX_T) &&
         CHECK_OK(df_noise_grid(DF_GRID_UNIFORM, (df_warp){0}, c->K, f->S, f->grid, &test_error)) &&
         CHECK_OK(df_cell_create(
             &f->runner, c, &f->model->noise, &f->model->params,
             &(df_cell_options){.cells = f->B * (f->N ? f->N : 1), .sequences = f->B, .threads = 1},
             &test_error));
}

static void shut(imported *f) {
  df_cell_free(f->runner);
  df_model_free(f->model);
  df_free(f->bytes);
  golden_close(&f->expected.g);
}

// (B, X) in network units as frames (B, fs, C) in data units.
static void decode(const imported *f, int n, const float *tokens, float *frames) {
  for (int i = 0; i < n; i++)
    df_config_decode(&f->model->config, tokens + i * f->X, frames + i * f->X);
}

// One step of the reference (index i of S, the first one clamps) for all sequences: x (B, X) to x_next.
static bool step(imported *f, int i, const float *x, const float *z, const float *cond,
                 float *x_next) {
  const float clip = f->model->config.clip_noise;
  const int n = f->B * f->X;
  for (int j = 0; j < n; j++) df_cell_x(f->runner)[j] = i == 0 ? df_clip(x[j], clip) : x[j];
  memcpy(df_cell_z(f->runner), z, (size_t)(f->B * f->Z) * sizeof *z);
  if (f->E) memcpy(df_cell_cond(f->runner), cond, (size_t)(f->B * f->E) * sizeof *cond);
  for (int b = 0; b < f->B; b++) df_cell_level(f->runner)[b] = f->grid[f->S - i];
  if (!CHECK_OK(df_cell_run(f->runner, f->B, &test_error))) return false;
  for (int b = 0; b < f->B; b++)
    df_cell_move(f->runner, b, f->grid[f->S - i - 1], 0, false, NULL, x_next + b * f->X);
  return true;
}

TEST(single_steps_are_those_of_the_official_code) {
  imported f;
  float next[MAX_B * MAX_X], frames[MAX_B * MAX_X];
  if (open(&f) && !f.N) {
    const int64_t *index = golden_ints(&f.expected.g, "in.step.index");
    const float *x = floats(&f, "in.step.x"), *z = floats(&f, "in.step.z"),
                *cond = f.E ? floats(&f, "in.step.external_cond") : NULL;
    const int n = f.B * f.X;
    for (int i = 0; index && x && z && i < size(&f, "in.step.index", 0); i++) {
      if (!step(&f, (int)index[i], x, z, cond, next)) break;
      compare(&f, "out.step.x_next", next, i * n, n);
      compare(&f, "out.step.x_start", df_cell_x0(f.runner), i * n, n);
      compare(&f, "out.step.z_next", df_cell_z_next(f.runner), i * f.B * f.Z, f.B * f.Z);
      decode(&f, f.B, next, frames);
      compare(&f, "out.step.x_next_data", frames, i * n, n);
      decode(&f, f.B, df_cell_x0(f.runner), frames);
      compare(&f, "out.step.x_start_data", frames, i * n, n);
    }
  }
  shut(&f);
}

TEST(a_step_of_a_window_is_that_of_the_official_code) {
  imported f;
  if (open(&f) && f.N) {
    const int64_t *from = golden_ints(&f.expected.g, "in.step.from"),
                  *to = golden_ints(&f.expected.g, "in.step.to");
    const float *x = floats(&f, "in.step.x");
    const df_config *c = &f.model->config;
    for (int i = 0; x && from && to && i < f.B * f.N; i++) {
      const int b = i / f.N, t = i % f.N, at = t * f.B + b;
      const int level = from[at] ? f.grid[from[at]] : c->sampling.stabilization;
      const float scale = from[at] ? 1 : f.model->noise.sqrt_abar[level];
      for (int j = 0; j < f.X; j++) df_cell_x(f.runner)[i * f.X + j] = scale * x[at * f.X + j];
      df_cell_level(f.runner)[i] = level;
      df_cell_places(f.runner)[i] = (df_cell_place){b, t, c->network.causal ? t + 1 : f.N};
    }
    if (x && CHECK_OK(df_cell_run(f.runner, f.B * f.N, &test_error)))
      for (int i = 0; i < f.B * f.N; i++) {
        const int at = (i % f.N) * f.B + i / f.N;
        float next[MAX_X], frames[MAX_X];
        compare(&f, "out.step.x_start", df_cell_x0(f.runner) + i * f.X, at * f.X, f.X);
        if (from[at] == to[at])
          memcpy(next, x + at * f.X, (size_t)f.X * sizeof *x);
        else
          df_cell_move(f.runner, i, f.grid[to[at]], 0, false, NULL, next);
        compare(&f, "out.step.x_next", next, at * f.X, f.X);
        df_config_decode(c, next, frames);
        compare(&f, "out.step.x_next_data", frames, at * f.X, f.X);
      }
  }
  shut(&f);
}

// The planner of branch `paper`: the start is encoded, every token is stepped in every row, finished ones keep their
// value.
static void plan(imported *f) {
  const int T = (int)size(f, "in.run.noise", 0), n = f->B * f->X, Z = f->B * f->Z,
            O = f->model->config.network.observation_size;
  const double u = f->model->config.sampling.uncertainty;
  const float *obs = floats(f, "in.run.obs"), *noise = floats(f, "in.run.noise");
  float observation[64], z0[MAX_B * MAX_Z], z[MAX_B * MAX_Z], next[MAX_B * MAX_X];
  float tokens[MAX_T * MAX_B * MAX_X], frames[MAX_X];
  if (!CHECK(obs && noise && T <= MAX_T && f->B * O <= COUNT(observation))) return;
  for (int i = 0; i < f->B * O; i++) {
    const df_field *field = &f->model->config.observation[i % O];
    observation[i] = (obs[i] - field->mean) / field->std;
  }
  if (!CHECK_OK(df_cell_initial(f->runner, f->B, observation, z0, &test_error))) return;
  compare(f, "out.run.z0", z0, 0, Z);
  memcpy(tokens, noise, (size_t)(T * n) * sizeof *noise);
  const int rows = f->S + (int)(T * u);
  for (int row = 0; row < rows; row++) {
    memcpy(z, z0, (size_t)Z * sizeof *z);
    for (int t = 0; t < T; t++) {
      const int entry = row - (int)(t * u), i = entry < 0 ? 0 : entry < f->S ? entry : f->S - 1;
      if (!step(f, i, tokens + t * n, z, NULL, next)) return;
      memcpy(z, df_cell_z_next(f->runner), (size_t)Z * sizeof *z);
      if (entry < f->S) memcpy(tokens + t * n, next, (size_t)n * sizeof *next);
      if (row == rows - 1) compare(f, "out.run.z", z, t * Z, Z);
    }
  }
  compare(f, "out.run.tokens", tokens, 0, T * n);
  const int fs = f->model->config.frame_stack, C = f->X / fs;
  for (int t = 0; t < T; t++)
    for (int b = 0; b < f->B; b++) {
      df_config_decode(&f->model->config, tokens + (t * f->B + b) * f->X, frames);
      for (int i = 0; i < fs; i++)
        compare(f, "out.run.plan", frames + i * C, ((t * fs + i) * f->B + b) * C, C);
    }
}

// Prediction of branch `paper`, one token a chunk: known tokens at the least noisy level, then token after token.
static void predict(imported *f) {
  const int known = (int)size(f, "in.run.context_noise", 0), new = (int)size(f, "in.run.noise", 0),
            total = known + new, X = f->X, B = f->B, Z = B * f->Z;
  const float *xs = floats(f, "out.run.xs"), *conditions = floats(f, "out.run.conditions"),
              *mixed = floats(f, "in.run.context_noise"), *noise = floats(f, "in.run.noise");
  const df_noise *table = &f->model->noise;
  const float clip = f->model->config.clip_noise;
  float z[MAX_B * MAX_Z], x[MAX_B * MAX_X], next[MAX_B * MAX_X], cond[MAX_B * 256];
  if (!CHECK(xs && conditions && mixed && noise && f->model->config.frame_stack == 1)) return;
  if (!CHECK_OK(df_cell_initial(f->runner, B, NULL, z, &test_error))) return;
  for (int t = 0; t < total; t++) {
    for (int b = 0; b < B; b++)
      for (int j = 0; j < f->E; j++)
        cond[b * f->E + j] = t ? conditions[(b * total + t) * f->E + j] : 0;
    if (t < known) {
      for (int b = 0; b < B; b++) {
        float *to = df_cell_x(f->runner) + b * X;
        df_config_encode(&f->model->config, xs + (b * total + t) * X, 1, to);
        for (int j = 0; j < X; j++)
          to[j] = table->sqrt_abar[1] * to[j] +
                  table->sqrt_1m[1] * df_clip(mixed[(t * B + b) * X + j], clip);
        df_cell_level(f->runner)[b] = 1;
      }
      memcpy(df_cell_z(f->runner), z, (size_t)Z * sizeof *z);
      if (f->E) memcpy(df_cell_cond(f->runner), cond, (size_t)(B * f->E) * sizeof *cond);
      if (!CHECK_OK(df_cell_run(f->runner, B, &test_error))) return;
      compare(f, "out.run.context_x_pred", df_cell_x0(f->runner), t * B * X, B * X);
      compare(f, "out.run.context_z", df_cell_z_next(f->runner), t * Z, Z);
      memcpy(next, df_cell_x0(f->runner), (size_t)(B * X) * sizeof *next);
    } else {
      memcpy(x, noise + (t - known) * B * X, (size_t)(B * X) * sizeof *x);
      // A table of one token has int(u) rows more than steps; there the finished token is stepped once more.
      for (int i = 0; i < f->S + (int)f->model->config.sampling.uncertainty; i++) {
        if (!step(f, i < f->S ? i : f->S - 1, x, z, cond, next)) return;
        memcpy(x, next, (size_t)(B * X) * sizeof *x);
      }
    }
    memcpy(z, df_cell_z_next(f->runner), (size_t)Z * sizeof *z);
    decode(f, B, next, x);
    compare(f, "out.run.xs_pred", x, t * B * X, B * X);
  }
  compare(f, "out.run.z", z, 0, Z);
}

// Planner of branch `main`, by the library's own sampler: the start is a known token, padding follows the plan.
static void plan_window(imported *f) {
  const df_config *c = &f->model->config;
  const int fs = c->frame_stack, C = c->field_count, tokens = (int)size(f, "in.run.noise", 0),
            horizon = (int)size(f, "out.run.plan", 0), O = (int)size(f, "in.run.obs", 1);
  const float *obs = floats(f, "in.run.obs"), *noise = floats(f, "in.run.noise");
  df_sampler_options o = df_sampler_defaults();
  o.batch = f->B, o.length = 1 + tokens, o.eta = 0;
  df_sampler *s = NULL;
  if (obs && noise && CHECK_OK(df_sampler_create(&s, f->model, &o, &test_error))) {
    for (int b = 0; b < f->B; b++) {
      float frames[MAX_X];
      for (int i = 0; i < fs * C; i++) frames[i] = obs[b * O + i % C];
      CHECK_OK(df_sampler_keep(s, b, 0, frames, fs, &test_error));
      for (int t = 0; t < tokens; t++)
        CHECK_OK(df_sampler_set_noise(s, b, t + 1, noise + (t * f->B + b) * f->X));
    }
    while (!df_sampler_done(s) && CHECK_OK(df_sampler_step(s, &test_error))) continue;
    const df_sampler_info *info = df_sampler_state(s);
    CHECK_INT(info->row, size(f, "out.run.from", 0));
    for (int b = 0; b < f->B; b++)
      for (int i = 0; i < horizon; i++)
        compare(f, "out.run.plan", info->values + (b * (1 + tokens) * fs + fs + i) * C,
                (i * f->B + b) * C, C);
  }
  df_sampler_free(s);
}

TEST(a_whole_run_is_that_of_the_official_code) {
  imported f;
  if (open(&f)) {
    if (f.N)
      plan_window(&f);
    else if (has(&f, "in.run.obs"))
      plan(&f);
    else
      predict(&f);
  }
  shut(&f);
}
