// Rows become columns, in each member of the batch.
#include "graph/internal.h"

enum {
  PIECE = 16
}; // columns of y, a cache line, from as many rows of x, which L1 holds until their ends

// What y has more columns than x has rows is filled up with 0.
static void run(const df_step *s, int batch) {
  const df_tensor *x = s->src[0].t, *y = s->y;
  const int members = df_rows(x, batch) / x->rows;
  const ptrdiff_t x_row = s->src[0].row, y_row = s->out.row;
  for (int b = 0; b < members; b++) {
    const float *from = s->src[0].data + b * x->rows * x_row;
    float *to = s->out.data + b * y->rows * y_row;
    for (int begin = 0; begin < y->cols; begin += PIECE) {
      const int end = begin + PIECE < y->cols ? begin + PIECE : y->cols;
      const int filled = end < x->rows ? end : x->rows;
      for (int i = 0; i < x->cols; i++) {
        for (int j = begin; j < filled; j++) to[i * y_row + j] = from[j * x_row + i];
        for (int j = filled; j < end; j++) to[i * y_row + j] = 0;
      }
    }
  }
}

static void derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_gradient_add(g, y->src[0], df_transpose(dy));
}

const df_op df_op_transpose = {"transpose", run, derive, 0};

df_tensor *df_transpose(df_tensor *x) {
  return x ? df_tensor_new(x->graph, &df_op_transpose, x->cols, x->rows, x->batched, &x, 1) : NULL;
}
