// Float loops. Every kernel is written once over a small vector vocabulary (kernels/simd.h), compiled once per
// instruction set, and checked against a plain reference. A df_kernels is the table of one instruction set.
//
// Matrices are row-major; x_row is the distance of two rows in floats (>= columns). Kernels check nothing:
// shapes were checked when the graph was built. No kernel allocates. Outputs may not overlap inputs unless a
// comment says so. The result of a row never depends on the other rows or on how many there are: a batched
// run gives the same bits as its sequences one by one.
#ifndef DF_KERNELS_KERNELS_H
#define DF_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Functions of one number; p, q are parameters. X(name, f(x), f'(x))
#define DF_UNARY_LIST(X)                                                                           \
  X(AFFINE, "p x + q", "p")                                                                        \
  X(GELU, "x (1 + erf(x / sqrt 2)) / 2", "(1 + erf(x / sqrt 2)) / 2 + x exp(-x^2/2) / sqrt(2 pi)") \
  X(SILU, "x sigmoid(x)", "s + x s (1 - s)")                                                       \
  X(RELU, "max(x, 0)", "x > 0")                                                                    \
  X(ELU, "x > 0 ? x : exp(x) - 1", "x > 0 ? 1 : exp(x)")                                           \
  X(SIGMOID, "1 / (1 + exp(-x))", "s (1 - s)")                                                     \
  X(TANH, "tanh(x)", "1 - t^2")                                                                    \
  X(EXP, "exp(x)", "exp(x)")                                                                       \
  X(SOFTPLUS, "log(1 + exp(x))", "sigmoid(x)")                                                     \
  X(SQUARE, "x^2", "2 x")                                                                          \
  X(SQRT, "sqrt(x)", "1 / (2 sqrt(x)), 0 at x = 0")                                                \
  X(CLAMP, "min(max(x, p), q)", "p <= x <= q")

typedef enum df_unary {
#define X(name, f, df) DF_##name,
  DF_UNARY_LIST(X)
#undef X
      DF_UNARY_COUNT
} df_unary;

typedef enum df_binary { DF_ADD, DF_SUB, DF_MUL, DF_DIV, DF_BINARY_COUNT } df_binary;

// C[m,n] = act(A[m,k] B[k,n] + bias[n] + residual[m,n]).
// Sums run over k in ascending order in one accumulator per entry of C, whatever m, n and the tile.
typedef struct df_matmul {
  int m, n, k;
  const float *a;
  ptrdiff_t a_row, a_col; // A[i,j] = a[i a_row + j a_col]: A may be a transpose
  const float *b;         // packed by pack
  const float *bias;      // nullable
  const float *residual;  // nullable; may be c itself (then C += A B)
  ptrdiff_t residual_row;
  int act; // a df_unary without parameters, or -1
  float *c;
  ptrdiff_t c_row;
} df_matmul;

// Each of `groups` groups of neighbouring columns of a row is normalised on its own:
//   centred: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) scale + shift    layer norm, group norm
//   else:    y = x / sqrt(mean(x^2) + eps) scale + shift                            RMS norm
// |x| up to 1e18. The form x / max(|x|, 1e-12) scale sqrt(n) of an RMS norm over n columns is the one with
// eps = 1e-24 / n: from |x| = 1e-8 on, eps is lost in the rounding of the sum.
typedef struct df_norm {
  int rows, cols, groups; // cols is a multiple of groups
  bool centred;
  float eps;
  const float *x;
  ptrdiff_t x_row;
  const float *scale, *shift; // (cols), nullable
  float *y;                   // may be x
  ptrdiff_t y_row;
} df_norm;
// Rows of a sequence that attend to others, in each of `heads` blocks of `size` columns on its own:
//   y_i = sum_j p_ij v_j    p_ij = softmax over j of <q_i, k_j> / sqrt(size)
// Of `rows` rows, number r is row self + r of the sequence; it sees rows 0 .. seen + r more - 1, and itself. C = heads size
// columns in all. What no row sees may be anything. The bits of a row of y depend on nothing but the numbers that go into
// it.
typedef struct df_query {
  int rows, heads, size;
  int self, seen, more;
  const float *q; // (rows, C)
  ptrdiff_t q_row;
  const float *keys;   // transposed, (C, keys_row): k_j is column j
  ptrdiff_t keys_row;  // a result of df_keys_row
  const float *values; // v_j is row j, C columns
  ptrdiff_t values_row;
  float *y; // (rows, C)
  ptrdiff_t y_row;
} df_query;

// What the derivative needs beside it, (.., C) each; rows are those of the sequence where not said.
typedef struct df_query_grad {
  const float *keys;   // as they are; rows are values_row apart, like those of the values
  const float *values; // transposed; keys_row apart
  const float *dy;     // (rows, C)
  ptrdiff_t dy_row;
  float *dq;       // (rows, C)
  float *dk, *dv;  // of all rows that are seen, and of `rows` from `self` on
  ptrdiff_t d_row; // of all three
} df_query_grad;

// Floats of a row of transposed keys: n, rounded up to full vectors of every instruction set
static inline int df_keys_row(int n) { return (n + 15) / 16 * 16; }

// The numbers that a packed B is made of. X(NAME, name)
#define DF_WEIGHTS_LIST(X) X(F32, "f32") X(INT8, "int8")
typedef enum df_weights {
#define X(NAME, name) DF_WEIGHTS_##NAME,
  DF_WEIGHTS_LIST(X)
#undef X
      DF_WEIGHTS_COUNT
} df_weights;

// int8: numbers of A that are quantised together, along k, and the steps between their smallest and largest one
enum { DF_INT8_BLOCK = 512, DF_INT8_STEPS = 16383 };

typedef struct df_kernels {
  const char *name; // "scalar", "avx2", "avx512", "neon", "simd128", "relaxed", "reference"
  int width;        // floats per vector

  // Packs B[k,n], B[i,j] = b[i b_row + j b_col], into the order that matmul reads; packed holds
  // packed_size(n, k) floats, 64-byte aligned.
  size_t (*packed_size)(int n, int k);
  void (*pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed);
  void (*matmul)(const df_matmul *p);
  // The same with B in 8 bits and a scale per column; A is rounded to 14 bits with a scale and an offset per row and
  // DF_INT8_BLOCK of k (isa/matmul_int8.c). The sums of the rounded numbers are exact. What is not finite in A makes
  // its row of C NaN. The size is in floats here too.
  size_t (*int8_size)(int n, int k);
  void (*int8_pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed);
  void (*int8_matmul)(const df_matmul *p);

  // y = f(x); y may be x. dx = f'(x) dy; dx may be dy or x.
  void (*unary)(df_unary f, float p, float q, int rows, int cols, const float *x, ptrdiff_t x_row,
                float *y, ptrdiff_t y_row);
  void (*unary_grad)(df_unary f, float p, float q, int rows, int cols, const float *x,
                     ptrdiff_t x_row, const float *dy, ptrdiff_t dy_row, float *dx,
                     ptrdiff_t dx_row);
  // y[i,j] = a[i a_row + j a_col] op b[i b_row + j b_col]; *_col is 1, or 0: the value is the same in all columns,
  // *_row 0: in all rows. y may be a or b where those are full.
  void (*binary)(df_binary op, int rows, int cols, const float *a, ptrdiff_t a_row, int a_col,
                 const float *b, ptrdiff_t b_row, int b_col, float *y, ptrdiff_t y_row);
  // y[j] = sum over i of x[i,j], rows in ascending order; y[i] = sum over j of x[i,j], distance of the sums y_row.
  void (*sum_rows)(int rows, int cols, const float *x, ptrdiff_t x_row, float *y);
  void (*sum_cols)(int rows, int cols, const float *x, ptrdiff_t x_row, float *y, ptrdiff_t y_row);

  void (*norm)(const df_norm *p);
  // y receives dx; it may be x or dy. shift is not read.
  void (*norm_grad)(const df_norm *p, const float *dy, ptrdiff_t dy_row);
  // y[i,j] = e^(scale x[i,j]) / sum over k of e^(scale x[i,k]), scale > 0; y may be x. Entries of -infinity become
  // 0; a row of nothing else, or with a NaN, becomes NaN.
  void (*softmax)(float scale, int rows, int cols, const float *x, ptrdiff_t x_row, float *y,
                  ptrdiff_t y_row);
  // From y and dy; dx may be either.
  void (*softmax_grad)(float scale, int rows, int cols, const float *y, ptrdiff_t y_row,
                       const float *dy, ptrdiff_t dy_row, float *dx, ptrdiff_t dx_row);

  void (*attention)(const df_query *p);
  // Adds to dq, dk and dv. p->y is not used.
  void (*attention_grad)(const df_query *p, const df_query_grad *g);

  // GRU cell (PyTorch's): gi = W_ih x + b_ih and gh = W_hh h + b_hh, both (rows, 3 n) in the order reset, update, new:
  //   r = sigmoid(gi_r + gh_r)   u = sigmoid(gi_u + gh_u)   c = tanh(gi_c + r gh_c)   y = (1 - u) c + u h
  void (*gru)(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh, ptrdiff_t gh_row,
              const float *h, ptrdiff_t h_row, float *y, ptrdiff_t y_row);
  // From dy (rows, n): d = [dgi (3 n), dgh (3 n), the part of dh that does not go through gh (n)], (rows, 7 n).
  void (*gru_grad)(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
                   ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, const float *dy,
                   ptrdiff_t dy_row, float *d, ptrdiff_t d_row);

  // AdamW on n entries (Loshchilov & Hutter 2019; PyTorch's order): w -= lr decay w; m, v are the moments;
  // w -= lr / c1 * m / (sqrt(v / c2) + eps), c1 = 1 - beta1^t, c2 = 1 - beta2^t; grad_scale multiplies g first.
  void (*adamw)(size_t n, float *w, const float *g, float *m, float *v, float grad_scale, float lr,
                float beta1, float beta2, float eps, float decay, float c1, float c2);
  // y += a (x - y): moving averages of the weights
  void (*lerp)(size_t n, float a, const float *x, float *y);
  // sum of squares in float64
  double (*sum_squares)(size_t n, const float *x);
} df_kernels;

// The fastest table that this processor can run, chosen once and in one place.
const df_kernels *df_kernels_best(void);
// Plain loops in float64, one statement per formula: the truth that the others are tested against.
const df_kernels *df_kernels_reference(void);
// All tables that were compiled in and that this processor can run, fastest first; NULL past the end.
const df_kernels *df_kernels_list(int i);

#endif
