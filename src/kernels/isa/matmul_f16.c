// Matrix product with B in 16 bits: C = act(A B + bias + residual), with the sums of matmul.c.
//
// An entry of B becomes a sign, 5 bits of exponent and 10 of mantissa. The exponent counts down from that of the
// largest entry, 31, and 0 is the number 0: there are no denormal numbers, and moving the bits into the place of a
// float's, whose exponent is then 31 at most, unpacks the entry times a power of two. A is multiplied by a second one,
// so that products are numbers of usual size, and the sums by what undoes both. Multiplying by powers of two rounds
// nothing: where B is made of such numbers, C has the bits of matmul.c's.
//
// Packed: the factor of the sums (16 floats, of which one is used), then panels of two vectors of columns,
// [n / PANEL][k][PANEL].
#include "kernels/isa/isa.h"
#include "kernels/narrow.h"

enum {
  PANEL = 2 * WIDTH,
  BLOCK = 256,   // k of a block
  TOGETHER = 32, // rows of A that visit a panel one after the other
  LONG = BLOCK + 16,
  HEAD = 16
};

// Of A: numbers from 1e-20 to 1e20 stay far from the ends of a float's range.
static const float up = 0x1p48f;

size_t DF_K(f16_size)(int n, int k) {
  return HEAD + (size_t)((n + PANEL - 1) / PANEL) * PANEL * (size_t)k / 2;
}

void DF_K(f16_pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed) {
  uint16_t *to = (uint16_t *)(packed + HEAD);
  uint32_t top = 0; // exponent field of the largest entry, rounded
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) {
      uint32_t x;
      memcpy(&x, &b[i * b_row + j * b_col], sizeof x);
      x = ((x & 0x7fffffffu) + 0x1000) >> 23;
      if (x > top) top = x;
    }
  // An entry unpacks to 2^(31 - top) of itself.
  packed[0] = ldexpf(1, (int)top - 31) / up;
  for (int j = 0; j < n; j += PANEL)
    for (int i = 0; i < k; i++)
      for (int c = j; c < j + PANEL; c++) {
        uint32_t x = 0;
        if (c < n) memcpy(&x, &b[i * b_row + c * b_col], sizeof x);
        const uint32_t sign = x >> 16 & 0x8000u;
        x &= 0x7fffffffu;
        x = (x + 0xfff + (x >> 13 & 1)) >> 13; // to nearest, ties to even
        const uint32_t least = (top > 30 ? top - 30 : 1) << 10; // of those that have a place
        *to++ = (uint16_t)(sign | (x < least ? 0 : x + 31 * 1024 - top * 1024));
      }
}

// ---- Tiles ---------------------------------------------------------------------------------------

// c[rows, cols vectors] += a b over a block. Rows of a are LONG floats apart, those of c MOST, panels `panel` halfs.
typedef void tile_run(int k, const float *a, const uint16_t *b, ptrdiff_t panel, float *c);

#define ROWS_1(X, COLS) COLS(X, 0)
#define ROWS_2(X, COLS) ROWS_1(X, COLS) COLS(X, 1)
#define ROWS_3(X, COLS) ROWS_2(X, COLS) COLS(X, 2)
#define ROWS_4(X, COLS) ROWS_3(X, COLS) COLS(X, 3)
#define COLS_2(X, i)    X(i, 0) X(i, 1)
#define COLS_8(X, i)    COLS_2(X, i) X(i, 2) X(i, 3) X(i, 4) X(i, 5) X(i, 6) X(i, 7)

#define START(i, j)  vec c##i##_##j = v_load(c + i * MOST + j * WIDTH);
#define LOAD_A(i)    const vec a##i = v_spread(a + i * LONG);
#define LOAD_B(i, j) const vec b##j = v_half(b + j / 2 * panel + j % 2 * WIDTH);
#define FMA(i, j)    c##i##_##j = v_fma(a##i, b##j, c##i##_##j);
#define FMA_2(X, i)  LOAD_A(i) COLS_2(X, i)
// One row: each vector of B is used once, so it is unpacked where it is used.
#define FMA_LOADED(i, j)                                                                           \
  c##i##_##j = v_fma(a##i, v_half(b + j / 2 * panel + j % 2 * WIDTH), c##i##_##j);
#define STORE(i, j) v_store(c + i * MOST + j * WIDTH, c##i##_##j);

enum { ROWS = 4, MOST = 8 * WIDTH }; // of a tile; columns of the widest one

// One k per trip, in this order, as in matmul.c
#ifdef __clang__
#define ONE_BY_ONE _Pragma("clang loop unroll(disable)")
#else
#define ONE_BY_ONE _Pragma("GCC unroll 1")
#endif

#define TILE(rows, cols, STEP)                                                                     \
  static void tile_##rows##_##cols(int k, const float *a, const uint16_t *b, ptrdiff_t panel,      \
                                   float *c) {                                                     \
    ROWS_##rows(START, COLS_##cols);                                                               \
    ONE_BY_ONE                                                                                     \
    for (; k > 0; k--, a++, b += PANEL) { STEP }                                                   \
    ROWS_##rows(STORE, COLS_##cols);                                                               \
  }

TILE(1, 8, LOAD_A(0) COLS_8(FMA_LOADED, 0)) // one row: four panels at once, for enough independent sums
TILE(1, 2, LOAD_A(0) COLS_2(FMA_LOADED, 0))
TILE(2, 2, COLS_2(LOAD_B, ) ROWS_2(FMA, FMA_2))
TILE(3, 2, COLS_2(LOAD_B, ) ROWS_3(FMA, FMA_2))
TILE(4, 2, COLS_2(LOAD_B, ) ROWS_4(FMA, FMA_2))
static tile_run *const tiles[ROWS + 1] = {NULL, tile_1_2, tile_2_2, tile_3_2, tile_4_2};

// ---- The product ---------------------------------------------------------------------------------

// to = (from + bias) down, `cols` columns of one row; both nullable.
static void start(int cols, const float *bias, const float *from, float down, float *to) {
  for (int j = 0; j < cols; j += WIDTH) {
    vec y = from ? v_get(from + j, cols - j) : v_set(0);
    if (bias) y = v_add(y, v_get(bias + j, cols - j));
    v_store(to + j, v_mul(y, v_set(down)));
  }
}

void DF_K(f16_matmul)(const df_matmul *p) {
  float copy[TOGETHER * LONG], tile[ROWS * MOST];
  const float back = p->b[0], down = 1 / back;
  const uint16_t *const halfs = (const uint16_t *)(p->b + HEAD);
  const ptrdiff_t panel = (ptrdiff_t)p->k * PANEL;
  const int blocks = p->k > BLOCK ? (p->k - 1) / BLOCK + 1 : 1;

  for (int first = 0, rows; first < p->m; first += rows) {
    rows = p->m - first < TOGETHER ? p->m - first : TOGETHER;
    float *const c = p->c + first * p->c_row;
    for (int block = 0; block < blocks; block++) {
      const int k0 = block * BLOCK, k = p->k - k0 < BLOCK ? p->k - k0 : BLOCK;
      for (int i = 0; i < rows; i++) {
        const float *const a = p->a + (first + i) * p->a_row + k0 * p->a_col;
        float *const to = copy + i * LONG;
        if (p->a_col != 1)
          for (int t = 0; t < k; t++) to[t] = a[t * p->a_col] * up;
        else
          for (int t = 0; t < k; t += WIDTH) v_store(to + t, v_mul(v_get(a + t, k - t), v_set(up)));
      }
      const float *const bias = block ? NULL : p->bias;
      const float *const from = block         ? c
                                : p->residual ? p->residual + first * p->residual_row
                                              : NULL;
      const ptrdiff_t from_row = block ? p->c_row : p->residual_row;
      for (int j = 0, wide; j < p->n; j += wide) {
        wide = rows == 1 && p->n - j > 6 * WIDTH ? MOST : PANEL;
        const int cols = p->n - j < wide ? p->n - j : wide;
        for (int i = 0, height; i < rows; i += height) {
          height = rows - i < ROWS ? rows - i : ROWS;
          for (int r = i; r < i + height; r++)
            start(cols, bias ? bias + j : NULL, from ? from + r * from_row + j : NULL, down,
                  tile + (r - i) * MOST);
          tile_run *const run = wide > PANEL ? tile_1_8 : tiles[height];
          run(k, copy + i * LONG, halfs + j / PANEL * panel + (ptrdiff_t)k0 * PANEL, panel, tile);
          for (int r = i; r < i + height; r++)
            for (int t = 0; t < cols; t += WIDTH)
              v_put(c + r * p->c_row + j + t, cols - t,
                    v_mul(v_load(tile + (r - i) * MOST + t), v_set(back)));
        }
      }
    }
    if (p->act >= 0)
      DF_K(unary)((df_unary)p->act, 0, 0, rows, p->n, c, p->c_row, c, p->c_row);
  }
}
