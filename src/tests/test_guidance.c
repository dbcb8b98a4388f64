// Guided sampling: derivatives against finite differences, and what guidance must and must not change.
#include "diffusion/internal.h"
#include "tests/sampler_models.h"

enum { D = 4, MOST = 8 };

// ---- An objective with curvature, in data units ----

static double wave(void *context, int b, int sample, int n, const float *frames, float *gradient) {
  const double *k = context; // 3 factors, and how much later frames count
  double J = 0;
  (void)sample;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < D; j++) {
      const double v = (double)frames[i * D + j], w = 1 + k[1] * i + 0.1 * b, p = k[0] * v + j;
      J += w * sin(p) - k[2] * v * v;
      if (gradient) gradient[i * D + j] += (float)(w * k[0] * cos(p) - 2 * k[2] * v);
    }
  return J;
}
static double factors[] = {0.7, 0.3, 0.05};
static double mild[] = {0.002, 0.3, 1e-7}; // for networks whose clean estimates are far away

static df_guidance guidance_of(double scale, int futures, df_shift shift) {
  return (df_guidance){
      .objective = wave, .context = factors, .scale = scale, .futures = futures, .shift = shift};
}

typedef struct network_case {
  const char *name;
  int N; // 0: recurrent
  bool all, guess;
  int E, T, futures, stabilization;
  unsigned known;
  df_objective objective;
} network_case;

static const network_case networks[] = {
    {"rnn", .T = 4, .futures = 1, .objective = DF_PREDICT_V},
    {"rnn, x0", .T = 4, .futures = 1, .objective = DF_PREDICT_X0, .known = 1, .stabilization = 3},
    {"rnn, eps, conditions", .T = 3, .E = 2, .futures = 3, .objective = DF_PREDICT_NOISE},
    {"rnn, futures, guess", .T = 4, .guess = true, .futures = 4, .known = 4,
     .objective = DF_PREDICT_V},
    {"transformer", .N = 5, .T = 5, .futures = 1, .objective = DF_PREDICT_V},
    {"transformer, futures", .N = 6, .T = 4, .futures = 3, .known = 3, .stabilization = 2,
     .objective = DF_PREDICT_V},
    {"transformer that sees all, padding", .N = 6, .T = 4, .all = true, .futures = 2, .E = 1,
     .objective = DF_PREDICT_V},
};

static bool make(df_model *m, const network_case *c) {
  const bool made = c->N ? make_transformer(m, D, c->E, c->N, !c->all, false)
                         : make_rnn(m, D, c->E, c->guess, false);
  m->config.objective = c->objective;
  return made;
}

static df_status create(df_sampler **s, const df_model *m, const network_case *c, int batch,
                        int first, double u) {
  df_sampler_options o = options_of(batch, c->T, DF_PYRAMID, 4, u);
  o.stabilization = c->stabilization, o.first_sequence = (uint32_t)first;
  return df_sampler_create(s, m, &o, &test_error);
}

static void set_up(df_sampler *s, const network_case *c, int first) {
  const int B = df_sampler_state(s)->batch;
  float cond[4];
  for (int b = 0; b < B; b++)
    for (int t = 0; t < c->T; t++) {
      const float values[D] = {(float)(first + b), (float)t, -1, 0.5f};
      for (int j = 0; j < c->E; j++) cond[j] = (float)sin(1 + first + b + 3 * t + 7 * j);
      if (c->E) CHECK_OK(df_sampler_condition(s, b, t, cond, &test_error));
      if (c->known >> t & 1) CHECK_OK(df_sampler_keep(s, b, t, values, 1, &test_error));
    }
}

// ---- Derivatives ----

TEST(the_derivative_goes_through_network_futures_and_everything_behind_a_token) {
  for (int i = 0; i < COUNT(networks); i++) {
    const network_case *c = &networks[i];
    df_model m;
    df_sampler *s = NULL;
    DURING("%s", c->name);
    df_guidance g = guidance_of(0, c->futures, DF_SHIFT_EXACT);
    if (c->objective == DF_PREDICT_NOISE) g.context = mild;
    if (make(&m, c) && CHECK_OK(create(&s, &m, c, 2, 0, 1))) {
      set_up(s, c, 0);
      CHECK_OK(df_sampler_guide(s, &g, &test_error));
      for (int row = 0; row < 3; row++) CHECK_OK(df_sampler_step(s, &test_error));
      const int64_t m3 = df_sampler_state(s)->row;
      CHECK_OK(df_guided_look(s, m3, &test_error));
      float grads[2][MOST][D];
      for (int b = 0; b < 2; b++)
        for (int t = 0; t < c->T; t++)
          memcpy(grads[b][t], df_guided_gradient(s, b, t), sizeof grads[b][t]);
      int noisy = 0;
      for (int b = 0; b < 2; b++)
        for (int t = 0; t < c->T; t++) {
          if (df_sampler_level(s, b, t, m3) == 0) continue;
          for (int j = 0; j < D; j++) {
            float *x = &s->x[df_at(s, b, t) * D + (size_t)j];
            const float keep = *x, e = 2e-3f;
            double sides[2];
            for (int side = 0; side < 2; side++) {
              *x = keep + (side ? -e : e);
              CHECK_OK(df_guided_look(s, m3, &test_error));
              sides[side] = df_sampler_state(s)->objective[b];
            }
            *x = keep;
            DURING("%s, sequence %d, token %d, entry %d", c->name, b, t, j);
            CHECK_NEAR(grads[b][t][j], (sides[0] - sides[1]) / (2 * (double)e),
                       5e-3 + 1e-2 * fabs((double)grads[b][t][j]));
            noisy++;
          }
        }
      CHECK(noisy > 8);
    }
    df_sampler_free(s);
    drop(&m);
  }
}

// ---- What guidance changes ----

static double final_objective(df_sampler *s) {
  const df_sampler_info *info = df_sampler_state(s);
  double J = 0;
  for (int b = 0; b < info->batch; b++)
    J += wave(factors, b, 0, info->tokens, info->values + b * info->tokens * D, NULL);
  return J;
}

TEST(guidance_raises_the_objective_and_scale_0_changes_nothing) {
  for (int i = 0; i < COUNT(networks); i++) {
    const network_case *c = &networks[i];
    for (int u = 0; u < 5; u += 2) {
      df_model m;
      df_sampler *plain = NULL, *s = NULL;
      DURING("%s, u %d", c->name, u);
      if (make(&m, c) && CHECK_OK(create(&plain, &m, c, 3, 0, u)) &&
          CHECK_OK(create(&s, &m, c, 3, 0, u))) {
        set_up(plain, c, 0), set_up(s, c, 0);
        df_guidance g = guidance_of(0, c->futures, DF_SHIFT_EXACT);
        CHECK_OK(df_sampler_guide(s, &g, &test_error));
        while (!df_sampler_done(plain) && CHECK_OK(df_sampler_step(plain, &test_error))) {
          CHECK_OK(df_sampler_step(s, &test_error));
          const df_sampler_info *a = df_sampler_state(plain), *b = df_sampler_state(s);
          DURING("%s, u %d, row %d", c->name, u, (int)a->row);
          for (int k = 0; k < 3 * c->T; k++) CHECK_INT(a->levels[k], b->levels[k]);
          // An earlier guess of a token that waits is known here, and not there.
          double largest = 1;
          for (int k = 0; k < 3 * c->T * D; k++)
            largest = fmax(largest, fabs((double)a->values[k]));
          if (!c->guess) CHECK_FLOATS(a->values, b->values, 3 * c->T * D, 2e-5 * largest);
        }
        const double before = final_objective(s);
        g.scale = 5e-5;
        df_sampler_restart(s, 5);
        CHECK_OK(df_sampler_guide(s, &g, &test_error));
        const size_t allocations = df_alloc_count();
        // With more futures another J is raised, and what a random network takes for noise sends the token anywhere.
        if (run_all(s) && c->futures == 1 && c->objective != DF_PREDICT_NOISE)
          CHECK(final_objective(s) > before + 1e-4);
        CHECK_INT(df_alloc_count(), allocations);
        DURING("%s, u %d, %g to %g", c->name, u, before, final_objective(s));
      }
      df_sampler_free(plain);
      df_sampler_free(s);
      drop(&m);
    }
  }
}

TEST(a_guided_batch_gives_the_bits_of_its_sequences_one_by_one) {
  for (int i = 0; i < COUNT(networks); i++) {
    const network_case *c = &networks[i];
    df_model m;
    df_sampler *all = NULL, *one = NULL;
    // the objective of sequence b depends on b
    double same[] = {0.7, 0.3, 0.05};
    df_guidance g = guidance_of(0.3, c->futures, DF_SHIFT_EXACT);
    g.context = same, g.clip = 0.8, g.level_power = 0.5;
    DURING("%s", c->name);
    if (make(&m, c) && CHECK_OK(create(&all, &m, c, 3, 0, 1))) {
      set_up(all, c, 0);
      CHECK_OK(df_sampler_guide(all, &g, &test_error));
      run_all(all);
      if (CHECK_OK(create(&one, &m, c, 1, 0, 1))) { // sequence 0 alone
        set_up(one, c, 0);
        CHECK_OK(df_sampler_guide(one, &g, &test_error));
        run_all(one);
        CHECK_FLOATS(df_sampler_state(one)->values, df_sampler_state(all)->values, c->T * D, 0);
      }
    }
    df_sampler_free(all);
    df_sampler_free(one);
    drop(&m);
  }
}

// A caller that has the objective elsewhere, such as a page.
TEST(estimates_and_derivatives_can_be_handed_over) {
  for (int i = 0; i < COUNT(networks); i++) {
    const network_case *c = &networks[i];
    df_model m;
    df_sampler *inside = NULL, *outside = NULL;
    DURING("%s", c->name);
    if (make(&m, c) && CHECK_OK(create(&inside, &m, c, 2, 0, 1)) &&
        CHECK_OK(create(&outside, &m, c, 2, 0, 1))) {
      df_guidance g = guidance_of(5e-4, c->futures, DF_SHIFT_NEXT);
      set_up(inside, c, 0), set_up(outside, c, 0);
      CHECK_OK(df_sampler_guide(inside, &g, &test_error));
      g.objective = NULL;
      CHECK_OK(df_sampler_guide(outside, &g, &test_error));
      while (!df_sampler_done(inside) && CHECK_OK(df_sampler_step(inside, &test_error))) {
        df_samples k;
        if (!CHECK_OK(df_sampler_estimate(outside, &k, &test_error))) break;
        CHECK(k.batch == 2 && k.futures == c->futures && k.frames == c->T && k.fields == D);
        for (int b = 0; b < 2; b++)
          for (int n = 0; n < k.futures; n++) {
            const int at = (b * k.futures + n) * k.frames * D;
            k.objective[b] +=
                wave(factors, b, n, k.frames, k.values + at, k.gradient + at) / k.futures;
          }
        CHECK_OK(df_sampler_step(outside, &test_error));
        for (int b = 0; b < 2; b++)
          CHECK_NEAR(df_sampler_state(outside)->objective[b],
                     df_sampler_state(inside)->objective[b], 0);
        CHECK_FLOATS(df_sampler_state(outside)->values, df_sampler_state(inside)->values,
                     2 * c->T * D, 0);
      }
      df_samples k;
      CHECK_STATUS(df_sampler_estimate(outside, &k, &test_error), DF_WRONG_STATE);
    }
    df_sampler_free(inside);
    df_sampler_free(outside);
    drop(&m);
  }
}

// What guidance moves of a token: in the first row, in which it is at the highest level, and in the third.
TEST(a_gradient_is_clipped_and_scaled_by_level) {
  static const struct {
    int row;
    double level_power;
  } places[] = {{0, 5000}, {2, 0.5}, {2, 3}};
  const network_case *c = &networks[0];
  df_model m;
  const bool made = make(&m, c);
  for (int k = 0; k < COUNT(places) && made; k++) {
    const int row = places[k].row;
    const struct {
      double scale, clip, level_power;
    } kinds[] = {{0, 0, 0}, {0.3, 1e-2, 0}, {0.3, 2e-2, 0}, {0.3, 1e-2, places[k].level_power}};
    float values[COUNT(kinds)][D];
    double abar = 0;
    for (int i = 0; i < COUNT(kinds); i++) {
      df_sampler *s = NULL;
      df_guidance g = guidance_of(0, 1, DF_SHIFT_EXACT);
      DURING("row %d, power %g, kind %d", row, places[k].level_power, i);
      if (CHECK_OK(create(&s, &m, c, 1, 0, 1)) && CHECK_OK(df_sampler_guide(s, &g, &test_error))) {
        for (int n = 0; n < row; n++) CHECK_OK(df_sampler_step(s, &test_error));
        abar = (double)m.noise.abar[s->grid[df_sampler_level(s, 0, 0, row)]];
        g.scale = kinds[i].scale, g.clip = kinds[i].clip, g.level_power = kinds[i].level_power;
        if (CHECK_OK(df_sampler_guide(s, &g, &test_error)) &&
            CHECK_OK(df_sampler_step(s, &test_error)))
          memcpy(values[i], df_sampler_state(s)->values, sizeof values[i]);
      }
      df_sampler_free(s);
    }
    const double fade = pow(1 - abar, places[k].level_power);
    DURING("row %d, power %g: %g", row, places[k].level_power, fade);
    CHECK(fade > 0.01 && fade < 0.98);
    for (int j = 0; j < D; j++) {
      const double once = (double)values[1][j] - (double)values[0][j];
      CHECK(fabs(once) > 1e-4);
      CHECK_NEAR((double)values[2][j] - (double)values[0][j], 2 * once, 0.01 * fabs(once));
      CHECK_NEAR((double)values[3][j] - (double)values[0][j], fade * once, 0.01 * fabs(once));
    }
  }
  drop(&m);
}

// ---- Terms ----

static const df_guide_term terms[] = {
    {DF_GUIDE_REACH, 1, 0, 1, 0, -1, {3, 1}, {0.5}, 0.2, -1},
    {DF_GUIDE_DISC, 2, 2, 3, 1, -1, {0.2, -0.1}, {1}, 0.5, -1},
    {DF_GUIDE_SMOOTH, 0.3, .x = 1, .y = -1, .last = -1, .sequence = -1},
};

static double value_of_terms(void *context, int b, int sample, int n, const float *frames,
                             float *gradient) {
  (void)context, (void)b, (void)sample;
  return df_guide_value(terms, COUNT(terms), 0, D, n, frames, gradient);
}

static double terms_and_wave(void *context, int b, int sample, int n, const float *frames,
                             float *gradient) {
  const double J = value_of_terms(context, b, sample, n, frames, gradient);
  return J + wave(context, b, sample, n, frames, gradient);
}

// Alone and beside an objective, of a callback or of the caller.
TEST(terms_give_the_bits_of_the_same_function_as_a_callback) {
  for (int i = 0; i < COUNT(networks); i++)
    for (int more = 0; more < 3; more++) {
      const network_case *c = &networks[i];
      df_model m;
      df_sampler *inside = NULL, *outside = NULL;
      DURING("%s, %d", c->name, more);
      if (make(&m, c) && CHECK_OK(create(&inside, &m, c, 2, 0, 1)) &&
          CHECK_OK(create(&outside, &m, c, 2, 0, 1))) {
        df_guide_term copied[COUNT(terms)];
        df_guidance g = guidance_of(5e-4, c->futures, DF_SHIFT_EXACT);
        set_up(inside, c, 0), set_up(outside, c, 0);
        g.objective = more ? terms_and_wave : value_of_terms;
        CHECK_OK(df_sampler_guide(outside, &g, &test_error));
        memcpy(copied, terms, sizeof terms);
        g.terms = copied, g.term_count = COUNT(copied);
        g.objective = more == 1 ? wave : NULL;
        CHECK_OK(df_sampler_guide(inside, &g, &test_error));
        memset(copied, 0xff, sizeof copied); // the sampler has its own
        CHECK(isnan(df_sampler_state(inside)->objective[1]));
        for (int again = 0; again < 2; again++) {
          while (!df_sampler_done(outside) && CHECK_OK(df_sampler_step(outside, &test_error))) {
            df_samples k;
            if (more < 2) {
              CHECK_INT(df_sampler_estimate(inside, &k, NULL), more ? DF_WRONG_STATE : DF_OK);
            } else if (CHECK_OK(df_sampler_estimate(inside, &k, &test_error))) {
              for (int b = 0; b < 2; b++)
                for (int n = 0; n < k.futures; n++) {
                  const int at = (b * k.futures + n) * k.frames * D;
                  k.objective[b] +=
                      wave(factors, b, n, k.frames, k.values + at, k.gradient + at) / k.futures;
                }
            }
            if (!CHECK_OK(df_sampler_step(inside, &test_error))) break;
            const df_sampler_info *a = df_sampler_state(outside), *b = df_sampler_state(inside);
            CHECK_FLOATS(a->values, b->values, 2 * c->T * D, 0);
            for (int j = 0; j < 2; j++)
              CHECK_NEAR(a->objective[j], b->objective[j],
                         more < 2 ? 0 : 1e-12 * fabs(a->objective[j]));
          }
          df_sampler_restart(inside, 9), df_sampler_restart(outside, 9); // guided as before
          CHECK(isnan(df_sampler_state(inside)->objective[0]));
        }
      }
      df_sampler_free(inside);
      df_sampler_free(outside);
      drop(&m);
    }
}

// A sampler that is guided anew in the middle goes on as one that was guided so from the start and stands there.
TEST(guidance_is_changed_without_a_new_plan_and_in_the_middle) {
  for (int i = 0; i < COUNT(networks); i++) {
    const network_case *c = &networks[i];
    df_model m;
    df_sampler *s = NULL, *fresh = NULL;
    DURING("%s", c->name);
    if (make(&m, c) && CHECK_OK(create(&s, &m, c, 2, 0, 1)) &&
        CHECK_OK(create(&fresh, &m, c, 2, 0, 1))) {
      df_guidance before = guidance_of(1e-3, c->futures, DF_SHIFT_NEXT), after = before;
      after.objective = NULL, after.terms = terms, after.term_count = COUNT(terms);
      after.scale = 2e-3, after.clip = 0.7, after.level_power = 1, after.shift = DF_SHIFT_EXACT;
      set_up(s, c, 0), set_up(fresh, c, 0);
      const df_sampler_info *a = df_sampler_state(s), *b = df_sampler_state(fresh);
      CHECK_OK(df_sampler_guide(fresh, &after, &test_error));
      CHECK_OK(df_sampler_guide(s, &before, &test_error));
      run_all(s);
      // For another run
      const size_t allocations = df_alloc_count();
      CHECK_OK(df_sampler_guide(s, &after, &test_error));
      CHECK(df_alloc_count() <= allocations + 1); // for the terms
      df_sampler_restart(s, 5);
      run_all(s), run_all(fresh);
      CHECK_FLOATS(a->values, b->values, 2 * c->T * D, 0);
      for (int k = 0; k < 2; k++) CHECK_NEAR(a->objective[k], b->objective[k], 0);
      // In the middle of a run, once with estimates that were made for the guidance before
      CHECK_OK(df_sampler_guide(s, &before, &test_error));
      df_sampler_restart(s, 5), df_sampler_restart(fresh, 5);
      CHECK_OK(df_sampler_guide(fresh, &before, &test_error));
      for (int row = 0; row < 2; row++) {
        CHECK_OK(df_sampler_step(s, &test_error));
        CHECK_OK(df_sampler_step(fresh, &test_error));
      }
      df_samples k;
      const double J = a->objective[1];
      const size_t now = df_alloc_count();
      CHECK_OK(df_sampler_guide(s, &after, &test_error));
      if (CHECK_OK(df_sampler_estimate(s, &k, &test_error))) k.gradient[0] += 100; // is forgotten
      CHECK_OK(df_sampler_guide(s, &after, &test_error));
      CHECK_OK(df_sampler_guide(fresh, &after, &test_error));
      CHECK_INT(df_alloc_count(), now);
      CHECK(a->objective[1] == J); // of the last step, still
      while (!df_sampler_done(fresh) && CHECK_OK(df_sampler_step(fresh, &test_error)) &&
             CHECK_OK(df_sampler_step(s, &test_error)))
        CHECK_FLOATS(a->values, b->values, 2 * c->T * D, 0);
      CHECK(a->objective[1] != J);
    }
    df_sampler_free(s);
    df_sampler_free(fresh);
    drop(&m);
  }
}

TEST(each_sequence_of_a_batch_can_have_terms_of_its_own) {
  df_model m;
  const network_case *c = &networks[3];
  if (make(&m, c)) {
    df_guide_term own[] = {terms[0], terms[0], terms[1], terms[2], terms[0]};
    own[0].sequence = 1;
    own[1].kind = DF_GUIDE_THEN, own[1].at[0] = -1; // goes with its reach
    own[2].sequence = 2;
    own[4].sequence = 0, own[4].at[1] = -3;
    static const int of[3][4] = {{3, 4, -1}, {0, 1, 3, -1}, {2, 3, -1}};
    df_sampler *all = NULL, *one = NULL;
    df_guidance g = {.terms = own, .term_count = COUNT(own), .scale = 1e-3, .futures = c->futures};
    if (CHECK_OK(create(&all, &m, c, 3, 0, 1))) {
      set_up(all, c, 0);
      CHECK_OK(df_sampler_guide(all, &g, &test_error));
      run_all(all);
      for (int b = 0; b < 3; b++) {
        df_guide_term mine[COUNT(own)];
        DURING("sequence %d", b);
        g.terms = mine, g.term_count = 0;
        for (const int *k = of[b]; *k >= 0; k++)
          mine[g.term_count] = own[*k], mine[g.term_count++].sequence = -1;
        if (CHECK_OK(create(&one, &m, c, 1, b, 1))) {
          set_up(one, c, b);
          CHECK_OK(df_sampler_guide(one, &g, &test_error));
          run_all(one);
          CHECK_FLOATS(df_sampler_state(one)->values, df_sampler_state(all)->values + b * c->T * D,
                       c->T * D, 0);
          CHECK(df_sampler_state(one)->objective[0] == df_sampler_state(all)->objective[b]);
        }
        df_sampler_free(one);
      }
      g.terms = own, g.term_count = COUNT(own);
      own[2].sequence = 3;
      CHECK_STATUS(df_sampler_guide(all, &g, &test_error), DF_BAD_ARGUMENT);
      CHECK_CONTAINS(test_error.message,
                     "guidance term 2 (disc): expected a sequence from 0 to 2, or -1 for all");
      own[2].sequence = -2;
      CHECK_STATUS(df_sampler_guide(all, &g, &test_error), DF_BAD_ARGUMENT);
      own[2].sequence = 2, own[1].sequence = 1;
      CHECK_OK(df_sampler_guide(all, &g, &test_error));
      own[1].sequence = 2;
      CHECK_STATUS(df_sampler_guide(all, &g, &test_error), DF_BAD_ARGUMENT);
      CHECK_CONTAINS(test_error.message, "expected the sequence of its reach, 1, or -1, found 2");
    }
    df_sampler_free(all);
  }
  drop(&m);
}

TEST(a_term_that_does_not_fit_is_named) {
  df_model m;
  df_sampler *s = NULL;
  const network_case *c = &networks[0];
  if (make(&m, c) && CHECK_OK(create(&s, &m, c, 1, 0, 1))) {
    df_guide_term wrong[] = {terms[0], terms[1]};
    df_guidance g = guidance_of(1, 1, DF_SHIFT_EXACT);
    g.terms = wrong, g.term_count = COUNT(wrong);
    CHECK_OK(df_sampler_guide(s, &g, &test_error));
    wrong[1].y = D;
    CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_BAD_ARGUMENT);
    CHECK_CONTAINS(test_error.message, "guidance term 1 (disc): expected as y a field");
    wrong[1] = terms[1], wrong[1].last = c->T;
    CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_BAD_ARGUMENT);
    CHECK_CONTAINS(test_error.message, "a last frame");
    wrong[0].weight = NAN;
    CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_BAD_VALUE);
    CHECK_CONTAINS(test_error.message, "guidance term 0 (reach)");
    g.term_count = -1;
    CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_BAD_ARGUMENT);
    CHECK_OK(df_sampler_step(s, &test_error)); // by the terms before
    CHECK(isfinite(df_sampler_state(s)->objective[0]));
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- What it refuses ----

static double not_a_number(void *context, int b, int sample, int n, const float *frames,
                           float *gradient) {
  (void)context, (void)b, (void)sample, (void)frames;
  for (int i = 0; i < n * D; i++) gradient[i] = NAN;
  return NAN;
}

TEST(guidance_that_makes_no_sense_is_refused) {
  df_model m;
  df_sampler *s = NULL;
  if (make_rnn(&m, D, 0, false, true)) {
    df_guidance g = guidance_of(1, 1, DF_SHIFT_EXACT);
    df_sampler_options o = options_of(1, DF_LENGTH_DRAWN, DF_PYRAMID, 4, 1);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error)))
      CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_NOT_SUPPORTED);
    df_sampler_free(s);
    o.length = 3, o.posterior = true;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error)))
      CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_NOT_SUPPORTED);
    df_sampler_free(s);
    o.posterior = false;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      df_samples samples;
      df_guidance wrong = g;
      CHECK_STATUS(df_sampler_estimate(s, &samples, &test_error), DF_WRONG_STATE);
      wrong.objective = NULL;
      CHECK_OK(df_sampler_guide(s, &wrong, &test_error));
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      wrong = g, wrong.futures = 0;
      CHECK_STATUS(df_sampler_guide(s, &wrong, &test_error), DF_BAD_ARGUMENT);
      wrong = g, wrong.scale = NAN;
      CHECK_STATUS(df_sampler_guide(s, &wrong, &test_error), DF_BAD_ARGUMENT);
      wrong = g, wrong.shift = DF_SHIFTS;
      CHECK_STATUS(df_sampler_guide(s, &wrong, &test_error), DF_BAD_ARGUMENT);
      wrong = g, wrong.objective = not_a_number;
      CHECK_OK(df_sampler_guide(s, &wrong, &test_error));
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_BAD_VALUE);
      CHECK_INT(df_sampler_state(s)->row, 0);
      CHECK_OK(df_sampler_guide(s, &g, &test_error));
      g.futures = 2;
      CHECK_WITHOUT_MEMORY(df_sampler_guide(s, &g, &test_error));
      CHECK_OK(df_sampler_step(s, &test_error));
      g.futures = 1;
      CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "guidance with other futures is given before the first");
      CHECK(df_sampler_bytes(s) > 0);
    }
    df_sampler_free(s);
  }
  drop(&m);
  if (make_transformer(&m, D, 0, 4, true, false)) {
    const df_sampler_options o = options_of(1, 6, DF_AUTOREGRESSIVE, 4, 4);
    const df_guidance g = guidance_of(1, 1, DF_SHIFT_EXACT);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_STATUS(df_sampler_guide(s, &g, &test_error), DF_NOT_SUPPORTED);
      CHECK_CONTAINS(test_error.message, "sees 4 tokens");
    }
    df_sampler_free(s);
  }
  drop(&m);
}
