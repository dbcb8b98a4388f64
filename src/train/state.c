// What a run leaves behind: state.safetensors to go on from, model.safetensors and config.json to use.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "train/internal.h"

#define STATE_FORMAT "diffusion-forcing/state/1"

// The blocks of a state, all laid out like the parameters; also the prefixes of the tensors' names.
enum { BLOCKS = 5 };
static const char *const block_names[BLOCKS] = {"weights", "ema", "moment1", "moment2", "best"};
static void blocks_of(const df_trainer *t, float *blocks[BLOCKS]) {
  float *all[BLOCKS] = {t->params.values, t->optimiser.ema, t->optimiser.m, t->optimiser.v,
                        t->best};
  memcpy(blocks, all, sizeof all);
}

static df_tensor_out tensor_of(const df_param *p, const char *name, df_dtype dtype,
                               const float *block) {
  df_tensor_out out = {.name = name, .dtype = dtype, .dims = p->dims, .data = block + p->offset};
  out.shape[0] = p->dims == 2 ? p->rows : p->cols;
  if (p->dims == 2) out.shape[1] = p->cols;
  return out;
}

static df_status write_file(const char *folder, const char *name, const void *bytes, size_t size,
                            df_error *error) {
  char path[1024];
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
    return df_fail(error, DF_BAD_ARGUMENT, "the folder's name is too long: %s", folder);
  return df_file_write(path, bytes, size, error);
}

// ---- State ----

// Numbers beside the tensors, as text that reads back to the same bits.
#define NUMBERS(X)                                                                                 \
  X(seconds)                                                                                       \
  X(best_loss)                                                                                     \
  X(best_valid)                                                                                    \
  X(best_stop)                                                                                     \
  X(sum_loss)                                                                                      \
  X(sum_stop)                                                                                      \
  X(sum_norm)                                                                                      \
  X(sum_tokens)                                                                                    \
  X(sum_sequences)                                                                                 \
  X(sum_steps)                                                                                     \
  X(step)                                                                                          \
  X(best_step)

df_status df_trainer_save(const df_trainer *t, const char *folder, df_error *error) {
  int n = t->params.count;
  df_arena arena = {0};
  df_status status = DF_OK;
  void *bytes = NULL;
  size_t size = 0;
  df_tensor_out *out = df_arena_alloc(&arena, (size_t)BLOCKS * (size_t)n * sizeof *out);
  char *config = df_recipe_config(t->recipe, t->mean, t->std, NULL, error);
  bool fine = out && config;
  float *blocks[BLOCKS];
  blocks_of(t, blocks);
  for (int k = 0; fine && k < BLOCKS; k++)
    for (int i = 0; fine && i < n; i++) {
      const df_param *p = t->params.items[i];
      const char *name = df_arena_print(&arena, "%s.%s", block_names[k], p->name);
      out[k * n + i] = tensor_of(p, name, DF_F32, blocks[k]);
      fine = name != NULL;
    }
  const char *meta[40];
  int m = 0;
  meta[m++] = "format", meta[m++] = STATE_FORMAT;
  meta[m++] = "recipe", meta[m++] = t->recipe->hash;
  meta[m++] = "config", meta[m++] = config;
#define X(field)                                                                                   \
  meta[m++] = #field, meta[m] = df_arena_print(&arena, "%.17g", (double)t->field);                 \
  fine = fine && meta[m++];
  NUMBERS(X)
#undef X
  meta[m] = NULL;
  if (!fine)
    status = df_fail(error, DF_NO_MEMORY, "no memory for the state");
  else if (!(status = df_safetensors_write(&bytes, &size, out, BLOCKS * n, meta, error)))
    status = write_file(folder, "state.safetensors", bytes, size, error);
  df_free(bytes);
  df_free(config);
  df_arena_free(&arena);
  return status;
}

static df_status read_tensors(df_trainer *t, const df_safetensors *file, const char *path,
                              df_error *error) {
  float *blocks[BLOCKS];
  blocks_of(t, blocks);
  for (int pass = 0; pass < 2; pass++) // all is checked before anything changes
    for (int k = 0; k < BLOCKS; k++)
      for (int i = 0; i < t->params.count; i++) {
        const df_param *p = t->params.items[i];
        char name[256];
        snprintf(name, sizeof name, "%s.%s", block_names[k], p->name);
        const df_view *view = df_safetensors_find(file, name);
        if (!view) return df_fail(error, DF_BAD_FILE, "%s: there is no tensor %s", path, name);
        if (view->dtype != DF_F32 || view->dims != p->dims || view->shape[p->dims - 1] != p->cols ||
            (p->dims == 2 && view->shape[0] != p->rows))
          return df_fail(error, DF_BAD_SHAPE,
                         "%s: tensor %s: expected float32 of shape (%d, %d), found another", path,
                         name, p->rows, p->cols);
        if (pass) df_view_floats(view, 0, view->count, blocks[k] + p->offset);
      }
  return DF_OK;
}

static df_status read_number(const df_safetensors *file, const char *path, const char *key,
                             double *out, df_error *error) {
  const char *text = df_safetensors_meta(file, key);
  char *end = NULL;
  *out = text ? strtod(text, &end) : 0;
  if (!text || end == text || *end || !isfinite(*out))
    return df_fail(error, DF_BAD_FILE, "%s: the number \"%s\" is %s", path, key,
                   text ? "damaged" : "missing");
  return DF_OK;
}

static df_status read_state(df_trainer *t, const df_safetensors *file, const char *path,
                            df_error *error) {
  const char *format = df_safetensors_meta(file, "format"),
             *hash = df_safetensors_meta(file, "recipe");
  if (!format || strcmp(format, STATE_FORMAT))
    return df_fail(error, DF_BAD_FILE, "%s is not the state of a training run", path);
  if (!hash || strcmp(hash, t->recipe->hash))
    return df_fail(
        error, DF_WRONG_STATE,
        "%s belongs to a recipe that says something else (%s, now %s); restart the run, or undo "
        "the change (only steps, log_every, valid_every and save_every may differ)",
        path, hash ? hash : "none", t->recipe->hash);
  df_status status;
  double value;
  if ((status = read_tensors(t, file, path, error))) return status;
#define X(field)                                                                                   \
  if ((status = read_number(file, path, #field, &value, error))) return status;                    \
  t->field = value;
  NUMBERS(X)
#undef X
  if (t->step < 0 || t->step > 1 << 30)
    return df_fail(error, DF_BAD_FILE, "%s: step %d cannot be", path, t->step);
  return DF_OK;
}

df_status df_trainer_load(df_trainer *t, const char *folder, df_error *error) {
  char path[1024];
  snprintf(path, sizeof path, "%s/state.safetensors", folder);
  void *bytes = NULL;
  size_t size = 0;
  df_safetensors file;
  df_error why = {0};
  df_status status = df_file_read(&bytes, &size, path, &why);
  if (status) return df_fail(error, status, "there is nothing to resume: %s", why.message);
  if ((status = df_safetensors_open(&file, bytes, size, &why)))
    df_fail(error, status, "%s: %s", path, why.message);
  else
    status = read_state(t, &file, path, error);
  df_safetensors_close(&file);
  df_free(bytes);
  return status;
}

// ---- Model ----

df_status df_trainer_export(const df_trainer *t, const char *folder, df_error *error) {
  bool best = t->best_loss >= 0;
  df_trained trained = {best ? t->best_step : t->step, best ? t->best_valid : -1, t->best_stop};
  int n = t->params.count;
  void *bytes = NULL;
  size_t size = 0;
  df_status status = DF_OK;
  char *config = df_recipe_config(t->recipe, t->mean, t->std, &trained, error);
  df_tensor_out *out = df_alloc((size_t)n * sizeof *out);
  if (!config || !out) {
    status = df_fail(error, DF_NO_MEMORY, "no memory for the model file");
    goto done;
  }
  for (int i = 0; i < n; i++) {
    const df_param *p = t->params.items[i];
    const bool small = p->dims != 2 || (int64_t)p->rows * p->cols < DF_WEIGHTS_LEAST;
    const df_dtype dtype = t->recipe->dtype == DF_I8 && small ? DF_F32 : t->recipe->dtype;
    out[i] = tensor_of(p, p->name, dtype, best ? t->best : t->optimiser.ema);
  }
  const char *meta[] = {"format", DF_CONFIG_FORMAT, "config", config, NULL};
  if (!(status = df_safetensors_write(&bytes, &size, out, n, meta, error)) &&
      !(status = write_file(folder, "model.safetensors", bytes, size, error)))
    status = write_file(folder, "config.json", config, strlen(config), error);
done:
  df_free(bytes);
  df_free(out);
  df_free(config);
  return status;
}
