// The model file: reading, writing, and every way in which a file can be damaged.
#include <stdint.h>
#include <stdlib.h>

#include "io/safetensors.h"
#include "tests/golden.h"
#include "tests/test.h"

// ------------------------------------------------------------------------------------------------
// Writing and reading again

static const float weights[6] = {0, 1, -2.5f, 1.0f / 3, 65504, 1e-7f};
static const int64_t counts[2] = {-5, 1ll << 40};

static const df_tensor_out tensors[] = {
    {"a.weight", DF_F32, 2, {2, 3}, weights}, {"a.half", DF_F16, 1, {3}, weights},
    {"steps", DF_I64, 1, {2}, counts},        {"a.brain", DF_BF16, 1, {6}, weights},
    {"nothing", DF_F32, 2, {0, 4}, NULL},     {"scalar", DF_F32, 0, {0}, weights + 2},
};
static const char *const meta[] = {"config", "{\"levels\": 10}", "empty", "", NULL};

// The file of these tensors; the bytes are df_free's.
static unsigned char *sample(size_t *size) {
  void *bytes = NULL;
  CHECK_OK(df_safetensors_write(&bytes, size, tensors, COUNT(tensors), meta, &test_error));
  return bytes;
}

TEST(what_is_written_is_read) {
  size_t size;
  void *bytes = sample(&size);
  df_safetensors file;
  REQUIRE(bytes);
  CHECK_OK(df_safetensors_open(&file, bytes, size, &test_error));
  CHECK_INT(file.count, COUNT(tensors));
  CHECK_TEXT(df_safetensors_meta(&file, "config"), "{\"levels\": 10}");
  CHECK_TEXT(df_safetensors_meta(&file, "empty"), "");
  CHECK(df_safetensors_meta(&file, "missing") == NULL);
  CHECK(df_safetensors_find(&file, "missing") == NULL);
  for (int i = 0; i < file.count; i++) { // in the order of the offsets, which is that of the writer
    CHECK_TEXT(file.views[i].name, tensors[i].name);
    CHECK_INT(file.views[i].dtype, tensors[i].dtype);
    CHECK_INT(file.views[i].dims, tensors[i].dims);
    for (int d = 0; d < tensors[i].dims; d++)
      CHECK_INT(file.views[i].shape[d], tensors[i].shape[d]);
  }

  float x[6];
  const df_view *view = df_safetensors_find(&file, "a.weight");
  REQUIRE(view);
  CHECK_INT(view->count, 6);
  df_view_floats(view, 0, 6, x);
  CHECK_FLOATS(x, weights, 6, 0);
  df_view_floats(view, 2, 3, x);
  CHECK_FLOATS(x, weights + 2, 3, 0);
  df_view_floats(df_safetensors_find(&file, "a.half"), 1, 2, x);
  CHECK_FLOATS(x, weights + 1, 2, 0);
  df_view_floats(df_safetensors_find(&file, "a.brain"), 0, 6, x);
  for (int i = 0; i < 6; i++) CHECK_NEAR(x[i], weights[i], fabs(weights[i]) / 256);
  df_view_floats(df_safetensors_find(&file, "scalar"), 0, 1, x);
  CHECK_NEAR(x[0], -2.5, 0);
  CHECK_INT(df_safetensors_find(&file, "nothing")->count, 0);
  df_view_floats(df_safetensors_find(&file, "nothing"), 0, 0, x);

  int64_t n[2];
  view = df_safetensors_find(&file, "steps");
  CHECK_OK(df_view_ints(view, 0, 2, n, &test_error));
  CHECK(n[0] == counts[0] && n[1] == counts[1]);
  df_view_floats(view, 0, 2, x);
  CHECK(x[0] == -5 && x[1] == (float)(1ll << 40));
  CHECK_STATUS(df_view_ints(df_safetensors_find(&file, "a.half"), 0, 1, n, &test_error),
               DF_BAD_FILE);
  CHECK_TEXT(test_error.message, "tensor \"a.half\": expected integers, found F16");
  df_safetensors_close(&file);
  CHECK_INT(file.count, 0);
  df_free(bytes);
}

TEST(a_matrix_is_written_in_8_bits_with_a_scale_for_each_row) {
  static const float rows[4][3] = {
      {127, -63.5f, 0.5f}, {0, 0, 0}, {-1.5f, 0.75f, 1}, {1e-44f, -1e-44f, 0}};
  static const float scales[4] = {1, 0, 1.5f / 127, 1e-44f / 127};
  // Halves to even; scales that underflow leave zeros.
  static const int8_t numbers[4][3] = {{127, -64, 0}, {0, 0, 0}, {-127, 64, 85}, {0, 0, 0}};
  const df_tensor_out out[] = {{"m", DF_I8, 2, {4, 3}, rows}, {"v", DF_F32, 1, {2}, weights}};
  void *bytes = NULL;
  size_t size;
  df_safetensors file;
  REQUIRE(CHECK_OK(df_safetensors_write(&bytes, &size, out, 2, NULL, &test_error)));
  if (CHECK_OK(df_safetensors_open(&file, bytes, size, &test_error)) && CHECK_INT(file.count, 3)) {
    const df_view *m = df_safetensors_find(&file, "m"), *s = df_safetensors_find(&file, "m.scale");
    float found[4], back[2];
    if (CHECK(m && s && m->dtype == DF_I8 && m->count == 12 && s->dtype == DF_F32 && s->dims == 1 &&
              s->count == 4)) {
      CHECK(!memcmp(m->data, numbers, sizeof numbers));
      df_view_floats(s, 0, 4, found);
      CHECK_FLOATS(found, scales, 4, 0);
    }
    df_view_floats(df_safetensors_find(&file, "v"), 0, 2, back);
    CHECK_FLOATS(back, weights, 2, 0);
    df_safetensors_close(&file);
  }
  df_free(bytes);
  const df_tensor_out vector = {"v", DF_I8, 1, {2}, weights};
  CHECK_STATUS(df_safetensors_write(&bytes, &size, &vector, 1, NULL, &test_error),
               DF_NOT_SUPPORTED);
  CHECK_TEXT(test_error.message,
             "tensor \"v\": expected a matrix to write as I8, found 1 dimensions");
}

static df_status set_and_free(const void *bytes, size_t size) {
  void *out;
  size_t out_size;
  df_status status = df_safetensors_set_meta(&out, &out_size, bytes, size, "k", "v", &test_error);
  CHECK(!status == !!out);
  df_free(out);
  return status;
}

TEST(a_text_is_changed_and_the_tensors_stay) {
  size_t size, new_size, again_size;
  char *bytes = (char *)sample(&size);
  void *new = NULL, *again = NULL;
  df_safetensors before, after;
  REQUIRE(bytes);
  CHECK_OK(df_safetensors_open(&before, bytes, size, &test_error));
  const char longer[] = "{\"levels\": 10, \"more\": \"than before\"}";
  REQUIRE(CHECK_OK(
      df_safetensors_set_meta(&new, &new_size, bytes, size, "config", longer, &test_error)));
  if (CHECK_OK(df_safetensors_open(&after, new, new_size, &test_error))) {
    CHECK_TEXT(df_safetensors_meta(&after, "config"), longer);
    CHECK_TEXT(df_safetensors_meta(&after, "empty"), "");
    CHECK_INT(after.count, before.count);
    for (int i = 0; i < after.count; i++) {
      const df_view *a = &before.views[i], *b = &after.views[i];
      DURING("%s", a->name);
      CHECK_TEXT(a->name, b->name);
      CHECK(a->dtype == b->dtype && a->dims == b->dims &&
            !memcmp(a->shape, b->shape, sizeof a->shape));
      CHECK(!memcmp(a->data, b->data, a->count * df_dtype_size(a->dtype)));
    }
    df_safetensors_close(&after);
  }
  // And back: the file as it was, to the last bit.
  CHECK_OK(df_safetensors_set_meta(&again, &again_size, new, new_size, "config",
                                   df_safetensors_meta(&before, "config"), &test_error));
  CHECK(again_size == size && !memcmp(again, bytes, size));
  df_safetensors_close(&before);
  df_free(again);
  df_free(new);
  // A new text, into a file that has none.
  CHECK_OK(df_safetensors_write(&new, &new_size, tensors, 1, NULL, &test_error));
  CHECK_OK(df_safetensors_set_meta(&again, &again_size, new, new_size, "k", "v", &test_error));
  if (CHECK_OK(df_safetensors_open(&after, again, again_size, &test_error)))
    CHECK_TEXT(df_safetensors_meta(&after, "k"), "v");
  df_safetensors_close(&after);
  CHECK_STATUS(set_and_free(bytes, size - 1), DF_BAD_FILE);
  CHECK_WITHOUT_MEMORY(set_and_free(bytes, size));
  df_free(again);
  df_free(new);
  df_free(bytes);
}

TEST(the_header_ends_on_a_boundary_of_8) {
  size_t size;
  unsigned char *bytes = sample(&size);
  REQUIRE(bytes);
  CHECK(bytes[0] % 8 == 0 && bytes[8] == '{');
  df_free(bytes);
}

TEST(a_file_without_tensors_is_a_file) {
  void *bytes = NULL;
  size_t size;
  df_safetensors file;
  CHECK_OK(df_safetensors_write(&bytes, &size, NULL, 0, NULL, &test_error));
  CHECK_OK(df_safetensors_open(&file, bytes, size, &test_error));
  CHECK_INT(file.count, 0);
  CHECK(file.metadata == NULL && df_safetensors_meta(&file, "x") == NULL);
  df_safetensors_close(&file);
  df_free(bytes);
}

TEST(what_cannot_be_read_is_not_written) {
  static const struct {
    df_tensor_out tensors[2];
    const char *message;
  } cases[] = {
      {{{"a", DF_F32, 1, {1}, weights}, {"a", DF_F32, 1, {1}, weights}},
       "the key \"a\" stands here for the second time"},
      {{{"a", DF_F32, 1, {1}, weights}, {"b", DF_F32, 1, {-1}, weights}},
       "tensor \"b\": the shape is not valid"},
      {{{"a", DF_F32, 1, {1}, weights}, {"b", DF_F32, 2, {1ll << 40, 1ll << 40}, weights}},
       "tensor \"b\": the shape is not valid"},
      {{{"a", DF_F32, 1, {1}, weights}, {"b", DF_F32, 9, {1}, weights}},
       "tensor \"b\": the shape is not valid"},
      {{{"a", DF_F32, 1, {1}, weights}, {"b", DF_F32, 1, {1}, NULL}}, "tensor \"b\" has no data"},
      {{{"a", DF_F32, 1, {1}, weights}, {NULL, DF_F32, 1, {1}, weights}}, "without a name"},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    void *bytes = NULL;
    size_t size;
    CHECK_STATUS(df_safetensors_write(&bytes, &size, cases[c].tensors, 2, NULL, &test_error),
                 DF_BAD_ARGUMENT);
    CHECK_CONTAINS(test_error.message, cases[c].message);
    CHECK(bytes == NULL && size == 0);
  }
  void *bytes;
  size_t size;
  df_tensor_out t = {"a", DF_I8, 1, {1}, weights};
  CHECK_STATUS(df_safetensors_write(&bytes, &size, &t, 1, NULL, &test_error), DF_NOT_SUPPORTED);
}

// ------------------------------------------------------------------------------------------------
// Damaged files

// Opens a file with this header and this many zero bytes behind it, in a block of its exact size.
static df_status open_with(const char *header, size_t data) {
  uint64_t length = strlen(header);
  unsigned char *bytes = df_alloc(8 + length + data);
  df_safetensors file;
  if (!bytes) return DF_NO_MEMORY;
  memcpy(bytes, &length, 8);
  memcpy(bytes + 8, header, length);
  df_status status = df_safetensors_open(&file, bytes, 8 + length + data, &test_error);
  if (status) CHECK(file.count == 0 && file.views == NULL && file.arena.bytes == 0);
  df_safetensors_close(&file);
  df_free(bytes);
  return status;
}

TEST(headers_are_checked) {
  static const struct {
    const char *header;
    size_t data;
    df_status status;
    const char *message;
  } cases[] = {
      {"{}", 0, DF_OK, ""},
      {"{}   ", 0, DF_OK, ""},
      {"{\"__metadata__\":{}}", 0, DF_OK, ""},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 16, DF_OK, ""},
      {"{\"a\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[4,7]},"
       "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
       7, DF_OK, ""},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]},"
       "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
       "\"c\":{\"dtype\":\"F32\",\"shape\":[5,0],\"data_offsets\":[0,0]}}",
       4, DF_OK, ""},
      {"", 0, DF_BAD_FILE, "safetensors header: line 1, column 1: expected a value, found the end"},
      {"[]", 0, DF_BAD_FILE, "safetensors header: expected an object"},
      {"{\"a\":1}", 0, DF_BAD_FILE, "tensor \"a\": expected an object"},
      {"{}", 4, DF_BAD_FILE, "expected 0 bytes of tensors, found 4"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8, DF_BAD_FILE,
       "expected 4 bytes of tensors, found 8"},
      {"{\"__metadata__\":[]}", 0, DF_BAD_FILE, "__metadata__: expected an object"},
      {"{\"__metadata__\":{\"a\":1}}", 0, DF_BAD_FILE,
       "__metadata__: expected a text as value of \"a\""},
      {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": expected a dtype, found none"},
      {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, DF_NOT_SUPPORTED,
       "tensor \"a\": expected dtype F32, F16, BF16, F64, I64, I32, I16, I8 or U8, found "
       "\"F8_E4M3\""},
      {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": expected a shape"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": the shape is not"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": the shape is not"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": the shape is not"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
       DF_BAD_FILE, "tensor \"a\": the shape is not"},
      {"{\"a\":{\"dtype\":\"F64\",\"shape\":[65536,65536,65536,8192],\"data_offsets\":[0,0]}}", 0,
       DF_BAD_FILE, "tensor \"a\": "},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": the shape is not"},
      {"{\"a\":{\"dtype\":\"I8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
       DF_NOT_SUPPORTED, "tensor \"a\": expected at most 8 dimensions, found 9"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, DF_BAD_FILE,
       "tensor \"a\": expected data_offsets [begin, end]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, DF_BAD_FILE,
       "expected data_offsets [begin, end]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, DF_BAD_FILE,
       "expected data_offsets [begin, end]"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, DF_BAD_FILE,
       "tensor \"a\": expected its bytes within the 4 that the file holds, found 4 to 0"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4, DF_BAD_FILE,
       "tensor \"a\": expected its bytes within the 4 that the file holds, found 4 to 8"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9007199254740993]}}", 4,
       DF_BAD_FILE, "tensor \"a\": expected"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, DF_BAD_FILE,
       "tensor \"a\": expected 2 elements of F32, found 4 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
       "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
       12, DF_BAD_FILE,
       "tensor \"b\": expected its bytes from 8 on, found 4 (it overlaps the tensor before)"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
       "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
       12, DF_BAD_FILE, "tensor \"b\": expected its bytes from 4 on, found 8 (there is a gap)"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
       "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
       8, DF_BAD_FILE, "the key \"a\" stands here for the second time"},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    DURING("%.200s", cases[c].header);
    test_error.message[0] = 0;
    CHECK_STATUS(open_with(cases[c].header, cases[c].data), cases[c].status);
    CHECK_CONTAINS(test_error.message, cases[c].message);
  }
}

TEST(the_length_of_the_header_is_checked) {
  static const uint64_t lengths[] = {3, 4, 100, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
  for (int c = 0; c < COUNT(lengths); c++) {
    unsigned char bytes[10] = {[8] = '{', [9] = '}'};
    df_safetensors file;
    memcpy(bytes, &lengths[c], 8);
    DURING("length %llu", (unsigned long long)lengths[c]);
    CHECK_STATUS(df_safetensors_open(&file, bytes, sizeof bytes, &test_error), DF_BAD_FILE);
  }
}

TEST(a_file_cut_at_any_byte_is_bad) {
  size_t size;
  unsigned char *bytes = sample(&size);
  REQUIRE(bytes);
  for (size_t cut = 0; cut < size; cut++) {
    unsigned char *copy =
        df_alloc(cut); // of its own, so that the sanitizer sees a read past the end
    df_safetensors file;
    REQUIRE(copy);
    memcpy(copy, bytes, cut);
    DURING("cut at %zu of %zu", cut, size);
    CHECK_STATUS(df_safetensors_open(&file, copy, cut, &test_error), DF_BAD_FILE);
    CHECK(test_error.message[0] != 0);
    df_free(copy);
  }
  df_free(bytes);
}

TEST(a_file_with_any_byte_changed_is_safe) {
  size_t size;
  unsigned char *bytes = sample(&size);
  REQUIRE(bytes);
  for (size_t i = 0; i < size; i++) {
    unsigned char kept = bytes[i];
    for (int change = 0; change < 3; change++) {
      df_safetensors file;
      bytes[i] = change == 0 ? (unsigned char)~kept : change == 1 ? '9' : (unsigned char)(kept ^ 1);
      if (df_safetensors_open(&file, bytes, size, &test_error)) continue;
      for (int v = 0; v < file.count; v++) {
        float x[64];
        if (file.views[v].count <= 64) df_view_floats(&file.views[v], 0, file.views[v].count, x);
      }
      df_safetensors_close(&file);
    }
    bytes[i] = kept;
  }
  df_free(bytes);
}

TEST(data_need_not_be_aligned) {
  const char *header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                       "\"b\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]},"
                       "\"c\":{\"dtype\":\"I16\",\"shape\":[2],\"data_offsets\":[17,21]},"
                       "\"d\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[21,25]},"
                       "\"e\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[25,26]}}";
  uint64_t length = strlen(header);
  unsigned char bytes[1024];
  memcpy(bytes, &length, 8);
  memcpy(bytes + 8, header, length);
  unsigned char *data = bytes + 8 + length;
  data[0] = 200;
  memcpy(data + 1, (double[]){0.5, -1e10}, 16);
  memcpy(data + 17, (int16_t[]){-300, 7}, 4);
  memcpy(data + 21, (int32_t[]){-70000}, 4);
  data[25] = (unsigned char)-3;
  df_safetensors file;
  CHECK_OK(df_safetensors_open(&file, bytes, 8 + length + 26, &test_error));
  REQUIRE(file.count == 5);
  float x[2];
  int64_t n[2];
  df_view_floats(&file.views[1], 0, 2, x);
  CHECK(x[0] == 0.5f && x[1] == -1e10f);
  static const int64_t expected[] = {200, 0, -300, -70000, -3};
  for (int i = 0; i < 5; i++) {
    if (i == 1) continue;
    CHECK_OK(df_view_ints(&file.views[i], 0, 1, n, &test_error));
    CHECK_INT(n[0], expected[i]);
    df_view_floats(&file.views[i], 0, 1, x);
    CHECK_NEAR(x[0], (double)expected[i], 0);
  }
  df_safetensors_close(&file);
}

// ------------------------------------------------------------------------------------------------
// Memory

static df_status open_and_close(const void *bytes, size_t size) {
  df_safetensors file;
  df_status status = df_safetensors_open(&file, bytes, size, &test_error);
  df_safetensors_close(&file);
  return status;
}

static df_status write_and_free(void) {
  void *bytes;
  size_t size;
  df_status status =
      df_safetensors_write(&bytes, &size, tensors, COUNT(tensors), meta, &test_error);
  CHECK(!status == !!bytes);
  df_free(bytes);
  return status;
}

TEST(reading_and_writing_survive_running_out_of_memory) {
  size_t size;
  void *bytes = sample(&size);
  REQUIRE(bytes);
  CHECK_WITHOUT_MEMORY(open_and_close(bytes, size));
  CHECK_WITHOUT_MEMORY(write_and_free());
  df_free(bytes);
}

// ------------------------------------------------------------------------------------------------
// Numbers

TEST(types_have_names_and_sizes) {
  CHECK_TEXT(df_dtype_name(DF_BF16), "BF16");
  CHECK_TEXT(df_dtype_name(DF_DTYPE_COUNT), "UNKNOWN");
  CHECK_INT(df_dtype_size(DF_F16), 2);
  CHECK_INT(df_dtype_size(DF_I64), 8);
  CHECK_INT(df_dtype_size(DF_U8), 1);
  CHECK_INT(df_dtype_size(DF_DTYPE_COUNT), 0);
}

static uint32_t bits_of(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  return bits;
}

TEST(every_half_survives_the_way_to_float_and_back) {
  for (uint32_t h = 0; h < 65536; h++) {
    float f = df_f16_to_f32((uint16_t)h), b = df_bf16_to_f32((uint16_t)h);
    bool signalling = isnan(f) && !(h & 0x200), brain_signalling = isnan(b) && !(h & 0x40);
    CHECK_INT(df_f32_to_f16(f), signalling ? h | 0x200 : h); // a NaN stays one, and quiet
    CHECK_INT(df_f32_to_bf16(b), brain_signalling ? h | 0x40 : h);
    int exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    if (exponent < 31) CHECK_NEAR(f, h & 0x8000 ? -value : value, 0);
    CHECK_INT(signbit(f) != 0, h >> 15);
  }
}

TEST(floats_round_to_the_nearest_half) {
  // Between every two neighbours: just below the middle, the middle (to even), just above it.
  for (uint32_t h = 0; h < 0x7BFF; h++) {
    float low = df_f16_to_f32((uint16_t)h), high = df_f16_to_f32((uint16_t)(h + 1));
    float middle = low + (high - low) / 2;
    CHECK_INT(df_f32_to_f16(nextafterf(middle, 0)), h);
    CHECK_INT(df_f32_to_f16(middle), h + (h & 1));
    CHECK_INT(df_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    CHECK_INT(df_f32_to_f16(-nextafterf(middle, INFINITY)), 0x8000 | (h + 1));
  }
  CHECK_INT(df_f32_to_f16(65519.996f), 0x7BFF);
  CHECK_INT(df_f32_to_f16(65520), 0x7C00);
  CHECK_INT(df_f32_to_f16(INFINITY), 0x7C00);
  CHECK_INT(df_f32_to_f16(-3e38f), 0xFC00);
  CHECK_INT(df_f32_to_f16(1e-30f), 0);
  CHECK(isnan(df_f16_to_f32(df_f32_to_f16(NAN))));
}

TEST(floats_round_to_the_nearest_bfloat) {
  for (uint32_t h = 0; h < 0x7F80; h++) {
    float low = df_bf16_to_f32((uint16_t)h), middle;
    uint32_t bits = bits_of(low) + 0x8000;
    memcpy(&middle, &bits, 4);
    CHECK_INT(df_f32_to_bf16(nextafterf(middle, 0)), h);
    CHECK_INT(df_f32_to_bf16(middle), h + (h & 1));
    CHECK_INT(df_f32_to_bf16(nextafterf(middle, INFINITY)), h + 1);
  }
  CHECK_INT(df_f32_to_bf16(-INFINITY), 0xFF80);
  CHECK_INT(df_f32_to_bf16(3.4e38f), 0x7F80);
  CHECK(isnan(df_bf16_to_f32(df_f32_to_bf16(NAN))));
}

// ------------------------------------------------------------------------------------------------
// Files that others wrote

TEST(golden_files_are_read) {
  golden g = golden_open("rnn_train_steps");
  const df_view *view = golden_view(&g, "in.noise");
  float *noise = golden_floats(&g, "in.noise");
  int64_t *levels = golden_ints(&g, "in.t");
  int steps = 0;
  REQUIRE(view && noise && levels);
  CHECK_OK(df_json_get_int(df_json_at(g.config, "case"), "steps", 1, 10, &steps, &test_error));
  CHECK_INT(view->shape[0], steps);
  double sum = 0, squares = 0;
  for (size_t i = 0; i < view->count; i++) sum += noise[i], squares += (double)noise[i] * noise[i];
  CHECK_NEAR(sum / (double)view->count, 0, 0.15);
  CHECK_NEAR(squares / (double)view->count, 1, 0.2);
  CHECK(levels[0] >= 0 && levels[0] < 1000);
  golden_close(&g);
}
