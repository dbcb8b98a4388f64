// Recipes: one JSON file that says everything about a training run.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "train/internal.h"

const char *const df_train_mode_names[DF_MODES] = {"independent", "teacher-forcing",
                                                   "full-sequence"};

uint64_t df_hash(const char *text, size_t size) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
  return hash;
}

// ---- Changes: path.to.key=value ----

// The entry of an object or array, for writing (the tree lives in the recipe's arena). NULL: none.
static df_json *entry(df_json *parent, const char *key, size_t length) {
  int index = parent->kind == DF_JSON_ARRAY && isdigit((unsigned char)key[0]) ? atoi(key) : -1;
  for (df_json *child = parent->first; child; child = child->next, index--)
    if (parent->kind == DF_JSON_OBJECT
            ? strlen(child->key) == length && !memcmp(child->key, key, length)
            : index == 0)
      return child;
  return NULL;
}

static df_status change(df_recipe *recipe, df_json *node, const char *text, df_error *error) {
  const char *equals = strchr(text, '='), *path = text;
  if (!equals || equals == text)
    return df_fail(error, DF_BAD_CONFIG, "a change is path.to.key=value, found \"%s\"", text);
  while (path < equals) {
    size_t length = strcspn(path, ".=");
    df_json *child = entry(node, path, length);
    if (!child && node->kind != DF_JSON_OBJECT)
      return df_fail(error, DF_BAD_CONFIG, "the recipe has no place for \"%.*s\" of \"%s\"",
                     (int)(path + length - text), text, text);
    if (!child) { // a new key, and objects on the way to it
      child = df_arena_alloc(&recipe->arena, sizeof *child);
      char *key = df_arena_print(&recipe->arena, "%.*s", (int)length, path);
      if (!child || !key) return df_fail(error, DF_NO_MEMORY, "no memory for the recipe");
      *child = (df_json){.kind = DF_JSON_OBJECT, .key = key};
      df_json **end = &node->first;
      while (*end) end = &(*end)->next;
      *end = child;
      node->length++;
    }
    node = child;
    path += length + 1;
  }
  const char *value = equals + 1;
  char *copy = df_arena_print(&recipe->arena, "%s", value);
  const df_json *parsed = NULL;
  if (!copy) return df_fail(error, DF_NO_MEMORY, "no memory for the recipe");
  if (df_json_parse(&parsed, &recipe->arena, copy, strlen(copy), NULL) == DF_OK) {
    df_json new = *parsed;
    new.key = node->key;
    new.next = node->next;
    *node = new;
  } else { // not JSON: a bare word is a string
    *node = (df_json){.kind = DF_JSON_STRING,
                      .string = copy,
                      .length = (int)strlen(copy),
                      .key = node->key,
                      .next = node->next};
  }
  return DF_OK;
}

// ---- Reading ----

#define KEYS(...)                                                                                  \
  (const char *const[]){__VA_ARGS__},                                                              \
      (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static const char *beside(df_recipe *recipe, const char *path) {
  if (!path || path[0] == '/' || !strcmp(recipe->folder, ".")) return path;
  return df_arena_print(&recipe->arena, "%s/%s", recipe->folder, path);
}

static df_status read_set(df_recipe *recipe, const df_json *data, const char *key,
                          df_data_files *files, df_error *error) {
  const df_json *set = df_json_at(data, key);
  if (!set || set->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_CONFIG,
                   "data.%s: expected {\"values\": \"....npy\", \"offsets\": \"....npy\"}", key);
  df_status status;
  if ((status =
           df_json_only(set, KEYS("values", "offsets", "conditions", "observations"), error)) ||
      (status = df_json_get_string(set, "values", &files->values, error)) ||
      (status = df_json_get_string(set, "offsets", &files->offsets, error)) ||
      (status = df_json_get_string(set, "conditions", &files->conditions, error)) ||
      (status = df_json_get_string(set, "observations", &files->observations, error)))
    return status;
  if (!files->values || !files->offsets)
    return df_fail(error, DF_BAD_CONFIG, "data.%s.%s is missing", key,
                   files->values ? "offsets" : "values");
  files->values = beside(recipe, files->values);
  files->offsets = beside(recipe, files->offsets);
  files->conditions = beside(recipe, files->conditions);
  files->observations = beside(recipe, files->observations);
  return DF_OK;
}

// A number within [low, high].
static df_status get_number(const df_json *object, const char *key, double low, double high,
                            double *out, df_error *error) {
  df_status status = df_json_get_number(object, key, out, error);
  if (!status && !(*out >= low && *out <= high))
    status = df_fail(error, DF_BAD_CONFIG, "training.%s: expected %g to %g, found %g", key, low,
                     high, *out);
  return status;
}

static const df_recipe defaults = {.steps = 10000,
                                   .batch = 64,
                                   .shards = 2,
                                   .rate = 1e-3,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .epsilon = 1e-8,
                                   .weight_decay = 0.01,
                                   .clip_gradient = 1,
                                   .ema = 0.999,
                                   .stop_weight = 0.1,
                                   .snr_clip = 5,
                                   .cumulative_decay = 0.9,
                                   .log_every = 50,
                                   .valid_every = 500,
                                   .save_every = 1000};

static df_status read_training(df_recipe *r, const df_json *t, df_error *error) {
  static const char *const schedules[] = {"constant", "cosine"}, *const dtypes[] = {"f32", "f16",
                                                                                    "int8"};
  static const df_dtype formats[] = {DF_F32, DF_F16, DF_I8};
  int mode = DF_MODE_INDEPENDENT, schedule = 1, weight = DF_WEIGHT_NONE, dtype = 0, many = 1 << 30;
  double seed = 0;
  df_status status;
  if ((status =
           df_json_only(t,
                        KEYS("mode", "steps", "batch", "shards", "seed", "rate", "rate_end",
                             "schedule", "warmup", "beta1", "beta2", "epsilon", "weight_decay",
                             "clip_gradient", "ema", "stop_weight", "stop_clean", "loss_weight",
                             "snr_clip", "cumulative_decay", "augment_scale", "augment_rotate",
                             "log_every", "valid_every", "save_every", "dtype"),
                        error)) ||
      (status = df_json_get_enum(t, "mode", df_train_mode_names, DF_MODES, &mode, error)) ||
      (status = df_json_get_int(t, "steps", 1, many, &r->steps, error)) ||
      (status = df_json_get_int(t, "batch", 1, 1 << 20, &r->batch, error)) ||
      (status = df_json_get_int(t, "shards", 1, 256, &r->shards, error)) ||
      (status = get_number(t, "seed", 0, 9007199254740991.0, &seed, error)) ||
      (status = get_number(t, "rate", 0, 1, &r->rate, error)) ||
      (status = get_number(t, "rate_end", 0, 1, &r->rate_end, error)) ||
      (status = df_json_get_enum(t, "schedule", schedules, 2, &schedule, error)) ||
      (status = df_json_get_int(t, "warmup", 0, many, &r->warmup, error)) ||
      (status = get_number(t, "beta1", 0, 0.999999, &r->beta1, error)) ||
      (status = get_number(t, "beta2", 0, 0.999999, &r->beta2, error)) ||
      (status = get_number(t, "epsilon", 0, 1, &r->epsilon, error)) ||
      (status = get_number(t, "weight_decay", 0, 100, &r->weight_decay, error)) ||
      (status = get_number(t, "clip_gradient", 0, 1e9, &r->clip_gradient, error)) ||
      (status = get_number(t, "ema", 0, 0.9999999, &r->ema, error)) ||
      (status = get_number(t, "stop_weight", 0, 1e6, &r->stop_weight, error)) ||
      (status = get_number(t, "stop_clean", 0, 1, &r->stop_clean, error)) ||
      (status =
           df_json_get_enum(t, "loss_weight", df_loss_weight_names, DF_WEIGHTS, &weight, error)) ||
      (status = get_number(t, "snr_clip", 1e-6, 1e9, &r->snr_clip, error)) ||
      (status = get_number(t, "cumulative_decay", 0, 1, &r->cumulative_decay, error)) ||
      (status = get_number(t, "augment_scale", 0, 0.99, &r->augment_scale, error)) ||
      (status = get_number(t, "augment_rotate", 0, 3.15, &r->augment_rotate, error)) ||
      (status = df_json_get_int(t, "log_every", 1, many, &r->log_every, error)) ||
      (status = df_json_get_int(t, "valid_every", 1, many, &r->valid_every, error)) ||
      (status = df_json_get_int(t, "save_every", 1, many, &r->save_every, error)) ||
      (status = df_json_get_enum(t, "dtype", dtypes, 3, &dtype, error)))
    return status;
  r->mode = (df_train_mode)mode;
  r->cosine = schedule == 1;
  r->loss_weight = (df_loss_weight)weight;
  r->dtype = formats[dtype];
  r->seed = (uint64_t)seed;
  if (r->shards > r->batch)
    return df_fail(error, DF_BAD_CONFIG,
                   "training.shards: expected at most the batch, %d, found %d", r->batch,
                   r->shards);
  if ((r->augment_scale > 0 || r->augment_rotate > 0) && r->config.field_count < 2)
    return df_fail(error, DF_BAD_CONFIG,
                   "training.augment_scale and augment_rotate change fields 0 and 1, but there is "
                   "one field");
  if (r->augment_rotate > 0 || r->augment_scale > 0)
    if (r->config.fields[0].binary || r->config.fields[1].binary)
      return df_fail(error, DF_BAD_CONFIG,
                     "training.augment_scale and augment_rotate change fields 0 and 1, but one of "
                     "them is binary");
  return DF_OK;
}

static bool fixes_weights(const char *part, const char *key) {
  if (!strcmp(part, "training")) return strcmp(key, "steps") && !strstr(key, "_every");
  if (!strcmp(part, "model")) return strcmp(key, "sampling") && strcmp(key, "license");
  return true;
}

// What fixes the weights at a given step: everything but how long, how often, how the model is
// sampled by default and what is said about it.
static void put_hashed(df_json_writer *w, const df_json *root) {
  df_json_object_begin(w, NULL);
  for (const df_json *part = root->first; part; part = part->next) {
    if (!strcmp(part->key, "about")) continue;
    if (part->kind != DF_JSON_OBJECT) {
      df_json_put(w, part->key, part);
      continue;
    }
    df_json_object_begin(w, part->key);
    for (const df_json *item = part->first; item; item = item->next)
      if (fixes_weights(part->key, item->key)) df_json_put(w, item->key, item);
    df_json_object_end(w);
  }
  df_json_object_end(w);
}

static df_status read_recipe(df_recipe *r, df_json *root, const char *const *changes, int count,
                             df_error *error) {
  df_status status;
  if (root->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_CONFIG, "a recipe is a JSON object");
  for (int i = 0; i < count; i++)
    if ((status = change(r, root, changes[i], error))) return status;
  r->json = root;
  if ((status = df_json_only(root, KEYS("name", "about", "data", "model", "training"), error)) ||
      (status = df_json_get_string(root, "name", &r->name, error)))
    return status;
  if (!r->name || !r->name[0]) return df_fail(error, DF_BAD_CONFIG, "name is missing");
  const df_json *data = df_json_at(root, "data"), *training = df_json_at(root, "training");
  r->model = df_json_at(root, "model");
  if (!data || data->kind != DF_JSON_OBJECT || !r->model || r->model->kind != DF_JSON_OBJECT ||
      !training || training->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_CONFIG,
                   "expected the objects \"data\", \"model\" and \"training\"; one is missing");
  if ((status = df_json_only(data, KEYS("train", "valid", "positions"), error)) ||
      (status = df_json_get_bool(data, "positions", &r->positions, error)) ||
      (status = read_set(r, data, "train", &r->train, error)) ||
      (status = read_set(r, data, "valid", &r->valid, error)))
    return status;
  char *text = df_recipe_config(r, NULL, NULL, NULL, error);
  if (!text) return DF_NO_MEMORY;
  status = df_config_parse(&r->config, text, strlen(text), error);
  df_free(text);
  if (status || (status = read_training(r, training, error))) return status;
  if (r->positions && r->config.field_count < 2)
    return df_fail(error, DF_BAD_CONFIG, "data.positions: needs two fields, found %d",
                   r->config.field_count);
  int E = r->config.network.condition_size, O = r->config.network.observation_size;
  if ((E > 0) != (r->train.conditions != NULL) || (E > 0) != (r->valid.conditions != NULL))
    return df_fail(error, DF_BAD_CONFIG, "denoiser.condition_size is %d, so data.*.conditions %s",
                   E, E ? "are needed" : "have no use");
  if ((O > 0) != (r->train.observations != NULL) || (O > 0) != (r->valid.observations != NULL))
    return df_fail(error, DF_BAD_CONFIG,
                   "denoiser.observation_size is %d, so data.*.observations %s", O,
                   O ? "are needed" : "have no use");
  if (r->mode == DF_MODE_TEACHER_FORCING && df_network_sees_all(&r->config.network))
    return df_fail(
        error, DF_BAD_CONFIG,
        "training.mode: teacher forcing needs a causal network, in which a token does not "
        "see itself behind it");

  df_json_writer w = {0};
  put_hashed(&w, root);
  if (w.failed || !w.text) {
    df_json_writer_free(&w);
    return df_fail(error, DF_NO_MEMORY, "no memory for the recipe");
  }
  snprintf(r->hash, sizeof r->hash, "%016llx", (unsigned long long)df_hash(w.text, w.size));
  df_json_writer_free(&w);
  return DF_OK;
}

df_status df_recipe_read(df_recipe *recipe, const char *path, const char *const *changes, int count,
                         df_error *error) {
  *recipe = defaults;
  df_error why = {0};
  void *bytes = NULL;
  size_t size = 0;
  df_status status = df_file_read(&bytes, &size, path, error);
  if (status) {
    *recipe = (df_recipe){0};
    return status;
  }
  const char *slash = strrchr(path, '/');
  recipe->path = df_arena_print(&recipe->arena, "%s", path);
  recipe->folder =
      slash ? df_arena_print(&recipe->arena, "%.*s", slash > path ? (int)(slash - path) : 1, path)
            : ".";
  const df_json *root = NULL;
  if (!recipe->path || !recipe->folder)
    status = df_fail(&why, DF_NO_MEMORY, "no memory");
  else if (!(status = df_json_parse(&root, &recipe->arena, bytes, size, &why)))
    status = read_recipe(recipe, (df_json *)root, changes, count, &why);
  df_free(bytes);
  if (status) {
    df_recipe_free(recipe);
    return df_fail(error, status, "%s: %s", path, why.message);
  }
  return DF_OK;
}

void df_recipe_free(df_recipe *recipe) {
  df_config_free(&recipe->config);
  df_arena_free(&recipe->arena);
  *recipe = (df_recipe){0};
}

// ---- The config of what is trained ----

// Six digits are plenty for a statistic, and they read well.
static void put_statistic(df_json_writer *w, const char *key, float value) {
  char text[32];
  snprintf(text, sizeof text, "%.6g", (double)value);
  df_json_put_number(w, key, strtod(text, NULL));
}

static void put_fields(df_json_writer *w, const df_json *fields, const float *mean,
                       const float *std) {
  df_json_array_begin(w, "fields");
  int c = 0;
  for (const df_json *field = fields->first; field; field = field->next, c++) {
    if (field->kind != DF_JSON_OBJECT) {
      df_json_put(w, NULL, field);
      continue;
    }
    df_json_object_begin(w, NULL);
    for (const df_json *item = field->first; item; item = item->next)
      df_json_put(w, item->key, item);
    if (mean && !df_json_at(field, "mean")) put_statistic(w, "mean", mean[c]);
    if (std && !df_json_at(field, "std")) put_statistic(w, "std", std[c]);
    df_json_object_end(w);
  }
  df_json_array_end(w);
}

char *df_recipe_config(const df_recipe *r, const float *mean, const float *std,
                       const df_trained *trained, df_error *error) {
  df_json_writer w = {.indent = 2};
  df_json_object_begin(&w, NULL);
  if (!df_json_at(r->model, "format")) df_json_put_string(&w, "format", DF_CONFIG_FORMAT);
  if (!df_json_at(r->model, "name")) df_json_put_string(&w, "name", r->name);
  for (const df_json *part = r->model->first; part; part = part->next) {
    const df_json *fields = df_json_at(part, "fields");
    if (strcmp(part->key, "tokens") || part->kind != DF_JSON_OBJECT || !fields ||
        fields->kind != DF_JSON_ARRAY) {
      df_json_put(&w, part->key, part);
      continue;
    }
    df_json_object_begin(&w, part->key);
    for (const df_json *item = part->first; item; item = item->next)
      if (item == fields)
        put_fields(&w, fields, mean, std);
      else
        df_json_put(&w, item->key, item);
    df_json_object_end(&w);
  }
  if (trained) {
    df_json_object_begin(&w, "training");
    df_json_put_string(&w, "mode", df_train_mode_names[r->mode]);
    df_json_put_number(&w, "steps", trained->step);
    df_json_put_number(&w, "batch", r->batch);
    df_json_put_number(&w, "ema", r->ema);
    if (trained->loss >= 0) df_json_put_number(&w, "valid_loss", trained->loss);
    if (trained->loss >= 0 && r->config.network.stop_head)
      df_json_put_number(&w, "valid_stop", trained->stop);
    df_json_put_string(&w, "recipe", r->hash);
    df_json_object_end(&w);
  }
  df_json_object_end(&w);
  if (w.failed || !w.text) {
    df_json_writer_free(&w);
    df_fail(error, DF_NO_MEMORY, "no memory for the config");
    return NULL;
  }
  return w.text; // a df_alloc block
}
