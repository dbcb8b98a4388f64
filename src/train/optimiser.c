// AdamW on all parameters at once: they lie in one block, and so do their gradients, moments and averages.
#include <math.h>

#include "train/internal.h"

// The block is worked on in parts of this many floats. Sums of squares are added part by part, so that
// they do not depend on the threads.
enum { PART = 1 << 14 };

static int parts(const df_optimiser *o) { return (int)((o->size + PART - 1) / PART); }

df_status df_optimiser_create(df_optimiser *o, const df_recipe *r, df_threads *threads,
                              const df_params *params, df_error *error) {
  *o = (df_optimiser){.kernels = df_kernels_best(),
                      .threads = threads,
                      .size = params->size,
                      .shards = r->shards,
                      .beta1 = r->beta1,
                      .beta2 = r->beta2,
                      .epsilon = r->epsilon,
                      .weight_decay = r->weight_decay,
                      .clip = r->clip_gradient,
                      .ema_rate = r->ema};
  size_t bytes = o->size * sizeof(float);
  o->gradients = df_alloc(bytes * o->shards);
  o->m = df_alloc(bytes);
  o->v = df_alloc(bytes);
  o->ema = df_alloc(bytes);
  o->partial = df_alloc((size_t)parts(o) * sizeof *o->partial);
  if (o->gradients && o->m && o->v && o->ema && o->partial) return DF_OK;
  df_optimiser_free(o);
  return df_fail(error, DF_NO_MEMORY, "no memory for the optimiser of %zu numbers", params->size);
}

void df_optimiser_free(df_optimiser *o) {
  df_free(o->gradients);
  df_free(o->m);
  df_free(o->v);
  df_free(o->ema);
  df_free(o->partial);
  *o = (df_optimiser){0};
}

typedef struct update {
  df_optimiser *o;
  float *values, scale, rate, ema, c1, c2;
} update;

static size_t part_size(const df_optimiser *o, int i) {
  size_t left = o->size - (size_t)i * PART;
  return left < PART ? left : PART;
}

static void add_shards(void *context, int i, int thread) {
  (void)thread;
  df_optimiser *o = ((update *)context)->o;
  size_t n = part_size(o, i);
  float *sum = o->gradients + (size_t)i * PART;
  for (int s = 1; s < o->shards; s++)
    o->kernels->binary(DF_ADD, 1, (int)n, sum, 0, 1, sum + s * o->size, 0, 1, sum, 0);
  o->partial[i] = o->kernels->sum_squares(n, sum);
}

static void apply(void *context, int i, int thread) {
  (void)thread;
  const update *u = context;
  df_optimiser *o = u->o;
  size_t at = (size_t)i * PART, n = part_size(o, i);
  o->kernels->adamw(n, u->values + at, o->gradients + at, o->m + at, o->v + at, u->scale, u->rate,
                    (float)o->beta1, (float)o->beta2, (float)o->epsilon, (float)o->weight_decay,
                    u->c1, u->c2);
  o->kernels->lerp(n, u->ema, u->values + at, o->ema + at);
}

double df_optimiser_step(df_optimiser *o, float *values, int step, double rate) {
  update u = {.o = o, .values = values, .scale = 1, .rate = (float)rate};
  df_threads_run(o->threads, parts(o), add_shards, &u);
  double sum = 0;
  for (int i = 0; i < parts(o); i++) sum += o->partial[i];
  double norm = sqrt(sum), t = step + 1.0;
  if (!isfinite(norm)) return norm;
  if (o->clip > 0 && norm > o->clip) u.scale = (float)(o->clip / norm);
  u.c1 = (float)(1 - pow(o->beta1, t));
  u.c2 = (float)(1 - pow(o->beta2, t));
  // The average forgets the initial weights faster in the beginning.
  double ema = o->ema_rate < t / (t + 9) ? o->ema_rate : t / (t + 9);
  u.ema = (float)(1 - ema);
  df_threads_run(o->threads, parts(o), apply, &u);
  return norm;
}

double df_learning_rate(const df_recipe *r, int step) {
  if (step < r->warmup) return r->rate * (step + 1) / r->warmup;
  if (!r->cosine || r->steps <= r->warmup) return r->rate;
  double part = (double)(step - r->warmup) / (r->steps - r->warmup);
  if (part > 1) part = 1;
  return r->rate_end + (r->rate - r->rate_end) * 0.5 * (1 + cos(3.14159265358979323846 * part));
}
