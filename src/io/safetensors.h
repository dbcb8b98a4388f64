// The model file: safetensors. 8 bytes little-endian header length, a JSON header that maps names to dtype,
// shape and byte range, then the tensor bytes. Everything in the header is checked before anything is read.
#ifndef DF_IO_SAFETENSORS_H
#define DF_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "io/json.h"

typedef enum df_dtype {
  DF_F32,
  DF_F16,
  DF_BF16,
  DF_F64,
  DF_I64,
  DF_I32,
  DF_I16,
  DF_I8,
  DF_U8,
  DF_DTYPE_COUNT
} df_dtype;

enum { DF_MAX_DIMS = 8, DF_HEAD_BYTES = 8 }; // the length of the header takes 8 bytes

typedef struct df_view {
  const char *name;
  df_dtype dtype;
  int dims;
  int64_t shape[DF_MAX_DIMS];
  size_t count;     // elements
  size_t begin;     // of the data, counted from the end of the header
  const void *data; // inside the caller's bytes, maybe unaligned; NULL if only the header was read
} df_view;

typedef struct df_safetensors {
  df_arena arena;
  df_view *views; // in the order of their offsets
  int count;
  const df_json *metadata; // the object __metadata__, or NULL
} df_safetensors;

// Reads bytes[size], which stay the caller's and must outlive *file. Ranges must lie inside the file, fit
// dtype and shape, and not overlap. On failure *file is empty.
df_status df_safetensors_open(df_safetensors *file, const void *bytes, size_t size,
                              df_error *error);
void df_safetensors_close(df_safetensors *file);

// The same for a file that comes in pieces (df.c). Sizes that are not known yet are SIZE_MAX.
// Length of the header of a file of `size` bytes, from the first 8 of them (or all, if it has less).
df_status df_safetensors_length(const void *bytes, size_t size, size_t *length, df_error *error);
// Reads text[length], the header, before `size` bytes of tensors. The views have no data.
df_status df_safetensors_header(df_safetensors *file, const char *text, size_t length, size_t size,
                                df_error *error);
// Are `size` bytes just what all tensors take?
df_status df_safetensors_cover(const df_safetensors *file, size_t size, df_error *error);

const df_view *df_safetensors_find(const df_safetensors *file, const char *name); // NULL: none
const char *df_safetensors_meta(const df_safetensors *file, const char *key);     // NULL: none

// Elements begin .. begin+count-1 as float32 (from F32, F16, BF16, F64, integers), or as int64 (integers only).
void df_view_floats(const df_view *view, size_t begin, size_t count, float *out);
df_status df_view_ints(const df_view *view, size_t begin, size_t count, int64_t *out,
                       df_error *error);
// Has the tensor this shape? BAD_SHAPE names it, expected and found.
df_status df_view_check(const df_view *view, const int64_t *shape, int dims, df_error *error);
enum { DF_SHAPE_TEXT = 128 };
const char *df_shape_text(char text[DF_SHAPE_TEXT], const int64_t *shape, int dims); // "(96, 32)"
const char *df_dtype_name(df_dtype dtype);
size_t df_dtype_size(df_dtype dtype);

// A matrix NAME in 8 bits has a vector NAME.scale (F32, one number per row) beside it: value = number times scale of
// its row.
#define DF_SCALE_SUFFIX ".scale"

// Writing. Tensors are stored in the given order, data in the given dtype (F32, F16, BF16 or I8 from float32 input;
// I64 from int64 input), header padded to 8 bytes. I8 is for matrices; NAME.scale is written behind NAME. There
// scale = max |row| / 127, and the numbers are value / scale rounded to the nearest, halves to even.
typedef struct df_tensor_out {
  const char *name;
  df_dtype dtype;
  int dims;
  int64_t shape[DF_MAX_DIMS];
  const void *data; // float32 for F32, F16, BF16, I8; int64_t for I64
} df_tensor_out;

// The whole file as one block (*bytes, df_free it). meta: key, value, key, value, ..., NULL.
df_status df_safetensors_write(void **bytes, size_t *size, const df_tensor_out *tensors, int count,
                               const char *const *meta, df_error *error);

// The file bytes[size] once more, with the text `key` of its metadata set to `value`. The tensors stay bit
// for bit and in their order. Memory as in df_safetensors_write.
df_status df_safetensors_set_meta(void **out, size_t *out_size, const void *bytes, size_t size,
                                  const char *key, const char *value, df_error *error);

// One number at a time; round to nearest even, infinities and NaN kept.
float df_f16_to_f32(uint16_t h);
uint16_t df_f32_to_f16(float f);
float df_bf16_to_f32(uint16_t h);
uint16_t df_f32_to_bf16(float f);

#endif
