// exp, sigmoid, tanh, the bell of the normal distribution and log1p on vectors. Errors are for normal results and
// are held to by tests/test_kernels.c; smaller results may be rounded to 0. NaN stays NaN.
#ifndef DF_KERNELS_ISA_FUNCTIONS_H
#define DF_KERNELS_ISA_FUNCTIONS_H

#include "kernels/simd.h"

// A float near 1.5 2^23 has integer spacing, so adding this one rounds; the low bits are then the
// rounded number plus 127, which is the exponent field of 2^n.
#define V_ROUND v_set(12582912.0f + 127.0f)

// x = n ln 2 + r, |r| <= 0.35. Returns e^r - 1; *bits has n + 127 in its low bits, *n is n.
// `low` is a small part of x that x itself had no room for.
static inline vec v_reduce(vec x, vec low, vec *bits, vec *n) {
  *bits = v_fma(x, v_set(1.44269504f), V_ROUND);
  *n = v_sub(*bits, V_ROUND);
  // ln 2 in two parts; n times the first, which has ten bits, is exact.
  const vec r = v_add(v_fnma(*n, v_set(-2.12194440e-4f), v_fnma(*n, v_set(0.693359375f), x)), low);
  // e^r - 1 = r + r^2 (1/2 + r P(r)), relative error 2^-26
  vec p = v_fma(r, v_set(0.0013898274628f), v_set(0.0083663016558f));
  p = v_fma(r, p, v_set(0.0416668578982f));
  p = v_fma(r, p, v_set(0.1666654646397f));
  p = v_fma(r, p, v_set(0.5f));
  return v_fma(v_mul(r, r), p, r);
}

// e^x for -88 <= x <= 89: 0 at the lower end, infinite at the upper one. 1.5 ulp.
static inline vec v_exp_between(vec x) {
  vec bits, n;
  const vec p = v_reduce(x, v_set(0), &bits, &n);
  return v_mul(v_add(v_set(1), p), v_exponent(bits));
}

// e^x for all x. 1.5 ulp.
static inline vec v_exp(vec x) {
  vec bits, n;
  const vec p = v_reduce(v_max(v_set(-105), v_min(v_set(89), x)), v_set(0), &bits, &n);
  // 2^n in two factors: the result may be a denormal number, or infinite.
  const vec half = v_fma(n, v_set(0.5f), V_ROUND), rest = v_sub(n, v_sub(half, V_ROUND));
  return v_mul(v_mul(v_add(v_set(1), p), v_exponent(half)), v_exponent(v_add(rest, V_ROUND)));
}

// e^x - 1 for x >= -30 (and <= 88). 1.5 ulp.
static inline vec v_expm1_between(vec x) {
  vec bits, n;
  const vec p = v_reduce(x, v_set(0), &bits, &n), scale = v_exponent(bits);
  return v_fma(scale, p, v_sub(scale, v_set(1)));
}

// 1 / (1 + e^-x). 2 ulp.
static inline vec v_sigmoid(vec x) {
  x = v_max(v_set(-89), v_min(v_set(88), x));
  return v_div(v_set(1), v_add(v_set(1), v_exp_between(v_sub(v_set(0), x))));
}

// tanh(x) = (e^2x - 1) / (e^2x + 1). 2 ulp.
static inline vec v_tanh(vec x) {
  x = v_max(v_set(-10), v_min(v_set(10), x));
  const vec e = v_expm1_between(v_add(x, x));
  return v_div(e, v_add(e, v_set(2)));
}

// log(1 + e) for 0 <= e <= 1. 1.5 ulp.
static inline vec v_log1p_between(vec e) {
  // Up to sqrt(2) as it is, above that log(2) + log((1 + e) / 2)
  const vmask small = v_less(e, v_set(0.41421356f));
  const vec f = v_pick(small, e, v_mul(v_sub(e, v_set(1)), v_set(0.5f)));
  // log(1 + f) = f - f^2 / 2 + f^3 P(f), relative error 2^-30
  vec p = v_fma(f, v_set(0.0675753280520f), v_set(-0.1169476062059f));
  p = v_fma(f, p, v_set(0.1189374253154f));
  p = v_fma(f, p, v_set(-0.1240299344063f));
  p = v_fma(f, p, v_set(0.1421850323677f));
  p = v_fma(f, p, v_set(-0.1666809618473f));
  p = v_fma(f, p, v_set(0.2000217139721f));
  p = v_fma(f, p, v_set(-0.2500000894070f));
  p = v_fma(f, p, v_set(0.3333331048489f));
  const vec ff = v_mul(f, f);
  const vec low = v_mul(ff, v_fma(f, p, v_set(-0.5f)));
  return v_pick(small, v_add(f, low), v_add(v_add(low, f), v_set(0.69314718056f)));
}

// The bell e^(-t^2/2) = (1 + p) *scale for 0 <= t <= 13.26, where it has become 0: returns p.
static inline vec v_bell(vec t, vec *scale) {
  // t^2 = high^2 + (t - high)(t + high), high^2 exact: an error in t^2 would grow by t^2 in e^-t^2/2.
  const vec high = v_bits(t, 0xfffff000u), half = v_mul(v_set(-0.5f), high);
  const vec low = v_mul(v_sub(t, high), v_fma(v_set(-0.5f), t, half));
  vec bits, n;
  const vec p = v_reduce(v_mul(half, high), low, &bits, &n);
  *scale = v_exponent(bits);
  return p;
}

#endif
