// The trainer: the loss and its gradient against the reference code, and runs on a small made-up set.
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

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
