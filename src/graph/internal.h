// Shared by graph.c, plan.c and ops/: what an operation is. Adding one is a file in ops/ and its declaration here.
#ifndef DF_GRAPH_INTERNAL_H
#define DF_GRAPH_INTERNAL_H

#include "graph/graph.h"

struct df_graph {
  df_arena arena;
  df_error error; // the first failure of a constructor
  df_tensor **tensors;
  int count, room;
};

// An operand while a plan runs: its first float, the distance of its rows, and its size for this batch.
typedef struct df_operand {
  const df_tensor *t;
  float *data;
  int row;
} df_operand;

// One operation of a plan. For matrix products operand 1 is packed, and bias, residual and activation may have been
// fused in: src = {A, packed B, bias, residual}.
typedef struct df_step {
  const df_op *op;
  const df_tensor *y; // carries the attributes of the op
  df_operand out, src[DF_MAX_SOURCES];
  int act;            // a df_unary fused into a matrix product, or -1
  bool transposed;    // operand A of a matrix product; y may be what was fused behind it
  df_weights weights; // format of its packed operand
  const df_kernels *kernels;
} df_step;

// Gradients under way: one slot per tensor of the forward graph.
typedef struct df_gradients {
  df_graph *graph;
  df_tensor **of;     // by tensor index; NULL: none yet
  const bool *wanted; // does this tensor depend on anything that we differentiate with respect to?
} df_gradients;

// Adds dx to the gradient of x if that is wanted.
void df_gradient_add(df_gradients *g, df_tensor *x, df_tensor *dx);
static inline bool df_gradient_wanted(const df_gradients *g, const df_tensor *x) {
  return x && g->wanted[x->index];
}

struct df_op {
  const char *name;
  void (*run)(const df_step *s, int batch);
  // Emits the graph of the derivative: dy has y's shape. NULL: y does not depend smoothly on its sources.
  void (*derive)(df_tensor *y, df_tensor *dy, df_gradients *g);
  // Bit i: y may take the memory of source i, if that has y's shape and nobody needs it later.
  unsigned in_place;
};

extern const df_op df_op_matmul, df_op_unary, df_op_unary_grad, df_op_binary, df_op_sum_rows,
    df_op_sum_cols, df_op_columns, df_op_reshape, df_op_transpose, df_op_attention,
    df_op_attention_grad, df_op_attention_kept, df_op_pad, df_op_concat, df_op_broadcast, df_op_gru,
    df_op_gru_grad, df_op_norm, df_op_norm_grad, df_op_softmax, df_op_softmax_grad,
    df_op_position_code, df_op_stop_gradient;

// A new tensor of op with the given shape and sources (NULL sources allowed at the end); needs_grad follows.
df_tensor *df_tensor_new(df_graph *g, const df_op *op, int rows, int cols, bool batched,
                         df_tensor *const *src, int count);
// Records the first failure in g and returns NULL.
df_tensor *df_graph_fail(df_graph *g, df_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// "(B x 3, 16)"
const char *df_shape(const df_tensor *t, char text[48]);

static inline int df_rows(const df_tensor *t, int batch) {
  return t->batched ? t->rows * batch : t->rows;
}
static inline bool df_same_shape(const df_tensor *a, const df_tensor *b) {
  return a->rows == b->rows && a->cols == b->cols && a->batched == b->batched;
}

#endif
