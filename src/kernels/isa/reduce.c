// Sums. The order of additions is part of the result, so it is written out: no build changes it.
#include "kernels/isa/isa.h"

void DF_K(sum_rows)(int rows, int cols, const float *x, ptrdiff_t x_row, float *y) {
  // A row is one addition per column, so four columns of vectors keep the adder busy.
  int j = 0;
  for (; j + 4 * WIDTH <= cols; j += 4 * WIDTH) {
    vec s0 = v_set(0), s1 = s0, s2 = s0, s3 = s0;
    const float *at = x + j;
    for (int i = 0; i < rows; i++, at += x_row) {
      s0 = v_add(s0, v_load(at));
      s1 = v_add(s1, v_load(at + WIDTH));
      s2 = v_add(s2, v_load(at + 2 * WIDTH));
      s3 = v_add(s3, v_load(at + 3 * WIDTH));
    }
    v_store(y + j, s0);
    v_store(y + j + WIDTH, s1);
    v_store(y + j + 2 * WIDTH, s2);
    v_store(y + j + 3 * WIDTH, s3);
  }
  for (; j < cols; j += WIDTH) {
    vec s = v_set(0);
    for (int i = 0; i < rows; i++) s = v_add(s, v_get(x + i * x_row + j, cols - j));
    v_put(y + j, cols - j, s);
  }
}

void DF_K(sum_cols)(int rows, int cols, const float *x, ptrdiff_t x_row, float *y,
                    ptrdiff_t y_row) {
  for (; rows > 0; rows--, x += x_row, y += y_row) {
    // Column j goes to sum (j / WIDTH) mod 4, lane j mod WIDTH.
    vec s0 = v_set(0), s1 = s0, s2 = s0, s3 = s0;
    int j = 0;
    for (; j + 4 * WIDTH <= cols; j += 4 * WIDTH) {
      s0 = v_add(s0, v_load(x + j));
      s1 = v_add(s1, v_load(x + j + WIDTH));
      s2 = v_add(s2, v_load(x + j + 2 * WIDTH));
      s3 = v_add(s3, v_load(x + j + 3 * WIDTH));
    }
    if (j < cols) s0 = v_add(s0, v_get(x + j, cols - j)), j += WIDTH;
    if (j < cols) s1 = v_add(s1, v_get(x + j, cols - j)), j += WIDTH;
    if (j < cols) s2 = v_add(s2, v_get(x + j, cols - j)), j += WIDTH;
    if (j < cols) s3 = v_add(s3, v_get(x + j, cols - j));
    *y = v_sum(v_add(v_add(s0, s1), v_add(s2, s3)));
  }
}

double DF_K(sum_squares)(size_t n, const float *x) {
  // Number i goes to sum i mod LANES; compilers turn the inner loop into vectors of doubles.
  enum { LANES = 32 };
  double sum[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) sum[l] += (double)x[i + l] * x[i + l];
  for (int l = 0; i < n; i++, l++) sum[l] += (double)x[i] * x[i];
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int l = 0; l < half; l++) sum[l] += sum[l + half];
  return sum[0];
}
