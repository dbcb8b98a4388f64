#include "diffusion/config.h"

#include <math.h>
#include <string.h>

#define TRY(call)                                                                                  \
  do {                                                                                             \
    df_status status_ = (call);                                                                    \
    if (status_) return status_;                                                                   \
  } while (0)

enum { MAX_FIELDS = 4096, MAX_TOKENS = 1 << 20, MAX_KNOTS = 1025 };

static df_status require(const df_json *object, const char *key, df_error *error) {
  if (df_json_at(object, key)) return DF_OK;
  return df_fail(error, DF_BAD_CONFIG, "%s%s%s is missing", object->key ? object->key : "",
                 object->key ? "." : "", key);
}

// The object at root.key, which has to be there unless it is optional (then NULL if it is not).
static df_status section(const df_json *root, const char *key, bool optional,
                         const df_json **object, df_error *error) {
  *object = df_json_at(root, key);
  if (!*object && optional) return DF_OK;
  TRY(require(root, key, error));
  return (*object)->kind == DF_JSON_OBJECT
             ? DF_OK
             : df_fail(error, DF_BAD_CONFIG, "%s: expected an object", key);
}

// A number within low .. high that float32 can hold.
static df_status get_number(const df_json *object, const char *key, double low, double high,
                            double *out, df_error *error) {
  TRY(df_json_get_number(object, key, out, error));
  if (*out >= low && *out <= high) return DF_OK;
  return df_fail(error, DF_BAD_CONFIG, "%s%s%s: expected a number from %g to %g, found %g",
                 object->key ? object->key : "", object->key ? "." : "", key, low, high, *out);
}

static df_status get_float(const df_json *object, const char *key, double low, double high,
                           float *out, df_error *error) {
  double number = *out;
  TRY(get_number(object, key, low, high, &number, error));
  *out = (float)number;
  return DF_OK;
}

static df_status read_diffusion(df_config *c, const df_json *object, df_error *error) {
  static const char *const keys[] = {"levels", "objective", "schedule", "clip_noise"};
  int objective = 0, noise = 0;
  TRY(df_json_only(object, keys, 4, error));
  for (int i = 0; i < 3; i++) TRY(require(object, keys[i], error));
  TRY(df_json_get_int(object, "levels", 1, 100000, &c->K, error));
  TRY(df_json_get_enum(object, "objective", df_objective_names, DF_OBJECTIVES, &objective, error));
  TRY(df_json_get_enum(object, "schedule", df_noise_names, DF_NOISE_KINDS, &noise, error));
  c->clip_noise = 20;
  TRY(get_float(object, "clip_noise", 0.1, 1e6, &c->clip_noise, error));
  c->objective = (df_objective)objective;
  c->noise = (df_noise_kind)noise;
  if (c->noise == DF_NOISE_LINEAR && c->K <= 20)
    return df_fail(error, DF_BAD_CONFIG,
                   "diffusion.levels: expected more than 20 for the linear schedule, found %d",
                   c->K);
  return DF_OK;
}

// The keys of a field. Those of an observation have the first ones only.
static const char *const field_keys[] = {"name", "mean", "std", "step", "binary", "threshold"};
enum { TOKEN_KEYS = 6, OBSERVATION_KEYS = 3 };

static df_status read_field(df_field *field, const df_json *object, int keys, df_error *error) {
  if (object->kind != DF_JSON_OBJECT) return df_fail(error, DF_BAD_CONFIG, "expected an object");
  *field = (df_field){.mean = 0, .std = 1, .threshold = 0.5f};
  TRY(df_json_only(object, field_keys, keys, error));
  TRY(require(object, "name", error));
  TRY(df_json_get_string(object, "name", &field->name, error));
  TRY(get_float(object, "mean", -1e30, 1e30, &field->mean, error));
  TRY(get_float(object, "std", 1e-30, 1e30, &field->std, error));
  TRY(get_float(object, "step", 0, 1e30, &field->step, error));
  TRY(df_json_get_bool(object, "binary", &field->binary, error));
  return get_float(object, "threshold", -1e30, 1e30, &field->threshold, error);
}

// The array object.fields.
static df_status read_fields(df_config *c, const df_json *object, int keys, df_field **out,
                             int *count, df_error *error) {
  TRY(require(object, "fields", error));
  const df_json *fields = df_json_at(object, "fields");
  if (fields->kind != DF_JSON_ARRAY || fields->length < 1 || fields->length > MAX_FIELDS)
    return df_fail(error, DF_BAD_CONFIG,
                   "%s.fields: expected an array of 1 to %d objects, found %d", object->key,
                   MAX_FIELDS, fields->kind == DF_JSON_ARRAY ? fields->length : 0);
  *count = fields->length;
  *out = df_arena_alloc(&c->arena, (size_t)*count * sizeof **out);
  if (!*out) return df_fail(error, DF_NO_MEMORY, "no memory for the config");
  int i = 0;
  for (const df_json *item = fields->first; item; item = item->next, i++) {
    df_error inner = {0};
    if (read_field(&(*out)[i], item, keys, &inner))
      return df_fail(error, DF_BAD_CONFIG, "%s.fields[%d]: %s", object->key, i, inner.message);
  }
  return DF_OK;
}

static df_status read_tokens(df_config *c, const df_json *object, df_error *error) {
  static const char *const keys[] = {"frame_stack", "present", "fields"};
  TRY(df_json_only(object, keys, 3, error));
  c->frame_stack = 1;
  TRY(df_json_get_int(object, "frame_stack", 1, 4096, &c->frame_stack, error));
  TRY(df_json_get_bool(object, "present", &c->present, error));
  return read_fields(c, object, TOKEN_KEYS, &c->fields, &c->field_count, error);
}

// Number of condition fields of a frame.
static df_status read_condition(const df_json *object, int *count, df_error *error) {
  static const char *const keys[] = {"fields"};
  *count = 0;
  if (!object) return DF_OK;
  TRY(df_json_only(object, keys, 1, error));
  const df_json *fields = df_json_at(object, "fields");
  bool names = fields && fields->kind == DF_JSON_ARRAY && fields->length <= MAX_FIELDS;
  for (const df_json *item = names ? fields->first : NULL; item; item = item->next)
    names = names && item->kind == DF_JSON_STRING;
  if (!names)
    return df_fail(error, DF_BAD_CONFIG, "condition.fields: expected an array of up to %d names",
                   MAX_FIELDS);
  *count = fields->length;
  return DF_OK;
}

static df_status read_fitted_grid(df_config *c, const df_json *object, df_error *error) {
  float *levels;
  int n;
  TRY(df_json_get_floats(object, "fitted_grid", &c->arena, &levels, &n, error));
  if (!levels) return DF_OK;
  if (n < 2 || n > MAX_KNOTS)
    return df_fail(error, DF_BAD_CONFIG, "sampling.fitted_grid: expected 2 to %d levels, found %d",
                   MAX_KNOTS, n);
  if (levels[0] != 0 || levels[n - 1] != (float)c->K)
    return df_fail(error, DF_BAD_CONFIG,
                   "sampling.fitted_grid: expected levels from 0 to %d, found %g to %g", c->K,
                   (double)levels[0], (double)levels[n - 1]);
  for (int i = 1; i < n; i++)
    if (!(levels[i] > levels[i - 1]))
      return df_fail(error, DF_BAD_CONFIG,
                     "sampling.fitted_grid: expected rising levels, found %g after %g",
                     (double)levels[i], (double)levels[i - 1]);
  c->sampling.fitted_grid = (df_warp){levels, n};
  return DF_OK;
}

static df_status read_sampling(df_config *c, const df_json *object, df_error *error) {
  static const char *const keys[] = {"schedule",      "steps", "uncertainty", "eta",
                                     "stabilization", "grid",  "fitted_grid", "max_tokens"};
  int schedule = DF_PYRAMID, grid = DF_GRID_UNIFORM;
  c->sampling.steps = c->K < 50 ? c->K : 50;
  c->sampling.uncertainty = 1;
  c->sampling.max_tokens = 64;
  if (object) {
    TRY(df_json_only(object, keys, 8, error));
    TRY(df_json_get_enum(object, "schedule", df_schedule_names, DF_ROLLING, &schedule, error));
    TRY(df_json_get_int(object, "steps", 1, c->K, &c->sampling.steps, error));
    TRY(get_number(object, "uncertainty", 0, c->sampling.steps, &c->sampling.uncertainty, error));
    TRY(get_number(object, "eta", 0, 1, &c->sampling.eta, error));
    TRY(df_json_get_int(object, "stabilization", 0, c->K, &c->sampling.stabilization, error));
    TRY(df_json_get_enum(object, "grid", df_grid_names, DF_GRIDS, &grid, error));
    TRY(read_fitted_grid(c, object, error));
    TRY(df_json_get_int(object, "max_tokens", 1, MAX_TOKENS, &c->sampling.max_tokens, error));
  }
  if (grid == DF_GRID_FITTED && !c->sampling.fitted_grid.levels)
    return df_fail(error, DF_BAD_CONFIG,
                   "sampling.grid: \"fitted\" needs sampling.fitted_grid, which is missing "
                   "(`forcing tune MODEL --fit-grid` makes one)");
  c->sampling.schedule = (df_schedule)schedule;
  c->sampling.grid = (df_grid_kind)grid;
  return DF_OK;
}

// A size that follows from the others; the file may repeat it.
static df_status derive(int *size, int64_t value, const char *key, const char *how,
                        df_error *error) {
  if (value > 1 << 20)
    return df_fail(error, DF_BAD_CONFIG, "%s: %s gives %lld, which is too large", key, how,
                   (long long)value);
  if (*size && *size != value)
    return df_fail(error, DF_BAD_CONFIG, "%s: expected %d (%s), found %d", key, (int)value, how,
                   *size);
  *size = (int)value;
  return DF_OK;
}

static df_status read_observation(df_config *c, const df_json *object, df_error *error) {
  static const char *const keys[] = {"fields"};
  int count;
  if (c->network.initial != DF_INITIAL_ENCODED)
    return df_fail(error, DF_BAD_CONFIG,
                   "observation: it has no use, as denoiser.initial is not \"encoded\"");
  TRY(df_json_only(object, keys, 1, error));
  TRY(read_fields(c, object, OBSERVATION_KEYS, &c->observation, &count, error));
  return derive(&c->network.observation_size, count, "denoiser.observation_size",
                "the fields of the observation", error);
}

static df_status read_config(df_config *c, const char *text, size_t size, df_error *error) {
  static const char *const keys[] = {"format",      "name",      "description", "license",
                                     "denoiser",    "diffusion", "tokens",      "condition",
                                     "observation", "view",      "sampling",    "training"};
  df_error inner = {0};
  df_status status = df_json_parse(&c->json, &c->arena, text, size, &inner);
  if (status)
    return df_fail(error, status == DF_NO_MEMORY ? status : DF_BAD_CONFIG, "config: %s",
                   inner.message);
  const df_json *root = c->json, *denoiser, *diffusion, *tokens, *condition, *observation, *view,
                *sampling;
  if (root->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_CONFIG, "config: expected an object");

  const char *format = NULL;
  TRY(require(root, "format", error));
  TRY(df_json_get_string(root, "format", &format, error));
  if (strcmp(format, DF_CONFIG_FORMAT))
    return df_fail(error, DF_BAD_CONFIG, "format: expected \"%s\", found \"%.60s\"",
                   DF_CONFIG_FORMAT, format);
  TRY(df_json_only(root, keys, sizeof keys / sizeof *keys, error));
  c->name = "";
  TRY(df_json_get_string(root, "name", &c->name, error));
  TRY(section(root, "denoiser", false, &denoiser, error));
  TRY(section(root, "diffusion", false, &diffusion, error));
  TRY(section(root, "tokens", false, &tokens, error));
  TRY(section(root, "condition", true, &condition, error));
  TRY(section(root, "observation", true, &observation, error));
  TRY(section(root, "view", true, &view, error)); // any object: viewers read it
  TRY(section(root, "sampling", true, &sampling, error));

  int conditions;
  TRY(read_diffusion(c, diffusion, error));
  TRY(read_tokens(c, tokens, error));
  TRY(read_condition(condition, &conditions, error));
  TRY(read_sampling(c, sampling, error));
  TRY(df_network_read(&c->network, denoiser, error));
  TRY(derive(&c->network.token_size, (int64_t)c->frame_stack * (c->field_count + c->present),
             "denoiser.token_size", "frame_stack times the fields of a frame", error));
  TRY(derive(&c->network.condition_size, (int64_t)c->frame_stack * conditions,
             "denoiser.condition_size", "frame_stack times the condition fields", error));
  if (observation) TRY(read_observation(c, observation, error));
  return c->network.denoiser->check(&c->network, error);
}

df_status df_config_parse(df_config *config, const char *text, size_t size, df_error *error) {
  *config = (df_config){0};
  df_status status = read_config(config, text, size, error);
  if (status) df_config_free(config);
  return status;
}

void df_config_free(df_config *config) {
  df_arena_free(&config->arena);
  *config = (df_config){0};
}

static void put_sampling(df_json_writer *w, const struct df_sampling *s) {
  df_json_object_begin(w, "sampling");
  df_json_put_string(w, "schedule", df_schedule_names[s->schedule]);
  df_json_put_number(w, "steps", s->steps);
  df_json_put_number(w, "uncertainty", s->uncertainty);
  df_json_put_number(w, "eta", s->eta);
  df_json_put_number(w, "stabilization", s->stabilization);
  df_json_put_string(w, "grid", df_grid_names[s->grid]);
  if (s->fitted_grid.levels)
    df_json_put_floats(w, "fitted_grid", s->fitted_grid.levels, s->fitted_grid.knots);
  df_json_put_number(w, "max_tokens", s->max_tokens);
  df_json_object_end(w);
}

char *df_config_with_sampling(const df_config *config, const struct df_sampling *sampling) {
  const df_json *before = df_json_at(config->json, "sampling");
  df_json_writer w = {.indent = 2};
  df_json_object_begin(&w, NULL);
  for (const df_json *part = config->json->first; part; part = part->next)
    if (part == before)
      put_sampling(&w, sampling);
    else
      df_json_put(&w, part->key, part);
  if (!before) put_sampling(&w, sampling);
  df_json_object_end(&w);
  if (w.failed) df_json_writer_free(&w);
  return w.text;
}

void df_config_encode(const df_config *c, const float *frames, int count, float *token) {
  const int C = c->field_count;
  for (int f = 0; f < c->frame_stack; f++, frames += C) {
    for (int j = 0; j < C; j++) {
      const df_field *field = &c->fields[j];
      const bool change = f > 0 && field->step > 0;
      *token++ = f >= count ? 0
                 : change   ? (frames[j] - frames[j - C]) / field->step
                            : (frames[j] - field->mean) / field->std;
    }
    if (c->present) *token++ = f < count ? 1 : -1;
  }
}

int df_config_decode(const df_config *c, const float *token, float *frames) {
  const int C = c->field_count;
  int count = c->frame_stack;
  for (int f = 0; f < c->frame_stack; f++, frames += C) {
    for (int j = 0; j < C; j++) {
      const df_field *field = &c->fields[j];
      const bool change = f > 0 && field->step > 0;
      frames[j] =
          change ? frames[j - C] + *token++ * field->step : *token++ * field->std + field->mean;
    }
    if (c->present && *token++ < 0 && count == c->frame_stack) count = f;
  }
  return count;
}

void df_config_observe(const df_config *c, const float *values, float *observation) {
  for (int i = 0; i < c->network.observation_size; i++)
    observation[i] =
        c->observation ? (values[i] - c->observation[i].mean) / c->observation[i].std : values[i];
}

void df_config_decode_gradient(const df_config *c, const float *slope, float share, float *token) {
  const int C = c->field_count, per = C + c->present;
  for (int j = 0; j < C; j++) {
    const df_field *field = &c->fields[j];
    float behind = 0; // of the frames that count from this one
    for (int f = c->frame_stack - 1; f >= 0; f--) {
      const bool change = f > 0 && field->step > 0;
      const float here = slope[f * C + j] + behind;
      behind = change ? here : 0;
      token[f * per + j] += share * here * (change ? field->step : field->std);
    }
  }
}
