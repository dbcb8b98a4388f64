#include "base/random.h"

#include <math.h>
#include <string.h>

// ------------------------------------------------------------------------------------------------
// Philox 4x32-10: ten rounds of two 32 x 32 -> 64 bit products; the key grows by a constant per
// round.

void df_random_block(const df_random *at, uint32_t i, uint32_t out[4]) {
  uint32_t key0 = (uint32_t)at->seed, key1 = (uint32_t)(at->seed >> 32);
  uint32_t a = i | (uint32_t)at->purpose << 24, b = at->row, c = at->token, d = at->sequence;
  for (int round = 0; round < 10; round++) {
    uint64_t left = (uint64_t)a * 0xD2511F53u, right = (uint64_t)c * 0xCD9E8D57u;
    a = (uint32_t)(right >> 32) ^ b ^ key0;
    b = (uint32_t)right;
    c = (uint32_t)(left >> 32) ^ d ^ key1;
    d = (uint32_t)left;
    key0 += 0x9E3779B9u; // golden ratio
    key1 += 0xBB67AE85u; // sqrt(3) - 1
  }
  out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

static double join(uint32_t high, uint32_t low) { // 53 bits, in [0, 1)
  return ((high >> 5) * 0x1p26 + (low >> 6)) * 0x1p-53;
}

void df_random_uniform(const df_random *at, int n, float *out) {
  uint32_t word[4];
  for (int j = 0; j < n; j++) {
    if (j % 4 == 0) df_random_block(at, (uint32_t)j / 4, word);
    out[j] = (float)(word[j % 4] >> 8) * 0x1p-24f;
  }
}

double df_random_double(const df_random *at) {
  uint32_t word[4];
  df_random_block(at, 0, word);
  return join(word[0], word[1]);
}

// ------------------------------------------------------------------------------------------------
// Normals. The math libraries of two systems differ in the last bit of log, sin and cos, and a seed
// shall mean the same sample everywhere; these series use nothing but + - * / and sqrt, which
// IEEE 754 fixes.

// c[0] + c[1] x + ... + c[n-1] x^(n-1)
static double polynomial(double x, const double *c, int n) {
  double sum = c[n - 1];
  for (int k = n - 2; k >= 0; k--) sum = sum * x + c[k];
  return sum;
}

static double log_of(double x) { // x normal and positive
  // x = 2^e m, m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172
  static const double atanh_series[] = {1,        1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9, 1.0 / 11,
                                        1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21};
  uint64_t bits;
  memcpy(&bits, &x, 8);
  int e = (int)(bits >> 52) - 1023;
  bits = (bits & 0xFFFFFFFFFFFFFull) | 1023ull << 52;
  double m;
  memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) m /= 2, e++;
  double s = (m - 1) / (m + 1);
  return e * 0.6931471805599453 + 2 * s * polynomial(s * s, atanh_series, 11);
}

static void sin_cos_of_turn(double turn, double *sine, double *cosine) { // turn in [0, 1)
  // To the nearest quarter turn, then the Taylor series on [-pi/4, pi/4], in -x^2.
  static const double sin_series[] = {1,
                                      1.0 / 6,
                                      1.0 / 120,
                                      1.0 / 5040,
                                      1.0 / 362880,
                                      1.0 / 39916800,
                                      1.0 / 6227020800,
                                      1.0 / 1307674368000,
                                      1.0 / 355687428096000};
  static const double cos_series[] = {1,
                                      1.0 / 2,
                                      1.0 / 24,
                                      1.0 / 720,
                                      1.0 / 40320,
                                      1.0 / 3628800,
                                      1.0 / 479001600,
                                      1.0 / 87178291200,
                                      1.0 / 20922789888000};
  int quarter = (int)(turn * 4 + 0.5);
  double x = (turn - quarter * 0.25) * 6.283185307179586;
  double s = x * polynomial(-x * x, sin_series, 9), c = polynomial(-x * x, cos_series, 9);
  switch (quarter & 3) {
  case 0: *sine = s, *cosine = c; break;
  case 1: *sine = c, *cosine = -s; break;
  case 2: *sine = -s, *cosine = -c; break;
  default: *sine = -c, *cosine = s; break;
  }
}

// Box-Muller: two words give sqrt(-2 log u) (cos, sin)(2 pi v), u in (0, 1). The largest is 6.7.
static void normal_pair(const uint32_t word[2], float out[2]) {
  double radius = sqrt(-2 * log_of((word[0] + 0.5) * 0x1p-32)), sine, cosine;
  sin_cos_of_turn(word[1] * 0x1p-32, &sine, &cosine);
  out[0] = (float)(radius * cosine);
  out[1] = (float)(radius * sine);
}

void df_random_normal(const df_random *at, int n, float *out) {
  uint32_t word[4];
  float pair[2];
  for (int j = 0; j < n; j++) {
    if (j % 4 == 0) df_random_block(at, (uint32_t)j / 4, word);
    if (j % 2 == 0) normal_pair(word + j % 4, pair);
    out[j] = pair[j % 2];
  }
}

// ------------------------------------------------------------------------------------------------

void df_random_shuffle(const df_random *at, int n, int32_t *order) {
  uint32_t word[4];
  for (int i = 0; i < n; i++) order[i] = i;
  for (int i = 0; i + 1 < n; i++) {
    // The place i swaps with itself or a later one; 53 bits make the choice fair enough for any n.
    if (i % 2 == 0) df_random_block(at, (uint32_t)i / 2, word);
    int j = i + (int)(join(word[i % 2 * 2], word[i % 2 * 2 + 1]) * (n - i));
    int32_t swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
}
