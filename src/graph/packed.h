// Packed forms of a parameter, shared by all plans with fixed weights. They live until the parameters are freed.
// Not locked: plans on the same parameters are made by one thread at a time (they may run at once).
#ifndef DF_GRAPH_PACKED_H
#define DF_GRAPH_PACKED_H

#include <stdbool.h>

#include "kernels/kernels.h"

typedef struct df_packed {
  const df_kernels *kernels;        // who packed it; only tests use more than one
  float *data[DF_WEIGHTS_COUNT][2]; // by format, of W as it is and transposed; NULL: not made yet
  struct df_packed *next;
} df_packed;

// "f32", "int8"
extern const char *const df_weights_names[DF_WEIGHTS_COUNT];

struct df_param;
// NULL when memory is out.
const float *df_packed_get(const struct df_param *param, bool transposed, const df_kernels *kernels,
                           df_weights weights);
// Bytes of a packed form, made or not.
size_t df_packed_size(const struct df_param *param, bool transposed, const df_kernels *kernels,
                      df_weights weights);
void df_packed_free(df_packed *packed); // frees the forms, not the first entry itself
size_t df_packed_bytes(const struct df_param *param);

#endif
