#include "diffusion/cell.h"

#include <math.h>
#include <string.h>

struct df_cell_runner {
  const df_config *config;
  const df_noise *noise;
  df_arena arena;
  df_graph *graph;
  df_plan *plan;       // x, z, level, cond, guess -> out, z_next, stop
  df_plan *initial;    // observation -> z0
  df_plan *first_stop; // z0 -> stop before the first token; NULL without head
  int max_cells;
  float *x, *z, *index, *cond, *guess;
  float *out, *z_next, *stop;
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

static df_status create(df_cell_runner *r, df_params *params, df_weights weights, df_error *error) {
  const df_network *net = &r->config->network;
  const int D = net->token_size, Z = net->latent_size, E = net->condition_size, n = r->max_cells;
  if (!(r->graph = df_graph_create()))
    return df_fail(error, DF_NO_MEMORY, "no memory for the network");
  df_graph *g = r->graph;
  df_error declared = {0};
  df_nn nn = {g, params, &declared};

  df_tensor *z = df_input(g, "z", 1, Z, true), *x = df_input(g, "x", 1, D, true),
            *level = df_input(g, "level", 1, 1, true);
  df_tensor *cond = E ? df_input(g, "cond", 1, E, true) : NULL;
  df_tensor *guess = net->self_condition ? df_input(g, "guess", 1, D, true) : NULL;
  df_tensor *observation =
      net->observation_size ? df_input(g, "observation", 1, net->observation_size, true) : NULL;
  df_tensor *out = NULL, *z_next = NULL, *stop[2] = {NULL, NULL};
  df_unrolled cell = {.T = 1,
                      .z0 = z,
                      .x = &x,
                      .level = &level,
                      .cond = E ? &cond : NULL,
                      .guess = guess ? &guess : NULL,
                      .out = &out,
                      .z = &z_next,
                      .stop = net->stop_head ? stop : NULL};
  net->denoiser->build(net, &nn, &cell);
  df_tensor *z0 = net->denoiser->initial(net, &nn, observation);
  if (declared.code) return df_fail(error, declared.code, "%s", declared.message);

  df_plan_options options = {.batch = n, .fixed_weights = true, .weights = weights};
  df_status status = df_plan_create(&r->plan, g, (df_tensor *[]){out, z_next, stop[1]},
                                    net->stop_head ? 3 : 2, &options, error);
  if (!status) status = df_plan_create(&r->initial, g, &z0, 1, &options, error);
  options.batch = 1;
  if (!status && net->stop_head)
    status = df_plan_create(&r->first_stop, g, &stop[0], 1, &options, error);
  if (status) return status;

  bool failed = false;
  r->x = place(r, r->plan, x, n, &failed);
  r->z = place(r, r->plan, z, n, &failed);
  r->index = place(r, r->plan, level, n, &failed);
  r->out = place(r, r->plan, out, n, &failed);
  r->z_next = place(r, r->plan, z_next, n, &failed);
  r->z0 = place(r, r->initial, z0, n, &failed);
  if (cond) r->cond = place(r, r->plan, cond, n, &failed);
  if (guess) r->guess = place(r, r->plan, guess, n, &failed);
  if (observation) r->observation = place(r, r->initial, observation, n, &failed);
  if (net->stop_head) {
    r->stop = place(r, r->plan, stop[1], n, &failed);
    r->first_z = place(r, r->first_stop, z, 1, &failed);
    r->first_logit = place(r, r->first_stop, stop[0], 1, &failed);
  }
  r->level = df_arena_alloc(&r->arena, (size_t)n * sizeof *r->level);
  r->x0 = df_arena_alloc(&r->arena, (size_t)n * (size_t)D * sizeof *r->x0);
  r->eps = df_arena_alloc(&r->arena, (size_t)n * (size_t)D * sizeof *r->eps);
  if (failed || !r->level || !r->x0 || !r->eps)
    return df_fail(error, DF_NO_MEMORY, "no memory for %d cells", n);
  return DF_OK;
}

df_status df_cell_create(df_cell_runner **runner, const df_config *config, const df_noise *noise,
                         const df_params *params, int max_cells, df_weights weights,
                         df_error *error) {
  *runner = NULL;
  if (max_cells < 1)
    return df_fail(error, DF_BAD_ARGUMENT, "expected at least 1 cell, found %d", max_cells);
  df_cell_runner *r = df_alloc(sizeof *r);
  if (!r) return df_fail(error, DF_NO_MEMORY, "no memory for %d cells", max_cells);
  r->config = config;
  r->noise = noise;
  r->max_cells = max_cells;
  // The list of parameters is sealed: building the network finds them and adds none.
  df_status status = create(r, (df_params *)params, weights, error);
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
  df_plan_free(r->plan);
  df_graph_free(r->graph);
  df_arena_free(&r->arena);
  df_free(r);
}

size_t df_cell_bytes(const df_cell_runner *r) {
  return sizeof *r + r->arena.bytes + df_plan_bytes(r->plan) + df_plan_bytes(r->initial) +
         (r->first_stop ? df_plan_bytes(r->first_stop) : 0);
}

size_t df_cell_weight_bytes(const df_cell_runner *r) { return df_plan_weight_bytes(r->plan); }

float *df_cell_x(df_cell_runner *r) { return r->x; }
float *df_cell_z(df_cell_runner *r) { return r->z; }
float *df_cell_cond(df_cell_runner *r) { return r->cond; }
float *df_cell_guess(df_cell_runner *r) { return r->guess; }
int32_t *df_cell_level(df_cell_runner *r) { return r->level; }
const float *df_cell_out(const df_cell_runner *r) { return r->out; }
const float *df_cell_x0(const df_cell_runner *r) { return r->x0; }
const float *df_cell_eps(const df_cell_runner *r) { return r->eps; }
const float *df_cell_z_next(const df_cell_runner *r) { return r->z_next; }
const float *df_cell_stop(const df_cell_runner *r) { return r->stop; }

df_status df_cell_run(df_cell_runner *r, int n, df_error *error) {
  if (n < 1 || n > r->max_cells)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 1 to %d cells, found %d", r->max_cells, n);
  const int D = r->config->network.token_size;
  for (int i = 0; i < n; i++) r->index[i] = (float)df_network_level(r->level[i]);
  df_status status = df_plan_run(r->plan, n, error);
  if (status) return status;
  for (int i = 0; i < n; i++) {
    size_t at = (size_t)i * (size_t)D;
    df_predict(r->noise, r->config->objective, r->config->clip_noise, r->level[i], D, r->x + at,
               r->out + at, r->x0 + at, r->eps + at);
  }
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

df_status df_cell_first_stop(df_cell_runner *r, const float *z0, float *logit, df_error *error) {
  if (!r->first_stop) return df_fail(error, DF_NOT_SUPPORTED, "the model has no stop head");
  memcpy(r->first_z, z0, (size_t)r->config->network.latent_size * sizeof *z0);
  df_status status = df_plan_run(r->first_stop, 1, error);
  if (!status) *logit = *r->first_logit;
  return status;
}
