// Random numbers that depend on what they are for and not on when they are drawn: Philox 4x32-10
// (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a function of a key and a counter.
// The same seed gives the same sequence whatever the batch, the thread count or the order of evaluation.
#ifndef DF_BASE_RANDOM_H
#define DF_BASE_RANDOM_H

#include <stdint.h>

// What a number is for. A purpose is added here and nowhere else. At most 256.
typedef enum df_purpose {
  DF_RANDOM_START,   // noise that a token starts from
  DF_RANDOM_STEP,    // noise of a step with eta > 0
  DF_RANDOM_CONTEXT, // noise mixed into known tokens
  DF_RANDOM_STOP,    // does the sequence end before this token?
  DF_RANDOM_LENGTH,  // a drawn length
  DF_RANDOM_INIT,    // initial weights
  DF_RANDOM_SHUFFLE, // order of the training data
  DF_RANDOM_LEVEL,   // levels of a training step
  DF_RANDOM_NOISE,   // noise of a training step
  DF_RANDOM_AUGMENT, // augmentation of a training sequence
  DF_RANDOM_GUESS,   // is the self-conditioning guess given in this training step?
  DF_RANDOM_TEST,    // tests and evaluation
  DF_RANDOM_FUTURE,  // noise of the further samples of Monte Carlo guidance
} df_purpose;

// One place in the space of all draws. For sampling: sequence, token, row of the level table.
// For training: row is the step number.
typedef struct df_random {
  uint64_t seed;
  uint32_t sequence, token, row;
  df_purpose purpose;
} df_random;

// out[0..3] for block i (< 2^24) of this place. Counter words: {i | purpose << 24, row, token, sequence}.
void df_random_block(const df_random *at, uint32_t i, uint32_t out[4]);

// n numbers of this place: uniform in [0, 1) (24 bits each), or standard normal (Box-Muller in float64).
// Element j never depends on n.
void df_random_uniform(const df_random *at, int n, float *out);
void df_random_normal(const df_random *at, int n, float *out);
// One uniform number in [0, 1) with 53 bits.
double df_random_double(const df_random *at);
// A permutation of 0..n-1 into order[n] (Fisher-Yates).
void df_random_shuffle(const df_random *at, int n, int32_t *order);

#endif
