// What sampler.c and wavefront.c share: the state of a sampler.
#ifndef DF_DIFFUSION_INTERNAL_H
#define DF_DIFFUSION_INTERNAL_H

#include "diffusion/sampler.h"

// One token of one sequence that is in memory, as the latest row that it has been through left it.
typedef struct df_slot {
  int64_t rank; // unknown tokens before it: its column in a computed level table
  bool known;   // given by the caller, stays clean
  bool given;   // has its condition
  bool stale;   // the latent does not belong to the present state
  float stop;   // logit that the sequence ends behind this token, from its latent
} df_slot;

// One row of one sequence on its way through the tokens.
typedef struct df_front {
  int w;        // tokens before this one are through
  bool visited; // the network ran on token w - 1
  bool failed;  // in this step
  // token w
  bool after;   // it has moved; its posterior pass is left
  bool ran;     // the network has run on it
  bool fresh;   // its latent belongs to the state after the row
  bool changed; // it has moved
  int limit;    // tokens that may exist, when `last` was found
  int last;     // the last of them that falls in this row, -1: none
  int reach;    // the last token that falls in an earlier row
} df_front;

// A cell of the next batch.
typedef struct df_place {
  int b;
  int64_t m;
} df_place;

typedef struct df_guided df_guided;

// What the caller gives of a token before the first row.
typedef enum df_given {
  DF_GIVEN_NOTHING, // it starts from noise
  DF_GIVEN_KNOWN,   // its value, which stays
  DF_GIVEN_CLEAN,   // where it starts, but for the noise
  DF_GIVEN_NOISY,   // where it starts
} df_given;

struct df_sampler {
  const df_model *model;
  df_sampler_options o; // with all defaults filled in
  df_arena arena;
  df_cell_runner *runner;
  df_guided *guided; // NULL: not guided
  df_sampler_info info;
  bool unbounded, drawn, begun;
  // sequences; tokens in memory; of these, tokens that the caller sees; tokens before token P may be
  // given; rows that are computed at once
  int B, W, T, P, R;
  int D, Z, E, O, V; // floats of a token, latent, condition, observation, token in data units
  int N;             // attention: tokens that the network sees at most; 0: recurrent
  bool
      sees_all; // attention that is not causal: every token of the network's window runs in every row
  bool forgetful;  // test hook: every latent is stale in every row
  int32_t *grid;   // (S + 1) noise level of each index
  int32_t *table;  // (rows, T) the user's
  int64_t *finish; // (T) row from which on a column of the user's table stays 0
  double u;        // rows between the starts of two columns

  // per sequence
  int64_t *end;       // (B) tokens, -1: not known yet
  int64_t *end_row;   // (B) row that found it out
  int64_t *end_shown; // (B) as the caller may know it
  int64_t *exists;    // (B) tokens that are certain to exist
  int *start;         // (B) attention: the first token in memory that the network sees
  float *z0;          // (B, Z) latent before the first token in memory
  float *observation; // (B, O) network units
  bool *observed;
  float *z_given; // (B, Z) in place of the model's
  bool *z_is_given;
  int64_t *number; // (B) of the first token, for random numbers

  // per token in memory (B, W), df_at
  df_slot *slots;
  float *x;        // (D) network units
  float *estimate; // (D)
  float *z;        // (Z)
  float *cond;     // (E)

  // per row under way (R), row m at m mod R
  int64_t opened;    // rows 0 .. opened - 1 are through or under way
  df_front *fronts;  // (B)
  int64_t *ran;      // cells
  uint8_t *news;     // (B, W) DF_NEW_*
  float *row_values; // (B, W, V) where news say so
  float *row_estimates;
  int32_t *row_frames; // (B, W)

  // what the caller sees (B, T)
  int32_t *levels;
  float *values, *estimates; // (V) data units
  int32_t *frames;
  int32_t *lengths; // (B)

  // per token that may be given (B, P)
  uint8_t *given_as;     // a df_given
  float *given;          // (D) network units
  int32_t *given_frames; // of a known one

  df_place *cells; // (B R) the batch under way
  float *noise;    // (D)
  float *moved;    // (D)
};

enum { DF_NEW_VALUE = 1, DF_NEW_ESTIMATE = 2 };

// Token w of the window. Tokens stay where they are while the window moves on.
static inline size_t df_at(const df_sampler *s, int b, int w) {
  const int column = (int)((s->info.first + w) % s->W);
  return (size_t)b * (size_t)s->W + (size_t)column;
}

// Place of what is given of token t < P.
static inline size_t df_given_at(const df_sampler *s, int b, int64_t t) {
  return (size_t)b * (size_t)s->P + (size_t)t;
}

// The token as random numbers count it.
static inline uint32_t df_number(const df_sampler *s, int b, int w) {
  return (uint32_t)(s->number[b] + s->info.first + w);
}

// Place of what row m has changed of token w.
static inline size_t df_news_at(const df_sampler *s, int b, int w, int64_t m) {
  return (size_t)(m % s->R) * (size_t)s->B * (size_t)s->W + df_at(s, b, w);
}

// Index in the sampling grid of token w before row m moves it. Known tokens: 0.
int df_sampler_level(const df_sampler *s, int b, int w, int64_t m);

// Computes row info.row of all sequences, and of later rows what comes for free. After an error
// nothing that the caller sees has changed, and a second call tries again.
df_status df_wavefront_run(df_sampler *s, df_error *error);
// Before the first row: checks what has to hold, and makes the latents before the first token.
df_status df_wavefront_begin(df_sampler *s, df_error *error);
// The latent (Z) behind token w of the window, which is clean, as all before it.
df_status df_wavefront_latent(df_sampler *s, int b, int w, float *z, df_error *error);
// Before the first row: nothing is under way.
void df_wavefront_reset(df_sampler *s);
// The window has moved on by so many tokens.
void df_wavefront_slide(df_sampler *s, int by);

// Guided sampling (guided.c): row info.row of all sequences.
df_status df_guided_run(df_sampler *s, df_error *error);
void df_guided_reset(df_sampler *s);    // what was estimated is no more
void df_guided_free(df_guided *guided); // NULL is fine
size_t df_guided_bytes(const df_guided *guided);
// For tests: J and its derivatives at the state before row m, dJ/dx of token t (D).
df_status df_guided_look(df_sampler *s, int64_t m, df_error *error);
const float *df_guided_gradient(const df_sampler *s, int b, int t);

#endif
