// Training data: sequences of frames, the order in which they come, and their way into network units.
#include <math.h>
#include <string.h>

#include "io/file.h"
#include "io/npy.h"
#include "train/internal.h"

// ---- Files ----

static df_status read_values(float **values, int64_t *rows, const char *path, int cols,
                             df_error *error) {
  void *bytes = NULL;
  size_t size = 0;
  df_view view;
  df_error why = {0};
  df_status status = df_file_read(&bytes, &size, path, error);
  if (status) return status;
  if ((status = df_npy_open(&view, bytes, size, &why)))
    df_fail(error, status, "%s: %s", path, why.message);
  else if (view.dims != 2 || view.shape[1] != cols)
    status =
        df_fail(error, DF_BAD_SHAPE, "%s: expected shape (frames, %d), found %d dimensions%s%.0d",
                path, cols, view.dims, view.dims == 2 ? ", columns: " : "",
                view.dims == 2 ? (int)view.shape[1] : 0);
  else if (!(*values = df_alloc(view.count * sizeof(float))))
    status = df_fail(error, DF_NO_MEMORY, "%s: no memory for %zu numbers", path, view.count);
  if (!status) {
    *rows = view.shape[0];
    df_view_floats(&view, 0, view.count, *values);
    for (size_t i = 0; i < view.count && !status; i++)
      if (!isfinite((*values)[i]))
        status = df_fail(error, DF_BAD_VALUE, "%s: frame %zu, column %zu is not a finite number",
                         path, i / cols, i % cols);
  }
  df_free(bytes);
  return status;
}

static df_status read_offsets(df_dataset *data, int64_t total, const char *path, df_error *error) {
  void *bytes = NULL;
  size_t size = 0;
  df_view view;
  df_error why = {0};
  int64_t *offsets = NULL;
  df_status status = df_file_read(&bytes, &size, path, error);
  if (status) return status;
  if ((status = df_npy_open(&view, bytes, size, &why))) {
    df_fail(error, status, "%s: %s", path, why.message);
    goto out;
  }
  if (view.dims != 1 || view.count < 2 || view.count > 1 << 28) {
    status =
        df_fail(error, DF_BAD_SHAPE,
                "%s: expected one dimension with an entry more than there are sequences, found %d "
                "dimensions, %zu entries",
                path, view.dims, view.count);
    goto out;
  }
  data->count = (int)view.count - 1;
  offsets = df_alloc(view.count * sizeof *offsets);
  data->offsets = df_alloc(view.count * sizeof *data->offsets);
  if (!offsets || !data->offsets) {
    status = df_fail(error, DF_NO_MEMORY, "%s: no memory for %zu numbers", path, view.count);
    goto out;
  }
  if ((status = df_view_ints(&view, 0, view.count, offsets, &why))) {
    df_fail(error, status, "%s: %s", path, why.message);
    goto out;
  }
  for (int i = 0; i <= data->count && !status; i++) {
    int64_t at = offsets[i], before = i ? offsets[i - 1] : -1;
    if (i ? at <= before : at != 0)
      status = df_fail(error, DF_BAD_VALUE,
                       "%s: entry %d is %lld behind %lld; expected numbers that rise from 0", path,
                       i, (long long)at, (long long)before);
    data->offsets[i] = (int32_t)at;
  }
  if (!status && offsets[data->count] != total)
    status = df_fail(error, DF_BAD_VALUE, "%s: the last entry is %lld, but there are %lld frames",
                     path, (long long)offsets[data->count], (long long)total);
out:
  df_free(offsets);
  df_free(bytes);
  return status;
}

df_status df_dataset_read(df_dataset *data, const df_data_files *files, int fields,
                          int conditions_size, int observation_size, df_error *error) {
  int64_t total = 0, others = 0;
  *data = (df_dataset){.fields = fields,
                       .conditions_size = files->conditions ? conditions_size : 0,
                       .observation_size = files->observations ? observation_size : 0};
  df_status status = read_values(&data->values, &total, files->values, fields, error);
  if (!status && total >= INT32_MAX)
    status = df_fail(error, DF_NOT_SUPPORTED, "%s: more than 2^31 frames", files->values);
  if (!status) status = read_offsets(data, total, files->offsets, error);
  if (!status && files->conditions) {
    status = read_values(&data->conditions, &others, files->conditions, conditions_size, error);
    if (!status && others != total)
      status = df_fail(error, DF_BAD_SHAPE, "%s: %lld frames, but the values have %lld",
                       files->conditions, (long long)others, (long long)total);
  }
  if (!status && files->observations) {
    status =
        read_values(&data->observations, &others, files->observations, observation_size, error);
    if (!status && others != data->count)
      status = df_fail(error, DF_BAD_SHAPE, "%s: %lld observations, but there are %d sequences",
                       files->observations, (long long)others, data->count);
  }
  if (status) df_dataset_free(data);
  return status;
}

void df_dataset_free(df_dataset *data) {
  df_free(data->offsets);
  df_free(data->values);
  df_free(data->conditions);
  df_free(data->observations);
  *data = (df_dataset){0};
}

// A whole number stays one: the middle of the box is rounded.
void df_dataset_to_positions(df_dataset *data) {
  int C = data->fields;
  for (int i = 0; i < data->count; i++)
    for (int c = 0; c < 2; c++) {
      float *v = data->values + (size_t)data->offsets[i] * C + c, at = 0, low = 0, high = 0;
      int n = data->offsets[i + 1] - data->offsets[i];
      for (int j = 0; j < n; j++) {
        at = v[(size_t)j * C] = at + (j ? v[(size_t)j * C] : 0);
        low = at < low ? at : low;
        high = at > high ? at : high;
      }
      float middle = roundf((low + high) / 2);
      for (int j = 0; j < n; j++) v[(size_t)j * C] -= middle;
    }
}

void df_dataset_to_movements(df_dataset *data) {
  int C = data->fields;
  for (int i = 0; i < data->count; i++)
    for (int c = 0; c < 2; c++) {
      float *v = data->values + (size_t)data->offsets[i] * C + c;
      int n = data->offsets[i + 1] - data->offsets[i];
      for (int j = n - 1; j > 0; j--) v[(size_t)j * C] -= v[(size_t)(j - 1) * C];
      if (n) v[0] = 0; // drawn sequences may be empty
    }
}

void df_dataset_statistics(const df_dataset *data, float *mean, float *std) {
  int total = data->offsets[data->count], C = data->fields;
  for (int c = 0; c < C; c++) {
    double sum = 0, squares = 0;
    for (int i = 0; i < total; i++) sum += data->values[(size_t)i * C + c];
    double m = sum / total;
    for (int i = 0; i < total; i++) {
      double d = data->values[(size_t)i * C + c] - m;
      squares += d * d;
    }
    mean[c] = (float)m;
    std[c] = squares > 0 ? (float)sqrt(squares / total) : 1;
  }
}

int df_dataset_tokens(const df_dataset *data, int i, int frame_stack) {
  return (data->offsets[i + 1] - data->offsets[i] + frame_stack - 1) / frame_stack;
}

// ---- Order ----

enum { MEGA = 16 }; // batches that are sorted together

df_status df_order_create(df_order *order, const int32_t *tokens, int count, int batch,
                          uint64_t seed, df_error *error) {
  if (batch > count) batch = count;
  *order = (df_order){.count = count,
                      .batch = batch,
                      .batches = count / batch,
                      .epoch = -1,
                      .seed = seed,
                      .tokens = tokens};
  order->sequences = df_alloc((size_t)order->batches * batch * sizeof(int32_t));
  order->scratch =
      df_alloc((size_t)(count > order->batches ? count : order->batches) * 2 * sizeof(int32_t));
  if (order->sequences && order->scratch) return DF_OK;
  df_order_free(order);
  return df_fail(error, DF_NO_MEMORY, "no memory for the order of %d sequences", count);
}

void df_order_free(df_order *order) {
  df_free(order->sequences);
  df_free(order->scratch);
  *order = (df_order){0};
}

// Sorts n sequences by length, longest first, equal ones left in place (merge sort).
static void sort_by_length(int32_t *items, int n, const int32_t *tokens, int32_t *scratch) {
  if (n < 2) return;
  int half = n / 2;
  sort_by_length(items, half, tokens, scratch);
  sort_by_length(items + half, n - half, tokens, scratch);
  memcpy(scratch, items, (size_t)n * sizeof *items);
  for (int i = 0, a = 0, b = half; i < n; i++) {
    bool first = b == n || (a < half && tokens[scratch[a]] >= tokens[scratch[b]]);
    items[i] = scratch[first ? a++ : b++];
  }
}

void df_order_sort(int32_t *items, int n, const int32_t *tokens, int32_t *scratch) {
  sort_by_length(items, n, tokens, scratch);
}

void df_order_epoch(df_order *o, int epoch) {
  if (o->epoch == epoch) return;
  o->epoch = epoch;
  int32_t *permutation = o->scratch, *merge = o->scratch + o->count;
  int used = o->batches * o->batch;
  df_random at = {.seed = o->seed, .sequence = (uint32_t)epoch, .purpose = DF_RANDOM_SHUFFLE};
  df_random_shuffle(&at, o->count, permutation);
  for (int i = 0; i < used; i += MEGA * o->batch) {
    int n = used - i < MEGA * o->batch ? used - i : MEGA * o->batch;
    sort_by_length(permutation + i, n, o->tokens, merge);
  }
  at.token = 1;
  int32_t *batches = merge;
  df_random_shuffle(&at, o->batches, batches);
  for (int i = 0; i < o->batches; i++)
    memcpy(o->sequences + (size_t)i * o->batch, permutation + (size_t)batches[i] * o->batch,
           (size_t)o->batch * sizeof(int32_t));
}

// ---- Tokens ----

df_augment df_augment_draw(const df_recipe *r, int sequence, int epoch) {
  df_augment a = {{1, 0, 0, 1}};
  if (r->augment_scale == 0 && r->augment_rotate == 0) return a;
  df_random at = {.seed = r->seed,
                  .sequence = (uint32_t)sequence,
                  .row = (uint32_t)epoch,
                  .purpose = DF_RANDOM_AUGMENT};
  float u[3];
  df_random_uniform(&at, 3, u);
  double sx = 1 + r->augment_scale * (2 * u[0] - 1), sy = 1 + r->augment_scale * (2 * u[1] - 1);
  double angle = r->augment_rotate * (2 * u[2] - 1), c = cos(angle), s = sin(angle);
  return (df_augment){{(float)(c * sx), (float)(-s * sy), (float)(s * sx), (float)(c * sy)}};
}

int df_encode_sequence(const df_config *config, const df_dataset *data, int sequence,
                       const df_augment *augment, float *frames, float *tokens, float *cond) {
  int C = data->fields, fs = config->frame_stack, D = config->network.token_size;
  int begin = data->offsets[sequence], n = data->offsets[sequence + 1] - begin;
  int T = (n + fs - 1) / fs;
  const float *m = augment ? augment->m : NULL;
  for (int t = 0; t < T; t++) {
    int count = n - t * fs < fs ? n - t * fs : fs;
    size_t first = (size_t)begin + (size_t)t * fs;
    if (tokens) {
      memcpy(frames, data->values + first * C, (size_t)count * C * sizeof(float));
      for (int f = 0; m && f < count; f++) {
        float *v = frames + f * C, x = v[0], y = v[1];
        v[0] = m[0] * x + m[1] * y;
        v[1] = m[2] * x + m[3] * y;
      }
      df_config_encode(config, frames, count, tokens + (size_t)t * D);
    }
    if (cond) {
      int e = data->conditions_size, E = config->network.condition_size;
      memcpy(cond + (size_t)t * E, data->conditions + first * e, (size_t)count * e * sizeof(float));
      memset(cond + (size_t)t * E + count * e, 0, (size_t)(fs - count) * e * sizeof(float));
    }
  }
  return T;
}

void df_noise_token(const df_noise *noise, const df_config *config, int level, const float *clean,
                    const float *eps, float *x, float *target) {
  float a = noise->sqrt_abar[level], s = noise->sqrt_1m[level], clip = config->clip_noise;
  for (int j = 0; j < config->network.token_size; j++) {
    float e = eps[j] > clip ? clip : eps[j] < -clip ? -clip : eps[j], c = clean[j];
    x[j] = a * c + s * e;
    target[j] = config->objective == DF_PREDICT_NOISE ? e
                : config->objective == DF_PREDICT_X0  ? c
                                                      : a * e - s * c;
  }
}
