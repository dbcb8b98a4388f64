// Grids fitted to a model (train/fit.c).
#include "train/fit.h"

#include <math.h>

#include "base/memory.h"
#include "tests/test.h"

// ---- A small network with random weights ----

typedef struct rig {
  df_config config;
  df_noise noise;
  df_params params;
} rig;

#define CONFIG(denoiser, levels)                                                                   \
  "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 12, "  \
  "\"network_size\": 4, \"hidden_size\": 8" denoiser "}, "                                         \
  "\"diffusion\": {\"levels\": " levels ", \"objective\": \"v\", \"schedule\": \"cosine\"}, "      \
  "\"tokens\": {\"frame_stack\": 2, \"fields\": [{\"name\": \"a\"}, {\"name\": \"b\"}]}, "         \
  "\"sampling\": {\"max_tokens\": 4}}"

static bool make(rig *r, const char *text) {
  *r = (rig){.noise = {0}};
  if (!CHECK_OK(df_config_parse(&r->config, text, strlen(text), &test_error)) ||
      !CHECK_OK(df_noise_create(&r->noise, r->config.noise, r->config.K, &test_error)) ||
      !CHECK_OK(df_network_declare(&r->config.network, &r->params, &test_error)))
    return false;
  df_params_init(&r->params, 7);
  for (size_t i = 0; i < r->params.size; i++) r->params.values[i] *= 3; // far from linear
  return true;
}

static void drop(rig *r) {
  df_params_free(&r->params);
  df_noise_free(&r->noise);
  df_config_free(&r->config);
}

static df_status fit_of(df_fit **fit, const rig *r, const df_fit_options *o) {
  return df_fit_create(fit, &r->config, &r->noise, &r->params, o, &test_error);
}

static const df_fit_options few = {.sequences = 19, .seed = 5};

// ---- Tests ----

static const char *const denoisers[] = {CONFIG("", "200"), CONFIG(", \"stop_head\": true", "200"),
                                        CONFIG(", \"self_condition\": true", "200"),
                                        CONFIG(", \"stop_head\": true", "9")};

TEST(a_warp_rises_from_clean_to_noise) {
  for (int i = 0; i < COUNT(denoisers); i++) {
    rig r;
    df_fit *fit = NULL;
    float levels[33];
    DURING("network %d", i);
    if (make(&r, denoisers[i]) && CHECK_OK(fit_of(&fit, &r, &few))) {
      const int tokens = df_fit_tokens(fit), most = 19 * 4;
      CHECK(r.config.network.stop_head ? tokens >= 19 && tokens < most : tokens == most);
      for (int knots = 2; knots <= 33; knots += 31) {
        df_fit_warp(fit, knots, levels);
        CHECK(levels[0] == 0 && levels[knots - 1] == (float)r.config.K);
        for (int k = 1; k < knots; k++) CHECK(levels[k] > levels[k - 1]);
      }
    }
    df_fit_free(fit);
    drop(&r);
  }
}

// Random weights have no schedule that suits them: a grid that knows the network loses less than one that
// does not.
TEST(a_fitted_grid_ends_nearer_than_a_uniform_one) {
  rig r;
  df_fit *fit = NULL;
  if (make(&r, denoisers[1]) && CHECK_OK(fit_of(&fit, &r, &few))) {
    float levels[33];
    int32_t grid[129];
    df_fit_warp(fit, 33, levels);
    double last = INFINITY;
    for (int S = 4; S <= 32; S *= 2) {
      double distance[DF_GRIDS];
      for (int k = 0; k < DF_GRIDS; k++) {
        CHECK_OK(df_noise_grid((df_grid_kind)k, (df_warp){levels, 33}, 200, S, grid, &test_error));
        CHECK_OK(df_fit_distance(fit, grid, S, &distance[k], &test_error));
      }
      DURING("%d steps: %g, %g, %g", S, distance[0], distance[1], distance[2]);
      CHECK(distance[DF_GRID_FITTED] < distance[DF_GRID_UNIFORM]);
      CHECK(distance[DF_GRID_FITTED] < last);
      last = distance[DF_GRID_FITTED];
    }
    // The small steps themselves end where they ended.
    double none = 1;
    CHECK_OK(df_noise_grid(DF_GRID_UNIFORM, (df_warp){0}, 200, 128, grid, &test_error));
    CHECK_OK(df_fit_distance(fit, grid, 128, &none, &test_error));
    CHECK(none == 0);
  }
  df_fit_free(fit);
  drop(&r);
}

TEST(threads_change_nothing_and_seeds_do) {
  rig r;
  if (make(&r, denoisers[1])) {
    float levels[3][33];
    df_threads *threads = NULL;
    CHECK_OK(df_threads_create(&threads, 3, &test_error));
    for (int i = 0; i < 3; i++) {
      df_fit_options o = few;
      if (i == 1) o.threads = threads;
      if (i == 2) o.seed++;
      df_fit *fit = NULL;
      if (CHECK_OK(fit_of(&fit, &r, &o))) df_fit_warp(fit, 33, levels[i]);
      df_fit_free(fit);
    }
    CHECK(!memcmp(levels[0], levels[1], sizeof levels[0]));
    CHECK(memcmp(levels[0], levels[2], sizeof levels[0]) != 0);
    df_threads_free(threads);
  }
  drop(&r);
}

static bool stop_at_10(void *context, int done, int sequences) {
  *(int *)context = done;
  CHECK(done <= sequences);
  return done < 10;
}

TEST(a_fit_stops_on_request) {
  rig r;
  if (make(&r, denoisers[1])) {
    int done = 0;
    df_fit_options o = few;
    o.report = stop_at_10, o.context = &done;
    df_fit *fit;
    CHECK_STATUS(fit_of(&fit, &r, &o), DF_STOPPED);
    CHECK(fit == NULL && done >= 10 && done < 19);
  }
  drop(&r);
}

static df_status fit_and_free(const rig *r) {
  df_fit *fit;
  df_status status = fit_of(&fit, r, &(df_fit_options){.sequences = 1});
  df_fit_free(fit);
  return status;
}

TEST(what_cannot_be_fitted_is_refused) {
  rig r;
  df_fit *fit;
  if (make(&r, denoisers[0])) {
    df_fit_options o = few;
    o.sequences = 0;
    CHECK_STATUS(fit_of(&fit, &r, &o), DF_BAD_ARGUMENT);
    CHECK_CONTAINS(test_error.message, "expected 1 to 65536 sequences, found 0");
    CHECK_OK(fit_and_free(&r)); // from now on the parameters hold their packed forms
    CHECK_WITHOUT_MEMORY(fit_and_free(&r));
  }
  drop(&r);
  if (make(&r, CONFIG("", "7"))) CHECK_STATUS(fit_of(&fit, &r, &few), DF_NOT_SUPPORTED);
  drop(&r);
  if (make(&r, CONFIG(", \"initial\": \"encoded\", \"observation_size\": 2", "200")))
    CHECK_STATUS(fit_of(&fit, &r, &few), DF_NOT_SUPPORTED);
  drop(&r);
}
