// Guidance through the network and all latents, against the reference's planner: one row of the level table becomes one
// graph over all tokens, whose derivative with respect to the noisy tokens is what guidance needs.
#include "diffusion/levels.h"
#include "graph/graph.h"
#include "tests/golden_model.h"

enum { MAX_T = 16, MAX_R = 4 };

static df_tensor *input(df_graph *g, const char *name, int cols, const float **data,
                        const float *from) {
  df_tensor *t = df_input(g, name, 1, cols, true);
  *data = from;
  return t;
}

// Mean distance to the goal over frames and samples: J = - n_frames sum over sequences.
static df_tensor *objective(df_graph *g, const golden_model *m, df_tensor *const *samples, int H,
                            int R, df_tensor *goal, df_tensor *mean, df_tensor *std) {
  int C = m->network.token_size / m->frame_stack, frames = H * m->frame_stack;
  double last = golden_number(m->run, "last_frame_weight");
  df_tensor *sum = NULL;
  for (int t = 0; t < H; t++)
    for (int f = 0; f < m->frame_stack; f++) {
      double weight = t == H - 1 && f == m->frame_stack - 1 ? last : 1;
      for (int k = 0; k < R && weight != 0; k++) {
        df_tensor *frame = df_columns(samples[t * MAX_R + k], f * C, 2);
        frame = df_add(df_mul(frame, df_columns(std, 0, 2)), df_columns(mean, 0, 2));
        df_tensor *d = df_sum_cols(df_unary_op(DF_SQUARE, 0, 0, df_sub(frame, goal))); // (B, 1)
        if (golden_is(m->run, "objective", "norm")) d = df_unary_op(DF_SQRT, 0, 0, d);
        d = df_scale(d, (float)(weight / (frames * R)));
        sum = sum ? df_add(sum, d) : d;
      }
    }
  (void)g;
  return df_scale(df_sum_all(sum), -(float)golden_int(m->run, "n_frames"));
}

static void compare(golden_model *m, const char *name, const float *got, size_t at, int n) {
  const float *want = golden_floats(&m->g, name);
  if (want) CHECK_FLOATS(got, want + at, n, golden_tolerance(m, name));
}

// One whole plan with the given guidance scale; out is the prefix of the files' names, "out." or "out.unguided.".
static void run_plan(golden_model *m, float scale, bool all_outputs) {
  int X = m->network.token_size, Z = m->network.latent_size, S = m->S,
      H = golden_int(m->run, "tokens"), B = golden_int(m->run, "batch");
  int repeats = golden_int(m->run, "ddim_repeats"), R = repeats > 1 ? repeats : 1, n = B * X;
  double u = golden_number(m->algorithm, "uncertainty_scale");
  int rows = S + (int)(H * u);
  int64_t *index = golden_ints(&m->g, "out.index");
  float *z0 = golden_floats(&m->g, "out.z0"), *goal_values = golden_floats(&m->g, "in.goal");
  float *mean_values = golden_floats(&m->g, "weights.data_mean"),
        *std_values = golden_floats(&m->g, "weights.data_std");
  float *noise = golden_floats(&m->g, "in.plan_noise"),
        *mc = R > 1 ? golden_floats(&m->g, "in.mc_noise") : NULL;
  int32_t *grid = df_arena_alloc(&m->g.arena, (size_t)(S + 1) * sizeof *grid);
  float *tokens = df_arena_alloc(&m->g.arena, (size_t)(H * n) * sizeof *tokens);
  if (!index || !z0 || !goal_values || !noise ||
      !CHECK_OK(df_noise_grid(DF_GRID_UNIFORM, (df_warp){0}, m->noise.K, S, grid, &test_error)))
    return;
  memcpy(tokens, noise, (size_t)(H * n) * sizeof *tokens);

  for (int row = 0; row < rows; row++) {
    DURING("row %d, guidance %g", row, (double)scale);
    df_error declared = {0};
    df_graph *g = df_graph_create();
    df_nn nn = {g, &m->params, &declared};
    const float *data[8];
    df_tensor *z = input(g, "z0", Z, &data[0], z0), *first = z,
              *goal = input(g, "goal", 2, &data[1], goal_values);
    df_tensor *mean = df_input(g, "mean", 1, X / m->frame_stack, false),
              *std = df_input(g, "std", 1, X / m->frame_stack, false);
    df_tensor *x[MAX_T], *next[MAX_T], *latent[MAX_T], *samples[MAX_T * MAX_R],
        *noises[MAX_T * MAX_R] = {0}, *outputs[4 * MAX_T + 8];
    df_move move[MAX_T];
    bool finished[MAX_T];
    int outs = 0;
    for (int t = 0; t < H; t++) {
      int entry = row - (int)(t * u), i = entry < 0 ? 0 : entry >= S ? S - 1 : entry;
      CHECK_INT((int)index[row * H + t], i);
      int from = grid[S - i], to = grid[S - i - 1];
      finished[t] = entry >= S;
      x[t] = df_input_grad(g, "x", 1, X, true);
      df_tensor *current = x[t], *z_in = z,
                *level = df_constant(g, 1, 1, true, (float)df_network_level(from));
      for (int k = 0; k < R; k++) {
        df_tensor *clamped = i == 0 ? df_unary_op(DF_CLAMP, -m->clip_noise, m->clip_noise, current)
                                    : current,
                  *o, *z_out, *x0, *eps;
        df_unrolled seq = {
            .T = 1, .z0 = z_in, .x = &clamped, .level = &level, .out = &o, .z = &z_out};
        m->network.denoiser->build(&m->network, &nn, &seq);
        df_predict_op(&m->noise, m->objective, m->clip_noise, from, clamped, o, &x0, &eps);
        samples[t * MAX_R + k] = x0;
        if (k == 0) {
          latent[t] = z = z_out;
          move[t] = df_noise_move(&m->noise, from, to,
                                  (float)golden_number(m->diffusion, "ddim_sampling_eta"));
          next[t] = to == 0 ? x0 : df_add(df_scale(x0, move[t].a), df_scale(eps, move[t].c));
        } else if (k < R - 1) { // noise the sample again: the next one starts from there
          noises[t * MAX_R + k] = df_input(g, "mc", 1, X, true);
          df_tensor *clipped =
              df_unary_op(DF_CLAMP, -m->clip_noise, m->clip_noise, noises[t * MAX_R + k]);
          current = df_add(df_scale(x0, m->noise.sqrt_abar[from]),
                           df_scale(clipped, m->noise.sqrt_1m[from]));
        }
      }
      outputs[outs++] = next[t];
      outputs[outs++] = latent[t];
    }
    df_tensor *J = objective(g, m, samples, H, R, goal, mean, std), *grad[MAX_T];
    CHECK_OK(df_gradient(J, x, grad, H, &test_error));
    outputs[outs++] = J;
    for (int t = 0; t < H; t++)
      if (grad[t]) outputs[outs++] = grad[t];
    df_plan *plan = NULL;
    CHECK(declared.code == DF_OK);
    if (CHECK_OK(df_plan_create(&plan, g, outputs, outs,
                                &(df_plan_options){.batch = B, .fixed_weights = true},
                                &test_error))) {
      memcpy(df_plan_data(plan, first), data[0], (size_t)(B * Z) * sizeof(float));
      memcpy(df_plan_data(plan, goal), data[1], (size_t)(B * 2) * sizeof(float));
      if (df_plan_data(plan, mean))
        memcpy(df_plan_data(plan, mean), mean_values, (size_t)mean->cols * sizeof(float));
      if (df_plan_data(plan, std))
        memcpy(df_plan_data(plan, std), std_values, (size_t)std->cols * sizeof(float));
      for (int t = 0; t < H; t++) {
        memcpy(df_plan_data(plan, x[t]), tokens + t * n, (size_t)n * sizeof(float));
        for (int k = 1; k < R - 1; k++)
          memcpy(df_plan_data(plan, noises[t * MAX_R + k]),
                 mc + ((size_t)(row * H + t) * (size_t)(R - 1) + (size_t)(k - 1)) * (size_t)n,
                 (size_t)n * sizeof(float));
      }
      CHECK_OK(df_plan_run(plan, B, &test_error));
      if (all_outputs) compare(m, "out.objective", df_plan_data(plan, J), (size_t)row, 1);
      for (int t = 0; t < H; t++) {
        size_t at = (size_t)(row * H + t);
        const float *stepped = df_plan_data(plan, next[t]),
                    *dx = grad[t] ? df_plan_data(plan, grad[t]) : NULL;
        if (all_outputs) {
          compare(m, "out.x_step", stepped, at * (size_t)n, n);
          compare(m, "out.z", df_plan_data(plan, latent[t]), at * (size_t)(B * Z), B * Z);
          compare(m, "out.guidance_const", &move[t].guidance, at, 1);
          if (dx) compare(m, "out.grad", dx, at * (size_t)n, n);
        }
        float *token = tokens + t * n;
        for (int j = 0; j < n; j++) {
          float value = finished[t] ? token[j] : stepped[j];
          token[j] = value + (dx ? move[t].guidance * dx[j] * scale : 0);
        }
      }
      compare(m, all_outputs ? "out.plan" : "out.unguided.plan", tokens, (size_t)(row * H * n),
              H * n);
    }
    df_plan_free(plan);
    df_graph_free(g);
  }
}

static const char *const files[] = {"rnn_guided_norm", "rnn_guided_square", "rnn_guided_mc"};

TEST(guided_plans_follow_the_reference_row_by_row) {
  for (int i = 0; i < COUNT(files); i++) {
    golden_model m;
    if (golden_model_open(&m, files[i])) {
      run_plan(&m, (float)golden_number(m.run, "guidance_scale"), true);
      run_plan(&m, 0, false);
    }
    golden_model_close(&m);
  }
}

TEST(the_initial_latent_is_encoded_from_the_observation) {
  for (int i = 0; i < COUNT(files); i++) {
    golden_model m;
    df_graph *g = df_graph_create();
    df_plan *plan = NULL;
    if (golden_model_open(&m, files[i])) {
      df_error declared = {0};
      df_nn nn = {g, &m.params, &declared};
      int B = golden_int(m.run, "batch"), O = m.network.observation_size;
      df_tensor *observation = df_input(g, "observation", 1, O, true);
      df_tensor *z0 = m.network.denoiser->initial(&m.network, &nn, observation);
      float *obs = golden_floats(&m.g, "in.obs"), *mean = golden_floats(&m.g, "weights.data_mean"),
            *std = golden_floats(&m.g, "weights.data_std");
      if (CHECK_OK(df_plan_create(&plan, g, &z0, 1, &(df_plan_options){.batch = B}, &test_error))) {
        for (int j = 0; j < B * O; j++)
          df_plan_data(plan, observation)[j] = (obs[j] - mean[j % O]) / std[j % O];
        CHECK_OK(df_plan_run(plan, B, &test_error));
        compare(&m, "out.z0", df_plan_data(plan, z0), 0, B * m.network.latent_size);
      }
    }
    df_plan_free(plan);
    df_graph_free(g);
    golden_model_close(&m);
  }
}
