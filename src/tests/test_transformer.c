// The token transformer against the authors' PyTorch code (branch `main`): network and gradients, single steps of a
// window whose tokens are all at different levels, whole sequences, plans with and without guidance.
#include "base/random.h"
#include "diffusion/internal.h"
#include "tests/golden_model.h"

enum { MAX_T = 16, MAX_B = 4 };

static void compare(golden_model *m, const char *name, const float *got, size_t at, int n) {
  const float *want = golden_floats(&m->g, name);
  if (want) CHECK_FLOATS(got, want + at, n, golden_tolerance(m, name));
}

// ---- All tokens in one graph ----

typedef struct pass {
  df_graph *g;
  df_error declared;
  df_nn nn;
  df_tensor *x[MAX_T], *level[MAX_T], *cond[MAX_T], *out[MAX_T];
} pass;

static bool pass_open(pass *p, const df_network *net, df_params *params, int T) {
  *p = (pass){.g = df_graph_create()};
  p->nn = (df_nn){p->g, params, &p->declared};
  for (int t = 0; t < T; t++) {
    p->x[t] = df_input_grad(p->g, "x", 1, net->token_size, true);
    p->level[t] = df_input(p->g, "level", 1, 1, true);
    if (net->condition_size) p->cond[t] = df_input(p->g, "cond", 1, net->condition_size, true);
  }
  df_unrolled seq = {.T = T,
                     .x = p->x,
                     .level = p->level,
                     .cond = net->condition_size ? p->cond : NULL,
                     .out = p->out};
  net->denoiser->build(net, &p->nn, &seq);
  return CHECK_TEXT(p->declared.message, "") && CHECK_TEXT(df_graph_error(p->g)->message, "");
}

// (T, B, n) into the inputs of a plan.
static void give(df_plan *plan, df_tensor *const *to, int T, int B, const float *values) {
  for (int t = 0; t < T; t++) {
    const int n = B * to[t]->cols;
    memcpy(df_plan_data(plan, to[t]), values + t * n, (size_t)n * sizeof(float));
  }
}

TEST(network_and_gradients_are_those_of_the_reference) {
  static const char *const files[] = {"main_transformer_causal", "main_transformer_full"};
  for (int f = 0; f < COUNT(files); f++) {
    golden_model m = {.g = golden_open(files[f])};
    const df_json *c = m.g.config;
    REQUIRE(c != NULL);
    m.run = df_json_at(c, "case");
    m.network = (df_network){.denoiser = &df_denoiser_transformer,
                             .token_size = golden_int(c, "x_dim"),
                             .condition_size = golden_int(c, "external_cond_dim"),
                             .network_size = golden_int(c, "size"),
                             .hidden_size = golden_int(c, "dim_feedforward"),
                             .layers = golden_int(c, "num_layers"),
                             .heads = golden_int(c, "nhead"),
                             .window = golden_int(m.run, "frames"),
                             .causal = golden_int(c, "is_causal")};
    const int T = m.network.window, B = golden_int(m.run, "batch"), X = m.network.token_size;
    const float *x = golden_floats(&m.g, "in.x"), *seed = golden_floats(&m.g, "in.grad_out"),
                *cond = m.network.condition_size ? golden_floats(&m.g, "in.external_cond") : NULL;
    const int64_t *k = golden_ints(&m.g, "in.k");
    if (x && seed && k && CHECK_OK(m.network.denoiser->check(&m.network, &test_error)) &&
        CHECK_OK(df_network_declare(&m.network, &m.params, &test_error)) &&
        golden_weights(&m, files[f])) {
      pass p;
      df_plan *plan = NULL;
      df_tensor *seeds[MAX_T], *wrt[256], *grads[256], *outputs[300];
      const int n = m.params.count;
      if (pass_open(&p, &m.network, &m.params, T)) {
        for (int t = 0; t < T; t++) seeds[t] = df_input(p.g, "seed", 1, X, true);
        for (int i = 0; i < n; i++) wrt[i] = df_parameter(p.g, m.params.items[i]);
        for (int t = 0; t < T; t++) wrt[n + t] = p.x[t];
        CHECK_OK(df_gradient_seeded(p.out, seeds, T, wrt, grads, n + T, &test_error));
        for (int t = 0; t < T; t++) outputs[t] = p.out[t];
        for (int i = 0; i < n + T; i++) outputs[T + i] = grads[i];
        CHECK_OK(df_plan_create(&plan, p.g, outputs, 2 * T + n, &(df_plan_options){.batch = B},
                                &test_error));
      }
      if (plan) {
        float level[MAX_T * MAX_B];
        for (int i = 0; i < T * B; i++) level[i] = (float)k[i];
        give(plan, p.x, T, B, x);
        give(plan, p.level, T, B, level);
        give(plan, seeds, T, B, seed);
        if (cond) give(plan, p.cond, T, B, cond);
        CHECK_OK(df_plan_run(plan, B, &test_error));
        for (int t = 0; t < T; t++) {
          DURING("token %d of %s", t, files[f]);
          compare(&m, "out.y", df_plan_data(plan, p.out[t]), (size_t)(t * B * X), B * X);
          compare(&m, "grad.in.x", df_plan_data(plan, grads[n + t]), (size_t)(t * B * X), B * X);
        }
        for (int i = 0; i < n; i++) {
          char name[200];
          const df_param *param = m.params.items[i];
          snprintf(name, sizeof name, "grad.weights.%s", param->name + strlen("model."));
          DURING("%s of %s", name, files[f]);
          compare(&m, name, df_plan_data(plan, grads[i]), 0, param->rows * param->cols);
        }
      }
      df_plan_free(plan);
      df_graph_free(p.g);
    }
    df_params_free(&m.params);
    golden_close(&m.g);
  }
}

// ---- Steps of a window ----

// A golden file's model behind a runner for whole windows.
typedef struct fixture {
  golden_model m;
  df_config config;
  df_cell_runner *runner;
  int B, T, X, E;
} fixture;

static bool open(fixture *f, const char *name) {
  *f = (fixture){0};
  if (!golden_model_open(&f->m, name)) return false;
  f->config.network = f->m.network;
  f->config.objective = f->m.objective;
  f->config.K = f->m.noise.K;
  f->config.clip_noise = f->m.clip_noise;
  f->B = golden_int(f->m.run, "batch");
  f->T = f->m.network.window, f->X = f->m.network.token_size, f->E = f->m.network.condition_size;
  return CHECK_OK(df_cell_create(
      &f->runner, &f->config, &f->m.noise, &f->m.params,
      &(df_cell_options){.cells = f->B * f->T, .sequences = f->B, .threads = 1}, &test_error));
}

static void shut(fixture *f) {
  df_cell_free(f->runner);
  golden_model_close(&f->m);
}

// The reference's counters: S is pure noise, 0 finished.
static int level_of(const fixture *f, int64_t counter) {
  return (int)((int64_t)f->config.K * counter / f->m.S);
}
static int stabilization(const fixture *f) {
  return golden_int(f->m.diffusion, "stabilization_level");
}

// One pass over a window of T tokens (T, B, X) at levels (T, B); cell b T + t. clean: what a finished token gets.
static bool run_window(fixture *f, int T, const float *x, const int *level, const float *cond) {
  for (int b = 0; b < f->B; b++)
    for (int t = 0; t < T; t++) {
      const int c = b * T + t, at = t * f->B + b, X = f->X, E = f->E;
      const bool clean = level[at] == 0;
      const int seen = clean ? stabilization(f) : level[at];
      const float scale = clean ? f->m.noise.sqrt_abar[seen] : 1;
      for (int j = 0; j < X; j++) df_cell_x(f->runner)[c * X + j] = scale * x[at * X + j];
      if (E) memcpy(df_cell_cond(f->runner) + c * E, cond + at * E, (size_t)E * sizeof *cond);
      df_cell_level(f->runner)[c] = seen;
      df_cell_places(f->runner)[c] = (df_cell_place){b, t, f->config.network.causal ? t + 1 : T};
    }
  return CHECK_OK(df_cell_run(f->runner, f->B * T, &test_error));
}

// Moves the tokens of the window that was run to their next levels. noise (T, B, X) or NULL.
static void move_window(const fixture *f, int T, const float *x, const int *from, const int *to,
                        float eta, bool ancestral, const float *noise, float *next) {
  for (int b = 0; b < f->B; b++)
    for (int t = 0; t < T; t++) {
      const int at = t * f->B + b, X = f->X;
      if (from[at] == to[at])
        memcpy(next + at * X, x + at * X, (size_t)X * sizeof *x);
      else
        df_cell_move(f->runner, b * T + t, to[at], eta, ancestral, noise ? noise + at * X : NULL,
                     next + at * X);
    }
}

// The model of a file; fields (C) are the caller's.
static df_model model_of(const fixture *f, df_field *fields) {
  df_model model = {.config = f->config, .noise = f->m.noise, .params = f->m.params};
  model.config.frame_stack = f->m.frame_stack;
  model.config.fields = fields;
  model.config.field_count = f->X / f->m.frame_stack;
  model.config.sampling.max_tokens = f->T;
  return model;
}

enum { MAX_TERMS = 8 };

// A guided step (T, B, X) of a window by the library's sampler: each sequence walks down a table of two rows, of levels
// as they are (S = K). The reference asks the network for the clean estimate of a finished token, too, so here it is a
// token at the level at which it enters the network, and stays there. The objective of sequence b: terms[b]. value is J
// of all sequences, grad dJ/dx of what the network saw.
static void guide(const fixture *f, const float *x, const int *from, const int *to,
                  const float *cond, df_guide_term (*terms)[MAX_TERMS], int count, float *value,
                  float *grad, float *next) {
  const int B = f->B, T = f->T, X = f->X, fs = f->m.frame_stack;
  const size_t size = (size_t)X * sizeof(float);
  double J = 0;
  df_field fields[16];
  for (int j = 0; j < X / fs; j++) fields[j] = (df_field){.name = "x", .std = 1};
  const df_model model = model_of(f, fields);
  for (int b = 0; b < B; b++) {
    int32_t table[2 * MAX_T];
    for (int t = 0; t < T; t++) {
      const int at = t * B + b, seen = from[at] ? from[at] : stabilization(f);
      table[t] = seen, table[T + t] = from[at] ? to[at] : seen;
    }
    df_sampler_options o = df_sampler_defaults();
    o.length = T, o.steps = f->config.K, o.eta = 0;
    o.table = table, o.table_rows = 2, o.allow_partial = true;
    const df_guidance g = {
        .terms = terms[b], .term_count = count, .scale = 1, .futures = 1, .shift = DF_SHIFT_NEXT};
    df_sampler *s = NULL;
    if (CHECK_OK(df_sampler_create(&s, &model, &o, &test_error)) &&
        CHECK_OK(df_sampler_guide(s, &g, &test_error))) {
      for (int t = 0; t < T; t++) {
        const int at = t * B + b;
        const float scale = from[at] ? 1 : f->m.noise.sqrt_abar[table[t]];
        float seen[64];
        for (int j = 0; j < X; j++) seen[j] = scale * x[at * X + j];
        CHECK_OK(df_sampler_start(s, 0, t, seen, fs, true, &test_error));
        if (cond) CHECK_OK(df_sampler_condition(s, 0, t, cond + at * f->E, &test_error));
      }
      CHECK_OK(df_sampler_step(s, &test_error));
      J += df_sampler_state(s)->objective[0];
      for (int t = 0; t < T; t++) {
        const int at = t * B + b;
        memcpy(grad + at * X, df_guided_gradient(s, 0, t), size);
        memcpy(next + at * X, from[at] == to[at] ? x + at * X : df_sampler_state(s)->values + t * X,
               size);
      }
    }
    df_sampler_free(s);
  }
  *value = (float)J;
}

// What main_sample_* raises, of one sequence: -weight_t (x0 - goal)^2 of the first two entries. goal (2), weight (T).
static void window_terms(const fixture *f, const float *goal, const float *weight,
                         df_guide_term *terms) {
  for (int t = 0; t < f->T; t++) {
    terms[t] = (df_guide_term){.kind = DF_GUIDE_TARGET, .weight = (double)weight[t], .y = 1};
    terms[t].first = terms[t].last = t;
    for (int j = 0; j < 2; j++) terms[t].at[j] = (double)goal[j];
  }
}

// Levels (T, B) from the file's counters.
static bool levels(fixture *f, const char *name, int n, bool per_sequence, size_t at, int *out) {
  const int64_t *counters = golden_ints(&f->m.g, name);
  for (int i = 0; counters && i < n; i++)
    out[i] = level_of(f, counters[at + (size_t)(per_sequence ? i : i / f->B)]);
  return counters != NULL;
}

TEST(a_step_of_a_window_is_that_of_the_reference) {
  static const char *const files[] = {"main_sample_ddim_v", "main_sample_ddim_x0",
                                      "main_sample_ddim_noise", "main_sample_ddpm"};
  for (int i = 0; i < COUNT(files); i++) {
    fixture f;
    int from[MAX_T * MAX_B], to[MAX_T * MAX_B];
    float next[1024], x0[1024], eps[1024], grad[1024], value;
    if (open(&f, files[i])) {
      golden *g = &f.m.g;
      const bool ancestral = f.m.S == f.config.K;
      const int n = f.T * f.B * f.X;
      const float *x = golden_floats(g, "in.x"), *noise = golden_floats(g, "in.noise"),
                  *cond = f.E ? golden_floats(g, "in.external_cond") : NULL,
                  *seen = golden_floats(g, "out.model_input.x");
      if (x && noise && seen && (!f.E || cond) && levels(&f, "in.from", f.T * f.B, true, 0, from) &&
          levels(&f, "in.to", f.T * f.B, true, 0, to) && run_window(&f, f.T, x, from, cond)) {
        DURING("%s", files[i]);
        if (ancestral) { // its finished tokens are noised, which the library's are not
          for (int b = 0; b < f.B; b++)
            for (int t = 0; t < f.T; t++)
              memcpy(df_cell_x(f.runner) + (b * f.T + t) * f.X, seen + (t * f.B + b) * f.X,
                     (size_t)f.X * sizeof *seen);
          CHECK_OK(df_cell_run(f.runner, f.B * f.T, &test_error));
        }
        for (int b = 0; b < f.B; b++)
          for (int t = 0; t < f.T; t++) {
            const int c = (b * f.T + t) * f.X, at = (t * f.B + b) * f.X;
            compare(&f.m, "out.model_input.x", df_cell_x(f.runner) + c, (size_t)at, f.X);
            memcpy(x0 + at, df_cell_x0(f.runner) + c, (size_t)f.X * sizeof *x0);
            memcpy(eps + at, df_cell_eps(f.runner) + c, (size_t)f.X * sizeof *eps);
          }
        compare(&f.m, "out.predict.pred_x_start", x0, 0, n);
        if (ancestral) {
          move_window(&f, f.T, x, from, to, 0, true, noise, next);
          compare(&f.m, "out.x_next", next, 0, n);
        } else {
          compare(&f.m, "out.predict.pred_noise", eps, 0, n);
          for (int eta = 0; eta < 2; eta++) {
            move_window(&f, f.T, x, from, to, (float)eta, false, noise, next);
            compare(&f.m, eta ? "out.eta1.x_next" : "out.eta0.x_next", next, 0, n);
          }
          df_guide_term terms[MAX_B][MAX_TERMS];
          const float *goal = golden_floats(g, "in.guidance.goal"),
                      *weight = golden_floats(g, "in.guidance.weight");
          REQUIRE(goal && weight && f.B <= MAX_B && f.T <= MAX_TERMS);
          for (int b = 0; b < f.B; b++) window_terms(&f, goal + 2 * b, weight, terms[b]);
          guide(&f, x, from, to, cond, terms, f.T, &value, grad, next);
          compare(&f.m, "out.guided.dG_dx", grad, 0, n);
          compare(&f.m, "out.guided.x_next", next, 0, n);
        }
      }
    }
    shut(&f);
  }
}

// ---- Whole sequences ----

// Raw frames (B, n, C) of the file as tokens (T, B, X), normalised; conditions the same without the first frame.
static void stack(const fixture *f, const float *frames, int n, const float *mean, const float *std,
                  bool cut_first, float *tokens) {
  const int fs = f->m.frame_stack, B = f->B, C = (mean ? f->X : f->E) / fs;
  for (int b = 0; b < B; b++)
    for (int i = 0; i < n; i++)
      for (int j = 0; j < C; j++) {
        const float v = frames[(b * n + i) * C + j];
        tokens[((i / fs * B + b) * fs + i % fs) * C + j] = cut_first && i == 0 ? 0
                                                           : mean ? (v - mean[j]) / std[j]
                                                                  : v;
      }
}

TEST(whole_sequences_in_a_sliding_window_are_those_of_the_reference) {
  fixture f;
  if (open(&f, "main_sampling_loop")) {
    golden *g = &f.m.g;
    const int tokens = golden_int(f.m.run, "tokens"),
              context = golden_int(f.m.run, "context_tokens"), total = tokens + context,
              fs = f.m.frame_stack, B = f.B, X = f.X, C = X / fs, n = total * fs;
    const float *xs = golden_floats(g, "in.xs"), *conditions = golden_floats(g, "in.conditions"),
                *mean = golden_floats(g, "weights.data_mean"),
                *std = golden_floats(g, "weights.data_std");
    const df_json *runs = df_json_at(f.m.run, "runs");
    float data[512], cond[512], sequence[512], next[512];
    REQUIRE(xs && conditions && mean && std && runs && total * B * X <= COUNT(data));
    stack(&f, xs, n, mean, std, false, data);
    stack(&f, conditions, n, NULL, NULL, true, cond);
    for (const df_json *run = runs->first; run; run = run->next) {
      const char *tag = df_json_at(run, "tag")->string;
      const int chunk = golden_int(run, "chunk_size");
      char name[96];
      memcpy(sequence, data, sizeof data);
      for (int k = 0, at = context; at < total; k++) {
        const int h = total - at < chunk ? total - at : chunk,
                  first = at + h > f.T ? at + h - f.T : 0, W = at + h - first;
        snprintf(name, sizeof name, "in.%s.chunk%d.noise", tag, k);
        const float *noise = golden_floats(g, name);
        REQUIRE(noise != NULL);
        for (int i = 0; i < h * B * X; i++)
          sequence[at * B * X + i] = df_clip(noise[i], f.config.clip_noise);
        snprintf(name, sizeof name, "out.%s.chunk%d.from", tag, k);
        const int rows = (int)golden_view(g, name)->shape[0];
        for (int m = 0; m < rows; m++) {
          int from[MAX_T * MAX_B], to[MAX_T * MAX_B];
          float *window = sequence + first * B * X;
          snprintf(name, sizeof name, "out.%s.chunk%d.from", tag, k);
          levels(&f, name, W * B, false, (size_t)(m * W), from);
          snprintf(name, sizeof name, "out.%s.chunk%d.to", tag, k);
          levels(&f, name, W * B, false, (size_t)(m * W), to);
          DURING("row %d of chunk %d of run %s", m, k, tag);
          if (!run_window(&f, W, window, from, cond + first * B * f.E)) break;
          move_window(&f, W, window, from, to, 0, false, NULL, next);
          memcpy(window, next, (size_t)(W * B * X) * sizeof *next);
          snprintf(name, sizeof name, "out.%s.chunk%d.window", tag, k);
          compare(&f.m, name, window, (size_t)(m * W * B * X), W * B * X);
        }
        at += h;
      }
      for (int i = 0; i < n; i++) // frames in data units
        for (int b = 0; b < B; b++)
          for (int j = 0; j < C; j++)
            next[(i * B + b) * C + j] =
                sequence[((i / fs * B + b) * fs + i % fs) * C + j] * std[j] + mean[j];
      snprintf(name, sizeof name, "out.%s.xs_pred", tag);
      compare(&f.m, name, next, 0, n * B * C);
    }
  }
  shut(&f);
}

// ---- Plans ----

// What the published planner raises (golden/README.md), of one sequence: position, velocity and action of the frames of
// the start token, then of all others. start, goal (4); actions towards 0.
enum { PLAN_TERMS = 6 };
static void plan_terms(const fixture *f, const float *start, const float *goal,
                       df_guide_term *terms) {
  const int fs = f->m.frame_stack, frames = f->T * fs;
  const double scale = 1000 * golden_number(f->m.algorithm, "guidance_scale");
  for (int i = 0; i < PLAN_TERMS; i++) {
    const bool rest = i >= 3;
    const int k = i % 3, n = rest ? frames - fs : fs; // frames of the term, which is their mean
    df_guide_term *term = &terms[i];
    *term = (df_guide_term){.kind = DF_GUIDE_AT, .x = 2 * k, .y = 2 * k + 1};
    term->first = rest ? fs : 0, term->last = rest ? -1 : fs - 1;
    term->weight = scale * (rest ? 8 : 2) * n / (frames * f->B * 3);
    if (k == 2) continue;
    term->kind = DF_GUIDE_AT_TANH, term->size[0] = 2, term->weight /= 2; // 2 tanh(d / 2)
    for (int j = 0; j < 2; j++) term->at[j] = (double)(rest ? goal : start)[2 * k + j];
  }
}

TEST(a_guided_plan_is_that_of_the_reference) {
  fixture f;
  if (open(&f, "main_plan_guided")) {
    golden *g = &f.m.g;
    const int B = f.B, X = f.X, T = f.T, fs = f.m.frame_stack, C = X / fs, n = T * B * X;
    const int horizon = golden_int(f.m.run, "horizon"), plan = (horizon + fs - 1) / fs;
    const float *start = golden_floats(g, "in.start"), *goal = golden_floats(g, "in.goal"),
                *noise = golden_floats(g, "in.noise");
    df_guide_term terms[MAX_B][MAX_TERMS];
    float x[1024], next[1024], grad[1024], value;
    REQUIRE(start && goal && noise && B <= MAX_B && n <= COUNT(x));
    for (int b = 0; b < B; b++) plan_terms(&f, start + 4 * b, goal + 4 * b, terms[b]);
    memset(x, 0, sizeof x);
    for (int b = 0; b < B; b++)
      for (int i = 0; i < fs; i++) memcpy(x + b * X + i * C, start + 4 * b, 4 * sizeof *x);
    for (int i = 0; i < plan * B * X; i++) x[B * X + i] = df_clip(noise[i], f.config.clip_noise);
    const int rows = (int)golden_view(g, "out.from")->shape[0];
    for (int m = 0; m < rows; m++) {
      int from[MAX_T * MAX_B], to[MAX_T * MAX_B];
      levels(&f, "out.from", T * B, false, (size_t)(m * T), from);
      levels(&f, "out.to", T * B, false, (size_t)(m * T), to);
      DURING("row %d", m);
      compare(&f.m, "out.step_in", x, (size_t)(m * n), n);
      guide(&f, x, from, to, NULL, terms, PLAN_TERMS, &value, grad, next);
      compare(&f.m, "out.objective", &value, (size_t)m, 1);
      compare(&f.m, "out.dG_dx", grad, (size_t)(m * n), n);
      compare(&f.m, "out.step_out", next, (size_t)(m * n), n);
      memcpy(x + B * X, next + B * X, (size_t)(plan * B * X) * sizeof *x);
    }
    float frames[512];
    for (int i = 0; i < horizon; i++)
      for (int b = 0; b < B; b++)
        memcpy(frames + (i * B + b) * C, x + ((1 + i / fs) * B + b) * X + i % fs * C,
               (size_t)C * sizeof *x);
    compare(&f.m, "out.plan", frames, 0, horizon * B * C);
  }
  shut(&f);
}

// ---- The library's own sampler, which keeps what attention needs of finished tokens ----

// Chunks of one token are what an autoregressive table makes.
TEST(the_sampler_s_window_slides_as_that_of_the_reference) {
  fixture f;
  if (open(&f, "main_sampling_loop")) {
    golden *g = &f.m.g;
    const int tokens = golden_int(f.m.run, "tokens"),
              context = golden_int(f.m.run, "context_tokens"), total = tokens + context,
              fs = f.m.frame_stack, B = f.B, C = f.X / fs, n = total * fs;
    const float *xs = golden_floats(g, "in.xs"), *conditions = golden_floats(g, "in.conditions"),
                *mean = golden_floats(g, "weights.data_mean"),
                *std = golden_floats(g, "weights.data_std");
    df_field fields[16];
    float cond[512];
    REQUIRE(xs && conditions && mean && std && C <= COUNT(fields) && total > f.T);
    for (int j = 0; j < C; j++) fields[j] = (df_field){.name = "x", .mean = mean[j], .std = std[j]};
    stack(&f, conditions, n, NULL, NULL, true, cond);
    const df_model model = model_of(&f, fields);
    df_sampler_options o = df_sampler_defaults();
    o.batch = B, o.length = total, o.schedule = DF_AUTOREGRESSIVE, o.steps = f.m.S, o.eta = 0;
    o.stabilization = stabilization(&f);
    df_sampler *s = NULL;
    if (CHECK_OK(df_sampler_create(&s, &model, &o, &test_error))) {
      for (int b = 0; b < B; b++)
        for (int t = 0; t < total; t++) {
          CHECK_OK(df_sampler_condition(s, b, t, cond + (t * B + b) * f.E, &test_error));
          if (t < context) {
            CHECK_OK(df_sampler_keep(s, b, t, xs + (b * n + t * fs) * C, fs, &test_error));
            continue;
          }
          char name[64];
          snprintf(name, sizeof name, "in.auto.chunk%d.noise", t - context);
          const float *noise = golden_floats(g, name);
          if (noise) CHECK_OK(df_sampler_set_noise(s, b, t, noise + b * f.X));
        }
      while (!df_sampler_done(s) && CHECK_OK(df_sampler_step(s, &test_error))) continue;
      const float *values = df_sampler_state(s)->values;
      for (int b = 0; b < B; b++)
        for (int i = 0; i < n; i++) {
          DURING("sequence %d, frame %d", b, i);
          compare(&f.m, "out.auto.xs_pred", values + (b * n + i) * C, (size_t)((i * B + b) * C), C);
        }
    }
    df_sampler_free(s);
  }
  shut(&f);
}

TEST(the_sampler_makes_the_reference_s_plan) {
  fixture f;
  if (open(&f, "main_plan_causal")) {
    golden *g = &f.m.g;
    const int B = f.B, X = f.X, T = f.T, fs = f.m.frame_stack, C = X / fs;
    const float *start = golden_floats(g, "in.start"), *noise = golden_floats(g, "in.noise");
    df_field fields[16];
    for (int j = 0; j < C; j++) fields[j] = (df_field){.name = "x", .std = 1};
    const df_model model = model_of(&f, fields);
    df_sampler_options o = df_sampler_defaults();
    o.batch = B, o.length = T, o.schedule = DF_PYRAMID, o.steps = f.m.S, o.eta = 0;
    o.uncertainty = golden_number(f.m.algorithm, "uncertainty_scale");
    o.stabilization = stabilization(&f);
    df_sampler *s = NULL;
    if (start && noise && CHECK_OK(df_sampler_create(&s, &model, &o, &test_error))) {
      for (int b = 0; b < B; b++) {
        float frames[64] = {0};
        for (int i = 0; i < fs; i++) memcpy(frames + i * C, start + 4 * b, 4 * sizeof *frames);
        CHECK_OK(df_sampler_keep(s, b, 0, frames, fs, &test_error));
        for (int t = 1; t < T; t++)
          CHECK_OK(df_sampler_set_noise(s, b, t, noise + ((t - 1) * B + b) * X));
      }
      const df_sampler_info *info = df_sampler_state(s);
      for (int m = 0; !df_sampler_done(s) && CHECK_OK(df_sampler_step(s, &test_error)); m++)
        for (int b = 0; b < B; b++)
          for (int t = 1; t < T; t++) {
            DURING("row %d, sequence %d, token %d", m, b, t);
            compare(&f.m, "out.step_out", info->values + (b * T + t) * X,
                    (size_t)(((m * T + t) * B + b) * X), X);
          }
      CHECK_INT(info->row, golden_view(g, "out.from")->shape[0]);
    }
    df_sampler_free(s);
  }
  shut(&f);
}
