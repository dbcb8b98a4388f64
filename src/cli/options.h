// What `forcing sample`, `eval` and `info` share: the options that say how to sample, and opening a
// model with its config.
#ifndef DF_CLI_OPTIONS_H
#define DF_CLI_OPTIONS_H

#include "cli/cli.h"
#include "df.h"
#include "diffusion/config.h"

// ---- Options ----

// As the command line has them; sampling_defaults before parsing.
typedef struct sampling {
  const char *schedule, *grid, *length, *seed, *weights; // NULL: not given
  int steps, stabilization;
  double uncertainty, eta;
  bool ancestral, posterior;
  int batch, threads;
} sampling;

sampling sampling_defaults(void);

// The rows of a table of cli_option that fill the sampling s.
#define SAMPLING_OPTIONS(s)                                                                        \
  {"--seed", "SEED",                                                                               \
   "Where the random numbers start, 0 to 2^64 - 1 (default 0). The same seed gives the same "      \
   "sequences whatever --batch and --threads are, and sequence i does not depend on --count.",     \
   CLI_TEXT, &(s).seed},                                                                           \
      {"--schedule", "NAME",                                                                       \
       "How the noise levels fall: full-sequence (all tokens together), pyramid (each later than " \
       "the one before), autoregressive (one token after another) or trapezoid (from both ends "   \
       "to the middle). Default: the model's own.",                                                \
       CLI_TEXT, &(s).schedule},                                                                   \
      {"--steps", "S",                                                                             \
       "Denoising steps for each token, 1 to the model's number of noise levels. Default: the "    \
       "model's own.",                                                                             \
       CLI_INT, &(s).steps},                                                                       \
      {"--grid", "NAME",                                                                           \
       "Which noise levels the steps visit: uniform (equal steps), quadratic (small ones where a " \
       "token is nearly clean) or fitted (to the model, if it has such a grid: `forcing tune "     \
       "--fit-grid`). Default: the model's own.",                                                  \
       CLI_TEXT, &(s).grid},                                                                       \
      {"--uncertainty", "U",                                                                       \
       "Rows of the level table by which each token of a pyramid or trapezoid starts later than "  \
       "its neighbour, 0 (all together) to S (one after another). Default: the model's own.",      \
       CLI_NUMBER, &(s).uncertainty},                                                              \
      {"--eta", "E",                                                                               \
       "Noise that a step adds: 0 (DDIM, none) to 1 (as much as DDPM). Default: the model's own.", \
       CLI_NUMBER, &(s).eta},                                                                      \
      {"--length", "N",                                                                            \
       "Tokens of each sequence, or drawn: the model's stop head decides. Default: drawn if the "  \
       "model has a stop head, else as many tokens as its config names.",                          \
       CLI_TEXT, &(s).length},                                                                     \
      {"--stabilization", "K",                                                                     \
       "Noise level, 0 to the model's number of levels, at which finished and known tokens enter " \
       "the network. Default: the model's own.",                                                   \
       CLI_INT, &(s).stabilization},                                                               \
      {"--ancestral", NULL,                                                                        \
       "DDPM's own step, all levels one by one (--steps is then the number of levels).", CLI_FLAG, \
       &(s).ancestral},                                                                            \
      {"--posterior", NULL,                                                                        \
       "A second pass at the new level gives each token's latent: exact, at twice the cost.",      \
       CLI_FLAG, &(s).posterior},                                                                  \
      {"--weights", "FORMAT",                                                                      \
       "How weight matrices are held: f32 (default) or int8, faster and a quarter of the memory; " \
       "forcing eval tells its error.",                                                            \
       CLI_TEXT, &(s).weights},                                                                    \
      {"--batch", "B",                                                                             \
       "Sequences that are computed together (default 128). Changes speed and memory only.",       \
       CLI_INT, &(s).batch},                                                                       \
  {                                                                                                \
    "--threads", "N", "Cores to use (default: all). Changes speed only.", CLI_INT, &(s).threads    \
  }

// Checks what was given against the model's config and makes sampler options of it in which nothing
// is left to a default. BAD_ARGUMENT names the option.
df_status sampling_resolve(const sampling *s, const df_config *config, df_sampler_options *out,
                           df_error *error);
// The value of --weights, a df_weights; NULL: *weights stays.
df_status options_weights(const char *text, int *weights, df_error *error);
// The object "sampling" of a report.
void sampling_write(const df_sampler_options *o, df_json_writer *w, const char *key);
// "pyramid, 50 steps, uncertainty 1, eta 0"
void sampling_text(const df_sampler_options *o, char *text, size_t size);

// Exit code of a failure: CLI_USAGE for BAD_ARGUMENT, else as cli_fail.
int options_fail(const char *command, const df_error *error);

// Does text end in ".svg" (or the like)?
bool has_ending(const char *text, const char *ending);

// "1,234,567", and "1.2 MB"
void count_text(double n, char *text, size_t size);
void bytes_text(double n, char *text, size_t size);

// ---- A model and its config ----

typedef struct open_model {
  df_model *model;
  df_config config;
  char *path; // of the file; the argument may have been its folder
  void *bytes;
  size_t size;
} open_model;

// On failure nothing is left open.
df_status open_model_read(open_model *m, const char *path, df_error *error);
void open_model_close(open_model *m);

#endif
