// Walking a level table, row by row (Chen et al. 2024, alg. 2).
//
// A row moves the tokens whose level falls between this row and the next one. Tokens are visited in
// order; token t is predicted from its value at the current level and from the latent that token
// t-1 got in this row. Who is visited:
//
//   last = the last token of the sequence that falls in this row. Nothing behind it is needed.
//   up to it: every token that falls, and every token whose latent is stale, that is, whose value,
//   level or incoming latent has changed since its latent was computed.
//
// So a finished prefix is visited once more for its latent and never again, tokens at pure noise
// behind the frontier are not visited, and what lies between two falling tokens is visited as long
// as something in front of it changes.
//
// A row is computed beside the state and taken over at its end; after an error the state is as it
// was.
#include "diffusion/sampler.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

enum { MAX_BATCH = 1 << 20, MAX_TOKENS = 1 << 20 };

// One token of one sequence that is in memory.
typedef struct slot {
  int64_t rank; // unknown tokens before it: its column in a computed level table
  bool known;   // given by the caller, stays clean
  bool given;   // has its condition
  bool stale;   // the latent does not belong to the present state
  // the row under way
  bool visited, changed; // the network ran; the value changed
  bool fresh;            // z_next belongs to the state after the row
  int level_next;
  float stop, stop_next; // logit that the sequence ends behind this token, from its latent
} slot;

struct df_sampler {
  const df_model *model;
  df_sampler_options o; // with all defaults filled in
  df_arena arena;
  df_cell_runner *runner;
  df_sampler_info info;
  bool unbounded, drawn;
  int B, W, P;       // sequences; tokens in memory; known tokens may stand before token P
  int D, Z, E, O, V; // floats of a token, latent, condition, observation, token in data units
  int32_t *grid;     // (S + 1) noise level of each index
  int32_t *table;    // (rows, T) the user's
  int64_t *finish;   // (T) row from which on a column of the user's table stays 0
  double u;          // rows between the starts of two columns

  // per sequence
  int64_t *end;       // (B) tokens, -1: not known yet
  int64_t *exists;    // (B) tokens that are certain to exist
  float *z0;          // (B, Z) latent before the window's first token
  float *observation; // (B, O)
  bool *observed;
  int *last; // (B) slot of the last token that falls in this row, -1: none
  int64_t *end_next, *exists_next;
  float *z_given; // (B, Z) test hook
  bool *z_is_given;

  // per slot (B, W)
  slot *slots;
  int32_t *levels;
  float *x, *x_next;               // (D) network units
  float *estimate, *estimate_next; // (D)
  float *z, *z_next;               // (Z)
  float *cond;                     // (E)
  float *values, *estimates;       // (V) data units
  int32_t *frames;

  // per known token (B, P)
  float *kept;          // (D)
  int32_t *kept_frames; // 0: not known

  int32_t *lengths; // (B) what the caller sees of `end`
  int *cells;       // (B) sequences of the cells under way
  int64_t ran;      // cells of this row
  float *noise;     // (D)
};

static size_t at(const df_sampler *s, int b, int w) { return (size_t)b * (size_t)s->W + (size_t)w; }

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
                              .grid = DF_DEFAULT};
}

static df_status in_range(const char *name, double value, double low, double high,
                          df_error *error) {
  if (value >= low && value <= high) return DF_OK;
  return df_fail(error, DF_BAD_ARGUMENT, "%s: expected %g to %g, found %g", name, low, high, value);
}

static df_status check_custom(const df_sampler_options *o, int T, df_error *error) {
  if (!o->table) return df_fail(error, DF_BAD_ARGUMENT, "the custom schedule needs a table");
  df_status status =
      df_levels_check(o->table, o->table_rows, T, o->steps, o->allow_renoise, false, error);
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
  if (o->uncertainty == DF_DEFAULT) o->uncertainty = fmin(c->sampling.uncertainty, o->steps);
  if ((status = in_range("batch", o->batch, 1, MAX_BATCH, error)) ||
      (status = in_range("length", o->length, DF_LENGTH_UNBOUNDED, MAX_TOKENS, error)) ||
      (status = in_range("max_length", o->max_length, 1, MAX_TOKENS, error)) ||
      (status = in_range("steps", o->steps, 1, c->K, error)) ||
      (status = in_range("eta", o->eta, 0, 1, error)) ||
      (status = in_range("schedule", o->schedule, 0, DF_SCHEDULES - 1, error)) ||
      (status = in_range("stabilization", o->stabilization, 0, c->K, error)) ||
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
  } else if ((status = df_levels_rows((df_schedule)o->schedule, T, o->steps, o->uncertainty, &rows,
                                      error))) {
    return status;
  }
  s->B = o->batch;
  s->D = c->network.token_size, s->Z = c->network.latent_size, s->E = c->network.condition_size;
  s->O = c->network.observation_size, s->V = c->frame_stack * c->field_count;
  s->P = s->W = T;
  if (s->unbounded) {
    if (o->schedule == DF_TRAPEZOID || s->u == 0)
      return df_fail(error, DF_NOT_SUPPORTED,
                     "an unbounded length needs tokens that finish one after the other: "
                     "autoregressive, or a pyramid with an uncertainty above 0");
    // tokens that can be on their way at once, and that can finish in one row
    double falling = ceil(o->steps / s->u) + 1, finishing = ceil(1 / s->u) + 1;
    if (falling + finishing + T > MAX_TOKENS)
      return df_fail(error, DF_BAD_ARGUMENT,
                     "uncertainty: with %g an unbounded length would keep %.0f tokens in memory",
                     s->u, falling);
    s->W = T + (int)falling + (int)finishing;
  }
  return DF_OK;
}

// ---- Levels ----

static int level_at(const df_sampler *s, int b, int w, int64_t m) {
  const slot *p = &s->slots[at(s, b, w)];
  if (p->known) return 0;
  if (s->o.schedule != DF_CUSTOM) {
    // The trapezoid needs the number of columns; the last token's rank tells it, as it is or would
    // be unknown.
    const slot *end = &s->slots[at(s, b, s->W - 1)];
    return df_levels_at((df_schedule)s->o.schedule, (int)end->rank + !end->known, s->o.steps, s->u,
                        m, p->rank);
  }
  return m < s->o.table_rows ? s->table[(size_t)m * (size_t)s->W + (size_t)w] : 0;
}

// Rows until all tokens that are known to exist, or may exist, are clean.
static int64_t rows_needed(const df_sampler *s) {
  int64_t rows = 1;
  for (int b = 0; b < s->B; b++) {
    int tokens = s->end[b] >= 0 ? (int)s->end[b] : s->W;
    const slot *end = &s->slots[at(s, b, s->W - 1)];
    const int64_t columns = end->rank + !end->known;
    for (int w = 0; w < tokens; w++) {
      const slot *p = &s->slots[at(s, b, w)];
      if (p->known) continue;
      int64_t rank = p->rank;
      if (s->o.schedule == DF_TRAPEZOID && columns - 1 - rank < rank) rank = columns - 1 - rank;
      int64_t finish = s->o.schedule == DF_CUSTOM
                           ? s->finish[w]
                           : (int64_t)floor((double)rank * s->u) + s->o.steps;
      if (finish + 1 > rows) rows = finish + 1;
    }
  }
  return rows;
}

// ---- The state before the first row ----

// Values in data units as the caller sees them.
static void show_value(df_sampler *s, size_t i) {
  df_config_decode(&s->model->config, s->x + i * (size_t)s->D, s->values + i * (size_t)s->V);
}
static void show_estimate(df_sampler *s, size_t i) {
  s->frames[i] = df_config_decode(&s->model->config, s->estimate + i * (size_t)s->D,
                                  s->estimates + i * (size_t)s->V);
}

// A token that nothing is known of: pure noise, clamped as the reference does at the first step, or
// behind the end.
static void start_slot(df_sampler *s, int b, int w) {
  const size_t i = at(s, b, w), D = (size_t)s->D;
  const int64_t t = s->info.first + w;
  float *x = s->x + i * D;
  df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, (uint32_t)t, 0, DF_RANDOM_START};
  df_random_normal(&place, s->D, x);
  for (int j = 0; j < s->D; j++) x[j] = df_clip(x[j], s->model->config.clip_noise);
  memset(s->estimate + i * D, 0, D * sizeof(float));
  s->slots[i].stale = true;
  s->levels[i] = s->end[b] >= 0 && t >= s->end[b] ? s->o.steps + 1 : s->o.steps;
  show_value(s, i);
  show_estimate(s, i);
  if (s->levels[i] > s->o.steps) s->frames[i] = 0;
}

static void start_known(df_sampler *s, int b, int w) {
  const size_t i = at(s, b, w), D = (size_t)s->D;
  const float *kept = s->kept + ((size_t)b * (size_t)s->P + (size_t)w) * D;
  memcpy(s->x + i * D, kept, D * sizeof(float));
  memcpy(s->estimate + i * D, kept, D * sizeof(float));
  s->slots[i].known = true;
  s->levels[i] = 0;
  show_value(s, i);
  show_estimate(s, i);
  s->frames[i] = s->kept_frames[(size_t)b * (size_t)s->P + (size_t)w];
}

// What follows from which tokens are known: columns, certain tokens, lengths, rows.
static void arrange(df_sampler *s) {
  for (int b = 0; b < s->B; b++) {
    int64_t rank = 0, known = 0;
    for (int w = 0; w < s->W; w++) {
      slot *p = &s->slots[at(s, b, w)];
      p->rank = rank;
      if (p->known)
        known = w + 1;
      else
        rank++;
    }
    s->end[b] = s->drawn ? -1 : s->unbounded ? -1 : s->W;
    s->exists[b] = known > 1 ? known : 1; // a sequence has at least one token
    if (s->drawn && !s->unbounded && s->exists[b] >= s->W) s->end[b] = s->W;
    s->lengths[b] = (int32_t)s->end[b];
  }
  s->info.rows = s->unbounded ? -1 : rows_needed(s);
}

static void count_clean(df_sampler *s) {
  int64_t clean = INT64_MAX, longest = 0;
  for (int b = 0; b < s->B; b++) {
    int w = 0;
    while (w < s->W && (s->levels[at(s, b, w)] == 0 || s->levels[at(s, b, w)] > s->o.steps)) w++;
    int64_t here = w < s->W ? s->info.first + w : INT64_MAX;
    if (here < clean) clean = here;
    if (s->end[b] < 0)
      longest = INT64_MAX;
    else if (s->end[b] > longest)
      longest = s->end[b];
  }
  s->info.clean = clean < longest ? clean : longest;
}

void df_sampler_restart(df_sampler *s, uint64_t seed) {
  const bool slid = s->info.first > 0;
  s->o.seed = seed;
  s->info.row = 0;
  s->info.first = 0;
  s->info.cells = 0;
  for (int b = 0; b < s->B; b++) s->end[b] = -1;
  for (int b = 0; b < s->B; b++)
    for (int w = 0; w < s->W; w++) {
      slot *p = &s->slots[at(s, b, w)];
      *p = (slot){.given = p->given && !slid};
      start_slot(s, b, w);
      if (w < s->P && s->kept_frames[(size_t)b * (size_t)s->P + (size_t)w] > 0)
        start_known(s, b, w);
    }
  arrange(s);
  count_clean(s);
}

// ---- Create and free ----

static df_status make(df_sampler *s, df_error *error) {
  df_status status = resolve(s, error);
  if (status) return status;
  const size_t B = (size_t)s->B, D = (size_t)s->D, Z = (size_t)s->Z, E = (size_t)s->E,
               V = (size_t)s->V;
  const size_t BW = B * (size_t)s->W, BP = B * (size_t)s->P, S = (size_t)s->o.steps;
  // On 32 bits the products below could wrap.
  double floats = (double)s->B * s->W * (5.0 * s->D + 2.0 * s->Z + s->E + 2.0 * s->V + 32);
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
  MAKE(s->end_next, B);
  MAKE(s->exists_next, B);
  MAKE(s->z0, B * Z);
  MAKE(s->z_given, B * Z);
  MAKE(s->z_is_given, B);
  MAKE(s->observation, B * (size_t)s->O);
  MAKE(s->observed, B);
  MAKE(s->last, B);
  MAKE(s->cells, B);
  MAKE(s->lengths, B);
  MAKE(s->slots, BW);
  MAKE(s->levels, BW);
  MAKE(s->frames, BW);
  MAKE(s->x, BW * D);
  MAKE(s->x_next, BW * D);
  MAKE(s->estimate, BW * D);
  MAKE(s->estimate_next, BW * D);
  MAKE(s->z, BW * Z);
  MAKE(s->z_next, BW * Z);
  MAKE(s->cond, BW * E);
  MAKE(s->values, BW * V);
  MAKE(s->estimates, BW * V);
  MAKE(s->kept, BP * D);
  MAKE(s->kept_frames, BP);
  MAKE(s->noise, D);
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

  status = df_cell_create(&s->runner, &s->model->config, &s->model->noise, &s->model->params, s->B,
                          error);
  if (status) return status;
  s->info = (df_sampler_info){.batch = s->B,
                              .tokens = s->W,
                              .frame_stack = s->model->config.frame_stack,
                              .fields = s->model->config.field_count,
                              .levels = s->levels,
                              .values = s->values,
                              .estimates = s->estimates,
                              .frames = s->frames,
                              .lengths = s->lengths};
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

static df_status check_before_start(const df_sampler *s, const char *what, df_error *error) {
  if (s->info.row == 0) return DF_OK;
  return df_fail(error, DF_WRONG_STATE, "%s are given before the first step, %lld rows are done",
                 what, (long long)s->info.row);
}

df_status df_sampler_keep(df_sampler *s, int b, int64_t t, const float *values, int frames,
                          df_error *error) {
  const df_config *c = &s->model->config;
  df_status status;
  if ((status = check_before_start(s, "known tokens", error)) ||
      (status = check_sequence(s, b, error)))
    return status;
  if (t < 0 || t >= s->P)
    return df_fail(error, DF_BAD_ARGUMENT, "expected a known token from 0 to %d, found %lld",
                   s->P - 1, (long long)t);
  const bool last = s->o.length > 0 && t == s->P - 1;
  if (frames < 1 || frames > c->frame_stack || (frames < c->frame_stack && !last))
    return df_fail(error, DF_BAD_ARGUMENT, "token %lld: expected %d frames%s, found %d",
                   (long long)t, c->frame_stack, last ? " or fewer" : "", frames);
  if ((status =
           check_values(values, (size_t)frames * (size_t)c->field_count, "known token", error)))
    return status;
  size_t i = (size_t)b * (size_t)s->P + (size_t)t;
  df_config_encode(c, values, frames, s->kept + i * (size_t)s->D);
  s->kept_frames[i] = frames;
  start_known(s, b, (int)t);
  arrange(s);
  count_clean(s);
  return DF_OK;
}

df_status df_sampler_condition(df_sampler *s, int b, int64_t t, const float *values,
                               df_error *error) {
  df_status status;
  if (!s->E) return df_fail(error, DF_NOT_SUPPORTED, "the model takes no conditions");
  if (!s->unbounded && (status = check_before_start(s, "conditions", error))) return status;
  if (b != -1 && (status = check_sequence(s, b, error))) return status;
  const int64_t w = t - s->info.first;
  if (w < 0 || w >= s->W)
    return df_fail(error, DF_BAD_ARGUMENT, "expected a token from %lld to %lld, found %lld",
                   (long long)s->info.first, (long long)s->info.first + s->W - 1, (long long)t);
  if ((status = check_values(values, (size_t)s->E, "condition", error))) return status;
  for (int i = b < 0 ? 0 : b; i < (b < 0 ? s->B : b + 1); i++) {
    size_t place = at(s, i, (int)w);
    memcpy(s->cond + place * (size_t)s->E, values, (size_t)s->E * sizeof *values);
    s->slots[place].given = true;
    s->slots[place].stale = true;
  }
  return DF_OK;
}

df_status df_sampler_observe(df_sampler *s, int b, const float *values, df_error *error) {
  df_status status;
  if (!s->O) return df_fail(error, DF_NOT_SUPPORTED, "the model takes no observation");
  if ((status = check_before_start(s, "observations", error)) ||
      (status = check_sequence(s, b, error)) ||
      (status = check_values(values, (size_t)s->O, "observation", error)))
    return status;
  memcpy(s->observation + (size_t)b * (size_t)s->O, values, (size_t)s->O * sizeof *values);
  s->observed[b] = true;
  return DF_OK;
}

df_status df_sampler_set_noise(df_sampler *s, int b, int64_t t, const float *noise) {
  if (s->info.row || b < 0 || b >= s->B || t < 0 || t >= s->W) return DF_BAD_ARGUMENT;
  size_t i = at(s, b, (int)t);
  for (int j = 0; j < s->D; j++)
    s->x[i * (size_t)s->D + (size_t)j] = df_clip(noise[j], s->model->config.clip_noise);
  show_value(s, i);
  return DF_OK;
}

df_status df_sampler_set_latent(df_sampler *s, int b, const float *z) {
  if (s->info.row || b < 0 || b >= s->B) return DF_BAD_ARGUMENT;
  memcpy(s->z_given + (size_t)b * (size_t)s->Z, z, (size_t)s->Z * sizeof *z);
  s->z_is_given[b] = true;
  return DF_OK;
}

// ---- A row ----

// What has to hold before the first row, and the latents before the first token.
static df_status begin(df_sampler *s, df_error *error) {
  for (int b = 0; b < s->B; b++) {
    if (s->O && !s->observed[b])
      return df_fail(error, DF_WRONG_STATE,
                     "sequence %d has no observation, which its initial latent is encoded from", b);
    for (int w = 0; w < s->W && s->o.schedule == DF_CUSTOM; w++)
      if (!s->slots[at(s, b, w)].known && s->table[w] != s->o.steps)
        return df_fail(
            error, DF_BAD_TABLE,
            "row 0, column %d: expected %d (pure noise) for a token that is not known, found %d", w,
            s->o.steps, (int)s->table[w]);
  }
  df_status status = df_cell_initial(s->runner, s->B, s->observation, s->z0, error);
  for (int b = 0; !status && b < s->B; b++) {
    size_t i = (size_t)b * (size_t)s->Z;
    if (s->z_is_given[b]) memcpy(s->z0 + i, s->z_given + i, (size_t)s->Z * sizeof *s->z0);
  }
  return status;
}

// The next level of every token, and the last token of each sequence that falls.
static void plan_row(df_sampler *s) {
  s->ran = 0;
  for (int b = 0; b < s->B; b++) {
    s->last[b] = -1;
    s->end_next[b] = s->end[b];
    s->exists_next[b] = s->exists[b];
    for (int w = 0; w < s->W; w++) {
      const size_t i = at(s, b, w);
      slot *p = &s->slots[i];
      p->visited = p->changed = p->fresh = false;
      p->level_next = s->levels[i] > s->o.steps ? s->levels[i] : level_at(s, b, w, s->info.row + 1);
      if (p->level_next < s->levels[i]) s->last[b] = w;
    }
  }
}

// Does token w exist? Asked before it is needed for the first time, in ascending order; the latent
// of the token before it belongs to this row by then. If not, the row ends before it.
static bool exists(df_sampler *s, int b, int w) {
  const int64_t t = s->info.first + w;
  if (!s->drawn || s->end_next[b] >= 0 || t < s->exists_next[b]) return true;
  const slot *before =
      &s->slots[at(s, b, w - 1)]; // the window holds it: it is on its way or has just finished
  df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, (uint32_t)t, 0, DF_RANDOM_STOP};
  double stop = 1 / (1 + exp(-(double)(before->visited ? before->stop_next : before->stop)));
  if (df_random_double(&place) < stop) {
    s->end_next[b] = t;
    s->last[b] = w - 1;
    return false;
  }
  s->exists_next[b] = t + 1;
  return true;
}

// Inputs of cell c: token w of sequence b at its level before (or with `after`, for the posterior
// pass, after) the move.
static void gather(df_sampler *s, int c, int b, int w, bool after) {
  const size_t i = at(s, b, w), D = (size_t)s->D, Z = (size_t)s->Z, E = (size_t)s->E;
  const slot *p = &s->slots[i];
  const int index = after ? p->level_next : s->levels[i];
  const float *x = (after ? s->x_next : s->x) + i * D;
  const float *z =
      w == 0 ? s->z0 + (size_t)b * Z : (s->slots[i - 1].visited ? s->z_next : s->z) + (i - 1) * Z;
  const float *guess = index == 0 ? x : (after ? s->estimate_next : s->estimate) + i * D;
  int level = s->grid[index];
  float scale = 1;
  if (index == 0 && s->o.stabilization > 0) {
    // Clean tokens are said to be a little noisy, to be trusted less: scaled, but without noise.
    level = s->o.stabilization;
    scale = s->model->noise.sqrt_abar[level];
  }
  for (size_t j = 0; j < D; j++) df_cell_x(s->runner)[(size_t)c * D + j] = scale * x[j];
  memcpy(df_cell_z(s->runner) + (size_t)c * Z, z, Z * sizeof *z);
  if (E) memcpy(df_cell_cond(s->runner) + (size_t)c * E, s->cond + i * E, E * sizeof(float));
  if (df_cell_guess(s->runner))
    memcpy(df_cell_guess(s->runner) + (size_t)c * D, guess, D * sizeof *guess);
  df_cell_level(s->runner)[c] = level;
}

static df_status check_finite(const df_sampler *s, int b, int w, const float *values, int n,
                              const char *what, df_error *error) {
  for (int j = 0; j < n; j++)
    if (!isfinite(values[j]))
      return df_fail(error, DF_BAD_VALUE, "row %lld, sequence %d, token %lld: %s is %g",
                     (long long)s->info.row, b, (long long)s->info.first + w, what,
                     (double)values[j]);
  return DF_OK;
}

// Runs token w of the sequences in cells[n].
static df_status run(df_sampler *s, int n, int w, bool after, df_error *error) {
  const size_t D = (size_t)s->D, Z = (size_t)s->Z;
  for (int c = 0; c < n; c++) gather(s, c, s->cells[c], w, after);
  df_status status = df_cell_run(s->runner, n, error);
  for (int c = 0; !status && c < n; c++) {
    const int b = s->cells[c];
    const size_t i = at(s, b, w);
    slot *p = &s->slots[i];
    const float *z = df_cell_z_next(s->runner) + (size_t)c * Z,
                *x0 = df_cell_x0(s->runner) + (size_t)c * D;
    if ((status = check_finite(s, b, w, z, s->Z, "the latent", error)) ||
        (status = check_finite(s, b, w, x0, s->D, "the clean estimate", error)))
      break;
    memcpy(s->z_next + i * Z, z, Z * sizeof *z);
    if (df_cell_stop(s->runner)) p->stop_next = df_cell_stop(s->runner)[c];
    p->visited = true;
    p->fresh = after || p->level_next == s->levels[i];
    s->ran++;
    if (!after && s->levels[i] > 0) memcpy(s->estimate_next + i * D, x0, D * sizeof *x0);
  }
  return status;
}

// x_next of a token whose level changes; cell is its place in the last run where it falls.
static df_status move(df_sampler *s, int cell, int b, int w, df_error *error) {
  const size_t i = at(s, b, w), D = (size_t)s->D;
  slot *p = &s->slots[i];
  const int from = s->levels[i], to = p->level_next;
  float *x = s->x_next + i * D;
  const bool noisy = to > from || s->o.ancestral || (s->o.eta > 0 && to > 0);
  if (noisy) {
    df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, (uint32_t)(s->info.first + w),
                       (uint32_t)s->info.row, DF_RANDOM_STEP};
    df_random_normal(&place, s->D, s->noise);
  }
  if (to > from) {
    df_noise_raise(&s->model->noise, s->model->config.clip_noise, s->grid[from], s->grid[to], s->D,
                   s->x + i * D, s->noise, x);
    if (to == s->o.steps)
      for (size_t j = 0; j < D; j++) x[j] = df_clip(x[j], s->model->config.clip_noise);
  } else {
    df_cell_move(s->runner, cell, s->grid[to], (float)s->o.eta, s->o.ancestral,
                 noisy ? s->noise : NULL, x);
  }
  p->changed = true;
  return check_finite(s, b, w, x, s->D, "the token", error);
}

// Token w of all sequences: who needs it, the network, the moves, and with `posterior` the network
// once more.
static df_status visit(df_sampler *s, int w, df_error *error) {
  df_status status;
  int n = 0;
  for (int b = 0; b < s->B; b++) {
    if (w > s->last[b] || !exists(s, b, w)) continue;
    const size_t i = at(s, b, w);
    const slot *p = &s->slots[i];
    const bool stale = p->stale || (w > 0 && s->slots[i - 1].visited);
    if (p->level_next >= s->levels[i] && !stale) continue;
    if (s->E && !p->given)
      return df_fail(error, DF_WRONG_STATE, "sequence %d, token %lld has no condition", b,
                     (long long)s->info.first + w);
    s->cells[n++] = b;
  }
  if (n > 0 && (status = run(s, n, w, false, error))) return status;
  for (int c = 0; c < n; c++) {
    const size_t i = at(s, s->cells[c], w);
    if (s->slots[i].level_next < s->levels[i] && (status = move(s, c, s->cells[c], w, error)))
      return status;
  }
  // Tokens that rise need no prediction: they move whether they were visited or not.
  for (int b = 0; b < s->B && s->o.allow_renoise; b++) {
    const size_t i = at(s, b, w);
    if (s->slots[i].level_next > s->levels[i] && (status = move(s, 0, b, w, error))) return status;
  }
  // The latent handed on in this row belongs to the new value at the new level.
  n = 0;
  for (int b = 0; b < s->B && s->o.posterior; b++)
    if (w < s->last[b] && s->slots[at(s, b, w)].changed) s->cells[n++] = b;
  return n > 0 ? run(s, n, w, true, error) : DF_OK;
}

// The row becomes the state.
static void take_over(df_sampler *s) {
  const size_t D = (size_t)s->D, Z = (size_t)s->Z;
  bool ended = false;
  for (int b = 0; b < s->B; b++) {
    if (s->drawn && !s->unbounded && s->exists_next[b] >= s->W && s->end_next[b] < 0)
      s->end_next[b] = s->W;
    ended = ended || s->end_next[b] != s->end[b];
    s->end[b] = s->end_next[b];
    s->exists[b] = s->exists_next[b];
    s->lengths[b] = (int32_t)s->end[b];
    for (int w = 0; w < s->W; w++) {
      const size_t i = at(s, b, w);
      slot *p = &s->slots[i];
      if (s->end[b] >= 0 && s->info.first + w >= s->end[b]) {
        s->levels[i] = s->o.steps + 1;
        s->frames[i] = 0;
        continue;
      }
      p->stale = p->visited ? !p->fresh : p->stale || p->changed || (w > 0 && p[-1].visited);
      if (p->visited) {
        memcpy(s->z + i * Z, s->z_next + i * Z, Z * sizeof(float));
        p->stop = p->stop_next;
      }
      if (p->visited && s->levels[i] > 0) { // a clean token is its own estimate
        memcpy(s->estimate + i * D, s->estimate_next + i * D, D * sizeof(float));
        show_estimate(s, i);
      }
      if (p->changed) {
        memcpy(s->x + i * D, s->x_next + i * D, D * sizeof(float));
        show_value(s, i);
      }
      s->levels[i] = p->level_next;
    }
  }
  s->info.cells += s->ran;
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
    const int64_t rank = s->slots[at(s, b, s->W - 1)].rank;
    while (s->end[b] < 0 && df_levels_at(DF_PYRAMID, 1, s->o.steps, s->u, s->info.row + 1,
                                         rank + 1 + by) < s->o.steps)
      by++;
  }
  if (by == 0) return;
  s->info.first += by;
  const size_t rest = (size_t)(s->W - by), D = (size_t)s->D, Z = (size_t)s->Z, E = (size_t)s->E,
               V = (size_t)s->V;
  for (int b = 0; b < s->B; b++) {
    const size_t to = at(s, b, 0), from = at(s, b, by);
    memcpy(s->z0 + (size_t)b * Z, s->z + (from - 1) * Z, Z * sizeof(float));
    memmove(s->slots + to, s->slots + from, rest * sizeof *s->slots);
    memmove(s->levels + to, s->levels + from, rest * sizeof *s->levels);
    memmove(s->frames + to, s->frames + from, rest * sizeof *s->frames);
    memmove(s->x + to * D, s->x + from * D, rest * D * sizeof(float));
    memmove(s->estimate + to * D, s->estimate + from * D, rest * D * sizeof(float));
    memmove(s->z + to * Z, s->z + from * Z, rest * Z * sizeof(float));
    memmove(s->cond + to * E, s->cond + from * E, rest * E * sizeof(float));
    memmove(s->values + to * V, s->values + from * V, rest * V * sizeof(float));
    memmove(s->estimates + to * V, s->estimates + from * V, rest * V * sizeof(float));
    for (int w = (int)rest; w < s->W; w++) {
      slot *p = &s->slots[at(s, b, w)];
      *p = (slot){.rank = p[-1].rank + 1};
      start_slot(s, b, w);
    }
  }
}

df_status df_sampler_step(df_sampler *s, df_error *error) {
  if (df_sampler_done(s)) return df_fail(error, DF_WRONG_STATE, "all tokens are clean");
  df_status status = DF_OK;
  if (s->info.row == 0 && (status = begin(s, error))) return status;
  plan_row(s);
  for (int w = 0; !status && w < s->W; w++) status = visit(s, w, error);
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
    if (s->end[b] < 0 || s->info.clean < s->end[b]) return false;
  return true;
}

size_t df_sampler_bytes(const df_sampler *s) {
  return sizeof *s + s->arena.bytes + df_cell_bytes(s->runner);
}
