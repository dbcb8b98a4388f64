// What the formats of weights (df_weights) cost and save: the part of `forcing eval` that needs no data.
#ifndef DF_CLI_WEIGHTS_H
#define DF_CLI_WEIGHTS_H

#include "cli/options.h"

// Differences from float32, as parts of the root-mean-square value of what is compared.
typedef struct weights_difference {
  double rms, largest;
} weights_difference;

typedef struct weights_measure {
  double bytes;                     // weights that a network pass reads
  double microseconds;              // of a pass of one cell
  weights_difference output, x0, z; // the network's output, the clean estimate, the next latent
} weights_measure;

// Sequences are sampled with float32 weights, token after token in a few steps each, and each cell on the way is
// computed in every format. seed: of these sequences. out[DF_WEIGHTS_COUNT].
df_status weights_compare(weights_measure *out, const open_model *m, uint64_t seed,
                          df_error *error);

// The table, as Markdown into an arena (NULL: no memory).
char *weights_markdown(const weights_measure *measures, df_arena *arena);
// The object "weights" of a report: {"f32": {...}, "int8": {...}}.
void weights_write(const weights_measure *measures, df_json_writer *w);

#endif
