#include "cli/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "base/random.h"
#include "diffusion/cell.h"
#include "diffusion/sampler.h"
#include "graph/packed.h"

enum { SEQUENCES = 64, TOKENS = 8, STEPS = 20, ROUNDS = 15 };

// ---- Differences ----

typedef struct sums {
  double squares, differences, largest;
} sums;

static void add(sums *s, const float *truth, const float *found, int n) {
  for (int i = 0; i < n; i++) {
    const double difference = fabs((double)found[i] - (double)truth[i]);
    s->squares += (double)truth[i] * (double)truth[i];
    s->differences += difference * difference;
    s->largest = fmax(s->largest, difference);
  }
}

static weights_difference difference_of(const sums *s, double numbers) {
  const double scale = sqrt(s->squares / numbers);
  if (!(scale > 0)) return (weights_difference){0};
  return (weights_difference){sqrt(s->differences / numbers) / scale, s->largest / scale};
}

// ---- Cells ----

typedef struct comparison {
  const open_model *m;
  uint64_t seed;
  int tokens, cells_at_once; // of a pass: one of each sequence, with attention the window of each
  df_cell_runner *runners[DF_WEIGHTS_COUNT];
  sums output[DF_WEIGHTS_COUNT], x0[DF_WEIGHTS_COUNT], z[DF_WEIGHTS_COUNT];
  double cells;
} comparison;

// n standard normal numbers for each cell, the first of which belong to `token`.
static void draw(const comparison *c, int token, df_purpose purpose, int n, float *out) {
  for (int i = 0; out && i < c->cells_at_once; i++) {
    const df_random at = {.seed = c->seed,
                          .sequence = (uint32_t)(i / c->tokens),
                          .token = (uint32_t)(token + i % c->tokens),
                          .purpose = purpose};
    df_random_normal(&at, n, out + (size_t)i * (size_t)n);
  }
}

// Every runner computes what the first one is set to.
static df_status run(comparison *c, df_error *error) {
  const df_network *net = &c->m->config.network;
  const size_t n = (size_t)c->cells_at_once, D = (size_t)net->token_size,
               Z = (size_t)net->latent_size, E = (size_t)net->condition_size;
  df_cell_runner *first = c->runners[0];
  for (int w = 0; w < DF_WEIGHTS_COUNT; w++) {
    df_cell_runner *r = c->runners[w];
    if (w) {
      memcpy(df_cell_x(r), df_cell_x(first), n * D * sizeof(float));
      if (Z) memcpy(df_cell_z(r), df_cell_z(first), n * Z * sizeof(float));
      memcpy(df_cell_level(r), df_cell_level(first), n * sizeof(int32_t));
      if (E) memcpy(df_cell_cond(r), df_cell_cond(first), n * E * sizeof(float));
      if (df_cell_guess(r)) memcpy(df_cell_guess(r), df_cell_guess(first), n * D * sizeof(float));
    }
    df_cell_place *places = df_cell_places(r);
    for (int i = 0; places && i < c->cells_at_once; i++) {
      const int t = i % c->tokens;
      places[i] = (df_cell_place){i / c->tokens, t, net->causal ? t + 1 : c->tokens};
    }
    const df_status status = df_cell_run(r, c->cells_at_once, error);
    if (status) return status;
    add(&c->output[w], df_cell_out(first), df_cell_out(r), (int)(n * D));
    add(&c->x0[w], df_cell_x0(first), df_cell_x0(r), (int)(n * D));
    if (Z) add(&c->z[w], df_cell_z_next(first), df_cell_z_next(r), (int)(n * Z));
  }
  c->cells += c->cells_at_once;
  return DF_OK;
}

// Token after token from noise to data; with attention, all tokens of a window together.
static df_status walk(comparison *c, float *x_next, df_error *error) {
  const df_config *config = &c->m->config;
  const df_network *net = &config->network;
  const int D = net->token_size;
  const int steps = config->K < STEPS ? config->K : STEPS;
  const size_t row = (size_t)D;
  const int cells = c->cells_at_once;
  df_cell_runner *r = c->runners[0];
  float *x = df_cell_x(r), *z = df_cell_z(r);
  int32_t grid[STEPS + 1];
  df_status status = df_noise_grid(config->sampling.grid, config->sampling.fitted_grid, config->K,
                                   steps, grid, error);
  draw(c, -1, DF_RANDOM_TEST, net->observation_size, x_next);
  if (!status) status = df_cell_initial(r, SEQUENCES, x_next, z, error);
  for (int t = 0; !status && t < TOKENS; t += c->tokens) {
    draw(c, t, DF_RANDOM_START, D, x);
    draw(c, t, DF_RANDOM_TEST, net->condition_size, df_cell_cond(r));
    for (int i = 0; i < cells * D; i++) x[i] = df_clip(x[i], config->clip_noise);
    if (df_cell_guess(r)) memset(df_cell_guess(r), 0, (size_t)cells * row * sizeof(float));
    for (int s = steps; !status && s >= 0;
         s--) { // at level 0 for the latent that the next token gets
      for (int b = 0; b < cells; b++) df_cell_level(r)[b] = grid[s];
      status = run(c, error);
      for (int b = 0; !status && s && b < cells; b++)
        df_cell_move(r, b, grid[s - 1], 0, false, NULL, x_next + (size_t)b * row);
      if (!status && s) memcpy(x, x_next, (size_t)cells * row * sizeof(float));
      if (df_cell_guess(r))
        memcpy(df_cell_guess(r), df_cell_x0(r), (size_t)cells * row * sizeof(float));
    }
    if (z) memcpy(z, df_cell_z_next(r), (size_t)cells * (size_t)net->latent_size * sizeof(float));
  }
  return status;
}

// ---- Time ----

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Medians of rounds in which the formats take turns.
static df_status time_cells(comparison *c, weights_measure *out, df_error *error) {
  double times[DF_WEIGHTS_COUNT][ROUNDS];
  for (int round = 0; round < ROUNDS; round++)
    for (int w = 0; w < DF_WEIGHTS_COUNT; w++) {
      const double start = df_seconds();
      double end = start;
      int runs = 0;
      for (; end - start < 5e-3; end = df_seconds(), runs++) {
        const df_status status = df_cell_run(c->runners[w], 1, error);
        if (status) return status;
      }
      times[w][round] = 1e6 * (end - start) / runs;
    }
  for (int w = 0; w < DF_WEIGHTS_COUNT; w++) {
    qsort(times[w], ROUNDS, sizeof times[w][0], ascending);
    out[w].microseconds = times[w][ROUNDS / 2];
  }
  return DF_OK;
}

df_status weights_compare(weights_measure *out, const open_model *m, uint64_t seed,
                          df_error *error) {
  const df_network *net = &m->config.network;
  const int tokens = net->window ? net->window : 1;
  comparison c = {.m = m, .seed = seed, .tokens = tokens, .cells_at_once = tokens * SEQUENCES};
  const int widest =
      net->observation_size > net->token_size ? net->observation_size : net->token_size;
  float *scratch = df_alloc(sizeof(float) * (size_t)c.cells_at_once * (size_t)widest);
  df_status status = scratch ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory");
  for (int w = 0; !status && w < DF_WEIGHTS_COUNT; w++)
    status = df_cell_create(&c.runners[w], &m->config, &m->model->noise, &m->model->params,
                            &(df_cell_options){.cells = c.cells_at_once,
                                               .sequences = SEQUENCES,
                                               .threads = 1,
                                               .weights = (df_weights)w},
                            error);
  if (!status) status = walk(&c, scratch, error);
  if (!status) status = time_cells(&c, out, error);
  for (int w = 0; w < DF_WEIGHTS_COUNT; w++) {
    if (!status) {
      out[w].bytes = (double)df_cell_weight_bytes(c.runners[w]);
      out[w].output = difference_of(&c.output[w], c.cells * net->token_size);
      out[w].x0 = difference_of(&c.x0[w], c.cells * net->token_size);
      if (net->latent_size) out[w].z = difference_of(&c.z[w], c.cells * net->latent_size);
    }
    df_cell_free(c.runners[w]);
  }
  df_free(scratch);
  return status;
}

// ---- What comes out ----

static void difference_text(const weights_difference *d, char *text, size_t size) {
  snprintf(text, size, "%.2g %%, %.2g %%", 100 * d->rms, 100 * d->largest);
}

char *weights_markdown(const weights_measure *measures, df_arena *arena) {
  enum { ROOM = 2048 };
  char *text = df_arena_alloc(arena, ROOM);
  if (!text) return NULL;
  size_t used = (size_t)snprintf(
      text, ROOM,
      "| weights | memory | one cell | output: rms, largest | estimate | latent |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  for (int w = 0; w < DF_WEIGHTS_COUNT; w++) {
    const weights_measure *m = &measures[w];
    char bytes[32], output[48] = "–", x0[48] = "–", z[48] = "–";
    bytes_text(m->bytes, bytes, sizeof bytes);
    if (w) {
      difference_text(&m->output, output, sizeof output);
      difference_text(&m->x0, x0, sizeof x0);
      if (m->z.largest > 0) difference_text(&m->z, z, sizeof z); // a transformer has no latent
    }
    used += (size_t)snprintf(text + used, ROOM - used, "| %s | %s | %.1f us | %s | %s | %s |\n",
                             df_weights_names[w], bytes, m->microseconds, output, x0, z);
  }
  return text;
}

static void write_difference(df_json_writer *w, const char *key, const weights_difference *d) {
  df_json_object_begin(w, key);
  df_json_put_number(w, "rms", d->rms);
  df_json_put_number(w, "largest", d->largest);
  df_json_object_end(w);
}

void weights_write(const weights_measure *measures, df_json_writer *w) {
  df_json_object_begin(w, "weights");
  for (int i = 0; i < DF_WEIGHTS_COUNT; i++) {
    const weights_measure *m = &measures[i];
    df_json_object_begin(w, df_weights_names[i]);
    df_json_put_number(w, "bytes", m->bytes);
    df_json_put_number(w, "microseconds", m->microseconds);
    write_difference(w, "output", &m->output);
    write_difference(w, "x0", &m->x0);
    write_difference(w, "z", &m->z);
    df_json_object_end(w);
  }
  df_json_object_end(w);
}
