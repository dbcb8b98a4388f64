// Speed of the kernels: bench_kernels [int8] [table ...]; kernels/README.md has the commands and a result.
//
// Matrix products in GFLOP/s and as a share of the register-only peak of the same instruction set,
// which is measured before and after each: on a shared machine only ratios of one run mean something.
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
#include <emscripten.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The clock of a thread is fine natively and coarse in Node, where there is only one table to take turns.
#ifdef __EMSCRIPTEN__
enum { ROUNDS = 5, TABLES = 4 };
static const double least = 3e-2; // seconds per measurement
#else
enum { ROUNDS = 15, TABLES = 4 };
static const double least = 5e-4;
#endif

// Seconds that this thread has run: others may be running too.
#ifdef __EMSCRIPTEN__
EM_JS(double, now, (void), {
  if (!process.threadCpuUsage) return performance.now() * 1e-3; // before Node 24
  const time = process.threadCpuUsage();
  return (time.user + time.system) * 1e-6;
});
#else
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif

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

#define SAME(x)          (x)
#define MUL_ADD(a, b, c) ((a) * (b) + (c))
PEAK(scalar, , float, SAME, MUL_ADD, SAME)
#if defined(__x86_64__)
PEAK(avx2, __attribute__((target("avx2,fma"))), __m256, _mm256_set1_ps, _mm256_fmadd_ps,
     _mm256_cvtss_f32)
PEAK(avx512, __attribute__((target("avx512f"))), __m512, _mm512_set1_ps, _mm512_fmadd_ps,
     _mm512_cvtss_f32)
#elif defined(__wasm_simd128__)
#define LANE(x)            wasm_f32x4_extract_lane(x, 0)
#define SIMD_STEP(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
PEAK(simd128, , v128_t, wasm_f32x4_splat, SIMD_STEP, LANE)
#if defined(__wasm_relaxed_simd__)
PEAK(relaxed, , v128_t, wasm_f32x4_splat, wasm_f32x4_relaxed_madd, LANE)
#endif
#elif defined(__aarch64__)
#define LANE(x)            vgetq_lane_f32(x, 0)
#define NEON_STEP(a, b, c) vfmaq_f32(c, a, b)
PEAK(neon, , float32x4_t, vdupq_n_f32, NEON_STEP, LANE)
#endif

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

static double peak(const df_kernels *K) {
  double (*run)(void) = peak_scalar;
#if defined(__x86_64__)
  if (!strcmp(K->name, "avx2")) run = peak_avx2;
  if (!strcmp(K->name, "avx512")) run = peak_avx512;
#elif defined(__wasm_simd128__)
  if (!strcmp(K->name, "simd128")) run = peak_simd128;
#if defined(__wasm_relaxed_simd__)
  if (!strcmp(K->name, "relaxed")) run = peak_relaxed;
#endif
#elif defined(__aarch64__)
  if (!strcmp(K->name, "neon")) run = peak_neon;
#endif
  double seconds, operations;
  TIMED(seconds, operations = run() * K->width);
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

static void products(const char *title, bool transposed, bool repack, int count,
                     const int (*shapes)[3]) {
  printf("\n%s\n     m     k     n", title);
  for (int t = 0; t < table_count; t++) printf("  %10s  peak", tables[t]->name);
  printf("\n");
  for (int s = 0; s < count; s++) {
    const int m = shapes[s][0], k = shapes[s][1], n = shapes[s][2];
    float *a = numbers((size_t)m * k), *b = numbers((size_t)k * n), *c = numbers((size_t)m * n);
    float *bias = numbers((size_t)n), *packed[TABLES];
    double speed[TABLES][ROUNDS], share[TABLES][ROUNDS];
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
        const double before = peak(K);
        double seconds;
        if (repack)
          TIMED(seconds, (K->pack(n, k, b, n, 1, packed[t]), K->matmul(&p)));
        else
          TIMED(seconds, K->matmul(&p));
        const double after = peak(K);
        speed[t][r] = 2e-9 * m * n * k / seconds;
        share[t][r] = speed[t][r] / (0.5 * (before + after));
      }
    printf("%6d%6d%6d", m, k, n);
    for (int t = 0; t < table_count; t++)
      printf("  %10.1f  %3.0f%%", median(speed[t]), 100 * median(share[t]));
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
  const df_kernels *K;
  const bool int8_only = count > 1 && !strcmp(arguments[1], "int8");
  if (int8_only) count--, arguments++;
  for (int i = 0; (K = df_kernels_list(i)) != NULL && table_count < TABLES; i++) {
    bool wanted = count < 2;
    for (int j = 1; j < count; j++) wanted = wanted || !strcmp(arguments[j], K->name);
    if (wanted) tables[table_count++] = K;
  }
  // m, k, n
  static const int layers[][3] = {{256, 256, 256},  {256, 512, 512},  {256, 1024, 1024},
                                  {64, 256, 256},   {64, 512, 512},   {64, 512, 1536},
                                  {64, 1024, 1024}, {64, 1024, 3072}, {32, 128, 128},
                                  {32, 1024, 1024}, {100, 512, 512}};
  static const int small[][3] = {{1, 128, 128},  {1, 256, 256},   {1, 512, 512},   {1, 1024, 1024},
                                 {1, 512, 60},   {1, 1024, 3072}, {2, 512, 512},   {3, 512, 512},
                                 {4, 512, 512},  {8, 512, 512},   {8, 1024, 1024}, {13, 512, 512},
                                 {17, 512, 512}, {32, 512, 60},   {32, 60, 512}};
  static const int weights[][3] = {{256, 32, 256},   {512, 32, 512},  {1024, 32, 1024},
                                   {256, 128, 256},  {512, 128, 512}, {1024, 128, 1024},
                                   {3072, 64, 1024}, {1024, 64, 60}};
  if (int8_only) return int8_products(), 0;
  products("C = A B + bias", false, false, COUNT(layers), layers);
  products("few rows", false, false, COUNT(small), small);
  products("C += A^T B (gradient of weights; B packed before each)", true, true, COUNT(weights),
           weights);
  int8_products();
  elementwise();
}
#endif
