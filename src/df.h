// Diffusion Forcing (Chen et al. 2024, arXiv 2407.01392): the public API.
//
//   df_model *model;  df_sampler *s;  df_error error;
//   if (df_model_open(&model, bytes, size, &error)) ...
//   df_sampler_options options = df_sampler_defaults();
//   options.seed = 7;
//   if (df_sampler_create(&s, model, &options, &error)) ...
//   while (!df_sampler_done(s) && !df_sampler_step(s, &error)) draw(df_sampler_state(s));
//   df_sampler_free(s);  df_model_free(model);
//
// Three lifetimes: a model (weights, read only, shared by samplers and threads), a sampler (a plan
// and the state of its sequences, sized when it is made), a call. After a sampler is made, a step
// allocates nothing. Samplers of one model are made by one thread at a time; they may run at once.
// Letters: B sequences, T tokens, D floats per token, C fields per frame, K training levels, S
// sampling steps.
#ifndef DF_H
#define DF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "diffusion/guide.h"

// ---- Model ----

typedef struct df_model df_model;

// Reads a model file (safetensors with the config inside). bytes may be freed afterwards.
// Errors: BAD_FILE, BAD_CONFIG, BAD_SHAPE (names tensor, expected, found), BAD_VALUE (a weight is
// NaN or infinite), NO_MEMORY.
df_status df_model_open(df_model **model, const void *bytes, size_t size, df_error *error);

// The same for a file that comes in pieces, cut anywhere. Each piece goes to its place in the
// parameters as it comes, and no copy of the file is kept: memory beyond the model is the header.
// What the header tells is checked as soon as it is there.
//
//   if (df_loader_create(&loader, size, &error)) ...
//   while ((n = fread(piece, 1, sizeof piece, file)))
//     if (df_loader_feed(loader, piece, n, &error)) break;
//   df_loader_finish(loader, &model, &error);
typedef struct df_loader df_loader;

// size: of the whole file; SIZE_MAX if it is not known. A known one finds more mistakes early.
df_status df_loader_create(df_loader **loader, size_t size, df_error *error);
// The next bytes; they may be freed afterwards. Once a call has failed, all further ones fail so.
// Errors: as df_model_open.
df_status df_loader_feed(df_loader *loader, const void *bytes, size_t n, df_error *error);
// The end of the file: the model, or what is wrong (then or before). Frees the loader in any case.
df_status df_loader_finish(df_loader *loader, df_model **model, df_error *error);
void df_loader_free(df_loader *loader); // NULL is fine

// Samplers of the model must be freed first. NULL is fine.
void df_model_free(df_model *model);
// config.json as text; lives as long as the model.
const char *df_model_config(const df_model *model);
// How the file held the weights: "f32", "f16", "bf16" or "int8" (matrices as whole numbers with a scale for each row).
// In memory they are float32.
const char *df_model_format(const df_model *model);
size_t df_model_parameters(const df_model *model); // numbers
size_t df_model_bytes(const df_model *model);      // memory held

// ---- Verification ----

// Does this library compute what PyTorch did? A reference (safetensors, written by models/df_export) holds inputs and
// outputs of the network that the model was exported from; models/README.md describes it. The inputs go through the
// network as sampling runs it.
typedef struct df_verify_options {
  int weights; // arithmetic, a df_weights (kernels/kernels.h): float32, the default, or 8 bits
  // Largest difference of an output, as a fraction of its largest magnitude. Below 0, the default: what float32 explains
  // (20 times the rounding noise that the reference states, plus 1e-6 of the largest magnitude); for arithmetic in 8
  // bits no limit.
  double tolerance;
  int threads; // as of samplers
} df_verify_options;
df_verify_options df_verify_defaults(void);

typedef struct df_difference {
  // As in the reference. "out.z0", "out.output", "out.z": with the weights of the model file, "out.frames": the tokens in
  // data units; "f32.z0", "f32.output", "f32.z": with the weights before they were rounded to the format of the file.
  const char *name;
  double largest; // magnitude in the reference
  double absolute,
      relative;     // largest |difference|, and that over the largest magnitude; infinite for a NaN
  double tolerance; // of the absolute difference; infinite: none, it is only reported
  bool ok;
} df_difference;

enum { DF_DIFFERENCES = 7 };
typedef struct df_verification {
  const char *weights; // format in the model file, as df_model_format names it
  int count;
  df_difference outputs[DF_DIFFERENCES];
  bool ok; // all of them
} df_verification;

// A difference above the tolerance is no error: it is in the report. options: NULL for the defaults.
// Errors: BAD_FILE (damaged, not a reference, a tensor is missing or the model has no use for it, made for another format
// of weights), BAD_SHAPE (the reference of another model), BAD_VALUE, BAD_ARGUMENT, NO_MEMORY.
df_status df_model_verify(const df_model *model, const void *bytes, size_t size,
                          const df_verify_options *options, df_verification *report,
                          df_error *error);

// ---- Sampler ----

typedef struct df_sampler df_sampler;

// A network with attention sees a window of N tokens (denoiser.window of its config). Of a longer sequence it sees
// those up to the last one that falls in a row, so context that is farther back is dropped. Tokens that fall in one
// row must fit into the window: the first step is NOT_SUPPORTED where they do not. If it is causal, keys and values of
// tokens that do not change are kept, and a row costs the others only; until the window moves on, which costs all of
// it once. If it is not, every row costs the whole window, padded behind the end.

// Lengths that are not numbers of tokens: the stop head decides, up to max_length; or on and on
// (with a stop head: until it ends the sequence).
enum { DF_LENGTH_DRAWN = 0, DF_LENGTH_UNBOUNDED = -1 };
enum { DF_DEFAULT = -1000000 }; // in int and double fields: take the model's default

typedef struct df_sampler_options {
  int batch;  // B >= 1
  int length; // T > 0 tokens, DF_LENGTH_* or DF_DEFAULT: drawn with a stop head, else max_length
  int max_length; // of drawn lengths; of unbounded ones: known tokens stand before it. 0: default
  int schedule;   // a df_schedule (diffusion/levels.h); its columns are the tokens not known
  int steps;      // S, 1 .. K
  double uncertainty; // u of pyramid, trapezoid and rolling, 0 .. S
  double eta;         // 0: deterministic DDIM, 1: as noisy as DDPM
  bool ancestral;     // DDPM (needs steps = K); eta is then ignored
  bool
      posterior; // a second pass at the new level gives the latent (exact, twice the cost); needs a causal network
  int grid; // a df_grid_kind (diffusion/noise.h): which levels the steps visit; fitted needs a model
            // that has one (NOT_SUPPORTED)
  int stabilization; // level (0 .. K) at which known and finished tokens enter the network
  // Rows that may be computed ahead of the one that is handed out, 0 or more: cells of the table
  // that do not depend on each other are one batch then. Changes speed and memory, not a bit of the
  // result. Default: until batches are full. With attention none are.
  int ahead;
  int threads; // that share a batch of cells, 1 or more; 0: one per core. Changes speed only
  // How weight matrices are held and multiplied, a df_weights (kernels/kernels.h): float32, the default, or 8 bits,
  // about a quarter of the memory and faster, at an error that `forcing eval` tells.
  int weights;
  uint64_t seed;
  uint32_t first_sequence; // sequence b draws its random numbers as number first_sequence + b
  // DF_CUSTOM: the user's table (table_rows, T or max_length), copied; columns of known tokens are
  // not used. Those of tokens without a start value begin at S.
  const int32_t *table;
  int table_rows;
  bool allow_renoise; // columns may rise: the token is noised again
  bool allow_partial; // columns may end above 0: the sampler is done with noisy tokens
} df_sampler_options;

// Options with every field at its default (the model's own sampling settings).
df_sampler_options df_sampler_defaults(void);

df_status df_sampler_create(df_sampler **sampler, const df_model *model,
                            const df_sampler_options *options, df_error *error);
void df_sampler_free(df_sampler *sampler); // NULL is fine

// Before the first step. Values are in data units and must be finite. Of what is given of a token, known or to start
// from, the last call counts.
// Known tokens stay clean: token t of sequence b is set to `frames` frames (frames, C), all
// frame_stack of them except perhaps in the last token of a known length. At the start, in the
// middle or at the end of the sequence; a drawn length reaches at least to the last known token.
df_status df_sampler_keep(df_sampler *sampler, int b, int64_t t, const float *values, int frames,
                          df_error *error);
// Where token t starts, in place of pure noise: a warm start. It begins at the level of row 0 of the table: S, or what
// the rolling or a custom schedule says, where every token below S needs a start value (the first step is WRONG_STATE
// without). noisy = false: the values are clean, as those of df_sampler_keep, and noise of that level is added, the noise
// that the token would start from. true: they are noisy already, all frame_stack frames of a token as info.values has
// them at that level (NOT_SUPPORTED if the model marks which frames are present: values do not tell that). values =
// NULL, frames = 0: nothing is given any more.
//
// With the rolling schedule, u rows finish one token, and the others end at the level at which the one before them
// began. So a controller makes a plan once (a pyramid stands after S - u rows where a rolling table begins), and then
// with each tick finishes its first token, restarts, and starts token t from where token t + 1 was, the last one from
// noise if it is at level S. A new seed each time makes that noise, and that of steps with eta > 0, another one.
df_status df_sampler_start(df_sampler *sampler, int b, int64_t t, const float *values, int frames,
                           bool noisy, df_error *error);
// The sequence goes on behind what has been: z (Z) is the latent that its first token gets, in place of the model's
// initial one; NULL: that again. For random numbers its tokens are number `first`, first + 1, ...: with the latent
// behind token first - 1 it is what a longer one with these known tokens is. Networks with attention have no latent
// (NOT_SUPPORTED unless NULL).
df_status df_sampler_begin(df_sampler *sampler, int b, int64_t first, const float *z,
                           df_error *error);
// External condition (E, network units) of token t; b = -1: of all sequences. Every token that is
// visited needs one if the model has conditions. With an unbounded length it may be given later,
// before the token is first visited.
df_status df_sampler_condition(df_sampler *sampler, int b, int64_t t, const float *values,
                               df_error *error);
// The observation (O) that the initial latent is encoded from, if the model has such an encoder. Data units if the
// config's "observation" tells them, else network units.
df_status df_sampler_observe(df_sampler *sampler, int b, const float *values, df_error *error);

// Guided sampling raises J, a function of the clean estimates of all tokens, by its derivative with respect to the
// noisy ones, through the network and all that tokens see of each other (Chen et al. 2024, section 3.3). Every row is
// one pass over all tokens with its derivative, so it costs more, nothing is computed ahead, and one thread does it.
typedef enum df_shift {
  // eps' = eps - w sqrt(1 - abar) dJ/dx and the clean estimate with it, x0' = x0 + w (1 - abar) / sqrt(abar) dJ/dx
  // (Dhariwal & Nichol 2021). In the root, abar counts as 0.01 where it is less.
  DF_SHIFT_EXACT,
  DF_SHIFT_NEXT, // eps' = eps - w sqrt(1 - abar') dJ/dx with the next level's abar': branch `main` of the authors
  DF_SHIFT_TOKEN, // x' + w ((1 - abar) - c sqrt(1 - abar)) dJ/dx, c the factor of eps in the step: branch `paper`
  DF_SHIFTS
} df_shift;
extern const char *const df_shift_names[DF_SHIFTS]; // "exact", "next", "token"
// J = terms + objective; each may be missing. Without an objective the caller may add one to every row
// (df_sampler_estimate), and without terms has to.
typedef struct df_guidance {
  const df_guide_term *terms; // diffusion/guide.h says what they are; copied
  int term_count;
  // J of one sample of sequence b: frames (n, C) in data units are the clean estimates of all its tokens. dJ/dframes is
  // added to gradient (n, C). sample 0 .. futures - 1. NULL: none.
  double (*objective)(void *context, int b, int sample, int n, const float *frames,
                      float *gradient);
  void *context;      // of the objective; must outlive the sampler
  double scale;       // w
  double level_power; // w (1 - abar)^level_power; 0: the same at all levels
  double clip;        // largest norm of a token's dJ/dx; 0: not clipped
  // Monte Carlo guidance: J is the mean over so many samples of the plan. The first one is the estimate; for the others
  // it is noised anew to the tokens' levels, independently, and estimated again.
  int futures;
  int shift; // a df_shift
} df_guidance;
// Before the first step; a second call replaces the first, and one that fails changes nothing. Needs a length that is
// known; not with ancestral, posterior or allow_renoise (NOT_SUPPORTED). A term that does not fit is told by its place
// in the list (BAD_ARGUMENT, BAD_VALUE).
df_status df_sampler_guide(df_sampler *sampler, const df_guidance *guidance, df_error *error);

// The samples that J is a function of, before the next step, for a caller that has an objective of its own: reads values,
// adds to gradient and objective, and calls df_sampler_step, which goes on from there. Pointers are valid until the step.
// WRONG_STATE where a df_guidance has an objective.
typedef struct df_samples {
  int batch, futures, frames, fields; // B, N, n, C
  const float *values;                // (B, N, n, C) data units
  float *gradient;   // (B, N, n, C) dJ/dvalues of each sample: so far, of the terms
  double *objective; // (B) J, the mean of the samples: so far, of the terms
} df_samples;
df_status df_sampler_estimate(df_sampler *sampler, df_samples *samples, df_error *error);

// Moves every token one row down its schedule; tokens whose level does not change stay as they are.
// WRONG_STATE once no row is left. NaN in a result: BAD_VALUE. An error leaves the sampler where it
// was before the row.
df_status df_sampler_step(df_sampler *sampler, df_error *error);
// Back to row 0 with the same options, guidance and all that was given (tokens, latents, conditions, observations), and
// this seed.
// (With an unbounded length whose first tokens have left, conditions have to be given again.)
void df_sampler_restart(df_sampler *sampler, uint64_t seed);

// The state after the last step. Pointers are valid until the sampler is freed; their contents
// change with each step. The window is what is in memory: all T tokens; with an unbounded length
// those that are not yet clean and the newest clean ones.
typedef struct df_sampler_info {
  int64_t row; // steps done
  // Rows of the table, the start included: all is done when row = rows - 1. Falls when a sequence
  // turns out to end early. -1: unbounded.
  int64_t rows;
  int batch, tokens;       // B, tokens in the window
  int64_t first;           // number of the window's first token
  int frame_stack, fields; // a token is (frame_stack, C)
  const int32_t *levels;   // (B, tokens) 0 .. S; S + 1: behind the end of the sequence
  const float *values;     // (B, tokens, frame_stack, C) data units: the noisy tokens
  const float *estimates;  // the same shape: estimates of the clean tokens, at first the mean
  const int32_t *frames;   // (B, tokens) frames present by the estimate: 0 .. frame_stack
  const int32_t *lengths;  // (B) tokens of each sequence if known by now, else -1
  int64_t clean;           // tokens before this one are clean in all sequences: they may leave
  int64_t cells;           // network passes so far: cells of the table
  int64_t batches;         // runs of the network so far, each of many cells
  // (B) J of the estimates that the last step was made from, mean of the futures; NaN before the first step, NULL if
  // not guided
  const double *objective;
  int latent; // Z; 0: the network has none
} df_sampler_info;
const df_sampler_info *df_sampler_state(const df_sampler *sampler);
bool df_sampler_done(const df_sampler *sampler); // no row is left
// The latent z (Z) behind token t of sequence b, at any time when it and all before it are clean (else WRONG_STATE):
// what those behind it see of them, for df_sampler_begin. Tokens in memory only (info.first); one pass for each that
// lies before. So the latent behind what was planned and then observed is that of known tokens, before the first step.
// NOT_SUPPORTED with attention and with allow_renoise.
df_status df_sampler_latent(df_sampler *sampler, int b, int64_t t, float *z, df_error *error);
size_t df_sampler_bytes(const df_sampler *sampler);

const char *df_version(void); // "0.1.0"
const char *df_isa(void);     // "avx512", "relaxed", ...: the kernels in use

#endif
