// The truth that the other tables are tested against: plain loops in float64, one statement per
// formula. Only the results are rounded to float32.
#include "kernels/kernels.h"

#include <math.h>

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// f(x). At infinity a product 0 inf stands for its limit: GELU and SILU of -inf are 0.
static double value(df_unary f, double p, double q, double x) {
  switch (f) {
  case DF_AFFINE: return p * x + q;
  case DF_GELU: return isinf(x) ? fmax(x, 0) : 0.5 * x * erfc(-x * sqrt(0.5));
  case DF_SILU: return isinf(x) ? fmax(x, 0) : x * sigmoid(x);
  case DF_RELU: return x <= 0 ? 0 : x;
  case DF_ELU: return x > 0 ? x : expm1(x);
  case DF_SIGMOID: return sigmoid(x);
  case DF_TANH: return tanh(x);
  case DF_EXP: return exp(x);
  case DF_SOFTPLUS: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
  case DF_SQUARE: return x * x;
  case DF_SQRT: return sqrt(x);
  case DF_CLAMP: return x < p ? p : x > q ? q : x;
  case DF_UNARY_COUNT: break;
  }
  return NAN;
}

// f'(x)
static double slope(df_unary f, double p, double q, double x) {
  const double s = sigmoid(x), inf = isinf(x);
  switch (f) {
  case DF_AFFINE: return p;
  case DF_GELU:
    if (inf) return x > 0;
    return 0.5 * erfc(-x * sqrt(0.5)) + x * exp(-0.5 * x * x) * 0.39894228040143267794;
  case DF_SILU: return inf ? x > 0 : s + x * s * sigmoid(-x);
  case DF_RELU: return x > 0;
  case DF_ELU: return x > 0 ? 1 : exp(x);
  case DF_SIGMOID: return s * sigmoid(-x);
  case DF_TANH: return 1 / (cosh(x) * cosh(x));
  case DF_EXP: return exp(x);
  case DF_SOFTPLUS: return s;
  case DF_SQUARE: return 2 * x;
  case DF_SQRT: return x == 0 ? 0 : 0.5 / sqrt(x);
  case DF_CLAMP: return p <= x && x <= q;
  case DF_UNARY_COUNT: break;
  }
  return NAN;
}

// Packed is B itself, (k,n) row-major.
static size_t packed_size(int n, int k) { return (size_t)n * (size_t)k; }

static void pack(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed) {
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) packed[(ptrdiff_t)i * n + j] = b[i * b_row + j * b_col];
}

static void matmul(const df_matmul *p) {
  for (int i = 0; i < p->m; i++)
    for (int j = 0; j < p->n; j++) {
      double sum = 0;
      for (int l = 0; l < p->k; l++)
        sum += (double)p->a[i * p->a_row + l * p->a_col] * p->b[(ptrdiff_t)l * p->n + j];
      if (p->bias) sum += p->bias[j];
      if (p->residual) sum += p->residual[i * p->residual_row + j];
      p->c[i * p->c_row + j] = (float)(p->act < 0 ? sum : value((df_unary)p->act, 0, 0, sum));
    }
}

// scale (n), then whole numbers (k,n).
static size_t int8_size(int n, int k) { return (size_t)n * (size_t)(k + 1); }

static void int8_pack(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                      float *packed) {
  for (int j = 0; j < n; j++) {
    float most = 0;
    for (int i = 0; i < k; i++) most = fmaxf(most, fabsf(b[i * b_row + j * b_col]));
    const float inverse = most > 1e-30f ? 127 / most : 0; // in float32, as everywhere
    packed[j] = most / 127;
    for (int i = 0; i < k; i++)
      packed[(i + 1) * (ptrdiff_t)n + j] = nearbyintf(b[i * b_row + j * b_col] * inverse);
  }
}

// The rounding of A is a part of the formula, so it is done in float32 here too.
static void int8_matmul(const df_matmul *p) {
  const float *scale = p->b, *w = p->b + p->n;
  for (int i = 0; i < p->m; i++)
    for (int j = 0; j < p->n; j++) {
      double sum = 0;
      for (int begin = 0; begin < p->k; begin += DF_INT8_BLOCK) {
        const int end = p->k - begin < DF_INT8_BLOCK ? p->k : begin + DF_INT8_BLOCK;
        const float *a = p->a + i * p->a_row;
        float low = INFINITY, high = -INFINITY;
        for (int l = begin; l < end; l++) {
          const float x = a[l * p->a_col];
          low = fminf(low, x);
          high = fmaxf(high, x);
          if (!isfinite(x)) sum = NAN;
        }
        const float range = high - low, inverse = range > 1e-30f ? DF_INT8_STEPS / range : 0;
        for (int l = begin; l < end; l++) {
          const double q = nearbyintf((a[l * p->a_col] - low) * inverse);
          sum += (double)scale[j] * w[(ptrdiff_t)l * p->n + j] * (low + q * range / DF_INT8_STEPS);
        }
      }
      if (p->bias) sum += p->bias[j];
      if (p->residual) sum += p->residual[i * p->residual_row + j];
      p->c[i * p->c_row + j] = (float)(p->act < 0 ? sum : value((df_unary)p->act, 0, 0, sum));
    }
}

static void unary(df_unary f, float p, float q, int rows, int cols, const float *x, ptrdiff_t x_row,
                  float *y, ptrdiff_t y_row) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++) y[i * y_row + j] = (float)value(f, p, q, x[i * x_row + j]);
}

static void unary_grad(df_unary f, float p, float q, int rows, int cols, const float *x,
                       ptrdiff_t x_row, const float *dy, ptrdiff_t dy_row, float *dx,
                       ptrdiff_t dx_row) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++)
      dx[i * dx_row + j] = (float)(slope(f, p, q, x[i * x_row + j]) * dy[i * dy_row + j]);
}

static void binary(df_binary op, int rows, int cols, const float *a, ptrdiff_t a_row, int a_col,
                   const float *b, ptrdiff_t b_row, int b_col, float *y, ptrdiff_t y_row) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++) {
      const double s = a[i * a_row + j * a_col], t = b[i * b_row + j * b_col];
      y[i * y_row + j] = (float)(op == DF_ADD   ? s + t
                                 : op == DF_SUB ? s - t
                                 : op == DF_MUL ? s * t
                                                : s / t);
    }
}

static void sum_rows(int rows, int cols, const float *x, ptrdiff_t x_row, float *y) {
  for (int j = 0; j < cols; j++) {
    double sum = 0;
    for (int i = 0; i < rows; i++) sum += x[i * x_row + j];
    y[j] = (float)sum;
  }
}

static void sum_cols(int rows, int cols, const float *x, ptrdiff_t x_row, float *y,
                     ptrdiff_t y_row) {
  for (int i = 0; i < rows; i++) {
    double sum = 0;
    for (int j = 0; j < cols; j++) sum += x[i * x_row + j];
    y[i * y_row] = (float)sum;
  }
}

// The mean of n numbers (0 if not centred) and 1 / sqrt of their mean square around it + eps
static void moments(int n, const float *x, bool centred, double eps, double *mean,
                    double *inverse) {
  double sum = 0, squares = 0;
  for (int j = 0; centred && j < n; j++) sum += x[j];
  *mean = sum / n;
  for (int j = 0; j < n; j++) squares += (x[j] - *mean) * (x[j] - *mean);
  *inverse = 1 / sqrt(squares / n + eps);
}

static void norm(const df_norm *p) {
  const int n = p->cols / p->groups;
  for (int i = 0; i < p->rows; i++)
    for (int begin = 0; begin < p->cols; begin += n) {
      const float *x = p->x + i * p->x_row;
      double mean, inverse;
      moments(n, x + begin, p->centred, p->eps, &mean, &inverse);
      for (int j = begin; j < begin + n; j++) {
        const double scale = p->scale ? p->scale[j] : 1, shift = p->shift ? p->shift[j] : 0;
        p->y[i * p->y_row + j] = (float)((x[j] - mean) * inverse * scale + shift);
      }
    }
}

// With g = scale dy and u = (x - mean) inverse: dx = inverse (g - mean(g) - u mean(g u)); mean(g) only if centred
static void norm_grad(const df_norm *p, const float *dy, ptrdiff_t dy_row) {
  const int n = p->cols / p->groups;
  for (int i = 0; i < p->rows; i++)
    for (int begin = 0; begin < p->cols; begin += n) {
      const float *x = p->x + i * p->x_row, *d = dy + i * dy_row;
      double mean, inverse, mean_g = 0, mean_gu = 0;
      moments(n, x + begin, p->centred, p->eps, &mean, &inverse);
      for (int j = begin; j < begin + n; j++) {
        const double g = (p->scale ? (double)p->scale[j] : 1) * d[j];
        if (p->centred) mean_g += g / n;
        mean_gu += g * (x[j] - mean) * inverse / n;
      }
      for (int j = begin; j < begin + n; j++) {
        const double g = (p->scale ? (double)p->scale[j] : 1) * d[j];
        const double u = (x[j] - mean) * inverse;
        p->y[i * p->y_row + j] = (float)(inverse * (g - mean_g - u * mean_gu));
      }
    }
}

static void softmax(float scale, int rows, int cols, const float *x, ptrdiff_t x_row, float *y,
                    ptrdiff_t y_row) {
  for (int i = 0; i < rows; i++, x += x_row, y += y_row) {
    double largest = -INFINITY, sum = 0;
    for (int j = 0; j < cols; j++) largest = fmax(largest, x[j]);
    for (int j = 0; j < cols; j++) sum += exp(scale * (x[j] - largest));
    for (int j = 0; j < cols; j++) y[j] = (float)(exp(scale * (x[j] - largest)) / sum);
  }
}

static void softmax_grad(float scale, int rows, int cols, const float *y, ptrdiff_t y_row,
                         const float *dy, ptrdiff_t dy_row, float *dx, ptrdiff_t dx_row) {
  for (int i = 0; i < rows; i++, y += y_row, dy += dy_row, dx += dx_row) {
    double sum = 0;
    for (int j = 0; j < cols; j++) sum += (double)y[j] * dy[j];
    for (int j = 0; j < cols; j++) dx[j] = (float)((double)scale * y[j] * (dy[j] - sum));
  }
}

// Does row r see row j of the sequence, or is it that? Rows from `end_of` on it does not.
static bool sees(const df_query *p, int r, int j) {
  return j < p->seen + r * p->more || j == p->self + r;
}
static int end_of(const df_query *p, int r) {
  const int seen = p->seen + r * p->more, self = p->self + r;
  return seen > self ? seen : self + 1;
}

static double score(const df_query *p, int r, int h, int j) {
  const float *q = p->q + r * p->q_row + h * p->size, *keys = p->keys + h * p->size * p->keys_row;
  double sum = 0;
  for (int c = 0; c < p->size; c++) sum += (double)q[c] * keys[c * p->keys_row + j];
  return sum / sqrt(p->size);
}
static double largest_score(const df_query *p, int r, int h) {
  double largest = -INFINITY;
  for (int j = 0; j < end_of(p, r); j++)
    if (sees(p, r, j)) largest = fmax(largest, score(p, r, h, j));
  return largest;
}

enum { PART = 16 }; // columns of a head that are summed up together

static void attention(const df_query *p) {
  for (int r = 0; r < p->rows; r++)
    for (int h = 0; h < p->heads; h++) {
      const double largest = largest_score(p, r, h);
      for (int begin = 0; begin < p->size; begin += PART) {
        const int n = p->size - begin < PART ? p->size - begin : PART;
        const ptrdiff_t at = h * p->size + begin;
        double sum = 0, y[PART] = {0};
        for (int j = 0; j < end_of(p, r); j++) {
          if (!sees(p, r, j)) continue;
          const double w = exp(score(p, r, h, j) - largest);
          sum += w;
          for (int c = 0; c < n; c++) y[c] += w * p->values[j * p->values_row + at + c];
        }
        for (int c = 0; c < n; c++) p->y[r * p->y_row + at + c] = (float)(y[c] / sum);
      }
    }
}

// With s the scores and p the weights: dv_j = p_j dy, ds_j = p_j (<dy, v_j> - sum_l p_l <dy, v_l>),
// dq = sum_j ds_j k_j / sqrt(size), dk_j = ds_j q / sqrt(size)
static void attention_grad(const df_query *p, const df_query_grad *g) {
  for (int r = 0; r < p->rows; r++)
    for (int h = 0; h < p->heads; h++) {
      const ptrdiff_t from = h * p->size;
      const float *q = p->q + r * p->q_row + from, *dy = g->dy + r * g->dy_row + from;
      const double largest = largest_score(p, r, h);
      double sum = 0, mean = 0;
      for (int begin = -1; begin < p->size; begin += begin < 0 ? 1 : PART) { // first the sums
        const int n = p->size - begin < PART ? p->size - begin : PART;
        double dq[PART] = {0};
        for (int j = 0; j < end_of(p, r); j++) {
          if (!sees(p, r, j)) continue;
          const double w = exp(score(p, r, h, j) - largest);
          double dw = 0;
          for (int c = 0; c < p->size; c++)
            dw += (double)dy[c] * p->values[j * p->values_row + from + c];
          if (begin < 0) sum += w, mean += w * dw;
          const double ds = w / sum * (dw - mean / sum) / sqrt(p->size);
          float *dk = g->dk + j * g->d_row + from, *dv = g->dv + j * g->d_row + from;
          for (int c = begin; c >= 0 && c < begin + n; c++) {
            dq[c - begin] += ds * g->keys[j * p->values_row + from + c];
            dk[c] = (float)(dk[c] + ds * q[c]);
            dv[c] = (float)(dv[c] + w / sum * dy[c]);
          }
        }
        for (int c = begin; c >= 0 && c < begin + n; c++) {
          float *to = g->dq + r * g->d_row + from + c;
          *to = (float)(*to + dq[c - begin]);
        }
      }
    }
}

static void gru(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
                ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, float *y, ptrdiff_t y_row) {
  for (int i = 0; i < rows; i++, gi += gi_row, gh += gh_row, h += h_row, y += y_row)
    for (int j = 0; j < n; j++) {
      const double r = sigmoid((double)gi[j] + gh[j]);
      const double u = sigmoid((double)gi[n + j] + gh[n + j]);
      const double c = tanh(gi[2 * n + j] + r * gh[2 * n + j]);
      y[j] = (float)((1 - u) * c + u * h[j]);
    }
}

static void gru_grad(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
                     ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, const float *dy,
                     ptrdiff_t dy_row, float *d, ptrdiff_t d_row) {
  for (int i = 0; i < rows; i++, gi += gi_row, gh += gh_row, h += h_row, dy += dy_row, d += d_row)
    for (int j = 0; j < n; j++) {
      const double r = sigmoid((double)gi[j] + gh[j]);
      const double u = sigmoid((double)gi[n + j] + gh[n + j]);
      const double c = tanh(gi[2 * n + j] + r * gh[2 * n + j]);
      // y = (1 - u) c + u h
      const double du = dy[j] * (h[j] - c), dc = dy[j] * (1 - u), dh = dy[j] * u;
      // c = tanh(s), s = gi_c + r gh_c
      const double ds = dc * (1 - c * c), dr = ds * gh[2 * n + j];
      d[j] = d[3 * n + j] = (float)(dr * r * (1 - r));
      d[n + j] = d[4 * n + j] = (float)(du * u * (1 - u));
      d[2 * n + j] = (float)ds;
      d[5 * n + j] = (float)(ds * r);
      d[6 * n + j] = (float)dh;
    }
}

static void adamw(size_t n, float *w, const float *g, float *m, float *v, float grad_scale,
                  float lr, float beta1, float beta2, float eps, float decay, float c1, float c2) {
  for (size_t i = 0; i < n; i++) {
    const double dw = (double)grad_scale * g[i];
    const double m1 = beta1 * (double)m[i] + (1 - (double)beta1) * dw;
    const double v1 = beta2 * (double)v[i] + (1 - (double)beta2) * dw * dw;
    const double w1 = w[i] - (double)lr * decay * w[i];
    m[i] = (float)m1;
    v[i] = (float)v1;
    w[i] = (float)(w1 - lr / (double)c1 * m1 / (sqrt(v1 / c2) + eps));
  }
}

static void lerp(size_t n, float a, const float *x, float *y) {
  for (size_t i = 0; i < n; i++) y[i] = (float)(y[i] + a * ((double)x[i] - y[i]));
}

static double sum_squares(size_t n, const float *x) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
  return sum;
}

const df_kernels *df_kernels_reference(void) {
  static const df_kernels table = {
      .name = "reference",
      .width = 1,
      .packed_size = packed_size,
      .pack = pack,
      .matmul = matmul,
      .int8_size = int8_size,
      .int8_pack = int8_pack,
      .int8_matmul = int8_matmul,
      .unary = unary,
      .unary_grad = unary_grad,
      .binary = binary,
      .sum_rows = sum_rows,
      .sum_cols = sum_cols,
      .norm = norm,
      .norm_grad = norm_grad,
      .softmax = softmax,
      .softmax_grad = softmax_grad,
      .attention = attention,
      .attention_grad = attention_grad,
      .gru = gru,
      .gru_grad = gru_grad,
      .adamw = adamw,
      .lerp = lerp,
      .sum_squares = sum_squares,
  };
  return &table;
}
