// Rows that are computed ahead, and threads that share them: the caller must not be able to tell.
#include <stdlib.h>

#include "tests/sampler_models.h"

// ---- The same as row by row ----

typedef struct same_case {
  const char *name;
  df_schedule schedule;
  int B, T, steps; // T > 0, or a DF_LENGTH_*
  double u, eta;
  bool posterior, ancestral, guess, stop;
  int E, stabilization;
  unsigned known; // bit t: token t of the odd sequences is known
  const int32_t *table;
  int rows;
} same_case;

enum { T_MOST = 9, ROWS_MOST = 90 };

static void set_up(df_sampler *s, const same_case *c) {
  const df_sampler_info *info = df_sampler_state(s);
  condition_all(s, c->E, info->tokens);
  for (int b = 1; b < c->B; b += 2)
    for (int t = 0; t < T_MOST; t++) {
      const float values[4] = {(float)b, (float)t, -1, 0.5f};
      if (c->known >> t & 1) CHECK_OK(df_sampler_keep(s, b, t, values, 1, &test_error));
    }
}

// Everything that the caller can see of two samplers.
static bool same_state(const df_sampler *one, const df_sampler *other) {
  const df_sampler_info *a = df_sampler_state(one), *b = df_sampler_state(other);
  const int tokens = a->batch * a->tokens;
  bool same = CHECK_INT(a->row, b->row) && CHECK_INT(a->rows, b->rows) &&
              CHECK_INT(a->tokens, b->tokens) && CHECK_INT(a->first, b->first) &&
              CHECK_INT(a->clean, b->clean) && CHECK_INT(a->cells, b->cells) &&
              CHECK_INT(df_sampler_done(one), df_sampler_done(other));
  for (int i = 0; same && i < tokens; i++)
    same = CHECK_INT(a->levels[i], b->levels[i]) && CHECK_INT(a->frames[i], b->frames[i]);
  for (int i = 0; same && i < a->batch; i++) same = CHECK_INT(a->lengths[i], b->lengths[i]);
  const int floats = tokens * a->frame_stack * a->fields;
  return same && CHECK_FLOATS(a->values, b->values, floats, 0) &&
         CHECK_FLOATS(a->estimates, b->estimates, floats, 0);
}

static const int32_t resting[] = {4, 4, 4, 2, 4, 4, 2, 4, 2, 2, 3, 2, 1, 3,
                                  2, 1, 3, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0};
static const int32_t repeated[] = {3, 3, 3, 1, 3, 3, 0, 2, 3, 2, 2, 3,
                                   0, 1, 3, 1, 0, 2, 3, 0, 1, 0, 0, 0};
static const int32_t backwards[] = {3, 3, 3, 3, 3, 3, 3, 1, 3, 3, 3, 1, 3, 2, 1, 1, 0, 2,
                                    1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};

static const same_case cases[] = {
    {"full sequence", DF_FULL_SEQUENCE, 1, 9, 7, .u = 0},
    {"full sequence, three", DF_FULL_SEQUENCE, 3, 5, 4, .eta = 1},
    {"pyramid", DF_PYRAMID, 1, 9, 6, .u = 1},
    {"pyramid with noise", DF_PYRAMID, 2, 7, 6, .u = 1.7, .eta = 0.5},
    {"steep pyramid", DF_PYRAMID, 3, 6, 5, .u = 4},
    {"flat pyramid", DF_PYRAMID, 2, 9, 9, .u = 0.3, .known = 0x24},
    {"autoregressive", DF_AUTOREGRESSIVE, 2, 5, 4, .u = 0},
    {"trapezoid", DF_TRAPEZOID, 2, 8, 5, .u = 1, .eta = 1},
    {"known tokens", DF_PYRAMID, 4, 9, 5, .u = 1, .known = 0x113, .stabilization = 3},
    {"self-conditioning", DF_PYRAMID, 2, 7, 5, .u = 0.5, .guess = true},
    {"conditions", DF_PYRAMID, 3, 7, 5, .u = 1, .E = 2, .known = 0x2},
    {"posterior", DF_PYRAMID, 2, 7, 5, .u = 1, .posterior = true, .known = 0x8},
    {"posterior, full sequence", DF_FULL_SEQUENCE, 1, 6, 5, .posterior = true},
    {"ancestral", DF_PYRAMID, 1, 3, 40, .u = 3, .ancestral = true},
    {"a table that rests", DF_CUSTOM, 2, 3, 4, .table = resting, .rows = 9},
    {"a table that rises", DF_CUSTOM, 2, 3, 3, .table = repeated, .rows = 8, .eta = 0.5},
    {"rising, posterior", DF_CUSTOM, 2, 3, 3, .table = repeated, .rows = 8, .posterior = true},
    {"from the end", DF_CUSTOM, 2, 4, 3, .table = backwards, .rows = 9},
    {"drawn, full sequence", DF_FULL_SEQUENCE, 5, 0, 6, .stop = true},
    {"drawn, pyramid", DF_PYRAMID, 5, 0, 6, .u = 1, .stop = true, .known = 0x4},
    {"drawn, flat", DF_PYRAMID, 5, 0, 6, .u = 0.4, .stop = true, .eta = 0.3},
    {"drawn, steep", DF_PYRAMID, 5, 0, 6, .u = 3, .stop = true, .stabilization = 2},
    {"drawn, autoregressive", DF_AUTOREGRESSIVE, 5, 0, 3, .stop = true},
    {"drawn, trapezoid", DF_TRAPEZOID, 5, 0, 5, .u = 1.2, .stop = true},
    {"drawn, posterior", DF_PYRAMID, 5, 0, 4, .u = 1, .stop = true, .posterior = true},
    {"drawn, from the end", DF_CUSTOM, 6, 0, 3, .table = backwards, .rows = 9, .stop = true},
    {"without end", DF_PYRAMID, 2, -1, 6, .u = 1, .known = 0x5},
    {"without end, flat", DF_PYRAMID, 2, -1, 6, .u = 0.3},
    {"without end, steep", DF_PYRAMID, 1, -1, 6, .u = 2.5, .eta = 1},
    {"without end, conditions", DF_PYRAMID, 1, -1, 6, .u = 1, .E = 1},
    {"until the end", DF_PYRAMID, 4, -1, 6, .u = 1, .stop = true},
    {"until the end, flat", DF_PYRAMID, 4, -1, 6, .u = 0.6, .stop = true},
};

static df_status create(df_sampler **s, const df_model *m, const same_case *c, int ahead,
                        int threads) {
  df_sampler_options o = options_of(c->B, c->T, c->schedule, c->steps, c->u);
  o.eta = c->eta, o.posterior = c->posterior, o.ancestral = c->ancestral;
  o.stabilization = c->stabilization, o.table = c->table, o.table_rows = c->rows;
  o.allow_renoise = c->table != NULL, o.ahead = ahead, o.threads = threads;
  o.max_length = c->table ? 4 : T_MOST;
  return df_sampler_create(s, m, &o, &test_error);
}

static void check_same(const same_case *c, int ahead, int threads) {
  df_model m;
  df_sampler *plain = NULL, *s = NULL;
  DURING("%s, %d rows ahead, %d threads", c->name, ahead, threads);
  if (make_rnn(&m, 4, c->E, c->guess, c->stop) && CHECK_OK(create(&plain, &m, c, 0, 1)) &&
      CHECK_OK(create(&s, &m, c, ahead, threads))) {
    set_up(plain, c);
    set_up(s, c);
    const size_t allocations = df_alloc_count();
    for (int seed = 5; seed < (c->stop ? 12 : 6); seed++) {
      df_sampler_restart(plain, (uint64_t)seed);
      df_sampler_restart(s, (uint64_t)seed);
      if (c->E && c->T < 0) { // conditions may have left with their tokens
        condition_all(plain, c->E, df_sampler_state(plain)->tokens);
        condition_all(s, c->E, df_sampler_state(s)->tokens);
      }
      int rows = 0;
      for (; same_state(plain, s) && !df_sampler_done(plain) && rows < ROWS_MOST; rows++) {
        DURING("%s, %d ahead, %d threads, seed %d, row %d", c->name, ahead, threads, seed, rows);
        const df_sampler_info *info = df_sampler_state(s);
        for (int64_t t = info->first; c->E && c->T < 0 && t < info->first + info->tokens; t++) {
          const float cond = (float)sin((double)t);
          CHECK_OK(df_sampler_condition(plain, -1, t, &cond, &test_error));
          CHECK_OK(df_sampler_condition(s, -1, t, &cond, &test_error));
        }
        if (!CHECK_OK(df_sampler_step(plain, &test_error)) ||
            !CHECK_OK(df_sampler_step(s, &test_error)))
          break;
      }
      CHECK(rows == ROWS_MOST || df_sampler_done(s));
    }
    CHECK_INT(df_alloc_count(), allocations);
  }
  df_sampler_free(plain);
  df_sampler_free(s);
  drop(&m);
}

TEST(rows_computed_ahead_and_threads_change_no_bit) {
  const int ahead[] = {1, 2, 3, 7, 40, DF_DEFAULT};
  for (int i = 0; i < COUNT(cases); i++)
    for (int j = 0; j < COUNT(ahead); j++) check_same(&cases[i], ahead[j], 1 + (i + j) % 3);
}

// Enough cells for every thread, in shares that are not equal.
TEST(large_batches_are_shared_by_threads) {
  const same_case large[] = {{"large", DF_PYRAMID, 37, 6, 5, .u = 1, .guess = true},
                             {"large, drawn", DF_PYRAMID, 50, 0, 5, .u = 1, .stop = true}};
  for (int i = 0; i < COUNT(large); i++)
    for (int threads = 1; threads <= 5; threads++) check_same(&large[i], threads % 3, threads);
}

// ---- It is a wavefront ----

TEST(the_first_row_takes_as_many_batches_as_tokens_and_the_others_one_each) {
  df_model m;
  df_sampler *s = NULL;
  oracle.gaussian = true, oracle.mean = 0, oracle.deviation = 1;
  if (make_oracle(&m, DF_PREDICT_X0, 2, false)) {
    df_sampler_options o = options_of(1, 6, DF_FULL_SEQUENCE, 5, 0);
    o.ahead = 4;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      // cells (m, t) lie on the anti-diagonals m + t: 6 for the first row, then one more for each
      for (int row = 0; row < 5; row++) {
        CHECK_OK(df_sampler_step(s, &test_error));
        CHECK_INT(df_sampler_state(s)->batches, 6 + row);
      }
      CHECK_INT(df_sampler_state(s)->cells, 30);
    }
  }
  oracle.gaussian = false;
  df_sampler_free(s);
  drop(&m);
}

// ---- Failures in rows that the caller has not reached ----

TEST(a_failure_ahead_shows_when_its_row_is_next) {
  df_model m;
  df_sampler *plain = NULL, *s = NULL;
  oracle.poison_below = 12; // K = 24, 6 steps: network levels 23, 19, 15, 11, 7, 3
  if (make_oracle(&m, DF_PREDICT_X0, 2, false)) {
    df_sampler_options o = options_of(3, 4, DF_PYRAMID, 6, 0.5);
    o.ahead = 0;
    CHECK_OK(df_sampler_create(&plain, &m, &o, &test_error));
    o.ahead = 6, o.threads = 2;
    CHECK_OK(df_sampler_create(&s, &m, &o, &test_error));
    for (int again = 0; plain && s && again < 6; again++) {
      if (again == 0) condition_all(plain, 2, 4), condition_all(s, 2, 4);
      DURING("step %d", again);
      df_error error = {0}, other = {0};
      const df_status status = again < 3 ? DF_OK : DF_BAD_VALUE;
      CHECK_STATUS(df_sampler_step(plain, &error), status);
      CHECK_STATUS(df_sampler_step(s, &other), status);
      if (status) {
        CHECK_CONTAINS(error.message, "row 3, sequence 0, token 0: the clean estimate is");
        CHECK_TEXT(other.message, error.message);
      }
      same_state(plain, s);
    }
  }
  oracle.poison_below = 0;
  df_sampler_free(plain);
  df_sampler_free(s);
  drop(&m);
}

TEST(a_condition_that_is_missing_ahead_can_still_be_given) {
  df_model m;
  df_sampler *plain = NULL, *s = NULL;
  const float cond[2] = {1, 2}, value[2] = {3, 4};
  if (make_rnn(&m, 2, 2, false, false)) {
    df_sampler_options o = options_of(2, 4, DF_FULL_SEQUENCE, 4, 0);
    o.ahead = 3;
    CHECK_OK(df_sampler_create(&s, &m, &o, &test_error));
    CHECK_OK(df_sampler_create(&plain, &m, &o, &test_error));
    if (plain && s) {
      condition_all(plain, 2, 4);
      CHECK_OK(df_sampler_keep(plain, 1, 2, value, 1, &test_error));
      CHECK_OK(df_sampler_condition(plain, 0, 0, cond, &test_error));
      // Tokens in front of the one that is missing have been through several rows by then: what is
      // given now must reach them too.
      condition_all(s, 2, 3);
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "sequence 0, token 3 has no condition");
      CHECK_INT(df_sampler_state(s)->row, 0);
      condition_all(s, 2, 4);
      CHECK_OK(df_sampler_keep(s, 1, 2, value, 1, &test_error));
      CHECK_OK(df_sampler_condition(s, 0, 0, cond, &test_error));
      while (same_state(plain, s) && !df_sampler_done(plain)) {
        CHECK_OK(df_sampler_step(plain, &test_error));
        CHECK_OK(df_sampler_step(s, &test_error));
      }
    }
  }
  df_sampler_free(plain);
  df_sampler_free(s);
  drop(&m);
}

TEST(rows_and_threads_that_do_not_fit_are_refused) {
  df_model m;
  df_sampler *s = NULL;
  if (make_rnn(&m, 2, 0, false, false)) {
    df_sampler_options o = options_of(1, 4, DF_PYRAMID, 4, 1);
    o.ahead = -1;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_BAD_ARGUMENT);
    CHECK_CONTAINS(test_error.message, "ahead: expected 0 to 4096, found -1");
    o.ahead = 1, o.threads = 257;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_BAD_ARGUMENT);
    CHECK_CONTAINS(test_error.message, "threads: expected 0 to 256, found 257");
    o.threads = 2, o.ahead = 3, o.batch = 9;
    CHECK_OK(df_sampler_create(&s, &m, &o, &test_error)); // the model keeps its packed weights
    df_sampler_free(s);
    CHECK_WITHOUT_MEMORY(df_sampler_create(&s, &m, &o, &test_error));
    df_sampler_free(s);
  }
  drop(&m);
}
