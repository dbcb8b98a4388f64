// Functions of one number, and of two with broadcasting.
#include "graph/internal.h"

// y = f(x); i = {f}, f = {p, q}
static void unary_run(const df_step *s, int batch) {
  s->kernels->unary((df_unary)s->y->i[0], s->y->f[0], s->y->f[1], df_rows(s->y, batch), s->y->cols,
                    s->src[0].data, s->src[0].row, s->out.data, s->out.row);
}

static df_tensor *unary_grad(df_tensor *y, df_tensor *dy) {
  if (!dy) return NULL;
  df_tensor *x = y->src[0];
  df_tensor *dx = df_tensor_new(x->graph, &df_op_unary_grad, x->rows, x->cols, x->batched,
                                (df_tensor *[]){x, dy}, 2);
  if (dx) dx->i[0] = y->i[0], dx->f[0] = y->f[0], dx->f[1] = y->f[1];
  return dx;
}

static void unary_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *dx = y->i[0] == DF_AFFINE ? df_scale(dy, y->f[0]) : unary_grad(y, dy);
  df_gradient_add(g, y->src[0], dx);
}

const df_op df_op_unary = {"unary", unary_run, unary_derive, 1};

// dx = f'(x) dy; src = x, dy. There is no second derivative.
static void unary_grad_run(const df_step *s, int batch) {
  s->kernels->unary_grad((df_unary)s->y->i[0], s->y->f[0], s->y->f[1], df_rows(s->y, batch),
                         s->y->cols, s->src[0].data, s->src[0].row, s->src[1].data, s->src[1].row,
                         s->out.data, s->out.row);
}

const df_op df_op_unary_grad = {"unary_grad", unary_grad_run, NULL, 3};

df_tensor *df_unary_op(df_unary f, float p, float q, df_tensor *x) {
  if (!x) return NULL;
  df_tensor *y = df_tensor_new(x->graph, &df_op_unary, x->rows, x->cols, x->batched, &x, 1);
  if (y) y->i[0] = f, y->f[0] = p, y->f[1] = q;
  return y;
}

df_tensor *df_scale(df_tensor *x, float p) { return df_unary_op(DF_AFFINE, p, 0, x); }

// y = a op b; i = {op}. An operand of one row or one column is the same in all of them.
static void binary_run(const df_step *s, int batch) {
  const df_tensor *y = s->y, *a = s->src[0].t, *b = s->src[1].t;
  int rows = df_rows(y, batch);
  int a_row = a->batched == y->batched && a->rows == y->rows ? s->src[0].row : 0;
  int b_row = b->batched == y->batched && b->rows == y->rows ? s->src[1].row : 0;
  s->kernels->binary((df_binary)y->i[0], rows, y->cols, s->src[0].data, a_row, a->cols == y->cols,
                     s->src[1].data, b_row, b->cols == y->cols, s->out.data, s->out.row);
}

// Sums a gradient of y's shape down to the shape of the operand that was broadcast.
static df_tensor *reduce_to(df_tensor *dy, const df_tensor *x) {
  if (!dy) return NULL;
  if (dy->cols != x->cols) dy = df_sum_cols(dy);
  if (dy && (dy->rows != x->rows || dy->batched != x->batched)) dy = df_sum_rows(dy);
  return dy;
}

static void binary_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *a = y->src[0], *b = y->src[1];
  bool want_a = df_gradient_wanted(g, a), want_b = df_gradient_wanted(g, b);
  df_tensor *da = dy, *db = dy;
  switch (y->i[0]) {
  case DF_ADD: break;
  case DF_SUB: db = want_b ? df_scale(dy, -1) : NULL; break;
  case DF_MUL:
    da = want_a ? df_mul(dy, b) : NULL;
    db = want_b ? df_mul(dy, a) : NULL;
    break;
  case DF_DIV: // d(a/b) = da / b - (y / b) db
    da = want_a ? df_div(dy, b) : NULL;
    db = want_b ? df_scale(df_div(df_mul(dy, y), b), -1) : NULL;
    break;
  }
  if (want_a) df_gradient_add(g, a, reduce_to(da, a));
  if (want_b) df_gradient_add(g, b, reduce_to(db, b));
}

const df_op df_op_binary = {"binary", binary_run, binary_derive, 3};

df_tensor *df_binary_op(df_binary op, df_tensor *a, df_tensor *b) {
  if (!a || !b) return NULL;
  df_graph *g = a->graph;
  bool a_one = a->rows == 1 && !a->batched, b_one = b->rows == 1 && !b->batched;
  bool rows_fit = a_one || b_one || (a->rows == b->rows && a->batched == b->batched);
  if (!rows_fit || (a->cols != b->cols && a->cols != 1 && b->cols != 1)) {
    char sa[48], sb[48];
    return df_graph_fail(g, DF_BAD_SHAPE, "binary: %s and %s do not fit", df_shape(a, sa),
                         df_shape(b, sb));
  }
  const df_tensor *full = a_one ? b : a;
  int cols = a->cols > b->cols ? a->cols : b->cols;
  df_tensor *y =
      df_tensor_new(g, &df_op_binary, full->rows, cols, full->batched, (df_tensor *[]){a, b}, 2);
  if (y) y->i[0] = op;
  return y;
}

df_tensor *df_add(df_tensor *a, df_tensor *b) { return df_binary_op(DF_ADD, a, b); }
df_tensor *df_sub(df_tensor *a, df_tensor *b) { return df_binary_op(DF_SUB, a, b); }
df_tensor *df_mul(df_tensor *a, df_tensor *b) { return df_binary_op(DF_MUL, a, b); }
df_tensor *df_div(df_tensor *a, df_tensor *b) { return df_binary_op(DF_DIV, a, b); }
