// What a model is, beside its weights: config.json, also kept inside the model file.
#ifndef DF_DIFFUSION_CONFIG_H
#define DF_DIFFUSION_CONFIG_H

#include "denoisers/denoiser.h"
#include "diffusion/levels.h"
#include "diffusion/noise.h"

#define DF_CONFIG_FORMAT "diffusion-forcing/1"

// A field of a frame, such as dx: network value = (data value - mean) / std.
typedef struct df_field {
  const char *name;
  float mean, std;
  // Above 0: behind the first frame of a token the network has (value - value of the frame before) / step
  // instead. So what lies within a token is local and where the token lies is not.
  float step;
  float threshold; // binary fields: data value above it means 1
  bool binary;
} df_field;

// {
//   "format": "diffusion-forcing/1",
//   "name": "kanji",
//   "denoiser": {"kind": "rnn", "network_size": 32, ...},                       df_network_read
//   "diffusion": {"levels": 1000, "objective": "v", "schedule": "cosine", "clip_noise": 20},
//   "tokens": {"frame_stack": 4, "present": false,
//              "fields": [{"name": "dx", "mean": 0, "std": 20}, ...]},
//   "condition": {"fields": ["..."]},
//   "observation": {"fields": [{"name": "x", "mean": 0, "std": 3}, ...]},
//   "sampling": {"schedule": "pyramid", "steps": 50, "uncertainty": 1, "eta": 0,
//                "stabilization": 0, "grid": "fitted", "fitted_grid": [0, 31.5, ..., 1000],
//                "max_tokens": 20},
//   "training": {"mode": "independent", "ema": 0.999, "recipe": "<hash>"},      informative
//   "view": {"kind": "path", ...}                                               for viewers, see models/README.md
// }
// "name", "description", "license", "condition", "observation", "view", "sampling" and "training" may be missing, and so
// may every key with a default: clip_noise 20, frame_stack 1, present false, mean 0, std 1, binary
// false, threshold 0.5, condition none, sampling pyramid, 50 steps, uncertainty 1, eta 0,
// stabilization 0, grid uniform, 64 tokens. "fitted_grid" has the levels at equal shares of the
// way (df_warp); the grid "fitted" needs it. Other keys are errors. The sizes of a token and of its condition
// follow from "tokens" and "condition"; "denoiser" may repeat them and must then agree. "observation" names the
// numbers that an initial latent is encoded from ("initial": "encoded") and gives denoiser.observation_size; without it
// they are network units.
// A token is frame_stack frames side by side, a frame is its fields (C of them). With "present"
// every frame has one field more at its end, +1 for a real frame and -1 for padding behind the last
// one, so that a sequence can end inside a token; it is not shown to users, who get the number of
// frames instead.
typedef struct df_config {
  df_arena arena;
  const df_json *json; // the whole text, for what is only informative
  const char *name;
  df_network network; // token_size D = frame_stack (C + present)
  df_objective objective;
  df_noise_kind noise;
  int K;
  float clip_noise;
  int frame_stack;
  bool present;
  int field_count; // C
  df_field *fields;
  df_field *observation; // (network.observation_size) name, mean and std; NULL: network units
  struct df_sampling {
    df_schedule schedule;
    int steps, stabilization, max_tokens;
    double uncertainty, eta;
    df_grid_kind grid;
    df_warp fitted_grid; // in the arena; no levels: none
  } sampling;            // defaults
} df_config;

df_status df_config_parse(df_config *config, const char *text, size_t size, df_error *error);
void df_config_free(df_config *config);
// The config's text anew, with other sampling defaults; all else as it was. A df_alloc block, or NULL:
// no memory.
char *df_config_with_sampling(const df_config *config, const struct df_sampling *sampling);

// Token values between data units (frames (frame_stack, C)) and network units (D), in place order.
// Encoding reads `count` frames; behind them all fields are 0 (network units) and `present` is -1,
// else +1. Decoding returns the number of frames present: those before the first one whose present
// field is below 0. Binary fields stay continuous.
void df_config_encode(const df_config *config, const float *frames, int count, float *token);
int df_config_decode(const df_config *config, const float *token, float *frames);
// The derivative of decoding: adds share times what `slope`, of the frames (frame_stack, C), makes of the token (D).
void df_config_decode_gradient(const df_config *config, const float *slope, float share,
                               float *token);
// An observation (O) from data units, if the config tells them, to network units.
void df_config_observe(const df_config *config, const float *values, float *observation);

#endif
