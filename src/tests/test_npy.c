// .npy files.
#include <stdint.h>
#include <stdlib.h>

#include "io/npy.h"
#include "tests/test.h"

TEST(what_is_written_is_read) {
  static const struct {
    int dims;
    int64_t shape[DF_MAX_DIMS];
    size_t count;
    const char *text;
  } cases[] = {
      {0, {0}, 1, "'shape': ()"},
      {1, {5}, 5, "'shape': (5,)"},
      {2, {2, 3}, 6, "'shape': (2, 3)"},
      {3, {4, 0, 2}, 0, "'shape': (4, 0, 2)"},
      {8, {1, 2, 1, 1, 1, 1, 1, 3}, 6, "'shape': (1, 2, 1, 1, 1, 1, 1, 3)"},
  };
  static const float data[6] = {0, -1, 2.5f, 1e30f, INFINITY, 1e-40f};
  for (int c = 0; c < COUNT(cases); c++) {
    void *bytes = NULL;
    size_t size;
    df_view view;
    float x[6];
    DURING("case %d", c);
    CHECK_OK(df_npy_write(&bytes, &size, data, cases[c].dims, cases[c].shape, &test_error));
    REQUIRE(bytes);
    CHECK_INT((size - 4 * cases[c].count) % 64, 0);
    CHECK_CONTAINS((char *)bytes + 10, cases[c].text);
    CHECK_OK(df_npy_open(&view, bytes, size, &test_error));
    CHECK(view.name == NULL);
    CHECK_INT(view.dtype, DF_F32);
    CHECK_INT(view.dims, cases[c].dims);
    CHECK_INT(view.count, cases[c].count);
    for (int d = 0; d < view.dims; d++) CHECK_INT(view.shape[d], cases[c].shape[d]);
    df_view_floats(&view, 0, view.count, x);
    CHECK(memcmp(x, data, view.count * 4) == 0);
    df_free(bytes);
  }
}

// A file of this version with this header and so many zero bytes, in a block of its exact size.
static df_status open_with(df_view *view, int version, const char *header, size_t data) {
  size_t length = strlen(header), head = version == 1 ? 10 : 12;
  unsigned char *bytes = df_alloc(head + length + data);
  if (!bytes) return DF_NO_MEMORY;
  memcpy(bytes, "\x93NUMPY", 6);
  bytes[6] = (unsigned char)version;
  bytes[8] = (unsigned char)length;
  bytes[9] = (unsigned char)(length >> 8);
  memcpy(bytes + head, header, length);
  df_status status = df_npy_open(view, bytes, head + length + data, &test_error);
  df_free(bytes);
  return status;
}

TEST(headers_are_checked) {
  static const struct {
    int version;
    const char *header;
    size_t data;
    df_status status;
    int dtype, dims;
  } cases[] = {
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", 24, DF_OK, DF_F32, 2},
      {2, "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", 16, DF_OK, DF_F64, 1},
      {3, "{\"shape\":(2,2),\"descr\":\"|u1\",\"fortran_order\":False}", 4, DF_OK, DF_U8, 2},
      {1, "{'descr': '|i1', 'fortran_order': True, 'shape': (3,)}", 3, DF_OK, DF_I8, 1},
      {1, "{'descr': '<f2', 'fortran_order': False, 'shape': ()}", 2, DF_OK, DF_F16, 0},
      {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (1)}", 2, DF_OK, DF_I16, 1},
      {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (0, 99999999999)}", 0, DF_OK, DF_I32,
       2},
      {1, "{'descr': '<i8', 'fortran_order': False, 'shape': (1,)}", 8, DF_OK, DF_I64, 1},
      {1, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 4, DF_NOT_SUPPORTED, 0, 0},
      {1, "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 8, DF_NOT_SUPPORTED, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}", 16, DF_NOT_SUPPORTED, 0, 0},
      {4, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, DF_NOT_SUPPORTED, 0, 0},
      {1, "", 4, DF_BAD_FILE, 0, 0},
      {1, "{}", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False}", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}", 4, DF_BAD_FILE, 0,
       0},
      {1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, DF_BAD_FILE,
       0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, DF_BAD_FILE,
       0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4,
       DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 0,
       DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905,)}", 4,
       DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 9, DF_BAD_FILE, 0, 0},
      {1, "{'descr': '<f4ffffffffffffffffffffff', 'fortran_order': False, 'shape': (2,)}", 8,
       DF_BAD_FILE, 0, 0},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    df_view view;
    DURING("%s", cases[c].header);
    CHECK_STATUS(open_with(&view, cases[c].version, cases[c].header, cases[c].data),
                 cases[c].status);
    CHECK_INT(view.dtype, cases[c].dtype);
    CHECK_INT(view.dims, cases[c].dims);
    CHECK((view.data != NULL) == (cases[c].status == DF_OK));
  }
}

TEST(a_file_cut_at_any_byte_is_bad) {
  void *bytes = NULL;
  size_t size;
  df_view view;
  CHECK_OK(df_npy_write(&bytes, &size, (float[]){1, 2}, 1, (int64_t[]){2}, &test_error));
  REQUIRE(bytes);
  for (size_t cut = 0; cut < size; cut++) {
    void *copy = df_alloc(cut);
    REQUIRE(copy);
    memcpy(copy, bytes, cut);
    DURING("cut at %zu", cut);
    CHECK_STATUS(df_npy_open(&view, copy, cut, &test_error), DF_BAD_FILE);
    CHECK(view.data == NULL);
    df_free(copy);
  }
  df_free(bytes);
}

TEST(what_cannot_be_a_file_is_not_written) {
  void *bytes;
  size_t size;
  float x = 1;
  CHECK_STATUS(df_npy_write(&bytes, &size, &x, 9, (int64_t[9]){1}, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_npy_write(&bytes, &size, &x, -1, NULL, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_npy_write(&bytes, &size, &x, 1, (int64_t[]){-1}, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_npy_write(&bytes, &size, &x, 2, (int64_t[]){1ll << 40, 1ll << 40}, &test_error),
               DF_BAD_ARGUMENT);
  CHECK(bytes == NULL && size == 0);
  CHECK_WITHOUT_MEMORY(df_npy_write(&bytes, &size, &x, 1, (int64_t[]){1}, &test_error));
  df_free(bytes);
}
