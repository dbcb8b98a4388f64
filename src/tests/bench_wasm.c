// What tools/bench times inside WebAssembly and the package does not export: limits of the machine, matrix
// products of given shapes, one network by itself, and rows of a sampler that forgets. JavaScript holds the clock,
// fills the memory and reads it.
//
// A failure is a null pointer: the caller is a benchmark and ends.
#ifdef DF_BENCH // CMake links what is not a test into every test: there this file is empty
#include <wasm_simd128.h>

#include "diffusion/internal.h"
#include "nn/nn.h"

#define EXPORT(type, name) __attribute__((export_name(#name))) type bench_##name

// ---- Limits --------------------------------------------------------------------------------------

static volatile float factor = 0.999f, sink;

#ifdef __wasm_relaxed_simd__
#define STEP(x) x = wasm_f32x4_relaxed_madd(x, a, a)
#else
#define STEP(x) x = wasm_f32x4_add(wasm_f32x4_mul(x, a), a)
#endif
#define CHAINS(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(ca) X(cb)

// Twelve chains of multiply-adds that never leave the registers. Returns the operations done.
EXPORT(double, peak)(int loops) {
  const v128_t a = wasm_f32x4_splat(factor);
#define X(c) v128_t c = a;
  CHAINS(X)
#undef X
  for (int i = 0; i < loops; i++) {
#define X(c) STEP(c);
    CHAINS(X)
#undef X
  }
  float sum = 0;
#define X(c) sum += wasm_f32x4_extract_lane(c, 0);
  CHAINS(X)
#undef X
  sink = sum;
  return 2.0 * 4 * 12 * loops;
}

// Reads n floats, a multiple of 16, `passes` times.
EXPORT(void, read)(const float *x, size_t n, int passes) {
  v128_t c0 = wasm_f32x4_splat(0), c1 = c0, c2 = c0, c3 = c0;
  for (int p = 0; p < passes; p++) {
    for (size_t i = 0; i < n; i += 16) {
      c0 = wasm_v128_xor(c0, wasm_v128_load(x + i));
      c1 = wasm_v128_xor(c1, wasm_v128_load(x + i + 4));
      c2 = wasm_v128_xor(c2, wasm_v128_load(x + i + 8));
      c3 = wasm_v128_xor(c3, wasm_v128_load(x + i + 12));
    }
    __asm__ volatile("" ::: "memory"); // the next pass may not assume what it will read
  }
  c0 = wasm_v128_xor(wasm_v128_xor(c0, c1), wasm_v128_xor(c2, c3));
  sink = wasm_f32x4_extract_lane(c0, 0);
}

// ---- A matrix product ----------------------------------------------------------------------------

typedef struct product {
  float *a, *b, *bias, *c; // (m,k), (k,n), (n), (m,n): what JavaScript sees, in this order
  float *packed;
  int m, k, n;
} product;

EXPORT(void, product_free)(product *p) {
  if (!p) return;
  df_free(p->a), df_free(p->b), df_free(p->bias), df_free(p->c), df_free(p->packed);
  df_free(p);
}

EXPORT(product *, product_new)(int m, int k, int n) {
  product *p = df_alloc(sizeof *p);
  if (!p) return NULL;
  *p = (product){.m = m, .k = k, .n = n};
  p->a = df_alloc((size_t)m * k * sizeof(float));
  p->b = df_alloc((size_t)k * n * sizeof(float));
  p->bias = df_alloc((size_t)n * sizeof(float));
  p->c = df_alloc((size_t)m * n * sizeof(float));
  p->packed = df_alloc(df_kernels_best()->packed_size(n, k) * sizeof(float));
  if (p->a && p->b && p->bias && p->c && p->packed) return p;
  bench_product_free(p);
  return NULL;
}

EXPORT(void, product_pack)(product *p) {
  df_kernels_best()->pack(p->n, p->k, p->b, p->n, 1, p->packed);
}

// c = a b + bias, `calls` times.
EXPORT(void, product_run)(product *p, int calls) {
  const df_kernels *kernels = df_kernels_best();
  const df_matmul args = {.m = p->m,
                          .n = p->n,
                          .k = p->k,
                          .a = p->a,
                          .a_row = p->k,
                          .a_col = 1,
                          .b = p->packed,
                          .bias = p->bias,
                          .act = -1,
                          .c = p->c,
                          .c_row = p->n};
  for (int i = 0; i < calls; i++) kernels->matmul(&args);
}

// ---- A network -----------------------------------------------------------------------------------

// The RNN step of the benchmark: three residual blocks of width 1024, one down to the latent, a GRU, a linear
// layer, a head. Its shape is none that a model file can have, so it is built here, from the library's layers.
// tools/bench/network.mjs describes the same one to ONNX, with the same names.
enum { X = 60, Z = 128, TIME = 32, WIDTH = 1024, BLOCKS = 3 };

typedef struct network {
  float *x, *z, *time, *out, *z_next; // (batch, .): what JavaScript sees, in this order
  df_params params;
  df_graph *graph;
  df_plan *plan;
} network;

EXPORT(void, network_free)(network *net) {
  if (!net) return;
  df_plan_free(net->plan);
  df_graph_free(net->graph);
  df_params_free(&net->params);
  df_free(net);
}

static void build(df_nn *nn, df_tensor *in[3], df_tensor *out[2]) {
  df_tensor *v = df_concat((df_tensor *[]){in[1], in[0], in[2]}, 3);
  static const char *const blocks[BLOCKS] = {"before.0", "before.1", "before.2"};
  for (int i = 0; i < BLOCKS; i++) v = df_nn_residual(nn, v, WIDTH, blocks[i]);
  v = df_nn_residual(nn, v, Z, "before.3");
  v = df_nn_gru(nn, v, in[1], "gru.0");
  out[1] = df_nn_linear(nn, v, Z, "after.0");
  out[0] = df_nn_linear(nn, out[1], X, "head");
}

// The parameters can be filled at once; the plan is made by network_plan, which packs them.
EXPORT(network *, network_new)(void) {
  network *net = df_alloc(sizeof *net);
  if (!net) return NULL;
  *net = (network){0};
  df_error error = {0};
  df_graph *g = df_graph_create();
  df_tensor *out[2];
  if (g)
    build(&(df_nn){g, &net->params, &error},
          (df_tensor *[]){df_input(g, "x", 1, X, true), df_input(g, "z", 1, Z, true),
                          df_input(g, "time", 1, TIME, true)},
          out);
  const bool declared = g && !error.code;
  df_graph_free(g);
  if (declared && !df_params_seal(&net->params, &error)) return net;
  bench_network_free(net);
  return NULL;
}

// Parameter i by name (NULL past the end), and where its values are.
EXPORT(const char *, network_name)(network *net, int i) {
  return i < net->params.count ? net->params.items[i]->name : NULL;
}
EXPORT(float *, network_values)(network *net, int i) { return net->params.items[i]->value; }

// False: no memory.
EXPORT(bool, network_plan)(network *net, int batch) {
  df_plan_free(net->plan);
  df_graph_free(net->graph);
  net->plan = NULL;
  df_error error = {0};
  df_graph *g = net->graph = df_graph_create();
  if (!g) return false;
  df_tensor *in[3] = {df_input(g, "x", 1, X, true), df_input(g, "z", 1, Z, true),
                      df_input(g, "time", 1, TIME, true)};
  df_tensor *out[2];
  build(&(df_nn){g, &net->params, &error}, in, out);
  const df_plan_options options = {.batch = batch, .fixed_weights = true};
  if (error.code || df_plan_create(&net->plan, g, out, 2, &options, &error)) return false;
  net->x = df_plan_data(net->plan, in[0]);
  net->z = df_plan_data(net->plan, in[1]);
  net->time = df_plan_data(net->plan, in[2]);
  net->out = df_plan_data(net->plan, out[0]);
  net->z_next = df_plan_data(net->plan, out[1]);
  return true;
}

EXPORT(bool, network_run)(network *net, int batch, int calls) {
  df_error error;
  for (int i = 0; i < calls; i++)
    if (df_plan_run(net->plan, batch, &error)) return false;
  return true;
}

// ---- Rows of a sampler with attention ------------------------------------------------------------

// A walk through a table of which single rows are timed. `idle` is the smallest network for tokens of the same size:
// its runner takes the place of the model's in rows of which only the levels matter.
typedef struct walk {
  df_model *model, *idle;
  df_sampler *sampler, *idle_sampler;
  df_cell_runner *runner; // the model's
} walk;

EXPORT(void, walk_free)(walk *w) {
  if (!w) return;
  if (w->sampler) w->sampler->runner = w->runner;
  df_sampler_free(w->sampler), df_sampler_free(w->idle_sampler);
  df_model_free(w->model), df_model_free(w->idle);
  df_free(w);
}

// Two model files, which may be freed afterwards.
EXPORT(walk *, walk_new)(const void *model, size_t size, const void *idle, size_t idle_size) {
  walk *w = df_alloc(sizeof *w);
  df_error error;
  if (w && !df_model_open(&w->model, model, size, &error) &&
      !df_model_open(&w->idle, idle, idle_size, &error))
    return w;
  bench_walk_free(w);
  return NULL;
}

// Row 0 of a table; a length of -1 goes on and on.
EXPORT(bool, walk_begin)
(walk *w, int schedule, double uncertainty, int batch, int length, int steps) {
  df_sampler_options o = df_sampler_defaults();
  o.schedule = schedule, o.uncertainty = uncertainty;
  o.batch = batch, o.length = length, o.steps = steps;
  if (w->sampler) w->sampler->runner = w->runner;
  df_sampler_free(w->sampler), df_sampler_free(w->idle_sampler);
  w->sampler = w->idle_sampler = NULL;
  df_error error;
  if (df_sampler_create(&w->sampler, w->model, &o, &error)) return false;
  w->runner = w->sampler->runner;
  return !df_sampler_create(&w->idle_sampler, w->idle, &o, &error);
}

// The next row, with every token that it visits computed anew or not (`forgets`), by the model or by the idle network.
EXPORT(bool, walk_row)(walk *w, bool forgets, bool idle) {
  df_error error;
  w->sampler->forgetful = forgets;
  w->sampler->runner = idle ? w->idle_sampler->runner : w->runner;
  return !df_sampler_step(w->sampler, &error);
}

EXPORT(double, walk_rows)(const walk *w) { return (double)df_sampler_state(w->sampler)->rows; }
EXPORT(const float *, walk_values)(const walk *w) { return df_sampler_state(w->sampler)->values; }
EXPORT(double, walk_cells)(const walk *w) { return (double)df_sampler_state(w->sampler)->cells; }

// ---- Memory --------------------------------------------------------------------------------------

EXPORT(void *, alloc)(size_t size) { return df_alloc(size); }
EXPORT(void, free)(void *block) { df_free(block); }
#endif
