// Training: Algorithm 1 of the paper (Chen et al. 2024) and the two baselines it is compared with.
//
// Nothing here depends on the number of threads: a batch is cut into `shards` by the recipe, each
// shard's gradient is computed on its own, and they are added in order. What a step does is a function
// of (recipe, step, weights), so an interrupted run that is resumed gives the same bits.
#ifndef DF_TRAIN_TRAIN_H
#define DF_TRAIN_TRAIN_H

#include "base/threads.h"
#include "diffusion/config.h"
#include "io/safetensors.h"

// Which levels the tokens of a training sequence get (Chen et al. 2024, section 3 and figure 2).
typedef enum df_train_mode {
  DF_MODE_INDEPENDENT,     // Diffusion Forcing: independent for each token
  DF_MODE_TEACHER_FORCING, // next-token diffusion: the past is clean
  DF_MODE_FULL_SEQUENCE,   // causal full-sequence diffusion: one level for all tokens
  DF_MODES
} df_train_mode;
extern const char *const df_train_mode_names[DF_MODES]; // "independent", "teacher-forcing", ...

// ---- Recipes ----

// models/NAME/recipe.json reproduces a model. Paths are relative to the recipe's folder.
//
// {
//   "name": "kanji",
//   "data": {
//     "train": {"values": "data/train_points.npy", "offsets": "data/train_offsets.npy"},
//     "valid": {"values": ..., "offsets": ...}      "conditions" and "observations" beside them if the
//   },                                              model has such
//   "model": {                                      config.json without what training finds out:
//     "denoiser": {...}, "diffusion": {...},        a field whose mean or std is not given gets
//     "tokens": {...}, "sampling": {...}            that of the training data
//   },
//   "training": {
//     "mode": "independent", "steps": 20000, "batch": 128, "shards": 2, "seed": 1,
//     "rate": 1e-3, "rate_end": 1e-5, "schedule": "cosine", "warmup": 200,
//     "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.01, "clip_gradient": 1,
//     "ema": 0.999, "stop_weight": 0.1, "stop_clean": 0,
//     "loss_weight": "none", "snr_clip": 5, "cumulative_decay": 0.9,
//     "augment_scale": 0.1, "augment_rotate": 0.05,
//     "log_every": 50, "valid_every": 500, "save_every": 1000, "dtype": "f16"  or "f32", "int8"
//   }
// }
// .npy files of a set of sequences
typedef struct df_data_files {
  const char *values;       // (total, C), data units
  const char *offsets;      // (sequences + 1): sequence i is frames offsets[i] .. offsets[i+1]-1
  const char *conditions;   // (total, E per frame), or NULL
  const char *observations; // (sequences, O), data units if the config names their fields, or NULL
} df_data_files;

typedef struct df_recipe {
  df_arena arena;
  const df_json *json, *model; // the whole recipe with its changes, and its object "model"
  const char *path, *folder, *name;
  char hash
      [17]; // of everything but training.steps, *_every and spaces: 64-bit FNV-1a in hexadecimal
  df_data_files train, valid;
  bool positions;   // fields 0 and 1 of the files are movements, those of the model positions
  df_config config; // without the statistics of the data
  df_train_mode mode;
  int steps, batch, shards, warmup;
  bool cosine; // the rate falls to rate_end by a cosine; else it is constant after the warm-up
  double rate, rate_end, beta1, beta2, epsilon, weight_decay;
  double clip_gradient; // largest norm of the gradient; 0: not clipped
  double ema;
  double stop_weight; // of the stop head's loss, per sequence, beside the loss of the tokens
  double stop_clean;  // fraction of the sequences whose tokens enter clean, for the stop head alone
  df_loss_weight loss_weight;
  double snr_clip, cumulative_decay; // decay per frame, as in the reference
  // Per sequence and epoch: factors 1 +- scale for each axis, radians +- rotate (fields 0 and 1).
  double augment_scale, augment_rotate;
  uint64_t seed;
  int log_every, valid_every, save_every; // steps
  df_dtype
      dtype; // of the model file: DF_F32, DF_F16, or DF_I8 for its large matrices (DF_WEIGHTS_LEAST)
} df_recipe;

// Reads a recipe and makes `count` changes, each "path.to.key=value", before it is looked at.
// A key that nobody knows is an error (BAD_CONFIG).
df_status df_recipe_read(df_recipe *recipe, const char *path, const char *const *changes, int count,
                         df_error *error);
void df_recipe_free(df_recipe *recipe);

// ---- Data ----

// Sequences of frames in memory: sequence i is frames offsets[i] .. offsets[i+1]-1.
typedef struct df_dataset {
  int count, fields, conditions_size, observation_size; // sequences, C, E / frame_stack, O
  int32_t *offsets;
  float *values;       // (total, C) data units
  float *conditions;   // (total, E / frame_stack) or NULL
  float *observations; // (count, O) or NULL
} df_dataset;

// Every sequence has at least one frame, every value is finite. The sizes of conditions and observations are
// looked at if there are such files.
df_status df_dataset_read(df_dataset *data, const df_data_files *files, int fields,
                          int conditions_size, int observation_size, df_error *error);
void df_dataset_free(df_dataset *data);

// Fields 0 and 1 from movements (dx, dy to a point from the one before) to positions, with the middle of the box
// around each sequence at (0, 0), and back; the first movement is 0.
void df_dataset_to_positions(df_dataset *data);
void df_dataset_to_movements(df_dataset *data);

// ---- Runs ----

// What a caller sees after each step. Means are over the steps since the last logged one.
typedef struct df_train_report {
  int step, steps;  // steps done, and of the whole run
  double loss;      // weighted squared error of the model output, mean over tokens and their floats
  double loss_stop; // NLL of the stop head per sequence, nats
  double gradient_norm, rate;              // before clipping
  double tokens_per_second, seconds;       // seconds of all sessions of this run
  bool logged, validated, improved, saved; // in this step
  double valid_loss, valid_stop;           // held-out, with the EMA weights
  double valid_stop_clean;                 // the same with a clean history
  double valid_by_level[10]; // plain squared error in ten equal ranges of the level; NaN: no token
  double best_loss;
  int best_step;
} df_train_report;

typedef struct df_train_options {
  // The run folder: state.safetensors (all that a resumed run needs), model.safetensors and
  // config.json (EMA weights that were best in validation), log.csv, loss.svg.
  const char *folder;
  bool resume;  // go on from state.safetensors; without it, a folder that has one is refused
  bool restart; // overwrite it
  int threads;  // 0: all cores
  bool (*report)(void *context, const df_train_report *report); // nullable; false: save and end
  void *context;
  const volatile int *stop; // nullable: becomes nonzero when the run shall save and end (Ctrl-C)
} df_train_options;

// Runs a recipe to its end. DF_STOPPED if stopped early (the state is saved).
df_status df_train(const df_recipe *recipe, const df_train_options *options, df_error *error);

#endif
