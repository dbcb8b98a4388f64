// Attention of one row, head by head.
//
// Keys are transposed, so that lanes are keys and a score needs no sum over lanes; for the sum of values lanes are
// columns. Keys come in blocks of KEYS, whose scores stay on the stack. The row itself comes first, at weight 1; a
// block with a larger score than all before makes what has been summed up smaller (Milakov & Gimelshein 2018, "Online
// normalizer calculation for softmax"), so no row is too long and no memory is needed.
//
// What is computed for a row, and in which order, depends on `seen` and `self` alone: all ways to attend give the same
// bits.
#include "kernels/isa/functions.h"
#include "kernels/isa/isa.h"

enum { KEYS = 64 };

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static float dot(ptrdiff_t n, const float *a, const float *b) {
  vec sum = v_set(0);
  for (ptrdiff_t j = 0; j < n; j += WIDTH)
    sum = v_fma(v_get(a + j, n - j), v_get(b + j, n - j), sum);
  return v_sum(sum);
}

// s[j] = <q, column j of keys>, for `count` columns rounded up to vectors
static void scores(int size, const float *q, const float *keys, ptrdiff_t keys_row, int count,
                   float *s) {
  for (int j = 0; j < count; j += WIDTH) {
    vec sum = v_set(0);
    for (ptrdiff_t c = 0; c < size; c++)
      sum = v_fma(v_spread(q + c), v_load(keys + c * keys_row + j), sum);
    v_store(s + j, sum);
  }
}

// y = fade y + sum over j of w[j] row j of x
static void mix(ptrdiff_t size, vec fade, int count, const float *w, const float *x,
                ptrdiff_t x_row, float *y) {
  for (ptrdiff_t c = 0; c < size; c += WIDTH) {
    vec sum = v_mul(fade, v_get(y + c, size - c));
    for (ptrdiff_t j = 0; j < count; j++)
      sum = v_fma(v_spread(w + j), v_get(x + j * x_row + c, size - c), sum);
    v_put(y + c, size - c, sum);
  }
}

// y += w x
static void add(ptrdiff_t n, float w, const float *x, float *y) {
  for (ptrdiff_t j = 0; j < n; j += WIDTH)
    v_put(y + j, n - j, v_fma(v_set(w), v_get(x + j, n - j), v_get(y + j, n - j)));
}

// e^(factor (x - largest))
static inline vec weight(vec x, vec factor, vec largest) {
  return v_exp_between(v_max(v_set(-88), v_mul(factor, v_sub(x, largest))));
}

// Turns the scores of a block into -infinity where nothing is seen; the largest one, `largest` included
static float mask(int count, int self, float *s, float largest) {
  const vec least = v_set(-INFINITY);
  if (self >= 0 && self < count) s[self] = -INFINITY;
  vec most = v_set(largest);
  for (int j = 0; j < count; j += WIDTH) {
    const vmask in = v_less(v_load(lane_number), v_set((float)(count - j)));
    const vec x = v_pick(in, v_load(s + j), least);
    v_store(s + j, x);
    most = v_max(most, x);
  }
  return v_largest(most);
}

static inline int block_of(const df_query *p, int begin) {
  return p->seen - begin < KEYS ? p->seen - begin : KEYS;
}

void DF_K(attention)(const df_query *p) {
  const ptrdiff_t size = p->size, cols = p->heads * size;
  const vec factor = v_set(1 / sqrtf((float)p->size));
  for (ptrdiff_t at = 0; at < cols; at += size) {
    const float *q = p->row + at, *own = q + 2 * cols;
    float *y = p->y + at, w[KEYS];
    float largest = dot(size, q, q + cols);
    vec sum = v_pick(v_less(v_load(lane_number), v_set(1)), v_set(1), v_set(0));
    for (ptrdiff_t c = 0; c < size; c++) y[c] = own[c];
    for (int begin = 0; begin < p->seen; begin += KEYS) {
      const int count = block_of(p, begin);
      scores(p->size, q, p->keys + at * p->keys_row + begin, p->keys_row, count, w);
      const float before = largest;
      largest = mask(count, p->self - begin, w, before);
      const vec fade = weight(v_set(before), factor, v_set(largest));
      sum = v_mul(sum, fade);
      for (int j = 0; j < count; j += WIDTH) {
        const vec e = weight(v_load(w + j), factor, v_set(largest));
        v_store(w + j, e);
        sum = v_add(sum, e);
      }
      mix(size, fade, count, w, p->values + begin * p->values_row + at, p->values_row, y);
    }
    const vec all = v_set(v_sum(sum));
    for (ptrdiff_t c = 0; c < size; c += WIDTH)
      v_put(y + c, size - c, v_div(v_get(y + c, size - c), all));
  }
}

// Twice over the blocks: for the sum of all weights and the weighted mean of dw_j = <dy, v_j>, then for what they make
// of the scores: ds_j = w_j (dw_j - mean) / sqrt(size).
void DF_K(attention_grad)(const df_query *p, const float *values, const float *dy, float *d,
                          ptrdiff_t d_row) {
  const ptrdiff_t size = p->size, cols = p->heads * size;
  const float scale = 1 / sqrtf((float)p->size);
  const vec factor = v_set(scale);
  for (ptrdiff_t at = 0; at < cols; at += size) {
    const float *q = p->row + at, *g = dy + at;
    const float *keys = p->keys + at * p->keys_row, *turned = values + at * p->keys_row;
    float *dq = d + p->self * d_row + at;
    float w[KEYS], dw[KEYS];
    const float own = dot(size, q, q + cols), own_dw = dot(size, g, q + 2 * cols);
    const vec first = v_pick(v_less(v_load(lane_number), v_set(1)), v_set(1), v_set(0));
    float largest = own;
    vec sum = first, mean = v_mul(first, v_set(own_dw));
    for (int begin = 0; begin < p->seen; begin += KEYS) {
      const int count = block_of(p, begin);
      scores(p->size, q, keys + begin, p->keys_row, count, w);
      scores(p->size, g, turned + begin, p->keys_row, count, dw);
      const float before = largest;
      largest = mask(count, p->self - begin, w, before);
      const vec fade = weight(v_set(before), factor, v_set(largest));
      sum = v_mul(sum, fade);
      mean = v_mul(mean, fade);
      for (int j = 0; j < count; j += WIDTH) {
        const vec e = weight(v_load(w + j), factor, v_set(largest));
        const vmask in = v_less(v_load(lane_number), v_set((float)(count - j)));
        sum = v_add(sum, e);
        mean = v_fma(e, v_pick(in, v_load(dw + j), v_set(0)), mean);
      }
    }
    const float all = v_sum(sum), inverse = 1 / all, centre = v_sum(mean) * inverse;
    for (int begin = 0; begin < p->seen; begin += KEYS) {
      const int count = block_of(p, begin);
      if (p->seen > KEYS) { // else they are there still
        scores(p->size, q, keys + begin, p->keys_row, count, w);
        scores(p->size, g, turned + begin, p->keys_row, count, dw);
        mask(count, p->self - begin, w, largest);
      }
      for (int j = 0; j < count; j += WIDTH) {
        const vec e = v_mul(weight(v_load(w + j), factor, v_set(largest)), v_set(inverse));
        v_store(w + j, e);
        v_store(dw + j, v_mul(v_mul(factor, e), v_sub(v_load(dw + j), v_set(centre))));
      }
      float *dk = d + begin * d_row + cols + at, *dv = dk + cols;
      const float *rows = p->values + begin * p->values_row - cols + at;
      mix(size, v_set(1), count, dw, rows, p->values_row, dq);
      for (ptrdiff_t j = 0; j < count; j++) {
        add(size, dw[j], q, dk + j * d_row);
        add(size, w[j], g, dv + j * d_row);
      }
    }
    float e[WIDTH];
    v_store(e, weight(v_set(own), factor, v_set(largest)));
    const float own_w = e[0] * inverse, own_ds = scale * own_w * (own_dw - centre);
    add(size, own_ds, q + cols, dq);
    add(size, own_ds, q, dq + cols);
    add(size, own_w, g, dq + 2 * cols);
  }
}
