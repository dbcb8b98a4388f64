#include "df.h"

#include <math.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "graph/packed.h"
#include "io/safetensors.h"

// Is the tensor what the network wants there?
static df_status check_tensor(const df_param *p, const df_view *view, df_error *error) {
  if (!view) return df_fail(error, DF_BAD_FILE, "tensor %s is missing", p->name);
  const int64_t shape[2] = {p->rows, p->cols}, *want = p->dims == 2 ? shape : shape + 1;
  df_status status = df_view_check(view, want, p->dims, error);
  if (status) return status;
  const bool matrix = p->dims == 2;
  if (view->dtype != DF_F32 && view->dtype != DF_F16 && view->dtype != DF_BF16 &&
      !(view->dtype == DF_I8 && matrix))
    return df_fail(error, DF_BAD_FILE, "tensor %s: expected F32, F16%s, found %s", p->name,
                   matrix ? ", BF16 or I8" : " or BF16 (it is a vector)",
                   df_dtype_name(view->dtype));
  return DF_OK;
}

// ---- Where the tensors of a file go ----

typedef struct target {
  df_param *param;
  float *scales; // (rows) if the tensor is the scales of param; NULL: it is param itself
  int partner;   // the tensor with the scales of this one, or the other way round; -1: none
} target;

// The tensor whose scales this one's name says it has; -1: none.
static int scaled_by(const df_safetensors *file, const char *name) {
  const size_t length = strlen(name), suffix = strlen(DF_SCALE_SUFFIX);
  if (length <= suffix || strcmp(name + length - suffix, DF_SCALE_SUFFIX)) return -1;
  for (int i = 0; i < file->count; i++) {
    const char *other = file->views[i].name;
    if (strlen(other) == length - suffix && !memcmp(other, name, length - suffix)) return i;
  }
  return -1;
}

// Scales are for a matrix in 8 bits, and have a number for each of its rows.
static df_status aim_scales(df_safetensors *file, target *targets, int i, int matrix,
                            df_error *error) {
  const df_view *scales = &file->views[i], *of = &file->views[matrix];
  if (of->dtype != DF_I8)
    return df_fail(error, DF_BAD_FILE, "tensor %s: expected none, as tensor %s is %s and not I8",
                   scales->name, of->name, df_dtype_name(of->dtype));
  df_status status = df_view_check(scales, of->shape, 1, error);
  if (status) return status;
  if (scales->dtype != DF_F32)
    return df_fail(error, DF_BAD_FILE, "tensor %s: expected F32, found %s", scales->name,
                   df_dtype_name(scales->dtype));
  targets[i].scales = df_arena_alloc(&file->arena, scales->count * sizeof(float));
  if (!targets[i].scales) return df_fail(error, DF_NO_MEMORY, "no memory for the model");
  targets[i].param = targets[matrix].param;
  targets[i].partner = matrix;
  targets[matrix].partner = i;
  return DF_OK;
}

// Every tensor of the file has its place. Those that the network wants were checked.
static df_status aim(const df_params *params, df_safetensors *file, target *targets,
                     df_error *error) {
  df_status status = DF_OK;
  for (int i = 0; i < file->count; i++)
    targets[i] = (target){.param = df_params_find(params, file->views[i].name), .partner = -1};
  for (int i = 0; i < file->count && !status; i++) {
    const char *name = file->views[i].name;
    if (targets[i].param) continue;
    const int matrix = scaled_by(file, name);
    status = matrix >= 0 && targets[matrix].param && !targets[matrix].scales
                 ? aim_scales(file, targets, i, matrix, error)
                 : df_fail(error, DF_BAD_FILE,
                           "tensor %s is not part of the network that the config describes", name);
  }
  for (int i = 0; i < file->count && !status; i++)
    if (file->views[i].dtype == DF_I8 && targets[i].partner < 0)
      status =
          df_fail(error, DF_BAD_FILE,
                  "tensor %s is I8: expected its scales, tensor %s" DF_SCALE_SUFFIX ", found none",
                  file->views[i].name, file->views[i].name);
  return status;
}

// The format of the weights as a whole: that of its narrowest tensor.
static const char *format_of(const df_safetensors *file) {
  static const struct {
    df_dtype dtype;
    const char *name;
  } formats[] = {{DF_I8, "int8"}, {DF_F16, "f16"}, {DF_BF16, "bf16"}};
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < file->count; i++)
      if (file->views[i].dtype == formats[k].dtype) return formats[k].name;
  return "f32";
}

// The network that the header describes, its parameters still 0. targets: of the file's tensors. That
// the tensors fit is known before there is memory for them.
static df_status declare(df_model *model, df_safetensors *file, target *targets, df_error *error) {
  const char *text = df_safetensors_meta(file, "config");
  if (!text)
    return df_fail(error, DF_BAD_FILE, "expected the model's config in __metadata__, found none");
  size_t size = strlen(text) + 1;
  if (!(model->text = df_alloc(size)))
    return df_fail(error, DF_NO_MEMORY, "no memory for the config");
  memcpy(model->text, text, size);
  df_status status = df_config_parse(&model->config, text, size - 1, error);
  if (!status) status = df_noise_create(&model->noise, model->config.noise, model->config.K, error);
  if (!status) status = df_network_list(&model->config.network, &model->params, error);
  for (int i = 0; !status && i < model->params.count; i++) {
    const df_param *p = model->params.items[i];
    status = check_tensor(p, df_safetensors_find(file, p->name), error);
  }
  if (!status) status = aim(&model->params, file, targets, error);
  model->format = format_of(file);
  return status ? status : df_params_seal(&model->params, error);
}

// ---- Loader: 8 bytes, the header, the tensors in the order of their offsets ----

struct df_loader {
  df_model *model;
  size_t size, taken; // of the file (SIZE_MAX: not known); bytes so far
  // What is not whole yet: the 8 bytes, then an element of a tensor.
  char part[DF_HEAD_BYTES];
  size_t parts;
  char *header; // (length) until it is read
  size_t length, room;
  df_safetensors file;
  target *targets; // of its tensors; NULL until the header is read
  int tensor;      // under way
  size_t done;     // its elements in place
  df_error failure;
};

enum { FIRST_ROOM = 1 << 16 }; // for the header; more comes only with its bytes

df_status df_loader_create(df_loader **loader, size_t size, df_error *error) {
  df_loader *l = *loader = df_alloc(sizeof *l);
  if (l) l->model = df_alloc(sizeof *l->model);
  if (l && l->model) {
    l->size = size;
    return DF_OK;
  }
  df_free(l);
  *loader = NULL;
  return df_fail(error, DF_NO_MEMORY, "no memory for the model");
}

void df_loader_free(df_loader *loader) {
  if (!loader) return;
  df_model_free(loader->model);
  df_safetensors_close(&loader->file);
  df_free(loader->header);
  df_free(loader);
}

// Behind the last element of a tensor comes the next tensor that has any.
static void skip_done(df_loader *l) {
  for (; l->tensor < l->file.count && l->done == l->file.views[l->tensor].count; l->tensor++)
    l->done = 0;
}

static df_status read_header(df_loader *l, df_error *error) {
  size_t head = DF_HEAD_BYTES + l->length, rest = l->size == SIZE_MAX ? SIZE_MAX : l->size - head;
  df_status status = df_safetensors_header(&l->file, l->header, l->length, rest, error);
  df_free(l->header);
  l->header = NULL;
  if (status) return status;
  l->targets = df_arena_alloc(&l->file.arena, (size_t)l->file.count * sizeof *l->targets);
  if (!l->targets) return df_fail(error, DF_NO_MEMORY, "no memory for the model");
  status = declare(l->model, &l->file, l->targets, error);
  skip_done(l);
  return status;
}

// Takes bytes for l->part until `whole` are there. Returns how many.
static size_t collect(df_loader *l, const char *from, size_t n, size_t whole) {
  if (n > whole - l->parts) n = whole - l->parts;
  memcpy(l->part + l->parts, from, n);
  l->parts += n;
  return n;
}

static df_status check_values(const char *name, const float *values, size_t first, size_t count,
                              float low, df_error *error) {
  for (size_t i = first; i < first + count; i++)
    if (!isfinite(values[i]) || values[i] < low)
      return df_fail(error, DF_BAD_VALUE, "tensor %s: entry %zu is %g%s", name, i,
                     (double)values[i],
                     !isfinite(values[i]) ? ""
                     : low < 0            ? ", expected -127 to 127"
                                          : ", expected 0 or more");
  return DF_OK;
}

// The whole numbers of a matrix become its values.
static df_status rescale(const df_param *p, const float *scales, df_error *error) {
  const size_t rows = (size_t)p->rows, cols = (size_t)p->cols;
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < cols; j++) p->value[i * cols + j] *= scales[i];
  return check_values(p->name, p->value, 0, rows * cols, -INFINITY, error);
}

static df_status place(df_loader *l, const char *from, size_t count, df_error *error) {
  df_view piece = l->file.views[l->tensor];
  const target *t = &l->targets[l->tensor];
  float *to = t->scales ? t->scales : t->param->value;
  piece.data = from;
  df_view_floats(&piece, 0, count, to + l->done);
  df_status status = check_values(piece.name, to, l->done, count,
                                  t->scales              ? 0
                                  : piece.dtype == DF_I8 ? -127
                                                         : -INFINITY,
                                  error);
  l->done += count;
  // Matrix and scales may come in either order.
  if (!status && l->done == piece.count && t->partner >= 0 && t->partner < l->tensor)
    status = rescale(t->param, t->scales ? t->scales : l->targets[t->partner].scales, error);
  if (!status) skip_done(l);
  return status;
}

// Each of these takes some of from[n], n > 0, and says how much: *used.

static df_status take_length(df_loader *l, const char *from, size_t n, size_t *used,
                             df_error *error) {
  *used = collect(l, from, n, DF_HEAD_BYTES);
  if (l->parts < DF_HEAD_BYTES) return DF_OK;
  df_status status = df_safetensors_length(l->part, l->size, &l->length, error);
  l->parts = 0;
  if (status) return status;
  l->room = l->length < FIRST_ROOM ? l->length : FIRST_ROOM;
  if (!(l->header = df_alloc(l->room)))
    return df_fail(error, DF_NO_MEMORY, "no memory for a header of %zu bytes", l->length);
  return l->length ? DF_OK : read_header(l, error);
}

static df_status take_header(df_loader *l, const char *from, size_t n, size_t *used,
                             df_error *error) {
  size_t have = l->taken - DF_HEAD_BYTES;
  if (have == l->room) {
    size_t room = l->length / 2 < have ? l->length : 2 * have;
    char *grown = df_realloc(l->header, room);
    if (!grown)
      return df_fail(error, DF_NO_MEMORY, "no memory for a header of %zu bytes", l->length);
    l->header = grown;
    l->room = room;
  }
  *used = n < l->room - have ? n : l->room - have;
  memcpy(l->header + have, from, *used);
  return have + *used < l->length ? DF_OK : read_header(l, error);
}

static df_status take_tensors(df_loader *l, const char *from, size_t n, size_t *used,
                              df_error *error) {
  if (l->tensor == l->file.count)
    return df_safetensors_cover(&l->file, l->taken - DF_HEAD_BYTES - l->length + n, error);
  const df_view *view = &l->file.views[l->tensor];
  size_t each = df_dtype_size(view->dtype), left = view->count - l->done, count = n / each;
  if (l->parts || count == 0) {
    *used = collect(l, from, n, each);
    if (l->parts < each) return DF_OK;
    l->parts = 0;
    return place(l, l->part, 1, error);
  }
  if (count > left) count = left;
  *used = count * each;
  return place(l, from, count, error);
}

df_status df_loader_feed(df_loader *l, const void *bytes, size_t n, df_error *error) {
  const char *from = bytes;
  df_error *failure = &l->failure;
  for (size_t used = 0; n && !failure->code; from += used, n -= used, l->taken += used) {
    used = 0;
    if (l->taken < DF_HEAD_BYTES)
      (void)take_length(l, from, n, &used, failure);
    else if (!l->targets)
      (void)take_header(l, from, n, &used, failure);
    else
      (void)take_tensors(l, from, n, &used, failure);
  }
  return failure->code ? df_fail(error, failure->code, "%s", failure->message) : DF_OK;
}

df_status df_loader_finish(df_loader *l, df_model **model, df_error *error) {
  *model = NULL;
  df_status status = df_loader_feed(l, NULL, 0, error); // what failed before
  if (!status && l->targets) {
    status = df_safetensors_cover(&l->file, l->taken - DF_HEAD_BYTES - l->length, error);
  } else if (!status) { // cut before the end of the header
    status = df_safetensors_length(l->part, l->taken, &l->length, error);
  }
  if (!status) {
    *model = l->model;
    l->model = NULL;
  }
  df_loader_free(l);
  return status;
}

df_status df_model_open(df_model **model, const void *bytes, size_t size, df_error *error) {
  df_loader *loader;
  *model = NULL;
  df_status status = df_loader_create(&loader, size, error);
  if (status) return status;
  df_loader_feed(loader, bytes, size, NULL);
  return df_loader_finish(loader, model, error);
}

void df_model_free(df_model *model) {
  if (!model) return;
  df_params_free(&model->params);
  df_noise_free(&model->noise);
  df_config_free(&model->config);
  df_free(model->text);
  df_free(model);
}

const char *df_model_config(const df_model *model) { return model->text; }
const char *df_model_format(const df_model *model) { return model->format; }
size_t df_model_parameters(const df_model *model) { return df_params_count(&model->params); }

size_t df_model_bytes(const df_model *model) {
  size_t bytes = sizeof *model + strlen(model->text) + model->config.arena.bytes +
                 model->params.arena.bytes + model->params.size * sizeof(float) +
                 ((size_t)model->noise.K + 1) * (sizeof(double) + 9 * sizeof(float));
  for (int i = 0; i < model->params.count; i++) bytes += df_packed_bytes(model->params.items[i]);
  return bytes;
}

const char *df_version(void) { return "0.1.0"; }
const char *df_isa(void) { return df_kernels_best()->name; }
