// Matrix product with B in 8 bits: C = act(A B + bias + residual), where
//
//   B[k,n] is rounded to w[k,n] scale[n], w from -127 to 127, when it is packed;
//   A[m,k] is rounded to low[m] + q[m,k] step[m], q from 0 to 16383, when the product runs: each row, in blocks of
//   BLOCK along k, between the smallest and the largest number of the block.
//
// A block adds scale (step sum(q w) + low sum(w)) to an entry of C. sum(q w) is an integer below 2^31; sum(w) was
// computed when B was packed. All instruction sets round to the same q and w. What is not finite in A shows as NaN in
// its row of C.
//
// Why 14 bits of A: see kernels/README.md. Packed: scale (columns), sum(w) (blocks, columns), then panels of two
// vectors of columns as in matmul.c, [n / PANEL][k / 4][PANEL] quads of bytes; columns and k are filled up with zeros.
#include "kernels/bytes.h"
#include "kernels/isa/isa.h"

// matmul_int8_pairs.c compiles this file once more.
#ifdef DF_PAIRS
#define INT8(name) DF_K(int8_pairs_##name)
#else
#define INT8(name) DF_K(int8_##name)
#endif

enum {
  PANEL = 2 * WIDTH,     // columns
  BLOCK = DF_INT8_BLOCK, // k of a block
  TOGETHER = 32,         // rows of A that are quantised at a time: all of them visit a panel
  LONG = BLOCK + 40 // numbers between two of these rows: they spread over the sets of the cache
};

// The parts of packed B
typedef struct layout {
  int columns, blocks, quads; // columns filled up; quads of k
  size_t sums, bytes, floats; // where the sums and the bytes begin, size: in floats
} layout;

static layout lay_out(int n, int k) {
  layout l = {.columns = (n + PANEL - 1) / PANEL * PANEL,
              .blocks = k > BLOCK ? (k + BLOCK - 1) / BLOCK : 1,
              .quads = (k + 3) / 4};
  l.sums = (size_t)l.columns;
  l.bytes = l.sums + (size_t)l.blocks * (size_t)l.columns;
  l.bytes = (l.bytes + 15) / 16 * 16;
  l.floats = l.bytes + (size_t)l.columns * (size_t)l.quads;
  return l;
}

size_t INT8(size)(int n, int k) { return lay_out(n, k).floats; }

// Adding 1.5 2^23 rounds to a whole number and leaves it in the low bits.
static const float whole = 12582912.0f;

void INT8(pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed) {
  const layout l = lay_out(n, k);
  float *scale = packed, *sums = packed + l.sums;
  int8_t *bytes = (int8_t *)(packed + l.bytes);
  memset(packed, 0, l.floats * sizeof *packed);
  for (int j = 0; j < n; j++) {
    const float *const from = b + j * b_col;
    float most = 0;
    for (int i = 0; i < k; i++) {
      const float w = fabsf(from[i * b_row]);
      most = w > most ? w : most;
    }
    const float inverse = most > 1e-30f ? 127 / most : 0;
    scale[j] = most / 127;
    int8_t *const at =
        bytes + (size_t)(j / PANEL) * (size_t)l.quads * PANEL * 4 + j % PANEL / WIDTH * WIDTH * 4;
    for (int i = 0; i < k; i += BLOCK) {
      const int end = k - i < BLOCK ? k : i + BLOCK;
      float sum = 0;
      for (int t = i; t < end; t++) {
        const float w = from[t * b_row] * inverse + whole - whole;
        at[t / 4 * PANEL * 4 + QUAD(j % WIDTH, t % 4)] = (int8_t)w;
        sum += w;
      }
      sums[i / BLOCK * l.columns + j] = sum;
    }
  }
}

// ---- Rows of A -----------------------------------------------------------------------------------

// x[k] = low + q step; q is filled up with zeros to whole quads.
static void quantise(int k, const float *x, activation *q, float *low, float *step) {
  vec least = v_set(k ? *x : 0), most = least, odd = v_set(0);
  int i = 0;
  for (; i + WIDTH <= k; i += WIDTH) {
    const vec u = v_load(x + i);
    least = v_min(least, u);
    most = v_max(most, u);
    odd = v_fma(u, v_set(0), odd); // 0, or NaN where a number is not finite
  }
  float a[WIDTH], b[WIDTH], nan = v_sum(odd);
  v_store(a, least);
  v_store(b, most);
  for (; i < k; i++) {
    a[0] = x[i] < a[0] ? x[i] : a[0];
    b[0] = x[i] > b[0] ? x[i] : b[0];
    nan += x[i] * 0;
  }
  for (i = 1; i < WIDTH; i++) {
    a[0] = a[i] < a[0] ? a[i] : a[0];
    b[0] = b[i] > b[0] ? b[i] : b[0];
  }
  const float range = b[0] - a[0], inverse = range > 1e-30f ? DF_INT8_STEPS / range : 0;
  *low = a[0] + nan;
  *step = range / DF_INT8_STEPS;
  for (i = 0; i < k; i += WIDTH) {
    const vec u = v_mul(v_sub(v_get(x + i, k - i), v_set(a[0])), v_set(inverse));
    i_put(q + i, LONG, v_bits(v_add(u, v_set(whole)), 0x3fff));
  }
  for (int part = 0; part < PARTS; part++)
    for (i = k; i % 4; i++) q[part * LONG + i] = 0;
}

// ---- Tiles ---------------------------------------------------------------------------------------

// sums[rows, cols vectors] = q w over a block of k quads. Rows of q are LONG numbers apart, panels of B `panel` bytes;
// each part of a row is a row here.
typedef void tile_run(int k, const activation *q, const int8_t *b, ptrdiff_t panel, int32_t *sums);

#define ROWS_1(X, COLS) COLS(X, 0)
#define ROWS_2(X, COLS) ROWS_1(X, COLS) COLS(X, 1)
#define ROWS_3(X, COLS) ROWS_2(X, COLS) COLS(X, 2)
#define ROWS_4(X, COLS) ROWS_3(X, COLS) COLS(X, 3)
#define COLS_2(X, i)    X(i, 0) X(i, 1)
#define COLS_4(X, i)    COLS_2(X, i) X(i, 2) X(i, 3)
#define COLS_8(X, i)    COLS_4(X, i) X(i, 4) X(i, 5) X(i, 6) X(i, 7)

#define START(i, j)  ints c##i##_##j = i_zero();
#define LOAD_B(i, j) const weights b##j = i_weights(b + j / 2 * panel + j % 2 * WIDTH * 4);
#define LOAD_A(i)    const quads a##i = i_quad(q + i * LONG);
#define DOT(i, j)    c##i##_##j = i_dot(c##i##_##j, b##j, a##i);
#define STORE(i, j)  i_store(sums + i * MOST + j * WIDTH, c##i##_##j);
#define DOT_2(X, i)  LOAD_A(i) COLS_2(X, i)
#define DOT_4(X, i)  LOAD_A(i) COLS_4(X, i)
#define DOT_8(X, i)  LOAD_A(i) COLS_8(X, i)

enum { ROWS = 4, MOST = 8 * WIDTH }; // of a tile; columns of the widest one

// One quad per trip, in this order, as in matmul.c
#ifdef __clang__
#define ONE_BY_ONE _Pragma("clang loop unroll(disable)")
#else
#define ONE_BY_ONE _Pragma("GCC unroll 1")
#endif

#define TILE(rows, cols)                                                                           \
  static void tile_##rows##_##cols(int k, const activation *q, const int8_t *b, ptrdiff_t panel,   \
                                   int32_t *sums) {                                                \
    ROWS_##rows(START, COLS_##cols);                                                               \
    ONE_BY_ONE                                                                                     \
    for (; k > 0; k--, q += 4, b += PANEL * 4) {                                                   \
      COLS_##cols(LOAD_B, );                                                                       \
      ROWS_##rows(DOT, DOT_##cols);                                                                \
    }                                                                                              \
    ROWS_##rows(STORE, COLS_##cols);                                                               \
  }

// One row takes several panels at once, for enough independent sums.
#if RELAXED_DOT
TILE(2, 4)
TILE(2, 2)
TILE(4, 2)
static tile_run *const tile_wide = tile_2_4, *const tiles[] = {NULL, NULL, tile_2_2, NULL,
                                                               tile_4_2};
enum { WIDE = 4 * WIDTH };
#else
TILE(1, 8)
TILE(1, 2)
TILE(2, 2)
TILE(3, 2)
TILE(4, 2)
static tile_run *const tile_wide = tile_1_8, *const tiles[] = {NULL, tile_1_2, tile_2_2, tile_3_2,
                                                               tile_4_2};
enum { WIDE = 8 * WIDTH };
#endif

// ---- The product ---------------------------------------------------------------------------------

// c = from + scale (step sums + low total), `cols` columns of one row.
static void finish(int cols, const int32_t *sums, float low, float step, const float *scale,
                   const float *total, const float *bias, const float *from, float *c) {
  for (int j = 0; j < cols; j += WIDTH) {
    const int left = cols - j;
    vec y = v_mul(v_set(low), v_load(total + j));
    y = v_mul(v_fma(v_set(step), i_total(sums + j, MOST), y), v_load(scale + j));
    if (bias) y = v_add(y, v_get(bias + j, left));
    if (from) y = v_add(y, v_get(from + j, left));
    v_put(c + j, left, y);
  }
}

void INT8(matmul)(const df_matmul *p) {
  activation q[TOGETHER * PARTS * LONG];
  float low[TOGETHER], step[TOGETHER], line[BLOCK];
  int32_t sums[ROWS * MOST];
  const layout l = lay_out(p->n, p->k);
  const int8_t *const bytes = (const int8_t *)(p->b + l.bytes);
  const ptrdiff_t panel = (ptrdiff_t)l.quads * PANEL * 4;

  for (int first = 0, rows; first < p->m; first += rows) {
    rows = p->m - first < TOGETHER ? p->m - first : TOGETHER;
    float *const c = p->c + first * p->c_row;
    for (int block = 0; block < l.blocks; block++) {
      const int k0 = block * BLOCK, k = p->k - k0 < BLOCK ? p->k - k0 : BLOCK;
      for (int i = 0; i < rows; i++) {
        const float *a = p->a + (first + i) * p->a_row + k0 * p->a_col;
        if (p->a_col != 1) {
          for (int t = 0; t < k; t++) line[t] = a[t * p->a_col];
          a = line;
        }
        quantise(k, a, q + i * PARTS * LONG, &low[i], &step[i]);
      }
      const float *const bias = block ? NULL : p->bias;
      const float *const from = block         ? c
                                : p->residual ? p->residual + first * p->residual_row
                                              : NULL;
      const ptrdiff_t from_row = block ? p->c_row : p->residual_row;
      const float *const totals = p->b + l.sums + (ptrdiff_t)block * l.columns;
      for (int j = 0, wide; j < p->n; j += wide) {
        wide = rows == 1 && p->n - j > WIDE - PANEL ? WIDE : PANEL;
        const int cols = p->n - j < wide ? p->n - j : wide;
        const int8_t *const b = bytes + j / PANEL * panel + (ptrdiff_t)k0 * PANEL;
        for (int i = 0, height; i < rows; i += height) {
          height = rows - i < ROWS / PARTS ? rows - i : ROWS / PARTS;
          tile_run *const run = wide > PANEL ? tile_wide : tiles[height * PARTS];
          run((k + 3) / 4, q + i * PARTS * LONG, b, panel, sums);
          for (int r = i; r < i + height; r++)
            finish(cols, sums + (r - i) * PARTS * MOST, low[r], step[r], p->b + j, totals + j,
                   bias ? bias + j : NULL, from ? from + r * from_row + j : NULL,
                   c + r * p->c_row + j);
        }
      }
    }
    if (p->act >= 0) DF_K(unary)((df_unary)p->act, 0, 0, rows, p->n, c, p->c_row, c, p->c_row);
  }
}
