#include "io/npy.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

// The file: "\x93NUMPY", two bytes version, the length of the header (2 bytes in version 1, else
// 4), the header, which is the text of a Python dict, then the elements.
//   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }

enum { MAGIC_BYTES = 8, ALIGNED = 64 };

static const struct {
  const char *descr;
  df_dtype dtype;
} types[] = {
    {"<f4", DF_F32}, {"<f2", DF_F16}, {"<f8", DF_F64}, {"<i8", DF_I64},
    {"<i4", DF_I32}, {"<i2", DF_I16}, {"|i1", DF_I8},  {"|u1", DF_U8},
};
enum { TYPES = sizeof types / sizeof types[0] };

typedef struct reader {
  const char *at, *end;
} reader;

static void skip_space(reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\n')) r->at++;
}

// Takes the given character, with spaces before it.
static bool take(reader *r, char c) {
  skip_space(r);
  return r->at < r->end && *r->at == c && r->at++;
}

// A quoted word without escapes.
static bool take_word(reader *r, char word[16]) {
  char quote = take(r, '\'') ? '\'' : take(r, '"') ? '"' : 0;
  size_t n = 0;
  while (quote && r->at < r->end && *r->at != quote && n < 15) word[n++] = *r->at++;
  word[n] = 0;
  return quote && r->at < r->end && *r->at == quote && r->at++;
}

static bool take_name(reader *r, const char *name) {
  if (!take(r, name[0])) return false;
  size_t rest = strlen(name) - 1;
  if ((size_t)(r->end - r->at) < rest || memcmp(r->at, name + 1, rest)) return false;
  r->at += rest;
  return true;
}

static bool take_number(reader *r, int64_t *value) {
  skip_space(r);
  const char *start = r->at;
  for (*value = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
    if (*value > (INT64_MAX - 9) / 10) return false;
    *value = *value * 10 + (*r->at - '0');
  }
  return r->at > start;
}

static bool take_shape(reader *r, df_view *view) {
  if (!take(r, '(')) return false;
  while (!take(r, ')')) {
    if (view->dims == DF_MAX_DIMS || !take_number(r, &view->shape[view->dims])) return false;
    view->dims++;
    if (!take(r, ',')) return take(r, ')');
  }
  return true;
}

// The dict, into descr, *fortran and the shape of the view; false where it is not as NumPy writes
// it.
static bool read_dict(reader *r, df_view *view, char descr[16], bool *fortran) {
  bool seen[3] = {false};
  if (!take(r, '{')) return false;
  while (!take(r, '}')) {
    char key[16];
    if (!take_word(r, key) || !take(r, ':')) return false;
    int which = !strcmp(key, "descr")           ? 0
                : !strcmp(key, "fortran_order") ? 1
                : !strcmp(key, "shape")         ? 2
                                                : -1;
    if (which < 0 || seen[which]) return false;
    seen[which] = true;
    if (which == 0 && !take_word(r, descr)) return false;
    if (which == 1 && !(*fortran = take_name(r, "True")) && !take_name(r, "False")) return false;
    if (which == 2 && !take_shape(r, view)) return false;
    if (take(r, ',')) continue;
    if (!take(r, '}')) return false;
    break;
  }
  skip_space(r);
  return seen[0] && seen[1] && seen[2] && r->at == r->end;
}

static df_status read_file(df_view *view, const unsigned char *bytes, size_t size,
                           df_error *error) {
  if (size < MAGIC_BYTES + 4 || memcmp(bytes, "\x93NUMPY", 6))
    return df_fail(error, DF_BAD_FILE, "this is not a .npy file");
  if (bytes[6] < 1 || bytes[6] > 3)
    return df_fail(error, DF_NOT_SUPPORTED, "expected .npy version 1 to 3, found %d", bytes[6]);
  size_t length = bytes[8] | (size_t)bytes[9] << 8, head = MAGIC_BYTES + 2;
  if (bytes[6] > 1) {
    length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    head += 2;
  }
  if (length > size - head)
    return df_fail(error, DF_BAD_FILE, ".npy header: expected %zu bytes, found %zu", length,
                   size - head);

  char descr[16] = "";
  bool fortran = false;
  reader r = {(const char *)bytes + head, (const char *)bytes + head + length};
  if (!read_dict(&r, view, descr, &fortran))
    return df_fail(error, DF_BAD_FILE,
                   ".npy header: expected descr, fortran_order and a shape of at most %d sizes",
                   DF_MAX_DIMS);
  if (fortran && view->dims > 1)
    return df_fail(error, DF_NOT_SUPPORTED, ".npy: expected C order, found Fortran order");
  int type = 0;
  while (type < TYPES && strcmp(descr, types[type].descr)) type++;
  if (type == TYPES)
    return df_fail(error, DF_NOT_SUPPORTED,
                   ".npy: expected little-endian f2, f4, f8, i2, i4, i8, or i1, u1, found \"%s\"",
                   descr);
  view->dtype = types[type].dtype;

  // Divided rather than multiplied, so that no shape overflows; an empty side makes the whole
  // empty.
  size_t found = size - head - length, item = df_dtype_size(view->dtype);
  bool empty = false, fits = true;
  for (int d = 0; d < view->dims; d++) empty = empty || view->shape[d] == 0;
  view->count = !empty;
  for (int d = 0; d < view->dims && !empty && fits; d++) {
    fits = (uint64_t)view->shape[d] <= found / item / view->count;
    if (fits) view->count *= (size_t)view->shape[d];
  }
  if (!fits || view->count * item != found)
    return df_fail(error, DF_BAD_FILE,
                   ".npy: expected as many elements of %s as the shape says, found %zu bytes",
                   df_dtype_name(view->dtype), found);
  view->data = bytes + head + length;
  return DF_OK;
}

df_status df_npy_open(df_view *view, const void *bytes, size_t size, df_error *error) {
  *view = (df_view){0};
  df_status status = read_file(view, bytes, size, error);
  if (status) *view = (df_view){0};
  return status;
}

df_status df_npy_write(void **bytes, size_t *size, const float *data, int dims,
                       const int64_t *shape, df_error *error) {
  *bytes = NULL;
  *size = 0;
  if (dims < 0 || dims > DF_MAX_DIMS)
    return df_fail(error, DF_BAD_ARGUMENT, "a .npy file of %d dimensions", dims);

  char header[512];
  size_t count = 1;
  int n = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
  for (int d = 0; d < dims; d++) {
    // In 64 bits, since a side need not fit into a size_t.
    if (shape[d] < 0 || (shape[d] && count > PTRDIFF_MAX / 8 / (uint64_t)shape[d]))
      return df_fail(error, DF_BAD_ARGUMENT, "dimension %d of a .npy file is %lld", d,
                     (long long)shape[d]);
    count *= (size_t)shape[d];
    // A shape of one side is written (3,), as Python does.
    n += snprintf(header + n, sizeof header - (size_t)n, "%s%lld%s", d ? " " : "",
                  (long long)shape[d], d < dims - 1 || dims == 1 ? "," : "");
  }
  n += snprintf(header + n, sizeof header - (size_t)n, "), }");

  // Spaces and a newline fill the header up, so that the elements are aligned.
  size_t head = (MAGIC_BYTES + 2 + (size_t)n + 1 + ALIGNED - 1) / ALIGNED * ALIGNED,
         total = head + count * sizeof *data;
  char *out = df_alloc(total);
  if (!out)
    return df_fail(error, DF_NO_MEMORY, "out of memory for a .npy file of %zu bytes", total);
  size_t length = head - MAGIC_BYTES - 2;
  memset(out, ' ', head);
  memcpy(out, "\x93NUMPY\x01\x00", MAGIC_BYTES);
  out[8] = (char)(length & 255);
  out[9] = (char)(length >> 8);
  memcpy(out + MAGIC_BYTES + 2, header, (size_t)n);
  out[head - 1] = '\n';
  if (count) memcpy(out + head, data, count * sizeof *data);
  *bytes = out;
  *size = total;
  return DF_OK;
}
