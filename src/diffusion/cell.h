// One network pass for a set of cells, and the move of each to its next level. A cell is one token
// of one sequence in one row of the level table. The sampler is made of these; tests call it
// directly to follow the reference.
#ifndef DF_DIFFUSION_CELL_H
#define DF_DIFFUSION_CELL_H

#include "diffusion/config.h"

typedef struct df_cell_runner df_cell_runner;

typedef struct df_cell_options {
  int cells;          // most cells of a run, at least 1
  int sequences;      // attention: most sequences that have cells (0: as many as cells)
  int threads;        // that share a run; 0: one per core
  df_weights weights; // format of the weight matrices
} df_cell_options;

// config, noise and params stay the caller's and must outlive the runner.
df_status df_cell_create(df_cell_runner **runner, const df_config *config, const df_noise *noise,
                         const df_params *params, const df_cell_options *options, df_error *error);
void df_cell_free(df_cell_runner *runner);
size_t df_cell_bytes(const df_cell_runner *runner);
size_t df_cell_weight_bytes(const df_cell_runner *runner); // weights that a run reads

// Inputs of the next run, dense (max_cells, .): the caller fills the first n rows.
float *df_cell_x(df_cell_runner *runner); // (n, D) tokens as the network shall see them
float *df_cell_z(df_cell_runner *runner); // (n, Z) latent of the token before; NULL with attention
float *df_cell_cond(df_cell_runner *runner);    // (n, E), NULL without conditions
float *df_cell_guess(df_cell_runner *runner);   // (n, D), NULL without self-conditioning
int32_t *df_cell_level(df_cell_runner *runner); // (n) 0..K; 0 enters as the least noisy index
// Attention: where a cell stands. The runner keeps what was made of the other tokens of its window when they
// were cells of an earlier run. Cells of a sequence stand together, and cells of one run see each other.
typedef struct df_cell_place {
  int32_t sequence; // 0 .. sequences - 1
  int32_t position; // in the window of the network, 0 .. window - 1
  int32_t seen;     // tokens that it sees, those at positions 0 .. seen - 1
} df_cell_place;
df_cell_place *df_cell_places(df_cell_runner *runner); // (n), NULL without attention

// Results of the last run.
const float *df_cell_out(const df_cell_runner *runner);    // (n, D) model output
const float *df_cell_x0(const df_cell_runner *runner);     // (n, D) clean estimate
const float *df_cell_eps(const df_cell_runner *runner);    // (n, D) noise estimate
const float *df_cell_z_next(const df_cell_runner *runner); // (n, Z), NULL with attention
// (n) logit that the sequence ends after this token; NULL without head
const float *df_cell_stop(const df_cell_runner *runner);

// Network and prediction for n cells; a cell at level 0 is its own estimate. Inputs keep their
// values. Nothing is clipped but eps (see df_predict): the caller clamps what starts at level K, as
// the reference does at its first step.
// Allocates nothing.
df_status df_cell_run(df_cell_runner *runner, int n, df_error *error);
// x_next (D) of cell i when it moves to level `to` (at most its own): DDIM with eta, or for
// ancestral = true the DDPM step (Ho et al. 2020, eq. 7), which needs to = level - 1. noise: D
// standard normal numbers, clipped here; NULL: none.
void df_cell_move(const df_cell_runner *runner, int i, int to, float eta, bool ancestral,
                  const float *noise, float *x_next);
// Latent before the first token for n sequences into z0 (n, Z). observation (n, O) only where it is
// encoded from one.
df_status df_cell_initial(df_cell_runner *runner, int n, const float *observation, float *z0,
                          df_error *error);
// T tokens in a row of B sequences, as they enter the network together: at most as many sequences as the runner has
// cells, with attention as many tokens.
typedef struct df_cell_tokens {
  const float *x;       // (B, T, D) as the network shall see them
  const int32_t *level; // (B, T) as in df_cell_level
  const float *cond;    // (B, T, E), NULL without conditions
  const float *guess;   // (B, T, D), NULL without self-conditioning
  const float *z0;      // (B, Z) latent before the first token
} df_cell_tokens;
// Model output out (B, T, D) and latents z (B, T, Z), which are handed on from token to token; attention: T at most
// the window of the network, and z is not looked at.
df_status df_cell_unroll(df_cell_runner *runner, int B, int T, const df_cell_tokens *in, float *out,
                         float *z, df_error *error);
// Stop logit before the first token, from z0 (one row).
df_status df_cell_first_stop(df_cell_runner *runner, const float *z0, float *logit,
                             df_error *error);

#endif
