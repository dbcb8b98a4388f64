// What the network's output says about the token: the clean one and the noise in it.
//
//                 noise eps                                       clean x0
//   eps    clamp(o, +-clip_noise)                          sqrt(1/abar) x - sqrt(1/abar - 1) eps
//   x0     (sqrt(1/abar) x - x0) / sqrt(1/abar - 1)        o
//   v      the same                                        sqrt(abar) x - sqrt(1 - abar) o
//
// The clean estimate is never clipped. At level 0 the token is its own estimate.
#include <string.h>

#include "diffusion/noise.h"

void df_predict(const df_noise *noise, df_objective objective, float clip_noise, int level, int n,
                const float *x, const float *o, float *x0, float *eps) {
  if (level == 0) {
    if (x0 != x) memcpy(x0, x, (size_t)n * sizeof(float));
    memset(eps, 0, (size_t)n * sizeof(float));
    return;
  }
  const float recip = noise->sqrt_recip[level], recipm1 = noise->sqrt_recipm1[level];
  const float a = noise->sqrt_abar[level], b = noise->sqrt_1m[level];
  for (int i = 0; i < n; i++) {
    if (objective == DF_PREDICT_NOISE) {
      eps[i] = df_clip(o[i], clip_noise);
      x0[i] = recip * x[i] - recipm1 * eps[i];
    } else {
      float xi = x[i], clean = objective == DF_PREDICT_X0 ? o[i] : a * xi - b * o[i];
      x0[i] = clean;
      eps[i] = (recip * xi - clean) / recipm1;
    }
  }
}
