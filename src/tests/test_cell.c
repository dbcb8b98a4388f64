#include "diffusion/cell.h"
#include "tests/golden_model.h"

// A golden file's model behind a runner.
typedef struct fixture {
  golden_model m;
  df_config config;
  df_cell_runner *runner;
  int B, D, Z, E, K, S;
} fixture;

static bool open(fixture *f, const char *name) {
  *f = (fixture){0};
  if (!golden_model_open(&f->m, name)) return false;
  f->config.network = f->m.network;
  f->config.objective = f->m.objective;
  f->config.K = f->K = f->m.noise.K;
  f->config.clip_noise = f->m.clip_noise;
  f->B = golden_int(f->m.run, "batch");
  f->D = f->m.network.token_size, f->Z = f->m.network.latent_size,
  f->E = f->m.network.condition_size;
  f->S = f->m.S;
  return CHECK_OK(
      df_cell_create(&f->runner, &f->config, &f->m.noise, &f->m.params, f->B, &test_error));
}

static void shut(fixture *f) {
  df_cell_free(f->runner);
  golden_model_close(&f->m);
}

static int level_of_index(const fixture *f, int index) {
  return (int)((int64_t)f->K * (f->S - index) / f->S);
}

// One pass: (B, .) inputs, one level for all. The token is clamped where the reference does it.
static bool run(fixture *f, const float *x, const float *z, const float *cond, int level,
                bool clamp) {
  float *to = df_cell_x(f->runner), clip = f->m.clip_noise;
  for (int i = 0; i < f->B * f->D; i++) to[i] = clamp ? fminf(fmaxf(x[i], -clip), clip) : x[i];
  memcpy(df_cell_z(f->runner), z, (size_t)f->B * (size_t)f->Z * sizeof *z);
  if (f->E) memcpy(df_cell_cond(f->runner), cond, (size_t)f->B * (size_t)f->E * sizeof *cond);
  for (int b = 0; b < f->B; b++) df_cell_level(f->runner)[b] = level;
  return CHECK_OK(df_cell_run(f->runner, f->B, &test_error));
}

static void compare(fixture *f, const char *name, const float *got, size_t offset, int n) {
  float *want = golden_floats(&f->m.g, name);
  DURING("%s at %d", name, (int)offset);
  if (want) CHECK_FLOATS(got, want + offset, n, golden_tolerance(&f->m, name));
}

static const char *const files[] = {"rnn_mlp_plan", "rnn_mlp_pred", "rnn_mlp_gruonly",
                                    "rnn_mlp_nogru"};

static void check_predict(fixture *f, const char *setting) {
  golden *g = &f->m.g;
  float *x = golden_floats(g, "in.x"), *z = golden_floats(g, "in.z"),
        *cond = f->E ? golden_floats(g, "in.external_cond") : NULL;
  int64_t *t = golden_ints(g, "in.t");
  if (!x || !z || !t || (f->E && !cond)) return;
  memcpy(df_cell_x(f->runner), x, (size_t)(f->B * f->D) * sizeof *x);
  memcpy(df_cell_z(f->runner), z, (size_t)(f->B * f->Z) * sizeof *z);
  if (cond) memcpy(df_cell_cond(f->runner), cond, (size_t)(f->B * f->E) * sizeof *cond);
  for (int b = 0; b < f->B; b++) df_cell_level(f->runner)[b] = (int32_t)t[b] + 1;
  if (!CHECK_OK(df_cell_run(f->runner, f->B, &test_error))) return;
  const struct {
    const char *name;
    const float *got;
    int n;
  } results[] = {{"model_out", df_cell_out(f->runner), f->D},
                 {"pred_noise", df_cell_eps(f->runner), f->D},
                 {"pred_x_start", df_cell_x0(f->runner), f->D},
                 {"pred_z", df_cell_z_next(f->runner), f->Z}};
  for (int i = 0; i < COUNT(results); i++) {
    char name[64];
    snprintf(name, sizeof name, "out.%s.%s", setting, results[i].name);
    compare(f, name, results[i].got, 0, f->B * results[i].n);
  }
}

TEST(predictions_are_those_of_the_reference) {
  for (int i = 0; i < COUNT(files); i++) {
    fixture f;
    if (open(&f, files[i])) check_predict(&f, "predict");
    shut(&f);
  }
}

TEST(a_guess_of_the_clean_token_enters_the_network) {
  fixture f;
  if (open(&f, "rnn_mlp_selfcond")) {
    float *guess = golden_floats(&f.m.g, "in.x_self_cond");
    if (guess) memcpy(df_cell_guess(f.runner), guess, (size_t)(f.B * f.D) * sizeof *guess);
    check_predict(&f, "predict_self_cond");
  }
  shut(&f);
}

TEST(shortened_steps_are_those_of_the_reference) {
  for (int file = 0; file < COUNT(files); file++) {
    fixture f;
    if (open(&f, files[file])) {
      golden *g = &f.m.g;
      float *x = golden_floats(g, "in.x"), *z = golden_floats(g, "in.z"),
            *cond = f.E ? golden_floats(g, "in.external_cond") : NULL;
      float *noise = golden_floats(g, "in.ddim.noise");
      int64_t *index = golden_ints(g, "in.ddim.index");
      int N = df_json_at(f.m.run, "ddim_indices")->length;
      for (int n = 0; n < N && x && z && noise && index; n++) {
        int from = level_of_index(&f, (int)index[n]), to = level_of_index(&f, (int)index[n] + 1);
        if (!run(&f, x, z, cond, from, index[n] == 0)) continue;
        size_t row = (size_t)(f.B * f.D);
        compare(&f, "out.ddim.x_start", df_cell_x0(f.runner), (size_t)n * row, (int)row);
        compare(&f, "out.ddim.z_next", df_cell_z_next(f.runner), (size_t)(n * f.B * f.Z),
                f.B * f.Z);
        for (int eta = 0; eta <= 1; eta++) {
          float next[256];
          for (int b = 0; b < f.B; b++)
            df_cell_move(f.runner, b, to, (float)eta, false,
                         noise + (size_t)n * row + (size_t)(b * f.D), next + b * f.D);
          compare(&f, eta ? "out.ddim.eta1.x_next" : "out.ddim.eta0.x_next", next, (size_t)n * row,
                  (int)row);
          float guidance = df_noise_move(&f.m.noise, from, to, (float)eta).guidance;
          compare(&f, eta ? "out.ddim.eta1.guidance_const" : "out.ddim.eta0.guidance_const",
                  &guidance, (size_t)n, 1);
        }
      }
    }
    shut(&f);
  }
}

static void check_rollout(fixture *f, const char *setting, float eta, bool ancestral) {
  golden *g = &f->m.g;
  float *start = golden_floats(g, "in.rollout.x_init"),
        *noise = golden_floats(g, "in.rollout.noise"), *z = golden_floats(g, "in.z");
  float *cond = f->E ? golden_floats(g, "in.external_cond") : NULL;
  char x_all[64], z_name[64];
  snprintf(x_all, sizeof x_all, "out.rollout.%s.x_all", setting);
  snprintf(z_name, sizeof z_name, "out.rollout.%s.z", setting);
  const int row = f->B * f->D;
  float x[256], next[256];
  if (!start || !noise || !z || !CHECK(row <= COUNT(x))) return;
  for (int i = 0; i < row; i++) x[i] = fminf(fmaxf(start[i], -f->m.clip_noise), f->m.clip_noise);
  compare(f, x_all, x, 0, row);
  for (int i = 0; i < f->S; i++) {
    if (!run(f, x, z, cond, level_of_index(f, i), i == 0)) return;
    for (int b = 0; b < f->B; b++) {
      const float *e = i < f->S - 1 ? noise + i * row + b * f->D : NULL;
      df_cell_move(f->runner, b, level_of_index(f, i + 1), eta, ancestral, e, next + b * f->D);
    }
    memcpy(x, next, sizeof x);
    compare(f, x_all, x, (size_t)((i + 1) * row), row);
  }
  compare(f, z_name, df_cell_z_next(f->runner), 0, f->B * f->Z);
}

TEST(whole_rollouts_of_a_token_are_those_of_the_reference) {
  for (int file = 0; file < COUNT(files); file++) {
    fixture f;
    if (open(&f, files[file])) {
      if (f.S < f.K) {
        check_rollout(&f, "eta0", 0, false);
        check_rollout(&f, "eta1", 1, false);
      } else {
        check_rollout(&f, "ancestral", 0, true);
      }
    }
    shut(&f);
  }
}

// ---- Losses: weight times squared difference of the model output and its target ----

static const struct {
  const char *name;
  df_loss_weight weight;
} settings[] = {{"plain", DF_WEIGHT_NONE},
                {"snr", DF_WEIGHT_MIN_SNR},
                {"cum", DF_WEIGHT_CUMULATIVE},
                {"snr_cum", DF_WEIGHT_FUSED_SNR}};

// Noises x (B, D) to a level per sequence, runs, and leaves (o - target)^2 in `squared`.
static bool train_step(fixture *f, const float *x, const float *noise, const float *z,
                       const float *cond, const int32_t *level, float *squared) {
  const df_noise *table = &f->m.noise;
  const float clip = f->m.clip_noise;
  float *noisy = df_cell_x(f->runner);
  for (int i = 0; i < f->B * f->D; i++) {
    int k = level[i / f->D];
    noisy[i] = table->sqrt_abar[k] * x[i] + table->sqrt_1m[k] * fminf(fmaxf(noise[i], -clip), clip);
  }
  memcpy(df_cell_level(f->runner), level, (size_t)f->B * sizeof *level);
  if (df_cell_z(f->runner) != z) memcpy(df_cell_z(f->runner), z, (size_t)(f->B * f->Z) * sizeof *z);
  if (f->E) memcpy(df_cell_cond(f->runner), cond, (size_t)(f->B * f->E) * sizeof *cond);
  if (!CHECK_OK(df_cell_run(f->runner, f->B, &test_error))) return false;
  const float *o = df_cell_out(f->runner);
  for (int i = 0; i < f->B * f->D; i++) {
    int k = level[i / f->D];
    float e = fminf(fmaxf(noise[i], -clip), clip);
    float target = f->m.objective == DF_PREDICT_NOISE ? e
                   : f->m.objective == DF_PREDICT_X0
                       ? x[i]
                       : table->sqrt_abar[k] * e - table->sqrt_1m[k] * x[i];
    squared[i] = (o[i] - target) * (o[i] - target);
  }
  return true;
}

TEST(losses_of_a_sequence_are_those_of_the_reference) {
  for (int file = 0; file < COUNT(files); file++) {
    fixture f;
    if (open(&f, files[file])) {
      golden *g = &f.m.g;
      float *x = golden_floats(g, "in.train.x"), *noise = golden_floats(g, "in.train.noise"),
            *z0 = golden_floats(g, "in.train.z0");
      float *cond = f.E ? golden_floats(g, "in.train.external_cond") : NULL, squared[16][256],
            z[1024];
      int64_t *t = golden_ints(g, "in.train.t");
      const int T = golden_int(f.m.run, "frames"), row = f.B * f.D;
      int32_t level[16][16];
      bool fits = CHECK(T <= 16 && f.B <= 16 && row <= 256 && f.B * f.Z <= COUNT(z));
      if (fits && x && noise && z0 && t) {
        memcpy(z, z0, (size_t)(f.B * f.Z) * sizeof *z);
        for (int i = 0; i < T; i++) {
          for (int b = 0; b < f.B; b++) level[i][b] = (int32_t)t[i * f.B + b] + 1;
          if (!train_step(&f, x + i * row, noise + i * row, z, cond ? cond + i * f.B * f.E : NULL,
                          level[i], squared[i]))
            break;
          memcpy(z, df_cell_z_next(f.runner), (size_t)(f.B * f.Z) * sizeof *z);
          compare(&f, "out.train.z", z, (size_t)(i * f.B * f.Z), f.B * f.Z);
          compare(&f, "out.train.x_pred", df_cell_x0(f.runner), (size_t)(i * row), row);
        }
        const float clip = (float)golden_number(f.m.diffusion, "snr_clip"),
                    decay = (float)golden_number(f.m.diffusion, "cum_snr_decay");
        for (int s = 0; s < COUNT(settings); s++) {
          char name[64];
          snprintf(name, sizeof name, "out.train.%s.loss", settings[s].name);
          if (!df_safetensors_find(&g->file, name)) continue;
          float loss[16][256];
          for (int b = 0; b < f.B; b++) {
            int32_t levels[16];
            float weights[16];
            for (int i = 0; i < T; i++) levels[i] = level[i][b];
            df_loss_weights(&f.m.noise, settings[s].weight, f.m.objective, clip, decay, levels, T,
                            weights);
            for (int i = 0; i < T; i++)
              for (int j = b * f.D; j < (b + 1) * f.D; j++) loss[i][j] = weights[i] * squared[i][j];
          }
          for (int i = 0; i < T; i++) compare(&f, name, loss[i], (size_t)(i * row), row);
        }
      }
    }
    shut(&f);
  }
}

TEST(steps_at_a_given_level_are_those_of_the_reference) {
  for (int file = 0; file < COUNT(files); file++) {
    fixture f;
    if (open(&f, files[file])) {
      golden *g = &f.m.g;
      float *x = golden_floats(g, "in.train.x"), *noise = golden_floats(g, "in.given_level.noise"),
            *z0 = golden_floats(g, "in.train.z0");
      float *cond = f.E ? golden_floats(g, "in.external_cond") : NULL, squared[256];
      const struct {
        const char *name;
        int t;
      } given[] = {{"zero", 0}, {"half", (int)lrint(0.5 * (f.K - 1))}, {"last", f.K - 1}};
      for (int i = 0; i < COUNT(given) && x && noise && z0; i++) {
        int32_t level[16];
        float weight;
        for (int b = 0; b < f.B; b++) level[b] = given[i].t + 1;
        if (!train_step(&f, x, noise, z0, cond, level, squared)) continue;
        df_loss_weights(&f.m.noise, DF_WEIGHT_NONE, f.m.objective,
                        (float)golden_number(f.m.diffusion, "snr_clip"), 0, level, 1, &weight);
        for (int j = 0; j < f.B * f.D; j++) squared[j] *= weight;
        char name[64];
        snprintf(name, sizeof name, "out.given_level.%s.z_next", given[i].name);
        compare(&f, name, df_cell_z_next(f.runner), 0, f.B * f.Z);
        snprintf(name, sizeof name, "out.given_level.%s.x_pred", given[i].name);
        compare(&f, name, df_cell_x0(f.runner), 0, f.B * f.D);
        snprintf(name, sizeof name, "out.given_level.%s.loss", given[i].name);
        compare(&f, name, squared, 0, f.B * f.D);
      }
    }
    shut(&f);
  }
}
