// Planning on and on: tokens that start from where an earlier plan left them, and sequences that go on behind a latent.
#include "diffusion/internal.h"
#include "tests/sampler_models.h"

enum { D = 4, T = 5, S = 6, U = 2, TICKS = 4, L = T + TICKS, B = 2 };

static const df_guide_term terms[] = {
    {DF_GUIDE_REACH, 1, 0, 1, 0, -1, {3, 1}, {0.5}, 0.2, -1},
    {DF_GUIDE_DISC, 2, 2, 3, 1, -1, {0.2, -0.1}, {1}, 0.5, -1},
    {DF_GUIDE_SMOOTH, 0.3, .x = 1, .y = -1, .last = -1, .sequence = -1},
};

// The terms of a plan that begins with frame `first` and has n frames.
static bool guide(df_sampler *s, int first, int n, int futures) {
  df_guide_term own[COUNT(terms)];
  for (int i = 0; i < COUNT(terms); i++) {
    own[i] = terms[i];
    own[i].first += first, own[i].last = first + n - 1;
  }
  const df_guidance g = {.terms = own, .term_count = COUNT(own), .scale = 2e-3, .futures = futures};
  return CHECK_OK(df_sampler_guide(s, &g, &test_error));
}

static const float *token_of(const df_sampler *s, int b, int w) {
  const df_sampler_info *info = df_sampler_state(s);
  return info->values + (b * info->tokens + w) * D;
}

static void clean_values(int b, int t, float *values) {
  for (int j = 0; j < D; j++) values[j] = (float)sin(2 + b + 5 * t + 3 * j);
}

// One table as long as all ticks together, of L tokens.
static df_sampler *long_walk(const df_model *m, const int32_t *table) {
  df_sampler_options o = options_of(B, L, DF_CUSTOM, S, 0);
  df_sampler *s = NULL;
  float values[D];
  o.table = table, o.table_rows = U * TICKS + 1, o.allow_partial = true;
  if (!CHECK_OK(df_sampler_create(&s, m, &o, &test_error))) return NULL;
  condition_all(s, m->config.network.condition_size, L);
  for (int b = 0; b < B; b++)
    for (int t = 0; t < L && table[t] < S; t++) {
      clean_values(b, t, values);
      CHECK_OK(df_sampler_start(s, b, t, values, 1, false, &test_error));
    }
  return s;
}

// What a controller does: u rows, then the rest of the plan is the beginning of the next one. The sequence goes on
// behind the latent of what is done, or with all of it known.
static void roll(const df_model *m, bool known, bool guided, double tolerance) {
  int32_t table[(U * TICKS + 1) * L];
  for (int row = 0; row <= U * TICKS; row++)
    for (int t = 0; t < L; t++) table[row * L + t] = df_levels_at(DF_ROLLING, L, S, U, row, t);
  const int E = m->config.network.condition_size, n = known ? L : T;
  const df_sampler_options o = options_of(B, n, DF_ROLLING, S, U);
  df_sampler *all = long_walk(m, table), *s = NULL;
  float values[D], z[B][64], tail[B][L][D];
  if (all && CHECK_OK(df_sampler_create(&s, m, &o, &test_error))) {
    for (int tick = 0; tick < TICKS; tick++) {
      const int done = known ? tick : 0; // tokens of s that are clean before the tick
      DURING("%s, %s, tick %d", known ? "known" : "begun", guided ? "guided" : "not guided", tick);
      df_sampler_restart(s, o.seed);
      for (int b = 0; b < B; b++) {
        if (!known && tick) CHECK_OK(df_sampler_begin(s, b, tick, z[b], &test_error));
        for (int w = 0; w < n; w++) {
          float cond[2] = {0};
          for (int j = 0; j < E; j++) // as condition_all
            cond[j] = (float)sin(1 + b + 3 * (w + (known ? 0 : tick)) + 7 * j);
          if (E) CHECK_OK(df_sampler_condition(s, b, w, cond, &test_error));
        }
        if (known && tick)
          CHECK_OK(df_sampler_keep(s, b, tick - 1, tail[b][tick - 1], 1, &test_error));
        for (int w = done; w < n && U * (w - done + 1) < S; w++) {
          clean_values(b, w, values);
          CHECK_OK(df_sampler_start(s, b, w, tick ? tail[b][w + !known] : values, 1, tick > 0,
                                    &test_error));
        }
      }
      if (guided && !(guide(s, done, T, 1) && guide(all, tick, T, 1))) break;
      if (!CHECK_INT(df_sampler_state(s)->rows, U + 1) || !run_all(s)) break;
      for (int row = 0; row < U; row++) CHECK_OK(df_sampler_step(all, &test_error));
      for (int b = 0; b < B; b++) {
        for (int w = done; w < done + T; w++) {
          const int t = known ? w : w + tick;
          DURING("%s, %s, tick %d, sequence %d, token %d", known ? "known" : "begun",
                 guided ? "guided" : "not guided", tick, b, t);
          CHECK_INT(df_sampler_state(s)->levels[b * n + w],
                    df_sampler_state(all)->levels[b * L + t]);
          CHECK_FLOATS(token_of(s, b, w), token_of(all, b, t), D, tolerance);
        }
        memcpy(tail[b], token_of(s, b, 0), (size_t)n * D * sizeof(float));
        if (!known) CHECK_OK(df_sampler_latent(s, b, 0, z[b], &test_error));
      }
    }
    CHECK(df_sampler_done(all) && df_sampler_state(all)->levels[L - 1] > 0);
  }
  df_sampler_free(s);
  df_sampler_free(all);
}

TEST(what_rolls_on_fills_the_cells_of_one_long_table) {
  df_model m;
  for (int i = 0; i < 6; i++) {
    const bool made = i < 4 ? make_rnn(&m, D, i & 1 ? 2 : 0, false, false)
                            : make_transformer(&m, D, i & 1 ? 2 : 0, L, true, false);
    for (int guided = 0; guided < 2 && made; guided++) roll(&m, i > 1, guided, guided ? 1e-5 : 0);
    drop(&m);
  }
}

// ---- Start values ----

TEST(a_clean_start_value_gets_the_noise_that_the_token_would_start_from) {
  df_model m;
  df_sampler *plain = NULL, *s = NULL;
  if (make_rnn(&m, D, 0, false, false)) {
    df_sampler_options o = options_of(B, T, DF_ROLLING, S, U);
    o.grid = DF_GRID_UNIFORM;
    CHECK_OK(df_sampler_create(&s, &m, &o, &test_error));
    o.schedule = DF_PYRAMID;
    CHECK_OK(df_sampler_create(&plain, &m, &o, &test_error));
    REQUIRE(s && plain);
    const df_sampler_info *info = df_sampler_state(s);
    float values[D];
    for (int b = 0; b < B; b++)
      for (int t = 0; t < T; t++) {
        clean_values(b, t, values);
        const int level = U * (t + 1) < S ? U * (t + 1) : S;
        const double abar = (double)m.noise.abar[m.config.K * level / S];
        CHECK_INT(info->levels[b * T + t], level);
        CHECK_FLOATS(token_of(s, b, t), token_of(plain, b, t), D, 0); // nothing is given yet
        CHECK_OK(df_sampler_start(s, b, t, values, 1, false, &test_error));
        for (int j = 0; j < D; j++)
          CHECK_NEAR(token_of(s, b, t)[j],
                     sqrt(abar) * (double)values[j] +
                         sqrt(1 - abar) * (double)token_of(plain, b, t)[j],
                     1e-6);
        CHECK_FLOATS(info->estimates + (b * T + t) * D, values, D, 0);
        // noisy ones stay as they are
        CHECK_OK(df_sampler_start(s, b, t, values, 1, true, &test_error));
        CHECK_FLOATS(token_of(s, b, t), values, D, 0);
        CHECK(info->estimates[(b * T + t) * D] == 0);
      }
    df_sampler_restart(s, 8); // they stay
    CHECK_FLOATS(token_of(s, B - 1, T - 1), values, D, 0);
    run_all(s);
    CHECK_INT(info->row, U);
    CHECK_INT(info->clean, 1);
  }
  df_sampler_free(plain);
  df_sampler_free(s);
  drop(&m);
}

TEST(of_what_is_given_of_a_token_the_last_counts) {
  df_model m;
  df_sampler *s = NULL;
  const float values[D] = {1, 2, 3, 4};
  if (make_rnn(&m, D, 0, false, false)) {
    const df_sampler_options o = options_of(1, 4, DF_ROLLING, 4, 2);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      const df_sampler_info *info = df_sampler_state(s);
      static const int levels[][4] = {{2, 4, 4, 4}, {0, 2, 4, 4}, {2, 0, 4, 4}, {2, 4, 4, 4}};
      for (int i = 0; i < 4; i++) {
        if (i == 1) CHECK_OK(df_sampler_keep(s, 0, 0, values, 1, &test_error));
        if (i == 2) {
          CHECK_OK(df_sampler_start(s, 0, 0, values, 1, true, &test_error));
          CHECK_OK(df_sampler_keep(s, 0, 1, values, 1, &test_error));
        }
        if (i == 3) CHECK_OK(df_sampler_start(s, 0, 1, NULL, 0, false, &test_error));
        for (int t = 0; t < 4; t++) CHECK_INT(info->levels[t], levels[i][t]);
        if (i != 1) continue;
        CHECK_INT(info->clean, 1);
        CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
        CHECK_CONTAINS(
            test_error.message,
            "sequence 0, token 1: expected a start value, as the token starts at level 2");
      }
      CHECK_FLOATS(token_of(s, 0, 0), values, D, 0);
      CHECK(token_of(s, 0, 1)[0] != values[0]);
      run_all(s);
      CHECK_INT(info->row, 2);
      CHECK_STATUS(df_sampler_start(s, 0, 0, values, 1, true, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "started tokens are given before the first step");
      df_sampler_restart(s, 1);
      CHECK_STATUS(df_sampler_start(s, 1, 0, values, 1, true, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_start(s, 0, 4, values, 1, true, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_start(s, 0, 0, values, 0, true, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_start(s, 0, 0, NULL, 2, true, &test_error), DF_BAD_ARGUMENT);
      const float bad[D] = {1, NAN, 3, 4};
      CHECK_STATUS(df_sampler_start(s, 0, 0, bad, 1, true, &test_error), DF_BAD_VALUE);
      CHECK_FLOATS(token_of(s, 0, 0), values, D, 0);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(rolling_and_tables_that_end_above_0_need_a_length) {
  df_model m;
  df_sampler *s;
  static const int32_t table[] = {2, 2, 1, 2, 0, 1};
  if (make_rnn(&m, D, 0, false, true)) {
    df_sampler_options o = options_of(1, DF_LENGTH_DRAWN, DF_ROLLING, 4, 2);
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_NOT_SUPPORTED);
    o.length = DF_LENGTH_UNBOUNDED;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_NOT_SUPPORTED);
    o.length = DF_LENGTH_DRAWN, o.max_length = 2, o.steps = 2;
    o.schedule = DF_CUSTOM, o.table = table, o.table_rows = 3;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_BAD_TABLE);
    o.allow_partial = true;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_NOT_SUPPORTED);
    o.length = 2;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_TEXT(walk(s, 2), "22\n12\n01\n");
      CHECK(df_sampler_done(s));
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "no row is left");
    }
    df_sampler_free(s);
  }
  drop(&m);
  if (make_transformer(&m, D, 0, 3, true, false)) { // of a rolling table S / u tokens fall together
    static const int steps[] = {6, 8};
    for (int i = 0; i < 2; i++) {
      const df_sampler_options o = options_of(1, 7, DF_ROLLING, steps[i], 2);
      if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
        const float values[D] = {0};
        for (int t = 0; t < 3; t++)
          CHECK_OK(df_sampler_start(s, 0, t, values, 1, false, &test_error));
        CHECK_STATUS(df_sampler_step(s, &test_error), i ? DF_NOT_SUPPORTED : DF_OK);
        if (i) CHECK_CONTAINS(test_error.message, "tokens 0 to 3 fall together");
      }
      df_sampler_free(s);
    }
  }
  drop(&m);
}

TEST(noisy_tokens_that_mark_their_frames_cannot_start) {
  df_model m = {.config = {.network = {.denoiser = &df_denoiser_rnn,
                                       .token_size = 6,
                                       .latent_size = 8,
                                       .network_size = 4,
                                       .hidden_size = 8,
                                       .mlp_layers = 1,
                                       .gru_layers = 1,
                                       .initial = DF_INITIAL_LEARNED},
                           .objective = DF_PREDICT_X0,
                           .noise = DF_NOISE_COSINE,
                           .K = 20,
                           .frame_stack = 2,
                           .present = true}};
  df_sampler *s = NULL;
  if (finish(&m)) {
    const df_sampler_options o = options_of(1, 2, DF_FULL_SEQUENCE, 2, 0);
    const float values[4] = {1, 2, 3, 4};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_STATUS(df_sampler_start(s, 0, 0, values, 2, true, &test_error), DF_NOT_SUPPORTED);
      CHECK_STATUS(df_sampler_start(s, 0, 0, values, 1, false, &test_error), DF_BAD_ARGUMENT);
      CHECK_OK(df_sampler_start(s, 0, 0, values, 2, false, &test_error));
      CHECK_OK(df_sampler_start(s, 0, 1, values, 1, false, &test_error)); // the last token
      CHECK_INT(df_sampler_state(s)->frames[0], 2);
      CHECK_INT(df_sampler_state(s)->frames[1], 1);
      run_all(s);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- Going on behind a latent ----

// A plan of L tokens with KNOWN known ones, and that of the others, begun from the latent behind the known ones.
enum { KNOWN = 3 };

static void go_on(const df_model *m, int futures, double tolerance) {
  const int E = m->config.network.condition_size;
  df_sampler_options o = options_of(B, L, DF_PYRAMID, S, 1.5);
  o.eta = futures ? 0.5 : 1, o.stabilization = 2;
  df_sampler *all = NULL, *rest = NULL;
  CHECK_OK(df_sampler_create(&all, m, &o, &test_error));
  o.length = L - KNOWN;
  CHECK_OK(df_sampler_create(&rest, m, &o, &test_error));
  REQUIRE(all && rest);
  const int Z = df_sampler_state(all)->latent;
  float values[D], cond[2], z[3][64];
  for (int b = 0; b < B; b++)
    for (int t = 0; t < L; t++) {
      clean_values(b, t, values);
      for (int j = 0; j < E; j++) cond[j] = (float)cos(1 + b + t + 7 * j);
      if (E) CHECK_OK(df_sampler_condition(all, b, t, cond, &test_error));
      if (E && t >= KNOWN) CHECK_OK(df_sampler_condition(rest, b, t - KNOWN, cond, &test_error));
      if (t < KNOWN) CHECK_OK(df_sampler_keep(all, b, t, values, 1, &test_error));
    }
  for (int b = 0; b < B; b++) {
    CHECK_OK(df_sampler_latent(all, b, KNOWN - 1, z[0], &test_error));
    CHECK_OK(df_sampler_begin(rest, b, KNOWN, z[0], &test_error));
  }
  if (futures && !(guide(all, KNOWN, L - KNOWN, futures) && guide(rest, 0, L - KNOWN, futures)))
    return;
  CHECK_INT(df_sampler_state(all)->rows, df_sampler_state(rest)->rows);
  for (int again = 0; again < 2; again++) {
    while (!df_sampler_done(all) && CHECK_OK(df_sampler_step(all, &test_error)) &&
           CHECK_OK(df_sampler_step(rest, &test_error)))
      for (int b = 0; b < B; b++) {
        DURING("%d futures, row %d", futures, (int)df_sampler_state(all)->row);
        CHECK_FLOATS(token_of(rest, b, 0), token_of(all, b, KNOWN), (L - KNOWN) * D, tolerance);
        // in the middle of a run as before it
        CHECK_OK(df_sampler_latent(all, b, KNOWN - 1, z[0], &test_error));
        if (b == B - 1 && again == 0 && df_sampler_state(all)->row == 1)
          memcpy(z[1], z[0], sizeof z[0]);
        if (b == B - 1) CHECK_FLOATS(z[0], z[1], Z, 0);
      }
    // and behind what was planned
    for (int b = 0; b < B; b++) {
      CHECK_OK(df_sampler_latent(all, b, L - 1, z[0], &test_error));
      CHECK_OK(df_sampler_latent(rest, b, L - KNOWN - 1, z[2], &test_error));
      CHECK_FLOATS(z[0], z[2], Z, tolerance);
    }
    df_sampler_restart(all, 77), df_sampler_restart(rest, 77); // it is remembered
  }
  // The model's own initial latent and numbers give another plan.
  memcpy(values, token_of(rest, 0, 0), sizeof values);
  CHECK_OK(df_sampler_begin(rest, 0, 0, NULL, &test_error));
  CHECK(memcmp(values, token_of(rest, 0, 0), sizeof values) != 0);
  df_sampler_free(all);
  df_sampler_free(rest);
}

TEST(a_plan_that_goes_on_behind_a_latent_is_one_with_known_tokens) {
  for (int i = 0; i < 3; i++) {
    df_model m;
    if (make_rnn(&m, D, i ? 2 : 0, i > 1, false))
      for (int futures = 0; futures < 4; futures += 1 + futures)
        go_on(&m, futures, futures ? 1e-5 : 0);
    drop(&m);
  }
}

TEST(latents_of_an_endless_sequence) {
  df_model m;
  df_sampler *s = NULL, *twin = NULL;
  float z[64], again[64];
  if (make_rnn(&m, D, 0, false, false)) {
    df_sampler_options o = options_of(1, DF_LENGTH_UNBOUNDED, DF_PYRAMID, 4, 2);
    CHECK_OK(df_sampler_create(&s, &m, &o, &test_error));
    o.length = 30;
    CHECK_OK(df_sampler_create(&twin, &m, &o, &test_error));
    REQUIRE(s && twin);
    const df_sampler_info *info = df_sampler_state(s);
    for (int row = 0; row < 40; row++) {
      CHECK_OK(df_sampler_step(s, &test_error));
      CHECK_OK(df_sampler_step(twin, &test_error));
      for (int64_t t = info->first; t < info->clean; t++) {
        CHECK_OK(df_sampler_latent(s, 0, t, z, &test_error));
        CHECK_OK(df_sampler_latent(twin, 0, t, again, &test_error));
        CHECK_FLOATS(z, again, info->latent, 0);
      }
    }
    CHECK(info->first > 5);
    CHECK_STATUS(df_sampler_latent(s, 0, info->first - 1, z, &test_error), DF_BAD_ARGUMENT);
    CHECK_STATUS(df_sampler_latent(s, 0, info->clean, z, &test_error), DF_WRONG_STATE);
    CHECK_CONTAINS(test_error.message, "is not clean");
    CHECK_STATUS(df_sampler_latent(s, 1, 6, z, &test_error), DF_BAD_ARGUMENT);
    CHECK_STATUS(df_sampler_begin(s, 0, 0, z, &test_error), DF_WRONG_STATE);
    df_sampler_restart(s, 1);
    CHECK_STATUS(df_sampler_begin(s, 1, 0, z, &test_error), DF_BAD_ARGUMENT);
    CHECK_STATUS(df_sampler_begin(s, 0, -1, z, &test_error), DF_BAD_ARGUMENT);
    z[3] = NAN;
    CHECK_STATUS(df_sampler_begin(s, 0, 0, z, &test_error), DF_BAD_VALUE);
  }
  df_sampler_free(s);
  df_sampler_free(twin);
  drop(&m);
}

TEST(a_latent_takes_the_place_of_an_observation_and_attention_has_none) {
  df_model m;
  df_sampler *s = NULL;
  float z[64] = {0};
  if (make_random(&m, (df_network){.denoiser = &df_denoiser_rnn,
                                   .token_size = D,
                                   .latent_size = 8,
                                   .network_size = 4,
                                   .hidden_size = 8,
                                   .mlp_layers = 1,
                                   .gru_layers = 1,
                                   .initial = DF_INITIAL_ENCODED,
                                   .observation_size = 3})) {
    const df_sampler_options o = options_of(1, 2, DF_PYRAMID, 4, 1);
    const float values[D] = {1, 2, 3, 4};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_OK(df_sampler_keep(s, 0, 0, values, 1, &test_error));
      CHECK_STATUS(df_sampler_latent(s, 0, 0, z, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "sequence 0 has no observation");
      CHECK_OK(df_sampler_begin(s, 0, 5, z, &test_error));
      CHECK_OK(df_sampler_latent(s, 0, 0, z, &test_error));
      CHECK(z[0] != 0);
      run_all(s);
      df_sampler_restart(s, 1);
      CHECK_OK(df_sampler_begin(s, 0, 0, NULL, &test_error));
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
    }
    df_sampler_free(s);
  }
  drop(&m);
  if (make_transformer(&m, D, 0, 4, true, false)) {
    const df_sampler_options o = options_of(1, 2, DF_PYRAMID, 4, 1);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_INT(df_sampler_state(s)->latent, 0);
      CHECK_STATUS(df_sampler_latent(s, 0, 0, z, &test_error), DF_NOT_SUPPORTED);
      CHECK_STATUS(df_sampler_begin(s, 0, 1, z, &test_error), DF_NOT_SUPPORTED);
      CHECK_OK(df_sampler_begin(s, 0, 1, NULL, &test_error)); // other noise
    }
    df_sampler_free(s);
  }
  drop(&m);
}
