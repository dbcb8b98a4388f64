#include "diffusion/cell.h"

#include <math.h>
#include <string.h>

#include "base/threads.h"

enum {
  // Cells that are worth a thread: fewer cost it nearly as much, as reading the weights is most of it.
  THREAD_CELLS = 4,
  TENSORS = 9,
};

// A thread's own memory for the network. Weights are shared.
typedef struct worker {
  df_plan *plan; // x, z, level, cond, guess -> out, z_next, stop
  int first;     // cell that the plan's first row is bound to; -1: not bound yet
} worker;

// An input or result of the network: all cells, of which each thread has a part.
typedef struct tensor {
  df_tensor *t;
  float **data; // (max_cells, cols)
} tensor;

struct df_cell_runner {
  const df_config *config;
  const df_noise *noise;
  df_arena arena;
  df_graph *graph;
  df_threads *threads;
  worker *workers;
  int worker_count, worker_cells; // cells that a worker's plan has room for
  tensor tensors[TENSORS];
  int tensor_count;
  df_plan *initial;    // observation -> z0
  df_plan *first_stop; // z0 -> stop before the first token; NULL without head
  int max_cells;
  int n; // cells of the run under way
  float *x, *z, *index, *cond, *guess;
  float *out, *z_next, *stop;
  int sequences;         // with attention
  df_cell_place *places; // (max_cells)
  float *place;          // (max_cells, 3) the same as numbers
  float *first_z, *first_logit;
  float *observation, *z0;
  int32_t *level;
  float *x0, *eps;
};

// Where a tensor lies in a plan. Memory of its own if the plan does not need it: a network may
// ignore an input.
static float *place(df_cell_runner *r, const df_plan *plan, const df_tensor *t, int rows,
                    bool *failed) {
  float *data = df_plan_data(plan, t);
  if (!data) data = df_arena_alloc(&r->arena, (size_t)rows * (size_t)t->cols * sizeof *data);
  if (!data) *failed = true;
  return data;
}

// How many threads share n cells: no more than have THREAD_CELLS each. So a part may have nearly twice
// as many.
static int parts_of(int n, int threads) {
  const int most = n / THREAD_CELLS > 1 ? n / THREAD_CELLS : 1;
  return threads < most ? threads : most;
}

static void declare(df_cell_runner *r, df_tensor *t, float **data, bool *failed) {
  *data = df_arena_alloc(&r->arena, (size_t)r->max_cells * (size_t)t->cols * sizeof **data);
  if (!*data) *failed = true;
  r->tensors[r->tensor_count++] = (tensor){t, data};
}

// Binds a worker's plan to the cells from `first` on.
static df_status bind(const df_cell_runner *r, worker *w, int first, df_error *error) {
  df_status status = DF_OK;
  for (int i = 0; i < r->tensor_count && w->first != first && !status; i++) {
    const tensor *x = &r->tensors[i];
    if (df_plan_data(w->plan, x->t)) // a network may ignore an input
      status = df_plan_bind(w->plan, x->t, *x->data + (size_t)first * (size_t)x->t->cols, error);
  }
  w->first = status ? -1 : first;
  return status;
}

// Memory for the keys and values of all layers; NULL: there is none (*error).
static df_tensor **keep(df_cell_runner *r, const df_cell_options *options, df_error *error) {
  const df_network *net = &r->config->network;
  const int floats = df_attention_kept_size(net->network_size, net->window);
  r->sequences = options->sequences ? options->sequences : r->max_cells;
  df_tensor **kept = df_arena_alloc(&r->arena, (size_t)net->layers * sizeof(df_tensor *));
  for (int i = 0; kept && i < net->layers; i++) {
    float *memory =
        df_arena_alloc(&r->arena, (size_t)r->sequences * (size_t)floats * sizeof(float));
    kept[i] = memory ? df_memory(r->graph, "kept", r->sequences, floats, memory) : NULL;
    if (!kept[i]) kept = NULL;
  }
  r->places = df_arena_alloc(&r->arena, (size_t)r->max_cells * sizeof *r->places);
  if (kept && r->places) return kept;
  df_fail(error, DF_NO_MEMORY, "no memory for the keys and values of %d sequences", r->sequences);
  return NULL;
}

static df_status create(df_cell_runner *r, df_params *params, const df_cell_options *options,
                        df_error *error) {
  const df_network *net = &r->config->network;
  const int D = net->token_size, Z = net->latent_size, E = net->condition_size, n = r->max_cells;
  if (!(r->graph = df_graph_create()))
    return df_fail(error, DF_NO_MEMORY, "no memory for the network");
  df_graph *g = r->graph;
  df_error declared = {0};
  df_nn nn = {g, params, &declared};

  df_tensor *z = Z ? df_input(g, "z", 1, Z, true) : NULL, *x = df_input(g, "x", 1, D, true),
            *level = df_input(g, "level", 1, 1, true);
  df_tensor *cond = E ? df_input(g, "cond", 1, E, true) : NULL;
  df_tensor *guess = net->self_condition ? df_input(g, "guess", 1, D, true) : NULL;
  df_tensor *observation =
      net->observation_size ? df_input(g, "observation", 1, net->observation_size, true) : NULL;
  df_tensor *place_of = net->window ? df_input(g, "place", 1, 3, true) : NULL, **kept = NULL;
  if (net->window && !(kept = keep(r, options, error))) return DF_NO_MEMORY;
  df_tensor *out = NULL, *z_next = NULL, *stop[2] = {NULL, NULL};
  df_unrolled cell = {.T = 1,
                      .z0 = z,
                      .x = &x,
                      .level = &level,
                      .cond = E ? &cond : NULL,
                      .guess = guess ? &guess : NULL,
                      .kept = kept,
                      .place = place_of,
                      .out = &out,
                      .z = &z_next,
                      .stop = net->stop_head ? stop : NULL};
  net->denoiser->build(net, &nn, &cell);
  df_tensor *z0 = Z ? net->denoiser->initial(net, &nn, observation) : NULL;
  if (declared.code) return df_fail(error, declared.code, "%s", declared.message);

  df_status status = df_threads_create(&r->threads, options->threads, error);
  if (status) return status;
  const int threads = df_threads_count(r->threads);
  r->worker_count = parts_of(n, threads);
  r->worker_cells = (n + r->worker_count - 1) / r->worker_count;
  if (r->worker_cells < 2 * THREAD_CELLS) r->worker_cells = 2 * THREAD_CELLS;
  r->worker_cells += net->window; // a sequence is never cut in two
  if (r->worker_cells > n) r->worker_cells = n;
  r->workers = df_arena_alloc(&r->arena, (size_t)r->worker_count * sizeof *r->workers);
  if (!r->workers) return df_fail(error, DF_NO_MEMORY, "no memory for %d threads", threads);

  df_tensor *outputs[3] = {out};
  int outs = 1;
  if (Z) outputs[outs++] = z_next;
  if (net->stop_head) outputs[outs++] = stop[1];
  df_plan_options plan = {
      .batch = r->worker_cells, .fixed_weights = true, .weights = options->weights};
  for (int i = 0; i < r->worker_count && !status; i++) {
    r->workers[i].first = -1;
    status = df_plan_create(&r->workers[i].plan, g, outputs, outs, &plan, error);
  }
  plan.batch = n;
  if (!status && Z) status = df_plan_create(&r->initial, g, &z0, 1, &plan, error);
  plan.batch = 1;
  if (!status && net->stop_head)
    status = df_plan_create(&r->first_stop, g, &stop[0], 1, &plan, error);
  if (status) return status;

  bool failed = false;
  declare(r, x, &r->x, &failed);
  if (Z) declare(r, z, &r->z, &failed);
  declare(r, level, &r->index, &failed);
  if (place_of) declare(r, place_of, &r->place, &failed);
  declare(r, out, &r->out, &failed);
  if (Z) declare(r, z_next, &r->z_next, &failed);
  if (cond) declare(r, cond, &r->cond, &failed);
  if (guess) declare(r, guess, &r->guess, &failed);
  if (net->stop_head) declare(r, stop[1], &r->stop, &failed);
  if (Z) r->z0 = place(r, r->initial, z0, n, &failed);
  if (observation) r->observation = place(r, r->initial, observation, n, &failed);
  if (net->stop_head) {
    if (Z) r->first_z = place(r, r->first_stop, z, 1, &failed);
    r->first_logit = place(r, r->first_stop, stop[0], 1, &failed);
  }
  r->level = df_arena_alloc(&r->arena, (size_t)n * sizeof *r->level);
  r->x0 = df_arena_alloc(&r->arena, (size_t)n * (size_t)D * sizeof *r->x0);
  r->eps = df_arena_alloc(&r->arena, (size_t)n * (size_t)D * sizeof *r->eps);
  if (failed || !r->level || !r->x0 || !r->eps)
    return df_fail(error, DF_NO_MEMORY, "no memory for %d cells", n);
  for (int i = 0; i < r->worker_count && !status; i++)
    status = bind(r, &r->workers[i], 0, error); // before the first run: it may not fail later
  return status;
}

df_status df_cell_create(df_cell_runner **runner, const df_config *config, const df_noise *noise,
                         const df_params *params, const df_cell_options *options, df_error *error) {
  *runner = NULL;
  const int max_cells = options->cells;
  if (max_cells < 1)
    return df_fail(error, DF_BAD_ARGUMENT, "expected at least 1 cell, found %d", max_cells);
  df_cell_runner *r = df_alloc(sizeof *r);
  if (!r) return df_fail(error, DF_NO_MEMORY, "no memory for %d cells", max_cells);
  r->config = config;
  r->noise = noise;
  r->max_cells = max_cells;
  // The list of parameters is sealed: building the network finds them and adds none.
  df_status status = create(r, (df_params *)params, options, error);
  if (status)
    df_cell_free(r);
  else
    *runner = r;
  return status;
}

void df_cell_free(df_cell_runner *r) {
  if (!r) return;
  df_plan_free(r->first_stop);
  df_plan_free(r->initial);
  for (int i = 0; r->workers && i < r->worker_count; i++) df_plan_free(r->workers[i].plan);
  df_threads_free(r->threads);
  df_graph_free(r->graph);
  df_arena_free(&r->arena);
  df_free(r);
}

size_t df_cell_bytes(const df_cell_runner *r) {
  size_t bytes = sizeof *r + r->arena.bytes + (r->initial ? df_plan_bytes(r->initial) : 0) +
                 (r->first_stop ? df_plan_bytes(r->first_stop) : 0);
  for (int i = 0; i < r->worker_count; i++) bytes += df_plan_bytes(r->workers[i].plan);
  return bytes;
}

size_t df_cell_weight_bytes(const df_cell_runner *r) {
  return df_plan_weight_bytes(r->workers[0].plan);
}

float *df_cell_x(df_cell_runner *r) { return r->x; }
float *df_cell_z(df_cell_runner *r) { return r->z; }
float *df_cell_cond(df_cell_runner *r) { return r->cond; }
float *df_cell_guess(df_cell_runner *r) { return r->guess; }
df_cell_place *df_cell_places(df_cell_runner *r) { return r->places; }
int32_t *df_cell_level(df_cell_runner *r) { return r->level; }
const float *df_cell_out(const df_cell_runner *r) { return r->out; }
const float *df_cell_x0(const df_cell_runner *r) { return r->x0; }
const float *df_cell_eps(const df_cell_runner *r) { return r->eps; }
const float *df_cell_z_next(const df_cell_runner *r) { return r->z_next; }
const float *df_cell_stop(const df_cell_runner *r) { return r->stop; }

// Where part i of the cells begins. With attention cells of a sequence see each other, so they stay together.
static int begin_of(const df_cell_runner *r, int i) {
  int c = (int)((int64_t)r->n * i / parts_of(r->n, r->worker_count));
  while (r->places && c > 0 && c < r->n && r->places[c].sequence == r->places[c - 1].sequence) c++;
  return c;
}

// Part i of the cells, on a plan of its own: what it fails with was checked before.
static void run_part(void *context, int i, int thread) {
  (void)thread;
  df_cell_runner *r = context;
  const int first = begin_of(r, i), end = begin_of(r, i + 1);
  if (first == end) return;
  const size_t D = (size_t)r->config->network.token_size;
  for (int c = first; c < end; c++) {
    r->index[c] = (float)df_network_level(r->level[c]);
    if (!r->places) continue;
    const df_cell_place *p = &r->places[c];
    float *to = r->place + 3 * (size_t)c;
    to[0] = (float)p->sequence, to[1] = (float)p->position, to[2] = (float)p->seen;
  }
  df_error never;
  bind(r, &r->workers[i], first, &never);
  df_plan_run(r->workers[i].plan, end - first, &never);
  for (int c = first; c < end; c++)
    df_predict(r->noise, r->config->objective, r->config->clip_noise, r->level[c], (int)D,
               r->x + (size_t)c * D, r->out + (size_t)c * D, r->x0 + (size_t)c * D,
               r->eps + (size_t)c * D);
}

df_status df_cell_run(df_cell_runner *r, int n, df_error *error) {
  if (n < 1 || n > r->max_cells)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 1 to %d cells, found %d", r->max_cells, n);
  r->n = n;
  df_threads_run(r->threads, parts_of(n, r->worker_count), run_part, r);
  return DF_OK;
}

void df_cell_move(const df_cell_runner *r, int i, int to, float eta, bool ancestral,
                  const float *noise, float *x_next) {
  const int D = r->config->network.token_size, from = r->level[i];
  const df_noise *table = r->noise;
  const float *x = r->x + (size_t)i * (size_t)D, *x0 = r->x0 + (size_t)i * (size_t)D,
              *eps = r->eps + (size_t)i * (size_t)D;
  const float clip = r->config->clip_noise;
  if (to == from) {
    memcpy(x_next, x, (size_t)D * sizeof *x_next);
    return;
  }
  df_move move = {0};
  float a = 0; // x_next = move.a x0 + move.c eps + a x + move.sigma noise
  if (ancestral) {
    a = table->posterior_mean_x[from];
    move.a = table->posterior_mean_x0[from];
    move.sigma = from > 1 ? expf(0.5f * table->posterior_log_variance[from]) : 0;
  } else {
    move = df_noise_move(table, from, to, eta);
  }
  if (move.sigma == 0) noise = NULL;
  for (int j = 0; j < D; j++)
    x_next[j] = move.a * x0[j] + (move.c * eps[j] + a * x[j]) +
                move.sigma * (noise ? df_clip(noise[j], clip) : 0);
}

df_status df_cell_initial(df_cell_runner *r, int n, const float *observation, float *z0,
                          df_error *error) {
  if (n < 1 || n > r->max_cells)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 1 to %d sequences, found %d", r->max_cells, n);
  const df_network *net = &r->config->network;
  if (!net->latent_size) return DF_OK;
  if (r->observation) {
    if (!observation)
      return df_fail(error, DF_WRONG_STATE,
                     "the initial latent is encoded from an observation, and there is none");
    memcpy(r->observation, observation,
           (size_t)n * (size_t)net->observation_size * sizeof *observation);
  }
  df_status status = df_plan_run(r->initial, n, error);
  if (!status) memcpy(z0, r->z0, (size_t)n * (size_t)net->latent_size * sizeof *z0);
  return status;
}

// Token t of B sequences, between to (B, n) and all (B, T, n).
static void pick(float *to, const float *all, int B, int T, int t, int n) {
  for (int b = 0; to && b < B; b++)
    memcpy(to + (size_t)b * (size_t)n, all + ((size_t)b * (size_t)T + (size_t)t) * (size_t)n,
           (size_t)n * sizeof *to);
}
static void put(float *all, const float *from, int B, int T, int t, int n) {
  for (int b = 0; b < B; b++)
    memcpy(all + ((size_t)b * (size_t)T + (size_t)t) * (size_t)n, from + (size_t)b * (size_t)n,
           (size_t)n * sizeof *all);
}

// All tokens of all sequences in one run.
static df_status unroll_window(df_cell_runner *r, int B, int T, const df_cell_tokens *in,
                               float *out, df_error *error) {
  const df_network *net = &r->config->network;
  const size_t n = (size_t)B * (size_t)T, D = (size_t)net->token_size,
               E = (size_t)net->condition_size;
  memcpy(r->x, in->x, n * D * sizeof *r->x);
  memcpy(r->level, in->level, n * sizeof *r->level);
  if (r->cond) memcpy(r->cond, in->cond, n * E * sizeof *r->cond);
  for (int c = 0; c < B * T; c++)
    r->places[c] = (df_cell_place){c / T, c % T, net->causal ? c % T + 1 : T};
  const df_status status = df_cell_run(r, B * T, error);
  if (!status) memcpy(out, r->out, n * D * sizeof *out);
  return status;
}

df_status df_cell_unroll(df_cell_runner *r, int B, int T, const df_cell_tokens *in, float *out,
                         float *z, df_error *error) {
  const df_network *net = &r->config->network;
  const int most = net->window ? r->max_cells / T : r->max_cells;
  if (B < 1 || B > most)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 1 to %d sequences, found %d", most, B);
  if (net->window) return unroll_window(r, B, T, in, out, error);
  const int D = net->token_size, Z = net->latent_size;
  memcpy(r->z, in->z0, (size_t)B * (size_t)Z * sizeof *r->z);
  for (int t = 0; t < T; t++) {
    pick(r->x, in->x, B, T, t, D);
    pick(r->cond, in->cond, B, T, t, net->condition_size);
    pick(r->guess, in->guess, B, T, t, D);
    for (int b = 0; b < B; b++) r->level[b] = in->level[(size_t)b * (size_t)T + (size_t)t];
    df_status status = df_cell_run(r, B, error);
    if (status) return status;
    put(out, r->out, B, T, t, D);
    put(z, r->z_next, B, T, t, Z);
    memcpy(r->z, r->z_next, (size_t)B * (size_t)Z * sizeof *r->z);
  }
  return DF_OK;
}

df_status df_cell_first_stop(df_cell_runner *r, const float *z0, float *logit, df_error *error) {
  if (!r->first_stop) return df_fail(error, DF_NOT_SUPPORTED, "the model has no stop head");
  if (r->first_z) memcpy(r->first_z, z0, (size_t)r->config->network.latent_size * sizeof *z0);
  df_status status = df_plan_run(r->first_stop, 1, error);
  if (!status) *logit = *r->first_logit;
  return status;
}
