// Functions of one number and their derivatives.
#include "kernels/isa/functions.h"
#include "kernels/isa/isa.h"

#define ZERO v_set(0)
#define ONE  v_set(1)

static inline vec v_abs(vec x) { return v_bits(x, 0x7fffffffu); }

// x sigmoid(x). Below -88 the result, smaller than 4e-37, becomes 0.
static inline vec v_silu(vec x) {
  const vec between = v_max(v_set(-89), v_min(v_set(88), x));
  const vec e = v_exp_between(v_sub(ZERO, between));
  return v_div(v_max(v_set(-89), x), v_add(ONE, e));
}

// x Phi(x) = max(x, 0) - t Phi(-t), t = |x|
static inline vec v_gelu(vec x) {
  const vec t = v_min(v_set(13.26f), v_abs(x));
  // t Phi(-t) = u g e^(-t^2/2), u = t / (t + 2), 0 <= u < 0.87. An error of u counts fully where t is small and hardly
  // where it is large, for u g becomes constant there. g, between 0.4 and 1, is a polynomial in 1/8 - u, relative
  // error 2^-25: in u itself its terms would cancel at one end, in 1 - u at the other.
  const vec u = v_div(t, v_add(t, v_set(2))), v = v_sub(v_set(0.125f), u);
  vec g = v_fma(v, v_set(-0.0702888072f), v_set(-0.284952581f));
  g = v_fma(v, g, v_set(-0.333290488f));
  g = v_fma(v, g, v_set(-0.113586992f));
  g = v_fma(v, g, v_set(-0.0770897716f));
  g = v_fma(v, g, v_set(-0.0277209729f));
  g = v_fma(v, g, v_set(0.129414082f));
  g = v_fma(v, g, v_set(-0.143992335f));
  g = v_fma(v, g, v_set(-0.148940295f));
  g = v_fma(v, g, v_set(0.63879019f));
  g = v_fma(v, g, v_set(0.922729254f));
  vec scale;
  const vec p = v_bell(t, &scale);
  return v_fnma(u, v_mul(v_fma(g, p, g), scale), v_max(ZERO, x));
}

// Phi(x) + x phi(x)
static inline vec v_gelu_slope(vec x) {
  const vec t = v_min(v_set(13.26f), v_abs(x));
  vec scale;
  const vec p = v_bell(t, &scale), bell = v_fma(scale, p, scale);
  // Phi(-t) = w g e^(-t^2/2), w = 2.5 / (t + 2.5), absolute error 2^-26
  const vec w = v_div(v_set(2.5f), v_add(t, v_set(2.5f)));
  vec g = v_fma(w, v_set(-0.009110393f), v_set(0.0981998295f));
  g = v_fma(w, g, v_set(-0.333811581f));
  g = v_fma(w, g, v_set(0.418671072f));
  g = v_fma(w, g, v_set(-0.0306342002f));
  g = v_fma(w, g, v_set(0.201522186f));
  g = v_fma(w, g, v_set(0.155163094f));
  const vec tail = v_mul(bell, v_mul(w, g)), phi = v_mul(bell, v_set(0.39894228f));
  const vec within = v_max(v_set(-14), v_min(v_set(14), x));
  return v_fma(within, phi, v_pick(v_less(x, ZERO), tail, v_sub(ONE, tail)));
}

// s = 1 / (1 + e^-x) and 1 - s, each with a small relative error where |x| <= 87
static inline vec v_sigmoids(vec x, vec *rest) {
  const vec e = v_exp_between(v_sub(ZERO, x)), s = v_div(ONE, v_add(ONE, e));
  *rest = v_mul(e, s);
  return s;
}

static inline vec v_silu_slope(vec x) {
  x = v_max(v_set(-87), v_min(v_set(87), x));
  vec rest;
  const vec s = v_sigmoids(x, &rest);
  return v_mul(s, v_fma(x, rest, ONE));
}

// e / (1 + e)^2, e = e^-|x|
static inline vec v_sigmoid_slope(vec x) {
  const vec e = v_exp_between(v_max(v_set(-88), v_sub(ZERO, v_abs(x))));
  return v_div(e, v_fma(e, v_add(v_set(2), e), ONE));
}

// tanh(x) = 2 sigmoid(2 x) - 1
static inline vec v_tanh_slope(vec x) { return v_mul(v_set(4), v_sigmoid_slope(v_add(x, x))); }

static inline vec v_elu(vec x) {
  return v_pick(v_less(ZERO, x), x, v_expm1_between(v_max(v_set(-30), v_min(ZERO, x))));
}

static inline vec v_elu_slope(vec x) { return v_exp_between(v_max(v_set(-88), v_min(ZERO, x))); }

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)
static inline vec v_softplus(vec x) {
  const vec e = v_exp_between(v_max(v_set(-88), v_sub(ZERO, v_abs(x))));
  return v_add(v_max(ZERO, x), v_log1p_between(e));
}

// 1 / (2 sqrt(x)), 0 at 0
static inline vec v_sqrt_slope(vec x) {
  const vec root = v_sqrt(x); // the smallest that is not 0 is 4e-23
  return v_pick(v_less(root, v_set(1e-30f)), ZERO, v_div(v_set(0.5f), root));
}

static inline vec v_clamp_slope(vec x, vec p, vec q) {
  return v_pick(v_less(x, p), ZERO, v_pick(v_less(q, x), ZERO, ONE));
}

void DF_K(unary)(df_unary f, float p, float q, int rows, int cols, const float *x, ptrdiff_t x_row,
                 float *y, ptrdiff_t y_row) {
  const vec vp = v_set(p), vq = v_set(q);
  ptrdiff_t n = cols;
  if (x_row == cols && y_row == cols) n *= rows, rows = 1; // no gaps: one long row

#define EACH(formula)                                                                              \
  for (; rows > 0; rows--, x += x_row, y += y_row)                                                 \
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {                                                     \
      const vec u = v_get(x + j, n - j);                                                           \
      v_put(y + j, n - j, formula);                                                                \
    }                                                                                              \
  break;

  switch (f) {
  case DF_AFFINE: EACH(v_fma(vp, u, vq))
  case DF_GELU: EACH(v_gelu(u))
  case DF_SILU: EACH(v_silu(u))
  case DF_RELU: EACH(v_max(ZERO, u))
  case DF_ELU: EACH(v_elu(u))
  case DF_SIGMOID: EACH(v_sigmoid(u))
  case DF_TANH: EACH(v_tanh(u))
  case DF_EXP: EACH(v_exp(u))
  case DF_SOFTPLUS: EACH(v_softplus(u))
  case DF_SQUARE: EACH(v_mul(u, u))
  case DF_SQRT: EACH(v_sqrt(u))
  case DF_CLAMP: EACH(v_min(vq, v_max(vp, u)))
  case DF_UNARY_COUNT: break;
  }
#undef EACH
}

void DF_K(unary_grad)(df_unary f, float p, float q, int rows, int cols, const float *x,
                      ptrdiff_t x_row, const float *dy, ptrdiff_t dy_row, float *dx,
                      ptrdiff_t dx_row) {
  const vec vp = v_set(p), vq = v_set(q);
  ptrdiff_t n = cols;
  if (x_row == cols && dy_row == cols && dx_row == cols) n *= rows, rows = 1;

#define EACH(slope)                                                                                \
  for (; rows > 0; rows--, x += x_row, dy += dy_row, dx += dx_row)                                 \
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {                                                     \
      const vec u = v_get(x + j, n - j);                                                           \
      v_put(dx + j, n - j, v_mul(slope, v_get(dy + j, n - j)));                                    \
    }                                                                                              \
  break;

  switch (f) {
  case DF_AFFINE: EACH(((void)u, vp))
  case DF_GELU: EACH(v_gelu_slope(u))
  case DF_SILU: EACH(v_silu_slope(u))
  case DF_RELU: EACH(v_pick(v_less(ZERO, u), ONE, ZERO))
  case DF_ELU: EACH(v_elu_slope(u))
  case DF_SIGMOID: EACH(v_sigmoid_slope(u))
  case DF_TANH: EACH(v_tanh_slope(u))
  case DF_EXP: EACH(v_exp(u))
  case DF_SOFTPLUS: EACH(v_sigmoid(u))
  case DF_SQUARE: EACH(v_add(u, u))
  case DF_SQRT: EACH(v_sqrt_slope(u))
  case DF_CLAMP: EACH(v_clamp_slope(u, vp, vq))
  case DF_UNARY_COUNT: break;
  }
#undef EACH
}
