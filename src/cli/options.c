#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "graph/packed.h"
#include "io/file.h"

// ---- Options ----

sampling sampling_defaults(void) {
  return (sampling){.steps = DF_DEFAULT,
                    .stabilization = DF_DEFAULT,
                    .uncertainty = DF_DEFAULT,
                    .eta = DF_DEFAULT,
                    .batch = 128};
}

static bool whole_number(const char *text, uint64_t high, uint64_t *out) {
  char *end = NULL;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (end == text || *end || errno || text[0] == '-' || value > high) return false;
  *out = value;
  return true;
}

// One of names[count]; text NULL: *out stays.
static df_status read_name(const char *option, const char *text, const char *const *names,
                           int count, int *out, df_error *error) {
  for (int i = 0; text && i < count; i++)
    if (!strcmp(text, names[i])) {
      *out = i;
      return DF_OK;
    }
  if (!text) return DF_OK;
  char list[128] = "";
  for (int i = 0; i < count; i++)
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", names[i]);
  return df_fail(error, DF_BAD_ARGUMENT, "%s: expected one of %s, found \"%s\"", option, list,
                 text);
}

df_status options_weights(const char *text, int *weights, df_error *error) {
  return read_name("--weights", text, df_weights_names, DF_WEIGHTS_COUNT, weights, error);
}

df_status sampling_resolve(const sampling *s, const df_config *config, df_sampler_options *out,
                           df_error *error) {
  df_sampler_options o = df_sampler_defaults();
  uint64_t number;
  if (s->seed) {
    if (!whole_number(s->seed, UINT64_MAX, &o.seed))
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--seed: expected a whole number from 0 to 2^64 - 1, found \"%s\"", s->seed);
  } else {
    o.seed = 0;
  }
  o.schedule = config->sampling.schedule;
  o.grid = config->sampling.grid;
  o.weights = DF_WEIGHTS_F32;
  df_status status =
      read_name("--schedule", s->schedule, df_schedule_names, DF_ROLLING, &o.schedule, error);
  if (!status) status = read_name("--grid", s->grid, df_grid_names, DF_GRIDS, &o.grid, error);
  if (!status) status = options_weights(s->weights, &o.weights, error);
  if (status) return status;
  if (o.grid == DF_GRID_FITTED && !config->sampling.fitted_grid.levels)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "--grid: the model has no fitted grid; `forcing tune MODEL --fit-grid` makes "
                   "one");
  bool late = o.schedule == DF_PYRAMID || o.schedule == DF_TRAPEZOID;

  o.ancestral = s->ancestral;
  o.posterior = s->posterior;
  o.steps = s->steps != DF_DEFAULT ? s->steps : o.ancestral ? config->K : config->sampling.steps;
  if (o.steps < 1 || o.steps > config->K)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "--steps: expected 1 to %d (the model's noise levels), found %d", config->K,
                   o.steps);
  if (o.ancestral && o.steps != config->K)
    return df_fail(error, DF_BAD_ARGUMENT, "--ancestral takes all %d levels: leave out --steps %d",
                   config->K, o.steps);

  // The model's own uncertainty is meant for its own schedule and steps: other steps may be fewer.
  o.uncertainty = config->sampling.uncertainty;
  if (o.uncertainty > o.steps) o.uncertainty = o.steps;
  if (s->uncertainty != DF_DEFAULT) {
    if (!late)
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--uncertainty belongs to the schedules pyramid and trapezoid, not to %s",
                     df_schedule_names[o.schedule]);
    if (!(s->uncertainty >= 0 && s->uncertainty <= o.steps))
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--uncertainty: expected 0 to %d (the number of steps), found %g", o.steps,
                     s->uncertainty);
    o.uncertainty = s->uncertainty;
  }
  if (o.schedule == DF_FULL_SEQUENCE) o.uncertainty = 0;
  if (o.schedule == DF_AUTOREGRESSIVE) o.uncertainty = o.steps;

  o.eta = config->sampling.eta;
  if (s->eta != DF_DEFAULT) {
    if (!(s->eta >= 0 && s->eta <= 1))
      return df_fail(error, DF_BAD_ARGUMENT, "--eta: expected 0 to 1, found %g", s->eta);
    o.eta = s->eta;
  }
  if (o.ancestral) o.eta = 1;
  o.stabilization = config->sampling.stabilization;
  if (s->stabilization != DF_DEFAULT) o.stabilization = s->stabilization;
  if (o.stabilization < 0 || o.stabilization > config->K)
    return df_fail(error, DF_BAD_ARGUMENT, "--stabilization: expected 0 to %d, found %d", config->K,
                   o.stabilization);

  o.max_length = config->sampling.max_tokens;
  o.length = config->network.stop_head ? DF_LENGTH_DRAWN : config->sampling.max_tokens;
  if (s->length && !strcmp(s->length, "drawn")) {
    if (!config->network.stop_head)
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--length drawn needs a stop head, which this model lacks; give a number");
    o.length = DF_LENGTH_DRAWN;
  } else if (s->length) {
    if (!whole_number(s->length, 1000000, &number) || number < 1)
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--length: expected a number of tokens from 1 to 1000000, or drawn, found "
                     "\"%s\"",
                     s->length);
    o.length = (int)number;
  }
  if (s->batch < 1 || s->batch > 65536)
    return df_fail(error, DF_BAD_ARGUMENT, "--batch: expected 1 to 65536, found %d", s->batch);
  if (s->threads < 0 || s->threads > 1024)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "--threads: expected 1 to 1024, or 0 for all cores, found %d", s->threads);
  o.batch = s->batch;
  *out = o;
  return DF_OK;
}

void sampling_write(const df_sampler_options *o, df_json_writer *w, const char *key) {
  df_json_object_begin(w, key);
  df_json_put_string(w, "schedule", df_schedule_names[o->schedule]);
  df_json_put_number(w, "steps", o->steps);
  df_json_put_string(w, "grid", df_grid_names[o->grid]);
  df_json_put_number(w, "uncertainty", o->uncertainty);
  df_json_put_number(w, "eta", o->eta);
  if (o->length == DF_LENGTH_DRAWN)
    df_json_put_string(w, "length", "drawn");
  else
    df_json_put_number(w, "length", o->length);
  df_json_put_number(w, "stabilization", o->stabilization);
  df_json_put_bool(w, "ancestral", o->ancestral);
  df_json_put_bool(w, "posterior", o->posterior);
  df_json_put_string(w, "weights", df_weights_names[o->weights]);
  df_json_object_end(w);
}

void sampling_text(const df_sampler_options *o, char *text, size_t size) {
  char more[128] = "";
  if (o->schedule == DF_PYRAMID || o->schedule == DF_TRAPEZOID)
    snprintf(more, sizeof more, ", uncertainty %g", o->uncertainty);
  if (o->ancestral)
    snprintf(more + strlen(more), sizeof more - strlen(more), ", ancestral");
  else
    snprintf(more + strlen(more), sizeof more - strlen(more), ", eta %g", o->eta);
  if (o->stabilization)
    snprintf(more + strlen(more), sizeof more - strlen(more), ", stabilization %d",
             o->stabilization);
  if (o->weights != DF_WEIGHTS_F32)
    snprintf(more + strlen(more), sizeof more - strlen(more), ", %s weights",
             df_weights_names[o->weights]);
  snprintf(text, size, "%s, %d %s%ssteps%s%s", df_schedule_names[o->schedule], o->steps,
           o->grid ? df_grid_names[o->grid] : "", o->grid ? " " : "", more,
           o->posterior ? ", posterior" : "");
}

int options_fail(const char *command, const df_error *error) {
  int code = cli_fail(command, error);
  return error->code == DF_BAD_ARGUMENT ? CLI_USAGE : code;
}

bool has_ending(const char *text, const char *ending) {
  size_t n = strlen(text), m = strlen(ending);
  return n > m && !strcmp(text + n - m, ending);
}

void count_text(double n, char *text, size_t size) {
  char digits[32];
  int length = snprintf(digits, sizeof digits, "%.0f", n);
  size_t out = 0;
  for (int i = 0; i < length && out + 2 < size; i++) {
    if (i && (length - i) % 3 == 0) text[out++] = ',';
    text[out++] = digits[i];
  }
  text[out] = 0;
}

void bytes_text(double n, char *text, size_t size) {
  const char *units[] = {"B", "kB", "MB", "GB"};
  int unit = 0;
  while (n >= 1000 && unit < 3) n /= 1000, unit++;
  snprintf(text, size, "%.*f %s", unit && n < 100 ? 2 : 0, n, units[unit]);
}

// ---- A model and its config ----

df_status open_model_read(open_model *m, const char *path, df_error *error) {
  *m = (open_model){0};
  size_t room = strlen(path) + sizeof "/model.safetensors";
  m->path = df_alloc(room);
  if (!m->path) return df_fail(error, DF_NO_MEMORY, "%s: out of memory", path);
  struct stat about;
  bool folder = !stat(path, &about) && S_ISDIR(about.st_mode);
  bool slash = path[0] && path[strlen(path) - 1] == '/';
  snprintf(m->path, room, "%s%s", path,
           !folder ? ""
           : slash ? "model.safetensors"
                   : "/model.safetensors");

  df_status status = df_file_read(&m->bytes, &m->size, m->path, error);
  if (!status) {
    status = df_model_open(&m->model, m->bytes, m->size, error);
    if (!status) {
      const char *config = df_model_config(m->model);
      status = df_config_parse(&m->config, config, strlen(config), error);
    }
    if (status && error) {
      df_error inner = *error;
      df_fail(error, status, "%s: %.400s", m->path, inner.message);
    }
  }
  if (status) open_model_close(m);
  return status;
}

void open_model_close(open_model *m) {
  df_model_free(m->model);
  df_config_free(&m->config);
  df_free(m->bytes);
  df_free(m->path);
  *m = (open_model){0};
}
