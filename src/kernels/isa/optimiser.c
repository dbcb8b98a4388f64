// One pass over all weights.
#include "kernels/isa/isa.h"

void DF_K(adamw)(size_t n, float *w, const float *g, float *m, float *v, float grad_scale, float lr,
                 float beta1, float beta2, float eps, float decay, float c1, float c2) {
  const vec scale = v_set(grad_scale), keep1 = v_set(beta1), keep2 = v_set(beta2);
  const vec take1 = v_set(1 - beta1), take2 = v_set(1 - beta2), keep = v_set(1 - lr * decay);
  const vec step = v_set(lr / c1), root_c2 = v_set(1 / sqrtf(c2)), floor = v_set(eps);
  for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i += WIDTH) {
    const ptrdiff_t left = (ptrdiff_t)n - i;
    const vec dw = v_mul(scale, v_get(g + i, left));
    const vec m1 = v_fma(keep1, v_get(m + i, left), v_mul(take1, dw));
    const vec v1 = v_fma(keep2, v_get(v + i, left), v_mul(take2, v_mul(dw, dw)));
    const vec down = v_div(v_mul(step, m1), v_fma(v_sqrt(v1), root_c2, floor));
    v_put(m + i, left, m1);
    v_put(v + i, left, v1);
    v_put(w + i, left, v_sub(v_mul(keep, v_get(w + i, left)), down));
  }
}

void DF_K(lerp)(size_t n, float a, const float *x, float *y) {
  const vec share = v_set(a);
  for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i += WIDTH) {
    const ptrdiff_t left = (ptrdiff_t)n - i;
    const vec old = v_get(y + i, left);
    v_put(y + i, left, v_fma(share, v_sub(v_get(x + i, left), old), old));
  }
}
