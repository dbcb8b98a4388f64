// NumPy's .npy, versions 1 to 3: C order, little-endian, int8 to int64, uint8, float16 to float64.
#ifndef DF_IO_NPY_H
#define DF_IO_NPY_H

#include "io/safetensors.h"

// Reads bytes[size] (the caller's, must outlive *view); view->name is NULL.
df_status df_npy_open(df_view *view, const void *bytes, size_t size, df_error *error);
// float32 (dims, shape) as a .npy file in one block (df_free it).
df_status df_npy_write(void **bytes, size_t *size, const float *data, int dims,
                       const int64_t *shape, df_error *error);

#endif
