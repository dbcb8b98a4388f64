// Matrix product: C = act(A B + bias + residual).
//
// B is packed in the order of use: blocks of k, in each the panels of two vectors, the last one filled up
// with zeros: [block][n / PANEL][k of the block][PANEL]. A tile of C, ROWS x PANEL, stays in registers
// while k runs over a block; then it goes back to C, from where the next block continues. A tile's rows of
// A are first copied to the stack, so that the inner loop needs one pointer for all of them and no cache
// set is asked for more lines than it has.
//
// An entry of C is one chain of v_fma from residual + bias, over k in ascending order, in all tiles:
// neither the other rows nor the place in the matrix can change a bit of it.
#include <stdbool.h>

#include "kernels/isa/isa.h"

// Rows of the largest tile: what the registers hold beside a row of the panel and a number of A.
#if DF_IS(avx512)
#define ROWS 14 // 28 of 32 registers
#elif DF_IS(neon)
#define ROWS 8 // 16 of 32
#elif DF_IS(avx2) || DF_IS(relaxed)
#define ROWS 6 // 12 of 16
#else
#define ROWS 4 // 8 of 16: the product of mul + add needs one too
#endif

enum {
  PANEL = 2 * WIDTH,
  BLOCK = 256, // k of a block; a panel of it takes at most 32 KB
  // Panels that all rows visit before the next ones: 512 or 256 KB, for L2
  GROUP = (DF_IS(avx512) ? 131072 : 65536) / BLOCK / PANEL,
  FAR = 262144, // floats of a block of B that L2 does not hold
  LINE = 16     // floats of a cache line
};

size_t DF_K(packed_size)(int n, int k) {
  return (size_t)((n + PANEL - 1) / PANEL) * PANEL * (size_t)k;
}

// B[k, cols], cols <= PANEL
static void pack_panel(int cols, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                       float *packed) {
  if (b_col == 1) {
    for (int i = 0; i < k; i++, b += b_row, packed += PANEL) {
      v_store(packed, v_get(b, cols));
      v_store(packed + WIDTH, cols > WIDTH ? v_get(b + WIDTH, cols - WIDTH) : v_set(0));
    }
    return;
  }
  // A transpose, in pieces that fit L1 on both sides
  for (int i = 0; i < k; i += 16) {
    const int end = k - i < 16 ? k : i + 16;
    for (int c = 0; c < cols; c++)
      for (int l = i; l < end; l++) packed[l * PANEL + c] = b[l * b_row + c * b_col];
    for (int c = cols; c < PANEL; c++)
      for (int l = i; l < end; l++) packed[l * PANEL + c] = 0;
  }
}

// k is shared out evenly, so that no block is much shorter than the others.
static int block_count(int k) { return k > BLOCK ? (k - 1) / BLOCK + 1 : 1; }
static int block_size(int k, int block) {
  const int blocks = block_count(k);
  return k / blocks + (block < k % blocks);
}

void DF_K(pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed) {
  for (int block = 0, size; block < block_count(k); block++, b += size * b_row) {
    size = block_size(k, block);
    for (int j = 0; j < n; j += PANEL, packed += (ptrdiff_t)size * PANEL)
      pack_panel(n - j < PANEL ? n - j : PANEL, size, b + j * b_col, b_row, b_col, packed);
  }
}

// ---- Tiles ---------------------------------------------------------------------------------------

// A's rows of a tile lie on the stack: row by row, a[row * A_LONG + k], or, when A is a transpose, k by
// k, a[k * A_SHORT + row]. The odd number of cache lines of A_LONG spreads rows over the sets.
enum { A_LONG = BLOCK + 16, A_SHORT = (ROWS + WIDTH - 1) / WIDTH * WIDTH };

// c[rows, cols] = from (or 0) + bias (or 0) + a b. Panels are `panel` floats apart in b. A cache line from
// `ahead` on is fetched to L2 with each k.
typedef void tile_run(int k, const float *a, const float *b, ptrdiff_t panel, const float *from,
                      ptrdiff_t from_row, const float *bias, float *c, ptrdiff_t c_row,
                      const float *ahead);

#define ROWS_1(X, COLS)  COLS(X, 0)
#define ROWS_2(X, COLS)  ROWS_1(X, COLS) COLS(X, 1)
#define ROWS_3(X, COLS)  ROWS_2(X, COLS) COLS(X, 2)
#define ROWS_4(X, COLS)  ROWS_3(X, COLS) COLS(X, 3)
#define ROWS_5(X, COLS)  ROWS_4(X, COLS) COLS(X, 4)
#define ROWS_6(X, COLS)  ROWS_5(X, COLS) COLS(X, 5)
#define ROWS_7(X, COLS)  ROWS_6(X, COLS) COLS(X, 6)
#define ROWS_8(X, COLS)  ROWS_7(X, COLS) COLS(X, 7)
#define ROWS_9(X, COLS)  ROWS_8(X, COLS) COLS(X, 8)
#define ROWS_10(X, COLS) ROWS_9(X, COLS) COLS(X, 9)
#define ROWS_11(X, COLS) ROWS_10(X, COLS) COLS(X, 10)
#define ROWS_12(X, COLS) ROWS_11(X, COLS) COLS(X, 11)
#define ROWS_13(X, COLS) ROWS_12(X, COLS) COLS(X, 12)
#define ROWS_14(X, COLS) ROWS_13(X, COLS) COLS(X, 13)
#define COLS_1(X, i)     X(i, 0)
#define COLS_2(X, i)     X(i, 0) X(i, 1)
#define COLS_4(X, i)     COLS_2(X, i) X(i, 2) X(i, 3)
#define COLS_6(X, i)     COLS_4(X, i) X(i, 4) X(i, 5)
#define COLS_8(X, i)     COLS_6(X, i) X(i, 6) X(i, 7)
#define COLS_10(X, i)    COLS_8(X, i) X(i, 8) X(i, 9)
#define COLS_12(X, i)    COLS_10(X, i) X(i, 10) X(i, 11)

#define START(i, j) vec c##i##_##j = v_set(0);
#define FROM(i, j)  c##i##_##j = v_load(from + i * from_row + j * WIDTH);
#define BIAS(i, j)  c##i##_##j = v_add(c##i##_##j, v_load(bias + j * WIDTH));
#define LOAD_B(i, j)                                                                               \
  vec b##j = v_load(b + j / 2 * panel + j % 2 * WIDTH);                                            \
  V_KEEP(b##j);
#define LOAD_A(i)   const vec a##i = v_spread(a + i * a_row);
#define FMA(i, j)   c##i##_##j = v_fma(a##i, b##j, c##i##_##j);
#define STORE(i, j) v_store(c + i * c_row + j * WIDTH, c##i##_##j);
#define FMA_1(X, i) LOAD_A(i) COLS_1(X, i)
#define FMA_2(X, i) LOAD_A(i) COLS_2(X, i)
#define FMA_4(X, i) LOAD_A(i) COLS_4(X, i)

// What will be read soon: this panel 2 KB on, the next group of panels (`ahead`), and the next tile of
// C, whose rows are too far apart for the processor to guess.
#if DF_IS(avx512) || DF_IS(avx2)
#define FETCH_2                                                                                    \
  v_prefetch(b + 32 * LINE);                                                                       \
  if (PANEL > LINE) v_prefetch(b + 33 * LINE);                                                     \
  v_prefetch_far(ahead);                                                                           \
  ahead += LINE
#define FETCH_C(i) v_prefetch(c + i * c_row + PANEL), v_prefetch(c + i * c_row + 2 * PANEL - LINE);
#else
#define FETCH_2 (void)ahead
#define FETCH_C(i)
#endif
#define FETCH_1        (void)ahead
#define FETCH_4        (void)ahead // few rows: reading B is all there is to do, more reads only hinder
#define EACH_ROW(X, i) X(i)

// One k per trip, in this order: compilers that unroll or reorder run out of registers. One row has some
// to spare.
#ifdef __clang__
#define TRIP_2 _Pragma("clang loop unroll(disable)")
#define TRIP_8 _Pragma("clang loop unroll_count(2)")
#else
#define TRIP_2 _Pragma("GCC unroll 1")
#define TRIP_8 _Pragma("GCC unroll 2")
#endif
#define TRIP_1 TRIP_2
#define TRIP_4 TRIP_2

#define BODY(name, rows, cols, A_ROW, A_COL)                                                       \
  static void name(int k, const float *a, const float *b, ptrdiff_t panel, const float *from,      \
                   ptrdiff_t from_row, const float *bias, float *c, ptrdiff_t c_row,               \
                   const float *ahead) {                                                           \
    enum { a_row = A_ROW, a_col = A_COL };                                                         \
    ROWS_##rows(START, COLS_##cols);                                                               \
    if (from) { ROWS_##rows(FROM, COLS_##cols); }                                                  \
    if (bias) { ROWS_##rows(BIAS, COLS_##cols); }                                                  \
    ROWS_##rows(FETCH_C, EACH_ROW);                                                                \
    TRIP_##cols for (; k > 0; k--, a += a_col, b += PANEL) {                                       \
      FETCH_##cols;                                                                                \
      COLS_##cols(LOAD_B, );                                                                       \
      ROWS_##rows(FMA, FMA_##cols);                                                                \
    }                                                                                              \
    ROWS_##rows(STORE, COLS_##cols);                                                               \
  }
#define TILE(rows, cols)                                                                           \
  BODY(tile_##rows##_##cols, rows, cols, A_LONG, 1)                                                \
  BODY(turned_##rows##_##cols, rows, cols, 1, A_SHORT)
#define TILES(rows) TILE(rows, 1) TILE(rows, 2)

// Few rows: several panels at once, so that there are enough sums to hide the latency of v_fma.
TILE(2, 4)
#if ROWS > 6
TILE(3, 4)
#endif
TILES(2)
TILES(3)
TILES(4)
#if ROWS > 4
TILES(5)
TILES(6)
#endif
#if ROWS > 6
TILES(7)
TILES(8)
#endif
#if ROWS > 8
TILES(9)
TILES(10)
TILES(11)
TILES(12)
TILES(13)
TILES(14)
#endif

#define NAMES_4(tile, cols) tile##_2_##cols, tile##_3_##cols, tile##_4_##cols
#define NAMES_6(tile, cols) NAMES_4(tile, cols), tile##_5_##cols, tile##_6_##cols
#define NAMES_8(tile, cols) NAMES_6(tile, cols), tile##_7_##cols, tile##_8_##cols
#define NAMES_14(tile, cols)                                                                       \
  NAMES_8(tile, cols), tile##_9_##cols, tile##_10_##cols, tile##_11_##cols, tile##_12_##cols,      \
      tile##_13_##cols, tile##_14_##cols
#define NAMES(tile, cols) DF_JOIN(NAMES_, ROWS)(tile, cols)

// By rows; [1] where A lies k by k
static tile_run *const tile_half[2][ROWS + 1] = {{NULL, NULL, NAMES(tile, 1)},
                                                 {NULL, NULL, NAMES(turned, 1)}};
static tile_run *const tile_one[2][ROWS + 1] = {{NULL, NULL, NAMES(tile, 2)},
                                                {NULL, NULL, NAMES(turned, 2)}};
#if ROWS > 6
static tile_run *const tile_two[2][ROWS + 1] = {{NULL, NULL, tile_2_4, tile_3_4},
                                                {NULL, NULL, turned_2_4, turned_3_4}};
#else
static tile_run *const tile_two[2][ROWS + 1] = {{NULL, NULL, tile_2_4}, {NULL, NULL, turned_2_4}};
#endif

// ---- One row -------------------------------------------------------------------------------------

// What there is of a vector of which `left` columns exist, maybe none. Out of line: there are many.
static __attribute__((noinline)) vec load_part(const float *p, int left) {
  return v_load_n(p, left > 0 ? left : 0);
}
static __attribute__((noinline)) void store_part(float *p, int left, vec x) {
  v_store_n(p, left > 0 ? left : 0, x);
}
static inline vec part_get(const float *p, int left) {
  return left >= WIDTH ? v_load(p) : load_part(p, left);
}
static inline void part_put(float *p, int left, vec x) {
  if (left >= WIDTH)
    v_store(p, x);
  else
    store_part(p, left, x);
}

// Panels in `cols` vectors of one row; they are `apart` panels apart in b, from, bias and c. Of the last
// one `left` columns exist. Numbers of A are read by four: this is bound by loads. A jump after each k
// keeps it in its place, or clang for wasm would do all steps of one sum and then those of the next. In
// plain simd128 this is slower than a load of A for each k.
#define ROW_PLACE(j)    (j / 2 * apart * PANEL + j % 2 * WIDTH)
#define ROW_LEFT(j)     (j / 2 == last ? left - j % 2 * WIDTH : PANEL)
#define ROW_START(i, j) vec c##j = v_set(0);
#define ROW_FROM(i, j)  c##j = part_get(from + ROW_PLACE(j), ROW_LEFT(j));
#define ROW_BIAS(i, j)  c##j = v_add(c##j, part_get(bias + ROW_PLACE(j), ROW_LEFT(j)));
#define ROW_FMA(i, j)   c##j = v_fma(a##i, v_load(b + j / 2 * step + j % 2 * WIDTH), c##j);
#define ROW_STORE(i, j) part_put(c + ROW_PLACE(j), ROW_LEFT(j), c##j);
#if DF_IS(simd128)
#define ROW_LOOP(cols)                                                                             \
  TRIP_8 for (; k > 0; k--, a++, b += PANEL) {                                                     \
    const vec a0 = v_spread(a);                                                                    \
    COLS_##cols(ROW_FMA, 0);                                                                       \
  }
#else
#define ROW_LOOP(cols)                                                                             \
  for (; k > 0; a += 4) {                                                                          \
    const vfour four = v_four(a);                                                                  \
    ROW_STEP(0, cols);                                                                             \
    ROW_STEP(1, cols);                                                                             \
    ROW_STEP(2, cols);                                                                             \
    ROW_STEP(3, cols);                                                                             \
  }
#endif
#define ROW_STEP(i, cols)                                                                          \
  const vec a##i = v_one(four, i);                                                                 \
  COLS_##cols(ROW_FMA, i);                                                                         \
  b += PANEL;                                                                                      \
  if (--k == 0) break
#define ROW(cols)                                                                                  \
  static void row_##cols(int k, const float *a, const float *b, ptrdiff_t apart,                   \
                         const float *from, const float *bias, float *c, int left) {               \
    enum { last = cols / 2 - 1 };                                                                  \
    const ptrdiff_t step = apart * k * PANEL;                                                      \
    COLS_##cols(ROW_START, );                                                                      \
    if (from) { COLS_##cols(ROW_FROM, ); }                                                         \
    if (bias) { COLS_##cols(ROW_BIAS, ); }                                                         \
    ROW_LOOP(cols)                                                                                 \
    COLS_##cols(ROW_STORE, );                                                                      \
  }
ROW(2)
ROW(4)
ROW(6)
ROW(8)
ROW(10)
ROW(12)

// c[n] = from (or 0) + bias (or 0) + a b. Tile i reads panels i, i + tiles, i + 2 tiles and so on: streams,
// each of which goes on where it was.
static void row(int n, int k, const float *a, const float *b, const float *from, const float *bias,
                float *c) {
  const int panels = (n + PANEL - 1) / PANEL;
  // Six streams hide v_fma's latency best; from L3 or memory four are faster.
  const int most = (ptrdiff_t)n * k < FAR ? 6 : 4, tiles = (panels + most - 1) / most;
  for (int i = 0; i < tiles; i++) {
    const int own = (panels - i + tiles - 1) / tiles, end = (i + (own - 1) * tiles + 1) * PANEL;
    const int col = i * PANEL;
    const int left = n < end ? PANEL - (end - n) : PANEL;
    const float *const b_i = b + (ptrdiff_t)col * k, *const from_i = from ? from + col : NULL;
    const float *const bias_i = bias ? bias + col : NULL;
#define CASE(cols)                                                                                 \
  case cols / 2: row_##cols(k, a, b_i, tiles, from_i, bias_i, c + col, left); break;
    switch (own) { CASE(2) CASE(4) CASE(6) CASE(8) CASE(10) CASE(12) }
  }
}

// ---- The product ---------------------------------------------------------------------------------

// A tile of which only `cols` of the `width` columns exist.
static void tile_edge(tile_run *run, int rows, int width, int cols, int k, const float *a,
                      const float *b, ptrdiff_t panel, const float *from, ptrdiff_t from_row,
                      const float *bias, float *c, ptrdiff_t c_row) {
  float tile[ROWS * PANEL], padded[2 * PANEL];
  for (int i = 0; from && i < rows; i++)
    for (int j = 0; j < width; j += WIDTH)
      v_store(tile + i * width + j, v_get(from + i * from_row + j, cols > j ? cols - j : 0));
  for (int j = 0; bias && j < width; j += WIDTH)
    v_store(padded + j, v_get(bias + j, cols > j ? cols - j : 0));
  run(k, a, b, panel, from ? tile : NULL, width, bias ? padded : NULL, tile, width, b);
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j += WIDTH)
      v_put(c + i * c_row + j, cols - j, v_load(tile + i * width + j));
}

// Copies A[0..rows, 0..k]; says in which of the two orders (1: k by k).
static int copy_a(int rows, int k, const float *a, ptrdiff_t a_row, ptrdiff_t a_col, float *to) {
  if (a_row == 1 && a_col != 1 && rows > 1) {
    for (int l = 0; l < k; l++)
      for (int i = 0; i < rows; i += WIDTH)
        v_store(to + l * A_SHORT + i, v_get(a + l * a_col + i, rows - i));
    return 1;
  }
  for (int i = 0; i < rows; i++, a += a_row, to += A_LONG) {
    if (a_col == 1)
      for (int l = 0; l < k; l += WIDTH) v_store(to + l, v_get(a + l, k - l));
    else
      for (int l = 0; l < k; l++) to[l] = a[l * a_col];
  }
  return 0;
}

// Rows of the next tile of `left` rows. They are shared out evenly, too.
static int tile_rows(int left) {
  // Three rows have six sums, too few for v_fma's latency; two and one take several panels at once.
  if (DF_IS(relaxed) && left == 3) return 2;
  const int tiles = (left + ROWS - 1) / ROWS;
  return (left + tiles - 1) / tiles;
}

void DF_K(matmul)(const df_matmul *p) {
  float copy[A_SHORT * A_LONG];
  const int full = p->n / PANEL, panels = full + (p->n % PANEL > 0);
  const int tiles = (p->m + ROWS - 1) / ROWS, blocks = block_count(p->k);
  const int group_size = p->m == 1 ? panels : GROUP;

  for (int block = 0, l = 0, k; block < blocks; block++, l += k) {
    k = block_size(p->k, block);
    const ptrdiff_t panel = (ptrdiff_t)k * PANEL;
    const float *const source = block ? p->c : p->residual;
    const float *const bias = block ? NULL : p->bias;
    const ptrdiff_t from_row = block ? p->c_row : p->residual_row;
    const float *const b_block = p->b + (ptrdiff_t)l * panels * PANEL;

    for (int group = 0; group < panels; group += group_size) {
      const int end = panels - group > group_size ? group + group_size : panels;
      const float *const next = b_block + end * panel; // the next group, maybe of the next block

      for (int tile = 0, i = 0, rows; i < p->m; tile++, i += rows) {
        rows = tile_rows(p->m - i);
        const float *a = p->a + i * p->a_row + l * p->a_col;
        int turned = 0;
        if (rows > 1 || p->a_col != 1 || k % 4) {
          turned = copy_a(rows, k, a, p->a_row, p->a_col, copy);
          a = copy;
        }
        const float *const from = source ? source + i * from_row : NULL;
        float *const c = p->c + i * p->c_row;

        if (rows == 1) {
          const int col = group * PANEL, stop = end * PANEL < p->n ? end * PANEL : p->n;
          row(stop - col, k, a, b_block + group * panel, from ? from + col : NULL,
              bias ? bias + col : NULL, c + col);
        }
        for (int j = rows > 1 ? group : end, wide; j < end; j += wide) {
          const int col = j * PANEL, left = p->n - col;
          const float *const b = b_block + j * panel;
          const float *const from_j = from ? from + col : NULL;
          const float *const bias_j = bias ? bias + col : NULL;
          tile_run *run = tile_one[turned][rows];
          wide = 1;
          if (tile_two[turned][rows] && end - j >= 2)
            run = tile_two[turned][rows], wide = 2;
          else if (left <= WIDTH)
            run = tile_half[turned][rows];

          const int width = left <= WIDTH ? WIDTH : wide * PANEL;
          if (left < width) {
            tile_edge(run, rows, width, left, k, a, b, panel, from_j, from_row, bias_j, c + col,
                      p->c_row);
            continue;
          }
          // The first tiles fetch the next group for all; with few tiles nothing would be gained.
          const bool fetch = tiles > 2 && tile * LINE < PANEL;
          const float *const ahead = fetch ? next + (j - group) * panel + tile * k * LINE : b;
          run(k, a, b, panel, from_j, from_row, bias_j, c + col, p->c_row, ahead);
        }
        // The finished part of these rows is still in L1.
        if (p->act >= 0 && block == blocks - 1) {
          const int col = group * PANEL, last = end * PANEL < p->n ? end * PANEL : p->n;
          DF_K(unary)
          ((df_unary)p->act, 0, 0, rows, last - col, c + col, p->c_row, c + col, p->c_row);
        }
      }
    }
  }
}
