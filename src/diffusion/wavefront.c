// Walking a level table (Chen et al. 2024, alg. 2), many cells at once.
//
// A row moves the tokens whose level falls between this row and the next one. Token t is predicted
// from its value at the current level and from the latent that token t-1 got in this row. Who is
// visited:
//
//   last = the last token of the sequence that falls in this row. Nothing behind it is needed.
//   up to it: every token that falls, and every token whose latent is stale, that is, whose value,
//   level or incoming latent has changed since its latent was computed.
//
// So a finished prefix is visited once more for its latent and never again, tokens at pure noise
// behind the frontier are not visited, and what lies between two falling tokens is visited as long
// as something in front of it changes.
//
// A cell (row m, token t) needs (m-1, t) and (m, t-1) only, so up to R rows are under way, each a
// front that is at least one token behind that of the row before: an anti-diagonal of the table.
// All fronts of all sequences together are one batch of the network. Results do not depend on it:
// a cell's random numbers and arithmetic are its own. The caller gets rows in order; what later
// rows have changed waits in a ring of R rows.
//
// A token has one state, that after the latest row it has been through. Its latent is read by the
// next token in the same row, so a front must not overtake: (m+1, t) may only run once the inputs of
// (m, t+1) have been taken.
//
// A network with attention has no latents: a token sees the keys and values of those before it, which were
// made when they were visited last, so "latent" stands for these here. A row that changes them would take
// them from tokens of the row before, so one row is under way, and as its tokens see each other within one
// pass, all that are sure to be visited are the batch. The network sees a window of N tokens that ends with
// the last one that falls; where it moves on, tokens change their place in it and are all visited anew. If
// attention is not causal, the whole window runs in every row, behind the end of the sequence with padding:
// zeros at the highest level, as in training.
//
// With a drawn length it is not known from the start which tokens exist. A row by itself is certain
// of `last` only when all draws of the rows before it are made. A cell that falls, or behind which a
// token that exists falls, need not wait for that; others do.
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "diffusion/internal.h"

static df_front *front_of(const df_sampler *s, int b, int64_t m) {
  return &s->fronts[(size_t)(m % s->R) * (size_t)s->B + (size_t)b];
}

static bool falls(const df_sampler *s, int b, int w, int64_t m) {
  return df_sampler_level(s, b, w, m + 1) < df_sampler_level(s, b, w, m);
}

// Tokens of the window that may exist as far as is known now.
static int limit_of(const df_sampler *s, int b) {
  const int64_t left = s->end[b] - s->info.first;
  return s->end[b] < 0 || left > s->W ? s->W : (int)left;
}

static void find_last(const df_sampler *s, int b, int64_t m, df_front *f) {
  const int limit = limit_of(s, b);
  if (f->limit == limit) return;
  f->limit = limit;
  if (f->last >= limit) f->last = limit - 1;
  while (f->last >= 0 && !falls(s, b, f->last, m)) f->last--;
}

// ---- Rows under way ----

void df_wavefront_reset(df_sampler *s) {
  s->begun = false;
  s->opened = 0;
}

// The window of the network ends with the last token that falls. It only moves back for a token that was noised
// again.
static void move_window(df_sampler *s, int b, int64_t m, int last) {
  const int start = last + 1 - s->N > 0 ? last + 1 - s->N : 0;
  int first = s->start[b];
  if (s->o.allow_renoise)
    for (first = 0; first < last && !falls(s, b, first, m); first++) continue;
  if (last < 0 || (start <= s->start[b] && first >= s->start[b])) return;
  s->start[b] = start;
  for (int w = start; w <= last; w++) s->slots[df_at(s, b, w)].stale = true;
}

static void open_row(df_sampler *s, int64_t m) {
  s->ran[m % s->R] = 0;
  for (int b = 0; b < s->B; b++) {
    df_front *f = front_of(s, b, m);
    *f = (df_front){.limit = -1, .last = s->W - 1, .reach = -1};
    find_last(s, b, m, f);
    if (s->N) move_window(s, b, m, f->last);
    for (int w = 0; s->forgetful && w < s->W; w++) s->slots[df_at(s, b, w)].stale = true;
    if (m > s->info.row) {
      const df_front *before = front_of(s, b, m - 1);
      f->reach = before->reach > before->last ? before->reach : before->last;
    }
  }
  const size_t tokens = (size_t)s->B * (size_t)s->W;
  memset(s->news + (size_t)(m % s->R) * tokens, 0, tokens);
}

void df_wavefront_slide(df_sampler *s, int by) {
  for (int64_t m = s->info.row; m < s->opened; m++)
    for (int b = 0; b < s->B; b++) {
      df_front *f = front_of(s, b, m);
      f->w -= by, f->last -= by, f->reach -= by, f->limit -= by;
      if (f->w < 0) f->w = 0, f->visited = false; // what has left the window needs no visit
    }
}

// Do tokens fall in one row that are too far from each other for the window of the network?
static df_status check_window(const df_sampler *s, int b, df_error *error) {
  const int limit = limit_of(s, b);
  int first = 0, last = -1; // that fall together, the farthest
  for (int w = 0, v = 0; w < limit && s->o.schedule < DF_ROLLING; w++) {
    const df_slot *p = &s->slots[df_at(s, b, w)];
    if (p->known) continue;
    // the first one that is still on its way when w starts; in a trapezoid both ends arrive together
    const int64_t row = s->o.schedule == DF_TRAPEZOID ? 0 : (int64_t)floor((double)p->rank * s->u);
    while (df_sampler_level(s, b, v, row) == 0) v++;
    if (w - v > last - first) first = v, last = w;
  }
  for (int m = 0; m + 1 < s->info.rows && s->o.schedule >= DF_ROLLING; m++) {
    int v = 0, w = limit - 1;
    while (v < limit && !falls(s, b, v, m)) v++;
    while (w > v && !falls(s, b, w, m)) w--;
    if (w - v > last - first) first = v, last = w;
  }
  if (last - first < s->N) return DF_OK;
  return df_fail(
      error, DF_NOT_SUPPORTED,
      "sequence %d: tokens %d to %d fall together, but the network sees %d tokens at most: "
      "expected a shorter length or a larger uncertainty",
      b, first, last, s->N);
}

static df_status check_observed(const df_sampler *s, int b, df_error *error) {
  if (!s->O || s->observed[b] || s->z_is_given[b]) return DF_OK;
  return df_fail(error, DF_WRONG_STATE,
                 "sequence %d has no observation, which its initial latent is encoded from", b);
}

// The latents before the first token.
static df_status make_initial(df_sampler *s, df_error *error) {
  const df_status status = df_cell_initial(s->runner, s->B, s->observation, s->z0, error);
  for (int b = 0; !status && b < s->B; b++) {
    size_t i = (size_t)b * (size_t)s->Z;
    if (s->z_is_given[b]) memcpy(s->z0 + i, s->z_given + i, (size_t)s->Z * sizeof *s->z0);
  }
  return status;
}

// What has to hold before the first row, and the latents before the first token.
df_status df_wavefront_begin(df_sampler *s, df_error *error) {
  df_status status;
  if (s->begun) return DF_OK;
  for (int b = 0; b < s->B; b++) {
    if ((status = check_observed(s, b, error))) return status;
    for (int w = 0; w < s->W && s->o.schedule >= DF_ROLLING; w++) {
      const int level = df_sampler_level(s, b, w, 0);
      if (level < s->o.steps && !s->given_as[df_given_at(s, b, w)])
        return df_fail(
            error, DF_WRONG_STATE,
            "sequence %d, token %d: expected a start value, as the token starts at level "
            "%d, below %d (pure noise)",
            b, w, level, s->o.steps);
    }
    if (s->N && (status = check_window(s, b, error))) return status;
  }
  status = make_initial(s, error);
  s->begun = !status;
  return status;
}

// ---- One cell ----

typedef enum answer { NO, YES, WAIT } answer;

// Does a token behind w fall in row m, so that the latent of w is needed? As the row by itself sees
// it: sure of the end only where a row before it has drawn it.
static answer is_needed(const df_sampler *s, int b, int64_t m, df_front *f, int w) {
  find_last(s, b, m, f);
  if (f->last <= w) return NO;
  // The draws of rows before this one are those of tokens up to `reach`. An end that is known by now
  // was drawn by one of them: a draw of this row or a later one comes behind this cell.
  if (!s->drawn || s->end[b] >= 0 || s->exists[b] > s->info.first + f->reach) return YES;
  for (int v = (int)(s->exists[b] - s->info.first) - 1; v > w; v--)
    if (falls(s, b, v, m)) return YES;
  return WAIT;
}

// Draws whether token w exists, from the latent of the token before it in row m.
static bool draw(df_sampler *s, int b, int64_t m, int w) {
  const int64_t t = s->info.first + w;
  df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, df_number(s, b, w), 0,
                     DF_RANDOM_STOP};
  // the window holds the token before: it is on its way or has just finished
  const double stop = 1 / (1 + exp(-(double)s->slots[df_at(s, b, w - 1)].stop));
  const bool ends = df_random_double(&place) < stop;
  if (ends)
    s->end[b] = t;
  else
    s->exists[b] = t + 1;
  if (!ends && !s->unbounded && s->exists[b] >= s->W) s->end[b] = s->W;
  if (s->end[b] >= 0) s->end_row[b] = m;
  return !ends;
}

// Does the network have to run on token f->w in row m?
static answer is_visited(df_sampler *s, int b, int64_t m, df_front *f) {
  const int w = f->w;
  const int64_t t = s->info.first + w;
  if (w < s->start[b] || (s->end[b] >= 0 && t >= s->end[b])) return NO;
  if (s->sees_all) return f->last >= 0 && w < s->start[b] + s->N ? YES : NO;
  if (f->after) return is_needed(s, b, m, f, w);
  find_last(s, b, m, f);
  if (w > f->last) return NO;
  if (s->drawn && s->end[b] < 0 && t >= s->exists[b] && !draw(s, b, m, w)) return NO;
  if (falls(s, b, w, m)) return YES;
  return s->slots[df_at(s, b, w)].stale || f->visited ? is_needed(s, b, m, f, w) : NO;
}

// Inputs of cell c: token w of sequence b at its level in row m (or with `after`, for the posterior
// pass, in row m+1).
static void gather(df_sampler *s, int c, int b, int w, int64_t m) {
  const size_t i = df_at(s, b, w), D = (size_t)s->D, Z = (size_t)s->Z, E = (size_t)s->E;
  const int index = df_sampler_level(s, b, w, m);
  const float *x = s->x + i * D;
  const float *z = w == 0 ? s->z0 + (size_t)b * Z : s->z + df_at(s, b, w - 1) * Z;
  const float *guess = index == 0 ? x : s->estimate + i * D;
  int level = s->grid[index];
  float scale = 1;
  if (index == 0 && s->o.stabilization > 0) {
    // Clean tokens are said to be a little noisy, to be trusted less: scaled, but without noise.
    level = s->o.stabilization;
    scale = s->model->noise.sqrt_abar[level];
  }
  for (size_t j = 0; j < D; j++) df_cell_x(s->runner)[(size_t)c * D + j] = scale * x[j];
  if (Z) memcpy(df_cell_z(s->runner) + (size_t)c * Z, z, Z * sizeof *z);
  if (s->N) {
    const int position = w - s->start[b];
    df_cell_places(s->runner)[c] = (df_cell_place){b, position, s->sees_all ? s->N : position + 1};
  }
  if (E) memcpy(df_cell_cond(s->runner) + (size_t)c * E, s->cond + i * E, E * sizeof(float));
  if (df_cell_guess(s->runner))
    memcpy(df_cell_guess(s->runner) + (size_t)c * D, guess, D * sizeof *guess);
  df_cell_level(s->runner)[c] = level;
}

// Padding behind the end of the sequence.
static void pad(df_sampler *s, int c, int b, int w) {
  const size_t D = (size_t)s->D, E = (size_t)s->E;
  memset(df_cell_x(s->runner) + (size_t)c * D, 0, D * sizeof(float));
  if (E) memset(df_cell_cond(s->runner) + (size_t)c * E, 0, E * sizeof(float));
  df_cell_level(s->runner)[c] = s->grid[s->o.steps];
  df_cell_places(s->runner)[c] = (df_cell_place){b, w - s->start[b], s->N};
}

static df_status check_finite(const df_sampler *s, int b, int w, int64_t m, const float *values,
                              int n, const char *what, df_error *error) {
  for (int j = 0; j < n; j++)
    if (!isfinite(values[j]))
      return df_fail(error, DF_BAD_VALUE, "row %lld, sequence %d, token %lld: %s is %g",
                     (long long)m, b, (long long)s->info.first + w, what, (double)values[j]);
  return DF_OK;
}

// The new value of token w, which changes its level in row m, into s->moved. cell is its place in
// the batch where it falls.
static df_status move(df_sampler *s, int cell, int b, int w, int64_t m, df_error *error) {
  const float *x = s->x + df_at(s, b, w) * (size_t)s->D, clip = s->model->config.clip_noise;
  const int from = df_sampler_level(s, b, w, m), to = df_sampler_level(s, b, w, m + 1);
  const bool noisy = to > from || s->o.ancestral || (s->o.eta > 0 && to > 0);
  if (noisy) {
    df_random place = {s->o.seed, s->o.first_sequence + (uint32_t)b, df_number(s, b, w),
                       (uint32_t)m, DF_RANDOM_STEP};
    df_random_normal(&place, s->D, s->noise);
  }
  if (to > from) {
    df_noise_raise(&s->model->noise, clip, s->grid[from], s->grid[to], s->D, x, s->noise, s->moved);
    if (to == s->o.steps)
      for (int j = 0; j < s->D; j++) s->moved[j] = df_clip(s->moved[j], clip);
  } else {
    df_cell_move(s->runner, cell, s->grid[to], (float)s->o.eta, s->o.ancestral,
                 noisy ? s->noise : NULL, s->moved);
  }
  return check_finite(s, b, w, m, s->moved, s->D, "the token", error);
}

static void commit_move(df_sampler *s, int b, df_front *f, int64_t m) {
  const size_t i = df_at(s, b, f->w), n = df_news_at(s, b, f->w, m);
  memcpy(s->x + i * (size_t)s->D, s->moved, (size_t)s->D * sizeof(float));
  s->news[n] |= DF_NEW_VALUE;
  df_config_decode(&s->model->config, s->moved, s->row_values + n * (size_t)s->V);
  f->changed = true;
  f->fresh = false;
}

// Token f->w is through row m, or waits for its posterior pass: the latent handed on in a row then
// belongs to the new value at the new level.
static void pass(df_sampler *s, int b, df_front *f) {
  if (s->o.posterior && f->changed && !f->after) {
    f->after = true;
    return;
  }
  df_slot *p = &s->slots[df_at(s, b, f->w)];
  p->stale = f->ran ? !f->fresh : p->stale || f->changed || f->visited;
  f->visited = f->ran;
  f->after = f->ran = f->fresh = f->changed = false;
  f->w++;
}

// The network need not run on token f->w.
static df_status skip(df_sampler *s, int b, int64_t m, df_front *f, df_error *error) {
  const int w = f->w;
  const bool exists = s->end[b] < 0 || s->info.first + w < s->end[b];
  // Tokens that rise need no prediction: they move whether they were visited or not.
  if (s->o.allow_renoise && exists && !f->after &&
      df_sampler_level(s, b, w, m + 1) > df_sampler_level(s, b, w, m)) {
    const df_status status = move(s, 0, b, w, m, error);
    if (status) return status;
    commit_move(s, b, f, m);
  }
  pass(s, b, f);
  return DF_OK;
}

// Takes over the results of cell c.
static df_status absorb(df_sampler *s, int c, df_error *error) {
  const int b = s->cells[c].b;
  const int64_t m = s->cells[c].m;
  df_front *f = front_of(s, b, m);
  const int w = f->w, from = df_sampler_level(s, b, w, m), to = df_sampler_level(s, b, w, m + 1);
  const size_t i = df_at(s, b, w), n = df_news_at(s, b, w, m), D = (size_t)s->D, Z = (size_t)s->Z;
  const float *z = Z ? df_cell_z_next(s->runner) + (size_t)c * Z : NULL,
              *x0 = df_cell_x0(s->runner) + (size_t)c * D;
  const bool moves = !f->after && to != from;
  df_status status;
  if ((status = check_finite(s, b, w, m, z, s->Z, "the latent", error)) ||
      (status = check_finite(s, b, w, m, x0, s->D, "the clean estimate", error)) ||
      (moves && (status = move(s, c, b, w, m, error))))
    return status;
  if (Z) memcpy(s->z + i * Z, z, Z * sizeof *z);
  if (df_cell_stop(s->runner)) s->slots[i].stop = df_cell_stop(s->runner)[c];
  s->ran[m % s->R]++;
  if (!f->after && from > 0) { // a clean token is its own estimate
    memcpy(s->estimate + i * D, x0, D * sizeof *x0);
    s->news[n] |= DF_NEW_ESTIMATE;
    s->row_frames[n] = df_config_decode(&s->model->config, x0, s->row_estimates + n * (size_t)s->V);
  }
  f->ran = f->fresh = true;
  if (moves) commit_move(s, b, f, m);
  pass(s, b, f);
  return DF_OK;
}

// ---- The batch ----

// Attention: puts the tokens behind f->w, which is in the batch, into it too, as long as they are sure to be
// visited in this row. absorb() takes them one after the other.
static void take_more(df_sampler *s, int b, int64_t m, df_front *f, int *n) {
  int w = f->w + 1;
  for (; w < s->W; w++) {
    const int64_t t = s->info.first + w;
    if (s->end[b] >= 0 ? t >= s->end[b] : s->drawn && t >= s->exists[b]) break;
    if (s->sees_all ? w >= s->start[b] + s->N
                    : !falls(s, b, w, m) && is_needed(s, b, m, f, w) != YES)
      break;
    if (s->E && !s->slots[df_at(s, b, w)].given) return;
    gather(s, *n, b, w, m);
    s->cells[(*n)++] = (df_place){b, m};
  }
  for (; s->sees_all && w < s->start[b] + s->N; w++) { // padding
    pad(s, *n, b, w);
    s->cells[(*n)++] = (df_place){-1, m};
  }
}

// Moves the front of row m up to the next cell that the network has to run on, but not to `bound`.
// *runs: that cell is in the batch now.
static df_status advance(df_sampler *s, int b, int64_t m, int bound, int *n, bool *runs,
                         df_error *error) {
  df_front *f = front_of(s, b, m);
  *runs = false;
  while (f->w < bound && !f->failed) {
    const answer visit = is_visited(s, b, m, f);
    if (visit == WAIT) return DF_OK;
    df_status status = DF_OK;
    if (visit == NO) {
      status = skip(s, b, m, f, error);
    } else if (s->E && !s->slots[df_at(s, b, f->w)].given) {
      status = df_fail(error, DF_WRONG_STATE, "sequence %d, token %lld has no condition", b,
                       (long long)s->info.first + f->w);
    } else {
      gather(s, *n, b, f->w, m + f->after);
      s->cells[(*n)++] = (df_place){b, m};
      if (s->N && !s->o.posterior) take_more(s, b, m, f, n);
      *runs = true;
      return DF_OK;
    }
    f->failed = status != DF_OK;
    if (status) return status;
  }
  return DF_OK;
}

// Collects the cells that can run. *through: row info.row is. A failure in a later row waits until
// that row is the next one.
static df_status collect(df_sampler *s, int *n, bool *through, df_error *error) {
  *n = 0;
  *through = true;
  for (int b = 0; b < s->B; b++) {
    int bound = s->W;
    for (int64_t m = s->info.row; m < s->opened && bound > 0; m++) {
      const df_front *f = front_of(s, b, m);
      bool runs;
      df_error later;
      const df_status status = advance(s, b, m, bound, n, &runs, m == s->info.row ? error : &later);
      if (m == s->info.row && f->w < s->W) *through = false;
      if (m == s->info.row && status) return status;
      // Its inputs are taken, or it has still to read the latent of the token before.
      const bool taken = runs && (f->after || !s->o.posterior);
      bound = f->w == s->W ? s->W : taken ? f->w : f->w - 1;
    }
  }
  return DF_OK;
}

df_status df_wavefront_run(df_sampler *s, df_error *error) {
  df_status status = DF_OK;
  if ((status = df_wavefront_begin(s, error))) return status;
  for (int64_t m = s->info.row; m < s->opened; m++)
    for (int b = 0; b < s->B; b++) front_of(s, b, m)->failed = false;
  while (s->opened < s->info.row + s->R && (s->unbounded || s->opened + 1 < s->info.rows))
    open_row(s, s->opened++);

  for (;;) {
    int n;
    bool through;
    if ((status = collect(s, &n, &through, error)) || through) return status;
    if ((status = df_cell_run(s->runner, n, error))) return status;
    s->info.batches++;
    for (int c = 0; c < n; c++) {
      df_error later;
      if (s->cells[c].b < 0 || front_of(s, s->cells[c].b, s->cells[c].m)->failed) continue;
      const bool now = s->cells[c].m == s->info.row;
      const df_status failed = absorb(s, c, now && !status ? error : &later);
      if (!failed) continue;
      front_of(s, s->cells[c].b, s->cells[c].m)->failed = true;
      if (now && !status) status = failed;
    }
    if (status) return status;
  }
}

// ---- Latents of what is done ----

// The pass over clean tokens that a later row makes, too. What is under way stays as it is: the network keeps nothing
// from one run to the next.
df_status df_wavefront_latent(df_sampler *s, int b, int w, float *z, df_error *error) {
  const size_t Z = (size_t)s->Z;
  df_status status = s->begun ? DF_OK : check_observed(s, b, error);
  if (!status && !s->begun) status = make_initial(s, error);
  if (!status) memcpy(z, s->z0 + (size_t)b * Z, Z * sizeof *z);
  for (int v = 0; v <= w && !status; v++) {
    if (s->E && !s->slots[df_at(s, b, v)].given)
      return df_fail(error, DF_WRONG_STATE, "sequence %d, token %lld has no condition", b,
                     (long long)s->info.first + v);
    gather(s, 0, b, v, s->info.row);
    memcpy(df_cell_z(s->runner), z, Z * sizeof *z);
    status = df_cell_run(s->runner, 1, error);
    memcpy(z, df_cell_z_next(s->runner), Z * sizeof *z);
    if (!status) status = check_finite(s, b, v, s->info.row, z, s->Z, "the latent", error);
  }
  return status;
}
