// The gates of a GRU cell in one pass over memory.
#include "graph/internal.h"

static void run(const df_step *s, int batch) {
  s->kernels->gru(df_rows(s->y, batch), s->y->cols, s->src[0].data, s->src[0].row, s->src[1].data,
                  s->src[1].row, s->src[2].data, s->src[2].row, s->out.data, s->out.row);
}

static void grad_run(const df_step *s, int batch) {
  int n = s->src[2].t->cols;
  s->kernels->gru_grad(df_rows(s->y, batch), n, s->src[0].data, s->src[0].row, s->src[1].data,
                       s->src[1].row, s->src[2].data, s->src[2].row, s->src[3].data, s->src[3].row,
                       s->out.data, s->out.row);
}

static void derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  int n = y->cols;
  df_tensor *d = df_tensor_new(y->graph, &df_op_gru_grad, y->rows, 7 * n, y->batched,
                               (df_tensor *[]){y->src[0], y->src[1], y->src[2], dy}, 4);
  df_gradient_add(g, y->src[0], df_columns(d, 0, 3 * n));
  df_gradient_add(g, y->src[1], df_columns(d, 3 * n, 3 * n));
  df_gradient_add(g, y->src[2], df_columns(d, 6 * n, n));
}

const df_op df_op_gru = {"gru", run, derive, 0};
const df_op df_op_gru_grad = {"gru_grad", grad_run, NULL, 0};

df_tensor *df_gru_op(df_tensor *gi, df_tensor *gh, df_tensor *h) {
  if (!gi || !gh || !h) return NULL;
  if (!df_same_shape(gi, gh) || gi->cols != 3 * h->cols || gi->rows != h->rows ||
      gi->batched != h->batched) {
    char a[48], b[48], c[48];
    return df_graph_fail(h->graph, DF_BAD_SHAPE, "gru: gates %s and %s and state %s do not fit",
                         df_shape(gi, a), df_shape(gh, b), df_shape(h, c));
  }
  return df_tensor_new(h->graph, &df_op_gru, h->rows, h->cols, h->batched,
                       (df_tensor *[]){gi, gh, h}, 3);
}
