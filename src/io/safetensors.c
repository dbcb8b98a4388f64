#include "io/safetensors.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the tensor bytes are little-endian and used in place"
#endif

enum { LARGEST_HEADER = 100000000 }; // the limit of the format's own library

static const struct {
  const char *name;
  size_t size;
} dtypes[DF_DTYPE_COUNT] = {
    [DF_F32] = {"F32", 4}, [DF_F16] = {"F16", 2}, [DF_BF16] = {"BF16", 2},
    [DF_F64] = {"F64", 8}, [DF_I64] = {"I64", 8}, [DF_I32] = {"I32", 4},
    [DF_I16] = {"I16", 2}, [DF_I8] = {"I8", 1},   [DF_U8] = {"U8", 1},
};

const char *df_dtype_name(df_dtype dtype) {
  return dtype < DF_DTYPE_COUNT ? dtypes[dtype].name : "UNKNOWN";
}
size_t df_dtype_size(df_dtype dtype) { return dtype < DF_DTYPE_COUNT ? dtypes[dtype].size : 0; }

// ------------------------------------------------------------------------------------------------
// Reading

// *out = a * b, or false if that is more than a size_t holds.
static bool multiply(size_t a, size_t b, size_t *out) {
  if (b && a > SIZE_MAX / b) return false;
  *out = a * b;
  return true;
}

// A whole number that float64 holds exactly and size_t holds at all.
static bool to_size(const df_json *value, size_t *out) {
  if (!value || value->kind != DF_JSON_NUMBER) return false;
  double number = value->number;
  if (!(number >= 0 && number <= 9007199254740992.0 && number <= (double)(SIZE_MAX / 2)))
    return false;
  if (number != floor(number)) return false;
  *out = (size_t)number;
  return true;
}

static df_status read_dtype(df_view *view, const df_json *entry, df_error *error) {
  const df_json *value = df_json_at(entry, "dtype");
  if (!value || value->kind != DF_JSON_STRING)
    return df_fail(error, DF_BAD_FILE, "tensor \"%s\": expected a dtype, found none", view->name);
  for (int i = 0; i < DF_DTYPE_COUNT; i++) {
    if (strcmp(value->string, dtypes[i].name)) continue;
    view->dtype = (df_dtype)i;
    return DF_OK;
  }
  return df_fail(
      error, DF_NOT_SUPPORTED,
      "tensor \"%s\": expected dtype F32, F16, BF16, F64, I64, I32, I16, I8 or U8, found \"%.32s\"",
      view->name, value->string);
}

static df_status read_shape(df_view *view, const df_json *entry, df_error *error) {
  const df_json *value = df_json_at(entry, "shape");
  if (!value || value->kind != DF_JSON_ARRAY)
    return df_fail(error, DF_BAD_FILE, "tensor \"%s\": expected a shape, found none", view->name);
  if (value->length > DF_MAX_DIMS)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "tensor \"%s\": expected at most %d dimensions, found %d", view->name,
                   DF_MAX_DIMS, value->length);
  view->count = 1;
  for (const df_json *item = value->first; item; item = item->next) {
    size_t n;
    if (!to_size(item, &n) || !multiply(view->count, n, &view->count))
      return df_fail(error, DF_BAD_FILE,
                     "tensor \"%s\": the shape is not a list of sizes that fit into memory",
                     view->name);
    view->shape[view->dims++] = (int64_t)n;
  }
  return DF_OK;
}

// size: bytes behind the header.
static df_status read_range(df_view *view, const df_json *entry, size_t size, df_error *error) {
  const df_json *value = df_json_at(entry, "data_offsets");
  size_t begin, end, bytes;
  if (!value || value->kind != DF_JSON_ARRAY || value->length != 2 ||
      !to_size(df_json_item(value, 0), &begin) || !to_size(df_json_item(value, 1), &end))
    return df_fail(error, DF_BAD_FILE, "tensor \"%s\": expected data_offsets [begin, end]",
                   view->name);
  if (begin > end || end > size)
    return df_fail(
        error, DF_BAD_FILE,
        "tensor \"%s\": expected its bytes within the %zu that the file holds, found %zu to %zu",
        view->name, size, begin, end);
  if (!multiply(view->count, df_dtype_size(view->dtype), &bytes) || bytes != end - begin)
    return df_fail(error, DF_BAD_FILE,
                   "tensor \"%s\": expected %zu elements of %s, found %zu bytes", view->name,
                   view->count, df_dtype_name(view->dtype), end - begin);
  view->begin = begin;
  return DF_OK;
}

static df_status read_entry(df_view *view, const df_json *entry, size_t size, df_error *error) {
  view->name = entry->key;
  if (entry->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_FILE, "tensor \"%s\": expected an object in the header",
                   view->name);
  df_status status = read_dtype(view, entry, error);
  if (!status) status = read_shape(view, entry, error);
  if (!status) status = read_range(view, entry, size, error);
  return status;
}

static df_status read_metadata(df_safetensors *file, const df_json *entry, df_error *error) {
  file->metadata = entry;
  if (entry->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_FILE, "__metadata__: expected an object");
  for (const df_json *value = entry->first; value; value = value->next)
    if (value->kind != DF_JSON_STRING)
      return df_fail(error, DF_BAD_FILE, "__metadata__: expected a text as value of \"%s\"",
                     value->key);
  return DF_OK;
}

static int by_begin(const void *a, const void *b) {
  const df_view *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return (x->count > y->count) - (x->count < y->count); // an empty tensor before the one it touches
}

// Where the view's data end.
static size_t end_of(const df_view *view) {
  return view->begin + view->count * df_dtype_size(view->dtype);
}

df_status df_safetensors_cover(const df_safetensors *file, size_t size, df_error *error) {
  size_t end = file->count ? end_of(&file->views[file->count - 1]) : 0;
  if (size == end) return DF_OK;
  return df_fail(error, DF_BAD_FILE, "expected %zu bytes of tensors, found %zu", end, size);
}

// The format wants the tensors to cover the data without a gap: what is missing or left over is
// damage.
static df_status check_order(const df_safetensors *file, df_error *error) {
  size_t expected = 0;
  for (int i = 0; i < file->count; i++) {
    const df_view *view = &file->views[i];
    if (view->begin != expected)
      return df_fail(error, DF_BAD_FILE,
                     "tensor \"%s\": expected its bytes from %zu on, found %zu (%s)", view->name,
                     expected, view->begin,
                     view->begin < expected ? "it overlaps the tensor before" : "there is a gap");
    expected = end_of(view);
  }
  return DF_OK;
}

static df_status read_header(df_safetensors *file, const char *text, size_t length, size_t size,
                             df_error *error) {
  const df_json *header;
  df_error why;
  df_status status = df_json_parse(&header, &file->arena, text, length, &why);
  if (status) return df_fail(error, status, "safetensors header: %s", why.message);
  if (header->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_FILE, "safetensors header: expected an object");
  file->views = df_arena_alloc(&file->arena, (size_t)header->length * sizeof *file->views);
  if (!file->views)
    return df_fail(error, DF_NO_MEMORY, "out of memory for %d tensors", header->length);
  for (const df_json *entry = header->first; entry; entry = entry->next) {
    if (!strcmp(entry->key, "__metadata__"))
      status = read_metadata(file, entry, error);
    else
      status = read_entry(&file->views[file->count++], entry, size, error);
    if (status) return status;
  }
  if (file->count) qsort(file->views, (size_t)file->count, sizeof *file->views, by_begin);
  status = check_order(file, error);
  return status || size == SIZE_MAX ? status : df_safetensors_cover(file, size, error);
}

df_status df_safetensors_length(const void *bytes, size_t size, size_t *length, df_error *error) {
  uint64_t found;
  if (size < DF_HEAD_BYTES)
    return df_fail(error, DF_BAD_FILE, "a safetensors file has at least 8 bytes, found %zu", size);
  memcpy(&found, bytes, DF_HEAD_BYTES);
  size_t most = size - DF_HEAD_BYTES < LARGEST_HEADER ? size - DF_HEAD_BYTES : LARGEST_HEADER;
  if (found > most)
    return df_fail(error, DF_BAD_FILE,
                   "expected a header of at most %zu bytes, found the length %llu (cut short, or "
                   "no safetensors file)",
                   most, (unsigned long long)found);
  *length = (size_t)found;
  return DF_OK;
}

df_status df_safetensors_header(df_safetensors *file, const char *text, size_t length, size_t size,
                                df_error *error) {
  *file = (df_safetensors){0};
  df_status status = read_header(file, text, length, size, error);
  if (status) df_safetensors_close(file);
  return status;
}

df_status df_safetensors_open(df_safetensors *file, const void *bytes, size_t size,
                              df_error *error) {
  *file = (df_safetensors){0};
  size_t length;
  df_status status = df_safetensors_length(bytes, size, &length, error);
  if (status) return status;
  const char *text = (const char *)bytes + DF_HEAD_BYTES, *data = text + length;
  status = df_safetensors_header(file, text, length, size - DF_HEAD_BYTES - length, error);
  for (int i = 0; i < file->count; i++) file->views[i].data = data + file->views[i].begin;
  return status;
}

void df_safetensors_close(df_safetensors *file) {
  df_arena_free(&file->arena);
  *file = (df_safetensors){0};
}

const df_view *df_safetensors_find(const df_safetensors *file, const char *name) {
  for (int i = 0; i < file->count; i++)
    if (!strcmp(file->views[i].name, name)) return &file->views[i];
  return NULL;
}

const char *df_safetensors_meta(const df_safetensors *file, const char *key) {
  const df_json *value = df_json_at(file->metadata, key);
  return value ? value->string : NULL;
}

const char *df_shape_text(char text[DF_SHAPE_TEXT], const int64_t *shape, int dims) {
  int at = snprintf(text, DF_SHAPE_TEXT, "(");
  for (int i = 0; i < dims && at < 100; i++)
    at += snprintf(text + at, (size_t)(DF_SHAPE_TEXT - at), "%s%lld", i ? ", " : "",
                   (long long)shape[i]);
  snprintf(text + at, (size_t)(DF_SHAPE_TEXT - at), ")");
  return text;
}

df_status df_view_check(const df_view *view, const int64_t *shape, int dims, df_error *error) {
  bool same = view->dims == dims;
  for (int i = 0; same && i < dims; i++) same = view->shape[i] == shape[i];
  if (same) return DF_OK;
  char expected[DF_SHAPE_TEXT], found[DF_SHAPE_TEXT];
  return df_fail(error, DF_BAD_SHAPE, "tensor %s: expected shape %s, found %s", view->name,
                 df_shape_text(expected, shape, dims),
                 df_shape_text(found, view->shape, view->dims));
}

// ------------------------------------------------------------------------------------------------
// Elements. The data may be unaligned, so each one is copied out.

#define EACH(type, expression)                                                                     \
  for (size_t i = 0; i < count; i++) {                                                             \
    type v;                                                                                        \
    memcpy(&v, from + i * sizeof v, sizeof v);                                                     \
    out[i] = expression;                                                                           \
  }                                                                                                \
  break

void df_view_floats(const df_view *view, size_t begin, size_t count, float *out) {
  assert(begin <= view->count && count <= view->count - begin);
  if (count == 0) return;
  const char *from = (const char *)view->data + begin * df_dtype_size(view->dtype);
  switch (view->dtype) {
  case DF_F32: memcpy(out, from, count * sizeof *out); break;
  case DF_F16: EACH(uint16_t, df_f16_to_f32(v));
  case DF_BF16: EACH(uint16_t, df_bf16_to_f32(v));
  case DF_F64: EACH(double, (float)v);
  case DF_I64: EACH(int64_t, (float)v);
  case DF_I32: EACH(int32_t, (float)v);
  case DF_I16: EACH(int16_t, v);
  case DF_I8: EACH(int8_t, v);
  case DF_U8: EACH(uint8_t, v);
  default: break;
  }
}

df_status df_view_ints(const df_view *view, size_t begin, size_t count, int64_t *out,
                       df_error *error) {
  assert(begin <= view->count && count <= view->count - begin);
  if (count == 0) return DF_OK;
  const char *from = (const char *)view->data + begin * df_dtype_size(view->dtype);
  switch (view->dtype) {
  case DF_I64: memcpy(out, from, count * sizeof *out); break;
  case DF_I32: EACH(int32_t, v);
  case DF_I16: EACH(int16_t, v);
  case DF_I8: EACH(int8_t, v);
  case DF_U8: EACH(uint8_t, v);
  default:
    return df_fail(error, DF_BAD_FILE, "tensor \"%s\": expected integers, found %s",
                   view->name ? view->name : "", df_dtype_name(view->dtype));
  }
  return DF_OK;
}

static uint32_t bits_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  return bits;
}

static float from_bits(uint32_t bits) {
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

float df_bf16_to_f32(uint16_t h) { return from_bits((uint32_t)h << 16); }

uint16_t df_f32_to_bf16(float f) {
  uint32_t bits = bits_of(f);
  if (f != f) return (uint16_t)(bits >> 16 | 0x40); // rounding could make an infinity of it
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// A half has 1 sign bit, 5 exponent bits (bias 15), 10 mantissa bits; a float 1, 8 (bias 127), 23.
float df_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;
  if (exponent == 0)
    return from_bits(sign | bits_of((float)mantissa * 0x1p-24f)); // subnormal, exact
  if (exponent == 31) return from_bits(sign | 0x7F800000 | mantissa << 13);
  return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t df_f32_to_f16(float f) {
  uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000;
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (bits >> 13 & 0x3FF)); // not a number
  if (bits >= 0x477FF000) return (uint16_t)(sign | 0x7C00); // rounds to infinity
  // Next to 1/2 the floats are 2^-24 apart like the subnormal halves, so the addition rounds to
  // them.
  if (bits < 0x38800000)
    return (uint16_t)(sign | (bits_of(from_bits(bits) + 0.5f) - bits_of(0.5f)));
  return (uint16_t)(sign | (((bits + 0xFFF + (bits >> 13 & 1)) >> 13) - (112 << 10)));
}

// ------------------------------------------------------------------------------------------------
// Writing

static df_status check_tensor(const df_tensor_out *t, size_t *count, df_error *error) {
  if (!t->name) return df_fail(error, DF_BAD_ARGUMENT, "a tensor without a name");
  if (t->dtype != DF_F32 && t->dtype != DF_F16 && t->dtype != DF_BF16 && t->dtype != DF_I64 &&
      t->dtype != DF_I8)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "tensor \"%s\": expected F32, F16, BF16, I64 or I8 to write, found %s", t->name,
                   df_dtype_name(t->dtype));
  if (t->dtype == DF_I8 && t->dims != 2)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "tensor \"%s\": expected a matrix to write as I8, found %d dimensions", t->name,
                   t->dims);
  bool fits = t->dims >= 0 && t->dims <= DF_MAX_DIMS;
  *count = 1;
  for (int i = 0; fits && i < t->dims; i++)
    fits = t->shape[i] >= 0 && (uint64_t)t->shape[i] <= SIZE_MAX &&
           multiply(*count, (size_t)t->shape[i], count);
  if (!fits || *count > PTRDIFF_MAX / df_dtype_size(t->dtype))
    return df_fail(error, DF_BAD_ARGUMENT, "tensor \"%s\": the shape is not valid", t->name);
  if (*count && !t->data)
    return df_fail(error, DF_BAD_ARGUMENT, "tensor \"%s\" has no data", t->name);
  return DF_OK;
}

static void put_entry(df_json_writer *w, const char *name, df_dtype dtype, int dims,
                      const int64_t *shape, size_t begin, size_t end) {
  df_json_object_begin(w, name);
  df_json_put_string(w, "dtype", df_dtype_name(dtype));
  df_json_array_begin(w, "shape");
  for (int d = 0; d < dims; d++) df_json_put_number(w, NULL, (double)shape[d]);
  df_json_array_end(w);
  df_json_array_begin(w, "data_offsets");
  df_json_put_number(w, NULL, (double)begin);
  df_json_put_number(w, NULL, (double)end);
  df_json_array_end(w);
  df_json_object_end(w);
}

// Writes the header's text and the number of bytes that follow it.
static df_status write_header(df_json_writer *w, const df_tensor_out *tensors, int count,
                              const char *const *meta, size_t *data_size, df_error *error) {
  size_t at = 0;
  df_json_object_begin(w, NULL);
  if (meta && meta[0]) {
    df_json_object_begin(w, "__metadata__");
    for (; meta[0]; meta += 2) df_json_put_string(w, meta[0], meta[1] ? meta[1] : "");
    df_json_object_end(w);
  }
  for (int i = 0; i < count; i++) {
    const df_tensor_out *t = &tensors[i];
    size_t elements = 0;
    df_status status = check_tensor(t, &elements, error);
    if (status) return status;
    size_t end = at + elements * df_dtype_size(t->dtype);
    if (end < at || end > PTRDIFF_MAX)
      return df_fail(error, DF_BAD_ARGUMENT, "tensor \"%s\": the file is too large for memory",
                     t->name);
    put_entry(w, t->name, t->dtype, t->dims, t->shape, at, end);
    at = end;
    if (t->dtype == DF_I8) {
      char scale[512];
      if (snprintf(scale, sizeof scale, "%s" DF_SCALE_SUFFIX, t->name) >= (int)sizeof scale)
        return df_fail(error, DF_BAD_ARGUMENT, "tensor \"%s\": the name is too long", t->name);
      end = at + (size_t)t->shape[0] * sizeof(float);
      put_entry(w, scale, DF_F32, 1, t->shape, at, end);
      at = end;
    }
  }
  df_json_object_end(w);
  *data_size = at;
  return w->failed
             ? df_fail(error, DF_NO_MEMORY, "out of memory for the header of %d tensors", count)
             : DF_OK;
}

// The rows of a matrix in 8 bits, and their scales behind them.
static char *store_bytes(char *to, const float *from, size_t rows, size_t cols) {
  char *scales = to + rows * cols;
  for (size_t i = 0; i < rows; i++, from += cols) {
    float most = 0;
    for (size_t j = 0; j < cols; j++) most = fmaxf(most, fabsf(from[j]));
    const float scale = most / 127;
    memcpy(scales + i * sizeof scale, &scale, sizeof scale);
    for (size_t j = 0; j < cols; j++)
      *to++ = (char)(int8_t)(scale > 0 ? fmaxf(-127, fminf(127, rintf(from[j] / scale))) : 0);
  }
  return scales + rows * sizeof(float);
}

// Stores the elements of a tensor at `to`; returns where the next one goes.
static char *store(char *to, const df_tensor_out *t) {
  size_t count = 1, size = df_dtype_size(t->dtype);
  for (int d = 0; d < t->dims; d++) count *= (size_t)t->shape[d];
  if (t->dtype == DF_F32 || t->dtype == DF_I64) {
    if (count) memcpy(to, t->data, count * size);
    return to + count * size;
  }
  const float *from = t->data;
  if (t->dtype == DF_I8) return store_bytes(to, from, (size_t)t->shape[0], (size_t)t->shape[1]);
  for (size_t i = 0; i < count; i++, to += size) {
    uint16_t half = t->dtype == DF_F16 ? df_f32_to_f16(from[i]) : df_f32_to_bf16(from[i]);
    memcpy(to, &half, size);
  }
  return to;
}

// Header and room for the data behind it: *data points there. NULL: no memory.
static char *begin_file(const df_json_writer *header, size_t data_size, size_t *total, char **data,
                        df_error *error) {
  uint64_t padded = (header->size + 7) / 8 * 8;
  *total = DF_HEAD_BYTES + (size_t)padded + data_size;
  char *out = df_alloc(*total);
  if (!out) {
    df_fail(error, DF_NO_MEMORY, "out of memory for a file of %zu bytes", *total);
    return NULL;
  }
  memcpy(out, &padded, DF_HEAD_BYTES);
  memset(out + DF_HEAD_BYTES, ' ', (size_t)padded);
  memcpy(out + DF_HEAD_BYTES, header->text, header->size);
  *data = out + DF_HEAD_BYTES + padded;
  return out;
}

df_status df_safetensors_write(void **bytes, size_t *size, const df_tensor_out *tensors, int count,
                               const char *const *meta, df_error *error) {
  *bytes = NULL;
  *size = 0;
  df_json_writer header = {0};
  size_t data_size = 0;
  char *out = NULL;
  df_status status = write_header(&header, tensors, count, meta, &data_size, error);
  if (status) goto done;

  size_t total;
  char *to;
  out = begin_file(&header, data_size, &total, &to, error);
  if (!out) {
    status = DF_NO_MEMORY;
    goto done;
  }
  for (int i = 0; i < count; i++) to = store(to, &tensors[i]);

  // Whatever the reader would refuse, two tensors of the same name for instance, is not written.
  df_safetensors check;
  df_error why;
  status = df_safetensors_open(&check, out, total, &why);
  if (status)
    status = df_fail(error, status == DF_NO_MEMORY ? status : DF_BAD_ARGUMENT, "%s", why.message);
  df_safetensors_close(&check);
done:
  df_json_writer_free(&header);
  if (status) {
    df_free(out);
    return status;
  }
  *bytes = out;
  *size = total;
  return DF_OK;
}

df_status df_safetensors_set_meta(void **out, size_t *out_size, const void *bytes, size_t size,
                                  const char *key, const char *value, df_error *error) {
  *out = NULL;
  *out_size = 0;
  df_safetensors file;
  df_status status = df_safetensors_open(&file, bytes, size, error);
  if (status) return status;
  df_json_writer header = {0};
  bool there = false;
  df_json_object_begin(&header, NULL);
  df_json_object_begin(&header, "__metadata__");
  for (const df_json *m = file.metadata ? file.metadata->first : NULL; m; m = m->next) {
    bool this = !strcmp(m->key, key);
    df_json_put_string(&header, m->key, this ? value : m->string);
    there = there || this;
  }
  if (!there) df_json_put_string(&header, key, value);
  df_json_object_end(&header);
  size_t at = 0; // the tensors cover the data without a gap
  for (int i = 0; i < file.count; i++) {
    const df_view *v = &file.views[i];
    size_t end = at + v->count * df_dtype_size(v->dtype);
    put_entry(&header, v->name, v->dtype, v->dims, v->shape, at, end);
    at = end;
  }
  df_json_object_end(&header);
  char *data;
  if (header.failed)
    status = df_fail(error, DF_NO_MEMORY, "out of memory for the header");
  else if (!(*out = begin_file(&header, at, out_size, &data, error)))
    status = DF_NO_MEMORY;
  else
    memcpy(data, (const char *)bytes + size - at, at);
  df_json_writer_free(&header);
  df_safetensors_close(&file);
  return status;
}
