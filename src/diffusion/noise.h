// Noise schedules and what follows from them (Ho et al. 2020; Nichol & Dhariwal 2021; Jabri et al.
// 2022).
//
// Levels are counted as in the paper: 0 is clean, K is pure noise; arrays below have K + 1 entries
// indexed by level. The network and the reference code count k - 1 = 0 .. K-1 for the noisy levels
// (df_network_level).
#ifndef DF_DIFFUSION_NOISE_H
#define DF_DIFFUSION_NOISE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "io/json.h"

typedef enum df_noise_kind {
  DF_NOISE_LINEAR,
  DF_NOISE_COSINE,
  DF_NOISE_SIGMOID,
  DF_NOISE_KINDS
} df_noise_kind;
extern const char *const df_noise_names[DF_NOISE_KINDS];

typedef enum df_objective {
  DF_PREDICT_NOISE,
  DF_PREDICT_X0,
  DF_PREDICT_V,
  DF_OBJECTIVES
} df_objective;
extern const char *const df_objective_names[DF_OBJECTIVES]; // "eps", "x0", "v"

typedef enum df_loss_weight {
  DF_WEIGHT_NONE,       // the same for all levels: snr_clip / 2, as the reference counts
  DF_WEIGHT_MIN_SNR,    // Hang et al. 2023
  DF_WEIGHT_CUMULATIVE, // the reference's use_cum_snr without use_snr
  DF_WEIGHT_FUSED_SNR,  // Chen et al. 2024, appendix: min-SNR fused with the history's decayed SNR
  DF_WEIGHTS
} df_loss_weight;
extern const char *const df_loss_weight_names[DF_WEIGHTS];

// Which noise levels the S steps of a token visit. In the words of DDIM (Song et al. 2021, appendix
// D.2), uniform is "linear" and quadratic "quadratic".
typedef enum df_grid_kind {
  DF_GRID_UNIFORM,   // equal steps: floor(K i / S), as in the reference
  DF_GRID_QUADRATIC, // K (i / S)^2: small steps where the token is nearly clean
  DF_GRID_FITTED,    // warp(i / S), found on the model's own trajectories (train/fit.c)
  DF_GRIDS
} df_grid_kind;
extern const char *const df_grid_names[DF_GRIDS];

// A monotone warp [0, 1] -> [0, K]: its values at 0, 1/(knots-1), .., 1, straight lines between.
typedef struct df_warp {
  const float *levels; // (knots) levels[0] = 0, rising, levels[knots-1] = K; NULL: none
  int knots;           // 2 or more
} df_warp;

// The reference's float32 tables, each rounded on its own from float64. Index = level; entry 0 is
// the clean level.
typedef struct df_noise {
  df_noise_kind kind;
  int K;
  float *abar;                      // abar[0] = 1
  float *sqrt_abar, *sqrt_1m;       // sqrt(abar), sqrt(1 - abar)
  float *sqrt_recip, *sqrt_recipm1; // sqrt(1 / abar), sqrt(1 / abar - 1)
  float *snr;                       // abar / (1 - abar); snr[0] = infinity
  // one level down, DDPM eq. 7; entry 0 unused, as that of beta
  float *posterior_mean_x0, *posterior_mean_x, *posterior_log_variance;
  double *beta;
} df_noise;

df_status df_noise_create(df_noise *noise, df_noise_kind kind, int K, df_error *error);
void df_noise_free(df_noise *noise);

// The sampling grid: levels[i], i = 0 .. S, rising, with levels[0] = 0, levels[S] = K, for any S of
// 1 .. K. Where a kind wants levels closer than 1, or the level of a neighbour, they follow each other
// one by one; so S = K gives 0, 1, .., K for every kind. warp: of the fitted kind, else not looked at.
df_status df_noise_grid(df_grid_kind kind, df_warp warp, int K, int S, int32_t *levels,
                        df_error *error);

static inline int df_network_level(int level) { return level > 0 ? level - 1 : 0; }

// Loss weights of one sequence of T tokens with the given levels (0 .. K), formulas of
// src/tests/golden/README.md; decay is per token (the reference's per-frame value to the power of
// the frame stack). A clean token (level 0, which the reference does not have) weighs 0 and counts
// as a history without noise.
void df_loss_weights(const df_noise *noise, df_loss_weight kind, df_objective objective,
                     float snr_clip, float decay, const int32_t *levels, int T, float *weights);

// How one token moves from level `from` to level `to` (DDIM, Song et al. 2021, eq. 12; Diffusion
// Forcing, alg. 2):
//   x' = a x0 + c eps + sigma noise
// to = 0 gives x' = x0. Float32 arithmetic on the float32 abar, as in the reference.
// guidance = (1 - abar) - c sqrt(1 - abar), 0 if to = 0.
typedef struct df_move {
  float a, c, sigma, guidance;
} df_move;
df_move df_noise_move(const df_noise *noise, int from, int to, float eta);

// A NaN stays one, so that the sampler sees it.
static inline float df_clip(float x, float clip) { return x > clip ? clip : x < -clip ? -clip : x; }

// From level `from` up to a noisier one: n entries of the forward process,
//   x' = sqrt(abar' / abar) x + sqrt(1 - abar' / abar) noise, noise clipped to +-clip_noise. x_next
//   may be x.
void df_noise_raise(const df_noise *noise, float clip_noise, int from, int to, int n,
                    const float *x, const float *e, float *x_next);

// Clean and noise estimates of n entries from the model output o at a level. clip_noise bounds eps
// for DF_PREDICT_NOISE.
void df_predict(const df_noise *noise, df_objective objective, float clip_noise, int level, int n,
                const float *x, const float *o, float *x0, float *eps);

#endif
