#include "base/random.h"
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
  return CHECK_OK(df_cell_create(&f->runner, &f->config, &f->m.noise, &f->m.params,
                                 &(df_cell_options){.cells = f->B, .threads = 1}, &test_error));
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
  for (int i = 0; i < f->B * f->D; i++) to[i] = clamp ? df_clip(x[i], clip) : x[i];
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
  for (int i = 0; i < row; i++) x[i] = df_clip(start[i], f->m.clip_noise);
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
    noisy[i] = table->sqrt_abar[k] * x[i] + table->sqrt_1m[k] * df_clip(noise[i], clip);
  }
  memcpy(df_cell_level(f->runner), level, (size_t)f->B * sizeof *level);
  if (df_cell_z(f->runner) != z) memcpy(df_cell_z(f->runner), z, (size_t)(f->B * f->Z) * sizeof *z);
  if (f->E) memcpy(df_cell_cond(f->runner), cond, (size_t)(f->B * f->E) * sizeof *cond);
  if (!CHECK_OK(df_cell_run(f->runner, f->B, &test_error))) return false;
  const float *o = df_cell_out(f->runner);
  for (int i = 0; i < f->B * f->D; i++) {
    int k = level[i / f->D];
    float e = df_clip(noise[i], clip);
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

// ---- Whole sequences, in the reference's order ----
//
// The published loop steps every token in every row: one that waits is stepped with index 0 again
// and again, and one that is finished with the last index. The library's sampler does neither; here
// the cells are called as published.

enum { MAX_B = 4, MAX_H = 16, MAX_D = 64, MAX_Z = 64 };

typedef struct sequences {
  fixture f;
  int n, C, fs, context;   // frames, entries of a frame, frames of a token, context tokens
  const float *mean, *std; // (C)
  const float *xs, *cond;  // (B, n, C), (B, n, E / fs)
  float z[MAX_B * MAX_Z];  // latent where the next chunk starts
  float pred[1024];        // xs_pred (n, B, C), un-normalised
} sequences;

static bool open_sequences(sequences *s, const char *name) {
  *s = (sequences){0};
  if (!open(&s->f, name)) return false;
  golden *g = &s->f.m.g;
  const df_view *xs = golden_view(g, "in.xs");
  if (!xs) return false;
  s->n = (int)xs->shape[1], s->C = (int)xs->shape[2], s->fs = s->f.m.frame_stack;
  s->context = golden_int(s->f.m.run, "context_tokens");
  s->xs = golden_floats(g, "in.xs");
  s->mean = golden_floats(g, "weights.data_mean"), s->std = golden_floats(g, "weights.data_std");
  s->cond = s->f.E ? golden_floats(g, "in.conditions") : NULL;
  return s->xs && s->mean && s->std &&
         CHECK(s->f.B <= MAX_B && s->f.D <= MAX_D && s->f.Z <= MAX_Z) &&
         CHECK(s->n * s->f.B * s->C <= COUNT(s->pred));
}

// Conditions (B, E) of a token; those of the very first frame are zeros.
static const float *conditions(const sequences *s, int token, float *out) {
  const int e = s->f.E / s->fs;
  for (int b = 0; b < s->f.B; b++)
    for (int i = 0; i < s->fs; i++)
      for (int j = 0; j < e; j++) {
        int frame = token * s->fs + i;
        out[b * s->f.E + i * e + j] = frame ? s->cond[(b * s->n + frame) * e + j] : 0;
      }
  return out;
}

// Tokens (B, D), normalised, into the frames of xs_pred.
static void keep_frames(sequences *s, int token, const float *x) {
  for (int b = 0; b < s->f.B; b++)
    for (int i = 0; i < s->fs; i++)
      for (int j = 0; j < s->C; j++)
        s->pred[((token * s->fs + i) * s->f.B + b) * s->C + j] =
            x[b * s->f.D + i * s->C + j] * s->std[j] + s->mean[j];
}

// Each context token is a training step with the least noisy level.
static bool run_context(sequences *s, bool compare_it) {
  fixture *f = &s->f;
  float *noise = golden_floats(&f->m.g, "in.context.noise"), x[MAX_B * MAX_D], cond[MAX_B * MAX_D],
        unused[MAX_B * MAX_D];
  if (!noise || !CHECK_OK(df_cell_initial(f->runner, f->B, NULL, s->z, &test_error))) return false;
  for (int t = 0; t < s->context; t++) {
    for (int b = 0; b < f->B; b++)
      for (int i = 0; i < f->D; i++) {
        int frame = t * s->fs + i / s->C, j = i % s->C;
        x[b * f->D + i] = (s->xs[(b * s->n + frame) * s->C + j] - s->mean[j]) / s->std[j];
      }
    const int32_t level[MAX_B] = {1, 1, 1, 1};
    if (!train_step(f, x, noise + t * f->B * f->D, s->z, s->cond ? conditions(s, t, cond) : NULL,
                    level, unused))
      return false;
    memcpy(s->z, df_cell_z_next(f->runner), (size_t)(f->B * f->Z) * sizeof *s->z);
    keep_frames(s, t, df_cell_x0(f->runner));
    if (!compare_it) continue;
    compare(f, "out.context.z", s->z, (size_t)(t * f->B * f->Z), f->B * f->Z);
    compare(f, "out.context.x_pred", df_cell_x0(f->runner), (size_t)(t * f->B * f->D), f->B * f->D);
  }
  return true;
}

// One chunk of H tokens behind `first` tokens.
static bool run_chunk(sequences *s, const char *tag, int chunk, int first, int H, double u,
                      float eta) {
  fixture *f = &s->f;
  const int row = f->B * f->D, latents = f->B * f->Z;
  char name[96], x_name[96], z_name[96];
  snprintf(name, sizeof name, "in.chunk%d.noise", chunk);
  const float *start = golden_floats(&f->m.g, name), *noise = NULL;
  snprintf(name, sizeof name, "in.%s.chunk%d.step_noise", tag, chunk);
  if (eta > 0) noise = golden_floats(&f->m.g, name);
  snprintf(name, sizeof name, "out.%s.chunk%d.index", tag, chunk);
  const int64_t *index = golden_ints(&f->m.g, name);
  snprintf(x_name, sizeof x_name, "out.%s.chunk%d.x", tag, chunk);
  snprintf(z_name, sizeof z_name, "out.%s.chunk%d.z", tag, chunk);
  const df_view *shape = golden_view(&f->m.g, x_name);
  if (!start || !index || !shape || (eta > 0 && !noise) || !CHECK(H <= MAX_H)) return false;
  const int M = (int)shape->shape[0];
  CHECK_INT(M, f->S + (int)(H * u));

  float x[MAX_H][MAX_B * MAX_D], z[MAX_B * MAX_Z], all_z[MAX_H][MAX_B * MAX_Z], cond[MAX_B * MAX_D];
  for (int t = 0; t < H; t++) memcpy(x[t], start + t * row, (size_t)row * sizeof(float));
  for (int m = 0; m < M; m++) {
    memcpy(z, s->z, sizeof z);
    for (int t = 0; t < H; t++) {
      // index = steps made, cut to the range of a step
      int made = f->S - df_levels_at(DF_PYRAMID, H, f->S, u, m, t),
          i = made < f->S ? made : f->S - 1;
      CHECK_INT(i, index[m * H + t]);
      if (!run(f, x[t], z, s->cond ? conditions(s, first + t, cond) : NULL, level_of_index(f, i),
               i == 0))
        return false;
      for (int b = 0; b < f->B; b++)
        df_cell_move(f->runner, b, level_of_index(f, i + 1), eta, false,
                     noise ? noise + (m * H + t) * row + b * f->D : NULL, x[t] + b * f->D);
      memcpy(z, df_cell_z_next(f->runner), (size_t)latents * sizeof *z);
      memcpy(all_z[t], z, sizeof z);
    }
    for (int t = 0; t < H; t++) {
      compare(f, x_name, x[t], (size_t)((m * H + t) * row), row);
      compare(f, z_name, all_z[t], (size_t)((m * H + t) * latents), latents);
    }
  }
  for (int t = 0; t < H; t++) keep_frames(s, first + t, x[t]);
  memcpy(s->z, z, sizeof z);
  return true;
}

TEST(sampled_sequences_are_those_of_the_reference) {
  const char *names[] = {"rnn_pyramid_sampling", "rnn_pyramid_sampling_chunks"};
  for (int i = 0; i < COUNT(names); i++) {
    sequences s;
    if (open_sequences(&s, names[i])) {
      const df_json *runs = df_json_at(s.f.m.run, "runs"),
                    *chunks = df_json_at(s.f.m.run, "chunk_tokens");
      CHECK(runs && runs->length > 0);
      for (const df_json *r = runs ? runs->first : NULL; r; r = r->next) {
        const char *tag = "";
        double u = 0, eta = 0;
        CHECK_OK(df_json_get_string(r, "tag", &tag, &test_error));
        CHECK_OK(df_json_get_number(r, "uncertainty_scale", &u, &test_error));
        CHECK_OK(df_json_get_number(r, "eta", &eta, &test_error));
        if (!run_context(&s, r == runs->first)) break;
        int first = s.context, chunk = 0;
        for (const df_json *c = chunks->first; c; c = c->next, chunk++) {
          if (!run_chunk(&s, tag, chunk, first, (int)c->number, u, (float)eta)) break;
          first += (int)c->number;
        }
        char name[64];
        snprintf(name, sizeof name, "out.%s.xs_pred", tag);
        compare(&s.f, name, s.pred, 0, s.n * s.f.B * s.C);
      }
    }
    shut(&s.f);
  }
}

// ---- Without the reference ----

TEST(a_clean_cell_is_its_own_estimate_and_enters_at_the_least_noisy_index) {
  fixture f;
  if (open(&f, "rnn_mlp_gruonly")) {
    float *x = golden_floats(&f.m.g, "in.x"), *z = golden_floats(&f.m.g, "in.z"), latent[256],
          next[64];
    if (x && z && run(&f, x, z, NULL, 1, false)) {
      memcpy(latent, df_cell_z_next(f.runner), (size_t)(f.B * f.Z) * sizeof *latent);
      run(&f, x, z, NULL, 0, false);
      CHECK_FLOATS(latent, df_cell_z_next(f.runner), f.B * f.Z, 0);
      CHECK_FLOATS(df_cell_x0(f.runner), x, f.B * f.D, 0);
      df_cell_move(f.runner, 0, 0, 1, false, NULL, next);
      CHECK_FLOATS(next, x, f.D, 0);
    }
  }
  shut(&f);
}

TEST(a_run_allocates_nothing_and_a_cell_does_not_depend_on_the_others) {
  fixture f;
  if (open(&f, "rnn_mlp_pred")) {
    float *x = golden_floats(&f.m.g, "in.x"), *z = golden_floats(&f.m.g, "in.z"),
          *cond = golden_floats(&f.m.g, "in.external_cond");
    if (x && z && cond) {
      size_t before = df_alloc_count();
      run(&f, x, z, cond, 500, false);
      CHECK_INT(df_alloc_count(), before);
      float all[64], latent[256];
      memcpy(all, df_cell_x0(f.runner), (size_t)(f.B * f.D) * sizeof *all);
      memcpy(latent, df_cell_z_next(f.runner), (size_t)(f.B * f.Z) * sizeof *latent);
      for (int b = 0; b < f.B; b++) { // alone, in the first place
        memcpy(df_cell_x(f.runner), x + b * f.D, (size_t)f.D * sizeof *x);
        memcpy(df_cell_z(f.runner), z + b * f.Z, (size_t)f.Z * sizeof *z);
        memcpy(df_cell_cond(f.runner), cond + b * f.E, (size_t)f.E * sizeof *cond);
        CHECK_OK(df_cell_run(f.runner, 1, &test_error));
        CHECK_FLOATS(df_cell_x0(f.runner), all + b * f.D, f.D, 0);
        CHECK_FLOATS(df_cell_z_next(f.runner), latent + b * f.Z, f.Z, 0);
      }
    }
  }
  shut(&f);
}

TEST(a_runner_refuses_what_it_cannot_do) {
  fixture f;
  if (open(&f, "rnn_mlp_gruonly")) {
    df_cell_runner *other;
    float logit;
    CHECK_STATUS(df_cell_create(&other, &f.config, &f.m.noise, &f.m.params,
                                &(df_cell_options){.cells = 0, .threads = 1}, &test_error),
                 DF_BAD_ARGUMENT);
    CHECK_STATUS(df_cell_run(f.runner, 0, &test_error), DF_BAD_ARGUMENT);
    CHECK_STATUS(df_cell_run(f.runner, f.B + 1, &test_error), DF_BAD_ARGUMENT);
    CHECK_STATUS(df_cell_first_stop(f.runner, &logit, &logit, &test_error), DF_NOT_SUPPORTED);
    CHECK(df_cell_stop(f.runner) == NULL && df_cell_cond(f.runner) == NULL &&
          df_cell_guess(f.runner) == NULL);
    CHECK_WITHOUT_MEMORY(df_cell_create(&other, &f.config, &f.m.noise, &f.m.params,
                                        &(df_cell_options){.cells = 7, .threads = 1}, &test_error));
    CHECK(df_cell_bytes(other) > 0);
    df_cell_free(other);
    // A network that was declared with other sizes.
    f.config.network.token_size++;
    CHECK_STATUS(df_cell_create(&other, &f.config, &f.m.noise, &f.m.params,
                                &(df_cell_options){.cells = 1, .threads = 1}, &test_error),
                 DF_BAD_SHAPE);
  }
  shut(&f);
}

TEST(a_runner_with_8_bits_is_close_to_one_with_32) {
  enum { N = 7, Z = 192, D = 6 };
  df_config config = {.network = {.denoiser = &df_denoiser_rnn,
                                  .token_size = D,
                                  .latent_size = Z,
                                  .network_size = 16,
                                  .hidden_size = 160,
                                  .mlp_layers = 2,
                                  .gru_layers = 1},
                      .objective = DF_PREDICT_X0,
                      .K = 10,
                      .clip_noise = 20};
  df_noise noise;
  df_params params = {0};
  df_cell_runner *runners[DF_WEIGHTS_COUNT] = {NULL};
  CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 10, &test_error));
  CHECK_OK(df_network_declare(&config.network, &params, &test_error));
  df_params_init(&params, 3);
  for (int w = 0; w < DF_WEIGHTS_COUNT; w++) {
    df_cell_runner **r = &runners[w];
    REQUIRE(CHECK_OK(df_cell_create(
        r, &config, &noise, &params,
        &(df_cell_options){.cells = N, .threads = 1, .weights = (df_weights)w}, &test_error)));
    const df_random at = {.seed = 4, .purpose = DF_RANDOM_TEST};
    df_random_normal(&at, N * D, df_cell_x(*r));
    df_random_normal(&at, N * Z, df_cell_z(*r));
    for (int i = 0; i < N; i++) df_cell_level(*r)[i] = 1 + i;
    CHECK_OK(df_cell_run(*r, N, &test_error));
  }
  df_cell_runner *full = runners[DF_WEIGHTS_F32], *bytes = runners[DF_WEIGHTS_INT8];
  CHECK(df_cell_weight_bytes(bytes) < 0.3 * (double)df_cell_weight_bytes(full));
  double difference = 0, size = 0;
  for (int i = 0; i < N * Z; i++) {
    const double a = df_cell_z_next(full)[i], b = df_cell_z_next(bytes)[i];
    difference += (a - b) * (a - b);
    size += a * a;
  }
  CHECK(sqrt(difference / size) < 0.01 && difference > 0);
  df_cell_x(bytes)[2 * D] = NAN; // shows in its cell and in no other
  float before[N * D];
  memcpy(before, df_cell_out(bytes), sizeof before);
  CHECK_OK(df_cell_run(bytes, N, &test_error));
  for (int i = 0; i < N * D; i++)
    CHECK(i / D == 2 ? isnan(df_cell_out(bytes)[i]) : df_cell_out(bytes)[i] == before[i]);
  for (int w = 0; w < DF_WEIGHTS_COUNT; w++) df_cell_free(runners[w]);
  df_params_free(&params);
  df_noise_free(&noise);
}

// Tokens in a row are single runs that hand on the latent, sequences side by side.
TEST(unrolled_tokens_are_runs_in_a_row) {
  enum { B = 3, T = 4, D = 2, E = 3, Z = 8 };
  df_config config = {.network = {.denoiser = &df_denoiser_rnn,
                                  .token_size = D,
                                  .latent_size = Z,
                                  .network_size = 4,
                                  .hidden_size = 8,
                                  .mlp_layers = 1,
                                  .gru_layers = 2,
                                  .condition_size = E,
                                  .self_condition = true},
                      .objective = DF_PREDICT_NOISE,
                      .K = 30,
                      .clip_noise = 20};
  df_noise noise;
  df_params params = {0};
  df_cell_runner *runner = NULL;
  CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 30, &test_error));
  CHECK_OK(df_network_declare(&config.network, &params, &test_error));
  df_params_init(&params, 5);
  float x[B * T * D], cond[B * T * E], guess[B * T * D], z0[B * Z], out[B * T * D], z[B * T * Z];
  int32_t level[B * T];
  df_random at = {.seed = 2, .purpose = DF_RANDOM_TEST};
  df_random_normal(&at, B * T * D, x), at.token++;
  df_random_normal(&at, B * T * E, cond), at.token++;
  df_random_normal(&at, B * T * D, guess), at.token++;
  df_random_normal(&at, B * Z, z0);
  for (int i = 0; i < B * T; i++) level[i] = 1 + 11 * i % 30;
  const df_cell_tokens in = {.x = x, .level = level, .cond = cond, .guess = guess, .z0 = z0};
  if (CHECK_OK(df_cell_create(&runner, &config, &noise, &params,
                              &(df_cell_options){.cells = B, .threads = 1}, &test_error))) {
    CHECK_OK(df_cell_unroll(runner, B, T, &in, out, z, &test_error));
    for (int b = 0; b < B; b++)
      for (int t = 0; t < T; t++) {
        const int i = b * T + t;
        DURING("sequence %d, token %d", b, t);
        memcpy(df_cell_x(runner), x + i * D, D * sizeof *x);
        memcpy(df_cell_cond(runner), cond + i * E, E * sizeof *cond);
        memcpy(df_cell_guess(runner), guess + i * D, D * sizeof *guess);
        memcpy(df_cell_z(runner), t ? z + (i - 1) * Z : z0 + b * Z, Z * sizeof *z);
        df_cell_level(runner)[0] = level[i];
        CHECK_OK(df_cell_run(runner, 1, &test_error));
        CHECK_FLOATS(df_cell_out(runner), out + i * D, D, 0);
        CHECK_FLOATS(df_cell_z_next(runner), z + i * Z, Z, 0);
      }
    CHECK_STATUS(df_cell_unroll(runner, B + 1, 1, &in, out, z, &test_error), DF_BAD_ARGUMENT);
  }
  df_cell_free(runner);
  df_params_free(&params);
  df_noise_free(&noise);
}

// The stop head reads the latent: the logit before the first token comes from z0, the one after a
// token from its latent.
TEST(the_stop_head_reads_the_latent) {
  df_config config = {.network = {.denoiser = &df_denoiser_rnn,
                                  .token_size = 3,
                                  .latent_size = 8,
                                  .network_size = 4,
                                  .hidden_size = 8,
                                  .mlp_layers = 1,
                                  .gru_layers = 1,
                                  .stop_head = true,
                                  .initial = DF_INITIAL_LEARNED},
                      .objective = DF_PREDICT_X0,
                      .K = 10,
                      .clip_noise = 20};
  df_noise noise;
  df_params params = {0};
  df_cell_runner *runner = NULL;
  CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 10, &test_error));
  CHECK_OK(df_network_declare(&config.network, &params, &test_error));
  df_params_init(&params, 3);
  if (CHECK_OK(df_cell_create(&runner, &config, &noise, &params,
                              &(df_cell_options){.cells = 2, .threads = 1}, &test_error))) {
    float z0[16], logit, want;
    CHECK_OK(df_cell_initial(runner, 2, NULL, z0, &test_error));
    df_param *vector = df_params_find(&params, "init_z"),
             *w = df_params_find(&params, "stop.weight"),
             *bias = df_params_find(&params, "stop.bias");
    if (CHECK(vector && w && bias)) {
      CHECK_FLOATS(z0, vector->value, 8, 0);
      CHECK_FLOATS(z0 + 8, vector->value, 8, 0);
      CHECK_OK(df_cell_first_stop(runner, z0, &logit, &test_error));
      want = bias->value[0];
      for (int i = 0; i < 8; i++) want += w->value[i] * z0[i];
      CHECK_NEAR(logit, want, 1e-5);
      memcpy(df_cell_z(runner), z0, sizeof z0);
      df_cell_level(runner)[0] = df_cell_level(runner)[1] = 5;
      CHECK_OK(df_cell_run(runner, 2, &test_error));
      for (int b = 0; b < 2; b++) {
        want = bias->value[0];
        for (int i = 0; i < 8; i++) want += w->value[i] * df_cell_z_next(runner)[b * 8 + i];
        CHECK_NEAR(df_cell_stop(runner)[b], want, 1e-5);
      }
    }
  }
  df_cell_free(runner);
  df_params_free(&params);
  df_noise_free(&noise);
}
