#include "train/fit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "diffusion/cell.h"

enum { BLOCK = 16, MAX_SEQUENCES = 1 << 16 }; // sequences that are computed together

struct df_fit {
  const df_config *config;
  const df_noise *noise;
  const df_params *params;
  df_fit_options o;
  df_arena arena;
  int D, Z, T, N, S; // T: tokens of a sequence at most; S = N DF_FIT_SMALL
  int blocks;
  int32_t *grid;    // (S + 1) the small steps
  int32_t *lengths; // (sequences)
  // of token t of sequence b at b T + t
  float *start, *end;   // (D) noise and clean token
  float *z;             // (Z) latent of the token before
  double *harm;         // (blocks, N) sums over the tokens
  double *distances;    // (blocks) of df_fit_distance
  pthread_mutex_t lock; // of what follows
  int done;
  atomic_bool over;
  df_error error;
};

// ---- Going down ----

// Up to BLOCK tokens on their way together.
typedef struct room {
  int sequences[BLOCK];
  float *x, *z; // (n, D), (n, Z)
  float *nodes,
      *guesses;  // (N + 1, n, D) tokens and last clean estimates at the ends of the intervals
  float *branch; // (n, D)
} room;

static df_status make_room(room *m, df_arena *arena, const df_fit *f, df_error *error) {
  const size_t tokens = sizeof(float) * BLOCK * (size_t)f->D, nodes = (size_t)f->N + 1;
  m->x = df_arena_alloc(arena, tokens);
  m->branch = df_arena_alloc(arena, tokens);
  m->nodes = df_arena_alloc(arena, nodes * tokens);
  m->guesses = df_arena_alloc(arena, nodes * tokens);
  m->z = df_arena_alloc(arena, sizeof(float) * BLOCK * (size_t)f->Z);
  return m->x && m->branch && m->nodes && m->guesses && m->z
             ? DF_OK
             : df_fail(error, DF_NO_MEMORY, "no memory for the fit");
}

// Tokens x (n, D) from level grid[S] to 0, each behind its latent z (n, Z). guess (n, D): clean estimates so
// far; NULL: none. With `nodes`, what passes the ends of the intervals is kept there.
static df_status descend(const df_fit *f, df_cell_runner *r, room *m, int n, const int32_t *grid,
                         int S, float *x, const float *guess, bool nodes, df_error *error) {
  const size_t D = (size_t)f->D, all = (size_t)n * D, bytes = all * sizeof(float);
  float *seen = df_cell_guess(r);
  memcpy(df_cell_z(r), m->z, sizeof(float) * (size_t)n * (size_t)f->Z);
  if (seen && guess) memcpy(seen, guess, bytes);
  if (seen && !guess) memset(seen, 0, bytes);
  for (int i = S; i > 0; i--) {
    if (nodes && i % DF_FIT_SMALL == 0) {
      const size_t at = (size_t)(i / DF_FIT_SMALL) * BLOCK * D;
      memcpy(m->nodes + at, x, bytes);
      if (seen) memcpy(m->guesses + at, seen, bytes);
    }
    memcpy(df_cell_x(r), x, bytes);
    for (int c = 0; c < n; c++) df_cell_level(r)[c] = grid[i];
    df_status status = df_cell_run(r, n, error);
    if (status) return status;
    for (int c = 0; c < n; c++) df_cell_move(r, c, grid[i - 1], 0, false, NULL, x + (size_t)c * D);
    if (seen) memcpy(seen, df_cell_x0(r), bytes);
  }
  return DF_OK;
}

// Once more through each interval in one step, from its upper end; harm (N) takes what that does.
static df_status branches(const df_fit *f, df_cell_runner *r, room *m, int n, double *harm,
                          df_error *error) {
  const size_t D = (size_t)f->D;
  int32_t grid[DF_FIT_INTERVALS * DF_FIT_SMALL + 1];
  df_status status = DF_OK;
  for (int k = 1; k <= f->N && !status; k++) {
    const int low = (k - 1) * DF_FIT_SMALL; // its lower end
    const size_t at = (size_t)k * BLOCK * D;
    memcpy(grid, f->grid, ((size_t)low + 1) * sizeof *grid);
    grid[low + 1] = f->grid[low + DF_FIT_SMALL];
    memcpy(m->branch, m->nodes + at, (size_t)n * D * sizeof(float));
    status = descend(f, r, m, n, grid, low + 1, m->branch, m->guesses + at, false, error);
    for (int c = 0; c < n && !status; c++) {
      double sum = 0;
      for (size_t j = (size_t)c * D; j < ((size_t)c + 1) * D; j++)
        sum += ((double)m->branch[j] - (double)m->x[j]) * ((double)m->branch[j] - (double)m->x[j]);
      harm[k - 1] += sqrt(sum);
    }
  }
  return status;
}

// The latents behind n clean tokens x as the sampler takes them: df_cell_z_next afterwards.
static df_status look_back(const df_fit *f, df_cell_runner *r, const room *m, int n,
                           df_error *error) {
  const size_t all = (size_t)n * (size_t)f->D;
  const int level = f->config->sampling.stabilization;
  memcpy(df_cell_z(r), m->z, sizeof(float) * (size_t)n * (size_t)f->Z);
  if (df_cell_guess(r)) memcpy(df_cell_guess(r), m->x, sizeof(float) * all);
  for (size_t j = 0; j < all; j++) df_cell_x(r)[j] = f->noise->sqrt_abar[level] * m->x[j];
  for (int c = 0; c < n; c++) df_cell_level(r)[c] = level;
  return df_cell_run(r, n, error);
}

// ---- Blocks of sequences, spread over the threads ----

typedef struct task {
  df_fit *f;
  df_status (*run)(const struct task *t, df_cell_runner *r, room *m, int block, df_error *error);
  const int32_t *grid; // of try_block
  int S;
} task;

static void work(void *context, int block, int thread) {
  (void)thread;
  const task *t = context;
  df_fit *f = t->f;
  df_error error = {DF_OK, ""};
  df_cell_runner *r = NULL;
  df_arena arena = {0};
  room m;
  if (f->over) return;
  pthread_mutex_lock(&f->lock); // runners share the packed weights
  df_status status = df_cell_create(&r, f->config, f->noise, f->params,
                                    &(df_cell_options){.cells = BLOCK, .threads = 1}, &error);
  pthread_mutex_unlock(&f->lock);
  if (!status) status = make_room(&m, &arena, f, &error);
  if (!status) status = t->run(t, r, &m, block, &error);
  pthread_mutex_lock(&f->lock);
  if (status && !f->over) f->error = error;
  if (status) f->over = true;
  df_cell_free(r);
  pthread_mutex_unlock(&f->lock);
  df_arena_free(&arena);
}

static df_status run(task *t, df_error *error) {
  t->f->over = false;
  df_threads_run(t->f->o.threads, t->f->blocks, work, t);
  return t->f->over ? df_fail(error, t->f->error.code, "%s", t->f->error.message) : DF_OK;
}

static df_status told(df_fit *f, int ended, df_error *error) {
  if (!ended || !f->o.report) return DF_OK;
  pthread_mutex_lock(&f->lock);
  f->done += ended;
  bool go_on = f->o.report(f->o.context, f->done, f->o.sequences);
  pthread_mutex_unlock(&f->lock);
  return go_on ? DF_OK : df_fail(error, DF_STOPPED, "stopped on request");
}

// The sequences of a block, token by token; those that have ended leave. Random numbers as in the sampler.
static df_status draw_block(const task *t, df_cell_runner *r, room *m, int block, df_error *error) {
  df_fit *f = t->f;
  const size_t D = (size_t)f->D, Z = (size_t)f->Z;
  const int first = block * BLOCK, left = f->o.sequences - first;
  int n = left < BLOCK ? left : BLOCK;
  df_status status = df_cell_initial(r, n, NULL, m->z, error);
  for (int c = 0; c < n; c++) m->sequences[c] = first + c;
  for (int w = 0; w < f->T && n > 0 && !status; w++) {
    for (int c = 0; c < n; c++) {
      const int b = m->sequences[c];
      const size_t at = (size_t)b * (size_t)f->T + (size_t)w;
      df_random place = {f->o.seed, (uint32_t)b, (uint32_t)w, 0, DF_RANDOM_START};
      float *x = m->x + (size_t)c * D;
      df_random_normal(&place, f->D, x);
      for (size_t j = 0; j < D; j++) x[j] = df_clip(x[j], f->config->clip_noise);
      memcpy(f->start + at * D, x, D * sizeof *x);
      memcpy(f->z + at * Z, m->z + (size_t)c * Z, Z * sizeof(float));
      f->lengths[b] = w + 1;
    }
    if ((status = descend(f, r, m, n, f->grid, f->S, m->x, NULL, true, error)) ||
        (status = branches(f, r, m, n, f->harm + (size_t)block * (size_t)f->N, error)) ||
        (status = look_back(f, r, m, n, error)))
      break;
    int on = 0;
    for (int c = 0; c < n; c++) {
      const int b = m->sequences[c];
      const size_t at = (size_t)b * (size_t)f->T + (size_t)w;
      memcpy(f->end + at * D, m->x + (size_t)c * D, D * sizeof(float));
      df_random place = {f->o.seed, (uint32_t)b, (uint32_t)w + 1, 0, DF_RANDOM_STOP};
      const float *stop = df_cell_stop(r);
      if (w + 1 == f->T || (stop && df_random_double(&place) < 1 / (1 + exp(-(double)stop[c]))))
        continue;
      memcpy(m->z + (size_t)on * Z, df_cell_z_next(r) + (size_t)c * Z, Z * sizeof(float));
      m->sequences[on++] = b;
    }
    status = told(f, n - on, error);
    n = on;
  }
  return status;
}

// All tokens of a block's sequences once more, over another grid.
static df_status try_block(const task *t, df_cell_runner *r, room *m, int block, df_error *error) {
  df_fit *f = t->f;
  const size_t D = (size_t)f->D, Z = (size_t)f->Z;
  df_status status = DF_OK;
  f->distances[block] = 0;
  for (int b = block * BLOCK; b < (block + 1) * BLOCK && b < f->o.sequences; b++)
    for (int w = 0, n; w < f->lengths[b] && !status; w += n) {
      const size_t at = (size_t)b * (size_t)f->T + (size_t)w;
      n = f->lengths[b] - w < BLOCK ? f->lengths[b] - w : BLOCK;
      memcpy(m->x, f->start + at * D, (size_t)n * D * sizeof(float));
      memcpy(m->z, f->z + at * Z, (size_t)n * Z * sizeof(float));
      status = descend(f, r, m, n, t->grid, t->S, m->x, NULL, false, error);
      for (size_t c = 0; c < (size_t)n && !status; c++) {
        double sum = 0;
        for (size_t j = c * D; j < (c + 1) * D; j++) {
          double e = (double)m->x[j] - (double)f->end[at * D + j];
          sum += e * e;
        }
        f->distances[block] += sqrt(sum / f->D);
      }
    }
  return status;
}

// ---- The fit ----

static df_status create(df_fit *f, df_error *error) {
  const df_config *c = f->config;
  if (c->network.condition_size || c->network.initial == DF_INITIAL_ENCODED)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "a grid is fitted to models without conditions and observations only");
  if (c->network.window)
    return df_fail(
        error, DF_NOT_SUPPORTED,
        "a grid is fitted to recurrent networks only: the fit goes from latent to latent");
  if (c->K < 2 * DF_FIT_SMALL)
    return df_fail(error, DF_NOT_SUPPORTED, "a fitted grid needs %d noise levels, found %d",
                   2 * DF_FIT_SMALL, c->K);
  if (f->o.sequences < 1 || f->o.sequences > MAX_SEQUENCES)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 1 to %d sequences, found %d", MAX_SEQUENCES,
                   f->o.sequences);
  f->D = c->network.token_size, f->Z = c->network.latent_size, f->T = c->sampling.max_tokens;
  f->N = c->K / DF_FIT_SMALL < DF_FIT_INTERVALS ? c->K / DF_FIT_SMALL : DF_FIT_INTERVALS;
  f->S = f->N * DF_FIT_SMALL;
  f->blocks = (f->o.sequences + BLOCK - 1) / BLOCK;
  const size_t tokens = (size_t)f->o.sequences * (size_t)f->T, D = (size_t)f->D;
  f->grid = df_arena_alloc(&f->arena, ((size_t)f->S + 1) * sizeof *f->grid);
  f->lengths = df_arena_alloc(&f->arena, (size_t)f->o.sequences * sizeof *f->lengths);
  f->start = df_arena_alloc(&f->arena, tokens * D * sizeof(float));
  f->end = df_arena_alloc(&f->arena, tokens * D * sizeof(float));
  f->z = df_arena_alloc(&f->arena, tokens * (size_t)f->Z * sizeof(float));
  f->harm = df_arena_alloc(&f->arena, (size_t)(f->blocks * f->N) * sizeof(double));
  f->distances = df_arena_alloc(&f->arena, (size_t)f->blocks * sizeof(double));
  if (!f->grid || !f->lengths || !f->start || !f->end || !f->z || !f->harm || !f->distances)
    return df_fail(error, DF_NO_MEMORY, "no memory for %d sequences of %d tokens", f->o.sequences,
                   f->T);
  df_status status = df_noise_grid(DF_GRID_UNIFORM, (df_warp){0}, c->K, f->S, f->grid, error);
  return status ? status : run(&(task){.f = f, .run = draw_block}, error);
}

df_status df_fit_create(df_fit **fit, const df_config *config, const df_noise *noise,
                        const df_params *params, const df_fit_options *options, df_error *error) {
  *fit = NULL;
  df_fit *f = df_alloc(sizeof *f);
  if (!f) return df_fail(error, DF_NO_MEMORY, "no memory for the fit");
  f->config = config, f->noise = noise, f->params = params, f->o = *options;
  pthread_mutex_init(&f->lock, NULL);
  df_status status = create(f, error);
  if (status)
    df_fit_free(f);
  else
    *fit = f;
  return status;
}

void df_fit_free(df_fit *f) {
  if (!f) return;
  pthread_mutex_destroy(&f->lock);
  df_arena_free(&f->arena);
  df_free(f);
}

int df_fit_tokens(const df_fit *f) {
  int tokens = 0;
  for (int b = 0; b < f->o.sequences; b++) tokens += f->lengths[b];
  return tokens;
}

void df_fit_warp(const df_fit *f, int knots, float *levels) {
  // Shares of the intervals in the integral of sqrt(g) = sqrt(d) / size; its square root over the size
  // times the size is sqrt(d).
  double share[DF_FIT_INTERVALS] = {0}, total = 0, sum = 0;
  for (int k = 0; k < f->N; k++) {
    for (int b = 0; b < f->blocks; b++) share[k] += f->harm[b * f->N + k];
    share[k] = sqrt(share[k]);
    total += share[k];
  }
  // No interval is jumped over altogether.
  for (int k = 0; k < f->N; k++) share[k] += total > 0 ? 1e-3 * total / f->N : 1;
  total = total > 0 ? 1.001 * total : f->N;
  levels[0] = 0;
  for (int i = 1, k = 0; i < knots - 1; i++) {
    const double wanted = total * i / (knots - 1);
    while (k < f->N - 1 && sum + share[k] < wanted) sum += share[k++];
    const double low = f->grid[k * DF_FIT_SMALL], high = f->grid[(k + 1) * DF_FIT_SMALL];
    char text[32];
    snprintf(text, sizeof text, "%.4g", low + (high - low) * fmin((wanted - sum) / share[k], 1));
    levels[i] = strtof(text, NULL);
  }
  levels[knots - 1] = (float)f->config->K;
}

df_status df_fit_distance(df_fit *f, const int32_t *grid, int S, double *distance,
                          df_error *error) {
  df_status status = run(&(task){.f = f, .run = try_block, .grid = grid, .S = S}, error);
  double sum = 0;
  for (int b = 0; b < f->blocks; b++) sum += f->distances[b];
  *distance = sum / df_fit_tokens(f);
  return status;
}
