// Verification: models and references made of the golden files (PyTorch's own numbers), and of a random network whose
// outputs come from the graph that training runs.
#include <stdlib.h>

#include "base/random.h"
#include "tests/verify_pair.h"

// ---- What comes out ----

static df_status verify(const pair *p, const df_verify_options *options, df_verification *report) {
  size_t size;
  df_model *model = pair_model(p);
  void *bytes = pair_reference(p, &size);
  df_status status =
      model && bytes ? df_model_verify(model, bytes, size, options, report, &test_error) : DF_IO;
  df_free(bytes);
  df_model_free(model);
  return status;
}

static const df_difference *result(const df_verification *report, const char *name) {
  static const df_difference none;
  for (int i = 0; i < report->count; i++)
    if (!strcmp(report->outputs[i].name, name)) return &report->outputs[i];
  test_check(false, __FILE__, __LINE__, name, " is not in the report");
  return &none;
}

static void check_all_good(const df_verification *report, int count) {
  CHECK_INT(report->count, count);
  CHECK(report->ok);
  for (int i = 0; i < report->count; i++) {
    const df_difference *d = &report->outputs[i];
    test_check(d->ok, __FILE__, __LINE__, d->name, " differs by %.3g, tolerance %.3g", d->absolute,
               d->tolerance);
    CHECK(d->largest >= 0 && d->relative >= 0);
    if (d->largest > 0) CHECK_NEAR(d->relative, d->absolute / d->largest, 1e-12);
  }
}

// ---- The golden files ----

TEST(a_pass_of_the_published_network_is_verified) {
  static const char *const files[] = {"rnn_mlp_plan", "rnn_mlp_pred", "rnn_mlp_gruonly",
                                      "rnn_mlp_nogru", "rnn_mlp_selfcond"};
  for (int i = 0; i < COUNT(files); i++)
    for (int b = 0; b < 3; b++) {
      golden_model m;
      pair p;
      df_verification report;
      pair_begin(&p, "f32");
      if (golden_model_open(&m, files[i])) {
        pair_take_pass(&p, &m, b);
        DURING("%s, sequence %d", files[i], b);
        if (CHECK_OK(verify(&p, NULL, &report))) {
          check_all_good(&report, 4);
          CHECK_TEXT(report.weights, "f32");
        }
      }
      pair_drop(&p);
      golden_model_close(&m);
    }
}

// Tokens in a row: the latent is handed on. x0 is what these networks put out, so x_pred is their output.
TEST(tokens_in_a_row_of_the_published_network_are_verified) {
  static const char *const files[] = {"rnn_mlp_plan", "rnn_mlp_nogru"};
  for (int i = 0; i < COUNT(files); i++)
    for (int b = 0; b < 3; b++) {
      golden_model m;
      pair p;
      df_verification report;
      pair_begin(&p, "f32");
      if (golden_model_open(&m, files[i])) {
        golden *g = &m.g;
        const int D = m.network.token_size, Z = m.network.latent_size, T = 4, B = 3;
        const float *clean = golden_floats(g, "in.train.x"),
                    *noise = golden_floats(g, "in.train.noise"),
                    *z0 = golden_floats(g, "in.train.z0") + b * Z,
                    *outs = golden_floats(g, "out.train.x_pred"),
                    *latents = golden_floats(g, "out.train.z");
        const int64_t *levels = golden_ints(g, "in.train.t");
        float *x = pair_room(&p, (size_t)(T * D)), *out = pair_room(&p, (size_t)(T * D)),
              *z = pair_room(&p, (size_t)(T * Z));
        int64_t level[4];
        for (int t = 0; t < T; t++) {
          const int at = t * B + b;
          level[t] = levels[at] + 1;
          for (int j = 0; j < D; j++) {
            x[t * D + j] = noised(&m, clean[at * D + j], noise[at * D + j], levels[at]);
            out[t * D + j] = outs[at * D + j];
          }
          memcpy(z + t * Z, latents + at * Z, (size_t)Z * sizeof *z);
        }
        pair_take_model(&p, &m, z0, NULL, NULL);
        PUT(&p, "in.x", x, 1, T, D);
        PUT(&p, "in.level", level, 1, T);
        PUT(&p, "out.z0", z0, 1, Z);
        PUT(&p, "out.output", out, 1, T, D);
        PUT(&p, "out.z", z, 1, T, Z);
        pair_noise(&p, "out.z0", largest_of(z0, (size_t)Z), 0);
        pair_noise(&p, "out.output", largest_of(out, (size_t)(T * D)),
                   golden_noise(&m, "out.train.x_pred"));
        pair_noise(&p, "out.z", largest_of(z, (size_t)(T * Z)), golden_noise(&m, "out.train.z"));
        pair_frames(&p, x, 1, T, D);
        DURING("%s, sequence %d", files[i], b);
        if (CHECK_OK(verify(&p, NULL, &report))) check_all_good(&report, 4);
        // The tokens in another order are not the same tokens.
        for (int j = 0; j < D; j++) {
          const float kept = x[j];
          x[j] = x[D + j], x[D + j] = kept;
        }
        if (CHECK_OK(verify(&p, NULL, &report)))
          CHECK(!report.ok && !result(&report, "out.z")->ok && result(&report, "out.z0")->ok &&
                !result(&report, "out.frames")->ok);
      }
      pair_drop(&p);
      golden_model_close(&m);
    }
}

// ---- The same numbers from the graph of training ----

typedef struct inputs {
  int B, T;
  const float *x, *cond, *guess,
      *observation; // as in the reference; the observation in network units
  const int64_t *level;
} inputs;

// (B, n) of a plan from or to (B, T, n) at token t
static void copy_in(df_plan *plan, const df_tensor *t, const float *all, const inputs *in, int at) {
  float *to = t ? df_plan_data(plan, t) : NULL;
  for (int b = 0; to && b < in->B; b++)
    memcpy(to + b * t->cols, all + (b * in->T + at) * t->cols, (size_t)t->cols * sizeof *to);
}
static void copy_out(df_plan *plan, const df_tensor *t, float *all, const inputs *in, int at) {
  const float *from = df_plan_data(plan, t);
  for (int b = 0; b < in->B; b++)
    memcpy(all + (b * in->T + at) * t->cols, from + b * t->cols, (size_t)t->cols * sizeof *all);
}

static void compute(const df_model *model, const inputs *in, float *z0, float *out, float *z) {
  enum { MOST = 8 };
  const df_network *net = &model->config.network;
  const int D = net->token_size, E = net->condition_size, O = net->observation_size, T = in->T;
  df_graph *g = df_graph_create();
  df_error error = {0};
  df_nn nn = {g, (df_params *)&model->params, &error};
  df_tensor *x[MOST], *level[MOST], *cond[MOST], *guess[MOST], *results[2 * MOST + 1];
  df_tensor *observation = O ? df_input(g, "observation", 1, O, true) : NULL;
  for (int t = 0; t < T; t++) {
    x[t] = df_input(g, "x", 1, D, true), level[t] = df_input(g, "level", 1, 1, true);
    cond[t] = E ? df_input(g, "cond", 1, E, true) : NULL;
    guess[t] = net->self_condition ? df_input(g, "guess", 1, D, true) : NULL;
  }
  df_unrolled seq = {.T = T,
                     .z0 = net->denoiser->initial(net, &nn, observation),
                     .x = x,
                     .level = level,
                     .cond = cond,
                     .guess = guess,
                     .out = results,
                     .z = results + T};
  net->denoiser->build(net, &nn, &seq);
  results[2 * T] = seq.z0;
  df_plan *plan = NULL;
  if (CHECK(!error.code) &&
      CHECK_OK(df_plan_create(&plan, g, results, 2 * T + 1, &(df_plan_options){.batch = in->B},
                              &test_error))) {
    const inputs single = {.B = in->B, .T = 1};
    copy_in(plan, observation, in->observation, &single, 0);
    for (int t = 0; t < T; t++) {
      copy_in(plan, x[t], in->x, in, t);
      copy_in(plan, cond[t], in->cond, in, t);
      copy_in(plan, guess[t], in->guess, in, t);
      for (int b = 0; b < in->B; b++)
        df_plan_data(plan, level[t])[b] = (float)(in->level[b * T + t] - 1);
    }
    CHECK_OK(df_plan_run(plan, in->B, &test_error));
    for (int t = 0; t < T; t++) {
      copy_out(plan, results[t], out, in, t);
      copy_out(plan, results[T + t], z, in, t);
    }
    copy_out(plan, seq.z0, z0, &single, 0);
  }
  df_plan_free(plan);
  df_graph_free(g);
}

TEST(an_encoded_start_of_the_published_planner_is_verified) {
  golden_model m;
  pair p;
  df_verification report;
  df_model *model = NULL;
  pair_begin(&p, "f32");
  if (golden_model_open(&m, "rnn_train_planning")) {
    golden *g = &m.g;
    const int D = m.network.token_size, Z = m.network.latent_size, O = m.network.observation_size,
              T = 4, B = 3, n = 8;
    const float *seen = golden_floats(g, "in.observations"),
                *clean = golden_floats(g, "out.tokens"), *noise = golden_floats(g, "in.noise"),
                *z0 = golden_floats(g, "out.z0"), *pred = golden_floats(g, "out.xs_pred");
    const int64_t *levels = golden_ints(g, "in.t");
    float mean[6], std[6], observation[3 * 4], network[3 * 4], latents[3 * 16];
    static const char *const parts[] = {"observation", "action"};
    for (int i = 0, j = 0; i < 2; i++) {
      char key[32];
      snprintf(key, sizeof key, "%s_mean", parts[i]);
      const df_json *means = df_json_at(m.algorithm, key);
      snprintf(key, sizeof key, "%s_std", parts[i]);
      const df_json *stds = df_json_at(m.algorithm, key);
      for (int k = 0; k < means->length; k++, j++)
        mean[j] = (float)df_json_item(means, k)->number,
        std[j] = (float)df_json_item(stds, k)->number;
    }
    for (int b = 0; b < B; b++)
      for (int j = 0; j < O; j++) {
        observation[b * O + j] = seen[b * n * O + j];
        network[b * O + j] = (observation[b * O + j] - mean[j]) / std[j];
      }
    float *x = pair_room(&p, (size_t)(B * T * D)), *out = pair_room(&p, (size_t)(B * T * D)),
          *z = pair_room(&p, (size_t)(B * T * Z)), *ours = pair_room(&p, (size_t)(B * T * D));
    int64_t level[12];
    for (int b = 0; b < B; b++)
      for (int t = 0; t < T; t++) {
        const int from = t * B + b, to = b * T + t;
        level[to] = levels[from] + 1;
        for (int j = 0; j < D; j++) {
          x[to * D + j] = noised(&m, clean[from * D + j], noise[from * D + j], levels[from]);
          // Frames (T frame_stack, B, C) in data units
          const int frame = t * 2 + j / 6;
          out[to * D + j] = (pred[(frame * B + b) * 6 + j % 6] - mean[j % 6]) / std[j % 6];
        }
      }
    pair_take_model(&p, &m, NULL, mean, std);
    model = pair_model(&p);
    // Latents are not in the file: those of the graph of training
    const inputs in = {.B = B, .T = T, .x = x, .observation = network, .level = level};
    if (model) compute(model, &in, latents, ours, z);
    PUT(&p, "in.x", x, B, T, D);
    PUT(&p, "in.level", level, B, T);
    PUT(&p, "in.observation", observation, B, O);
    PUT(&p, "out.z0", z0, B, Z);
    PUT(&p, "out.output", out, B, T, D);
    PUT(&p, "out.z", z, B, T, Z);
    pair_noise(&p, "out.z0", largest_of(z0, (size_t)(B * Z)), golden_noise(&m, "out.z0"));
    pair_noise(&p, "out.output", largest_of(out, (size_t)(B * T * D)),
               golden_noise(&m, "out.xs_pred"));
    pair_noise(&p, "out.z", largest_of(z, (size_t)(B * T * Z)), 1e-7);
    pair_frames(&p, x, B, T, D);
    if (CHECK_OK(verify(&p, NULL, &report))) check_all_good(&report, 4);
    observation[5] += 0.01f;
    if (CHECK_OK(verify(&p, NULL, &report)))
      CHECK(!result(&report, "out.z0")->ok && !result(&report, "out.output")->ok &&
            result(&report, "out.frames")->ok && !report.ok);
  }
  df_model_free(model);
  pair_drop(&p);
  golden_model_close(&m);
}

// ---- A random network with all that a network may have ----

static const char random_config[] =
    "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 144,"
    " \"network_size\": 8, \"self_condition\": true, \"stop_head\": true, \"initial\": "
    "\"encoded\"},"
    " \"diffusion\": {\"levels\": 100, \"objective\": \"v\", \"schedule\": \"cosine\"},"
    " \"tokens\": {\"frame_stack\": 2, \"present\": true, \"fields\": [{\"name\": \"a\", \"mean\": "
    "3,"
    "   \"std\": 7}, {\"name\": \"b\", \"std\": 2, \"step\": 0.5}]},"
    " \"condition\": {\"fields\": [\"push\"]},"
    " \"observation\": {\"fields\": [{\"name\": \"x\", \"mean\": 2, \"std\": 4}, {\"name\": "
    "\"y\"}]}}";

enum { B = 3, T = 5, D = 6, Z = 144, E = 2, O = 2, C = 2, F = 2 };

typedef struct random_pair {
  pair p;
  df_params params;
  float x[B * T * D], cond[B * T * E], guess[B * T * D], observation[B * O], frames[B * T * F * C];
  float z0[2][B * Z], out[2][B * T * D], z[2][B * T * Z]; // rounded, original
  int64_t level[B * T];
} random_pair;

static void draw(float *to, int n, uint32_t what) {
  const df_random at = {.seed = 5, .token = what, .purpose = DF_RANDOM_TEST};
  df_random_normal(&at, n, to);
}

// Large matrices, or all tensors, in this format
static void set_format(random_pair *r, df_dtype dtype) {
  for (int i = 0; i < r->p.weight_count; i++) {
    df_tensor_out *t = &r->p.weights[i];
    const bool large = t->dims == 2 && t->shape[0] * t->shape[1] >= DF_WEIGHTS_LEAST;
    t->dtype = dtype == DF_I8 && !large ? DF_F32 : dtype;
  }
}

static void put_outputs(random_pair *r, const char *prefix, int which) {
  pair *p = &r->p;
  static const char *const names[] = {"z0", "output", "z"};
  const float *const data[] = {r->z0[which], r->out[which], r->z[which]};
  const size_t sizes[] = {B * Z, B * T * D, B * T * Z};
  for (int i = 0; i < 3; i++) {
    char *name = df_arena_print(&p->arena, "%s.%s", prefix, names[i]);
    if (i == 0) PUT(p, name, data[i], B, Z);
    if (i == 1) PUT(p, name, data[i], B, T, D);
    if (i == 2) PUT(p, name, data[i], B, T, Z);
    if (which == 0) pair_noise(p, name, largest_of(data[i], sizes[i]), 1e-7);
  }
}

static random_pair *make_random(df_dtype dtype) {
  random_pair *r = calloc(1, sizeof *r);
  df_config config;
  pair_begin(&r->p, dtype == DF_F32 ? "f32" : dtype == DF_F16 ? "f16" : "int8");
  strcpy(r->p.config, random_config);
  if (!CHECK_OK(df_config_parse(&config, random_config, strlen(random_config), &test_error)))
    return r;
  if (CHECK_OK(df_network_declare(&config.network, &r->params, &test_error)))
    df_params_init(&r->params, 9);
  for (int i = 0; i < r->params.count; i++) {
    const df_param *param = r->params.items[i];
    df_tensor_out *t = &r->p.weights[r->p.weight_count++];
    *t =
        (df_tensor_out){param->name, DF_F32, param->dims, {param->rows, param->cols}, param->value};
    if (param->dims == 1) t->shape[0] = param->cols;
  }
  draw(r->x, B * T * D, 1), draw(r->cond, B * T * E, 2), draw(r->guess, B * T * D, 3);
  draw(r->observation, B * O, 4);
  for (int i = 0; i < B * T; i++) {
    r->level[i] = 1 + (i * 37) % 100;
    df_config_decode(&config, r->x + i * D, r->frames + i * F * C);
  }
  float network[B * O];
  for (int b = 0; b < B; b++) df_config_observe(&config, r->observation + b * O, network + b * O);
  const inputs in = {.B = B,
                     .T = T,
                     .x = r->x,
                     .cond = r->cond,
                     .guess = r->guess,
                     .observation = network,
                     .level = r->level};
  for (int which = 1; which >= 0; which--) { // the original weights first
    if (which == 0) set_format(r, dtype);
    df_model *model = pair_model(&r->p);
    if (model) compute(model, &in, r->z0[which], r->out[which], r->z[which]);
    df_model_free(model);
  }
  pair *p = &r->p;
  PUT(p, "in.x", r->x, B, T, D);
  PUT(p, "in.level", r->level, B, T);
  PUT(p, "in.cond", r->cond, B, T, E);
  PUT(p, "in.guess", r->guess, B, T, D);
  PUT(p, "in.observation", r->observation, B, O);
  put_outputs(r, "out", 0);
  PUT(p, "out.frames", r->frames, B, T, F, C);
  pair_noise(p, "out.frames", largest_of(r->frames, B * T * F * C), 0);
  if (dtype != DF_F32) put_outputs(r, "f32", 1);
  df_config_free(&config);
  return r;
}

static void drop_random(random_pair *r) {
  df_params_free(&r->params);
  pair_drop(&r->p);
  free(r);
}

TEST(every_format_of_weights_is_verified_and_its_cost_reported) {
  static const struct {
    df_dtype dtype;
    const char *name;
    double low, high; // of the relative differences of f32.*
  } formats[] = {{DF_F32, "f32", 0, 0}, {DF_F16, "f16", 1e-5, 1e-2}, {DF_I8, "int8", 1e-4, 0.1}};
  for (int i = 0; i < COUNT(formats); i++) {
    random_pair *r = make_random(formats[i].dtype);
    df_verification report;
    DURING("%s", formats[i].name);
    for (int threads = 1; threads < 3; threads++) {
      df_verify_options o = df_verify_defaults();
      o.threads = threads;
      if (!CHECK_OK(verify(&r->p, &o, &report))) break;
      check_all_good(&report, i ? 7 : 4);
      CHECK_TEXT(report.weights, formats[i].name);
    }
    for (int k = 0; i && k < 2; k++) {
      const df_difference *d = result(&report, k ? "f32.output" : "f32.z");
      CHECK(isinf(d->tolerance) && d->ok);
      CHECK(d->relative > formats[i].low && d->relative < formats[i].high);
      // What the report says is what was put in.
      double most = 0;
      const int n = k ? B * T * D : B * T * Z;
      for (int j = 0; j < n; j++)
        most = fmax(most, fabs(k ? (double)r->out[0][j] - (double)r->out[1][j]
                                 : (double)r->z[0][j] - (double)r->z[1][j]));
      CHECK_NEAR(d->absolute, most, 1e-5);
      CHECK_NEAR(d->largest, largest_of(k ? r->out[1] : r->z[1], (size_t)n), 0);
    }
    drop_random(r);
  }
}

TEST(a_weight_that_is_changed_is_found) {
  random_pair *r = make_random(DF_F32);
  df_verification report;
  static const struct {
    const char *name;
    bool z0, output, z;
  } cases[] = {{"x_from_z.weight", true, false, true},
               {"model.mlp_after_gru.weight", true, false, false},
               {"model.gru_stack.0.bias_hh", true, false, false},
               {"init_encoder.2.weight", false, false, false},
               {"model.external_cond_mlp.0.bias", true, false, false},
               {"stop.weight", true, true, true}};
  for (int i = 0; i < COUNT(cases); i++) {
    df_param *param = df_params_find(&r->params, cases[i].name);
    if (!CHECK(param != NULL)) continue;
    const float kept = param->value[1];
    param->value[1] += 0.05f;
    DURING("%s", cases[i].name);
    if (CHECK_OK(verify(&r->p, NULL, &report))) {
      CHECK_INT(result(&report, "out.z0")->ok, cases[i].z0);
      CHECK_INT(result(&report, "out.output")->ok, cases[i].output);
      CHECK_INT(result(&report, "out.z")->ok, cases[i].z);
      CHECK(result(&report, "out.frames")->ok);
      CHECK_INT(report.ok, cases[i].output);
    }
    param->value[1] = kept;
  }
  drop_random(r);
}

TEST(a_tolerance_may_be_given_and_arithmetic_in_8_bits_has_no_other) {
  random_pair *r = make_random(DF_I8);
  df_verification exact, report;
  df_verify_options o = df_verify_defaults();
  CHECK_OK(verify(&r->p, &o, &exact));
  o.weights = DF_WEIGHTS_INT8;
  if (CHECK_OK(verify(&r->p, &o, &report))) {
    const df_difference *d = result(&report, "out.output"), *e = result(&exact, "out.output");
    CHECK(report.ok && d->ok && isinf(d->tolerance));
    CHECK(d->absolute > 3 * e->absolute); // it is another arithmetic
    CHECK(d->relative < 0.01);
    CHECK(!isinf(e->tolerance));
  }
  o.tolerance = 0.01;
  if (CHECK_OK(verify(&r->p, &o, &report))) {
    const df_difference *d = result(&report, "out.output");
    CHECK(report.ok);
    CHECK_NEAR(d->tolerance, 0.01 * d->largest, 1e-12);
    CHECK(isinf(result(&report, "f32.output")->tolerance));
  }
  o.tolerance = 1e-7;
  if (CHECK_OK(verify(&r->p, &o, &report)))
    CHECK(!report.ok && !result(&report, "out.output")->ok && result(&report, "f32.output")->ok);
  o = df_verify_defaults();
  o.tolerance = 0;
  if (CHECK_OK(verify(&r->p, &o, &report))) CHECK(result(&report, "out.z")->tolerance == 0);
  o.tolerance = NAN;
  CHECK_STATUS(verify(&r->p, &o, &report), DF_BAD_ARGUMENT);
  o = (df_verify_options){.weights = 2, .tolerance = -1};
  CHECK_STATUS(verify(&r->p, &o, &report), DF_BAD_ARGUMENT);
  o = (df_verify_options){.tolerance = -1, .threads = -1};
  CHECK_STATUS(verify(&r->p, &o, &report), DF_BAD_ARGUMENT);
  drop_random(r);
}

// A network that blows up
TEST(what_is_not_finite_is_not_ok) {
  random_pair *r = make_random(DF_F32);
  df_verification report;
  df_verify_options o = df_verify_defaults();
  o.tolerance = 1e30;
  static const char *const names[] = {"model.mlp_after_gru.weight", "x_from_z.weight"};
  for (int k = 0; k < 2; k++) {
    df_param *param = df_params_find(&r->params, names[k]);
    for (int i = 0; i < param->rows * param->cols; i++) param->value[i] = 1e30f;
  }
  if (CHECK_OK(verify(&r->p, &o, &report))) {
    const df_difference *d = result(&report, "out.output");
    CHECK(!d->ok && isinf(d->absolute) && isinf(d->relative) && !report.ok);
  }
  drop_random(r);
}

// ---- References that are wrong ----

TEST(a_reference_that_does_not_fit_is_refused_by_name) {
  static const struct {
    df_status status;
    const char *message;
  } cases[] = {
      {DF_BAD_FILE, "format: expected \"diffusion-forcing-reference/1\", found none"},
      {DF_BAD_FILE, "found \"diffusion-forcing-reference/2\""},
      {DF_BAD_FILE, "weights: expected \"f32\", \"f16\" or \"int8\", found none"},
      {DF_BAD_FILE, "weights: expected \"f32\", \"f16\" or \"int8\", found \"f64\""},
      {DF_BAD_FILE, "expected that of a model file with f16 weights, found one made for int8"},
      {DF_BAD_FILE, "numerics: expected an object, found none"},
      {DF_BAD_FILE, "numerics: line 1"},
      {DF_BAD_FILE, "numerics: expected \"out.z0\": [largest magnitude, rounding noise]"},
      {DF_BAD_FILE, "numerics: expected \"out.z0\""},
      {DF_BAD_FILE, "tensor in.x is missing"},
      {DF_BAD_FILE, "tensor in.level is missing"},
      {DF_BAD_FILE, "tensor in.cond is missing"},
      {DF_BAD_FILE, "tensor in.guess is missing"},
      {DF_BAD_FILE, "tensor in.observation is missing"},
      {DF_BAD_FILE, "tensor out.z0 is missing"},
      {DF_BAD_FILE, "tensor out.output is missing"},
      {DF_BAD_FILE, "tensor out.frames is missing"},
      {DF_BAD_FILE, "tensor f32.z is missing"},
      {DF_BAD_FILE, "tensor out.more has no use for this model with f16 weights"},
      {DF_BAD_SHAPE, "tensor in.x: expected shape (B, T, 6), found (3, 10, 3)"},
      {DF_BAD_SHAPE, "tensor in.x: expected shape (B, T, 6), found (15, 6)"},
      {DF_BAD_SHAPE, "expected 1 to 4096 sequences of 1 to 1048576 tokens, found shape (0, 5, 6)"},
      {DF_BAD_SHAPE, "tensor in.level: expected shape (3, 5), found (5, 3)"},
      {DF_BAD_SHAPE, "tensor out.z: expected shape (3, 5, 144), found (3, 5, 72)"},
      {DF_BAD_SHAPE, "tensor out.frames: expected shape (3, 5, 2, 2), found (3, 5, 4)"},
      {DF_BAD_SHAPE, "tensor in.observation: expected shape (3, 2), found (2, 3)"},
      {DF_BAD_FILE, "tensor in.level: expected I64, found F32"},
      {DF_BAD_FILE, "tensor out.z: expected F32, found F16"},
      {DF_BAD_VALUE, "tensor in.level: entry 4: expected a noise level from 1 to 100, found 0"},
      {DF_BAD_VALUE, "tensor in.level: entry 4: expected a noise level from 1 to 100, found 101"},
      {DF_BAD_VALUE, "tensor in.x: entry 7 is nan"},
      {DF_BAD_VALUE, "tensor f32.output: entry 2 is inf"},
  };
  random_pair *r = make_random(DF_F16);
  for (int i = 0; i < COUNT(cases); i++) {
    pair p = r->p; // tensors of its own
    static float floats[B * T * Z];
    int64_t levels[B * T];
    memcpy(levels, r->level, sizeof levels);
    df_tensor_out *t, *last = &p.tensors[p.count - 1];
    switch (i) {
    case 0: p.format = NULL; break;
    case 1: p.format = "diffusion-forcing-reference/2"; break;
    case 2: p.made_for = NULL; break;
    case 3: p.made_for = "f64"; break;
    case 4: p.made_for = "int8"; break;
    case 5: p.no_numerics = true; break;
    case 6: strcpy(p.numerics, "{\"out.z0\": [1, 2"); break;
    case 7: strcpy(p.numerics, "{\"out.z\": [1, 2]"); break;
    case 8: strcpy(p.numerics, "{\"out.z0\": [1, -2]"); break;
    case 9: *pair_find(&p, "in.x") = *last, p.count--; break;
    case 10: *pair_find(&p, "in.level") = *last, p.count--; break;
    case 11: *pair_find(&p, "in.cond") = *last, p.count--; break;
    case 12: *pair_find(&p, "in.guess") = *last, p.count--; break;
    case 13: *pair_find(&p, "in.observation") = *last, p.count--; break;
    case 14: *pair_find(&p, "out.z0") = *last, p.count--; break;
    case 15: *pair_find(&p, "out.output") = *last, p.count--; break;
    case 16: *pair_find(&p, "out.frames") = *last, p.count--; break;
    case 17: p.count--; break;
    case 18: PUT(&p, "out.more", floats, 3, 5); break;
    case 19: t = pair_find(&p, "in.x"), t->shape[1] = 10, t->shape[2] = 3; break;
    case 20: t = pair_find(&p, "in.x"), t->dims = 2, t->shape[0] = 15, t->shape[1] = 6; break;
    case 21: pair_find(&p, "in.x")->shape[0] = 0; break;
    case 22: t = pair_find(&p, "in.level"), t->shape[0] = 5, t->shape[1] = 3; break;
    case 23: pair_find(&p, "out.z")->shape[2] = 72; break;
    case 24: t = pair_find(&p, "out.frames"), t->dims = 3, t->shape[2] = 4; break;
    case 25: t = pair_find(&p, "in.observation"), t->shape[0] = 2, t->shape[1] = 3; break;
    case 26: t = pair_find(&p, "in.level"), t->dtype = DF_F32, t->data = floats; break;
    case 27: pair_find(&p, "out.z")->dtype = DF_F16; break;
    case 28: levels[4] = 0, pair_find(&p, "in.level")->data = levels; break;
    case 29: levels[4] = 101, pair_find(&p, "in.level")->data = levels; break;
    case 30:
      memcpy(floats, r->x, sizeof r->x), floats[7] = NAN, pair_find(&p, "in.x")->data = floats;
      break;
    case 31:
      memcpy(floats, r->out[1], sizeof r->out[1]), floats[2] = INFINITY;
      pair_find(&p, "f32.output")->data = floats;
      break;
    }
    DURING("case %d", i);
    df_verification report;
    if (CHECK_STATUS(verify(&p, NULL, &report), cases[i].status)) {
      CHECK_CONTAINS(test_error.message, cases[i].message);
      CHECK(!strncmp(test_error.message, "reference: ", 11));
    }
    CHECK(!report.ok && report.count == 0);
  }
  drop_random(r);
}

TEST(a_reference_of_f32_weights_has_no_others) {
  random_pair *r = make_random(DF_F32);
  df_verification report;
  put_outputs(r, "f32", 1);
  CHECK_STATUS(verify(&r->p, NULL, &report), DF_BAD_FILE);
  CHECK_CONTAINS(test_error.message, "tensor f32.z0 has no use for this model with f32 weights");
  drop_random(r);
}

// Where every matrix is small, a file of 8 bits is one of float32.
TEST(a_small_model_of_8_bits_is_verified) {
  golden_model m;
  pair p;
  df_verification report;
  pair_begin(&p, "int8");
  if (golden_model_open(&m, "rnn_mlp_nogru")) {
    pair_take_pass(&p, &m, 0);
    const int D_ = m.network.token_size, Z_ = m.network.latent_size;
    PUT(&p, "f32.z0", pair_find(&p, "out.z0")->data, 1, Z_);
    PUT(&p, "f32.output", pair_find(&p, "out.output")->data, 1, 1, D_);
    PUT(&p, "f32.z", pair_find(&p, "out.z")->data, 1, 1, Z_);
    if (CHECK_OK(verify(&p, NULL, &report))) check_all_good(&report, 7);
    p.made_for = "f16";
    CHECK_STATUS(verify(&p, NULL, &report), DF_BAD_FILE);
  }
  pair_drop(&p);
  golden_model_close(&m);
}

TEST(a_reference_cut_anywhere_or_with_a_byte_changed_is_safe) {
  golden_model m;
  pair p;
  df_verification report;
  df_model *model = NULL;
  unsigned char *bytes = NULL;
  size_t size = 0;
  pair_begin(&p, "f32");
  if (golden_model_open(&m, "rnn_mlp_nogru")) {
    pair_take_pass(&p, &m, 1);
    model = pair_model(&p);
    bytes = pair_reference(&p, &size);
  }
  if (model && bytes) {
    for (size_t n = 0; n < size; n++) {
      DURING("%zu of %zu bytes", n, size);
      void *cut = malloc(n ? n : 1); // exactly so long, for the sanitizer
      memcpy(cut, bytes, n);
      CHECK_STATUS(df_model_verify(model, cut, n, NULL, &report, &test_error), DF_BAD_FILE);
      free(cut);
    }
    for (size_t i = 0; i < size; i++) {
      const unsigned char kept = bytes[i];
      bytes[i] = kept ^ 0x55;
      df_status status = df_model_verify(model, bytes, size, NULL, &report, &test_error);
      CHECK(!status || (test_error.message[0] && !report.ok));
      bytes[i] = kept;
    }
    CHECK_OK(df_model_verify(model, bytes, size, NULL, &report, &test_error));
    CHECK(report.ok);
    CHECK_WITHOUT_MEMORY(df_model_verify(model, bytes, size, NULL, &report, &test_error));
  }
  df_free(bytes);
  df_model_free(model);
  pair_drop(&p);
  golden_model_close(&m);
}
