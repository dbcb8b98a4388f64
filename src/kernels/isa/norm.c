// What needs sums over a row before it can write it: normalisations, softmax, and their derivatives.
//
// The variance is the corrected one of two passes (Chan, Golub & LeVeque 1983): the mean of (x - m)^2, with m the
// rounded mean, minus the square of what m is wrong by. Nothing cancels, however far from 0 a row lies, and
// (x - m) - rest keeps what a float32 mean has no room for.
#include "kernels/isa/functions.h"
#include "kernels/isa/isa.h"

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// The first n lanes of x, `other` in those behind.
static inline vec v_only(vec x, ptrdiff_t n, vec other) {
  if (n >= WIDTH) return x;
  return v_pick(v_less(v_load(lane_number), v_set((float)n)), x, other);
}

// BODY(k, j, left) for the vectors of columns `from` to `to` - 1: column j, `left` floats to the end, accumulator k.
// Four accumulators keep the adder busy; the tail belongs to the first.
#define EACH(from, to, BODY)                                                                       \
  do {                                                                                             \
    ptrdiff_t j_ = (from);                                                                         \
    for (; j_ + 4 * WIDTH <= (to); j_ += 4 * WIDTH) {                                              \
      BODY(0, j_, WIDTH)                                                                           \
      BODY(1, j_ + WIDTH, WIDTH)                                                                   \
      BODY(2, j_ + 2 * WIDTH, WIDTH)                                                               \
      BODY(3, j_ + 3 * WIDTH, WIDTH)                                                               \
    }                                                                                              \
    for (; j_ < (to); j_ += WIDTH) { BODY(0, j_, (to)-j_) }                                        \
  } while (0)

// Sums of blocks of columns are added up in float64: the error of a sum does not grow with the length of the row.
enum { BLOCK = 16 * 4 * WIDTH };
#define EACH_BLOCK(n, from, to)                                                                    \
  for (ptrdiff_t from = 0, to; to = (n)-from < BLOCK ? (n) : from + BLOCK, from < (n); from = to)

#define ZEROS(s) vec s##0 = v_set(0), s##1 = s##0, s##2 = s##0, s##3 = s##0
#define SUM(s)   (double)v_sum(v_add(v_add(s##0, s##1), v_add(s##2, s##3)))

// In all lanes: (x - mean) - rest, times inverse, is x normalised.
typedef struct moments {
  vec mean, rest, inverse;
} moments;

static moments moments_of(const float *x, ptrdiff_t n, bool centred, float eps) {
  moments m = {v_set(0), v_set(0), v_set(0)};
  double sum = 0, squares = 0;
  if (centred) {
    EACH_BLOCK(n, from, to) {
      ZEROS(s);
#define BODY(k, j, left) s##k = v_add(s##k, v_get(x + j, left));
      EACH(from, to, BODY);
#undef BODY
      sum += SUM(s);
    }
    m.mean = v_set((float)(sum / (double)n));
    sum = 0;
  }
  EACH_BLOCK(n, from, to) {
    ZEROS(s);
    ZEROS(q);
#define BODY(k, j, left)                                                                           \
  const vec d##k = v_only(v_sub(v_get(x + j, left), m.mean), left, v_set(0));                      \
  s##k = v_add(s##k, d##k);                                                                        \
  q##k = v_fma(d##k, d##k, q##k);
    EACH(from, to, BODY);
#undef BODY
    sum += SUM(s);
    squares += SUM(q);
  }
  const double rest = centred ? sum / (double)n : 0;
  const double variance = squares / (double)n - rest * rest;
  m.rest = v_set((float)rest);
  // Rounding may leave less than 0 of a variance that is 0; NaN stays.
  m.inverse = v_set((float)(1 / sqrt((variance < 0 ? 0 : variance) + (double)eps)));
  return m;
}

static inline vec normalised(const moments *m, vec x) {
  return v_mul(v_sub(v_sub(x, m->mean), m->rest), m->inverse);
}

void DF_K(norm)(const df_norm *p) {
  const ptrdiff_t n = p->cols / p->groups;
  for (ptrdiff_t i = 0; i < p->rows; i++)
    for (ptrdiff_t begin = 0; begin < p->cols; begin += n) {
      const float *x = p->x + i * p->x_row + begin;
      float *y = p->y + i * p->y_row + begin;
      const moments m = moments_of(x, n, p->centred, p->eps);
      for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        const ptrdiff_t left = n - j;
        vec v = normalised(&m, v_get(x + j, left));
        if (p->scale) v = v_mul(v, v_get(p->scale + begin + j, left));
        if (p->shift) v = v_add(v, v_get(p->shift + begin + j, left));
        v_put(y + j, left, v);
      }
    }
}

// With g = scale dy and u = x normalised: dx = inverse (g - mean(g) - u mean(g u)); mean(g) only if centred.
void DF_K(norm_grad)(const df_norm *p, const float *dy, ptrdiff_t dy_row) {
  const ptrdiff_t n = p->cols / p->groups;
  for (ptrdiff_t i = 0; i < p->rows; i++)
    for (ptrdiff_t begin = 0; begin < p->cols; begin += n) {
      const float *x = p->x + i * p->x_row + begin, *d = dy + i * dy_row + begin;
      const float *scale = p->scale ? p->scale + begin : NULL;
      float *dx = p->y + i * p->y_row + begin;
      const moments m = moments_of(x, n, p->centred, p->eps);
      double sum = 0, sum_u = 0;
      EACH_BLOCK(n, from, to) {
        ZEROS(s);
        ZEROS(q);
#define BODY(k, j, left)                                                                           \
  vec g##k = v_get(d + j, left);                                                                   \
  if (scale) g##k = v_mul(g##k, v_get(scale + j, left));                                           \
  s##k = v_add(s##k, g##k);                                                                        \
  q##k = v_fma(g##k, normalised(&m, v_get(x + j, left)), q##k);
        EACH(from, to, BODY);
#undef BODY
        sum += SUM(s);
        sum_u += SUM(q);
      }
      const vec mean_g = v_set(p->centred ? (float)(sum / (double)n) : 0);
      const vec mean_gu = v_set((float)(sum_u / (double)n));
      for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        const ptrdiff_t left = n - j;
        vec g = v_get(d + j, left);
        if (scale) g = v_mul(g, v_get(scale + j, left));
        const vec u = normalised(&m, v_get(x + j, left));
        v_put(dx + j, left, v_mul(m.inverse, v_fnma(u, mean_gu, v_sub(g, mean_g))));
      }
    }
}

// e^(scale (x - largest)) is at most 1, so that nothing overflows.
void DF_K(softmax)(float scale, int rows, int cols, const float *x, ptrdiff_t x_row, float *y,
                   ptrdiff_t y_row) {
  const ptrdiff_t n = cols;
  const vec factor = v_set(scale), least = v_set(-INFINITY);
  for (; rows > 0; rows--, x += x_row, y += y_row) {
    vec m0 = least, m1 = least, m2 = least, m3 = least;
#define BODY(k, j, left) m##k = v_max(m##k, v_only(v_get(x + j, left), left, least));
    EACH(0, n, BODY);
#undef BODY
    const vec largest = v_set(v_largest(v_max(v_max(m0, m1), v_max(m2, m3))));
    double sum = 0;
    EACH_BLOCK(n, from, to) {
      ZEROS(s);
#define BODY(k, j, left)                                                                           \
  const vec d##k = v_mul(factor, v_sub(v_get(x + j, left), largest));                              \
  const vec e##k = v_exp_between(v_max(v_set(-88), d##k));                                         \
  v_put(y + j, left, e##k);                                                                        \
  s##k = v_add(s##k, v_only(e##k, left, v_set(0)));
      EACH(from, to, BODY);
#undef BODY
      sum += SUM(s);
    }
    const vec all = v_set((float)sum);
    for (ptrdiff_t j = 0; j < n; j += WIDTH) v_put(y + j, n - j, v_div(v_get(y + j, n - j), all));
  }
}

// dx = scale y (dy - <y, dy>)
void DF_K(softmax_grad)(float scale, int rows, int cols, const float *y, ptrdiff_t y_row,
                        const float *dy, ptrdiff_t dy_row, float *dx, ptrdiff_t dx_row) {
  const ptrdiff_t n = cols;
  const vec factor = v_set(scale);
  for (; rows > 0; rows--, y += y_row, dy += dy_row, dx += dx_row) {
    double sum = 0;
    EACH_BLOCK(n, from, to) {
      ZEROS(s);
#define BODY(k, j, left) s##k = v_fma(v_get(y + j, left), v_get(dy + j, left), s##k);
      EACH(from, to, BODY);
#undef BODY
      sum += SUM(s);
    }
    const vec mean = v_set((float)sum);
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
      const vec d = v_sub(v_get(dy + j, n - j), mean);
      v_put(dx + j, n - j, v_mul(factor, v_mul(v_get(y + j, n - j), d)));
    }
  }
}
