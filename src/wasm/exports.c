// What JavaScript sees of df.h: plain numbers in, plain numbers and addresses out.
//
// A function that can fail returns a df_status, or 0 or -1 where it returns something else; code
// and message wait in one record until the next failure (error_code, error_message). Numbers of
// options come as doubles and are checked here, so that nothing is cut to 32 bits unseen; NaN
// stands for a default. web/src/core.js is the other side.
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "df.h"
#include "diffusion/sampler.h"
#include "graph/packed.h"

#define EXPORT(type, name) __attribute__((export_name(#name))) type df_wasm_##name

static df_error error;

EXPORT(int, error_code)(void) { return error.code; }
EXPORT(const char *, error_message)(void) { return error.message; }
EXPORT(const char *, status_name)(int code) { return df_status_name((df_status)code); }
EXPORT(const char *, status_text)(int code) { return df_status_text((df_status)code); }
EXPORT(const char *, version)(void) { return df_version(); }
EXPORT(const char *, isa)(void) { return df_isa(); }

// ---- Memory: what JavaScript fills before a call ----

EXPORT(void *, alloc)(size_t size) {
  void *block = df_alloc(size);
  if (!block) df_fail(&error, DF_NO_MEMORY, "%zu bytes", size);
  return block;
}
EXPORT(void, free)(void *block) { df_free(block); }
EXPORT(double, used)(void) { return (double)df_alloc_bytes(); }

#ifdef __wasm_atomics__
// ---- Threads (web/src/threads.js) ----

EXPORT(void, threads_expect)(int count) { df_threads_expect(count); }
EXPORT(void, threads_join)(int thread) { df_threads_join(thread); }
#endif

// Is x an integer of at most `most`? The range of the value itself is the library's to check.
static bool whole(double x, double most, const char *name) {
  if (x == floor(x) && fabs(x) <= most) return true;
  df_fail(&error, DF_BAD_ARGUMENT, "%s: expected an integer, found %g", name, x);
  return false;
}

// A number of each kind into *out; one that is left out (NaN) leaves the default there.
static bool integer(double x, const char *name, int *out) {
  return isnan(x) || (whole(x, INT32_MAX, name) && (*out = (int)x, true));
}
static bool number(double x, const char *name, double *out) {
  if (!isnan(x)) *out = x;
  return true;
}
static bool truth(double x, const char *name, bool *out) {
  if (!isnan(x)) *out = x != 0;
  return true;
}
static bool word(double x, const char *name, uint32_t *out) {
  if (isnan(x)) return true;
  if (!whole(x, UINT32_MAX, name)) return false;
  if (x >= 0) return *out = (uint32_t)x, true;
  df_fail(&error, DF_BAD_ARGUMENT, "%s: expected 0 or more, found %g", name, x);
  return false;
}

// ---- Model ----

EXPORT(df_loader *, load_begin)(void) {
  df_loader *loader;
  return df_loader_create(&loader, SIZE_MAX, &error) ? NULL : loader;
}
EXPORT(int, load_feed)(df_loader *l, const void *bytes, size_t n) {
  return df_loader_feed(l, bytes, n, &error);
}
EXPORT(df_model *, load_finish)(df_loader *l) {
  df_model *model;
  return df_loader_finish(l, &model, &error) ? NULL : model;
}
EXPORT(void, model_free)(df_model *m) { df_model_free(m); }
EXPORT(const char *, model_config)(const df_model *m) { return df_model_config(m); }

// Sixteen numbers, in the order in which core.js takes them apart.
EXPORT(const double *, model_numbers)(const df_model *m) {
  static double out[16];
  const df_config *c = &m->config;
  const double now[16] = {(double)df_model_parameters(m),
                          (double)df_model_bytes(m),
                          c->K,
                          c->frame_stack,
                          c->field_count,
                          c->network.condition_size,
                          c->network.observation_size,
                          c->network.latent_size,
                          c->network.stop_head,
                          c->sampling.schedule,
                          c->sampling.steps,
                          c->sampling.uncertainty,
                          c->sampling.eta,
                          c->sampling.stabilization,
                          c->sampling.max_tokens,
                          c->sampling.grid};
  return memcpy(out, now, sizeof out);
}
// Fields of a frame, from C on those of the observation; NULL if these have none.
static const df_field *field(const df_model *m, int i) {
  const df_config *c = &m->config;
  return i < c->field_count ? &c->fields[i]
         : c->observation   ? &c->observation[i - c->field_count]
                            : NULL;
}
EXPORT(const char *, field_name)(const df_model *m, int i) {
  const df_field *f = field(m, i);
  return f ? f->name : NULL;
}
// mean, std, binary, threshold
EXPORT(const double *, field_numbers)(const df_model *m, int i) {
  static double out[4];
  const df_field *f = field(m, i);
  const double now[4] = {f->mean, f->std, f->binary, f->threshold};
  return memcpy(out, now, sizeof out);
}

// Whether all is well, the format of the weights, how many outputs, and of each its name, largest magnitude, absolute
// and relative difference, tolerance, and whether it is well. weights: a df_weights. tolerance: below 0: the default.
EXPORT(const double *, model_verify)
(const df_model *m, const void *bytes, size_t size, int weights, double tolerance, int threads) {
  enum { HEAD = 3, EACH = 6 };
  static double out[HEAD + EACH * DF_DIFFERENCES];
  const df_verify_options o = {weights, tolerance, threads};
  df_verification v;
  if (df_model_verify(m, bytes, size, &o, &v, &error)) return NULL;
  out[0] = v.ok, out[1] = (double)(uintptr_t)v.weights, out[2] = v.count;
  for (int i = 0; i < v.count; i++) {
    const df_difference *d = &v.outputs[i];
    const double now[EACH] = {
        (double)(uintptr_t)d->name, d->largest, d->absolute, d->relative, d->tolerance, d->ok};
    memcpy(out + HEAD + EACH * i, now, sizeof now);
  }
  return out;
}

// ---- Sampler ----

// Options that are numbers: X(kind, field of df_sampler_options, name in JavaScript). A new one is a
// line here and one in web/src/check.js and types.js.
#define OPTIONS(X)                                                                                 \
  X(integer, batch, "batch")                                                                       \
  X(integer, length, "length") /* 0: drawn, -1: unbounded */                                       \
  X(integer, max_length, "maxLength")                                                              \
  X(integer, schedule, "schedule")                                                                 \
  X(integer, steps, "steps")                                                                       \
  X(number, uncertainty, "uncertainty")                                                            \
  X(number, eta, "eta")                                                                            \
  X(truth, ancestral, "ancestral")                                                                 \
  X(truth, posterior, "posterior")                                                                 \
  X(integer, grid, "grid")                                                                         \
  X(integer, stabilization, "stabilization")                                                       \
  X(integer, ahead, "ahead")                                                                       \
  X(integer, threads, "threads")                                                                   \
  X(integer, weights, "weights")                                                                   \
  X(word, first_sequence, "sequence")                                                              \
  X(truth, allow_renoise, "allowRenoise")                                                          \
  X(truth, allow_partial, "allowPartial")                                                          \
  X(integer, table_rows, "tableRows")

EXPORT(const char *, option_name)(int i) {
#define X(kind, field, name) name,
  static const char *const names[] = {OPTIONS(X)};
#undef X
  return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}

// numbers: in the order of OPTIONS, NaN where left out. table: with tableRows, else NULL.
EXPORT(df_sampler *, sampler_create)
(const df_model *m, const double *numbers, uint64_t seed, const int32_t *table) {
  df_sampler_options o = df_sampler_defaults();
#define X(kind, field, name)                                                                       \
  if (!kind(*numbers++, name, &o.field)) return NULL;
  OPTIONS(X)
#undef X
  o.seed = seed;
  o.table = table;
  df_sampler *s = NULL;
  return df_sampler_create(&s, m, &o, &error) ? NULL : s;
}
EXPORT(void, sampler_free)(df_sampler *s) { df_sampler_free(s); }

// way: 0 known, 1 where the token starts but for the noise, 2 where it starts
EXPORT(int, sampler_keep)
(df_sampler *s, double sequence, double token, const float *values, int frames, int way) {
  if (!whole(sequence, INT32_MAX, "sequence") || !whole(token, 0x1p53, "token")) return error.code;
  const int b = (int)sequence;
  const int64_t t = (int64_t)token;
  return way ? df_sampler_start(s, b, t, values, frames, way == 2, &error)
             : df_sampler_keep(s, b, t, values, frames, &error);
}
EXPORT(int, sampler_begin)(df_sampler *s, double sequence, double first, const float *z) {
  if (!whole(sequence, INT32_MAX, "sequence") || !whole(first, 0x1p53, "token")) return error.code;
  return df_sampler_begin(s, (int)sequence, (int64_t)first, z, &error);
}
EXPORT(int, sampler_latent)(df_sampler *s, double sequence, double token, float *z) {
  if (!whole(sequence, INT32_MAX, "sequence") || !whole(token, 0x1p53, "token")) return error.code;
  return df_sampler_latent(s, (int)sequence, (int64_t)token, z, &error);
}
EXPORT(int, sampler_condition)(df_sampler *s, double sequence, double token, const float *values) {
  if (!whole(sequence, INT32_MAX, "sequence") || !whole(token, 0x1p53, "token")) return error.code;
  return df_sampler_condition(s, (int)sequence, (int64_t)token, values, &error);
}
EXPORT(int, sampler_observe)(df_sampler *s, double sequence, const float *values) {
  if (!whole(sequence, INT32_MAX, "sequence")) return error.code;
  return df_sampler_observe(s, (int)sequence, values, &error);
}

// Guidance, the same way: X(kind, field, name in JavaScript). A name that stands twice is an array's.
#define GUIDANCE(X)                                                                                \
  X(number, scale, "scale")                                                                        \
  X(number, level_power, "levelPower")                                                             \
  X(number, clip, "clip")                                                                          \
  X(integer, futures, "futures")                                                                   \
  X(integer, shift, "shift")
#define TERM(X)                                                                                    \
  X(integer, kind, "kind")                                                                         \
  X(number, weight, "weight")                                                                      \
  X(integer, x, "x")                                                                               \
  X(integer, y, "y")                                                                               \
  X(integer, first, "first")                                                                       \
  X(integer, last, "last")                                                                         \
  X(number, at[0], "at")                                                                           \
  X(number, at[1], "at")                                                                           \
  X(number, size[0], "size")                                                                       \
  X(number, size[1], "size")                                                                       \
  X(number, softness, "softness")                                                                  \
  X(integer, sequence, "sequence")

#define X(kind, field, name) name,
EXPORT(const char *, guidance_name)(int i) {
  static const char *const names[] = {GUIDANCE(X)};
  return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}
EXPORT(const char *, term_name)(int i) {
  static const char *const names[] = {TERM(X)};
  return i >= 0 && i < (int)(sizeof names / sizeof *names) ? names[i] : NULL;
}
#undef X
EXPORT(const char *, kind_name)(int i) {
  return i >= 0 && i < DF_GUIDES ? df_guide_names[i] : NULL;
}
EXPORT(const char *, shift_name)(int i) {
  return i >= 0 && i < DF_SHIFTS ? df_shift_names[i] : NULL;
}

#define X(kind, field, name)                                                                       \
  if (!kind(*numbers++, name, &o->field)) return error.code;
static int read_term(const double *numbers, df_guide_term *o) {
  *o = (df_guide_term){.kind = -1, .weight = 1, .x = -1, .y = -1, .last = -1, .sequence = -1};
  TERM(X)
  return DF_OK;
}
static int read_guidance(const double *numbers, df_guidance *o) {
  *o = (df_guidance){.scale = 1, .futures = 1};
  GUIDANCE(X)
  return DF_OK;
}
#undef X

// Where several samplers share a batch, this one has its sequences from `first` on: leaves the terms of these.
static int own_terms(const df_sampler *s, int first, df_guide_term *list, int count) {
  const int end = first + df_sampler_state(s)->batch;
  bool own = true; // a `then` goes with its `reach`
  int n = 0;
  for (int i = 0; i < count; i++) {
    const int b = list[i].sequence;
    if (list[i].kind != DF_GUIDE_THEN) own = b < 0 || (b >= first && b < end);
    if (!own) continue;
    list[n] = list[i];
    list[n++].sequence = b < 0 ? b : b - first;
  }
  // Without any the objective would be the caller's.
  if (count && !n) list[n++] = (df_guide_term){.kind = DF_GUIDE_REWARD, .y = -1, .last = -1};
  return n;
}

// numbers: in the order of GUIDANCE, and of each term in the order of TERM; NaN where left out. Terms count the
// sequences of a batch that the sampler has a share of.
EXPORT(int, sampler_guide)
(df_sampler *s, const double *numbers, const double *terms, int count, int first, int batch) {
#define X(kind, field, name) +1
  enum { NUMBERS = TERM(X) };
#undef X
  df_guidance o;
  df_guide_term *list = count ? df_wasm_alloc((size_t)count * sizeof *list) : NULL;
  int status = count && !list ? error.code : read_guidance(numbers, &o);
  for (int i = 0; i < count && !status; i++) status = read_term(terms + NUMBERS * i, &list[i]);
  const df_sampler_info *info = df_sampler_state(s);
  const int frames = info->tokens * info->frame_stack;
  if (!status) status = df_guide_check(list, count, batch, info->fields, frames, &error);
  if (!status) {
    o.terms = list, o.term_count = own_terms(s, first, list, count);
    status = df_sampler_guide(s, &o, &error);
  }
  df_free(list);
  return status;
}
// The fields of df_samples in their order.
EXPORT(const double *, sampler_estimate)(df_sampler *s) {
  static double out[7];
  df_samples k;
  if (df_sampler_estimate(s, &k, &error)) return NULL;
  const double now[7] = {k.batch,
                         k.futures,
                         k.frames,
                         k.fields,
                         (double)(uintptr_t)k.values,
                         (double)(uintptr_t)k.gradient,
                         (double)(uintptr_t)k.objective};
  return memcpy(out, now, sizeof out);
}
EXPORT(int, sampler_step)(df_sampler *s) { return df_sampler_step(s, &error); }
EXPORT(void, sampler_restart)(df_sampler *s, uint64_t seed) { df_sampler_restart(s, seed); }
EXPORT(int, sampler_done)(const df_sampler *s) { return df_sampler_done(s); }
EXPORT(double, sampler_bytes)(const df_sampler *s) { return (double)df_sampler_bytes(s); }

// The fields of df_sampler_info in their order, but for batches.
EXPORT(const double *, sampler_state)(const df_sampler *s) {
  static double out[15];
  const df_sampler_info *i = df_sampler_state(s);
  const double now[15] = {(double)i->row,
                          (double)i->rows,
                          i->batch,
                          i->tokens,
                          (double)i->first,
                          i->frame_stack,
                          i->fields,
                          (double)(uintptr_t)i->levels,
                          (double)(uintptr_t)i->values,
                          (double)(uintptr_t)i->estimates,
                          (double)(uintptr_t)i->frames,
                          (double)(uintptr_t)i->lengths,
                          (double)i->clean,
                          (double)i->cells,
                          (double)(uintptr_t)i->objective};
  return memcpy(out, now, sizeof out);
}

EXPORT(const char *, weights_name)(int i) {
  return i >= 0 && i < DF_WEIGHTS_COUNT ? df_weights_names[i] : NULL;
}

// ---- Level tables ----

EXPORT(const char *, schedule_name)(int i) {
  return i >= 0 && i < DF_SCHEDULES ? df_schedule_names[i] : NULL;
}

EXPORT(const char *, grid_name)(int i) { return i >= 0 && i < DF_GRIDS ? df_grid_names[i] : NULL; }

EXPORT(int, levels_rows)(int schedule, double length, double steps, double uncertainty) {
  int rows;
  if (!whole(length, INT32_MAX, "length") || !whole(steps, INT32_MAX, "steps")) return -1;
  return df_levels_rows((df_schedule)schedule, (int)length, (int)steps, uncertainty, &rows, &error)
             ? -1
             : rows;
}
// table (rows, length)
EXPORT(int, levels_fill)(int schedule, int length, int steps, double uncertainty, int32_t *table) {
  return df_levels_fill((df_schedule)schedule, length, steps, uncertainty, table, &error);
}
