// Training: Algorithm 1 of the paper and the two baselines it is compared with.
//
// Nothing here depends on the number of threads: a batch is cut into `shards` by the recipe, each shard's gradient is
// computed on its own, and they are added in order. An interrupted run that is resumed gives the same bits.
#ifndef DF_TRAIN_TRAIN_H
#define DF_TRAIN_TRAIN_H

#include "base/threads.h"
#include "diffusion/config.h"

// Which levels the tokens of a training sequence get (Chen et al. 2024, section 3 and figure 2).
typedef enum df_train_mode {
  DF_MODE_INDEPENDENT,      // Diffusion Forcing: independent for each token
  DF_MODE_TEACHER_FORCING,  // next-token diffusion: the past is clean
  DF_MODE_FULL_SEQUENCE,    // one level for all tokens
  DF_MODES
} df_train_mode;
extern const char *const df_train_mode_names[DF_MODES];

// models/NAME/recipe.json. Paths are relative to the recipe's folder. "model" is the config without statistics:
// mean and std of the fields come from the data unless they are given.
typedef struct df_recipe {
  df_arena arena;
  const char *path, *folder;
  char hash[17];  // of the text, 64-bit FNV-1a in hexadecimal
  const char *train_values, *train_offsets, *valid_values, *valid_offsets;  // .npy: (total, C) and (sequences + 1)
  const char *train_conditions, *valid_conditions;                           // .npy (total, E per frame) or NULL
  df_config config;
  df_train_mode mode;
  int steps, batch, shards, warmup;
  bool cosine;        // rate falls to rate_end by a cosine; else constant
  double rate, rate_end, beta1, beta2, epsilon, weight_decay, clip_gradient, ema, stop_weight;
  df_loss_weight loss_weight;
  double snr_clip, cumulative_decay;
  double augment_scale, augment_rotate;  // per sequence: factors 1 +- scale for each axis, radians +- rotate (fields 0 and 1)
  uint64_t seed;
  int log_every, valid_every, save_every;
} df_recipe;

df_status df_recipe_read(df_recipe *recipe, const char *path, df_error *error);
void df_recipe_free(df_recipe *recipe);

// Sequences of frames in memory: sequence i is frames offsets[i] .. offsets[i+1]-1.
typedef struct df_dataset {
  int count, fields;
  int32_t *offsets;
  float *values;      // (total, C) data units
  float *conditions;  // (total, E / frame_stack) or NULL
} df_dataset;
df_status df_dataset_read(df_dataset *data, const char *values, const char *offsets, const char *conditions, int fields, df_error *error);
void df_dataset_free(df_dataset *data);

// What a caller sees after each logged step; return false from the callback to stop (the trainer saves first).
typedef struct df_train_report {
  int step, steps;
  double loss, loss_stop;       // means since the last report
  double gradient_norm, rate, tokens_per_second, seconds;
  bool validated;
  double valid_loss, valid_stop;       // NLL of the stop head per sequence, nats
  double valid_by_level[10];           // held-out loss in ten equal ranges of the level
} df_train_report;

typedef struct df_train_options {
  const char *folder;   // run folder: state.safetensors, model.safetensors (EMA weights), log.csv, loss.svg
  bool resume;
  int threads;          // 0: all cores
  bool (*report)(void *context, const df_train_report *report);
  void *context;
  const volatile int *stop;  // nullable: becomes nonzero when the run shall save and end (Ctrl-C)
} df_train_options;

// Runs a recipe to its end. DF_STOPPED if stopped early (state is saved).
df_status df_train(const df_recipe *recipe, const df_train_options *options, df_error *error);

#endif
