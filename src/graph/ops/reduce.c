// Sums over rows and columns, and their opposite.
#include <string.h>

#include "graph/internal.h"

static void sum_rows_run(const df_step *s, int batch) {
  const df_tensor *x = s->src[0].t;
  s->kernels->sum_rows(df_rows(x, batch), x->cols, s->src[0].data, s->src[0].row, s->out.data);
}

static void sum_cols_run(const df_step *s, int batch) {
  const df_tensor *x = s->src[0].t;
  s->kernels->sum_cols(df_rows(x, batch), x->cols, s->src[0].data, s->src[0].row, s->out.data,
                       s->out.row);
}

static void broadcast_run(const df_step *s, int batch) {
  const df_tensor *x = s->src[0].t, *y = s->y;
  int rows = df_rows(y, batch),
      step = x->rows == y->rows && x->batched == y->batched ? s->src[0].row : 0;
  for (int i = 0; i < rows; i++) {
    const float *from = s->src[0].data + (size_t)i * (size_t)step;
    float *to = s->out.data + (size_t)i * (size_t)s->out.row;
    if (x->cols == y->cols)
      memcpy(to, from, (size_t)y->cols * sizeof *to);
    else
      for (int j = 0; j < y->cols; j++) to[j] = *from;
  }
}

static void sum_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *x = y->src[0];
  df_gradient_add(g, x, df_broadcast(dy, x->rows, x->cols, x->batched));
}

static void broadcast_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *x = y->src[0], *dx = dy;
  if (dx->cols != x->cols) dx = df_sum_cols(dx);
  if (dx && (dx->rows != x->rows || dx->batched != x->batched)) dx = df_sum_rows(dx);
  df_gradient_add(g, x, dx);
}

const df_op df_op_sum_rows = {"sum_rows", sum_rows_run, sum_derive, 0};
const df_op df_op_sum_cols = {"sum_cols", sum_cols_run, sum_derive, 0};
const df_op df_op_broadcast = {"broadcast", broadcast_run, broadcast_derive, 0};

df_tensor *df_sum_rows(df_tensor *x) {
  return x ? df_tensor_new(x->graph, &df_op_sum_rows, 1, x->cols, false, &x, 1) : NULL;
}
df_tensor *df_sum_cols(df_tensor *x) {
  return x ? df_tensor_new(x->graph, &df_op_sum_cols, x->rows, 1, x->batched, &x, 1) : NULL;
}
df_tensor *df_sum_all(df_tensor *x) { return df_sum_rows(df_sum_cols(x)); }

df_tensor *df_broadcast(df_tensor *x, int rows, int cols, bool batched) {
  if (!x) return NULL;
  if (x->rows == rows && x->cols == cols && x->batched == batched) return x;
  bool one = x->rows == 1 && !x->batched;
  if (!(one || (x->rows == rows && x->batched == batched)) || !(x->cols == 1 || x->cols == cols)) {
    char text[48];
    return df_graph_fail(x->graph, DF_BAD_SHAPE, "broadcast: %s does not fit (%s%d, %d)",
                         df_shape(x, text), batched ? "B x " : "", rows, cols);
  }
  return df_tensor_new(x->graph, &df_op_broadcast, rows, cols, batched, &x, 1);
}
