#include "graph/packed.h"

#include "graph/params.h"

const char *const df_weights_names[DF_WEIGHTS_COUNT] = {
#define X(NAME, name) name,
    DF_WEIGHTS_LIST(X)
#undef X
};

// B (k, n) of a product with W (rows, cols): W itself, or its transpose.
size_t df_packed_size(const df_param *p, bool transposed, const df_kernels *kernels,
                      df_weights weights) {
  const int n = transposed ? p->rows : p->cols, k = transposed ? p->cols : p->rows;
  const size_t floats =
      weights == DF_WEIGHTS_INT8 ? kernels->int8_size(n, k) : kernels->packed_size(n, k);
  return floats * sizeof(float);
}

const float *df_packed_get(const df_param *param, bool transposed, const df_kernels *kernels,
                           df_weights weights) {
  df_packed *entry = param->packed;
  while (entry->kernels && entry->kernels != kernels) {
    if (!entry->next && !(entry->next = df_alloc(sizeof *entry))) return NULL;
    entry = entry->next;
  }
  entry->kernels = kernels;
  float **data = &entry->data[weights][transposed];
  if (!*data) {
    *data = df_alloc(df_packed_size(param, transposed, kernels, weights));
    if (!*data) return NULL;
    void (*const pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                       float *packed) =
        weights == DF_WEIGHTS_INT8 ? kernels->int8_pack : kernels->pack;
    if (transposed)
      pack(param->rows, param->cols, param->value, 1, param->cols, *data);
    else
      pack(param->cols, param->rows, param->value, param->cols, 1, *data);
  }
  return *data;
}

void df_packed_free(df_packed *packed) {
  for (df_packed *entry = packed, *next; entry; entry = next) {
    next = entry->next;
    for (int w = 0; w < DF_WEIGHTS_COUNT; w++)
      for (int i = 0; i < 2; i++) df_free(entry->data[w][i]);
    if (entry != packed) df_free(entry);
  }
  *packed = (df_packed){0};
}

size_t df_packed_bytes(const df_param *param) {
  size_t bytes = 0;
  for (const df_packed *entry = param->packed; entry; entry = entry->next)
    for (int w = 0; w < DF_WEIGHTS_COUNT; w++)
      for (int i = 0; i < 2; i++)
        if (entry->data[w][i]) bytes += df_packed_size(param, i, entry->kernels, (df_weights)w);
  return bytes;
}
