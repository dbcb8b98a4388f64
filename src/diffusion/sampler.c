// Samplers as the user sees them: options, what the caller gives, and the state after each row of the
// level table. diffusion/wavefront.c computes the rows.
#include "diffusion/sampler.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "diffusion/internal.h"

enum {
  MAX_BATCH = 1 << 20,
  MAX_TOKENS = 1 << 20,
  MAX_AHEAD = 1 << 12,
  MAX_THREADS = 256,
  // Cells that make a batch as fast as it gets: rows are computed ahead until there are so many, ...
  FULL_BATCH = 64,
  // ... but not so far that keeping them takes more floats than this.
  AHEAD_FLOATS = 1 << 22,
};

// ---- Options ----

df_sampler_options df_sampler_defaults(void) {
  return (df_sampler_options){.batch = 1,
                              .length = DF_DEFAULT,
                              .max_length = DF_DEFAULT,
                              .schedule = DF_DEFAULT,
                              .steps = DF_DEFAULT,
                              .uncertainty = DF_DEFAULT,
                              .eta = DF_DEFAULT,
                              .stabilization = DF_DEFAULT,
                              .ahead = DF_DEFAULT,
                              .threads = 1,
                              .weights = DF_DEFAULT,

                              .grid = DF_DEFAULT};
}

static df_status in_range(const char *name, double value, double low, double high,
                          df_error *error) {
  if (value >= low && value <= high) return DF_OK;
  return df_fail(error, DF_BAD_ARGUMENT, "%s: expected %g to %g, found %g", name, low, high, value);
}

static df_status check_custom(const df_sampler_options *o, int T, df_error *error) {
  if (!o->table) return df_fail(error, DF_BAD_ARGUMENT, "the custom schedule needs a table");
  df_status status = df_levels_check(o->table, o->table_rows, T, o->steps, o->allow_renoise,
                                     o->allow_partial, error);
  for (int m = 1; !status && o->ancestral && m < o->table_rows; m++)
    for (int t = 0; !status && t < T; t++) {
      int before = o->table[(size_t)(m - 1) * (size_t)T + (size_t)t],
          now = o->table[(size_t)m * (size_t)T + (size_t)t];
      if (before - now > 1)
        status = df_fail(
            error, DF_BAD_TABLE,
            "row %d, column %d: ancestral sampling falls by one level at a time, not from %d to %d",
            m, t, before, now);
    }
  return status;
}

// How many rows are computed at once. Where each token waits for the end of the one before, or the
// caller may still change what a later row reads, there is nothing to compute ahead.
static int rows_at_once(const df_sampler *s, int64_t rows) {
  const df_sampler_options *o = &s->o;
  // With attention a later row would overwrite the keys and values that tokens of this row have still to see;
  // there the tokens of a row are the batch.
  if (s->N) return 1;
  if (s->unbounded && s->E) return 1;
  double ahead = o->ahead;
  if (o->ahead == DF_DEFAULT) {
    const double floats = (double)s->B * s->W * (2.0 * s->V + 2);
    ahead = s->u >= o->steps && o->schedule != DF_CUSTOM
                ? 0
                : fmin(floor((double)FULL_BATCH / s->B), floor(AHEAD_FLOATS / floats)) - 1;
  }
  return (int)fmax(1, fmin(ahead + 1, (double)rows - 1));
}

// Fills in the model's defaults and checks everything that needs no memory.
static df_status resolve(df_sampler *s, df_error *error) {
  const df_config *c = &s->model->config;
  df_sampler_options *o = &s->o;
  df_status status;
  if (o->batch == DF_DEFAULT) o->batch = 1;
  if (o->max_length <= 0) o->max_length = c->sampling.max_tokens;
  if (o->length == DF_DEFAULT) o->length = c->network.stop_head ? DF_LENGTH_DRAWN : o->max_length;
  if (o->steps == DF_DEFAULT) o->steps = c->sampling.steps;
  if (o->eta == DF_DEFAULT) o->eta = c->sampling.eta;
  if (o->stabilization == DF_DEFAULT) o->stabilization = c->sampling.stabilization;
  if (o->grid == DF_DEFAULT) o->grid = c->sampling.grid;
  if (o->schedule == DF_DEFAULT) o->schedule = o->table ? DF_CUSTOM : (int)c->sampling.schedule;
  if (o->weights == DF_DEFAULT) o->weights = DF_WEIGHTS_F32;
  if (o->uncertainty == DF_DEFAULT) o->uncertainty = fmin(c->sampling.uncertainty, o->steps);
  if ((status = in_range("batch", o->batch, 1, MAX_BATCH, error)) ||
      (status = in_range("length", o->length, DF_LENGTH_UNBOUNDED, MAX_TOKENS, error)) ||
      (status = in_range("max_length", o->max_length, 1, MAX_TOKENS, error)) ||
      (status = in_range("steps", o->steps, 1, c->K, error)) ||
      (status = in_range("eta", o->eta, 0, 1, error)) ||
      (status = in_range("schedule", o->schedule, 0, DF_SCHEDULES - 1, error)) ||
      (status = in_range("stabilization", o->stabilization, 0, c->K, error)) ||
      (o->ahead != DF_DEFAULT && (status = in_range("ahead", o->ahead, 0, MAX_AHEAD, error))) ||
      (status = in_range("threads", o->threads, 0, MAX_THREADS, error)) ||
      (status = in_range("weights", o->weights, 0, DF_WEIGHTS_COUNT - 1, error)) ||
      (status = in_range("grid", o->grid, 0, DF_GRIDS - 1, error)))
    return status;
  if (o->ancestral && o->steps != c->K)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "steps: ancestral sampling visits all %d levels, found %d steps", c->K,
                   o->steps);
  if (o->table && o->schedule != DF_CUSTOM)
    return df_fail(error, DF_BAD_ARGUMENT, "a level table belongs to the custom schedule only");
  s->unbounded = o->length == DF_LENGTH_UNBOUNDED;
  s->drawn = o->length == DF_LENGTH_DRAWN || (s->unbounded && c->network.stop_head);
  if (o->length == DF_LENGTH_DRAWN && !c->network.stop_head)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "length: the model has no stop head that could draw it");

  if (s->drawn && (o->schedule == DF_ROLLING || o->allow_partial))
    return df_fail(error, DF_NOT_SUPPORTED,
                   "a drawn length needs a schedule that ends with clean tokens");

  s->u = o->schedule == DF_FULL_SEQUENCE    ? 0
         : o->schedule == DF_AUTOREGRESSIVE ? o->steps
                                            : o->uncertainty;
  const int T = o->length > 0 ? o->length : o->max_length;
  int rows;
  if (o->schedule == DF_CUSTOM) {
    if (s->unbounded)
      return df_fail(error, DF_NOT_SUPPORTED,
                     "an unbounded length needs a schedule that is computed");
    if ((status = check_custom(o, T, error))) return status;
    rows = o->table_rows;
  } else if ((status = df_levels_rows((df_schedule)o->schedule, T, o->steps, o->uncertainty, &rows,
                                      error))) {
    return status;
  }
  s->B = o->batch;
  s->D = c->network.token_size, s->Z = c->network.latent_size, s->E = c->network.condition_size;
  s->O = c->network.observation_size, s->V = c->frame_stack * c->field_count;
  s->N = c->network.window, s->sees_all = df_network_sees_all(&c->network);
  s->P = s->W = s->T = T;
  s->R = rows_at_once(s, s->unbounded ? MAX_AHEAD + 2 : rows);
  if (s->sees_all && o->posterior)
    return df_fail(
        error, DF_NOT_SUPPORTED,
        "posterior: needs a causal network, in which a token does not see those behind it");
  if (s->unbounded) {
    if (s->sees_all)
      return df_fail(error, DF_NOT_SUPPORTED, "an unbounded length needs a causal network");
    if (o->schedule == DF_TRAPEZOID || o->schedule == DF_ROLLING || s->u == 0)
      return df_fail(error, DF_NOT_SUPPORTED,
                     "an unbounded length needs tokens that finish one after the other: "
                     "autoregressive, or a pyramid with an uncertainty above 0");
    // tokens that can be on their way at once, that can finish in one row, and that start in the rows
    // computed ahead
    double falling = ceil(o->steps / s->u) + 1, finishing = ceil(1 / s->u) + 1,
           starting = ceil(s->R / s->u) + 1;
    if (falling + finishing + starting + T > MAX_TOKENS)
      return df_fail(error, DF_BAD_ARGUMENT,
                     "uncertainty: with %g an unbounded length would keep %.0f tokens in memory",
                     s->u, falling);
    s->T =
        (T < s->N ? s->N : T) + (int)falling + (int)finishing; // what the network sees is in memory
    s->W = s->T + (int)starting;
  }
  return DF_OK;
}

// ---- Levels ----

int df_sampler_level(const df_sampler *s, int b, int w, int64_t m) {
  const df_slot *p = &s->slots[df_at(s, b, w)];
  if (p->known) return 0;
  if (s->o.schedule != DF_CUSTOM) {
    // The trapezoid needs the number of columns; the last token's rank tells it, as it is or would
    // be unknown.
    const df_slot *end = &s->slots[df_at(s, b, s->W - 1)];
    return df_levels_at((df_schedule)s->o.schedule, (int)end->rank + !end->known, s->o.steps, s->u,
                        m, p->rank);
  }
  return m < s->o.table_rows ? s->table[(size_t)m * (size_t)s->W + (size_t)w] : 0;
}

// Rows until all tokens that are known to exist, or may exist, are clean or at the end of the table.
static int64_t rows_needed(const df_sampler *s) {
  int64_t rows = 1;
  for (int b = 0; b < s->B; b++) {
    int tokens = s->end_shown[b] >= 0 ? (int)s->end_shown[b] : s->W;
    const df_slot *end = &s->slots[df_at(s, b, s->W - 1)];
    const int64_t columns = end->rank + !end->known;
    for (int w = 0; w < tokens; w++) {
      const df_slot *p = &s->slots[df_at(s, b, w)];
      if (p->known) continue;
      int64_t rank = p->rank;
      if (s->o.schedule == DF_TRAPEZOID && columns - 1 - rank < rank) rank = columns - 1 - rank;
      int64_t finish = s->o.schedule == DF_CUSTOM ? s->finish[w]
                       : s->o.schedule == DF_ROLLING
                           ? (int64_t)s->u
                           : (int64_t)floor((double)rank * s->u) + s->o.steps;
      if (finish + 1 > rows) rows = finish + 1;
    }
  }
  return rows;
}

// ---- The state before the first row ----

// Token w as the caller sees it: its level, value and estimate (D).
static void show(df_sampler *s, int b, int w, int level, const float *x, const float *estimate) {
  const size_t i = (size_t)b * (size_t)s->T + (size_t)w, V = (size_t)s->V;
  s->levels[i] = level;
  df_config_decode(&s->model->config, x, s->values + i * V);
  s->frames[i] = df_config_decode(&s->model->config, estimate, s->estimates + i * V);
  if (level > s->o.steps) s->frames[i] = 0;
}

// Value and estimate (D) of token w before the first row. Noise is clamped as the reference does at the first step;
// behind the end it is there, too.
static void start_value(const df_sampler *s, int b, int w, float *x, float *estimate) {
  const size_t size = (size_t)s->D * sizeof *x;
  const int64_t t = s->info.first + w;
  const size_t i = t < s->P ? df_given_at(s, b, t) : 0;
  const df_given given = t < s->P ? (df_given)s->given_as[i] : DF_GIVEN_NOTHING;
  const float *values = s->given + i * (size_t)s->D, clip = s->model->config.clip_noise;
  const int level = df_sampler_level(s, b, w, 0);
  if (given == DF_GIVEN_KNOWN || given == DF_GIVEN_NOISY) {
    memcpy(x, values, size);
  } else {
    df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, df_number(s, b, w), 0,
                       DF_RANDOM_START};
    df_random_normal(&place, s->D, x);
    for (int j = 0; j < s->D; j++) x[j] = df_clip(x[j], clip);
    if (given == DF_GIVEN_CLEAN)
      df_noise_raise(&s->model->noise, clip, 0, s->grid[level], s->D, values, x, x);
  }
  if (level == 0 || given == DF_GIVEN_CLEAN)
    memcpy(estimate, values, size);
  else
    memset(estimate, 0, size);
}

static void start_slot(df_sampler *s, int b, int w) {
  const size_t i = df_at(s, b, w), D = (size_t)s->D;
  start_value(s, b, w, s->x + i * D, s->estimate + i * D);
  s->slots[i].stale = true;
}

static void show_start(df_sampler *s, int b, int w) {
  const bool ended = s->end_shown[b] >= 0 && s->info.first + w >= s->end_shown[b];
  start_value(s, b, w, s->noise, s->moved);
  show(s, b, w, ended ? s->o.steps + 1 : df_sampler_level(s, b, w, 0), s->noise, s->moved);
  if (s->slots[df_at(s, b, w)].known)
    s->frames[(size_t)b * (size_t)s->T + (size_t)w] = s->given_frames[df_given_at(s, b, w)];
}

// What follows from which tokens are known: columns, certain tokens, lengths, rows.
static void arrange(df_sampler *s) {
  for (int b = 0; b < s->B; b++) {
    int64_t rank = 0, known = 0;
    for (int w = 0; w < s->W; w++) {
      df_slot *p = &s->slots[df_at(s, b, w)];
      p->rank = rank;
      if (p->known)
        known = w + 1;
      else
        rank++;
    }
    s->end[b] = s->drawn ? -1 : s->unbounded ? -1 : s->W;
    s->exists[b] = known > 1 ? known : 1; // a sequence has at least one token
    if (s->drawn && !s->unbounded && s->exists[b] >= s->W) s->end[b] = s->W;
    s->end_row[b] = -1;
    s->end_shown[b] = s->end[b];
    s->lengths[b] = (int32_t)s->end[b];
  }
  s->info.rows = s->unbounded ? -1 : rows_needed(s);
}

static void start_tokens(df_sampler *s, int b, int first, int end) {
  for (int w = first; w < end; w++) {
    start_slot(s, b, w);
    if (w < s->T) show_start(s, b, w);
  }
}

static void count_clean(df_sampler *s) {
  int64_t clean = INT64_MAX, longest = 0;
  for (int b = 0; b < s->B; b++) {
    const int32_t *levels = s->levels + (size_t)b * (size_t)s->T;
    int w = 0;
    while (w < s->T && (levels[w] == 0 || levels[w] > s->o.steps)) w++;
    int64_t here = w < s->T ? s->info.first + w : INT64_MAX;
    if (here < clean) clean = here;
    if (s->end_shown[b] < 0)
      longest = INT64_MAX;
    else if (s->end_shown[b] > longest)
      longest = s->end_shown[b];
  }
  s->info.clean = clean < longest ? clean : longest;
}

void df_sampler_restart(df_sampler *s, uint64_t seed) {
  const bool slid = s->info.first > 0;
  s->o.seed = seed;
  s->info.row = 0;
  s->info.first = 0;
  s->info.cells = s->info.batches = 0;
  df_wavefront_reset(s);
  if (s->guided) df_guided_reset(s);
  for (int b = 0; b < s->B; b++) {
    s->start[b] = 0;
    for (int w = 0; w < s->W; w++) {
      df_slot *p = &s->slots[df_at(s, b, w)];
      *p = (df_slot){.given = p->given && !slid,
                     .known = w < s->P && s->given_as[df_given_at(s, b, w)] == DF_GIVEN_KNOWN};
    }
  }
  arrange(s);
  for (int b = 0; b < s->B; b++) start_tokens(s, b, 0, s->W);
  count_clean(s);
}

// ---- Create and free ----

static df_status make(df_sampler *s, df_error *error) {
  df_status status = resolve(s, error);
  if (status) return status;
  const size_t B = (size_t)s->B, D = (size_t)s->D, Z = (size_t)s->Z, E = (size_t)s->E,
               V = (size_t)s->V;
  const size_t BW = B * (size_t)s->W, BT = B * (size_t)s->T, BP = B * (size_t)s->P,
               R = (size_t)s->R, S = (size_t)s->o.steps,
               // cells of a sequence in a batch
      N = s->sees_all ? (size_t)s->N
          : s->N      ? (size_t)(s->N < s->W ? s->N : s->W)
                      : R;
  // On 32 bits the products below could wrap.
  double floats =
      (double)s->B * s->W * (3.0 * s->D + s->Z + s->E + 2.0 * s->V + 32 + s->R * (2.0 * s->V + 2));
  if (floats > (double)(SIZE_MAX / 8))
    return df_fail(error, DF_NO_MEMORY, "%d sequences of %d tokens need %.0f MB", s->B, s->W,
                   floats * 4e-6);

  size_t table = 0;
  if (s->o.schedule == DF_CUSTOM) table = (size_t)s->o.table_rows * (size_t)s->W;
  bool failed = false;
#define MAKE(pointer, count)                                                                       \
  failed = !((pointer) = df_arena_alloc(&s->arena, (count) * sizeof *(pointer))) || failed
  MAKE(s->grid, S + 1);
  MAKE(s->table, table);
  MAKE(s->finish, (size_t)s->W);
  MAKE(s->end, B);
  MAKE(s->exists, B);
  MAKE(s->end_row, B);
  MAKE(s->end_shown, B);
  MAKE(s->start, B);
  MAKE(s->z0, B * Z);
  MAKE(s->z_given, B * Z);
  MAKE(s->z_is_given, B);
  MAKE(s->number, B);
  MAKE(s->observation, B * (size_t)s->O);
  MAKE(s->observed, B);
  MAKE(s->cells, B * N);
  MAKE(s->fronts, B * R);
  MAKE(s->ran, R);
  MAKE(s->news, BW * R);
  MAKE(s->row_values, BW * R * V);
  MAKE(s->row_estimates, BW * R * V);
  MAKE(s->row_frames, BW * R);
  MAKE(s->lengths, B);
  MAKE(s->slots, BW);
  MAKE(s->x, BW * D);
  MAKE(s->estimate, BW * D);
  MAKE(s->z, BW * Z);
  MAKE(s->cond, BW * E);
  MAKE(s->levels, BT);
  MAKE(s->frames, BT);
  MAKE(s->values, BT * V);
  MAKE(s->estimates, BT * V);
  MAKE(s->given_as, BP);
  MAKE(s->given, BP * D);
  MAKE(s->given_frames, BP);
  MAKE(s->noise, D);
  MAKE(s->moved, D);
#undef MAKE
  if (failed)
    return df_fail(error, DF_NO_MEMORY, "no memory for %d sequences of %d tokens", s->B, s->W);
  const df_config *c = &s->model->config;
  if ((status = df_noise_grid((df_grid_kind)s->o.grid, c->sampling.fitted_grid, c->K, s->o.steps,
                              s->grid, error)))
    return status;
  if (table) {
    memcpy(s->table, s->o.table, table * sizeof *s->table);
    for (int t = 0; t < s->W; t++)
      for (int m = s->o.table_rows - 1; m > 0 && !s->finish[t]; m--)
        if (s->table[(size_t)(m - 1) * (size_t)s->W + (size_t)t]) s->finish[t] = m;
  }
  s->o.table = NULL; // the caller's

  const df_cell_options cells = {.cells = s->B * (int)N,
                                 .sequences = s->B,
                                 .threads = s->o.threads,
                                 .weights = (df_weights)s->o.weights};
  status = df_cell_create(&s->runner, &s->model->config, &s->model->noise, &s->model->params,
                          &cells, error);
  if (status) return status;
  s->info = (df_sampler_info){.batch = s->B,
                              .tokens = s->T,
                              .frame_stack = s->model->config.frame_stack,
                              .fields = s->model->config.field_count,
                              .levels = s->levels,
                              .values = s->values,
                              .estimates = s->estimates,
                              .frames = s->frames,
                              .lengths = s->lengths,
                              .latent = s->Z};
  df_sampler_restart(s, s->o.seed);
  return DF_OK;
}

df_status df_sampler_create(df_sampler **sampler, const df_model *model,
                            const df_sampler_options *options, df_error *error) {
  *sampler = NULL;
  df_sampler *s = df_alloc(sizeof *s);
  if (!s) return df_fail(error, DF_NO_MEMORY, "no memory for a sampler");
  s->model = model;
  s->o = *options;
  df_status status = make(s, error);
  if (status)
    df_sampler_free(s);
  else
    *sampler = s;
  return status;
}

void df_sampler_free(df_sampler *s) {
  if (!s) return;
  df_guided_free(s->guided);
  df_cell_free(s->runner);
  df_arena_free(&s->arena);
  df_free(s);
}

// ---- What the caller gives ----

static df_status check_sequence(const df_sampler *s, int b, df_error *error) {
  if (b >= 0 && b < s->B) return DF_OK;
  return df_fail(error, DF_BAD_ARGUMENT, "expected sequence 0 to %d, found %d", s->B - 1, b);
}

static df_status check_values(const float *values, size_t count, const char *what,
                              df_error *error) {
  if (!values) return df_fail(error, DF_BAD_ARGUMENT, "%s: values are missing", what);
  for (size_t i = 0; i < count; i++)
    if (!isfinite(values[i]))
      return df_fail(error, DF_BAD_VALUE, "%s: value %zu is %g", what, i, (double)values[i]);
  return DF_OK;
}

// A first step that has failed may have been through some tokens: they start anew.
static df_status check_before_start(df_sampler *s, const char *what, df_error *error) {
  if (s->info.row == 0) {
    if (s->begun) df_sampler_restart(s, s->o.seed);
    return DF_OK;
  }
  return df_fail(error, DF_WRONG_STATE, "%ss are given before the first step, %lld rows are done",
                 what, (long long)s->info.row);
}

static df_status give(df_sampler *s, int b, int64_t t, df_given as, const float *values, int frames,
                      df_error *error) {
  const df_config *c = &s->model->config;
  const char *what = as == DF_GIVEN_KNOWN ? "known token" : "started token";
  df_status status;
  if ((status = check_before_start(s, what, error)) || (status = check_sequence(s, b, error)))
    return status;
  if (t < 0 || t >= s->P)
    return df_fail(error, DF_BAD_ARGUMENT, "expected a %s from 0 to %d, found %lld", what, s->P - 1,
                   (long long)t);
  const bool last = s->o.length > 0 && t == s->P - 1 && as != DF_GIVEN_NOISY;
  const int fewest = as == DF_GIVEN_NOTHING ? 0 : last ? 1 : c->frame_stack;
  if (frames < fewest || frames > c->frame_stack)
    return df_fail(error, DF_BAD_ARGUMENT, "token %lld: expected %d frames%s, found %d",
                   (long long)t, c->frame_stack, last ? " or fewer" : "", frames);
  if (as && (status = check_values(values, (size_t)frames * (size_t)c->field_count, what, error)))
    return status;
  const size_t i = df_given_at(s, b, t);
  if (as) df_config_encode(c, values, frames, s->given + i * (size_t)s->D);
  s->given_as[i] = (uint8_t)as;
  s->given_frames[i] = frames;
  s->slots[df_at(s, b, (int)t)].known = as == DF_GIVEN_KNOWN;
  arrange(s);
  // In a rolling table those behind it may begin at another level now.
  start_tokens(s, b, (int)t, s->o.schedule == DF_ROLLING ? s->W : (int)t + 1);
  count_clean(s);
  return DF_OK;
}

df_status df_sampler_keep(df_sampler *s, int b, int64_t t, const float *values, int frames,
                          df_error *error) {
  return give(s, b, t, DF_GIVEN_KNOWN, values, frames, error);
}

df_status df_sampler_start(df_sampler *s, int b, int64_t t, const float *values, int frames,
                           bool noisy, df_error *error) {
  if (noisy && s->model->config.present)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "noisy tokens of this model are not told in full: they mark their frames, too");
  const df_given as = !values ? DF_GIVEN_NOTHING : noisy ? DF_GIVEN_NOISY : DF_GIVEN_CLEAN;
  return give(s, b, t, as, values, frames, error);
}

// ---- Latents ----

static df_status check_latent(const df_sampler *s, df_error *error) {
  if (s->Z) return DF_OK;
  return df_fail(error, DF_NOT_SUPPORTED,
                 "the network has no latent, it sees the tokens before: keep them");
}

df_status df_sampler_begin(df_sampler *s, int b, int64_t first, const float *z, df_error *error) {
  const size_t Z = (size_t)s->Z;
  df_status status;
  if ((status = check_before_start(s, "latent", error)) || (status = check_sequence(s, b, error)) ||
      (z && (status = check_latent(s, error))) ||
      (z && (status = check_values(z, Z, "latent", error))))
    return status;
  if (first < 0)
    return df_fail(error, DF_BAD_ARGUMENT, "expected a first token from 0 on, found %lld",
                   (long long)first);
  s->number[b] = first;
  s->z_is_given[b] = z != NULL;
  if (z) memcpy(s->z_given + (size_t)b * Z, z, Z * sizeof *z);
  start_tokens(s, b, 0, s->W); // from other noise
  return DF_OK;
}

df_status df_sampler_latent(df_sampler *s, int b, int64_t t, float *z, df_error *error) {
  df_status status;
  if ((status = check_latent(s, error)) || (status = check_sequence(s, b, error))) return status;
  if (s->o.allow_renoise) // rows ahead may have noised a token again
    return df_fail(error, DF_NOT_SUPPORTED, "tokens may be noised again: they have no last latent");
  const int64_t first = s->info.first;
  if (t < first || t >= first + s->T)
    return df_fail(error, DF_BAD_ARGUMENT, "expected a token from %lld to %lld, found %lld",
                   (long long)first, (long long)first + s->T - 1, (long long)t);
  for (int w = 0; w <= t - first; w++)
    if (s->levels[(size_t)b * (size_t)s->T + (size_t)w] != 0)
      return df_fail(error, DF_WRONG_STATE, "sequence %d, token %lld is not clean", b,
                     (long long)first + w);
  return df_wavefront_latent(s, b, (int)(t - first), z, error);
}

df_status df_sampler_condition(df_sampler *s, int b, int64_t t, const float *values,
                               df_error *error) {
  df_status status;
  if (!s->E) return df_fail(error, DF_NOT_SUPPORTED, "the model takes no conditions");
  if (!s->unbounded && (status = check_before_start(s, "condition", error))) return status;
  if (b != -1 && (status = check_sequence(s, b, error))) return status;
  const int64_t w = t - s->info.first;
  if (w < 0 || w >= s->T)
    return df_fail(error, DF_BAD_ARGUMENT, "expected a token from %lld to %lld, found %lld",
                   (long long)s->info.first, (long long)s->info.first + s->T - 1, (long long)t);
  if ((status = check_values(values, (size_t)s->E, "condition", error))) return status;
  for (int i = b < 0 ? 0 : b; i < (b < 0 ? s->B : b + 1); i++) {
    size_t place = df_at(s, i, (int)w);
    memcpy(s->cond + place * (size_t)s->E, values, (size_t)s->E * sizeof *values);
    s->slots[place].given = true;
    s->slots[place].stale = true;
  }
  return DF_OK;
}

df_status df_sampler_observe(df_sampler *s, int b, const float *values, df_error *error) {
  df_status status;
  if (!s->O) return df_fail(error, DF_NOT_SUPPORTED, "the model takes no observation");
  if ((status = check_before_start(s, "observation", error)) ||
      (status = check_sequence(s, b, error)) ||
      (status = check_values(values, (size_t)s->O, "observation", error)))
    return status;
  df_config_observe(&s->model->config, values, s->observation + (size_t)b * (size_t)s->O);
  s->observed[b] = true;
  return DF_OK;
}

df_status df_sampler_set_noise(df_sampler *s, int b, int64_t t, const float *noise) {
  if (s->info.row || b < 0 || b >= s->B || t < 0 || t >= s->W) return DF_BAD_ARGUMENT;
  const size_t i = df_at(s, b, (int)t), D = (size_t)s->D;
  float *x = s->x + i * D;
  for (size_t j = 0; j < D; j++) x[j] = df_clip(noise[j], s->model->config.clip_noise);
  show(s, b, (int)t, s->o.steps, x, s->estimate + i * D);
  return DF_OK;
}

void df_sampler_forget(df_sampler *s) { s->forgetful = true; }

// ---- A row ----

// The row becomes what the caller sees.
static void take_over(df_sampler *s) {
  const size_t V = (size_t)s->V;
  const int64_t m = s->info.row;
  bool ended = false;
  for (int b = 0; b < s->B; b++) {
    if (s->end_shown[b] < 0 && s->end[b] >= 0 && s->end_row[b] <= m) {
      ended = true;
      s->end_shown[b] = s->end[b];
      s->lengths[b] = (int32_t)s->end[b];
    }
    for (int w = 0; w < s->T; w++) {
      const size_t i = (size_t)b * (size_t)s->T + (size_t)w, n = df_news_at(s, b, w, m);
      if (s->end_shown[b] >= 0 && s->info.first + w >= s->end_shown[b]) {
        s->levels[i] = s->o.steps + 1;
        s->frames[i] = 0;
        continue;
      }
      s->levels[i] = df_sampler_level(s, b, w, m + 1);
      if (s->news[n] & DF_NEW_VALUE)
        memcpy(s->values + i * V, s->row_values + n * V, V * sizeof(float));
      if (s->news[n] & DF_NEW_ESTIMATE) {
        memcpy(s->estimates + i * V, s->row_estimates + n * V, V * sizeof(float));
        s->frames[i] = s->row_frames[n];
      }
    }
  }
  s->info.cells += s->ran[m % s->R];
  s->info.row++;
  if (ended && !s->unbounded) {
    int64_t rows = rows_needed(s);
    s->info.rows = rows > s->info.row ? rows : s->info.row + 1;
  }
}

// Unbounded: moves the window on until it holds every token that falls in the next row. What leaves
// it is clean, and has been since before the last row: the window has room for all tokens on their
// way and for those that have just finished.
static void slide(df_sampler *s) {
  int by = 0;
  for (int b = 0; b < s->B; b++) {
    const int64_t rank = s->slots[df_at(s, b, s->T - 1)].rank;
    while (s->end_shown[b] < 0 && df_levels_at(DF_PYRAMID, 1, s->o.steps, s->u, s->info.row + 1,
                                               rank + 1 + by) < s->o.steps)
      by++;
  }
  if (by == 0) return;
  const size_t rest = (size_t)(s->T - by), Z = (size_t)s->Z, V = (size_t)s->V;
  for (int b = 0; b < s->B; b++) {
    memcpy(s->z0 + (size_t)b * Z, s->z + df_at(s, b, by - 1) * Z, Z * sizeof(float));
    s->start[b] = s->start[b] > by ? s->start[b] - by : 0;
  }
  s->info.first += by;
  df_wavefront_slide(s, by);
  for (int b = 0; b < s->B; b++) {
    for (int w = s->W - by; w < s->W; w++) {
      s->slots[df_at(s, b, w)] = (df_slot){.rank = s->slots[df_at(s, b, w - 1)].rank + 1};
      start_slot(s, b, w);
    }
    const size_t to = (size_t)b * (size_t)s->T, from = to + (size_t)by;
    memmove(s->levels + to, s->levels + from, rest * sizeof *s->levels);
    memmove(s->frames + to, s->frames + from, rest * sizeof *s->frames);
    memmove(s->values + to * V, s->values + from * V, rest * V * sizeof(float));
    memmove(s->estimates + to * V, s->estimates + from * V, rest * V * sizeof(float));
    for (int w = (int)rest; w < s->T; w++) show_start(s, b, w);
  }
}

df_status df_sampler_step(df_sampler *s, df_error *error) {
  if (df_sampler_done(s)) return df_fail(error, DF_WRONG_STATE, "no row is left");
  df_status status = s->guided ? df_guided_run(s, error) : df_wavefront_run(s, error);
  if (status) return status;
  take_over(s);
  if (s->unbounded) slide(s);
  count_clean(s);
  return DF_OK;
}

const df_sampler_info *df_sampler_state(const df_sampler *s) { return &s->info; }

bool df_sampler_done(const df_sampler *s) {
  if (!s->unbounded) return s->info.row + 1 >= s->info.rows;
  for (int b = 0; b < s->B; b++)
    if (s->end_shown[b] < 0 || s->info.clean < s->end_shown[b]) return false;
  return true;
}

size_t df_sampler_bytes(const df_sampler *s) {
  return sizeof *s + s->arena.bytes + df_cell_bytes(s->runner) +
         (s->guided ? df_guided_bytes(s->guided) : 0);
}
