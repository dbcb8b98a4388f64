#include <stdlib.h>

#include "base/random.h"
#include "diffusion/sampler.h"
#include "tests/golden_model.h"
#include "tests/sampler_models.h"

// ---- The right answer comes out ----

TEST(with_a_perfect_network_every_walk_ends_at_the_clean_tokens) {
  oracle.gaussian = false;
  for (int objective = 0; objective < DF_OBJECTIVES; objective++) {
    df_model m;
    if (make_oracle(&m, (df_objective)objective, 3, false)) {
      const int steps[] = {1, 2, 7, 24};
      static const float levels[] = {0, 1.5f, 5, 24};
      m.config.sampling.fitted_grid = (df_warp){levels, 4};
      for (int way = 0; way < DF_ROLLING * DF_GRIDS; way++)
        for (int i = 0; i < COUNT(steps); i++)
          for (int noise = 0; noise < 4; noise++) { // eta 0, 0.5, 1; ancestral
            if (noise == 3 && steps[i] != 24) continue;
            const int schedule = way % DF_ROLLING, grid = way / DF_ROLLING;
            DURING("%s, %s, %d %s steps, noise %d", df_objective_names[objective],
                   df_schedule_names[schedule], steps[i], df_grid_names[grid], noise);
            df_sampler_options o =
                options_of(2, 5, (df_schedule)schedule, steps[i], fmin(1.5, steps[i]));
            o.eta = noise < 3 ? 0.5 * noise : 0;
            o.ancestral = noise == 3;
            o.grid = grid;
            df_sampler *s;
            if (!CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) continue;
            condition_all(s, 3, 5);
            if (run_all(s)) {
              const df_sampler_info *info = df_sampler_state(s);
              for (int b = 0; b < 2; b++)
                for (int t = 0; t < 5; t++)
                  for (int j = 0; j < 3; j++) {
                    int at = (b * 5 + t) * 3 + j;
                    // As noise, the answer is blown up by sqrt(1/abar - 1), 1000 at the noisiest
                    // level.
                    double tolerance = objective == DF_PREDICT_X0  ? 0
                                       : objective == DF_PREDICT_V ? 1e-5
                                                                   : 1e-3;
                    CHECK_NEAR(info->values[at], (float)sin(1 + b + 3 * t + 7 * j), tolerance);
                    CHECK(info->estimates[at] == info->values[at]);
                  }
            }
            df_sampler_free(s);
          }
    }
    drop(&m);
  }
}

// Mean and deviation of the result when x0 ~ N(mean, deviation^2) and the estimate is exact: every
// step is a linear map plus noise. (A finite number of steps with noise leaves too little
// variance.)
static void exact_result(const df_noise *noise, double eta, double *mean, double *deviation) {
  double m = 0, v = 1;
  for (int k = noise->K; k > 0; k--) {
    double abar = noise->abar[k], next = noise->abar[k - 1], a = sqrt(abar), b = sqrt(1 - abar);
    double variance = oracle.deviation * oracle.deviation,
           gain = a * variance / (abar * variance + 1 - abar);
    double sigma = k > 1 ? eta * sqrt((1 - abar / next) * (1 - next) / (1 - abar)) : 0;
    double c = k > 1 ? sqrt(1 - next - sigma * sigma) : 0;
    // x0 = mean + gain (x - a mean),  eps = (x - a x0) / b
    double by = sqrt(next) * gain + c * (1 - a * gain) / b;
    m = (sqrt(next) - c * a / b) * oracle.mean * (1 - gain * a) + by * m;
    v = by * by * v + sigma * sigma;
  }
  *mean = m, *deviation = sqrt(v);
}

TEST(samples_of_a_normal_distribution_have_its_mean_and_deviation) {
  oracle.gaussian = true, oracle.mean = 0.8, oracle.deviation = 0.5;
  for (int objective = 0; objective < DF_OBJECTIVES; objective++)
    for (int noise = 0; noise < 3; noise++) { // eta 0, 1; ancestral
      df_model m;
      if (make_oracle(&m, (df_objective)objective, 8, false)) {
        df_sampler_options o = options_of(100, 4, DF_PYRAMID, 24, 1);
        o.eta = noise == 1, o.ancestral = noise == 2;
        df_sampler *s;
        DURING("%s, noise %d", df_objective_names[objective], noise);
        if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
          if (run_all(s)) {
            double sum = 0, squares = 0;
            const int n = 100 * 4 * 8;
            for (int i = 0; i < n; i++) {
              double x = df_sampler_state(s)->values[i];
              sum += x, squares += x * x;
            }
            double mean, deviation; // DDIM with eta = 1 over all levels is DDPM
            exact_result(&m.noise, noise > 0, &mean, &deviation);
            CHECK_NEAR(mean, 0.8, 0.03);
            CHECK_NEAR(sum / n, mean, 0.03); // chance: 0.009
            CHECK_NEAR(sqrt(squares / n - sum * sum / n / n), deviation, 0.02);
          }
          df_sampler_free(s);
        }
      }
      drop(&m);
    }
  oracle.gaussian = false;
}

// ---- The same as a plain walk ----
//
// The plain sampler visits every token up to the last one that falls, in every row, and keeps
// nothing between rows.
// The library visits fewer and must give the same bits.

enum { T_MAX = 8, D_MAX = 4, Z_MAX = 12, E_MAX = 2 };

typedef struct plain {
  const df_model *m;
  const df_sampler_options *o;
  df_cell_runner *runner;
  int T, D, Z, E;
  bool known[T_MAX];
  int rank[T_MAX], unknown;
  int levels[T_MAX];
  float x[T_MAX][D_MAX], estimate[T_MAX][D_MAX], cond[T_MAX][E_MAX];
  int32_t grid[64];
} plain;

static void plain_pass(plain *p, int t, const float *x, int index, const float *z,
                       const float *guess, float *z_next) {
  int level = index ? p->grid[index] : p->o->stabilization;
  float scale = index || !level ? 1 : p->m->noise.sqrt_abar[level];
  for (int j = 0; j < p->D; j++) df_cell_x(p->runner)[j] = scale * x[j];
  memcpy(df_cell_z(p->runner), z, (size_t)p->Z * sizeof *z);
  if (p->E) memcpy(df_cell_cond(p->runner), p->cond[t], (size_t)p->E * sizeof *z);
  if (df_cell_guess(p->runner))
    memcpy(df_cell_guess(p->runner), index ? guess : x, (size_t)p->D * sizeof *guess);
  df_cell_level(p->runner)[0] = level;
  CHECK_OK(df_cell_run(p->runner, 1, &test_error));
  memcpy(z_next, df_cell_z_next(p->runner), (size_t)p->Z * sizeof *z_next);
}

static int plain_level(const plain *p, int row, int t) {
  if (p->known[t]) return 0;
  if (p->o->schedule == DF_CUSTOM) return p->o->table[row * p->T + t];
  return df_levels_at((df_schedule)p->o->schedule, p->unknown, p->o->steps, p->o->uncertainty, row,
                      p->rank[t]);
}

static void plain_row(plain *p, int row, int sequence) {
  float z[Z_MAX], noise[D_MAX];
  int last = -1, next[T_MAX];
  CHECK_OK(df_cell_initial(p->runner, 1, NULL, z, &test_error));
  for (int t = 0; t < p->T; t++) {
    next[t] = plain_level(p, row + 1, t);
    if (next[t] < p->levels[t]) last = t;
  }
  for (int t = 0; t < p->T; t++) {
    float x_next[D_MAX], x0[D_MAX], z_next[Z_MAX];
    int from = p->levels[t];
    memcpy(x_next, p->x[t], sizeof x_next);
    df_random place = {p->o->seed, (uint32_t)sequence, (uint32_t)t, (uint32_t)row, DF_RANDOM_STEP};
    df_random_normal(&place, p->D, noise);
    if (t <= last) {
      plain_pass(p, t, p->x[t], from, z, p->estimate[t], z_next);
      if (next[t] < from)
        df_cell_move(p->runner, 0, p->grid[next[t]], (float)p->o->eta, p->o->ancestral, noise,
                     x_next);
      if (from > 0) memcpy(x0, df_cell_x0(p->runner), sizeof x0);
    }
    if (next[t] > from)
      df_noise_raise(&p->m->noise, p->m->config.clip_noise, p->grid[from], p->grid[next[t]], p->D,
                     p->x[t], noise, x_next);
    if (t <= last) {
      // Repeating a pass would give another guess; the cases with self-conditioning repeat none.
      if (from > 0) memcpy(p->estimate[t], x0, sizeof x0);
      if (p->o->posterior && next[t] != from)
        plain_pass(p, t, x_next, next[t], z, p->estimate[t], z_next);
      memcpy(z, z_next, sizeof z);
    }
    memcpy(p->x[t], x_next, sizeof x_next);
    p->levels[t] = next[t];
  }
}

typedef struct plain_case {
  const char *name;
  df_schedule schedule;
  int T, steps;
  double u, eta;
  bool posterior, ancestral, guess;
  int E, stabilization;
  unsigned known; // bit t: token t is known
  const int32_t *table;
  int rows;
  int first; // number of the sequence
  df_grid_kind grid;
} plain_case;

static const int32_t resting[] = {4, 4, 4, 2, 4, 4, 2, 4, 2, 2, 3, 2, 1, 3,
                                  2, 1, 3, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0};
static const int32_t repeated[] = {3, 3, 3, 1, 3, 3, 0, 2, 3, 2, 2, 3,
                                   0, 1, 3, 1, 0, 2, 3, 0, 1, 0, 0, 0};

static void check_plain(const plain_case *c) {
  df_model m;
  plain p = {.m = &m, .T = c->T, .D = 4, .Z = 12, .E = c->E};
  df_sampler *s = NULL;
  DURING("%s", c->name);
  if (make_rnn(&m, 4, c->E, c->guess, false)) {
    df_sampler_options o = options_of(1, c->T, c->schedule, c->steps, c->u);
    o.eta = c->eta, o.posterior = c->posterior, o.ancestral = c->ancestral,
    o.stabilization = c->stabilization;
    o.table = c->table, o.table_rows = c->rows, o.allow_renoise = true,
    o.first_sequence = (uint32_t)c->first;
    static const float levels[] = {0, 3.5f, 11, 40};
    m.config.sampling.fitted_grid = (df_warp){levels, 4};
    if (c->grid) o.grid = c->grid;
    p.o = &o;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error)) &&
        CHECK_OK(df_cell_create(&p.runner, &m.config, &m.noise, &m.params,
                                &(df_cell_options){.cells = 1, .threads = 1}, &test_error)) &&
        CHECK_OK(df_noise_grid(c->grid, m.config.sampling.fitted_grid, m.config.K, c->steps, p.grid,
                               &test_error))) {
      const df_sampler_info *info = df_sampler_state(s);
      condition_all(s, c->E, c->T);
      for (int t = 0; t < c->T; t++) {
        for (int j = 0; j < c->E; j++) p.cond[t][j] = (float)sin(1 + 0 + 3 * t + 7 * j);
        memcpy(p.x[t], info->values + t * 4, sizeof p.x[t]);
        p.rank[t] = p.unknown;
        p.known[t] = c->known >> t & 1;
        if (p.known[t]) {
          for (int j = 0; j < 4; j++) p.x[t][j] = (float)cos(t * 4 + j);
          CHECK_OK(df_sampler_keep(s, 0, t, p.x[t], 1, &test_error));
        } else {
          p.unknown++;
        }
      }
      for (int t = 0; t < c->T; t++) p.levels[t] = plain_level(&p, 0, t);
      for (int row = 0; !df_sampler_done(s); row++) {
        DURING("%s, row %d", c->name, row);
        if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
        plain_row(&p, row, c->first);
        CHECK_INT(info->row, row + 1);
        for (int t = 0; t < c->T; t++) {
          CHECK_INT(info->levels[t], p.levels[t]);
          CHECK_FLOATS(info->values + t * 4, p.x[t], 4, 0);
        }
      }
      for (int t = 0; t < c->T; t++) CHECK_INT(info->levels[t], 0);
      CHECK_INT(info->clean, c->T);
    }
  }
  df_cell_free(p.runner);
  df_sampler_free(s);
  drop(&m);
}

TEST(the_sampler_gives_the_bits_of_a_plain_walk) {
  static const plain_case cases[] = {
      {"full sequence", DF_FULL_SEQUENCE, 6, 5, .u = 0},
      {"pyramid", DF_PYRAMID, 6, 5, .u = 1},
      {"pyramid, half", DF_PYRAMID, 8, 5, .u = 0.5, .eta = 0.7, .first = 9},
      {"pyramid, wide", DF_PYRAMID, 6, 5, .u = 3.5, .eta = 1},
      {"autoregressive", DF_AUTOREGRESSIVE, 5, 4, .u = 4, .eta = 0.3},
      {"trapezoid", DF_TRAPEZOID, 7, 4, .u = 2, .eta = 1},
      {"one token", DF_PYRAMID, 1, 3, .u = 1},
      {"conditions", DF_PYRAMID, 5, 4, .u = 1, .E = 2},
      {"self-conditioning", DF_PYRAMID, 5, 4, .u = 1, .guess = true},
      {"stabilised", DF_PYRAMID, 5, 4, .u = 2, .stabilization = 3},
      {"stabilised, autoregressive", DF_AUTOREGRESSIVE, 4, 4, .u = 4, .stabilization = 1,
       .known = 1},
      {"posterior", DF_PYRAMID, 5, 4, .u = 1, .posterior = true},
      {"posterior, noisy, stabilised", DF_PYRAMID, 5, 4, .u = 1, .eta = 1, .posterior = true,
       .stabilization = 2, .known = 4},
      {"posterior, autoregressive", DF_AUTOREGRESSIVE, 4, 4, .u = 4, .posterior = true,
       .guess = true},
      {"quadratic", DF_PYRAMID, 5, 7, .u = 2, .grid = DF_GRID_QUADRATIC, .eta = 0.5},
      {"fitted", DF_AUTOREGRESSIVE, 4, 6, .u = 6, .grid = DF_GRID_FITTED, .stabilization = 2},
      {"fitted, noisy", DF_PYRAMID, 4, 13, .u = 3, .grid = DF_GRID_FITTED, .eta = 1},
      {"ancestral", DF_PYRAMID, 4, 40, .u = 5, .ancestral = true},
      {"known beginning", DF_PYRAMID, 6, 4, .u = 1, .known = 7, .E = 1},
      {"known middle", DF_PYRAMID, 7, 4, .u = 1, .known = 4 + 8},
      {"known end", DF_AUTOREGRESSIVE, 5, 3, .u = 3, .known = 16},
      {"known here and there", DF_TRAPEZOID, 8, 4, .u = 1, .known = 1 + 8 + 32, .stabilization = 2},
      {"resting tokens", DF_CUSTOM, 3, 4, .eta = 1, .table = resting, .rows = 9},
      {"noised again", DF_CUSTOM, 3, 3, .eta = 0.5, .table = repeated, .rows = 8},
      {"noised again, posterior", DF_CUSTOM, 3, 3, .table = repeated, .rows = 8, .posterior = true,
       .stabilization = 2},
  };
  for (int i = 0; i < COUNT(cases); i++) check_plain(&cases[i]);
}

// ---- Who is visited ----

TEST(tokens_that_wait_or_are_finished_cost_nothing) {
  static const struct {
    df_schedule schedule;
    int T, steps;
    double u;
    unsigned known;
    bool posterior;
    int cells;
  } cases[] = {
      {DF_FULL_SEQUENCE, 6, 5, 0, 0, false, 6 * 5},
      // each token: its steps, and once more when it is finished, but for the last one
      {DF_AUTOREGRESSIVE, 6, 5, 5, 0, false, 6 * 5 + 5},
      {DF_PYRAMID, 6, 5, 1, 0, false, 6 * 5 + 5},
      {DF_PYRAMID, 6, 5, 3, 0, false, 6 * 5 + 5},
      // known beginning: once
      {DF_PYRAMID, 6, 5, 1, 7, false, 3 + 3 * 5 + 2},
      {DF_FULL_SEQUENCE, 6, 5, 0, 3, false, 2 + 4 * 5},
      // known end: never
      {DF_FULL_SEQUENCE, 6, 5, 0, 32, false, 5 * 5},
      // known middle: as long as something in front of it changes
      {DF_FULL_SEQUENCE, 3, 5, 0, 2, false, 3 * 5},
      {DF_AUTOREGRESSIVE, 3, 5, 5, 2, false, 5 + 1 + 1 + 5},
      // twice, but for the last token that falls in a row
      {DF_FULL_SEQUENCE, 4, 5, 0, 0, true, 4 * 5 + 3 * 5},
      // the token alone; then in each first row of another one, the latent of the finished one
      {DF_AUTOREGRESSIVE, 4, 5, 5, 0, true, 4 * 5 + 3},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    df_model m;
    df_sampler *s = NULL;
    DURING("case %d", i);
    if (make_rnn(&m, 4, 0, false, false)) {
      df_sampler_options o =
          options_of(1, cases[i].T, cases[i].schedule, cases[i].steps, cases[i].u);
      o.posterior = cases[i].posterior;
      if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
        const float values[4] = {1, 2, 3, 4};
        for (int t = 0; t < cases[i].T; t++)
          if (cases[i].known >> t & 1) CHECK_OK(df_sampler_keep(s, 0, t, values, 1, &test_error));
        if (run_all(s)) CHECK_INT(df_sampler_state(s)->cells, cases[i].cells);
      }
    }
    df_sampler_free(s);
    drop(&m);
  }
}

TEST(known_tokens_do_not_take_rows_of_the_table) {
  df_model m;
  df_sampler *s = NULL;
  if (make_rnn(&m, 4, 0, false, false)) {
    const float values[4] = {1, 2, 3, 4};
    df_sampler_options o = options_of(1, 6, DF_PYRAMID, 3, 1);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_INT(df_sampler_state(s)->rows, 9);
      const int known[] = {0, 1, 4};
      for (int i = 0; i < 3; i++) CHECK_OK(df_sampler_keep(s, 0, known[i], values, 1, &test_error));
      CHECK_INT(df_sampler_state(s)->rows, 6);
      CHECK_TEXT(walk(s, 3), "003303\n"
                             "002303\n"
                             "001203\n"
                             "000102\n"
                             "000001\n"
                             "000000\n");
      CHECK_FLOATS(df_sampler_state(s)->values + 4 * 4, values, 4, 0);
    }
    df_sampler_free(s);
    // all of them: nothing is left to do
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      for (int t = 0; t < 6; t++) CHECK_OK(df_sampler_keep(s, 0, t, values, 1, &test_error));
      CHECK(df_sampler_done(s));
      CHECK_INT(df_sampler_state(s)->clean, 6);
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- Batches and seeds ----

TEST(a_batch_gives_the_bits_of_its_sequences_one_by_one) {
  df_model m;
  oracle.stop_slope = 0;
  if (make_rnn(&m, 4, 2, true, true)) {
    df_sampler_options o = options_of(5, DF_LENGTH_DRAWN, DF_PYRAMID, 4, 2);
    o.eta = 1, o.max_length = 7, o.first_sequence = 100;
    df_sampler *all, *one;
    const float values[4] = {1, -1, 2, -2};
    if (CHECK_OK(df_sampler_create(&all, &m, &o, &test_error))) {
      condition_all(all, 2, 7);
      CHECK_OK(df_sampler_keep(all, 2, 0, values, 1, &test_error));
      CHECK_OK(df_sampler_keep(all, 2, 4, values, 1, &test_error));
      run_all(all);
      const df_sampler_info *a = df_sampler_state(all);
      o.batch = 1;
      for (int b = 0; b < 5; b++) {
        DURING("sequence %d", b);
        o.first_sequence = 100 + (uint32_t)b;
        if (!CHECK_OK(df_sampler_create(&one, &m, &o, &test_error))) break;
        for (int t = 0; t < 7; t++) {
          float cond[2] = {(float)sin(1 + b + 3 * t), (float)sin(1 + b + 3 * t + 7)};
          CHECK_OK(df_sampler_condition(one, -1, t, cond, &test_error));
        }
        if (b == 2) {
          CHECK_OK(df_sampler_keep(one, 0, 0, values, 1, &test_error));
          CHECK_OK(df_sampler_keep(one, 0, 4, values, 1, &test_error));
        }
        run_all(one);
        const df_sampler_info *i = df_sampler_state(one);
        CHECK_INT(i->lengths[0], a->lengths[b]);
        CHECK_FLOATS(i->values, a->values + b * 7 * 4, 7 * 4, 0);
        CHECK_FLOATS(i->estimates, a->estimates + b * 7 * 4, 7 * 4, 0);
        for (int t = 0; t < 7; t++) CHECK_INT(i->levels[t], a->levels[b * 7 + t]);
        df_sampler_free(one);
      }
      df_sampler_free(all);
    }
  }
  drop(&m);
}

TEST(a_restart_repeats_a_seed_and_follows_another_one) {
  df_model m;
  df_sampler *s = NULL;
  if (make_rnn(&m, 4, 0, false, false)) {
    df_sampler_options o = options_of(2, 4, DF_PYRAMID, 4, 1);
    o.eta = 1;
    const float values[4] = {1, -1, 2, -2};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      const df_sampler_info *info = df_sampler_state(s);
      float first[32], other[32];
      CHECK_OK(df_sampler_keep(s, 1, 1, values, 1, &test_error));
      run_all(s);
      memcpy(first, info->values, sizeof first);
      df_sampler_restart(s, 6);
      CHECK_INT(info->row, 0);
      CHECK_INT(info->levels[5], 0);
      run_all(s);
      memcpy(other, info->values, sizeof other);
      CHECK(memcmp(first, other, 16 * sizeof(float)) != 0);
      CHECK_FLOATS(other + 20, values, 4, 0);
      df_sampler_restart(s, 6);
      CHECK_OK(df_sampler_step(s, &test_error));
      df_sampler_restart(s, 5); // from the middle
      run_all(s);
      CHECK_FLOATS(info->values, first, 32, 0);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- Lengths ----

// The stop logit is -40 or lower until `tokens` tokens are there, then 40 or higher.
static void stop_after(int tokens) {
  oracle.stop_slope = 80, oracle.stop_shift = (float)(-80 * tokens + 40);
}

TEST(the_stop_head_ends_a_sequence_before_its_next_token) {
  df_model m;
  df_sampler *s = NULL;
  stop_after(3);
  if (make_oracle(&m, DF_PREDICT_X0, 2, true)) {
    df_sampler_options o = options_of(1, DF_LENGTH_DRAWN, DF_AUTOREGRESSIVE, 2, 0);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 6);
      CHECK_INT(df_sampler_state(s)->lengths[0], -1);
      CHECK_INT(df_sampler_state(s)->rows, 13);
      // The end is found in the row in which token 3 would begin.
      CHECK_TEXT(walk(s, 2), "222222\n"
                             "122222\n"
                             "022222\n"
                             "012222\n"
                             "002222\n"
                             "001222\n"
                             "000222\n"
                             "000---\n");
      const df_sampler_info *info = df_sampler_state(s);
      CHECK_INT(info->lengths[0], 3);
      CHECK_INT(info->rows, info->row + 1);
      CHECK_INT(info->clean, 3);
      for (int t = 0; t < 6; t++) CHECK_INT(info->frames[t], t < 3);
    }
    df_sampler_free(s);
    // Together: all of them are asked in the first row, in order.
    o.schedule = DF_FULL_SEQUENCE;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 6);
      CHECK_TEXT(walk(s, 2), "222222\n"
                             "111---\n"
                             "000---\n");
    }
    df_sampler_free(s);
    o.schedule = DF_PYRAMID, o.uncertainty = 1;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 6);
      CHECK_TEXT(walk(s, 2), "222222\n"
                             "122222\n"
                             "012222\n"
                             "001222\n"
                             "000---\n");
    }
    df_sampler_free(s);
    // The trapezoid begins with the last token: whether it exists has to be known first.
    o.schedule = DF_TRAPEZOID;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 6);
      CHECK_TEXT(walk(s, 2), "222222\n"
                             "122---\n"
                             "012---\n"
                             "001---\n"
                             "000---\n");
    }
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(a_known_token_keeps_the_sequence_from_ending_before_it) {
  df_model m;
  df_sampler *s = NULL;
  stop_after(0); // always
  if (make_oracle(&m, DF_PREDICT_X0, 2, true)) {
    df_sampler_options o = options_of(2, DF_LENGTH_DRAWN, DF_AUTOREGRESSIVE, 2, 0);
    const float values[2] = {5, 6};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 6);
      CHECK_OK(df_sampler_keep(s, 1, 3, values, 1, &test_error));
      run_all(s);
      CHECK_INT(df_sampler_state(s)->lengths[0], 1); // at least one token
      CHECK_INT(df_sampler_state(s)->lengths[1], 4);
    }
    df_sampler_free(s);
    stop_after(100); // never: the limit
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 6);
      run_all(s);
      CHECK_INT(df_sampler_state(s)->lengths[0], 6);
      CHECK_INT(df_sampler_state(s)->lengths[1], 6);
    }
    df_sampler_free(s);
    if (CHECK_OK(df_sampler_create(&s, &m, &o,
                                   &test_error))) { // the last token is known: so is the length
      CHECK_OK(df_sampler_keep(s, 0, 5, values, 1, &test_error));
      CHECK_INT(df_sampler_state(s)->lengths[0], 6);
      CHECK_INT(df_sampler_state(s)->lengths[1], -1);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(drawn_lengths_follow_the_hazard) {
  df_model m;
  df_sampler *s = NULL;
  oracle.stop_slope = 0,
  oracle.stop_shift = (float)log(0.25 / 0.75); // ends before each token with 1/4
  if (make_oracle(&m, DF_PREDICT_X0, 1, true)) {
    df_sampler_options o = options_of(4000, DF_LENGTH_DRAWN, DF_PYRAMID, 2, 1);
    o.max_length = 6;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      const float zero = 0;
      for (int t = 0; t < 6; t++) CHECK_OK(df_sampler_condition(s, -1, t, &zero, &test_error));
      run_all(s);
      int count[7] = {0};
      double alive = 4000;
      for (int b = 0; b < 4000; b++) count[df_sampler_state(s)->lengths[b]]++;
      for (int n = 1; n < 6; n++) {
        DURING("length %d", n);
        CHECK_NEAR(count[n] / alive, 0.25, 0.04);
        alive -= count[n];
      }
      CHECK_NEAR(count[6], alive, 0);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- Without end ----

// Runs an unbounded sampler for `tokens` tokens and compares them, as they become clean, with a
// bounded one.
static void check_unbounded(df_model *m, df_schedule schedule, int steps, double u, int tokens,
                            const int *known, int knowns) {
  df_sampler *bounded = NULL, *s = NULL;
  df_sampler_options o = options_of(2, tokens, schedule, steps, u);
  const int D = m->config.network.token_size, E = m->config.network.condition_size;
  float values[4] = {1, -1, 0.5f, 2}, cond[16];
  o.eta = 0.5;
  DURING("%s, u = %g", df_schedule_names[schedule], u);
  bool made = CHECK_OK(df_sampler_create(&bounded, m, &o, &test_error));
  o.length = DF_LENGTH_UNBOUNDED;
  if (made && CHECK_OK(df_sampler_create(&s, m, &o, &test_error))) {
    for (int i = 0; i < knowns; i++) { // not the same tokens in both sequences
      CHECK_OK(df_sampler_keep(s, i % 2, known[i], values, 1, &test_error));
      CHECK_OK(df_sampler_keep(bounded, i % 2, known[i], values, 1, &test_error));
    }
    condition_all(bounded, E, E ? tokens : 0);
    run_all(bounded);
    const df_sampler_info *info = df_sampler_state(s), *want = df_sampler_state(bounded);
    size_t bytes = df_alloc_bytes(), allocations = df_alloc_count();
    int64_t seen = info->clean, given = 0;
    CHECK_INT(info->rows, -1);
    while (seen < tokens) {
      for (; E && given < info->first + info->tokens; given++) // as late as the window allows
        for (int b = 0; b < 2; b++) {
          for (int j = 0; j < E; j++) cond[j] = (float)sin(1 + b + 3 * (double)given + 7 * j);
          CHECK_OK(df_sampler_condition(s, b, given, cond, &test_error));
        }
      if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
      CHECK(!df_sampler_done(s));
      for (; seen < info->clean && seen < tokens; seen++) {
        DURING("%s, u = %g, token %lld", df_schedule_names[schedule], u, (long long)seen);
        if (!CHECK(seen >= info->first)) continue; // they may leave only after they were seen clean
        for (int b = 0; b < 2; b++) {
          size_t at = (size_t)b * (size_t)info->tokens + (size_t)(seen - info->first);
          CHECK_INT(info->levels[at], 0);
          CHECK_FLOATS(info->values + at * (size_t)D,
                       want->values + ((size_t)b * (size_t)tokens + (size_t)seen) * (size_t)D, D,
                       0);
        }
      }
    }
    CHECK_INT(df_alloc_bytes(), bytes);
    CHECK_INT(df_alloc_count(), allocations);
    // and from the start again
    df_sampler_restart(s, o.seed);
    CHECK_INT(info->first, 0);
    CHECK_INT(info->row, 0);
    for (int t = 0; E && t < info->tokens; t++)
      for (int b = 0; b < 2; b++) {
        for (int j = 0; j < E; j++) cond[j] = (float)sin(1 + b + 3 * t + 7 * j);
        CHECK_OK(df_sampler_condition(s, b, t, cond, &test_error));
      }
    while (info->clean < 1) CHECK_OK(df_sampler_step(s, &test_error));
    CHECK_FLOATS(info->values, want->values, D, 0);
  }
  df_sampler_free(s);
  df_sampler_free(bounded);
}

TEST(an_unbounded_sequence_begins_like_every_bounded_one) {
  df_model m;
  if (make_rnn(&m, 4, 0, false, false)) {
    const int known[] = {0, 0, 1, 3, 5};
    check_unbounded(&m, DF_AUTOREGRESSIVE, 3, 0, 60, NULL, 0);
    check_unbounded(&m, DF_AUTOREGRESSIVE, 1, 0, 60, NULL, 0);
    check_unbounded(&m, DF_AUTOREGRESSIVE, 4, 0, 40, known, 5);
    const double u[] = {0.3, 0.5, 1, 1.7, 2.9, 7};
    for (int i = 0; i < COUNT(u); i++) {
      check_unbounded(&m, DF_PYRAMID, 7, u[i], 60, NULL, 0);
      check_unbounded(&m, DF_PYRAMID, 7, u[i], 60, known, 1 + i % 5);
    }
  }
  drop(&m);
  if (make_rnn(&m, 4, 2, true, false)) {
    check_unbounded(&m, DF_PYRAMID, 5, 0.7, 50, NULL, 0);
    check_unbounded(&m, DF_AUTOREGRESSIVE, 3, 0, 50, NULL, 0);
  }
  drop(&m);
}

TEST(an_unbounded_sequence_ends_by_its_stop_head) {
  df_model m;
  df_sampler *s = NULL;
  stop_after(40);
  if (make_oracle(&m, DF_PREDICT_X0, 1, true)) {
    for (int i = 0; i < 2; i++) {
      df_sampler_options o = options_of(2, DF_LENGTH_UNBOUNDED, DF_PYRAMID, 4, i ? 4 : 1.5);
      if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
        const df_sampler_info *info = df_sampler_state(s);
        int64_t given = 0;
        while (!df_sampler_done(s) && info->row < 1000) {
          for (float c = 3; given < info->first + info->tokens; given++)
            CHECK_OK(df_sampler_condition(s, -1, given, &c, &test_error));
          if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
        }
        CHECK_INT(info->lengths[0], 40);
        CHECK_INT(info->lengths[1], 40);
        CHECK_INT(info->clean, 40);
        CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      }
      df_sampler_free(s);
    }
  }
  drop(&m);
}

// ---- Tokens with frames ----

TEST(a_token_tells_how_many_frames_it_holds) {
  df_field fields[2] = {{.name = "a", .mean = 10, .std = 2},
                        {.name = "b", .mean = 0, .std = 4, .binary = true, .threshold = 0.5f}};
  df_model m = {.config = {.network = {.denoiser = &oracle_denoiser,
                                       .token_size = 6,
                                       .latent_size = 1,
                                       .network_size = 4,
                                       .condition_size = 6},
                           .objective = DF_PREDICT_X0,
                           .noise = DF_NOISE_COSINE,
                           .K = 24,
                           .frame_stack = 2,
                           .present = true,
                           .fields = fields,
                           .field_count = 2}};
  df_sampler *s = NULL;
  if (finish(&m)) {
    df_sampler_options o = options_of(1, 3, DF_FULL_SEQUENCE, 3, 0);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      const df_sampler_info *info = df_sampler_state(s);
      CHECK(info->frame_stack == 2 && info->fields == 2);
      for (int i = 0; i < 12; i++) CHECK_NEAR(info->estimates[i], i % 2 ? 0 : 10, 0); // the mean
      const float answers[3][6] = {
          {1, 0.1f, 1, 2, 0.2f, 0.3f}, {0, 0, 0, 0, 0, 0}, {-1, 0.5f, 0.9f, 3, 3, -0.9f}};
      for (int t = 0; t < 3; t++) CHECK_OK(df_sampler_condition(s, 0, t, answers[t], &test_error));
      const float kept[2] = {14, 8};
      CHECK_OK(df_sampler_keep(s, 0, 2, kept, 1, &test_error)); // the last token may be cut short
      CHECK_INT(info->frames[2], 1);
      CHECK_FLOATS(info->values + 8, kept, 2, 1e-6);
      CHECK_STATUS(df_sampler_keep(s, 0, 1, kept, 1, &test_error), DF_BAD_ARGUMENT);
      CHECK_CONTAINS(test_error.message, "token 1: expected 2 frames, found 1");
      run_all(s);
      const float want[4] = {12, 0.4f, 14, 0.8f};
      CHECK_FLOATS(info->values, want, 4, 1e-5);
      CHECK_INT(info->frames[0], 2);
      CHECK_INT(info->frames[2], 1);
      CHECK_FLOATS(info->values + 8, kept, 2, 1e-6);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- What can go wrong ----

TEST(a_step_allocates_nothing) {
  df_model m;
  df_sampler *s = NULL;
  if (make_rnn(&m, 4, 2, true, true)) {
    df_sampler_options o = options_of(3, DF_LENGTH_DRAWN, DF_PYRAMID, 4, 1);
    o.eta = 1, o.posterior = true, o.stabilization = 2;
    const float values[4] = {1, 2, 3, 4};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      size_t count = df_alloc_count();
      CHECK_OK(df_sampler_keep(s, 0, 1, values, 1, &test_error));
      condition_all(s, 2, 6);
      run_all(s);
      df_sampler_restart(s, 3);
      run_all(s);
      CHECK_INT(df_alloc_count(), count);
      CHECK(df_sampler_bytes(s) > 1000);
    }
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(a_result_that_is_not_finite_leaves_the_state_as_it_was) {
  df_model m;
  df_sampler *s = NULL;
  oracle.poison_from =
      8; // K = 24, 6 steps: network levels 23, 19, 15, 11, 7, 3; the fifth row and on are fine
  if (make_oracle(&m, DF_PREDICT_X0, 2, false)) {
    df_sampler_options o = options_of(1, 3, DF_AUTOREGRESSIVE, 6, 0);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      condition_all(s, 2, 3);
      float before[6];
      const df_sampler_info *info = df_sampler_state(s);
      memcpy(before, info->values, sizeof before);
      for (int again = 0; again < 2; again++) {
        CHECK_STATUS(df_sampler_step(s, &test_error), DF_BAD_VALUE);
        CHECK_CONTAINS(test_error.message, "row 0, sequence 0, token 0: the clean estimate is");
        CHECK(info->row == 0 && info->cells == 0 && info->levels[0] == 6 && !df_sampler_done(s));
        CHECK_FLOATS(info->values, before, 6, 0);
      }
    }
  }
  df_sampler_free(s);
  drop(&m);
  oracle.poison_from = 0;
}

TEST(an_error_in_a_later_token_undoes_the_row) {
  df_model m;
  df_sampler *s = NULL;
  if (make_oracle(&m, DF_PREDICT_X0, 2, false)) {
    df_sampler_options o = options_of(1, 3, DF_PYRAMID, 4, 1);
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      const float cond[2] = {1, 2};
      const df_sampler_info *info = df_sampler_state(s);
      CHECK_OK(df_sampler_condition(s, 0, 0, cond, &test_error));
      CHECK_OK(df_sampler_condition(s, 0, 2, cond, &test_error));
      CHECK_OK(df_sampler_step(s, &test_error));
      float before[6];
      memcpy(before, info->values, sizeof before);
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "sequence 0, token 1 has no condition");
      CHECK_FLOATS(info->values, before, 6, 0);
      CHECK(info->row == 1 && info->cells == 1 && info->levels[0] == 3);
      CHECK_STATUS(df_sampler_condition(s, 0, 1, cond, &test_error), DF_WRONG_STATE); // too late
    }
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(options_that_do_not_fit_are_refused) {
  df_model m, with_head;
  if (make_rnn(&with_head, 4, 0, false, true) && make_rnn(&m, 4, 0, false, false)) {
    static const int32_t rising[] = {2, 2, 1, 2, 2, 1, 0, 0}, jumping[] = {40, 40, 38, 39, 0, 0},
                         fine[] = {2, 2, 1, 2, 0, 0};
    static const struct {
      df_sampler_options o; // on top of the defaults: fields that are not 0
      bool head;
      df_status status;
      const char *message;
    } cases[] = {
        {{.batch = -1}, false, DF_BAD_ARGUMENT, "batch: expected 1 to 1.04858e+06, found -1"},
        {{.length = -2}, false, DF_BAD_ARGUMENT, "length"},
        {{.length = 1 << 21}, false, DF_BAD_ARGUMENT, "length"},
        {{.steps = 41}, false, DF_BAD_ARGUMENT, "steps: expected 1 to 40, found 41"},
        {{.steps = -1}, false, DF_BAD_ARGUMENT, "steps"},
        {{.eta = 1.5}, false, DF_BAD_ARGUMENT, "eta: expected 0 to 1, found 1.5"},
        {{.eta = NAN}, false, DF_BAD_ARGUMENT, "eta"},
        {{.uncertainty = 6}, false, DF_BAD_ARGUMENT, "expected an uncertainty from 0 to 5"},
        {{.uncertainty = NAN}, false, DF_BAD_ARGUMENT, "uncertainty"},
        {{.schedule = DF_SCHEDULES}, false, DF_BAD_ARGUMENT, "schedule"},
        {{.weights = 2}, false, DF_BAD_ARGUMENT, "weights: expected 0 to 1, found 2"},
        {{.weights = -1}, false, DF_BAD_ARGUMENT, "weights"},
        {{.stabilization = 41},
         false,
         DF_BAD_ARGUMENT,
         "stabilization: expected 0 to 40, found 41"},
        {{.grid = DF_GRIDS}, false, DF_BAD_ARGUMENT, "grid: expected 0 to 2, found 3"},
        {{.grid = DF_GRID_FITTED}, false, DF_NOT_SUPPORTED, "the model has no fitted grid"},
        {{.ancestral = true},
         false,
         DF_BAD_ARGUMENT,
         "ancestral sampling visits all 40 levels, found 5 steps"},
        {{.schedule = DF_CUSTOM, .length = 2}, false, DF_BAD_ARGUMENT, "needs a table"},
        {{.schedule = DF_PYRAMID, .table = fine, .table_rows = 3, .length = 2},
         false,
         DF_BAD_ARGUMENT,
         "custom schedule only"},
        {{.table = rising, .table_rows = 4, .length = 2, .steps = 2},
         false,
         DF_BAD_TABLE,
         "row 2, column 0: the level rises from 1 to 2"},
        {{.table = fine, .table_rows = 2, .length = 2, .steps = 2},
         false,
         DF_BAD_TABLE,
         "row 1, column 0: expected 0 in the last row, found 1"},
        {{.table = fine, .table_rows = 3, .length = 2, .steps = 1},
         false,
         DF_BAD_TABLE,
         "row 0, column 0: expected a level from 0 to 1"},
        {{.table = jumping, .table_rows = 3, .length = 2, .steps = 40, .ancestral = true},
         false,
         DF_BAD_TABLE,
         "falls by one level at a time"},
        {{.table = fine, .table_rows = 3, .length = DF_LENGTH_UNBOUNDED, .steps = 2},
         false,
         DF_NOT_SUPPORTED,
         "schedule that is computed"},
        {{.schedule = DF_TRAPEZOID, .length = DF_LENGTH_UNBOUNDED},
         false,
         DF_NOT_SUPPORTED,
         "one after the other"},
        {{.uncertainty = 1e-9, .length = DF_LENGTH_UNBOUNDED},
         false,
         DF_BAD_ARGUMENT,
         "tokens in memory"},
    };
    df_sampler *s;
    for (int i = 0; i < COUNT(cases); i++) {
      const df_sampler_options *c = &cases[i].o;
      df_sampler_options o = df_sampler_defaults();
      if (c->batch) o.batch = c->batch;
      if (c->length) o.length = c->length;
      if (c->schedule) o.schedule = c->schedule;
      if (c->steps) o.steps = c->steps;
      if (c->eta != 0) o.eta = c->eta;
      if (c->uncertainty != 0) o.uncertainty = c->uncertainty;
      if (c->stabilization) o.stabilization = c->stabilization;
      if (c->weights) o.weights = c->weights;
      if (c->grid) o.grid = c->grid;
      o.ancestral = c->ancestral, o.table = c->table, o.table_rows = c->table_rows;
      DURING("case %d", i);
      if (CHECK_STATUS(df_sampler_create(&s, cases[i].head ? &with_head : &m, &o, &test_error),
                       cases[i].status))
        CHECK_CONTAINS(test_error.message, cases[i].message);
      CHECK(s == NULL);
    }
    DURING("%s", "");
    df_sampler_options o = df_sampler_defaults();
    o.length = DF_LENGTH_DRAWN;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_NOT_SUPPORTED);
    CHECK_CONTAINS(test_error.message, "no stop head");
    o.length = DF_LENGTH_UNBOUNDED, o.schedule = DF_FULL_SEQUENCE;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_NOT_SUPPORTED);
    o = df_sampler_defaults(), o.schedule = DF_PYRAMID, o.uncertainty = 0,
    o.length = DF_LENGTH_UNBOUNDED;
    CHECK_STATUS(df_sampler_create(&s, &m, &o, &test_error), DF_NOT_SUPPORTED);
    // The model's defaults.
    o = df_sampler_defaults();
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK(df_sampler_state(s)->tokens == 6 && df_sampler_state(s)->batch == 1 &&
            df_sampler_state(s)->rows == 11);
      CHECK_INT(df_sampler_state(s)->lengths[0], 6);
    }
    df_sampler_free(s);
    if (CHECK_OK(df_sampler_create(&s, &with_head, &o, &test_error)))
      CHECK_INT(df_sampler_state(s)->lengths[0], -1);
    df_sampler_free(s);
    o.steps = 1; // less than the model's default uncertainty would be fine, more is cut
    m.config.sampling.uncertainty = 3;
    CHECK_OK(df_sampler_create(&s, &m, &o, &test_error));
    df_sampler_free(s);
  }
  drop(&m);
  drop(&with_head);
  df_sampler_free(NULL);
}

TEST(calls_at_the_wrong_time_or_place_are_refused) {
  df_model m, conditional;
  df_sampler *s = NULL, *c = NULL;
  if (make_rnn(&conditional, 4, 2, false, false) && make_rnn(&m, 4, 0, false, false)) {
    df_sampler_options o = options_of(2, 3, DF_PYRAMID, 3, 1);
    const float good[4] = {1, 2, 3, 4}, bad[4] = {1, 2, INFINITY, 4};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error)) &&
        CHECK_OK(df_sampler_create(&c, &conditional, &o, &test_error))) {
      CHECK_STATUS(df_sampler_keep(s, 2, 0, good, 1, &test_error), DF_BAD_ARGUMENT);
      CHECK_CONTAINS(test_error.message, "expected sequence 0 to 1, found 2");
      CHECK_STATUS(df_sampler_keep(s, -1, 0, good, 1, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_keep(s, 0, 3, good, 1, &test_error), DF_BAD_ARGUMENT);
      CHECK_CONTAINS(test_error.message, "expected a known token from 0 to 2, found 3");
      CHECK_STATUS(df_sampler_keep(s, 0, -1, good, 1, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_keep(s, 0, 0, good, 0, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_keep(s, 0, 0, good, 2, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_keep(s, 0, 0, NULL, 1, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_keep(s, 0, 0, bad, 1, &test_error), DF_BAD_VALUE);
      CHECK_CONTAINS(test_error.message, "known token: value 2 is inf");
      CHECK_STATUS(df_sampler_condition(s, 0, 0, good, &test_error), DF_NOT_SUPPORTED);
      CHECK_STATUS(df_sampler_observe(s, 0, good, &test_error), DF_NOT_SUPPORTED);
      CHECK_INT(df_sampler_state(s)->levels[0], 3); // nothing happened
      CHECK_STATUS(df_sampler_condition(c, 2, 0, good, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_condition(c, -2, 0, good, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_condition(c, -1, 3, good, &test_error), DF_BAD_ARGUMENT);
      CHECK_STATUS(df_sampler_condition(c, -1, 0, bad + 1, &test_error), DF_BAD_VALUE);
      CHECK_STATUS(df_sampler_step(c, &test_error), DF_WRONG_STATE);
      CHECK_OK(df_sampler_step(s, NULL));
      CHECK_STATUS(df_sampler_keep(s, 0, 0, good, 1, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message,
                     "known tokens are given before the first step, 1 rows are done");
      run_all(s);
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      CHECK_STATUS(df_sampler_step(s, NULL), DF_WRONG_STATE);
    }
  }
  df_sampler_free(s);
  df_sampler_free(c);
  drop(&m);
  drop(&conditional);
}

TEST(a_custom_table_starts_at_pure_noise_where_nothing_is_given_of_a_token) {
  df_model m;
  df_sampler *s = NULL;
  static const int32_t table[] = {2, 0, 2, 1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  if (make_rnn(&m, 4, 0, false, false)) {
    df_sampler_options o = options_of(1, 3, DF_CUSTOM, 2, 0);
    o.table = table, o.table_rows = 5;
    const float values[4] = {1, 2, 3, 4};
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message,
                     "sequence 0, token 1: expected a start value, as the token "
                     "starts at level 0, below 2 (pure noise)");
      CHECK_OK(df_sampler_keep(s, 0, 1, values, 1, &test_error));
      CHECK_TEXT(walk(s, 2), "202\n"
                             "102\n"
                             "001\n"
                             "000\n"); // the row in which nothing would happen is left out
    }
  }
  df_sampler_free(s);
  drop(&m);
}

TEST(the_initial_latent_comes_from_the_observation) {
  df_model m = {.config = {.network = {.denoiser = &df_denoiser_rnn,
                                       .token_size = 2,
                                       .latent_size = 8,
                                       .network_size = 4,
                                       .hidden_size = 8,
                                       .mlp_layers = 1,
                                       .gru_layers = 1,
                                       .initial = DF_INITIAL_ENCODED,
                                       .observation_size = 3},
                           .objective = DF_PREDICT_X0,
                           .noise = DF_NOISE_COSINE,
                           .K = 20}};
  df_sampler *s = NULL;
  if (finish(&m)) {
    df_params_init(&m.params, 4);
    df_sampler_options o = options_of(2, 2, DF_FULL_SEQUENCE, 2, 0);
    o.first_sequence = 3;
    if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      const float one[3] = {1, 2, 3}, bad[3] = {1, NAN, 2};
      CHECK_OK(df_sampler_observe(s, 0, one, &test_error));
      CHECK_STATUS(df_sampler_step(s, &test_error), DF_WRONG_STATE);
      CHECK_CONTAINS(test_error.message, "sequence 1 has no observation");
      CHECK_STATUS(df_sampler_observe(s, 1, bad, &test_error), DF_BAD_VALUE);
      CHECK_OK(df_sampler_observe(s, 1, one, &test_error));
      run_all(s);
      CHECK_STATUS(df_sampler_observe(s, 1, one, NULL), DF_WRONG_STATE);
      float first[8];
      memcpy(first, df_sampler_state(s)->values, sizeof first);
      df_sampler_restart(s, o.seed); // the observation stays
      run_all(s);
      CHECK_FLOATS(df_sampler_state(s)->values, first, 8, 0);
      df_sampler_restart(s, o.seed);
      const float two[3] = {-1, 0, 9};
      CHECK_OK(df_sampler_observe(s, 0, two, &test_error));
      run_all(s);
      CHECK(memcmp(df_sampler_state(s)->values, first, 4 * sizeof(float)) != 0);
      CHECK_FLOATS(df_sampler_state(s)->values + 4, first + 4, 4, 0);
      // The same two in data units
      df_sampler_free(s);
      df_field fields[3] = {{"x", 1, 2, 0, 0, 0}, {"y", 0, 1, 0, 0, 0}, {"v", -4, 0.5f, 0, 0, 0}};
      float values[8];
      const float scaled[2][3] = {{3, 2, -2.5f}, {-1, 0, 0.5f}};
      m.config.observation = fields;
      if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
        for (int b = 0; b < 2; b++) CHECK_OK(df_sampler_observe(s, b, scaled[b], &test_error));
        run_all(s);
        memcpy(values, df_sampler_state(s)->values, sizeof values);
        df_sampler_free(s);
      }
      m.config.observation = NULL;
      if (CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
        CHECK_OK(df_sampler_observe(s, 0, one, &test_error));
        CHECK_OK(df_sampler_observe(s, 1, two, &test_error));
        run_all(s);
        CHECK_FLOATS(df_sampler_state(s)->values, values, 8, 0);
      }
    }
  }
  df_sampler_free(s);
  drop(&m);
}

// ---- The reference's sampler, where it does the same: u = 0, nobody waits and nobody is finished
// early ----

TEST(with_u_0_the_sampler_follows_the_reference_row_by_row) {
  golden_model g;
  df_model m = {0};
  df_sampler *s = NULL;
  if (golden_model_open(&g, "rnn_pyramid_sampling")) {
    m.config = (df_config){.network = g.network,
                           .objective = g.objective,
                           .K = g.noise.K,
                           .noise = g.noise.kind,
                           .frame_stack = 1,
                           .field_count = g.network.token_size,
                           .fields = plain_fields};
    for (int i = 0; i < COUNT(plain_fields); i++)
      plain_fields[i] = (df_field){.name = "x", .std = 1};
    m.config.clip_noise = g.clip_noise;
    m.config.sampling.max_tokens = 1;
    m.noise = g.noise, m.params = g.params;
    const int B = golden_int(g.run, "batch"), D = g.network.token_size, Z = g.network.latent_size;
    const int H = (int)df_json_item(df_json_at(g.run, "chunk_tokens"), 0)->number,
              context = golden_int(g.run, "context_tokens");
    CHECK(D <= COUNT(plain_fields));
    df_sampler_options o = options_of(B, H, DF_FULL_SEQUENCE, g.S, 0);
    float *noise = golden_floats(&g.g, "in.chunk0.noise"),
          *z = golden_floats(&g.g, "out.context.z");
    float *want = golden_floats(&g.g, "out.us0.chunk0.x");
    if (noise && z && want && CHECK_OK(df_sampler_create(&s, &m, &o, &test_error))) {
      for (int b = 0; b < B; b++) {
        CHECK_OK(df_sampler_begin(s, b, 0, z + ((context - 1) * B + b) * Z, &test_error));
        for (int t = 0; t < H; t++)
          CHECK_OK(df_sampler_set_noise(s, b, t, noise + (t * B + b) * D));
      }
      const df_sampler_info *info = df_sampler_state(s);
      CHECK_INT(info->rows, g.S + 1);
      for (int row = 0; row < g.S; row++) {
        if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
        for (int b = 0; b < B; b++)
          for (int t = 0; t < H; t++) {
            DURING("row %d, sequence %d, token %d", row, b, t);
            CHECK_FLOATS(info->values + (b * H + t) * D, want + ((row * H + t) * B + b) * D, D,
                         golden_tolerance(&g, "out.us0.chunk0.x"));
          }
      }
    }
  }
  df_sampler_free(s);
  golden_model_close(&g);
}
