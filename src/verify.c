// A model against what PyTorch computed with it. Letters: B sequences, T tokens, D floats of a token, Z latent, E
// condition, O observation, V = frame_stack C floats of a token in data units.
#include <math.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "io/safetensors.h"

#define REFERENCE_FORMAT "diffusion-forcing-reference/1"

enum { MAX_SEQUENCES = 4096, MAX_TOKENS = 1 << 20, MAX_THREADS = 256 };

df_verify_options df_verify_defaults(void) {
  return (df_verify_options){.weights = DF_WEIGHTS_F32, .tolerance = -1, .threads = 1};
}

// ---- The file ----

typedef struct reference {
  const df_model *model;
  df_safetensors file;
  df_arena arena; // everything below
  bool *known;    // (file.count) tensors that have a place
  const df_json *numerics;
  const char *weights;
  int B, T;
  float *observation; // (B, O), or NULL
  df_cell_tokens in;
} reference;

static df_status no_memory(df_error *error) {
  return df_fail(error, DF_NO_MEMORY, "no memory for the reference");
}

// The tensor, if the model has a use for it: then it must be there. Else it stays unknown. shape: (dims)
static df_status find(reference *r, const char *name, bool used, df_dtype dtype,
                      const int64_t *shape, int dims, const df_view **view, df_error *error) {
  *view = df_safetensors_find(&r->file, name);
  if (!used) return DF_OK;
  if (!*view) return df_fail(error, DF_BAD_FILE, "tensor %s is missing", name);
  r->known[*view - r->file.views] = true;
  if ((*view)->dtype != dtype)
    return df_fail(error, DF_BAD_FILE, "tensor %s: expected %s, found %s", name,
                   df_dtype_name(dtype), df_dtype_name((*view)->dtype));
  return df_view_check(*view, shape, dims, error);
}

// Its floats, which must be finite; NULL if the model has no use for it.
static df_status read_floats(reference *r, const char *name, bool used, const int64_t *shape,
                             int dims, float **out, df_error *error) {
  const df_view *view;
  *out = NULL;
  df_status status = find(r, name, used, DF_F32, shape, dims, &view, error);
  if (status || !used) return status;
  if (!(*out = df_arena_alloc(&r->arena, view->count * sizeof **out))) return no_memory(error);
  df_view_floats(view, 0, view->count, *out);
  for (size_t i = 0; i < view->count; i++)
    if (!isfinite((*out)[i]))
      return df_fail(error, DF_BAD_VALUE, "tensor %s: entry %zu is %g", name, i, (double)(*out)[i]);
  return DF_OK;
}

// Large enough for products in 8 bits, and so for a file of such weights
static bool has_large_matrix(const df_params *params) {
  for (int i = 0; i < params->count; i++) {
    const df_param *p = params->items[i];
    if (p->dims == 2 && (int64_t)p->rows * p->cols >= DF_WEIGHTS_LEAST) return true;
  }
  return false;
}

static df_status read_metadata(reference *r, df_error *error) {
  const char *format = df_safetensors_meta(&r->file, "format");
  if (!format || strcmp(format, REFERENCE_FORMAT))
    return df_fail(error, DF_BAD_FILE, "format: expected \"" REFERENCE_FORMAT "\", found %s%.60s%s",
                   format ? "\"" : "", format ? format : "none", format ? "\"" : "");
  static const char *const formats[] = {"f32", "f16", "int8"};
  const char *weights = df_safetensors_meta(&r->file, "weights"), *held = r->model->format;
  for (int i = 0; weights && i < 3; i++)
    if (!strcmp(weights, formats[i])) r->weights = formats[i];
  if (!r->weights)
    return df_fail(error, DF_BAD_FILE,
                   "weights: expected \"f32\", \"f16\" or \"int8\", found %s%.60s%s",
                   weights ? "\"" : "", weights ? weights : "none", weights ? "\"" : "");
  // Small matrices stay float32 in a file of 8 bits.
  const bool same =
      !strcmp(r->weights, held) ||
      (!strcmp(r->weights, "int8") && !strcmp(held, "f32") && !has_large_matrix(&r->model->params));
  if (!same)
    return df_fail(error, DF_BAD_FILE,
                   "expected that of a model file with %s weights, found one made for %s", held,
                   r->weights);
  const char *numerics = df_safetensors_meta(&r->file, "numerics");
  df_error inner;
  if (!numerics) return df_fail(error, DF_BAD_FILE, "numerics: expected an object, found none");
  df_status status = df_json_parse(&r->numerics, &r->arena, numerics, strlen(numerics), &inner);
  if (status) return df_fail(error, status, "numerics: %s", inner.message);
  return r->numerics->kind == DF_JSON_OBJECT
             ? DF_OK
             : df_fail(error, DF_BAD_FILE, "numerics: expected an object, found something else");
}

// B and T, from the tokens.
static df_status read_size(reference *r, const df_network *net, df_error *error) {
  const int D = net->token_size, N = net->window;
  const df_view *view = df_safetensors_find(&r->file, "in.x");
  char found[DF_SHAPE_TEXT];
  if (!view) return df_fail(error, DF_BAD_FILE, "tensor in.x is missing");
  if (view->dims != 3 || view->shape[2] != D)
    return df_fail(error, DF_BAD_SHAPE, "tensor in.x: expected shape (B, T, %d), found %s", D,
                   df_shape_text(found, view->shape, view->dims));
  if (view->shape[0] < 1 || view->shape[0] > MAX_SEQUENCES || view->shape[1] < 1 ||
      view->shape[1] > MAX_TOKENS)
    return df_fail(error, DF_BAD_SHAPE,
                   "tensor in.x: expected 1 to %d sequences of 1 to %d tokens, found shape %s",
                   MAX_SEQUENCES, MAX_TOKENS, df_shape_text(found, view->shape, view->dims));
  r->B = (int)view->shape[0], r->T = (int)view->shape[1];
  if (N && (r->T > N || (!net->causal && r->T < N)))
    return df_fail(error, DF_BAD_SHAPE, "tensor in.x: expected %s%d tokens, found %d",
                   net->causal ? "at most " : "", N, r->T);
  return DF_OK;
}

static df_status read_levels(reference *r, int K, df_error *error) {
  const df_view *view;
  df_status status = find(r, "in.level", true, DF_I64, (int64_t[]){r->B, r->T}, 2, &view, error);
  if (status) return status;
  int32_t *level = df_arena_alloc(&r->arena, view->count * sizeof *level);
  if (!level) return no_memory(error);
  for (size_t i = 0; i < view->count; i++) {
    int64_t found;
    if ((status = df_view_ints(view, i, 1, &found, error))) return status;
    if (found < 1 || found > K)
      return df_fail(error, DF_BAD_VALUE,
                     "tensor in.level: entry %zu: expected a noise level from 1 to %d, found %lld",
                     i, K, (long long)found);
    level[i] = (int32_t)found;
  }
  r->in.level = level;
  return DF_OK;
}

static df_status read_inputs(reference *r, df_error *error) {
  const df_network *net = &r->model->config.network;
  const int D = net->token_size, E = net->condition_size, O = net->observation_size;
  df_status status = read_size(r, net, error);
  const int64_t B = r->B, T = r->T;
  float *x = NULL, *cond = NULL, *guess = NULL;
  if (status || (status = read_floats(r, "in.x", true, (int64_t[]){B, T, D}, 3, &x, error)) ||
      (status = read_levels(r, r->model->config.K, error)) ||
      (status = read_floats(r, "in.cond", E > 0, (int64_t[]){B, T, E}, 3, &cond, error)) ||
      (status = read_floats(r, "in.guess", net->self_condition, (int64_t[]){B, T, D}, 3, &guess,
                            error)) ||
      (status =
           read_floats(r, "in.observation", O > 0, (int64_t[]){B, O}, 2, &r->observation, error)))
    return status;
  r->in.x = x, r->in.cond = cond, r->in.guess = guess;
  return DF_OK;
}

// Every tensor has its place: one more is a sign of another model.
static df_status check_known(const reference *r, df_error *error) {
  for (int i = 0; i < r->file.count; i++)
    if (!r->known[i])
      return df_fail(
          error, DF_BAD_FILE,
          "tensor %s has no use for this model with %s weights: is the reference that of "
          "another one?",
          r->file.views[i].name, r->weights);
  return DF_OK;
}

// The rounding noise that the reference states for an output.
static df_status read_noise(const reference *r, const char *name, double *noise, df_error *error) {
  const df_json *entry = df_json_at(r->numerics, name);
  bool fine = entry && entry->kind == DF_JSON_ARRAY && entry->length == 2;
  for (int i = 0; fine && i < 2; i++) {
    const df_json *number = df_json_item(entry, i);
    fine = number->kind == DF_JSON_NUMBER && number->number >= 0;
  }
  if (!fine)
    return df_fail(error, DF_BAD_FILE,
                   "numerics: expected \"%s\": [largest magnitude, rounding noise]", name);
  *noise = df_json_item(entry, 1)->number;
  return DF_OK;
}

// ---- The same with this library ----

// An output: what the reference says, and what this library finds.
typedef struct output {
  const char *name;
  const float *want, *found;
  size_t count; // numbers
} output;

// What is found; NULL where there is no latent
typedef struct results {
  float *z0, *out, *z, *frames; // (B, Z), (B, T, D), (B, T, Z), (B, T, V)
} results;

// Puts the output `name` on the list, if the reference has to have it, and makes room for what is found.
static df_status want(reference *r, output *list, int *count, const char *name, bool used,
                      const int64_t *shape, int dims, float **found, df_error *error) {
  float *floats;
  df_status status = read_floats(r, name, used, shape, dims, &floats, error);
  if (status || !used) return status;
  size_t n = 1;
  for (int d = 0; d < dims; d++) n *= (size_t)shape[d];
  if (!*found && !(*found = df_arena_alloc(&r->arena, n * sizeof **found))) return no_memory(error);
  list[(*count)++] = (output){name, floats, *found, n};
  return DF_OK;
}

static df_status read_outputs(reference *r, results *found, output *list, int *count,
                              df_error *error) {
  const df_config *c = &r->model->config;
  const int64_t B = r->B, T = r->T, D = c->network.token_size, Z = c->network.latent_size;
  const int64_t z0[] = {B, Z}, out[] = {B, T, D}, z[] = {B, T, Z},
                frames[] = {B, T, c->frame_stack, c->field_count};
  const bool rounded = strcmp(r->weights, "f32") != 0, latents = Z > 0;
  df_status status;
  if ((status = want(r, list, count, "out.z0", latents, z0, 2, &found->z0, error)) ||
      (status = want(r, list, count, "out.output", true, out, 3, &found->out, error)) ||
      (status = want(r, list, count, "out.z", latents, z, 3, &found->z, error)) ||
      (status = want(r, list, count, "out.frames", true, frames, 4, &found->frames, error)) ||
      (status = want(r, list, count, "f32.z0", rounded && latents, z0, 2, &found->z0, error)) ||
      (status = want(r, list, count, "f32.output", rounded, out, 3, &found->out, error)) ||
      (status = want(r, list, count, "f32.z", rounded && latents, z, 3, &found->z, error)))
    return status;
  return check_known(r, error);
}

static df_status compute(reference *r, const df_verify_options *o, const results *found,
                         df_error *error) {
  const df_model *m = r->model;
  const df_config *c = &m->config;
  const size_t B = (size_t)r->B, BT = B * (size_t)r->T, D = (size_t)c->network.token_size,
               O = (size_t)c->network.observation_size,
               V = (size_t)c->frame_stack * (size_t)c->field_count;
  for (size_t i = 0; i < BT; i++) df_config_decode(c, r->in.x + i * D, found->frames + i * V);
  for (size_t b = 0; O && b < B; b++)
    df_config_observe(c, r->observation + b * O, r->observation + b * O);

  const df_cell_options cells = {.cells = c->network.window ? r->B * r->T : r->B,
                                 .sequences = r->B,
                                 .threads = o->threads,
                                 .weights = (df_weights)o->weights};
  df_cell_runner *runner;
  df_status status = df_cell_create(&runner, c, &m->noise, &m->params, &cells, error);
  if (status) return status;
  if (found->z0) status = df_cell_initial(runner, r->B, r->observation, found->z0, error);
  r->in.z0 = found->z0;
  if (!status) status = df_cell_unroll(runner, r->B, r->T, &r->in, found->out, found->z, error);
  df_cell_free(runner);
  return status;
}

static void compare(const output *o, df_difference *d) {
  *d = (df_difference){.name = o->name, .tolerance = INFINITY};
  for (size_t i = 0; i < o->count; i++) {
    const double difference = fabs((double)o->found[i] - (double)o->want[i]);
    d->largest = fmax(d->largest, fabs((double)o->want[i]));
    d->absolute = fmax(d->absolute, isfinite(difference) ? difference : INFINITY);
  }
  d->relative = d->absolute == 0 ? 0 : d->absolute / d->largest;
}

static df_status verify(reference *r, const df_verify_options *o, df_verification *report,
                        df_error *error) {
  output list[DF_DIFFERENCES];
  results found = {.z0 = NULL};
  double noise[DF_DIFFERENCES] = {0};
  int count = 0;
  df_error inner;
  df_status status = read_metadata(r, &inner);
  if (!status) status = read_inputs(r, &inner);
  if (!status) status = read_outputs(r, &found, list, &count, &inner);
  for (int i = 0; i < count && !status; i++)
    if (!strncmp(list[i].name, "out.", 4)) status = read_noise(r, list[i].name, &noise[i], &inner);
  if (status) return df_fail(error, status, "reference: %s", inner.message);
  if ((status = compute(r, o, &found, error))) return status;

  report->weights = r->weights;
  report->count = count;
  report->ok = true;
  for (int i = 0; i < count; i++) {
    df_difference *d = &report->outputs[i];
    compare(&list[i], d);
    if (!strncmp(d->name, "out.", 4)) {
      if (o->tolerance >= 0)
        d->tolerance = o->tolerance * d->largest;
      else if (o->weights == DF_WEIGHTS_F32)
        d->tolerance = 20 * noise[i] + 1e-6 * d->largest;
    }
    d->ok = isfinite(d->absolute) && d->absolute <= d->tolerance;
    report->ok = report->ok && d->ok;
  }
  return DF_OK;
}

df_status df_model_verify(const df_model *model, const void *bytes, size_t size,
                          const df_verify_options *options, df_verification *report,
                          df_error *error) {
  const df_verify_options o = options ? *options : df_verify_defaults();
  *report = (df_verification){.count = 0};
  if (o.weights < 0 || o.weights >= DF_WEIGHTS_COUNT)
    return df_fail(error, DF_BAD_ARGUMENT, "weights: expected 0 to %d, found %d",
                   DF_WEIGHTS_COUNT - 1, o.weights);
  if (isnan(o.tolerance)) return df_fail(error, DF_BAD_ARGUMENT, "tolerance: expected a number");
  if (o.threads < 0 || o.threads > MAX_THREADS)
    return df_fail(error, DF_BAD_ARGUMENT, "threads: expected 0 to %d, found %d", MAX_THREADS,
                   o.threads);
  reference r = {.model = model};
  df_error inner;
  df_status status = df_safetensors_open(&r.file, bytes, size, &inner);
  if (status) return df_fail(error, status, "reference: %s", inner.message);
  r.known = df_arena_alloc(&r.arena, (size_t)r.file.count * sizeof *r.known);
  status = r.known ? verify(&r, &o, report, error) : no_memory(error);
  df_safetensors_close(&r.file);
  df_arena_free(&r.arena);
  return status;
}
