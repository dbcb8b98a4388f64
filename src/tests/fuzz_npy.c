// Any bytes are an array or refused; an array of floats is written as it was read.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  df_view view, again;
  df_error error;
  if (df_npy_open(&view, bytes, size, &error) == DF_OK) {
    float *values = df_alloc(view.count * sizeof *values);
    void *copy;
    size_t copy_size;
    if (!values) abort();
    df_view_floats(&view, 0, view.count, values);
    if (df_npy_write(&copy, &copy_size, values, view.dims, view.shape, &error) == DF_OK) {
      if (df_npy_open(&again, copy, copy_size, &error)) abort();
      if (again.count != view.count || again.dims != view.dims) abort();
      if (memcmp(again.shape, view.shape, sizeof view.shape)) abort();
      if (view.count && memcmp(again.data, values, view.count * sizeof *values)) abort();
    } else if (view.count) { // only an empty array can have sides too long to be written
      abort();
    }
    df_free(copy);
    df_free(values);
  }
  if (df_alloc_bytes()) abort();
  return 0;
}
