// A sampling grid fitted to a model: small steps where large ones do harm.
//
// The model draws sequences token by token in many small deterministic steps (Song et al. 2021, eq. 12,
// eta = 0), which cut the way from pure noise to a clean token into N intervals. Then every token goes the
// same way once more for each interval, in one step through that interval and in small ones elsewhere. How
// far it ends from where it had ended is the harm d that a step of that size does there, everything
// included that the network makes of it further down.
//
// A step of size h at level l does harm g(l) h^2, with g = d / (size of the interval)^2: the order of the
// method. S steps of sizes h(l) together do harm of the sum of g h^2 = integral of g h dl, which is least,
// for a given S = integral of dl / h, where h is proportional to g^(-1/2). So the levels of the grid lie at
// equal shares of the integral of sqrt(g), whatever S is. That integral, turned round, is the warp
// (df_warp).
//
// Harm is the mean of distances and not of their squares: few tokens that become something else
// altogether would decide the squares, and a change of character is no loss of quality.
#ifndef DF_TRAIN_FIT_H
#define DF_TRAIN_FIT_H

#include "base/threads.h"
#include "diffusion/config.h"

enum { DF_FIT_INTERVALS = 32, DF_FIT_SMALL = 4 }; // N at most; small steps in an interval

typedef struct df_fit_options {
  int sequences; // to draw
  uint64_t seed;
  df_threads *threads; // nullable; they change the speed only
  // Nullable; called as sequences end, one call at a time. Return false to stop: DF_STOPPED.
  bool (*report)(void *context, int done, int sequences);
  void *context;
} df_fit_options;

typedef struct df_fit df_fit;

// Draws the sequences and goes all their ways. config, noise and params stay the caller's and must outlive
// the fit. NOT_SUPPORTED for a model with conditions or an encoded start, or with fewer than 8 levels.
df_status df_fit_create(df_fit **fit, const df_config *config, const df_noise *noise,
                        const df_params *params, const df_fit_options *options, df_error *error);
void df_fit_free(df_fit *fit);        // NULL is fine
int df_fit_tokens(const df_fit *fit); // that were drawn

// The warp at `knots` equal shares (at least 2) into levels[knots], four digits each.
void df_fit_warp(const df_fit *fit, int knots, float *levels);

// How far S steps over grid[S + 1] end from where the small ones ended, for the same start noise and the
// same latent of the token before: mean over the tokens of the root mean square over their D floats.
df_status df_fit_distance(df_fit *fit, const int32_t *grid, int S, double *distance,
                          df_error *error);

#endif
