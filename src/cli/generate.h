// Sequences drawn from a model, spread over the cores: each batch has a sampler of its own, so that
// neither threads nor batches change a result.
#ifndef DF_CLI_GENERATE_H
#define DF_CLI_GENERATE_H

#include "cli/options.h"
#include "train/train.h"

typedef struct generate_options {
  df_sampler_options sampler; // from sampling_resolve; batch: sequences per sampler
  int first, count;           // sequences numbered first .. first + count - 1
  int threads;                // 0: all cores
  const char *keep;           // a file of known tokens; NULL: none
  const char *condition;      // .npy of external conditions, (T, E) or (count, T, E); NULL: none
  const char *observe;        // .npy of observations, (O) or (count, O); NULL: none
  const char *label;          // in front of the progress line; NULL: nothing
  const volatile int *stop;   // nullable: becomes nonzero when the work shall end (DF_STOPPED)
} generate_options;

typedef struct generated {
  df_dataset data; // frames in data units as the model left them, binary fields not thresholded
  int32_t *tokens; // (count) tokens of each sequence
  int64_t cells;   // network passes
  double seconds;
  size_t sampler_bytes; // memory of one sampler
} generated;

// *out is empty after a failure. Prints a progress line.
df_status generate(generated *out, const open_model *m, const generate_options *options,
                   df_error *error);
void generated_free(generated *g);

// Binary fields become 0 or 1 as the config's thresholds say.
void generated_threshold(generated *g, const df_config *config);

// The format of the file --keep, for the manuals.
#define GENERATE_KEEP_FORMAT                                                                       \
  "The file of --keep is JSON: a list of frames, each a list of its fields in data units, which "  \
  "opens every sequence; or a list of objects {\"token\": 2, \"sequence\": 0, \"frames\": "        \
  "[[...], ...]}, whose frames fill the tokens from number `token` on, in that one sequence or, "  \
  "without `sequence`, in all. Known tokens are whole: give as many frames as fill them."

#endif
