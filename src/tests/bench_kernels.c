// Speed of the kernels: bench_kernels [int8|attention|elementwise] [table ...] [m,k,n ...]; kernels/README.md has the commands and a
// result. Without tables all, without shapes those of main and the elementwise functions.
//
// Matrix products in GFLOP/s and as a share of a limit that is measured before and after each, with the
// same instruction set: on a shared machine only ratios of one run mean something. The limit is
// multiply-adds that stay in registers; for one row, which is read-bound, a loop that adds up the packed
// B. Built with DF_BENCH_BLAS, also as a share of what OpenBLAS does between two runs of ours.
// A figure is the median of rounds in which all tables take turns.
#ifdef DF_BENCH // CMake links what is not a test into every test: there this file is empty
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "kernels/kernels.h"

#ifdef __EMSCRIPTEN__
#include <wasi/api.h>
#endif
#ifdef DF_BENCH_BLAS
#include <cblas.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { ROUNDS = 15, TABLES = 4 };
static const double least = 5e-4; // seconds per measurement

// Seconds that this thread has run: others may be running too.
static double now(void) {
#ifdef __EMSCRIPTEN__
  __wasi_timestamp_t t;
  if (__wasi_clock_time_get(__WASI_CLOCKID_THREAD_CPUTIME_ID, 1, &t)) exit(1);
  return 1e-9 * (double)t;
#else
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double x[ROUNDS]) {
  qsort(x, ROUNDS, sizeof *x, compare);
  return x[ROUNDS / 2];
}

// ---- Peak ----------------------------------------------------------------------------------------

static volatile float factor = 0.999f, sink;

// Twelve chains of multiply and add that never leave the registers; returns the operations per lane.
#define PEAK(name, attribute, type, set, step, first)                                              \
  attribute static double peak_##name(void) {                                                      \
    const type a = set(factor);                                                                    \
    type c0 = set(factor), c1 = set(factor), c2 = set(factor), c3 = set(factor), c4 = set(factor), \
         c5 = set(factor), c6 = set(factor), c7 = set(factor), c8 = set(factor), c9 = set(factor), \
         ca = set(factor), cb = set(factor);                                                       \
    for (int i = 0; i < 100000; i++) {                                                             \
      c0 = step(c0, a, a), c1 = step(c1, a, a), c2 = step(c2, a, a), c3 = step(c3, a, a);          \
      c4 = step(c4, a, a), c5 = step(c5, a, a), c6 = step(c6, a, a), c7 = step(c7, a, a);          \
      c8 = step(c8, a, a), c9 = step(c9, a, a), ca = step(ca, a, a), cb = step(cb, a, a);          \
    }                                                                                              \
    sink = first(c0) + first(c1) + first(c2) + first(c3) + first(c4) + first(c5) + first(c6) +     \
           first(c7) + first(c8) + first(c9) + first(ca) + first(cb);                              \
    return 2.0 * 12 * 100000;                                                                      \
  }

// Adds up n floats, with eight chains.
#define READ(name, attribute, type, load, set, add, first)                                         \
  attribute static void read_##name(const float *p, size_t n) {                                    \
    enum { W = sizeof(type) / sizeof(float) };                                                     \
    type c0 = set(0), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0;               \
    for (const float *end = p + n / (8 * W) * (8 * W); p < end; p += 8 * W) {                      \
      c0 = add(c0, load(p)), c1 = add(c1, load(p + W));                                            \
      c2 = add(c2, load(p + 2 * W)), c3 = add(c3, load(p + 3 * W));                                \
      c4 = add(c4, load(p + 4 * W)), c5 = add(c5, load(p + 5 * W));                                \
      c6 = add(c6, load(p + 6 * W)), c7 = add(c7, load(p + 7 * W));                                \
    }                                                                                              \
    sink = first(c0) + first(c1) + first(c2) + first(c3) + first(c4) + first(c5) + first(c6) +     \
           first(c7);                                                                              \
  }

#define SAME(x)          (x)
#define MUL_ADD(a, b, c) ((a) * (b) + (c))
#define ADD(a, b)        ((a) + (b))
#define AT(p)            (*(p))
PEAK(scalar, , float, SAME, MUL_ADD, SAME)
READ(scalar, , float, AT, SAME, ADD, SAME)
#if defined(__x86_64__)
#define AVX2   __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f")))
PEAK(avx2, AVX2, __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32)
READ(avx2, AVX2, __m256, _mm256_loadu_ps, _mm256_set1_ps, _mm256_add_ps, _mm256_cvtss_f32)
PEAK(avx512, AVX512, __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32)
READ(avx512, AVX512, __m512, _mm512_loadu_ps, _mm512_set1_ps, _mm512_add_ps, _mm512_cvtss_f32)
#elif defined(__wasm_simd128__)
#define LANE(x)            wasm_f32x4_extract_lane(x, 0)
#define SIMD_STEP(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
PEAK(simd128, , v128_t, wasm_f32x4_splat, SIMD_STEP, LANE)
READ(simd128, , v128_t, wasm_v128_load, wasm_f32x4_splat, wasm_f32x4_add, LANE)
#if defined(__wasm_relaxed_simd__)
PEAK(relaxed, , v128_t, wasm_f32x4_splat, wasm_f32x4_relaxed_madd, LANE)
#endif
#elif defined(__aarch64__)
#define LANE(x)            vgetq_lane_f32(x, 0)
#define NEON_STEP(a, b, c) vfmaq_f32(c, a, b)
PEAK(neon, , float32x4_t, vdupq_n_f32, NEON_STEP, LANE)
READ(neon, , float32x4_t, vld1q_f32, vdupq_n_f32, vaddq_f32, LANE)
#endif

typedef struct limit {
  const char *name;
  double (*peak)(void);
  void (*read)(const float *, size_t);
} limit;

static const limit limits[] = {
    {"scalar", peak_scalar, read_scalar},
#if defined(__x86_64__)
    {"avx2", peak_avx2, read_avx2},
    {"avx512", peak_avx512, read_avx512},
#elif defined(__wasm_simd128__)
    {"simd128", peak_simd128, read_simd128},
#if defined(__wasm_relaxed_simd__)
    {"relaxed", peak_relaxed, read_simd128},
#endif
#elif defined(__aarch64__)
    {"neon", peak_neon, read_neon},
#endif
};

#define TIMED(seconds, call)                                                                       \
  do {                                                                                             \
    int calls_ = 1;                                                                                \
    for (;; calls_ *= 2) {                                                                         \
      const double start_ = now();                                                                 \
      for (int c_ = 0; c_ < calls_; c_++) call;                                                    \
      seconds = now() - start_;                                                                    \
      if (seconds > least) break;                                                                  \
    }                                                                                              \
    seconds /= calls_;                                                                             \
  } while (0)

// V8 compiles twice, first fast and then well.
#define WARM(call)                                                                                 \
  do {                                                                                             \
    for (const double start_ = now(); now() - start_ < 2e-2;) call;                                \
  } while (0)

// What the machine allows just now, in GFLOP/s, for m rows and the packed B of n columns.
static double limit_now(const df_kernels *K, int m, int n, int k, const float *b) {
  const limit *l = limits;
  while (strcmp(l->name, K->name)) l++;
  double seconds, operations;
  if (m == 1) {
    TIMED(seconds, l->read(b, K->packed_size(n, k)));
    return 2e-9 * n * k / seconds;
  }
  TIMED(seconds, operations = l->peak() * K->width);
  return operations / seconds * 1e-9;
}

// ---- Cases ---------------------------------------------------------------------------------------

static const df_kernels *tables[TABLES];
static int table_count;

static float *numbers(size_t n) {
  float *x = df_alloc(n * sizeof(float));
  for (size_t i = 0; x && i < n; i++) x[i] = (float)((i * 2654435761u >> 8) % 2001) * 1e-3f - 1;
  if (!x) exit(1);
  return x;
}

// The product; a gradient of weights (A is a transpose) packs B first.
static void run(const df_kernels *K, const df_matmul *p, const float *b, float *packed) {
  if (p->a_col != 1) K->pack(p->n, p->k, b, p->n, 1, packed);
  K->matmul(p);
}

#ifdef DF_BENCH_BLAS
static void blas(const df_matmul *p, const float *b) {
  if (p->m == 1 && p->a_col == 1)
    cblas_sgemv(CblasRowMajor, CblasTrans, p->k, p->n, 1, b, p->n, p->a, 1, 0, p->c, 1);
  else
    cblas_sgemm(CblasRowMajor, p->a_col == 1 ? CblasNoTrans : CblasTrans, CblasNoTrans, p->m, p->n,
                p->k, 1, p->a, p->a_col == 1 ? (int)p->a_row : (int)p->a_col, b, p->n,
                p->residual ? 1 : 0, p->c, (int)p->c_row);
}
#endif

static void products(const char *title, bool transposed, int count, const int (*shapes)[3]) {
  printf("\n%s\n     m     k     n", title);
  for (int t = 0; t < table_count; t++) {
    printf("  %10s limit", tables[t]->name);
#ifdef DF_BENCH_BLAS
    printf("  BLAS");
#endif
  }
  printf("\n");
  for (int s = 0; s < count; s++) {
    const int m = shapes[s][0], k = shapes[s][1], n = shapes[s][2];
    float *a = numbers((size_t)m * k), *b = numbers((size_t)k * n), *c = numbers((size_t)m * n);
    float *bias = numbers((size_t)n), *packed[TABLES];
    double speed[TABLES][ROUNDS], share[TABLES][ROUNDS];
#ifdef DF_BENCH_BLAS
    double of_blas[TABLES][ROUNDS];
#endif
    for (int t = 0; t < table_count; t++) {
      packed[t] = df_alloc(tables[t]->packed_size(n, k) * sizeof(float));
      tables[t]->pack(n, k, b, n, 1, packed[t]);
    }
    for (int r = 0; r < ROUNDS; r++)
      for (int t = 0; t < table_count; t++) {
        const df_kernels *K = tables[t];
        const df_matmul p = {.m = m,
                             .n = n,
                             .k = k,
                             .a = a,
                             .b = packed[t],
                             .act = -1,
                             .a_row = transposed ? 1 : k,
                             .a_col = transposed ? m : 1,
                             .bias = transposed ? NULL : bias,
                             .residual = transposed ? c : NULL,
                             .residual_row = n,
                             .c = c,
                             .c_row = n};
        if (r == 0) WARM(run(K, &p, b, packed[t]));
        const double before = limit_now(K, m, n, k, packed[t]);
        double seconds;
        TIMED(seconds, run(K, &p, b, packed[t]));
        const double after = limit_now(K, m, n, k, packed[t]);
        speed[t][r] = 2e-9 * m * n * k / seconds;
        share[t][r] = speed[t][r] / (0.5 * (before + after));
#ifdef DF_BENCH_BLAS
        double theirs, again;
        TIMED(theirs, blas(&p, b));
        TIMED(again, run(K, &p, b, packed[t]));
        of_blas[t][r] = theirs / (0.5 * (seconds + again));
#endif
      }
    printf("%6d%6d%6d", m, k, n);
    for (int t = 0; t < table_count; t++) {
      printf("  %10.1f  %3.0f%%", median(speed[t]), 100 * median(share[t]));
#ifdef DF_BENCH_BLAS
      printf("  %3.0f%%", 100 * median(of_blas[t]));
#endif
    }
    printf("\n");
    fflush(stdout);
    for (int t = 0; t < table_count; t++) df_free(packed[t]);
    df_free(a), df_free(b), df_free(c), df_free(bias);
  }
}

// Weights in 8 bits against float32: GFLOP/s of both, and how many times as fast. The two figures of a round are
// taken one after the other.
static void int8_products(void) {
  static const int rows[] = {1, 8, 32};
  static const int shapes[][2] = {{256, 256}, {256, 768}, {384, 384}, {1024, 1024}, {1024, 3072}};
  printf("\nweights in 8 bits\n     m     k     n");
  for (int t = 0; t < table_count; t++) printf("  %10s    int8", tables[t]->name);
  printf("\n");
  for (int s = 0; s < COUNT(shapes) * COUNT(rows); s++) {
    const int m = rows[s / COUNT(shapes)], k = shapes[s % COUNT(shapes)][0];
    const int n = shapes[s % COUNT(shapes)][1];
    float *a = numbers((size_t)m * k), *b = numbers((size_t)k * n), *c = numbers((size_t)m * n);
    printf("%6d%6d%6d", m, k, n);
    for (int t = 0; t < table_count; t++) {
      const df_kernels *K = tables[t];
      float *plain = df_alloc(K->packed_size(n, k) * sizeof(float));
      float *bytes = df_alloc(K->int8_size(n, k) * sizeof(float));
      K->pack(n, k, b, n, 1, plain);
      K->int8_pack(n, k, b, n, 1, bytes);
      double speed[2][ROUNDS], times[ROUNDS];
      for (int r = 0; r < ROUNDS; r++) {
        df_matmul p = {.m = m, .n = n, .k = k, .a = a, .a_row = k, .a_col = 1, .act = -1};
        double seconds[2];
        p.c = c, p.c_row = n;
        p.b = plain;
        TIMED(seconds[0], K->matmul(&p));
        p.b = bytes;
        TIMED(seconds[1], K->int8_matmul(&p));
        for (int f = 0; f < 2; f++) speed[f][r] = 2e-9 * m * n * k / seconds[f];
        times[r] = seconds[0] / seconds[1];
      }
      printf("  %10.1f%8.1f %4.2fx", median(speed[0]), median(speed[1]), median(times));
      df_free(plain), df_free(bytes);
    }
    printf("\n");
    fflush(stdout);
    df_free(a), df_free(b), df_free(c);
  }
}

// Attention of a layer of C columns to T rows: one row, that sees T with itself; T rows, each of which sees those before
// it; the derivative of that. GFLOP/s, as a share of multiply-adds in registers, and the time beside that of the layer's
// linear maps, 12 C^2 multiply-adds for each row (of the derivative: 24 C^2).
static void attention(void) {
  static const int shapes[][3] = {{60, 128, 4}, {60, 512, 8}, {250, 256, 8}};
  static const char *const names[] = {"one row", "all rows", "derivative"};
  printf("\nattention        T     C heads");
  for (int t = 0; t < table_count; t++) printf("  %10s limit  of layer", tables[t]->name);
  printf("\n");
  for (int s = 0; s < COUNT(shapes) * COUNT(names); s++) {
    const int *shape = shapes[s / COUNT(names)], what = s % COUNT(names);
    const int T = shape[0], cols = shape[1], heads = shape[2], row = df_keys_row(T);
    const int rows = what ? T : 1;
    const size_t n = (size_t)T * (size_t)cols;
    float *qkv = numbers(3 * n), *turned = numbers((size_t)row * (size_t)cols);
    float *y = numbers(n), *d = numbers(3 * n), *b = numbers((size_t)(12 * cols * cols));
    float *c = numbers((size_t)(12 * rows * cols));
    const df_query p = {.rows = rows,
                        .heads = heads,
                        .size = cols / heads,
                        .self = T - rows,
                        .seen = T - rows,
                        .more = 1,
                        .q = qkv,
                        .q_row = 3 * cols,
                        .keys = turned,
                        .keys_row = row,
                        .values = qkv + 2 * cols,
                        .values_row = 3 * cols,
                        .y = y,
                        .y_row = cols};
    const df_query_grad g = {.keys = qkv + cols,
                             .values = turned,
                             .dy = y,
                             .dy_row = cols,
                             .dq = d,
                             .dk = d + cols,
                             .dv = d + 2 * cols,
                             .d_row = 3 * cols};
    printf("%-14s%4d  %4d  %4d", names[what], T, cols, heads);
    for (int t = 0; t < table_count; t++) {
      const df_kernels *K = tables[t];
      float *packed = df_alloc(K->packed_size(12 * cols, cols) * sizeof(float));
      K->pack(12 * cols, cols, b, 12 * cols, 1, packed);
      const df_matmul linear = {.m = rows,
                                .n = 12 * cols,
                                .k = cols,
                                .a = qkv,
                                .a_row = cols,
                                .a_col = 1,
                                .b = packed,
                                .act = -1,
                                .c = c,
                                .c_row = 12 * cols};
      double speed[ROUNDS], share[ROUNDS], of_layer[ROUNDS];
      // keys that a row is multiplied with, and as many values; the derivative has 5 such products
      const double keys = what ? 0.5 * T * (T + 1) : T;
      const double operations = (what == 2 ? 5 : 2) * 2 * keys * cols;
      for (int r = 0; r < ROUNDS; r++) {
        double seconds, layer;
        if (r == 0) WARM(what == 2 ? K->attention_grad(&p, &g) : K->attention(&p));
        const double before = limit_now(K, 2, 0, 0, NULL);
        TIMED(seconds, what == 2 ? K->attention_grad(&p, &g) : K->attention(&p));
        const double after = limit_now(K, 2, 0, 0, NULL);
        TIMED(layer, K->matmul(&linear));
        if (what == 2) layer *= 2;
        speed[r] = operations / seconds * 1e-9;
        share[r] = speed[r] / (0.5 * (before + after));
        of_layer[r] = seconds / (seconds + layer);
      }
      printf("  %10.1f  %3.0f%%      %3.0f%%", median(speed), 100 * median(share),
             100 * median(of_layer));
      df_free(packed);
    }
    printf("\n");
    fflush(stdout);
    df_free(qkv), df_free(turned), df_free(y), df_free(d), df_free(b), df_free(c);
  }
}

enum { ROWS = 64, COLS = 256, ELEMENTS = ROWS * COLS };

static void elementwise(void) {
  float *x = numbers(3 * ELEMENTS), *y = numbers(3 * ELEMENTS), *z = numbers(7 * ELEMENTS);
  for (int i = 0; i < 3 * ELEMENTS; i++) x[i] *= 4;
  printf("\nelementwise, %d x %d, ns per 16 results\n%-14s", ROWS, COLS, "");
  for (int t = 0; t < table_count; t++) printf("%10s", tables[t]->name);
  printf("\n");
#define LINE(label, call)                                                                          \
  do {                                                                                             \
    double seconds[TABLES][ROUNDS];                                                                \
    WARM(for (int t = 0; t < table_count; t++) {                                                   \
      const df_kernels *K = tables[t];                                                             \
      call;                                                                                        \
    });                                                                                            \
    for (int r = 0; r < ROUNDS; r++)                                                               \
      for (int t = 0; t < table_count; t++) {                                                      \
        const df_kernels *K = tables[t];                                                           \
        TIMED(seconds[t][r], call);                                                                \
      }                                                                                            \
    printf("%-14s", label);                                                                        \
    for (int t = 0; t < table_count; t++) printf("%10.2f", 16e9 / ELEMENTS * median(seconds[t]));  \
    printf("\n");                                                                                  \
  } while (0)
#define X(name, value, slope)                                                                      \
  LINE(#name, K->unary(DF_##name, 0.5f, 1, ROWS, COLS, x, COLS, y, COLS));                         \
  LINE(#name " grad", K->unary_grad(DF_##name, 0.5f, 1, ROWS, COLS, x, COLS, x, COLS, y, COLS));
  DF_UNARY_LIST(X)
#undef X
  LINE("add", K->binary(DF_ADD, ROWS, COLS, x, COLS, 1, z, COLS, 1, y, COLS));
  LINE("add row", K->binary(DF_ADD, ROWS, COLS, x, COLS, 1, z, 0, 1, y, COLS));
  LINE("sum_rows", K->sum_rows(ROWS, COLS, x, COLS, y));
  LINE("sum_cols", K->sum_cols(ROWS, COLS, x, COLS, y, 1));
  const df_norm norm = {ROWS, COLS, 1, true, 1e-5f, x, COLS, x + ELEMENTS, x, y, COLS},
                rms = {ROWS, COLS, 1, false, 1e-5f, x, COLS, x + ELEMENTS, NULL, y, COLS};
  LINE("layer norm", K->norm(&norm));
  LINE("layer norm grad", K->norm_grad(&norm, z, COLS));
  LINE("RMS norm", K->norm(&rms));
  LINE("RMS norm grad", K->norm_grad(&rms, z, COLS));
  LINE("softmax", K->softmax(0.125f, ROWS, COLS, x, COLS, y, COLS));
  LINE("softmax grad", K->softmax_grad(0.125f, ROWS, COLS, y, COLS, x, COLS, z, COLS));
  LINE("gru", K->gru(ROWS, COLS, x, 3 * COLS, y, 3 * COLS, z, COLS, z + ELEMENTS, COLS));
  LINE("gru grad",
       K->gru_grad(ROWS, COLS, x, 3 * COLS, y, 3 * COLS, x, COLS, x, COLS, z, 7 * COLS));
  LINE("adamw", K->adamw(ELEMENTS, y, x, y + ELEMENTS, z, 1, 1e-3f, 0.9f, 0.999f, 1e-8f, 0, 1, 1));
  LINE("lerp", K->lerp(ELEMENTS, 0.1f, x, y));
  LINE("sum_squares", sink = (float)K->sum_squares(ELEMENTS, x));
  LINE("pack B", K->pack(COLS, ROWS, x, COLS, 1, y));
  LINE("pack B^T", K->pack(COLS, ROWS, x, 1, ROWS, y));
  df_free(x), df_free(y), df_free(z);
}

int main(int count, char **arguments) {
  void (*const part)(void) = count < 2                              ? NULL
                             : !strcmp(arguments[1], "int8")        ? int8_products
                             : !strcmp(arguments[1], "attention")   ? attention
                             : !strcmp(arguments[1], "elementwise") ? elementwise
                                                                    : NULL;
  if (part) count--, arguments++;
  enum { MOST = 64 };
  int chosen[MOST][3], shapes = 0; // m, k, n
  bool all = true;
  for (int i = 1; i < count; i++)
    if (!strchr(arguments[i], ','))
      all = false;
    else if (shapes < MOST && sscanf(arguments[i], "%d,%d,%d", &chosen[shapes][0],
                                     &chosen[shapes][1], &chosen[shapes][2]) == 3)
      shapes++;
  const df_kernels *K;
  for (int i = 0; (K = df_kernels_list(i)) != NULL && table_count < TABLES; i++) {
    bool wanted = all;
    for (int j = 1; j < count; j++) wanted = wanted || !strcmp(arguments[j], K->name);
    if (wanted) tables[table_count++] = K;
  }
#ifdef DF_BENCH_BLAS
  printf("OpenBLAS: %s, kernels for %s\n", openblas_get_config(), openblas_get_corename());
#endif
  if (shapes) {
    products("C = A B + bias", false, shapes, (const int(*)[3])chosen);
    return 0;
  }
  static const int layers[][3] = {
      {32, 256, 256},   {100, 256, 256},   {256, 256, 256},   {32, 512, 512},   {64, 512, 512},
      {100, 512, 512},  {256, 512, 512},   {32, 512, 1536},   {100, 512, 1536}, {32, 1024, 1024},
      {64, 1024, 1024}, {100, 1024, 1024}, {256, 1024, 1024}, {32, 1024, 3072}, {256, 1024, 3072}};
  static const int odd[][3] = {{33, 256, 256}, {37, 512, 512},  {61, 259, 259}, {33, 250, 517},
                               {65, 512, 300}, {100, 300, 261}, {49, 1000, 777}};
  static const int small[][3] = {{32, 128, 128}, {32, 512, 60},  {33, 60, 512},   {32, 512, 37},
                                 {2, 512, 512},  {3, 512, 512},  {4, 512, 512},   {8, 128, 128},
                                 {8, 512, 512},  {8, 512, 1536}, {8, 1024, 1024}, {13, 512, 512},
                                 {17, 512, 512}};
  static const int one[][3] = {{1, 128, 128},   {1, 256, 256},   {1, 512, 512}, {1, 512, 1536},
                               {1, 1024, 1024}, {1, 1024, 3072}, {1, 512, 60},  {1, 250, 259}};
  static const int weights[][3] = {{256, 32, 256},   {512, 32, 512},  {1024, 32, 1024},
                                   {256, 128, 256},  {512, 128, 512}, {1024, 128, 1024},
                                   {3072, 64, 1024}, {1024, 64, 60}};
  if (part) return part(), 0;
  products("C = A B + bias", false, COUNT(layers), layers);
  products("odd sizes", false, COUNT(odd), odd);
  products("smaller", false, COUNT(small), small);
  products("one row", false, COUNT(one), one);
  products("C += A^T B (gradient of weights; B packed before each)", true, COUNT(weights), weights);
  int8_products();
  attention();
  elementwise();
}
#endif
