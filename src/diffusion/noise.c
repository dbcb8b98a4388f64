#include "diffusion/noise.h"

#include <math.h>

#define PI 3.14159265358979323846

const char *const df_noise_names[DF_NOISE_KINDS] = {"linear", "cosine", "sigmoid"};
const char *const df_objective_names[DF_OBJECTIVES] = {"eps", "x0", "v"};
const char *const df_grid_names[DF_GRIDS] = {"uniform", "quadratic", "fitted"};
const char *const df_loss_weight_names[DF_WEIGHTS] = {"none", "min-snr", "cumulative", "fused-snr"};

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// How much of the signal is left at v = 0 (clean) .. 1 (noise), up to a constant factor.
static double signal(df_noise_kind kind, double v) {
  if (kind == DF_NOISE_COSINE) {
    const double s = 0.008;
    double c = cos((v + s) / (1 + s) * PI / 2);
    return c * c;
  }
  // The reference forms both ends and their difference in float32. At the noisy end the result is a
  // small difference, and this moves it by 3e-5 of itself.
  const double start = -3, end = 3;
  float a = (float)sigmoid(start), b = (float)sigmoid(end), range = b - a;
  return ((double)b - sigmoid(v * (end - start) + start)) / (double)range;
}

static double beta_at(df_noise_kind kind, int K, int k) { // k = 1 .. K
  if (kind == DF_NOISE_LINEAR) {
    const double first = 0.1 / K, last = 20.0 / K, step = (last - first) / (K - 1);
    return k - 1 < K / 2 ? first + step * (k - 1) : last - step * (K - k);
  }
  double f0 = signal(kind, 0);
  double g = (signal(kind, (double)k / K) / f0) / (signal(kind, (double)(k - 1) / K) / f0);
  return fmin(fmax(1 - g, 0), 0.999);
}

df_status df_noise_create(df_noise *noise, df_noise_kind kind, int K, df_error *error) {
  *noise = (df_noise){.kind = kind, .K = K};
  if ((unsigned)kind >= DF_NOISE_KINDS)
    return df_fail(error, DF_BAD_ARGUMENT, "noise schedule %d does not exist", (int)kind);
  // A linear schedule reaches beta = 20 / K, which has to stay below 1.
  int least = kind == DF_NOISE_LINEAR ? 21 : 1;
  if (K < least || K > 1000000)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "expected %d to 1000000 levels for the %s schedule, found %d", least,
                   df_noise_names[kind], K);

  enum { TABLES = 9 };
  size_t n = (size_t)K + 1;
  double *block = df_alloc(n * sizeof(double) + TABLES * n * sizeof(float));
  if (!block) return df_fail(error, DF_NO_MEMORY, "no memory for the noise schedule");
  float **tables[TABLES] = {&noise->abar,
                            &noise->sqrt_abar,
                            &noise->sqrt_1m,
                            &noise->sqrt_recip,
                            &noise->sqrt_recipm1,
                            &noise->snr,
                            &noise->posterior_mean_x0,
                            &noise->posterior_mean_x,
                            &noise->posterior_log_variance};
  for (int i = 0; i < TABLES; i++) *tables[i] = (float *)(block + n) + (size_t)i * n;
  noise->beta = block;

  // Each table is computed in float64 and rounded on its own.
  noise->abar[0] = noise->sqrt_abar[0] = noise->sqrt_recip[0] = 1;
  noise->snr[0] = INFINITY;
  double abar = 1;
  for (int k = 1; k <= K; k++) {
    double beta = beta_at(kind, K, k), before = abar;
    abar *= 1 - beta;
    double variance = beta * (1 - before) / (1 - abar);
    noise->beta[k] = beta;
    noise->abar[k] = (float)abar;
    noise->sqrt_abar[k] = (float)sqrt(abar);
    noise->sqrt_1m[k] = (float)sqrt(1 - abar);
    noise->sqrt_recip[k] = (float)sqrt(1 / abar);
    noise->sqrt_recipm1[k] = (float)sqrt(1 / abar - 1);
    noise->snr[k] = (float)(abar / (1 - abar));
    noise->posterior_mean_x0[k] = (float)(beta * sqrt(before) / (1 - abar));
    noise->posterior_mean_x[k] = (float)((1 - before) * sqrt(1 - beta) / (1 - abar));
    noise->posterior_log_variance[k] = (float)log(fmax(variance, 1e-20));
  }
  return DF_OK;
}

void df_noise_free(df_noise *noise) {
  df_free(noise->beta);
  *noise = (df_noise){0};
}

// warp(u), 0 <= u <= 1.
static double warped(df_warp warp, double u) {
  double place = u * (warp.knots - 1);
  int i = (int)fmin(place, warp.knots - 2);
  double a = warp.levels[i], b = warp.levels[i + 1];
  return a + (b - a) * (place - i);
}

df_status df_noise_grid(df_grid_kind kind, df_warp warp, int K, int S, int32_t *levels,
                        df_error *error) {
  if (S < 1 || S > K)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 1 to %d sampling steps, found %d", K, S);
  if ((unsigned)kind >= DF_GRIDS)
    return df_fail(error, DF_BAD_ARGUMENT, "grid %d does not exist", (int)kind);
  if (kind == DF_GRID_FITTED && !warp.levels)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "grid: the model has no fitted grid; `forcing tune MODEL --fit-grid` makes one");
  levels[0] = 0;
  for (int i = 1; i <= S; i++) {
    if (kind == DF_GRID_UNIFORM) {
      levels[i] = (int32_t)((int64_t)K * i / S);
      continue;
    }
    double u = (double)i / S;
    int32_t nearest = (int32_t)lrint(kind == DF_GRID_QUADRATIC ? K * u * u : warped(warp, u));
    // Above the level before, and with room for those that follow.
    int32_t low = levels[i - 1] + 1, high = K - (S - i);
    levels[i] = nearest < low ? low : nearest > high ? high : nearest;
  }
  return DF_OK;
}

void df_loss_weights(const df_noise *noise, df_loss_weight kind, df_objective objective,
                     float snr_clip, float decay, const int32_t *levels, int T, float *weights) {
  bool snr = kind == DF_WEIGHT_MIN_SNR || kind == DF_WEIGHT_FUSED_SNR;
  bool cumulative = kind == DF_WEIGHT_CUMULATIVE || kind == DF_WEIGHT_FUSED_SNR;
  float P = 0; // decayed signal-to-noise of the tokens before this one
  for (int t = 0; t < T; t++) {
    bool history = cumulative && t > 0, clean = levels[t] == 0;
    float r = noise->snr[levels[t]] / snr_clip;
    float q = clean ? 1 : fminf(noise->snr[levels[t]], snr_clip) / snr_clip;
    float Q = history ? 1 - (1 - decay * P) * (1 - q) : q;
    float R = history ? 1 - (1 - decay * P) * (1 - r) : r;
    if (clean)
      weights[t] = 0;
    else if (!snr)
      weights[t] = history ? snr_clip * P : snr_clip / 2;
    else if (objective == DF_PREDICT_NOISE)
      weights[t] = Q / R;
    else if (objective == DF_PREDICT_X0)
      weights[t] = snr_clip * Q;
    else
      weights[t] = snr_clip * Q / (snr_clip * R + 1);
    P = history ? decay * P + (1 - decay) * q : q;
  }
}

df_move df_noise_move(const df_noise *noise, int from, int to, float eta) {
  if (to == 0) return (df_move){.a = 1};
  float a = noise->abar[from], next = noise->abar[to];
  df_move move;
  move.sigma = from == to ? 0 : eta * sqrtf((1 - a / next) * (1 - next) / (1 - a));
  move.c = sqrtf(fmaxf(1 - next - move.sigma * move.sigma, 0));
  move.a = sqrtf(next);
  move.guidance = (1 - a) - move.c * sqrtf(1 - a);
  return move;
}

void df_noise_raise(const df_noise *noise, float clip_noise, int from, int to, int n,
                    const float *x, const float *e, float *x_next) {
  float ratio = noise->abar[to] / noise->abar[from], a = sqrtf(ratio), sigma = sqrtf(1 - ratio);
  for (int i = 0; i < n; i++) x_next[i] = a * x[i] + sigma * df_clip(e[i], clip_noise);
}
