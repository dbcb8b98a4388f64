#include "graph/packed.h"

#include "graph/params.h"

// B (k, n) of a product with W (rows, cols): W itself, or its transpose.
static size_t packed_floats(const df_param *p, bool transposed, const df_kernels *kernels) {
  return transposed ? kernels->packed_size(p->rows, p->cols)
                    : kernels->packed_size(p->cols, p->rows);
}

const float *df_packed_get(const df_param *param, bool transposed, const df_kernels *kernels) {
  df_packed *entry = param->packed;
  while (entry->kernels && entry->kernels != kernels) {
    if (!entry->next && !(entry->next = df_alloc(sizeof *entry))) return NULL;
    entry = entry->next;
  }
  entry->kernels = kernels;
  float **data = &entry->data[transposed];
  if (!*data) {
    *data = df_alloc(packed_floats(param, transposed, kernels) * sizeof(float));
    if (!*data) return NULL;
    if (transposed)
      kernels->pack(param->rows, param->cols, param->value, 1, param->cols, *data);
    else
      kernels->pack(param->cols, param->rows, param->value, param->cols, 1, *data);
  }
  return *data;
}

void df_packed_free(df_packed *packed) {
  for (df_packed *entry = packed, *next; entry; entry = next) {
    next = entry->next;
    df_free(entry->data[0]);
    df_free(entry->data[1]);
    if (entry != packed) df_free(entry);
  }
  *packed = (df_packed){0};
}

size_t df_packed_bytes(const df_param *param) {
  size_t floats = 0;
  for (const df_packed *entry = param->packed; entry; entry = entry->next)
    for (int i = 0; i < 2; i++)
      if (entry->data[i]) floats += packed_floats(param, i, entry->kernels);
  return floats * sizeof(float);
}
