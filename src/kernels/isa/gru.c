// The GRU cell behind its two matrix products, and its derivative.
#include "kernels/isa/functions.h"
#include "kernels/isa/isa.h"

void DF_K(gru)(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
               ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, float *y, ptrdiff_t y_row) {
  for (; rows > 0; rows--, gi += gi_row, gh += gh_row, h += h_row, y += y_row)
    for (int j = 0; j < n; j += WIDTH) {
      const int left = n - j;
      const float *at = gi + j, *ah = gh + j;
      const vec r = v_sigmoid(v_add(v_get(at, left), v_get(ah, left)));
      const vec u = v_sigmoid(v_add(v_get(at + n, left), v_get(ah + n, left)));
      const vec c = v_tanh(v_fma(r, v_get(ah + 2 * n, left), v_get(at + 2 * n, left)));
      v_put(y + j, left, v_fma(u, v_sub(v_get(h + j, left), c), c));
    }
}

void DF_K(gru_grad)(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
                    ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, const float *dy,
                    ptrdiff_t dy_row, float *d, ptrdiff_t d_row) {
  const vec one = v_set(1);
  for (; rows > 0; rows--, gi += gi_row, gh += gh_row, h += h_row, dy += dy_row, d += d_row)
    for (int j = 0; j < n; j += WIDTH) {
      const int left = n - j;
      const float *at = gi + j, *ah = gh + j;
      float *to = d + j;
      const vec gh_c = v_get(ah + 2 * n, left), dy_j = v_get(dy + j, left);
      const vec r = v_sigmoid(v_add(v_get(at, left), v_get(ah, left)));
      const vec u = v_sigmoid(v_add(v_get(at + n, left), v_get(ah + n, left)));
      const vec c = v_tanh(v_fma(r, gh_c, v_get(at + 2 * n, left)));
      // y = (1 - u) c + u h
      const vec du = v_mul(dy_j, v_sub(v_get(h + j, left), c)), dc = v_mul(dy_j, v_sub(one, u));
      // c = tanh(s), s = gi_c + r gh_c
      const vec ds = v_mul(dc, v_fnma(c, c, one)), dr = v_mul(ds, gh_c);
      const vec dg_r = v_mul(dr, v_mul(r, v_sub(one, r)));
      const vec dg_u = v_mul(du, v_mul(u, v_sub(one, u)));
      v_put(to, left, dg_r);
      v_put(to + n, left, dg_u);
      v_put(to + 2 * n, left, ds);
      v_put(to + 3 * n, left, dg_r);
      v_put(to + 4 * n, left, dg_u);
      v_put(to + 5 * n, left, v_mul(ds, r));
      v_put(to + 6 * n, left, v_mul(dy_j, u));
    }
}
