// Columns of a matrix, cut out (a view, nothing is copied) and put side by side; the same numbers in another shape;
// and stopping a gradient.
#include <string.h>

#include "graph/internal.h"

static void pad_run(const df_step *s, int batch) {
  const df_tensor *x = s->src[0].t, *y = s->y;
  int rows = df_rows(y, batch), begin = y->i[0];
  for (int r = 0; r < rows; r++) {
    float *to = s->out.data + (size_t)r * (size_t)s->out.row;
    memset(to, 0, (size_t)y->cols * sizeof *to);
    memcpy(to + begin, s->src[0].data + (size_t)r * (size_t)s->src[0].row,
           (size_t)x->cols * sizeof *to);
  }
}

static void pad_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_gradient_add(g, y->src[0], df_columns(dy, y->i[0], y->src[0]->cols));
}

// (R, c) -> (R, cols): x at column begin, zeros elsewhere
const df_op df_op_pad = {"pad", pad_run, pad_derive, 0};

static void columns_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *x = y->src[0];
  if (!df_gradient_wanted(g, x)) return;
  df_tensor *dx = df_tensor_new(x->graph, &df_op_pad, x->rows, x->cols, x->batched, &dy, 1);
  if (dx) dx->i[0] = y->i[0];
  df_gradient_add(g, x, dx);
}

const df_op df_op_columns = {"columns", NULL, columns_derive, 0};
const df_op df_op_stop_gradient = {"stop_gradient", NULL, NULL, 0};

// (rows, cols) of each member, from float `begin` of x on; rows are `row` floats apart.
static df_tensor *view(const df_op *op, df_tensor *x, int begin, int rows, int cols, int row) {
  df_tensor *y = df_tensor_new(x->graph, op, rows, cols, x->batched, &x, 1);
  if (!y) return NULL;
  y->i[0] = begin;
  y->row = row;
  y->view = x->view ? x->view : x;
  y->view_at = x->view_at + (size_t)begin;
  return y;
}

df_tensor *df_columns(df_tensor *x, int begin, int cols) {
  if (!x) return NULL;
  if (begin == 0 && cols == x->cols) return x;
  if (begin < 0 || cols < 1 || begin + cols > x->cols) {
    char text[48];
    return df_graph_fail(x->graph, DF_BAD_SHAPE, "columns %d to %d of %s do not exist", begin,
                         begin + cols - 1, df_shape(x, text));
  }
  return view(&df_op_columns, x, begin, x->rows, cols, x->row);
}

df_tensor *df_stop_gradient(df_tensor *x) {
  return x ? view(&df_op_stop_gradient, x, 0, x->rows, x->cols, x->row) : NULL;
}

static void concat_run(const df_step *s, int batch) {
  int rows = df_rows(s->y, batch), begin = 0;
  for (int i = 0; i < DF_MAX_SOURCES && s->src[i].t; i++) {
    int cols = s->src[i].t->cols;
    for (int r = 0; r < rows; r++)
      memcpy(s->out.data + (size_t)r * (size_t)s->out.row + begin,
             s->src[i].data + (size_t)r * (size_t)s->src[i].row, (size_t)cols * sizeof(float));
    begin += cols;
  }
}

static void concat_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  int begin = 0;
  for (int i = 0; i < DF_MAX_SOURCES && y->src[i]; i++) {
    if (df_gradient_wanted(g, y->src[i]))
      df_gradient_add(g, y->src[i], df_columns(dy, begin, y->src[i]->cols));
    begin += y->src[i]->cols;
  }
}

const df_op df_op_concat = {"concat", concat_run, concat_derive, 0};

// Parts go into a tree of equal depth, so that many of them are copied a few times each and not as often as there are
// parts behind them.
df_tensor *df_concat(df_tensor *const *parts, int count) {
  df_tensor *part[DF_MAX_SOURCES];
  int n = 0, all = 0, cols = 0;
  for (int i = 0; i < count; i++) all += parts[i] != NULL;
  for (int i = 0, each; i < count && n < DF_MAX_SOURCES; i += each) {
    each = all > DF_MAX_SOURCES ? (count - i - 1) / (DF_MAX_SOURCES - n) + 1 : 1;
    df_tensor *next = each > 1 ? df_concat(parts + i, each) : parts[i];
    if (next) part[n++] = next;
  }
  if (n == 0 || part[0]->graph->error.code) return NULL;
  if (n == 1) return part[0];
  for (int i = 0; i < n; i++) {
    if (part[i]->rows != part[0]->rows || part[i]->batched != part[0]->batched) {
      char a[48], b[48];
      return df_graph_fail(part[0]->graph, DF_BAD_SHAPE, "concat: %s and %s do not fit",
                           df_shape(part[0], a), df_shape(part[i], b));
    }
    cols += part[i]->cols;
  }
  return df_tensor_new(part[0]->graph, &df_op_concat, part[0]->rows, cols, part[0]->batched, part,
                       n);
}

static void reshape_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_gradient_add(g, y->src[0], df_reshape(dy, y->src[0]->rows, y->src[0]->cols));
}

const df_op df_op_reshape = {"reshape", NULL, reshape_derive, 0};

df_tensor *df_reshape(df_tensor *x, int rows, int cols) {
  if (!x || (rows == x->rows && cols == x->cols)) return x;
  if (rows < 1 || cols < 1 || (size_t)rows * (size_t)cols != (size_t)x->rows * (size_t)x->cols) {
    char text[48];
    return df_graph_fail(x->graph, DF_BAD_SHAPE,
                         "reshape: %s does not have the numbers of (%d, %d)", df_shape(x, text),
                         rows, cols);
  }
  if (x->row != x->cols) // joined with nothing, it is a dense copy
    x = df_tensor_new(x->graph, &df_op_concat, x->rows, x->cols, x->batched, &x, 1);
  return x ? view(&df_op_reshape, x, 0, rows, cols, cols) : NULL;
}
