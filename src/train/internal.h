// The parts of the trainer, for each other and for the tests.
//
// Shapes: B rows (sequences) of a shard, T tokens, D floats per token, P parameters.size floats.
#ifndef DF_TRAIN_INTERNAL_H
#define DF_TRAIN_INTERNAL_H

#include "base/random.h"
#include "train/train.h"

// ---- Recipe and config (recipe.c) ----

// The text of config.json (df_free it): the recipe's model with the statistics of the fields filled in
// where the recipe gives none (mean, std: (C), or NULL: left out), and the object "training".
typedef struct df_trained {
  int step; // steps that the weights were trained for
  double loss, stop;
} df_trained;
char *df_recipe_config(const df_recipe *recipe, const float *mean, const float *std,
                       const df_trained *trained, df_error *error);

// 64-bit FNV-1a.
uint64_t df_hash(const char *text, size_t size);

// ---- Data (data.c) ----

// Mean and standard deviation of each field over all frames, (C) each. A field that never changes gets 1.
void df_dataset_statistics(const df_dataset *data, float *mean, float *std);
int df_dataset_tokens(const df_dataset *data, int sequence, int frame_stack);

// Which sequences make up which batch of an epoch. A pure function of (lengths, batch, seed, epoch): a
// permutation of all sequences; its tail that does not fill a batch is left out; inside 16 batches at a
// time sequences are sorted by length, so that those of a batch have similar ones; batches shuffled.
typedef struct df_order {
  int count, batch, batches; // batch is at most count
  int epoch;                 // that `sequences` holds; -1: none
  uint64_t seed;
  const int32_t *tokens; // (count), the caller's
  int32_t *sequences;    // (batches, batch), longest first
  int32_t *scratch;      // (count)
} df_order;
df_status df_order_create(df_order *order, const int32_t *tokens, int count, int batch,
                          uint64_t seed, df_error *error);
void df_order_free(df_order *order);
void df_order_epoch(df_order *order, int epoch);
// Sorts n sequences, longest first, equal ones left in place. scratch (n).
void df_order_sort(int32_t *sequences, int n, const int32_t *tokens, int32_t *scratch);

// A change of fields 0 and 1 for a whole sequence: (x, y) -> (m[0] x + m[1] y, m[2] x + m[3] y).
typedef struct df_augment {
  float m[4];
} df_augment;
df_augment df_augment_draw(const df_recipe *recipe, int sequence, int epoch);

// The tokens of a sequence in network units into tokens (T, D) and the conditions into cond (T, E), both
// nullable, behind them nothing is written. frames: scratch for (frame_stack, C). Returns T.
int df_encode_sequence(const df_config *config, const df_dataset *data, int sequence,
                       const df_augment *augment, float *frames, float *tokens, float *cond);

// Noise and target of one token: x = sqrt(abar) clean + sqrt(1 - abar) eps, eps clipped.
void df_noise_token(const df_noise *noise, const df_config *config, int level, const float *clean,
                    const float *eps, float *x, float *target);

// ---- The loss as a graph (loss.c) ----

typedef enum df_loss_kind {
  DF_LOSS_TRAIN, // losses and gradients
  DF_LOSS_VALUE, // losses and model outputs
  DF_LOSS_TEST,  // losses, model outputs, latents, gradients
  DF_LOSS_CLEAN, // the stop loss on a clean history, nothing else
  DF_LOSS_KINDS
} df_loss_kind;

// A plan of the loss of up to B sequences of T tokens. All inputs are arrays that the caller fills before
// each run, dense, row b of (B, n) at b n; T pointers, one per token, where [T] is said.
typedef struct df_loss {
  df_loss_kind kind;
  df_train_mode mode;
  int T, rows;
  df_graph *graph;
  df_plan *plan;
  df_arena arena;
  float **x;      // [T] (B, D) noised tokens
  float **level;  // [T] (B, 1) level index as the network counts
  float **target; // [T] (B, D)
  float **weight; // [T] (B, D) of each squared difference
  float **clean;  // [T] (B, D) clean tokens; NULL if the mode does not need them
  float **cond;   // [T] (B, E) or NULL
  float **guess_x, **guess_out,
      **given;                      // [T] (B, 1) self-conditioning: x0 = guess_x x + guess_out out;
                                    // 1: the guess is given, 0: it is not. NULL without
  float *stop_weight, *stop_target; // (B, T + 1) or NULL
  float *observation;               // (B, O) or NULL
  float *latent;                    // (B, Z) given latent before token 0, or NULL
  float *loss, *stop; // results, sums: weight (out - target)^2; weighted cross-entropy
  float **out, **z;   // [T] (B, D), (B, Z) results of VALUE and TEST
  float *latent_grad; // (B, Z) if the latent is given
  const df_params *params;
  df_tensor **grads; // (parameters), NULL where the loss does not depend on one
  const float *bound;
  size_t bytes;
  int busy;      // in use by a shard of the running step
  uint64_t used; // clock of the cache
} df_loss;

// given_latent: the latent before token 0 is an input with a derivative (for tests).
df_status df_loss_create(df_loss **loss, df_loss_kind kind, df_train_mode mode,
                         const df_config *config, df_params *params, int T, int rows,
                         bool given_latent, df_error *error);
void df_loss_free(df_loss *loss);
// Sets all inputs of the first `rows` rows to 0.
void df_loss_clear(df_loss *loss, const df_network *net, int rows);
// gradient (P): overwritten; NULL for the kinds without.
df_status df_loss_run(df_loss *loss, int rows, float *gradient, df_error *error);

// Plans that wait for their next use. A plan is taken for one shard at a time; those not used for longest
// are freed when all together hold more than `limit` bytes.
typedef struct df_loss_cache {
  df_loss **items;
  int count, room;
  uint64_t clock;
  size_t bytes, limit;
} df_loss_cache;
df_status df_loss_take(df_loss_cache *cache, df_loss **loss, df_loss_kind kind, df_train_mode mode,
                       const df_config *config, df_params *params, int T, int rows,
                       df_error *error);
void df_loss_cache_free(df_loss_cache *cache);

// ---- The optimiser (optimiser.c) ----

typedef struct df_optimiser {
  const df_kernels *kernels;
  df_threads *threads;
  size_t size; // P
  int shards;
  float *gradients;   // (shards, P)
  float *m, *v, *ema; // (P)
  double *partial;    // sums of squares of the parts
  double beta1, beta2, epsilon, weight_decay, clip, ema_rate;
} df_optimiser;
df_status df_optimiser_create(df_optimiser *o, const df_recipe *recipe, df_threads *threads,
                              const df_params *params, df_error *error);
void df_optimiser_free(df_optimiser *o);
// Step number `step` (from 0): adds the shards' gradients in order, clips their norm, AdamW on values, moving average.
// Returns the norm before clipping; if it is not finite, nothing has changed.
double df_optimiser_step(df_optimiser *o, float *values, int step, double rate);
double df_learning_rate(const df_recipe *recipe, int step);

// ---- The trainer (trainer.c, validate.c, state.c) ----

typedef struct df_scratch df_scratch;
typedef struct df_shard df_shard;

typedef struct df_trainer {
  const df_recipe *recipe;
  df_config config; // with statistics
  df_dataset train, valid;
  df_noise noise;
  df_params params;
  df_threads *threads;
  df_optimiser optimiser;
  df_loss_cache cache;
  df_order order;
  int32_t *tokens;       // (train.count) tokens of each sequence
  int32_t *valid_tokens; // (valid.count)
  int32_t *valid_order;  // (valid.count) longest first
  float *mean, *std;
  double
      tokens_per_batch; // on average; the loss is divided by it, so that every token counts the same
  int longest;          // tokens of the longest sequence of both sets
  df_shard *shards;     // (shards)
  float *best;          // (P) EMA weights at the best validation
  int step, best_step;
  double best_loss, best_valid, best_stop; // best_loss: what is compared; < 0: none yet
  double seconds;                          // of earlier sessions
  // Sums since the last logged step
  double sum_loss, sum_stop, sum_norm, sum_tokens, sum_sequences;
  int sum_steps;
} df_trainer;

df_status df_trainer_create(df_trainer **trainer, const df_recipe *recipe, int threads,
                            df_error *error);
void df_trainer_free(df_trainer *trainer);
// One step; *norm: of the gradient.
df_status df_trainer_step(df_trainer *trainer, double *norm, df_error *error);

df_scratch *df_trainer_scratch(df_trainer *trainer, int shard);

typedef struct df_validation {
  double loss, stop, stop_clean; // weighted loss per float; NLL per sequence
  double by_level[10];
} df_validation;
df_status df_trainer_validate(df_trainer *trainer, df_validation *result, df_error *error);

// state.safetensors and model.safetensors + config.json in a folder.
df_status df_trainer_save(const df_trainer *trainer, const char *folder, df_error *error);
df_status df_trainer_load(df_trainer *trainer, const char *folder, df_error *error);
df_status df_trainer_export(const df_trainer *trainer, const char *folder, df_error *error);

// Buffers for encoding one sequence. A shard has its own.
struct df_scratch {
  float *frames;   // (frame_stack, C)
  float *tokens;   // (longest, D)
  float *cond;     // (longest, E)
  float *eps;      // (D)
  int32_t *levels; // (longest)
  float *weights;  // (longest)
};

// Fills row b of a loss plan with a sequence of the training set (step >= 0) or of the validation set
// (DF_VALID_STEP: no augmentation, always the same noise). token_weight multiplies the loss weight of
// each entry, stop_weight that of each stop decision. Returns the number of tokens that count in the
// token loss.
enum { DF_VALID_STEP = -1 };
int df_trainer_fill(const df_trainer *trainer, df_loss *loss, int b, int sequence, int step,
                    double token_weight, double stop_weight, df_scratch *scratch);

// ---- The log (log.c) ----

// log.csv, one line per logged step, and loss.svg drawn from it.
typedef struct df_log_line {
  int step;
  double seconds, loss, stop, norm, rate, speed;
  bool validated;
  double valid, valid_stop, valid_stop_clean, level[10];
} df_log_line;

typedef struct df_log {
  const char *folder;
  df_log_line *lines;
  int count, room;
} df_log;
// Reads the lines up to `step` of an earlier session (0: none) and writes the file anew.
df_status df_log_open(df_log *log, const char *folder, int step, df_error *error);
df_status df_log_add(df_log *log, const df_log_line *line, df_error *error);
df_status df_log_draw(const df_log *log, const char *title, df_error *error);
void df_log_close(df_log *log);

#endif
