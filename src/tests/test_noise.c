#include <stdlib.h>

#include "diffusion/noise.h"
#include "tests/golden.h"

// The reference's tables are float32, each rounded on its own; a libm may move the last digits.
static void compare_tables(golden *g, df_noise_kind kind) {
  df_noise noise;
  int K = 0;
  if (!CHECK_OK(df_json_get_int(g->config, "timesteps", 1, 100000, &K, &test_error))) return;
  if (!CHECK_OK(df_noise_create(&noise, kind, K, &test_error))) return;
  const struct {
    const char *name;
    const float *table;
  } tables[] = {
      {"alphas_cumprod", noise.abar},
      {"sqrt_alphas_cumprod", noise.sqrt_abar},
      {"sqrt_one_minus_alphas_cumprod", noise.sqrt_1m},
      {"sqrt_recip_alphas_cumprod", noise.sqrt_recip},
      {"sqrt_recipm1_alphas_cumprod", noise.sqrt_recipm1},
      {"snr", noise.snr},
      {"posterior_mean_coef1", noise.posterior_mean_x0},
      {"posterior_mean_coef2", noise.posterior_mean_x},
      {"posterior_log_variance_clipped", noise.posterior_log_variance},
  };
  char name[128];
  for (int i = 0; i < COUNT(tables); i++) {
    snprintf(name, sizeof name, "out.%s.f32.%s", df_noise_names[kind], tables[i].name);
    float *want = golden_floats(g, name);
    if (!want) continue;
    for (int k = 1; k <= K; k++) {
      DURING("%s, level %d", name, k);
      CHECK_NEAR(tables[i].table[k], want[k - 1], 2.5e-7 * fabsf(want[k - 1]));
    }
  }
  snprintf(name, sizeof name, "out.%s.f64.betas", df_noise_names[kind]);
  const df_view *betas = golden_view(g, name);
  if (betas) {
    const char *bytes = betas->data;
    for (int k = 1; k <= K; k++) {
      double want;
      memcpy(&want, bytes + (size_t)(k - 1) * sizeof want, sizeof want);
      DURING("%s, level %d", name, k);
      CHECK_NEAR(noise.beta[k], want, 1e-9 * want + 1e-15);
    }
  }
  DURING("%s", "");
  df_noise_free(&noise);
}

TEST(tables_are_those_of_the_reference) {
  const char *files[] = {"schedules_t1000", "schedules_t100"};
  for (int f = 0; f < COUNT(files); f++) {
    golden g = golden_open(files[f]);
    if (g.config)
      for (int kind = 0; kind < DF_NOISE_KINDS; kind++) compare_tables(&g, (df_noise_kind)kind);
    golden_close(&g);
  }
}

TEST(clipped_snr_is_the_minimum_of_snr_and_its_clip) {
  golden g = golden_open("schedules_t1000");
  REQUIRE(g.config);
  double clip = 0;
  CHECK_OK(df_json_get_number(g.config, "snr_clip", &clip, &test_error));
  float *want = golden_floats(&g, "out.cosine.f32.clipped_snr");
  df_noise noise;
  if (want && CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 1000, &test_error))) {
    for (int k = 1; k <= 1000; k++)
      CHECK_NEAR(fminf(noise.snr[k], (float)clip), want[k - 1], 2.5e-7 * want[k - 1]);
    df_noise_free(&noise);
  }
  golden_close(&g);
}

TEST(the_sampling_grid_visits_the_levels_of_the_reference) {
  golden g = golden_open("step_tables");
  for (int i = 0; i < g.file.count; i++) {
    const df_view *view = &g.file.views[i];
    int K = 0, S = 0;
    if (sscanf(view->name, "out.T%d_S%d", &K, &S) != 2) continue;
    DURING("%s", view->name);
    int64_t *want = golden_ints(&g, view->name);
    int32_t *levels = malloc(((size_t)S + 1) * sizeof *levels);
    if (CHECK(want && levels) &&
        CHECK_OK(df_noise_grid(DF_GRID_UNIFORM, (df_warp){0}, K, S, levels, &test_error)))
      for (int j = 0; j <= S; j++) CHECK_INT(levels[S - j], want[j] + 1); // theirs: -1 is clean
    free(levels);
  }
  golden_close(&g);
}

TEST(every_grid_rises_from_clean_to_noise_for_any_number_of_steps) {
  enum { MOST = 1000 };
  static const int sizes[] = {1, 2, 3, 5, 8, 30, MOST};
  static int32_t levels[MOST + 1];
  for (int k = 0; k < COUNT(sizes); k++) {
    const int K = sizes[k];
    // Flat at one end, in the middle and at the other end: levels that crowd have to make room.
    const float K1 = (float)K, low[] = {0, 0.001f * K1, 0.002f * K1, K1}, two[] = {0, K1},
                high[] = {0, 0.998f * K1, 0.999f * K1, K1},
                middle[] = {0, 0.4f * K1, 0.4001f * K1, 0.4002f * K1, K1};
    const df_warp warps[] = {{low, 4}, {two, 2}, {high, 4}, {middle, 5}};
    for (int kind = 0; kind < DF_GRIDS; kind++)
      for (int w = 0; w < (kind == DF_GRID_FITTED ? COUNT(warps) : 1); w++)
        for (int S = 1; S <= K; S++) {
          DURING("%s %d, %d of %d", df_grid_names[kind], w, S, K);
          if (!CHECK_OK(df_noise_grid((df_grid_kind)kind, warps[w], K, S, levels, &test_error)))
            break;
          bool rises = levels[0] == 0 && levels[S] == K;
          for (int i = 1; i <= S; i++) rises = rises && levels[i] > levels[i - 1];
          if (!CHECK(rises)) break;
        }
  }
}

TEST(grids_have_the_levels_that_their_names_say) {
  int32_t levels[101];
  REQUIRE(CHECK_OK(df_noise_grid(DF_GRID_QUADRATIC, (df_warp){0}, 1000, 10, levels, &test_error)));
  const int32_t squares[] = {0, 10, 40, 90, 160, 250, 360, 490, 640, 810, 1000};
  for (int i = 0; i <= 10; i++) CHECK_INT(levels[i], squares[i]);
  // Squares below 1 apart follow each other one by one.
  REQUIRE(CHECK_OK(df_noise_grid(DF_GRID_QUADRATIC, (df_warp){0}, 200, 100, levels, &test_error)));
  CHECK(levels[1] == 1 && levels[2] == 2 && levels[30] == 30 && levels[90] == 162);
  // Straight lines between the knots.
  const float warp[] = {0, 100, 600, 1000};
  REQUIRE(
      CHECK_OK(df_noise_grid(DF_GRID_FITTED, (df_warp){warp, 4}, 1000, 6, levels, &test_error)));
  const int32_t want[] = {0, 50, 100, 350, 600, 800, 1000};
  for (int i = 0; i <= 6; i++) CHECK_INT(levels[i], want[i]);
  // Clean at one end, as crowded as whole levels allow.
  const float crowded[] = {0, 0.1f, 10};
  REQUIRE(
      CHECK_OK(df_noise_grid(DF_GRID_FITTED, (df_warp){crowded, 3}, 10, 8, levels, &test_error)));
  const int32_t close[] = {0, 1, 2, 3, 4, 5, 6, 8, 10};
  for (int i = 0; i <= 8; i++) CHECK_INT(levels[i], close[i]);
}

TEST(a_grid_that_is_not_there_is_refused) {
  int32_t levels[11];
  CHECK_STATUS(df_noise_grid(DF_GRID_FITTED, (df_warp){0}, 10, 5, levels, &test_error),
               DF_NOT_SUPPORTED);
  CHECK_CONTAINS(test_error.message, "`forcing tune MODEL --fit-grid` makes one");
  CHECK_STATUS(df_noise_grid(DF_GRIDS, (df_warp){0}, 10, 5, levels, &test_error), DF_BAD_ARGUMENT);
  for (int kind = 0; kind < DF_GRID_FITTED; kind++) {
    CHECK_STATUS(df_noise_grid((df_grid_kind)kind, (df_warp){0}, 10, 0, levels, &test_error),
                 DF_BAD_ARGUMENT);
    CHECK_STATUS(df_noise_grid((df_grid_kind)kind, (df_warp){0}, 10, 11, levels, &test_error),
                 DF_BAD_ARGUMENT);
  }
}

TEST(the_clean_level_is_exact) {
  for (int kind = 0; kind < DF_NOISE_KINDS; kind++) {
    df_noise noise;
    REQUIRE(CHECK_OK(df_noise_create(&noise, (df_noise_kind)kind, 64, &test_error)));
    CHECK(noise.abar[0] == 1 && noise.sqrt_abar[0] == 1 && noise.sqrt_1m[0] == 0);
    CHECK(isinf(noise.snr[0]));
    for (int k = 1; k <= 64; k++) CHECK(noise.abar[k] < noise.abar[k - 1] && noise.abar[k] > 0);
    df_noise_free(&noise);
  }
}

TEST(a_schedule_refuses_sizes_it_cannot_have) {
  df_noise noise;
  CHECK_STATUS(df_noise_create(&noise, DF_NOISE_LINEAR, 20, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message,
                 "expected 21 to 1000000 levels for the linear schedule, found 20");
  CHECK_STATUS(df_noise_create(&noise, DF_NOISE_COSINE, 0, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_noise_create(&noise, DF_NOISE_KINDS, 10, &test_error), DF_BAD_ARGUMENT);
  df_noise_free(&noise);
  CHECK_WITHOUT_MEMORY(df_noise_create(&noise, DF_NOISE_COSINE, 10, &test_error));
  df_noise_free(&noise);
}

TEST(a_move_of_an_exact_prediction_lands_on_the_same_path) {
  df_noise noise;
  REQUIRE(CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 100, &test_error)));
  const float x0 = 0.7f, eps = -1.3f;
  for (int from = 1; from <= 100; from++) {
    for (int to = 0; to <= from; to++) {
      DURING("from %d to %d", from, to);
      df_move move = df_noise_move(&noise, from, to, 0);
      CHECK(move.sigma == 0);
      float want = noise.sqrt_abar[to] * x0 + noise.sqrt_1m[to] * eps;
      CHECK_NEAR(move.a * x0 + move.c * eps, want, 1e-5);
      // With eta = 1 the noise that is left and the noise that is new add up to the same variance.
      move = df_noise_move(&noise, from, to, 1);
      CHECK_NEAR(move.c * move.c + move.sigma * move.sigma, 1 - noise.abar[to], 1e-5);
      // DDIM with eta = 1 between neighbours is DDPM: sigma^2 is the posterior variance.
      if (to == from - 1 && to > 0)
        CHECK_NEAR(2 * log(move.sigma), noise.posterior_log_variance[from], 2e-3);
    }
  }
  df_move last = df_noise_move(&noise, 50, 0, 1);
  CHECK(last.a == 1 && last.c == 0 && last.sigma == 0 && last.guidance == 0);
  df_noise_free(&noise);
}

TEST(a_token_that_rises_is_noised_as_in_the_forward_process) {
  df_noise noise;
  REQUIRE(CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 1000, &test_error)));
  const float x[3] = {1, -2, 0.5f}, e[3] = {0.3f, 40, -40};
  float direct[3], twice[3];
  df_noise_raise(&noise, 20, 0, 700, 3, x, e, direct);
  for (int i = 0; i < 3; i++)
    CHECK_NEAR(direct[i], noise.sqrt_abar[700] * x[i] + noise.sqrt_1m[700] * df_clip(e[i], 20),
               1e-5);
  df_noise_raise(&noise, 20, 100, 700, 3, x, e, twice);
  double ratio = noise.abar[700] / (double)noise.abar[100];
  CHECK_NEAR(twice[1], sqrt(ratio) * x[1] + sqrt(1 - ratio) * 20, 1e-5);
  df_noise_free(&noise);
}

TEST(predictions_of_all_objectives_agree) {
  df_noise noise;
  REQUIRE(CHECK_OK(df_noise_create(&noise, DF_NOISE_SIGMOID, 100, &test_error)));
  const float clean[3] = {0.5f, -2, 0}, e[3] = {1, 0.25f, -0.75f};
  for (int k = 1; k <= 100; k += 7) {
    for (int objective = 0; objective < DF_OBJECTIVES; objective++) {
      DURING("%s at level %d", df_objective_names[objective], k);
      float x[3], o[3], x0[3], eps[3];
      for (int i = 0; i < 3; i++) {
        x[i] = noise.sqrt_abar[k] * clean[i] + noise.sqrt_1m[k] * e[i];
        o[i] = objective == DF_PREDICT_NOISE ? e[i]
               : objective == DF_PREDICT_X0
                   ? clean[i]
                   : noise.sqrt_abar[k] * e[i] - noise.sqrt_1m[k] * clean[i];
      }
      df_predict(&noise, (df_objective)objective, 20, k, 3, x, o, x0, eps);
      // x0 is a small difference at the noisy end, eps at the clean end.
      CHECK_FLOATS(x0, clean, 3, 1e-6 * (1 + noise.sqrt_recip[k]));
      CHECK_FLOATS(eps, e, 3, 1e-6 * (1 + 1 / noise.sqrt_1m[k]));
      df_predict(&noise, (df_objective)objective, 20, 0, 3, x, o, x0, eps);
      CHECK_FLOATS(x0, x, 3, 0);
      CHECK(eps[0] == 0 && eps[1] == 0 && eps[2] == 0);
    }
  }
  // Only a predicted noise is clipped, and a NaN does not disappear in the clip.
  float x = 0, o = 3, x0, eps;
  df_predict(&noise, DF_PREDICT_NOISE, 2, 50, 1, &x, &o, &x0, &eps);
  CHECK(eps == 2);
  df_predict(&noise, DF_PREDICT_X0, 2, 50, 1, &x, &o, &x0, &eps);
  CHECK(x0 == 3);
  o = NAN;
  df_predict(&noise, DF_PREDICT_NOISE, 2, 50, 1, &x, &o, &x0, &eps);
  CHECK(isnan(eps) && isnan(x0));
  df_noise_free(&noise);
}

TEST(weights_without_history_are_min_snr) {
  df_noise noise;
  REQUIRE(CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 1000, &test_error)));
  const int32_t levels[] = {1, 100, 500, 900, 1000};
  float weights[5];
  for (int i = 0; i < 5; i++) {
    float snr = noise.snr[levels[i]], clipped = fminf(snr, 5);
    DURING("level %d", levels[i]);
    df_loss_weights(&noise, DF_WEIGHT_MIN_SNR, DF_PREDICT_NOISE, 5, 0.9f, levels, 5, weights);
    CHECK_NEAR(weights[i], clipped / snr, 1e-6 * clipped / snr);
    df_loss_weights(&noise, DF_WEIGHT_MIN_SNR, DF_PREDICT_X0, 5, 0.9f, levels, 5, weights);
    CHECK_NEAR(weights[i], clipped, 1e-6 * clipped);
    df_loss_weights(&noise, DF_WEIGHT_MIN_SNR, DF_PREDICT_V, 5, 0.9f, levels, 5, weights);
    CHECK_NEAR(weights[i], clipped / (snr + 1), 1e-6);
    df_loss_weights(&noise, DF_WEIGHT_NONE, DF_PREDICT_V, 5, 0.9f, levels, 5, weights);
    CHECK(weights[i] == 2.5f);
  }
  df_noise_free(&noise);
}

TEST(a_clean_history_lifts_the_weight_of_a_noisy_token) {
  df_noise noise;
  REQUIRE(CHECK_OK(df_noise_create(&noise, DF_NOISE_COSINE, 1000, &test_error)));
  const int32_t clean_first[] = {1, 800}, noisy_first[] = {1000, 800}, given[] = {0, 800};
  float a[2], b[2], c[2];
  df_loss_weights(&noise, DF_WEIGHT_FUSED_SNR, DF_PREDICT_X0, 5, 0.9f, clean_first, 2, a);
  df_loss_weights(&noise, DF_WEIGHT_FUSED_SNR, DF_PREDICT_X0, 5, 0.9f, noisy_first, 2, b);
  df_loss_weights(&noise, DF_WEIGHT_FUSED_SNR, DF_PREDICT_X0, 5, 0.9f, given, 2, c);
  CHECK(a[1] > b[1]);
  CHECK(c[0] == 0 && c[1] == a[1]); // level 1 has a clipped ratio of 1 as well
  df_noise_free(&noise);
}
