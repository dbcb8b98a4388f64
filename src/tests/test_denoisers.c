// The denoisers of the registry: names and shapes of their parameters, causality, one token at a time = all at once, and
// derivatives of every parameter.
#include "base/random.h"
#include "tests/golden_model.h"

// Every denoiser with every option at least once.
static const df_network networks[] = {
    {.denoiser = &df_denoiser_rnn,
     .token_size = 3,
     .latent_size = 8,
     .network_size = 4,
     .hidden_size = 10,
     .mlp_layers = 1,
     .gru_layers = 1,
     .stop_head = true},
    {.denoiser = &df_denoiser_rnn,
     .token_size = 5,
     .latent_size = 12,
     .network_size = 6,
     .hidden_size = 9,
     .mlp_layers = 3,
     .gru_layers = 2,
     .stop_head = true,
     .initial = DF_INITIAL_LEARNED},
    {.denoiser = &df_denoiser_rnn,
     .token_size = 2,
     .latent_size = 8,
     .network_size = 4,
     .hidden_size = 7,
     .mlp_layers = 2,
     .gru_layers = 4,
     .condition_size = 3},
    {.denoiser = &df_denoiser_rnn,
     .token_size = 2,
     .latent_size = 6,
     .network_size = 4,
     .hidden_size = 7,
     .mlp_layers = 0,
     .gru_layers = 1,
     .self_condition = true,
     .initial = DF_INITIAL_ENCODED,
     .observation_size = 3},
    {.denoiser = &df_denoiser_rnn,
     .token_size = 4,
     .latent_size = 9,
     .network_size = 4,
     .hidden_size = 11,
     .mlp_layers = 2,
     .gru_layers = 0,
     .stop_head = true},
    {.denoiser = &df_denoiser_transformer,
     .token_size = 3,
     .network_size = 12,
     .hidden_size = 9,
     .layers = 2,
     .heads = 3,
     .window = 5,
     .causal = true,
     .stop_head = true},
    {.denoiser = &df_denoiser_transformer,
     .token_size = 2,
     .network_size = 8,
     .hidden_size = 11,
     .layers = 1,
     .heads = 1,
     .window = 4,
     .causal = true,
     .condition_size = 3},
    {.denoiser = &df_denoiser_transformer,
     .token_size = 5,
     .network_size = 8,
     .hidden_size = 10,
     .layers = 2,
     .heads = 2,
     .window = 4,
     .condition_size = 1},
    {.denoiser = &df_denoiser_transformer,
     .token_size = 3,
     .network_size = 12,
     .hidden_size = 5,
     .layers = 2,
     .heads = 3,
     .window = 6,
     .causal = true,
     .gated = true,
     .stop_head = true},
};

enum { T = 4, B = 3, MAX = 64 };

typedef struct net {
  df_network network;
  df_params params;
  df_graph *graph;
  df_nn nn;
  df_error error;
  df_tensor *observation, *z0, *x[T], *level[T], *cond[T], *guess[T], *out[T], *z[T], *stop[T + 1];
  df_tensor *place, *kept[4]; // attention, one token: memory of B sequences
  float *memory;
} net;

// All tokens in one graph, or (steps = 1) one token whose latent is an input, or what it sees of the others.
static bool net_open(net *n, int which, int steps) {
  *n = (net){.network = networks[which]};
  const df_denoiser *denoiser = n->network.denoiser;
  DURING("%s, network %d", denoiser->name, which);
  if (!CHECK_OK(denoiser->check(&n->network, &test_error)) ||
      !CHECK_OK(df_network_declare(&n->network, &n->params, &test_error)))
    return false;
  df_params_init(&n->params, 3);
  n->graph = df_graph_create();
  n->nn = (df_nn){n->graph, &n->params, &n->error};
  df_graph *g = n->graph;
  if (n->network.observation_size)
    n->observation = df_input(g, "observation", 1, n->network.observation_size, true);
  const int Z = n->network.latent_size, N = n->network.window;
  if (Z)
    n->z0 = steps == 1 ? df_input(g, "z", 1, Z, true)
                       : denoiser->initial(&n->network, &n->nn, n->observation);
  if (N && steps == 1) {
    const int floats = df_attention_kept_size(n->network.network_size, N);
    n->place = df_input(g, "place", 1, 3, true);
    n->memory = df_alloc((size_t)(n->network.layers * B * floats) * sizeof(float));
    for (int i = 0; i < n->network.layers; i++)
      n->kept[i] = df_memory(g, "kept", B, floats, n->memory + i * B * floats);
  }
  for (int t = 0; t < steps; t++) {
    n->x[t] = df_input_grad(g, "x", 1, n->network.token_size, true);
    n->level[t] = df_input(g, "level", 1, 1, true);
    if (n->network.condition_size)
      n->cond[t] = df_input(g, "cond", 1, n->network.condition_size, true);
    if (n->network.self_condition)
      n->guess[t] = df_input(g, "guess", 1, n->network.token_size, true);
  }
  df_unrolled seq = {.T = steps,
                     .z0 = n->z0,
                     .x = n->x,
                     .level = n->level,
                     .cond = n->cond,
                     .guess = n->guess,
                     .kept = n->place ? n->kept : NULL,
                     .place = n->place,
                     .out = n->out,
                     .z = n->z,
                     .stop = n->network.stop_head ? n->stop : NULL};
  denoiser->build(&n->network, &n->nn, &seq);
  return CHECK(!n->error.code && !df_graph_error(g)->code);
}

static void net_close(net *n) {
  df_free(n->memory);
  df_graph_free(n->graph);
  df_params_free(&n->params);
}

static void fill(df_plan *plan, const df_tensor *t, uint32_t what) {
  float *data = t ? df_plan_data(plan, t) : NULL;
  df_random at = {.seed = 11, .token = what, .purpose = DF_RANDOM_TEST};
  if (data) df_random_normal(&at, B * t->cols, data);
}

static void fill_all(net *n, df_plan *plan) {
  fill(plan, n->observation, 1);
  for (int t = 0; t < T; t++) {
    fill(plan, n->x[t], 10 + (uint32_t)t);
    fill(plan, n->cond[t], 20 + (uint32_t)t);
    fill(plan, n->guess[t], 30 + (uint32_t)t);
    float *level = df_plan_data(plan, n->level[t]);
    for (int b = 0; level && b < B; b++) level[b] = (float)((t * 37 + b * 211) % 1000);
  }
}

TEST(every_denoiser_is_tested) {
  for (int i = 0; df_denoisers(i); i++) {
    int tested = 0;
    for (int k = 0; k < COUNT(networks); k++) tested += networks[k].denoiser == df_denoisers(i);
    DURING("%s", df_denoisers(i)->name);
    CHECK(tested > 0);
  }
}

TEST(a_token_never_sees_those_behind_it_if_the_network_is_causal) {
  for (int i = 0; i < COUNT(networks); i++) {
    net n;
    df_plan *plan = NULL;
    if (net_open(&n, i, T) &&
        CHECK_OK(df_plan_create(&plan, n.graph, n.out, T, &(df_plan_options){.batch = B},
                                &test_error))) {
      int D = n.network.token_size;
      const bool all = df_network_sees_all(&n.network);
      float before[T][B * MAX];
      fill_all(&n, plan);
      CHECK_OK(df_plan_run(plan, B, &test_error));
      for (int t = 0; t < T; t++)
        memcpy(before[t], df_plan_data(plan, n.out[t]), (size_t)(B * D) * sizeof(float));
      for (int changed = 0; changed < T; changed++) {
        fill_all(&n, plan);
        df_plan_data(plan, n.x[changed])[1] += 1; // sequence 0
        CHECK_OK(df_plan_run(plan, B, &test_error));
        for (int t = 0; t < T; t++) {
          const float *now = df_plan_data(plan, n.out[t]);
          CHECK((memcmp(now, before[t], (size_t)D * sizeof(float)) == 0) == (t < changed && !all));
          CHECK(!memcmp(now + D, before[t] + D,
                        (size_t)((B - 1) * D) * sizeof(float))); // other sequences
        }
      }
    }
    df_plan_free(plan);
    net_close(&n);
  }
}

TEST(one_token_at_a_time_gives_the_bits_of_the_whole_sequence) {
  for (int i = 0; i < COUNT(networks); i++) {
    net all, one;
    df_plan *plan = NULL, *step = NULL;
    bool all_open = net_open(&all, i, T), one_open = net_open(&one, i, 1),
         ok = all_open && one_open;
    const int Z = all.network.latent_size;
    const bool sees_all = df_network_sees_all(&all.network);
    df_tensor *outs[3 * T + 2];
    int count = 0;
    for (int t = 0; t < T; t++) outs[count++] = all.out[t];
    for (int t = 0; Z && t < T; t++) outs[count++] = all.z[t];
    if (Z) outs[count++] = all.z0;
    if (all.network.stop_head) outs[count++] = all.stop[T];
    df_tensor *step_outs[3] = {one.out[0]};
    int step_count = 1;
    if (Z) step_outs[step_count++] = one.z[0];
    if (one.network.stop_head) step_outs[step_count++] = one.stop[1];
    if (ok && !sees_all &&
        CHECK_OK(df_plan_create(&plan, all.graph, outs, count, &(df_plan_options){.batch = B},
                                &test_error)) &&
        CHECK_OK(df_plan_create(&step, one.graph, step_outs, step_count,
                                &(df_plan_options){.batch = B, .fixed_weights = true},
                                &test_error))) {
      const size_t D = (size_t)all.network.token_size, f = sizeof(float),
                   latent = B * (size_t)Z * f;
      fill_all(&all, plan);
      CHECK_OK(df_plan_run(plan, B, &test_error));
      if (Z) memcpy(df_plan_data(step, one.z0), df_plan_data(plan, all.z0), latent);
      for (int t = 0; t < T; t++) {
        memcpy(df_plan_data(step, one.x[0]), df_plan_data(plan, all.x[t]), B * D * f);
        memcpy(df_plan_data(step, one.level[0]), df_plan_data(plan, all.level[t]), B * f);
        if (one.cond[0])
          memcpy(df_plan_data(step, one.cond[0]), df_plan_data(plan, all.cond[t]),
                 B * (size_t)one.cond[0]->cols * f);
        if (one.guess[0])
          memcpy(df_plan_data(step, one.guess[0]), df_plan_data(plan, all.guess[t]), B * D * f);
        for (int b = 0; one.place && b < B; b++) { // any row of memory
          float *place = df_plan_data(step, one.place) + 3 * b;
          place[0] = (float)((b + 1) % B), place[1] = (float)t, place[2] = (float)(t + 1);
        }
        CHECK_OK(df_plan_run(step, B, &test_error));
        CHECK(!memcmp(df_plan_data(step, one.out[0]), df_plan_data(plan, all.out[t]), B * D * f));
        if (!Z) continue;
        CHECK(!memcmp(df_plan_data(step, one.z[0]), df_plan_data(plan, all.z[t]), latent));
        memcpy(df_plan_data(step, one.z0), df_plan_data(step, one.z[0]), latent);
      }
      if (one.network.stop_head)
        CHECK(!memcmp(df_plan_data(step, one.stop[1]), df_plan_data(plan, all.stop[T]), B * f));
    }
    df_plan_free(plan);
    df_plan_free(step);
    net_close(&all);
    net_close(&one);
  }
}

// J = sum of <r, out> and of the stop logits, moved along a random direction of one parameter at a time.
// Biases, activations and residuals belong to their products, the gates of a GRU are one step. What is left beside
// them is the position code and putting inputs, and states of several cells, side by side.
TEST(a_step_of_the_network_runs_nothing_alone_that_can_be_fused) {
  static const int want[][2] = {
      // code, time MLP, concat, block and Linear, GRUs, concat, block and Linear, head, stop
      {1, 1 + 2 + 1 + (3 + 2 + 1) + 2 * 3 + 1 + (3 + 2 + 1) + 1 + 1},
      {2, 1 + 2 + 2 + 1 + (3 + 1) + 4 * 3 + 1 + (3 + 1) + 1},
      {4, 1 + 2 + 1 + (3 + 1) + (3 + 1) + 1 + 1},
  };
  for (int i = 0; i < COUNT(want); i++) {
    net n;
    if (!net_open(&n, want[i][0], 1)) continue;
    df_plan *plan = NULL;
    CHECK_OK(df_plan_create(&plan, n.graph, (df_tensor *[]){n.out[0], n.z[0], n.stop[1]},
                            n.network.stop_head ? 3 : 2,
                            &(df_plan_options){.batch = B, .fixed_weights = true}, &test_error));
    CHECK_INT(df_plan_steps(plan), want[i][1]);
    df_plan_free(plan);
    net_close(&n);
  }
}

TEST(the_derivative_of_every_parameter_agrees_with_finite_differences) {
  for (int i = 0; i < COUNT(networks); i++) {
    net n;
    df_plan *plan = NULL;
    if (net_open(&n, i, T)) {
      df_tensor *J = NULL, *wrt[MAX], *grad[MAX], *outs[MAX + 1];
      for (int t = 0; t <= T; t++) {
        df_tensor *y = t < T ? df_sum_all(df_unary_op(DF_TANH, 0, 0, n.out[t])) : NULL;
        if (n.network.stop_head) y = y ? df_add(y, df_sum_all(n.stop[t])) : df_sum_all(n.stop[t]);
        if (y) J = J ? df_add(J, y) : y;
      }
      for (int p = 0; p < n.params.count; p++) wrt[p] = df_parameter(n.graph, n.params.items[p]);
      CHECK_OK(df_gradient(J, wrt, grad, n.params.count, &test_error));
      int count = 0;
      outs[count++] = J;
      for (int p = 0; p < n.params.count; p++)
        if (CHECK(grad[p] != NULL)) outs[count++] = grad[p];
      if (CHECK_OK(df_plan_create(&plan, n.graph, outs, count,
                                  &(df_plan_options){.batch = B, .kernels = df_kernels_reference()},
                                  &test_error))) {
        fill_all(&n, plan);
        for (int p = 0; p < n.params.count; p++) {
          df_param *item = n.params.items[p];
          DURING("%s, network %d, %s", n.network.denoiser->name, i, item->name);
          int size = item->rows * item->cols;
          float *keep = df_alloc((size_t)size * sizeof *keep),
                *r = df_alloc((size_t)size * sizeof *r),
                e = n.network.window ? 2e-4f : 2e-3f; // ReLU has corners
          memcpy(keep, item->value, (size_t)size * sizeof *keep);
          df_random_normal(&(df_random){.seed = 9, .token = (uint32_t)p, .purpose = DF_RANDOM_TEST},
                           size, r);
          CHECK_OK(df_plan_run(plan, B, &test_error));
          double analytic = 0, sides[2];
          for (int k = 0; k < size; k++) analytic += (double)r[k] * df_plan_data(plan, grad[p])[k];
          for (int side = 0; side < 2; side++) {
            for (int k = 0; k < size; k++) item->value[k] = keep[k] + (side ? -e : e) * r[k];
            CHECK_OK(df_plan_run(plan, B, &test_error));
            sides[side] = df_plan_data(plan, J)[0];
          }
          memcpy(item->value, keep, (size_t)size * sizeof *keep);
          CHECK_NEAR(analytic, (sides[0] - sides[1]) / (2 * (double)e),
                     5e-3 + 5e-3 * fabs(analytic));
          df_free(keep);
          df_free(r);
        }
      }
    }
    df_plan_free(plan);
    net_close(&n);
  }
}

TEST(parameters_are_exactly_those_of_the_reference) {
  static const char *const files[] = {"rnn_mlp_plan",
                                      "rnn_mlp_pred",
                                      "rnn_mlp_gruonly",
                                      "rnn_mlp_nogru",
                                      "rnn_mlp_selfcond",
                                      "rnn_pyramid_sampling",
                                      "rnn_pyramid_sampling_chunks",
                                      "rnn_guided_norm",
                                      "rnn_train_steps"};
  for (int i = 0; i < COUNT(files); i++) {
    golden_model m;
    if (golden_model_open(&m,
                          files[i])) { // every one of ours is in the file; now the other way round
      int trained = 0;
      for (int j = 0; j < m.g.file.count; j++) {
        const char *name = m.g.file.views[j].name;
        if (strncmp(name, "weights.", 8)) continue;
        const char *dot = strrchr(name, '.');
        if (!strcmp(dot, ".weight") || !strcmp(dot, ".bias") || strstr(name, "init_z") ||
            strstr(dot, "_ih") || strstr(dot, "_hh"))
          trained++;
      }
      CHECK_INT(m.params.count, trained);
    }
    golden_model_close(&m);
  }
}

TEST(sizes_out_of_range_are_refused_by_name) {
  static const struct {
    const char *json, *want;
  } wrong[] = {
      {"{\"kind\": \"rnn\", \"latent_size\": 9, \"network_size\": 8, \"gru_layers\": 2, "
       "\"token_size\": 2}",
       "latent_size"},
      {"{\"kind\": \"rnn\", \"latent_size\": 9, \"network_size\": 5, \"token_size\": 2}",
       "network_size"},
      {"{\"kind\": \"cnn\", \"latent_size\": 9, \"network_size\": 8, \"token_size\": 2}", "kind"},
      {"{\"kind\": \"rnn\", \"network_size\": 8, \"token_size\": 2}", "latent_size"},
      {"{\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 8, \"layers\": 2}", "layers"},
      {"{\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 8, \"gru_layers\": 5}",
       "gru_layers"},
      {"{\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 8, \"initial\": \"encoded\"}",
       "observation_size"},
      {"{\"kind\": \"transformer\", \"layers\": 1, \"heads\": 1, \"window\": 4}", "network_size"},
      {"{\"kind\": \"transformer\", \"network_size\": 10, \"layers\": 1, \"heads\": 1, \"window\": "
       "4}",
       "network_size"},
      {"{\"kind\": \"transformer\", \"network_size\": 16, \"layers\": 1, \"heads\": 3, \"window\": "
       "4}",
       "heads"},
      {"{\"kind\": \"transformer\", \"network_size\": 16, \"layers\": 1, \"heads\": 2}", "window"},
      {"{\"kind\": \"transformer\", \"network_size\": 16, \"layers\": 1, \"heads\": 2, \"window\": "
       "4, "
       "\"latent_size\": 3}",
       "latent_size"},
      {"{\"kind\": \"transformer\", \"network_size\": 16, \"layers\": 1, \"heads\": 2, \"window\": "
       "4, "
       "\"causal\": false, \"stop_head\": true}",
       "stop_head"},
      {"[]", "denoiser"},
  };
  for (int i = 0; i < COUNT(wrong); i++) {
    DURING("%s", wrong[i].json);
    df_arena arena = {0};
    const df_json *root;
    df_network net;
    if (CHECK_OK(df_json_parse(&root, &arena, wrong[i].json, strlen(wrong[i].json), &test_error))) {
      df_status status = df_network_read(&net, root, &test_error);
      if (!status) status = net.denoiser->check(&net, &test_error);
      CHECK_INT(status, DF_BAD_CONFIG);
      CHECK_CONTAINS(test_error.message, wrong[i].want);
    }
    df_arena_free(&arena);
  }
}
