// What JavaScript sees of df.h: plain numbers in, plain numbers and addresses out.
//
// A function that can fail returns a df_status, or 0 or -1 where it returns something else; code
// and message wait in one record until the next failure (error_code, error_message). Numbers of
// options come as doubles and are checked here, so that nothing is cut to 32 bits unseen; NaN
// stands for a default. web/src/core.js is the other side.
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "df.h"
#include "diffusion/sampler.h"

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

// Is x an integer of at most `most`? The range of the value itself is the library's to check.
static bool whole(double x, double most, const char *name) {
  if (x == floor(x) && fabs(x) <= most) return true;
  df_fail(&error, DF_BAD_ARGUMENT, "%s: expected an integer, found %g", name, x);
  return false;
}

static bool integer(double x, const char *name, int *out) {
  if (isnan(x)) return *out = DF_DEFAULT, true;
  return whole(x, INT32_MAX, name) && (*out = (int)x, true);
}

static double number(double x) { return isnan(x) ? DF_DEFAULT : x; }

// ---- Model ----

EXPORT(df_model *, model_open)(const void *bytes, size_t size) {
  df_model *model;
  return df_model_open(&model, bytes, size, &error) ? NULL : model;
}
EXPORT(void, model_free)(df_model *m) { df_model_free(m); }
EXPORT(const char *, model_config)(const df_model *m) { return df_model_config(m); }

// Fourteen numbers, in the order in which core.js takes them apart.
EXPORT(const double *, model_numbers)(const df_model *m) {
  static double out[14];
  const df_config *c = &m->config;
  const double now[14] = {(double)df_model_parameters(m),
                          (double)df_model_bytes(m),
                          c->K,
                          c->frame_stack,
                          c->field_count,
                          c->network.condition_size,
                          c->network.observation_size,
                          c->network.stop_head,
                          c->sampling.schedule,
                          c->sampling.steps,
                          c->sampling.uncertainty,
                          c->sampling.eta,
                          c->sampling.stabilization,
                          c->sampling.max_tokens};
  return memcpy(out, now, sizeof out);
}
EXPORT(const char *, field_name)(const df_model *m, int i) { return m->config.fields[i].name; }
// mean, std, binary, threshold
EXPORT(const double *, field_numbers)(const df_model *m, int i) {
  static double out[4];
  const df_field *f = &m->config.fields[i];
  const double now[4] = {f->mean, f->std, f->binary, f->threshold};
  return memcpy(out, now, sizeof out);
}

// ---- Sampler ----

// The order of df_sampler_options. length: 0 drawn, -1 unbounded.
EXPORT(df_sampler *, sampler_create)
(const df_model *m, double batch, double length, double max_length, double schedule, double steps,
 double uncertainty, double eta, int ancestral, int posterior, double stabilization, uint64_t seed,
 double first_sequence, const int32_t *table, int table_rows, int allow_renoise) {
  df_sampler_options o = df_sampler_defaults();
  if (!integer(batch, "batch", &o.batch) || !integer(length, "length", &o.length) ||
      !integer(max_length, "maxLength", &o.max_length) ||
      !integer(schedule, "schedule", &o.schedule) || !integer(steps, "steps", &o.steps) ||
      !integer(stabilization, "stabilization", &o.stabilization) ||
      !whole(first_sequence, UINT32_MAX, "sequence"))
    return NULL;
  if (first_sequence < 0)
    return df_fail(&error, DF_BAD_ARGUMENT, "sequence: expected 0 or more, found %g",
                   first_sequence),
           NULL;
  o.uncertainty = number(uncertainty);
  o.eta = number(eta);
  o.ancestral = ancestral;
  o.posterior = posterior;
  o.seed = seed;
  o.first_sequence = (uint32_t)first_sequence;
  o.table = table;
  o.table_rows = table_rows;
  o.allow_renoise = allow_renoise;
  df_sampler *s = NULL;
  return df_sampler_create(&s, m, &o, &error) ? NULL : s;
}
EXPORT(void, sampler_free)(df_sampler *s) { df_sampler_free(s); }

EXPORT(int, sampler_keep)
(df_sampler *s, double sequence, double token, const float *values, int frames) {
  if (!whole(sequence, INT32_MAX, "sequence") || !whole(token, 0x1p53, "token")) return error.code;
  return df_sampler_keep(s, (int)sequence, (int64_t)token, values, frames, &error);
}
EXPORT(int, sampler_condition)(df_sampler *s, double sequence, double token, const float *values) {
  if (!whole(sequence, INT32_MAX, "sequence") || !whole(token, 0x1p53, "token")) return error.code;
  return df_sampler_condition(s, (int)sequence, (int64_t)token, values, &error);
}
EXPORT(int, sampler_observe)(df_sampler *s, double sequence, const float *values) {
  if (!whole(sequence, INT32_MAX, "sequence")) return error.code;
  return df_sampler_observe(s, (int)sequence, values, &error);
}
EXPORT(int, sampler_step)(df_sampler *s) { return df_sampler_step(s, &error); }
EXPORT(void, sampler_restart)(df_sampler *s, uint64_t seed) { df_sampler_restart(s, seed); }
EXPORT(int, sampler_done)(const df_sampler *s) { return df_sampler_done(s); }
EXPORT(double, sampler_bytes)(const df_sampler *s) { return (double)df_sampler_bytes(s); }

// The fields of df_sampler_info in their order.
EXPORT(const double *, sampler_state)(const df_sampler *s) {
  static double out[14];
  const df_sampler_info *i = df_sampler_state(s);
  const double now[14] = {(double)i->row,
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
                          (double)i->cells};
  return memcpy(out, now, sizeof out);
}

// ---- Level tables ----

EXPORT(const char *, schedule_name)(int i) {
  return i >= 0 && i < DF_SCHEDULES ? df_schedule_names[i] : NULL;
}

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
