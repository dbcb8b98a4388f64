// Attention, row by row.
//
// Keys are transposed, so that lanes are keys and a score needs no sum over lanes; for the sum of values lanes are
// columns. Keys come in blocks of KEYS, whose scores stay on the stack; a block with a larger score than all before
// makes what has been summed up smaller (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"). So no
// row is too long, and no memory is needed.
//
// What is computed for a row of a head, and in which order, depends on its `seen` and `self` alone. The row itself, if it
// is not one of those seen, comes behind them; it is stored in the next column of the keys or far away, which makes no
// difference to the sums.
#include <stdbool.h>

#include "kernels/isa/functions.h"
#include "kernels/isa/isa.h"

enum {
  KEYS = 64,
  TOGETHER = 4, // rows or heads that take each step together: a step waits for the one before
  TILE = 4,     // rows whose derivatives are added to a key and a value at once
};

// Bodies with a constant number of vectors n: their loops over those are unrolled, and arrays become registers.
#define BODY static inline __attribute__((always_inline))
#ifdef __clang__
#define foreach(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define foreach(i, n) _Pragma("GCC unroll 4") for (int i = 0; i < (n); i++)
#endif

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// s[j] = <q, column j of keys> for n vectors of columns. Even and odd terms are summed up apart: v_fma has a latency.
BODY void scores_of(int n, ptrdiff_t size, const float *q, const float *keys, ptrdiff_t row,
                    float *s) {
  vec even[4], odd[4];
  foreach (i, n) even[i] = odd[i] = v_set(0);
  ptrdiff_t c = 0;
  for (; c + 2 <= size; c += 2, keys += 2 * row) {
    const vec a = v_spread(q + c), b = v_spread(q + c + 1);
    foreach (i, n) {
      even[i] = v_fma(a, v_load(keys + i * WIDTH), even[i]);
      odd[i] = v_fma(b, v_load(keys + row + i * WIDTH), odd[i]);
    }
  }
  if (c < size) {
    const vec a = v_spread(q + c);
    foreach (i, n) even[i] = v_fma(a, v_load(keys + i * WIDTH), even[i]);
  }
  foreach (i, n) v_store(s + i * WIDTH, v_add(even[i], odd[i]));
}

// The rows that one row attends to: those seen, and itself behind them where it is not one of them
typedef struct sight {
  int self, seen, total;
} sight;

static inline sight sight_of(const df_query *p, int r) {
  const int self = p->self + r;
  int seen = p->seen + r * p->more;
  if (self == seen - 1) seen = self; // behind the others, too
  return (sight){self, seen, seen + (self >= seen)};
}

// s[j] = <q, key begin + j> for the keys of a block, `rest` in the lanes behind them; returns how many there are.
static inline int scores(const sight *at, int begin, ptrdiff_t size, const float *q,
                         const float *keys, ptrdiff_t row, float rest, float s[KEYS]) {
  const int count = at->total - begin < KEYS ? at->total - begin : KEYS;
  int j = 0;
  const float *from = keys + begin;
  for (; j + 3 * WIDTH < count; j += 4 * WIDTH) scores_of(4, size, q, from + j, row, s + j);
  if (j + WIDTH < count) scores_of(2, size, q, from + j, row, s + j), j += 2 * WIDTH;
  if (j < count) scores_of(1, size, q, from + j, row, s + j);
  if (at->self > at->seen && begin + count == at->total) { // its key is further on
    float own[WIDTH];
    const int lane = at->self % WIDTH;
    scores_of(1, size, q, keys + at->self - lane, row, own);
    s[count - 1] = own[lane];
  }
  j = (count - 1) / WIDTH * WIDTH;
  const vmask in = v_less(v_load(lane_number), v_set((float)(count - j)));
  v_store(s + j, v_pick(in, v_load(s + j), v_set(rest)));
  return count;
}

// e^(factor (x - largest))
static inline vec weight(vec x, vec factor, vec largest) {
  return v_exp_between(v_max(v_set(-88), v_mul(factor, v_sub(x, largest))));
}

static inline float largest_of(int count, const float *s, float before) {
  vec most = v_set(before);
  for (int j = 0; j < count; j += WIDTH) most = v_max(most, v_load(s + j));
  return v_largest(most);
}

// n vectors of y = (fade y + sum over j of w[j] x_j) scale; x_j, j < count, is row j of x, and the last one is `own`
// unless that is NULL. y is not read if fade is NULL; `left` floats are left of it. Each of `turns` sums takes every
// turns-th row.
BODY void mix_of(int n, int turns, ptrdiff_t left, const vec *fade, ptrdiff_t count, const float *w,
                 const float *x, ptrdiff_t row, const float *own, vec scale, float *y) {
  vec sum[4][4];
  foreach (i, n) {
    foreach (t, turns) sum[t][i] = v_set(0);
    if (fade) sum[0][i] = v_mul(*fade, v_get(y + i * WIDTH, left - i * WIDTH));
  }
  ptrdiff_t j = 0;
  for (; j + turns <= count; j += turns, x += turns * row)
    foreach (t, turns) {
      const vec a = v_spread(w + j + t);
      foreach (i, n)
        sum[t][i] = v_fma(a, v_get(x + t * row + i * WIDTH, left - i * WIDTH), sum[t][i]);
    }
  for (; j < count; j++, x += row) {
    const vec a = v_spread(w + j);
    foreach (i, n) sum[0][i] = v_fma(a, v_get(x + i * WIDTH, left - i * WIDTH), sum[0][i]);
  }
  if (own) {
    const vec a = v_spread(w + j);
    foreach (i, n)
      sum[turns - 1][i] = v_fma(a, v_get(own + i * WIDTH, left - i * WIDTH), sum[turns - 1][i]);
  }
  foreach (i, n) {
    if (turns == 4)
      sum[0][i] = v_add(sum[0][i], sum[2][i]), sum[1][i] = v_add(sum[1][i], sum[3][i]);
    if (turns > 1) sum[0][i] = v_add(sum[0][i], sum[1][i]);
    v_put(y + i * WIDTH, left - i * WIDTH, v_mul(scale, sum[0][i]));
  }
}

static void mix(ptrdiff_t size, const vec *fade, int count, const float *w, const float *x,
                ptrdiff_t row, const float *own, vec scale, float *y) {
  ptrdiff_t c = 0;
#define MIX(n, turns, left)                                                                        \
  mix_of(n, turns, left, fade, count, w, x + c, row, own ? own + c : NULL, scale, y + c)
  for (; c + 4 * WIDTH <= size; c += 4 * WIDTH) MIX(4, 2, 4 * WIDTH);
  if (c + 2 * WIDTH <= size) MIX(2, 4, 2 * WIDTH), c += 2 * WIDTH;
  if (c + WIDTH <= size) MIX(1, 4, WIDTH), c += WIDTH;
  if (c < size) MIX(1, 4, size - c);
#undef MIX
}

// Up to TOGETHER rows of a head, or heads of a row; each step is taken for all of them before the next.
static void attend(const df_query *p, int r, int rows, int h, int heads) {
  const ptrdiff_t size = p->size;
  const vec factor = v_set(1 / sqrtf((float)p->size));
  const int n = rows * heads;
  float w[TOGETHER][KEYS], largest[TOGETHER];
  vec sum[TOGETHER], fade[TOGETHER];
  sight at[TOGETHER];
  const float *q[TOGETHER], *keys[TOGETHER], *values[TOGETHER];
  float *y[TOGETHER];
  int count[TOGETHER], longest = 0;
  for (int i = 0; i < n; i++) {
    const ptrdiff_t row = r + (rows > 1 ? i : 0), from = (h + (rows > 1 ? 0 : i)) * size;
    at[i] = sight_of(p, (int)row);
    q[i] = p->q + row * p->q_row + from;
    keys[i] = p->keys + from * p->keys_row;
    values[i] = p->values + from;
    y[i] = p->y + row * p->y_row + from;
    if (longest < at[i].total) longest = at[i].total;
  }
  for (int begin = 0; begin < longest; begin += KEYS) {
    for (int i = 0; i < n; i++)
      count[i] = at[i].total <= begin
                     ? 0
                     : scores(&at[i], begin, size, q[i], keys[i], p->keys_row, -INFINITY, w[i]);
    for (int i = 0; i < n; i++) {
      if (!count[i]) continue;
      const float before = begin ? largest[i] : -INFINITY;
      largest[i] = largest_of(count[i], w[i], before);
      sum[i] = begin ? v_mul(sum[i], fade[i] = weight(v_set(before), factor, v_set(largest[i])))
                     : v_set(0);
    }
    for (int i = 0; i < n; i++)
      for (int j = 0; j < count[i]; j += WIDTH) {
        const vec e = weight(v_load(w[i] + j), factor, v_set(largest[i]));
        v_store(w[i] + j, e);
        sum[i] = v_add(sum[i], e);
      }
    for (int i = 0; i < n; i++) {
      if (!count[i]) continue;
      const bool last = begin + count[i] == at[i].total, own = last && at[i].self >= at[i].seen;
      mix(size, begin ? &fade[i] : NULL, count[i] - own, w[i], values[i] + begin * p->values_row,
          p->values_row, own ? values[i] + at[i].self * p->values_row : NULL,
          v_set(last ? 1 / v_sum(sum[i]) : 1), y[i]);
    }
  }
}

void DF_K(attention)(const df_query *p) {
  if (p->rows == 1)
    for (int h = 0; h < p->heads; h += TOGETHER)
      attend(p, 0, 1, h, p->heads - h < TOGETHER ? p->heads - h : TOGETHER);
  else // head by head: its keys and values stay in L1
    for (int h = 0; h < p->heads; h++)
      for (int r = 0; r < p->rows; r += TOGETHER)
        attend(p, r, p->rows - r < TOGETHER ? p->rows - r : TOGETHER, h, 1);
}

// ---- Derivative ----------------------------------------------------------------------------------

// y += w x
static inline void add(ptrdiff_t n, float w, const float *x, float *y) {
  for (ptrdiff_t j = 0; j < n; j += WIDTH)
    v_put(y + j, n - j, v_fma(v_set(w), v_get(x + j, n - j), v_get(y + j, n - j)));
}

// Row j of y += sum over r of w[r][j] x_r, for n vectors of columns
BODY void spread_of(int n, ptrdiff_t left, int count, float w[TILE][KEYS],
                    const float *const x[TILE], ptrdiff_t at, float *y, ptrdiff_t row) {
  vec from[TILE][2];
  foreach (r, TILE)
    foreach (i, n) from[r][i] = v_get(x[r] + at + i * WIDTH, left - i * WIDTH);
  y += at;
  for (int j = 0; j < count; j++, y += row) {
    vec sum[2];
    foreach (i, n) sum[i] = v_get(y + i * WIDTH, left - i * WIDTH);
    foreach (r, TILE) {
      const vec a = v_spread(w[r] + j);
      foreach (i, n) sum[i] = v_fma(a, from[r][i], sum[i]);
    }
    foreach (i, n) v_put(y + i * WIDTH, left - i * WIDTH, sum[i]);
  }
}

static void spread(ptrdiff_t size, int count, float w[TILE][KEYS], const float *const x[TILE],
                   float *y, ptrdiff_t row) {
  ptrdiff_t c = 0;
  for (; c + 2 * WIDTH <= size; c += 2 * WIDTH) spread_of(2, 2 * WIDTH, count, w, x, c, y, row);
  if (c + WIDTH <= size) spread_of(1, WIDTH, count, w, x, c, y, row), c += WIDTH;
  if (c < size) spread_of(1, size - c, count, w, x, c, y, row);
}

// Up to TILE rows in one head. First, for each row, over all blocks: the sum of the weights w_j, and the weighted mean of
// dw_j = <dy, v_j>. Then, block by block, what they make of the scores: ds_j = w_j (dw_j - mean) / sqrt(size).
static void grad_of(const df_query *p, const df_query_grad *g, int first, int rows, int h) {
  const ptrdiff_t size = p->size, from = h * size;
  const float *keys = p->keys + from * p->keys_row, *values = g->values + from * p->keys_row;
  const vec factor = v_set(1 / sqrtf((float)p->size)), one = v_set(1);
  float w[TILE][KEYS], ds[TILE][KEYS], largest[TILE], inverse[TILE], mean[TILE];
  const float *q[TILE], *dy[TILE];
  sight at[TILE];
  int longest = 0;
  for (int r = 0; r < TILE; r++) {
    const int row = first + (r < rows ? r : 0); // a row that is not there weighs nothing
    at[r] = sight_of(p, row);
    q[r] = p->q + row * p->q_row + from;
    dy[r] = g->dy + row * g->dy_row + from;
    if (r >= rows) at[r].total = 0;
    vec sum = v_set(0), product = sum;
    for (int begin = 0; begin < at[r].total; begin += KEYS) {
      const int count = scores(&at[r], begin, size, q[r], keys, p->keys_row, -INFINITY, w[r]);
      scores(&at[r], begin, size, dy[r], values, p->keys_row, 0, ds[r]);
      const float before = begin ? largest[r] : -INFINITY;
      largest[r] = largest_of(count, w[r], before);
      if (begin) {
        const vec fade = weight(v_set(before), factor, v_set(largest[r]));
        sum = v_mul(sum, fade);
        product = v_mul(product, fade);
      }
      for (int j = 0; j < count; j += WIDTH) {
        const vec e = weight(v_load(w[r] + j), factor, v_set(largest[r]));
        sum = v_add(sum, e);
        product = v_fma(e, v_load(ds[r] + j), product);
      }
    }
    inverse[r] = 1 / v_sum(sum);
    mean[r] = v_sum(product) * inverse[r];
    if (longest < at[r].total) longest = at[r].total;
  }
  for (int begin = 0; begin < longest; begin += KEYS) {
    float *dk = g->dk + begin * g->d_row + from, *dv = g->dv + begin * g->d_row + from;
    int most = 0;
    for (int r = 0; r < TILE; r++) {
      int count = at[r].total - begin < KEYS ? at[r].total - begin : KEYS;
      if (count > 0 && at[r].total > KEYS) { // else they are there still
        scores(&at[r], begin, size, q[r], keys, p->keys_row, -INFINITY, w[r]);
        scores(&at[r], begin, size, dy[r], values, p->keys_row, 0, ds[r]);
      }
      for (int j = 0; j < KEYS; j += WIDTH) {
        vec e = v_set(0), d = e;
        if (j < count) {
          e = v_mul(weight(v_load(w[r] + j), factor, v_set(largest[r])), v_set(inverse[r]));
          d = v_mul(v_mul(factor, e), v_sub(v_load(ds[r] + j), v_set(mean[r])));
        }
        v_store(w[r] + j, e);
        v_store(ds[r] + j, d);
      }
      if (count <= 0) continue;
      const float *k = g->keys + from;
      float *dq = g->dq + (first + r) * g->d_row + from;
      if (at[r].self > at[r].seen && begin + count == at[r].total) { // the row itself is further on
        const ptrdiff_t self = at[r].self;
        count--;
        add(size, ds[r][count], k + self * p->values_row, dq);
        add(size, ds[r][count], q[r], g->dk + self * g->d_row + from);
        add(size, w[r][count], dy[r], g->dv + self * g->d_row + from);
        ds[r][count] = w[r][count] = 0;
      }
      mix(size, &one, count, ds[r], k + begin * p->values_row, p->values_row, NULL, one, dq);
      if (most < count) most = count;
    }
    spread(size, most, ds, q, dk, g->d_row);
    spread(size, most, w, dy, dv, g->d_row);
  }
}

void DF_K(attention_grad)(const df_query *p, const df_query_grad *g) {
  for (int h = 0; h < p->heads; h++)
    for (int r = 0; r < p->rows; r += TILE)
      grad_of(p, g, r, p->rows - r < TILE ? p->rows - r : TILE, h);
}
