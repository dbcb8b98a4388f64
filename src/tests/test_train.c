// The trainer: the loss and its gradient against the reference code, and runs on a small made-up set.
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "diffusion/sampler.h"
#include "tests/golden_model.h"
#include "train/internal.h"

// ---- Numbers of the reference code ----

static df_config golden_config(const golden_model *m) {
  return (df_config){.network = m->network,
                     .objective = m->objective,
                     .K = m->noise.K,
                     .clip_noise = m->clip_noise,
                     .frame_stack = m->frame_stack};
}

// Frames as the algorithm of the file normalises them. prefixes: "data", or "observation" and "action".
static df_field *golden_fields(golden_model *m, const char *const *prefixes, int count,
                               int *fields) {
  df_field *field = df_arena_alloc(&m->g.arena, 32 * sizeof *field);
  *fields = 0;
  for (int i = 0; i < count; i++) {
    char mean_key[64], std_key[64];
    snprintf(mean_key, sizeof mean_key, "%s_mean", prefixes[i]);
    snprintf(std_key, sizeof std_key, "%s_std", prefixes[i]);
    const df_json *mean = df_json_at(m->algorithm, mean_key),
                  *std = df_json_at(m->algorithm, std_key);
    for (int j = 0; mean && std && j < mean->length; j++)
      field[(*fields)++] = (df_field){.name = prefixes[i],
                                      .mean = (float)df_json_item(mean, j)->number,
                                      .std = (float)df_json_item(std, j)->number};
  }
  CHECK(*fields > 0);
  return field;
}

static double largest_gradient(golden_model *m) {
  double most = 0;
  for (int i = 0; i < m->g.file.count; i++) {
    const df_view *v = &m->g.file.views[i];
    if (strncmp(v->name, "grad.", 5)) continue;
    for (size_t j = 0; j < v->count; j++) {
      float x;
      df_view_floats(v, j, 1, &x);
      most = fmax(most, fabs(x));
    }
  }
  return most;
}

// Compares with "grad<name>", or with what stands in its place if that is too big for the file.
static void check_gradient(golden_model *m, const char *name, const float *gradient, size_t n,
                           double largest) {
  char text[256];
  snprintf(text, sizeof text, "grad.%s", name);
  if (df_safetensors_find(&m->g.file, text)) {
    DURING("%s", text);
    const float *want = golden_floats(&m->g, text);
    CHECK_FLOATS(gradient, want, (long)n, golden_tolerance(m, text) + 1e-6 * largest);
    return;
  }
  snprintf(text, sizeof text, "gradpick.%s", name);
  const df_view *v = golden_view(&m->g, text);
  const float *want = golden_floats(&m->g, text);
  if (!want) return;
  DURING("%s", text);
  double tolerance = golden_tolerance(m, text) + 1e-6 * largest, sum = 0, squares = 0;
  for (size_t j = 0; j < v->count; j++) CHECK_NEAR(gradient[j * n / v->count], want[j], tolerance);
  for (size_t i = 0; i < n; i++) {
    sum += gradient[i];
    squares += (double)gradient[i] * gradient[i];
  }
  snprintf(text, sizeof text, "gradstat.%s", name);
  const df_view *stat = golden_view(&m->g, text);
  double both[2];
  if (!stat || !CHECK_INT(stat->dtype, DF_F64)) return;
  memcpy(both, stat->data, sizeof both);
  DURING("%s", text);
  CHECK_NEAR(sum, both[0], tolerance * sqrt((double)n) * 4);
  CHECK_NEAR(squares, both[1], 2 * tolerance * sqrt(both[1] * (double)n));
}

// Fills one token of a sequence; weight multiplies the loss weight.
static void fill_token(df_loss *l, const df_config *c, const df_noise *noise, int t, int b,
                       int level, const float *clean, const float *eps, const float *weight) {
  int D = c->network.token_size;
  df_noise_token(noise, c, level, clean, eps, l->x[t] + b * D, l->target[t] + b * D);
  l->level[t][b] = (float)df_network_level(level);
  memcpy(l->weight[t] + b * D, weight, (size_t)D * sizeof(float));
}

static df_loss_weight weight_of(bool snr, bool cumulative) {
  return snr          ? cumulative ? DF_WEIGHT_FUSED_SNR : DF_WEIGHT_MIN_SNR
         : cumulative ? DF_WEIGHT_CUMULATIVE
                      : DF_WEIGHT_NONE;
}

TEST(training_steps_in_a_row_have_the_losses_and_gradients_of_the_reference) {
  static const char *const files[] = {"rnn_mlp_plan", "rnn_mlp_pred", "rnn_mlp_gruonly",
                                      "rnn_mlp_nogru"};
  static const char *const settings[] = {"plain", "snr", "cum", "snr_cum"};
  for (int f = 0; f < COUNT(files); f++) {
    golden_model m;
    df_loss *l = NULL;
    DURING("%s", files[f]);
    if (!golden_model_open(&m, files[f])) {
      golden_model_close(&m);
      continue;
    }
    df_config c = golden_config(&m);
    int T = golden_int(m.run, "frames"), B = golden_int(m.run, "batch"), D = c.network.token_size;
    int Z = c.network.latent_size, E = c.network.condition_size;
    const float *x = golden_floats(&m.g, "in.train.x"),
                *eps = golden_floats(&m.g, "in.train.noise");
    const float *z0 = golden_floats(&m.g, "in.train.z0");
    const float *cond = E ? golden_floats(&m.g, "in.train.external_cond") : NULL;
    const int64_t *level = golden_ints(&m.g, "in.train.t");
    float *gradient = df_arena_alloc(&m.g.arena, m.params.size * sizeof(float));
    float *x0 = df_arena_alloc(&m.g.arena, (size_t)D * sizeof(float)),
          *unused = df_arena_alloc(&m.g.arena, (size_t)D * sizeof(float));
    double largest = largest_gradient(&m);
    if (x && eps && z0 && level && (!E || cond) &&
        CHECK_OK(df_loss_create(&l, DF_LOSS_TEST, DF_MODE_INDEPENDENT, &c, &m.params, T, B, true,
                                &test_error)))
      for (int s = 0; s < COUNT(settings); s++) {
        char name[256];
        df_loss_weight kind = weight_of(s & 1, s & 2);
        float *weights = df_arena_alloc(&m.g.arena, (size_t)(T * B) * sizeof(float));
        df_loss_clear(l, &c.network, B);
        memcpy(l->latent, z0, (size_t)(B * Z) * sizeof(float));
        for (int b = 0; b < B; b++) {
          int32_t levels[64];
          float of_token[64], w[64];
          for (int t = 0; t < T; t++) levels[t] = (int32_t)level[t * B + b] + 1;
          df_loss_weights(&m.noise, kind, c.objective,
                          (float)golden_number(m.diffusion, "snr_clip"),
                          (float)golden_number(m.diffusion, "cum_snr_decay"), levels, T, of_token);
          for (int t = 0; t < T; t++) {
            weights[t * B + b] = of_token[t];
            for (int j = 0; j < D; j++) w[j] = of_token[t] / (float)(T * B * D);
            size_t at = (size_t)(t * B + b);
            fill_token(l, &c, &m.noise, t, b, levels[t], x + at * D, eps + at * D, w);
            if (E) memcpy(l->cond[t] + b * E, cond + at * E, (size_t)E * sizeof(float));
          }
        }
        CHECK_OK(df_loss_run(l, B, gradient, &test_error));
        snprintf(name, sizeof name, "out.train.%s.mean", settings[s]);
        const float *mean = golden_floats(&m.g, name);
        DURING("%s of %s", name, files[f]);
        if (mean) CHECK_NEAR(l->loss[0], mean[0], golden_tolerance(&m, name));
        snprintf(name, sizeof name, "out.train.%s.loss", settings[s]);
        const float *loss = golden_floats(&m.g, name),
                    *x_pred = golden_floats(&m.g, "out.train.x_pred");
        const float *z = golden_floats(&m.g, "out.train.z");
        for (int t = 0; loss && x_pred && z && t < T; t++) {
          DURING("%s of %s", name, files[f]);
          CHECK_FLOATS(l->z[t], z + t * B * Z, B * Z, golden_tolerance(&m, "out.train.z"));
          for (int b = 0; b < B; b++) {
            int at = (t * B + b) * D;
            df_predict(&m.noise, c.objective, c.clip_noise, (int)level[t * B + b] + 1, D,
                       l->x[t] + b * D, l->out[t] + b * D, x0, unused);
            CHECK_FLOATS(x0, x_pred + at, D, golden_tolerance(&m, "out.train.x_pred"));
            for (int j = 0; j < D; j++) {
              float d = l->out[t][b * D + j] - l->target[t][b * D + j];
              CHECK_NEAR(weights[t * B + b] * d * d, loss[at + j], golden_tolerance(&m, name));
            }
          }
        }
        const df_json *wanted = df_json_at(m.run, "grad_settings");
        bool has = false;
        for (int i = 0; wanted && i < wanted->length; i++)
          has = has || !strcmp(df_json_item(wanted, i)->string, settings[s]);
        if (!has) continue;
        for (int i = 0; i < m.params.count; i++) {
          const df_param *p = m.params.items[i];
          snprintf(name, sizeof name, "%s.weights.%s", settings[s], p->name);
          check_gradient(&m, name, gradient + p->offset, (size_t)p->rows * (size_t)p->cols,
                         largest);
        }
        snprintf(name, sizeof name, "%s.in.z0", settings[s]);
        check_gradient(&m, name, l->latent_grad, (size_t)(B * Z), largest);
      }
    df_loss_free(l);
    golden_model_close(&m);
  }
}

TEST(the_loss_of_a_window_and_its_gradient_are_those_of_the_reference) {
  golden_model m;
  if (golden_model_open(&m, "main_loss_vector")) {
    df_config c = golden_config(&m);
    const int T = golden_int(m.run, "frames"), B = golden_int(m.run, "batch"),
              D = c.network.token_size;
    const float *x = golden_floats(&m.g, "in.x"), *eps = golden_floats(&m.g, "in.noise");
    const int64_t *level = golden_ints(&m.g, "in.noise_levels");
    float *gradient = df_arena_alloc(&m.g.arena, m.params.size * sizeof(float));
    const double largest = largest_gradient(&m);
    int compared = 0;
    REQUIRE(x && eps && level && gradient);
    for (int s = 0; s < 2 * DF_OBJECTIVES; s++) {
      static const char *const objectives[DF_OBJECTIVES] = {"pred_noise", "pred_x0", "pred_v"};
      const bool fused = s % 2;
      char setting[32], name[256];
      df_loss *l = NULL;
      float weights[64], x0[64], unused[64];
      c.objective = (df_objective)(s / 2);
      snprintf(setting, sizeof setting, "%s.%s", objectives[s / 2], fused ? "fused" : "single");
      DURING("%s", setting);
      if (!CHECK_OK(df_loss_create(&l, DF_LOSS_TEST, DF_MODE_INDEPENDENT, &c, &m.params, T, B,
                                   false, &test_error)))
        continue;
      df_loss_clear(l, &c.network, B);
      for (int b = 0; b < B; b++) {
        int32_t levels[16];
        float of_token[16], w[64];
        for (int t = 0; t < T; t++) levels[t] = (int32_t)level[t * B + b] + 1;
        df_loss_weights(&m.noise, fused ? DF_WEIGHT_FUSED_SNR : DF_WEIGHT_MIN_SNR, c.objective,
                        (float)golden_number(m.diffusion, "snr_clip"),
                        (float)golden_number(m.diffusion, "cum_snr_decay"), levels, T, of_token);
        for (int t = 0; t < T; t++) {
          const size_t at = (size_t)(t * B + b) * (size_t)D;
          weights[t * B + b] = of_token[t];
          for (int j = 0; j < D; j++) w[j] = of_token[t] / (float)(T * B * D);
          fill_token(l, &c, &m.noise, t, b, levels[t], x + at, eps + at, w);
        }
      }
      CHECK_OK(df_loss_run(l, B, gradient, &test_error));
      snprintf(name, sizeof name, "out.%s.mean", setting);
      const float *mean = golden_floats(&m.g, name);
      if (mean) CHECK_NEAR(l->loss[0], mean[0], golden_tolerance(&m, name));
      snprintf(name, sizeof name, "out.%s.weight", setting);
      const float *weight = golden_floats(&m.g, name);
      if (weight) CHECK_FLOATS(weights, weight, T * B, golden_tolerance(&m, name));
      for (int i = 0; i < T * B; i++) {
        const int t = i / B, b = i % B;
        df_predict(&m.noise, c.objective, c.clip_noise, (int)level[i] + 1, D, l->x[t] + b * D,
                   l->out[t] + b * D, x0, unused);
        snprintf(name, sizeof name, "out.%s.x_pred", setting);
        const float *x_pred = golden_floats(&m.g, name);
        DURING("%s, token %d of sequence %d", name, t, b);
        if (x_pred) CHECK_FLOATS(x0, x_pred + i * D, D, golden_tolerance(&m, name));
        snprintf(name, sizeof name, "out.%s.loss", setting);
        const float *loss = golden_floats(&m.g, name);
        for (int j = 0; loss && j < D; j++) {
          const float d = l->out[t][b * D + j] - l->target[t][b * D + j];
          CHECK_NEAR(weights[i] * d * d, loss[i * D + j], golden_tolerance(&m, name));
        }
      }
      const df_json *wanted = df_json_at(m.run, "grad_settings");
      for (const df_json *w = wanted ? wanted->first : NULL; w; w = w->next) {
        if (strcmp(w->string, setting)) continue;
        for (int i = 0; i < m.params.count; i++) {
          const df_param *param = m.params.items[i];
          snprintf(name, sizeof name, "%s.weights.%s", setting, param->name);
          check_gradient(&m, name, gradient + param->offset,
                         (size_t)param->rows * (size_t)param->cols, largest);
          compared++;
        }
      }
      df_loss_free(l);
    }
    CHECK_INT(compared, 2 * m.params.count);
  }
  golden_model_close(&m);
}

// One step of rnn_train_steps or rnn_train_planning: frames (n, B, C) raw, masks (n, B) as the loss has them.
typedef struct sequences {
  int T, B, n, C;
  const float *frames, *masks, *noise, *cond; // (n, B, C), (n, B), (T, B, D), (T, B, E) or NULL
  const int64_t *level;                       // (T, B)
  double scale;                               // of the loss
} sequences;

static void fill_sequences(df_loss *l, golden_model *m, const df_config *c, const sequences *s,
                           const float *want_tokens) {
  int D = c->network.token_size, C = s->C, fs = c->frame_stack, E = c->network.condition_size;
  const df_json *d = m->diffusion;
  df_loss_weight kind = weight_of(golden_int(d, "use_snr"), golden_int(d, "use_cum_snr"));
  float decay = powf((float)golden_number(d, "cum_snr_decay"), (float)fs);
  df_loss_clear(l, &c->network, s->B);
  for (int b = 0; b < s->B; b++) {
    int32_t levels[64];
    float weights[64], frames[64], token[64], w[64];
    for (int t = 0; t < s->T; t++) levels[t] = (int32_t)s->level[t * s->B + b] + 1;
    df_loss_weights(&m->noise, kind, c->objective, (float)golden_number(d, "snr_clip"), decay,
                    levels, s->T, weights);
    for (int t = 0; t < s->T; t++) {
      size_t at = (size_t)(t * s->B + b);
      for (int i = 0; i < fs; i++) {
        memcpy(frames + i * C, s->frames + ((t * fs + i) * s->B + b) * C,
               (size_t)C * sizeof(float));
        for (int j = 0; j < C; j++)
          w[i * C + j] = (float)(weights[t] * s->masks[(t * fs + i) * s->B + b] * s->scale /
                                 ((double)s->n * s->B * C));
      }
      df_config_encode(c, frames, fs, token);
      if (want_tokens)
        CHECK_FLOATS(token, want_tokens + at * D, D, golden_tolerance(m, "out.tokens"));
      fill_token(l, c, &m->noise, t, b, levels[t], token, s->noise + at * D, w);
      if (E) memcpy(l->cond[t] + b * E, s->cond + at * E, (size_t)E * sizeof(float));
    }
  }
}

static void check_predictions(golden_model *m, df_loss *l, const df_config *c, const sequences *s,
                              const float *want) {
  int D = c->network.token_size, fs = c->frame_stack;
  for (int t = 0; t < s->T; t++)
    for (int b = 0; b < s->B; b++) {
      float x0[64], eps[64], frames[64];
      df_predict(&m->noise, c->objective, c->clip_noise, (int)s->level[t * s->B + b] + 1, D,
                 l->x[t] + b * D, l->out[t] + b * D, x0, eps);
      df_config_decode(c, x0, frames);
      for (int i = 0; i < fs; i++)
        CHECK_FLOATS(frames + i * s->C, want + ((t * fs + i) * s->B + b) * s->C, s->C,
                     golden_tolerance(m, "out.xs_pred"));
    }
}

// nonterminals (B, n) to masks (n, B): the running product over time.
static float *masks_of(golden_model *m, const float *nonterminals, int n, int B) {
  float *masks = df_arena_alloc(&m->g.arena, (size_t)(n * B) * sizeof(float));
  for (int b = 0; b < B; b++)
    for (int i = 0; i < n; i++)
      masks[i * B + b] = nonterminals[b * n + i] != 0 && (i == 0 || masks[(i - 1) * B + b] != 0);
  const int64_t *want = golden_ints(&m->g, "out.masks");
  for (int i = 0; want && i < n * B; i++) CHECK_INT((int)masks[i], want[i]);
  return masks;
}

static void check_weights(golden_model *m, const char *when) {
  for (int i = 0; i < m->params.count; i++) {
    const df_param *p = m->params.items[i];
    char name[256], weight[192];
    snprintf(name, sizeof name, "out.%s.%s", when, golden_weight_name(m, p->name, weight));
    const float *want = golden_floats(&m->g, name);
    DURING("%s", name);
    if (want) CHECK_FLOATS(p->value, want, (long)p->rows * p->cols, golden_tolerance(m, name));
  }
}

static void check_gradients(golden_model *m, const float *gradient) {
  double largest = largest_gradient(m);
  for (int i = 0; i < m->params.count; i++) {
    const df_param *p = m->params.items[i];
    char weight[192];
    check_gradient(m, golden_weight_name(m, p->name, weight), gradient + p->offset,
                   (size_t)p->rows * (size_t)p->cols, largest);
  }
}

TEST(optimiser_steps_are_those_of_the_reference) {
  golden_model m;
  df_loss *l = NULL;
  df_optimiser o = {0};
  if (!golden_model_open(&m, "rnn_train_steps")) goto out;
  df_config c = golden_config(&m);
  c.fields = golden_fields(&m, (const char *const[]){"data"}, 1, &c.field_count);
  int T = golden_int(m.run, "tokens"), B = golden_int(m.run, "batch"),
      steps = golden_int(m.run, "steps");
  int C = c.field_count, fs = c.frame_stack, n = T * fs, D = c.network.token_size,
      E = c.network.condition_size, e = E / fs;
  const df_json *beta = df_json_at(m.algorithm, "optimizer_beta");
  df_recipe recipe = {.shards = 1,
                      .steps = steps,
                      .warmup = golden_int(m.algorithm, "warmup_steps"),
                      .rate = golden_number(m.algorithm, "lr"),
                      .beta1 = df_json_item(beta, 0)->number,
                      .beta2 = df_json_item(beta, 1)->number,
                      .epsilon = 1e-8,
                      .weight_decay = golden_number(m.algorithm, "weight_decay"),
                      .ema = 0.9};
  const float *xs = golden_floats(&m.g, "in.xs"),
              *nonterminals = golden_floats(&m.g, "in.nonterminals");
  const float *conditions = golden_floats(&m.g, "in.conditions"),
              *noise = golden_floats(&m.g, "in.noise");
  const int64_t *level = golden_ints(&m.g, "in.t");
  const float *tokens = golden_floats(&m.g, "out.tokens"),
              *stacked = golden_floats(&m.g, "out.conditions");
  const float *loss = golden_floats(&m.g, "out.loss"), *rates = golden_floats(&m.g, "out.lr"),
              *predictions = golden_floats(&m.g, "out.xs_pred");
  float *frames = df_arena_alloc(&m.g.arena, (size_t)(n * B * C) * sizeof(float));
  float *cond = df_arena_alloc(&m.g.arena, (size_t)(T * B * E) * sizeof(float)), *masks = NULL;
  if (!xs || !nonterminals || !conditions || !noise || !level || !tokens || !stacked || !loss ||
      !rates || !predictions)
    goto out;
  if (!CHECK_OK(df_loss_create(&l, DF_LOSS_TEST, DF_MODE_INDEPENDENT, &c, &m.params, T, B, false,
                               &test_error)) ||
      !CHECK_OK(df_optimiser_create(&o, &recipe, NULL, &m.params, &test_error)))
    goto out;
  for (int k = 0; k < steps; k++) {
    for (int b = 0; b < B; b++)
      for (int i = 0; i < n; i++) {
        memcpy(frames + (i * B + b) * C, xs + ((k * B + b) * n + i) * C, (size_t)C * sizeof(float));
        float *to = cond + (i / fs * B + b) * E + i % fs * e;
        for (int j = 0; j < e; j++) to[j] = i ? conditions[((k * B + b) * n + i) * e + j] : 0;
      }
    if (k == 0) masks = masks_of(&m, nonterminals, n, B);
    for (int b = 0; b < B; b++)
      for (int i = 0; i < n; i++)
        masks[i * B + b] =
            nonterminals[(k * B + b) * n + i] != 0 && (i == 0 || masks[(i - 1) * B + b] != 0);
    if (k == 0) CHECK_FLOATS(cond, stacked, T * B * E, golden_tolerance(&m, "out.conditions"));
    sequences s = {
        T, B, n, C, frames, masks, noise + (size_t)k * T * B * D, cond, level + k * T * B, 1};
    DURING("step %d", k);
    fill_sequences(l, &m, &c, &s, k ? NULL : tokens);
    CHECK_OK(df_loss_run(l, B, o.gradients, &test_error));
    CHECK_NEAR(l->loss[0], loss[k], golden_tolerance(&m, "out.loss"));
    check_predictions(&m, l, &c, &s, predictions + (size_t)k * n * B * C);
    if (k == 0) check_gradients(&m, o.gradients);
    // The reference makes one step at the full rate before its warm-up begins.
    double rate = k == 0 ? recipe.rate : df_learning_rate(&recipe, k - 1);
    CHECK_NEAR(rate, rates[k], golden_tolerance(&m, "out.lr"));
    df_optimiser_step(&o, m.params.values, k, rate);
    if (k == 0) check_weights(&m, "after_first");
  }
  check_weights(&m, "after");
out:
  df_optimiser_free(&o);
  df_loss_free(l);
  golden_model_close(&m);
}

TEST(the_planner_s_training_loss_is_that_of_the_reference) {
  golden_model m;
  df_loss *l = NULL;
  if (!golden_model_open(&m, "rnn_train_planning")) goto out;
  df_config c = golden_config(&m);
  c.fields = golden_fields(&m, (const char *const[]){"observation", "action"}, 2, &c.field_count);
  int T = golden_int(m.run, "tokens"), B = golden_int(m.run, "batch"), C = c.field_count,
      n = T * c.frame_stack;
  int O = c.network.observation_size, A = C - O;
  const float *observations = golden_floats(&m.g, "in.observations"),
              *actions = golden_floats(&m.g, "in.actions");
  const float *nonterminals = golden_floats(&m.g, "in.nonterminals"),
              *noise = golden_floats(&m.g, "in.noise");
  const int64_t *level = golden_ints(&m.g, "in.t");
  const float *tokens = golden_floats(&m.g, "out.tokens"), *loss = golden_floats(&m.g, "out.loss"),
              *predictions = golden_floats(&m.g, "out.xs_pred");
  float *frames = df_arena_alloc(&m.g.arena, (size_t)(n * B * C) * sizeof(float));
  float *gradient = df_arena_alloc(&m.g.arena, m.params.size * sizeof(float));
  if (!observations || !actions || !nonterminals || !noise || !level || !tokens || !loss ||
      !predictions)
    goto out;
  if (!CHECK_OK(df_loss_create(&l, DF_LOSS_TEST, DF_MODE_INDEPENDENT, &c, &m.params, T, B, false,
                               &test_error)))
    goto out;
  for (int b = 0; b < B; b++)
    for (int i = 0; i < n; i++) {
      float *frame =
          frames + (i * B + b) * C; // the next observation (0 after the last), the action
      for (int j = 0; j < O; j++) frame[j] = i + 1 < n ? observations[(b * n + i + 1) * O + j] : 0;
      for (int j = 0; j < A; j++) frame[O + j] = actions[(b * n + i) * A + j];
    }
  sequences s = {T, B, n, C, frames, masks_of(&m, nonterminals, n, B), noise, NULL, level, 10};
  fill_sequences(l, &m, &c, &s, tokens);
  for (int b = 0; b < B; b++)
    for (int j = 0; j < O; j++)
      l->observation[b * O + j] =
          (observations[b * n * O + j] - c.fields[j].mean) / c.fields[j].std;
  CHECK_OK(df_loss_run(l, B, gradient, &test_error));
  CHECK_NEAR(l->loss[0], loss[0], golden_tolerance(&m, "out.loss"));
  check_predictions(&m, l, &c, &s, predictions);
  check_gradients(&m, gradient);
out:
  df_loss_free(l);
  golden_model_close(&m);
}

// ---- A small made-up set ----

// A folder of the test's own with a recipe and .npy files, removed at the end.
typedef struct place {
  char folder[64], recipe[128];
} place;

static void write_npy(const char *folder, const char *name, const char *type, const char *shape,
                      const void *data, size_t size) {
  char path[256], header[160], bytes[10 + 118] = "\x93NUMPY\x01";
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int length = snprintf(header, sizeof header,
                        "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
  bytes[8] = 118;
  memset(bytes + 10, ' ', 117);
  memcpy(bytes + 10, header, (size_t)length);
  bytes[127] = '\n';
  FILE *file = fopen(path, "wb");
  if (!CHECK(file != NULL)) return;
  CHECK(fwrite(bytes, 1, sizeof bytes, file) == sizeof bytes &&
        fwrite(data, 1, size, file) == size);
  fclose(file);
}

static void write_text(const char *path, const char *text) {
  FILE *file = fopen(path, "wb");
  if (!CHECK(file != NULL)) return;
  fputs(text, file);
  fclose(file);
}

// Sequences of 3 to 13 frames that turn around a circle; the third field is 1 at every third frame. The condition
// says which way they turn.
static void write_set(const char *folder, const char *name, int count, uint64_t seed) {
  enum { MOST = 80 };
  static float values[MOST * 13 * 3], conditions[MOST * 13], observations[MOST * 2];
  int32_t offsets[MOST + 1] = {0};
  char file[64], shape[64];
  for (int i = 0; i < count; i++) {
    df_random at = {.seed = seed, .sequence = (uint32_t)i, .purpose = DF_RANDOM_TEST};
    float u[3];
    df_random_uniform(&at, 3, u);
    int n = 3 + (int)(u[0] * 11), way = u[1] < 0.5f ? -1 : 1;
    offsets[i + 1] = offsets[i] + n;
    observations[2 * i] = (float)way;
    observations[2 * i + 1] = 10 * (float)cos(6.2831853 * u[2]);
    for (int k = 0; k < n; k++) {
      float *v = values + (offsets[i] + k) * 3;
      double angle = 6.2831853 * u[2] + way * 0.7 * k;
      v[0] = (float)(20 * cos(angle)) + 3;
      v[1] = (float)(20 * sin(angle)) - 1;
      v[2] = k % 3 == 2;
      conditions[offsets[i] + k] = (float)way;
    }
  }
  size_t total = (size_t)offsets[count];
  snprintf(file, sizeof file, "%s_values.npy", name);
  snprintf(shape, sizeof shape, "%d, 3", (int)total);
  write_npy(folder, file, "<f4", shape, values, total * 3 * sizeof(float));
  snprintf(file, sizeof file, "%s_conditions.npy", name);
  snprintf(shape, sizeof shape, "%d, 1", (int)total);
  write_npy(folder, file, "<f4", shape, conditions, total * sizeof(float));
  snprintf(file, sizeof file, "%s_observations.npy", name);
  snprintf(shape, sizeof shape, "%d, 2", count);
  write_npy(folder, file, "<f4", shape, observations, (size_t)count * 2 * sizeof(float));
  snprintf(file, sizeof file, "%s_offsets.npy", name);
  snprintf(shape, sizeof shape, "%d,", count + 1);
  write_npy(folder, file, "<i4", shape, offsets, (size_t)(count + 1) * sizeof(int32_t));
}

static const char recipe_text[] =
    "{\"name\": \"circles\",\n"
    " \"data\": {\"train\": {\"values\": \"train_values.npy\", \"offsets\": "
    "\"train_offsets.npy\"},\n"
    "          \"valid\": {\"values\": \"valid_values.npy\", \"offsets\": "
    "\"valid_offsets.npy\"}},\n"
    " \"model\": {\"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 24, \"network_size\": 8, "
    "\"hidden_size\": 24,\n"
    "                          \"mlp_layers\": 1, \"gru_layers\": 2, \"stop_head\": true},\n"
    "           \"diffusion\": {\"levels\": 100, \"objective\": \"v\", \"schedule\": \"cosine\", "
    "\"clip_noise\": 6},\n"
    "           \"tokens\": {\"frame_stack\": 2, \"present\": true,\n"
    "                      \"fields\": [{\"name\": \"dx\"}, {\"name\": \"dy\", \"mean\": 0.5}, "
    "{\"name\": \"pen\", \"binary\": true}]},\n"
    "           \"sampling\": {\"schedule\": \"pyramid\", \"steps\": 10, \"uncertainty\": 1, "
    "\"max_tokens\": 8}},\n"
    " \"training\": {\"steps\": 12, \"batch\": 12, \"shards\": 3, \"seed\": 5, \"rate\": 0.01, "
    "\"warmup\": 2, \"ema\": 0.9,\n"
    "              \"augment_scale\": 0.1, \"augment_rotate\": 0.2, \"log_every\": 2, "
    "\"valid_every\": 4, \"save_every\": 5}}\n";

static void place_open(place *p) {
  strcpy(p->folder, "test_train_XXXXXX");
  REQUIRE(mkdtemp(p->folder) != NULL);
  snprintf(p->recipe, sizeof p->recipe, "%s/recipe.json", p->folder);
  write_text(p->recipe, recipe_text);
  write_set(p->folder, "train", 70, 1);
  write_set(p->folder, "valid", 20, 2);
}

static void place_close(place *p) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", p->folder);
  CHECK(system(command) == 0);
}

// Runs the recipe with changes into folder/out.
typedef struct run {
  int threads, stop_at; // stop_at: the report says so after this step
  bool resume, restart;
  int reports, logged, validated, saved_step;
  double first, last, valid; // losses
  volatile int flag;         // Ctrl-C
} run;

static bool on_report(void *context, const df_train_report *r) {
  run *k = context;
  k->reports++;
  k->logged += r->logged;
  k->validated += r->validated;
  if (r->logged && k->first == 0) k->first = r->loss;
  if (r->logged) k->last = r->loss;
  if (r->validated) k->valid = r->valid_loss + 0.1 * r->valid_stop;
  CHECK(r->tokens_per_second > 0 && r->seconds >= 0);
  if (k->stop_at < 0 && r->step == -k->stop_at) k->flag = 1;
  return r->step != k->stop_at;
}

static df_status train(const place *p, const char *out, run *k, const char *const *changes,
                       int count) {
  df_recipe recipe;
  char folder[128];
  snprintf(folder, sizeof folder, "%s/%s", p->folder, out);
  df_status status = df_recipe_read(&recipe, p->recipe, changes, count, &test_error);
  if (status) return status;
  df_train_options options = {.folder = folder,
                              .resume = k->resume,
                              .restart = k->restart,
                              .threads = k->threads ? k->threads : 1,
                              .report = on_report,
                              .context = k,
                              .stop = &k->flag};
  status = df_train(&recipe, &options, &test_error);
  df_recipe_free(&recipe);
  return status;
}

// The tensors of two files, and of model files the whole text, are the same.
static void check_same_file(const place *p, const char *a, const char *b, const char *name) {
  void *bytes[2] = {NULL, NULL};
  size_t size[2] = {0, 0};
  df_safetensors file[2] = {0};
  const char *runs[2] = {a, b};
  bool fine = true;
  for (int i = 0; i < 2; i++) {
    char path[192];
    snprintf(path, sizeof path, "%s/%s/%s", p->folder, runs[i], name);
    fine = fine && CHECK_OK(df_file_read(&bytes[i], &size[i], path, &test_error)) &&
           CHECK_OK(df_safetensors_open(&file[i], bytes[i], size[i], &test_error));
  }
  DURING("%s of %s and %s", name, a, b);
  if (fine && CHECK_INT(file[0].count, file[1].count)) {
    for (int i = 0; i < file[0].count; i++) {
      const df_view *v = &file[0].views[i], *w = df_safetensors_find(&file[1], v->name);
      if (CHECK(w != NULL) && CHECK_INT(v->count, w->count))
        test_check(!memcmp(v->data, w->data, v->count * df_dtype_size(v->dtype)), __FILE__,
                   __LINE__, v->name, " is the same");
    }
    if (!strcmp(name, "model.safetensors"))
      CHECK(size[0] == size[1] && !memcmp(bytes[0], bytes[1], size[0]));
  }
  for (int i = 0; i < 2; i++) {
    df_safetensors_close(&file[i]);
    df_free(bytes[i]);
  }
}

static char *read_whole(const place *p, const char *out, const char *name) {
  char path[192];
  void *bytes = NULL;
  size_t size = 0;
  snprintf(path, sizeof path, "%s/%s/%s", p->folder, out, name);
  CHECK_OK(df_file_read(&bytes, &size, path, &test_error));
  return bytes;
}

TEST(a_resumed_run_is_the_uninterrupted_one_to_the_last_bit) {
  place p;
  place_open(&p);
  run whole = {0}, first = {.stop_at = 3}, second = {.resume = true, .stop_at = 7},
      third = {.resume = true};
  CHECK_OK(train(&p, "whole", &whole, NULL, 0));
  CHECK_STATUS(train(&p, "parts", &first, NULL, 0), DF_STOPPED);
  CHECK_CONTAINS(test_error.message, "step 3 of 12");
  CHECK_STATUS(train(&p, "parts", &second, NULL, 0), DF_STOPPED);
  CHECK_OK(train(&p, "parts", &third, NULL, 0));
  CHECK_INT(whole.reports, 12);
  CHECK_INT(first.reports + second.reports + third.reports, 12);
  CHECK_INT(whole.validated, 3);
  check_same_file(&p, "whole", "parts", "state.safetensors");
  check_same_file(&p, "whole", "parts", "model.safetensors");
  // The logs agree but for the clock.
  char *a = read_whole(&p, "whole", "log.csv"), *b = read_whole(&p, "parts", "log.csv");
  if (a && b) {
    int lines = 0;
    const char *x = a, *y = b;
    while (x && y && *x && *y) {
      char losses[2][64];
      int step[2] = {0, 0};
      double seconds;
      if (lines && CHECK_INT(sscanf(x, "%d,%lf,%63[^,]", &step[0], &seconds, losses[0]), 3) &&
          CHECK_INT(sscanf(y, "%d,%lf,%63[^,]", &step[1], &seconds, losses[1]), 3)) {
        CHECK_INT(step[0], step[1]);
        CHECK_TEXT(losses[0], losses[1]);
      }
      lines++;
      x = strchr(x, '\n') + 1;
      y = strchr(y, '\n') + 1;
    }
    CHECK_INT(*x, *y);
    CHECK_INT(lines, 7);
  }
  df_free(a);
  df_free(b);
  char *svg = read_whole(&p, "parts", "loss.svg");
  if (svg) CHECK(!strncmp(svg, "<svg ", 5) && strstr(svg, "</svg>") && !strstr(svg, "nan"));
  df_free(svg);
  place_close(&p);
}

TEST(the_number_of_threads_does_not_change_a_bit) {
  place p;
  place_open(&p);
  run one = {.threads = 1}, two = {.threads = 2}, four = {.threads = 4};
  CHECK_OK(train(&p, "one", &one, NULL, 0));
  CHECK_OK(train(&p, "two", &two, NULL, 0));
  CHECK_OK(train(&p, "four", &four, NULL, 0));
  check_same_file(&p, "one", "two", "state.safetensors");
  check_same_file(&p, "one", "four", "state.safetensors");
  check_same_file(&p, "one", "two", "model.safetensors");
  place_close(&p);
}

#define CONDITIONS                                                                                 \
  "model.condition.fields=[\"way\"]", "data.train.conditions=train_conditions.npy",                \
      "data.valid.conditions=valid_conditions.npy"

#define OBSERVATIONS                                                                               \
  "model.observation.fields=[{\"name\": \"way\"}, {\"name\": \"cos\", \"std\": 7}]",               \
      "model.denoiser.initial=encoded", "data.train.observations=train_observations.npy",          \
      "data.valid.observations=valid_observations.npy"

#define TRANSFORMER                                                                                \
  "model.denoiser={\"kind\": \"transformer\", \"network_size\": 16, \"layers\": 2, \"heads\": 2, " \
  "\"window\": 10}"

#define TRANSFORMER_STOPS                                                                          \
  "model.denoiser={\"kind\": \"transformer\", \"network_size\": 16, \"layers\": 2, \"heads\": 2, " \
  "\"window\": 10, \"stop_head\": true}"

TEST(every_mode_and_option_lowers_the_held_out_loss) {
  static const struct {
    const char *name, *changes[8];
  } cases[] = {
      {"independent", {"training.mode=independent"}},
      {"teacher forcing", {"training.mode=teacher-forcing"}},
      {"full sequence", {"training.mode=full-sequence"}},
      {"x0, self-conditioning, learned latent",
       {"model.diffusion.objective=x0", "model.denoiser.self_condition=true",
        "model.denoiser.initial=learned"}},
      {"eps, self-conditioning, teacher forcing",
       {"training.mode=teacher-forcing", "model.diffusion.objective=eps",
        "model.denoiser.self_condition=true"}},
      {"conditions, no stop head", {CONDITIONS, "model.denoiser.stop_head=false"}},
      {"an encoded observation", {OBSERVATIONS}},
      {"an encoded observation, teacher forcing", {OBSERVATIONS, "training.mode=teacher-forcing"}},
      {"transformer", {TRANSFORMER, "model.denoiser.stop_head=true"}},
      {"transformer, teacher forcing", {TRANSFORMER, "training.mode=teacher-forcing"}},
      {"transformer that sees all, conditions",
       {TRANSFORMER, "model.denoiser.causal=false", CONDITIONS}},
      {"fused weights, clean histories, float16",
       {"training.loss_weight=fused-snr", "training.stop_clean=0.3", "training.dtype=f16"}},
  };
  place p;
  place_open(&p);
  for (int i = 0; i < COUNT(cases); i++) {
    const char *changes[10];
    int count = 0;
    while (cases[i].changes[count]) changes[count] = cases[i].changes[count], count++;
    changes[count++] = "training.steps=90";
    changes[count++] = "training.valid_every=90";
    DURING("%s", cases[i].name);
    run early = {.stop_at = 1}, late = {.threads = 2, .resume = true};
    const char *once[10];
    memcpy(once, changes, sizeof once);
    once[count - 1] = "training.valid_every=1";
    CHECK_STATUS(train(&p, cases[i].name, &early, once, count), DF_STOPPED);
    DURING("%s", cases[i].name);
    CHECK_OK(train(&p, cases[i].name, &late, changes, count));
    DURING("%s: %g to %g", cases[i].name, early.valid, late.valid);
    CHECK(late.valid < 0.8 * early.valid && late.valid > 0);
  }
  place_close(&p);
}

TEST(ctrl_c_saves_what_is_there) {
  place p;
  place_open(&p);
  run k = {.stop_at = -3}, again = {0}, restart = {.restart = true, .stop_at = 1},
      go_on = {.resume = true};
  CHECK_STATUS(train(&p, "run", &k, NULL, 0), DF_STOPPED);
  // The flag is seen after the next step.
  CHECK_INT(k.reports, 4);
  for (int i = 0; i < 3; i++)
    df_free(read_whole(
        &p, "run",
        (const char *const[]){"state.safetensors", "model.safetensors", "config.json"}[i]));
  CHECK_STATUS(train(&p, "run", &again, NULL, 0), DF_WRONG_STATE);
  CHECK_CONTAINS(test_error.message, "holds a run already");
  CHECK_OK(train(&p, "run", &go_on, NULL, 0));
  CHECK_INT(go_on.reports, 8);
  CHECK_STATUS(train(&p, "run", &restart, NULL, 0), DF_STOPPED);
  CHECK_INT(restart.reports, 1);
  place_close(&p);
}

TEST(steps_may_change_between_sessions_and_nothing_else) {
  place p;
  place_open(&p);
  run k = {0}, more = {.resume = true}, other = {.resume = true};
  CHECK_OK(train(&p, "run", &k, NULL, 0));
  CHECK_OK(train(&p, "run", &more,
                 (const char *const[]){"training.steps=14", "training.log_every=7"}, 2));
  CHECK_INT(more.reports, 2);
  CHECK_STATUS(train(&p, "run", &other, (const char *const[]){"training.rate=0.02"}, 1),
               DF_WRONG_STATE);
  CHECK_CONTAINS(test_error.message, "recipe");
  place_close(&p);
}

TEST(the_model_file_holds_what_sampling_needs) {
  place p;
  place_open(&p);
  run k = {0};
  df_safetensors file = {0};
  df_config config = {0};
  CHECK_OK(train(&p, "run", &k, (const char *const[]){"training.dtype=f16"}, 1));
  char path[128];
  void *bytes = NULL;
  size_t size = 0;
  snprintf(path, sizeof path, "%s/run/model.safetensors", p.folder);
  if (CHECK_OK(df_file_read(&bytes, &size, path, &test_error)) &&
      CHECK_OK(df_safetensors_open(&file, bytes, size, &test_error))) {
    const char *text = df_safetensors_meta(&file, "config");
    char *beside = read_whole(&p, "run", "config.json");
    CHECK_TEXT(text, beside);
    df_free(beside);
    if (text && CHECK_OK(df_config_parse(&config, text, strlen(text), &test_error))) {
      df_params params = {0};
      CHECK_OK(df_network_declare(&config.network, &params, &test_error));
      CHECK_INT(file.count, params.count);
      for (int i = 0; i < params.count; i++) {
        const df_view *v = df_safetensors_find(&file, params.items[i]->name);
        DURING("%s", params.items[i]->name);
        if (CHECK(v != NULL)) CHECK(v->dtype == DF_F16 && v->dims == params.items[i]->dims);
      }
      df_params_free(&params);
      DURING("%s", "statistics");
      CHECK_NEAR(config.fields[0].mean, 3, 2);
      CHECK_NEAR(config.fields[0].std, 14, 3);
      CHECK_NEAR(config.fields[1].mean, 0.5, 0);
      CHECK(config.fields[2].binary && config.fields[2].std > 0.3f && config.fields[2].std < 0.6f);
      const df_json *training = df_json_at(config.json, "training");
      CHECK(df_json_at(training, "recipe") && df_json_at(training, "mode"));
    }
  }
  df_config_free(&config);
  df_safetensors_close(&file);
  df_free(bytes);
  place_close(&p);
}

TEST(a_model_file_of_8_bits_holds_small_matrices_and_vectors_as_they_are) {
  place p;
  place_open(&p);
  run k = {0};
  CHECK_OK(train(&p, "run", &k,
                 (const char *const[]){"training.dtype=int8", "training.steps=1",
                                       "model.denoiser.latent_size=128"},
                 3));
  char path[128];
  void *bytes = NULL;
  size_t size = 0;
  df_safetensors file = {0};
  df_model *model = NULL;
  int large = 0;
  snprintf(path, sizeof path, "%s/run/model.safetensors", p.folder);
  if (CHECK_OK(df_file_read(&bytes, &size, path, &test_error)) &&
      CHECK_OK(df_safetensors_open(&file, bytes, size, &test_error)) &&
      CHECK_OK(df_model_open(&model, bytes, size, &test_error))) {
    CHECK_TEXT(df_model_format(model), "int8");
    for (int i = 0; i < model->params.count; i++) {
      const df_param *param = model->params.items[i];
      const bool is_large = param->dims == 2 && param->rows * param->cols >= DF_WEIGHTS_LEAST;
      large += is_large;
      DURING("%s", param->name);
      const df_view *view = df_safetensors_find(&file, param->name);
      if (CHECK(view != NULL)) CHECK_INT(view->dtype, is_large ? DF_I8 : DF_F32);
    }
    CHECK(large > 0);
    CHECK_INT(file.count, model->params.count + large);
  }
  df_model_free(model);
  df_safetensors_close(&file);
  df_free(bytes);
  place_close(&p);
}

// ---- What can be wrong ----

TEST(a_recipe_that_makes_no_sense_says_where) {
  static const struct {
    const char *change, *says;
    df_status status;
  } cases[] = {
      {"training.rat=0.1", "rat", DF_BAD_CONFIG},
      {"training.rate=many", "rate", DF_BAD_CONFIG},
      {"training.rate=-1", "rate", DF_BAD_CONFIG},
      {"training.mode=fast", "independent", DF_BAD_CONFIG},
      {"training.batch=0", "batch", DF_BAD_CONFIG},
      {"training.shards=13", "shards", DF_BAD_CONFIG},
      {"training.steps=1.5", "steps", DF_BAD_CONFIG},
      {"training.beta2=1", "beta2", DF_BAD_CONFIG},
      {"surprise=1", "surprise", DF_BAD_CONFIG},
      {"name=\"\"", "name", DF_BAD_CONFIG},
      {"data=3", "data", DF_BAD_CONFIG},
      {"data.train=3", "data.train", DF_BAD_CONFIG},
      {"data.test={}", "test", DF_BAD_CONFIG},
      {"data.train.offsets=3", "offsets", DF_BAD_CONFIG},
      {"model.denoiser.latent_size=25", "latent_size", DF_BAD_CONFIG},
      {"model.denoiser.condition_size=2", "condition_size", DF_BAD_CONFIG},
      {"model.condition.fields=[\"way\"]", "conditions", DF_BAD_CONFIG},
      {"model.tokens.frame_stack=0", "frame_stack", DF_BAD_CONFIG},
      {"model.tokens.fields.7.mean=0", "fields.7", DF_BAD_CONFIG},
      {"no value", "key=value", DF_BAD_CONFIG},
      {"data.train.values=nothing.npy", "nothing.npy", DF_IO},
      {"data.train.values=train_offsets.npy", "train_offsets.npy", DF_BAD_SHAPE},
      {"data.train.values=train_conditions.npy", "train_conditions.npy", DF_BAD_SHAPE},
      {"data.train.values=recipe.json", "recipe.json", DF_BAD_FILE},
      {"data.valid.offsets=train_offsets.npy", "train_offsets.npy", DF_BAD_VALUE},
      {"data.valid.offsets=train_values.npy", "train_values.npy", DF_BAD_SHAPE},
  };
  place p;
  place_open(&p);
  for (int i = 0; i < COUNT(cases); i++) {
    run k = {0};
    DURING("%s", cases[i].change);
    CHECK_STATUS(train(&p, "run", &k, &cases[i].change, 1), cases[i].status);
    CHECK_CONTAINS(test_error.message, cases[i].says);
  }
  run k = {0};
  DURING("%s", "an encoded start without observations");
  CHECK_STATUS(train(&p, "run", &k,
                     (const char *const[]){"model.denoiser.initial=encoded",
                                           "model.denoiser.observation_size=2"},
                     2),
               DF_BAD_CONFIG);
  CHECK_CONTAINS(test_error.message, "observations");
  DURING("%s", "observations of another set");
  CHECK_STATUS(
      train(&p, "run", &k,
            (const char *const[]){OBSERVATIONS, "data.train.observations=valid_observations.npy"},
            5),
      DF_BAD_SHAPE);
  DURING("%s", "conditions that are too short");
  CHECK_STATUS(
      train(&p, "run", &k,
            (const char *const[]){CONDITIONS, "data.train.conditions=valid_conditions.npy"}, 4),
      DF_BAD_SHAPE);
  write_text(p.recipe, "{\"name\": \"x\",}");
  CHECK_STATUS(train(&p, "run", &k, NULL, 0), DF_BAD_FILE);
  write_text(p.recipe, "[]");
  CHECK_STATUS(train(&p, "run", &k, NULL, 0), DF_BAD_CONFIG);
  place_close(&p);
}

TEST(data_that_is_not_finite_or_not_in_order_is_refused) {
  static const int32_t falling[] = {0, 3, 2, 4}, empty[] = {0, 2, 2, 4}, late[] = {1, 2, 3, 4},
                       off[] = {0, 1, 2, 5};
  static const int32_t *const bad[] = {falling, empty, late, off};
  static const char *const says[] = {"entry 2", "entry 2", "entry 0", "last entry"};
  place p;
  place_open(&p);
  char values[128], offsets[128];
  snprintf(values, sizeof values, "%s/v.npy", p.folder);
  snprintf(offsets, sizeof offsets, "%s/o.npy", p.folder);
  float v[12] = {0};
  df_dataset data;
  const df_data_files files = {.values = values, .offsets = offsets};
  write_npy(p.folder, "v.npy", "<f4", "4, 3", v, sizeof v);
  for (int i = 0; i < COUNT(bad); i++) {
    DURING("offsets %d", i);
    write_npy(p.folder, "o.npy", "<i4", "4,", bad[i], 4 * sizeof(int32_t));
    CHECK_STATUS(df_dataset_read(&data, &files, 3, 0, 0, &test_error), DF_BAD_VALUE);
    CHECK_CONTAINS(test_error.message, says[i]);
  }
  v[7] = NAN;
  write_npy(p.folder, "v.npy", "<f4", "4, 3", v, sizeof v);
  CHECK_STATUS(df_dataset_read(&data, &files, 3, 0, 0, &test_error), DF_BAD_VALUE);
  CHECK_CONTAINS(test_error.message, "frame 2, column 1");
  place_close(&p);
}

TEST(a_damaged_state_is_refused) {
  place p;
  place_open(&p);
  run k = {.stop_at = 2};
  CHECK_STATUS(train(&p, "run", &k, NULL, 0), DF_STOPPED);
  char path[128];
  void *bytes = NULL;
  size_t size = 0;
  snprintf(path, sizeof path, "%s/run/state.safetensors", p.folder);
  if (CHECK_OK(df_file_read(&bytes, &size, path, &test_error))) {
    static const char *const from[] = {"\"moment2.stop.bias\"", "state/1", "\"step\":\"2\"",
                                       "\"seconds\""};
    static const char *const to[] = {"\"moment3.stop.bias\"", "state/7", "\"step\":\"x\"",
                                     "\"secunds\""};
    run again = {.resume = true, .stop_at = 3};
    for (int i = 0; i < COUNT(from); i++) {
      char *copy = df_alloc(size);
      memcpy(copy, bytes, size);
      char *at = NULL;
      for (size_t j = 0; !at && j + strlen(from[i]) < size; j++)
        if (!memcmp(copy + j, from[i], strlen(from[i]))) at = copy + j;
      DURING("%s", to[i]);
      if (CHECK(at != NULL)) {
        memcpy(at, to[i], strlen(to[i]));
        CHECK_OK(df_file_write(path, copy, size, &test_error));
        CHECK_STATUS(train(&p, "run", &again, NULL, 0), DF_BAD_FILE);
      }
      df_free(copy);
    }
    for (size_t cut = 0; cut < size; cut += size / 7) {
      DURING("cut at %zu", cut);
      CHECK_OK(df_file_write(path, bytes, cut, &test_error));
      CHECK_STATUS(train(&p, "run", &again, NULL, 0), DF_BAD_FILE);
    }
    CHECK_OK(df_file_write(path, bytes, size, &test_error));
    CHECK_STATUS(train(&p, "run", &again, NULL, 0), DF_STOPPED);
    CHECK_INT(again.reports, 1);
  }
  df_free(bytes);
  run nothing = {.resume = true};
  CHECK_STATUS(train(&p, "other", &nothing, NULL, 0), DF_IO);
  CHECK_CONTAINS(test_error.message, "nothing to resume");
  place_close(&p);
}

TEST(a_rate_that_is_too_high_is_an_error_and_not_a_model) {
  place p;
  place_open(&p);
  run k = {0};
  const char *const changes[] = {"training.rate=1",           "training.clip_gradient=0",
                                 "training.weight_decay=100", "training.steps=400",
                                 "training.warmup=0",         "training.schedule=constant"};
  CHECK_STATUS(train(&p, "run", &k, changes, COUNT(changes)), DF_BAD_VALUE);
  CHECK_CONTAINS(test_error.message, "finite");
  place_close(&p);
}

TEST(running_out_of_memory_is_an_error) {
  place p;
  place_open(&p);
  df_recipe recipe;
  df_trainer *t = NULL;
  CHECK_WITHOUT_MEMORY(df_recipe_read(&recipe, p.recipe, NULL, 0, &test_error));
  CHECK_WITHOUT_MEMORY(df_trainer_create(&t, &recipe, 2, &test_error));
  double norm;
  df_alloc_fail_after(20);
  CHECK_STATUS(df_trainer_step(t, &norm, &test_error), DF_NO_MEMORY);
  df_alloc_fail_after(-1);
  CHECK_OK(df_trainer_step(t, &norm, &test_error));
  df_trainer_free(t);
  df_recipe_free(&recipe);
  place_close(&p);
}

// ---- Parts ----

TEST(an_epoch_is_a_permutation_in_batches_of_similar_length) {
  enum { N = 1000, BATCH = 9 };
  static int32_t tokens[N];
  for (int i = 0; i < N; i++) tokens[i] = 1 + i * 7919 % 20;
  df_order o, again;
  if (!CHECK_OK(df_order_create(&o, tokens, N, BATCH, 3, &test_error)) ||
      !CHECK_OK(df_order_create(&again, tokens, N, BATCH, 3, &test_error)))
    return;
  CHECK_INT(o.batches, N / BATCH);
  long spread = 0;
  int32_t before[BATCH];
  for (int epoch = 0; epoch < 3; epoch++) {
    static int seen[N];
    memset(seen, 0, sizeof seen);
    df_order_epoch(&o, epoch);
    for (int b = 0; b < o.batches; b++) {
      const int32_t *s = o.sequences + b * BATCH;
      for (int i = 0; i < BATCH; i++) {
        seen[s[i]]++;
        CHECK(i == 0 || tokens[s[i]] <= tokens[s[i - 1]]);
      }
      spread += tokens[s[0]] - tokens[s[BATCH - 1]];
    }
    for (int i = 0; i < N; i++) CHECK(seen[i] <= 1);
    CHECK(epoch == 0 || memcmp(before, o.sequences, sizeof before));
    memcpy(before, o.sequences, sizeof before);
  }
  CHECK(spread < 3L * o.batches * 3);
  df_order_epoch(&again, 2); // whatever came before
  CHECK(!memcmp(again.sequences, o.sequences, (size_t)o.batches * BATCH * sizeof(int32_t)));
  df_order_free(&o);
  df_order_free(&again);
}

TEST(the_rate_warms_up_and_falls_by_a_cosine) {
  df_recipe r = {.steps = 110, .warmup = 10, .cosine = true, .rate = 1, .rate_end = 0.1};
  CHECK_NEAR(df_learning_rate(&r, 0), 0.1, 1e-12);
  CHECK_NEAR(df_learning_rate(&r, 9), 1, 1e-12);
  CHECK_NEAR(df_learning_rate(&r, 10), 1, 1e-12);
  CHECK_NEAR(df_learning_rate(&r, 60), 0.55, 1e-12);
  CHECK_NEAR(df_learning_rate(&r, 110), 0.1, 1e-12);
  CHECK_NEAR(df_learning_rate(&r, 500), 0.1, 1e-12);
  r.cosine = false;
  CHECK_NEAR(df_learning_rate(&r, 60), 1, 1e-12);
}

TEST(augmentation_stretches_and_turns) {
  df_recipe r = {.seed = 4, .augment_scale = 0.2, .augment_rotate = 0.3};
  double sum = 0;
  for (int i = 0; i < 500; i++) {
    df_augment a = df_augment_draw(&r, i, 2);
    double sx = hypot(a.m[0], a.m[2]), sy = hypot(a.m[1], a.m[3]), turn = atan2(a.m[2], a.m[0]);
    CHECK(sx > 0.8 - 1e-6 && sx < 1.2 + 1e-6 && sy > 0.8 - 1e-6 && sy < 1.2 + 1e-6 &&
          fabs(turn) < 0.3 + 1e-6);
    CHECK_NEAR((double)a.m[0] * a.m[1] + (double)a.m[2] * a.m[3], 0,
               1e-6); // axes stay at right angles
    CHECK_NEAR(turn, atan2(-a.m[1], a.m[3]), 1e-6);
    sum += turn;
  }
  CHECK_NEAR(sum / 500, 0, 0.03);
  df_recipe none = {.seed = 4};
  df_augment a = df_augment_draw(&none, 3, 2);
  CHECK(a.m[0] == 1 && a.m[1] == 0 && a.m[2] == 0 && a.m[3] == 1);
}

// Central differences of the whole loss along a random direction.
TEST(the_gradient_of_every_mode_is_the_derivative_of_its_loss) {
  static const char *const changes[][3] = {
      {"training.mode=independent", TRANSFORMER_STOPS},
      {"training.mode=teacher-forcing", TRANSFORMER_STOPS},
      {"training.mode=full-sequence", TRANSFORMER_STOPS},
      {"training.mode=independent"},
      {"training.mode=teacher-forcing"},
      {"training.mode=teacher-forcing", "model.denoiser.initial=learned"},
      {"training.mode=full-sequence", "model.denoiser.initial=learned"}};
  place p;
  place_open(&p);
  for (int i = 0; i < COUNT(changes); i++) {
    df_recipe recipe;
    df_trainer *t = NULL;
    df_loss *l = NULL;
    int count = changes[i][1] ? 2 : 1, B = 4;
    DURING("%s", changes[i][count - 1]);
    if (!CHECK_OK(df_recipe_read(&recipe, p.recipe, changes[i], count, &test_error))) continue;
    if (CHECK_OK(df_trainer_create(&t, &recipe, 1, &test_error)) &&
        CHECK_OK(df_loss_create(&l, DF_LOSS_TRAIN, recipe.mode, &t->config, &t->params, t->longest,
                                B, false, &test_error))) {
      size_t P = t->params.size;
      float *gradient = df_alloc(P * sizeof(float)), *direction = df_alloc(P * sizeof(float)),
            *start = df_alloc(P * sizeof(float));
      df_loss_clear(l, &t->config.network, B);
      for (int b = 0; b < B; b++)
        df_trainer_fill(t, l, b, b, 0, 0.01, 0.1, df_trainer_scratch(t, 0));
      CHECK_OK(df_loss_run(l, B, gradient, &test_error));
      df_random_normal(&(df_random){.seed = 9, .purpose = DF_RANDOM_TEST}, (int)P, direction);
      memcpy(start, t->params.values, P * sizeof(float));
      double want = 0, value[2];
      // ReLU has corners
      const bool corners = t->config.network.window > 0;
      const double h = corners ? 3e-4 : 1e-3;
      for (size_t j = 0; j < P; j++) want += (double)gradient[j] * direction[j];
      for (int side = 0; side < 2; side++) {
        for (size_t j = 0; j < P; j++)
          t->params.values[j] = start[j] + (float)((side ? -h : h) * direction[j]);
        CHECK_OK(df_loss_run(l, B, gradient, &test_error));
        value[side] = (double)l->loss[0] + l->stop[0];
      }
      CHECK_NEAR((value[0] - value[1]) / (2 * h), want,
                 2e-3 * fabs(want) + (corners ? 1e-2 : 1e-3));
      df_free(gradient);
      df_free(direction);
      df_free(start);
    }
    df_loss_free(l);
    df_trainer_free(t);
    df_recipe_free(&recipe);
  }
  place_close(&p);
}

TEST(plans_that_wait_keep_within_their_memory) {
  place p;
  place_open(&p);
  df_recipe recipe;
  df_trainer *t = NULL;
  if (CHECK_OK(df_recipe_read(&recipe, p.recipe, NULL, 0, &test_error)) &&
      CHECK_OK(df_trainer_create(&t, &recipe, 1, &test_error))) {
    double norm;
    t->cache.limit = 1; // less than one plan: only those in use are kept
    for (int i = 0; i < 8; i++) {
      CHECK_OK(df_trainer_step(t, &norm, &test_error));
      CHECK(t->cache.count <= recipe.shards);
      size_t bytes = 0;
      for (int k = 0; k < t->cache.count; k++) bytes += t->cache.items[k]->bytes;
      CHECK_INT(bytes, t->cache.bytes);
    }
  }
  df_trainer_free(t);
  df_recipe_free(&recipe);
  place_close(&p);
}

TEST(movements_become_positions_around_the_middle_and_back) {
  float values[] = {9, 9, 1, /**/ 4, 0, 0, /**/ 0, -3, 1, /**/ 5, 5, 0};
  int32_t offsets[] = {0, 3, 4};
  df_dataset data = {.count = 2, .fields = 3, .offsets = offsets, .values = values};
  df_dataset_to_positions(&data);
  const float positions[] = {-2, 2, 1, /**/ 2, 2, 0, /**/ 2, -1, 1, /**/ 0, 0, 0};
  CHECK_FLOATS(values, positions, 12, 0);
  df_dataset_to_movements(&data);
  const float movements[] = {0, 0, 1, /**/ 4, 0, 0, /**/ 0, -3, 1, /**/ 0, 0, 0};
  CHECK_FLOATS(values, movements, 12, 0);
}
