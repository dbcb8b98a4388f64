// Parameters: a list of named matrices in one block of floats. Loading, saving, the optimiser and the gradient
// test walk this list. A network declares a parameter by using it (nn/nn.h), once.
#ifndef DF_GRAPH_PARAMS_H
#define DF_GRAPH_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/kernels.h"

typedef enum df_init {
  DF_INIT_UNIFORM, // U(-1/sqrt(fan), 1/sqrt(fan)), PyTorch's default of Linear and GRU; fan is declared with it
  DF_INIT_ZERO,
  DF_INIT_ONE,
  DF_INIT_NORMAL, // N(0, 1)
} df_init;

typedef struct df_param {
  const char *name; // as in the reference's PyTorch state_dict
  int rows, cols;   // (out, in); a vector has rows 1
  int dims;         // 1 or 2 in the model file
  df_init init;
  int fan;
  float *value;             // (rows, cols) inside df_params.values
  size_t offset;            // of value in the block, in floats; a multiple of 16
  struct df_packed *packed; // shared packed forms (graph/plan.c)
} df_param;

typedef struct df_params {
  df_arena arena;
  df_param **items; // in the order of declaration
  int count, room;
  float *values; // all values in one block, gaps between parameters are 0
  size_t size;   // floats in the block, a multiple of 16
  bool sealed;   // values exist, nothing can be added
} df_params;

// Declares a parameter before the list is sealed; a second declaration of the same name must agree and gives the
// same one. NULL and *error otherwise.
df_param *df_params_declare(df_params *p, const char *name, int rows, int cols, int dims,
                            df_init init, int fan, df_error *error);
df_param *df_params_find(const df_params *p, const char *name); // NULL: none
df_status df_params_seal(df_params *p, df_error *error);        // makes values, all 0
void df_params_init(df_params *p, uint64_t seed); // fills values as declared, by DF_RANDOM_INIT
void df_params_free(df_params *p);
size_t df_params_count(const df_params *p); // numbers, gaps not counted

#endif
