// Products of matrices. The plan packs operand B, and may fuse bias, residual and activation into the product.
#include "graph/internal.h"

// src = A, B, bias (1,N) or NULL; i = {transpose A, transpose B}
static void run(const df_step *s, int batch) {
  bool ta = s->transposed;
  const df_tensor *a = s->src[0].t, *bias = s->src[2].t, *residual = s->src[3].t;
  int a_rows = df_rows(a, batch);
  df_matmul p = {
      .m = ta ? a->cols : a_rows,
      .n = s->y->cols,
      .k = ta ? a_rows : a->cols,
      .a = s->src[0].data,
      .a_row = ta ? 1 : s->src[0].row,
      .a_col = ta ? s->src[0].row : 1,
      .b = s->src[1].data,
      .bias = bias ? s->src[2].data : NULL,
      .residual = residual ? s->src[3].data : NULL,
      .residual_row = s->src[3].row,
      .act = s->act,
      .c = s->out.data,
      .c_row = s->out.row,
  };
  if (s->weights == DF_WEIGHTS_INT8)
    s->kernels->int8_matmul(&p);
  else
    s->kernels->matmul(&p);
}

// C = A B: dA = dC B^T, dB = A^T dC.  C = A B^T: dA = dC B, dB = dC^T A.  C = A^T B: dA = B dC^T, dB = A dC.
static void derive(df_tensor *c, df_tensor *dc, df_gradients *g) {
  df_tensor *a = c->src[0], *b = c->src[1], *bias = c->src[2];
  bool ta = c->i[0], tb = c->i[1];
  if (df_gradient_wanted(g, a))
    df_gradient_add(g, a, ta ? df_matmul_op(b, dc, false, true) : df_matmul_op(dc, b, false, !tb));
  if (df_gradient_wanted(g, b))
    df_gradient_add(g, b, tb ? df_matmul_op(dc, a, true, false) : df_matmul_op(a, dc, !ta, false));
  if (df_gradient_wanted(g, bias)) df_gradient_add(g, bias, df_sum_rows(dc));
}

const df_op df_op_matmul = {"matmul", run, derive, 0};

static df_tensor *product(df_tensor *a, df_tensor *b, bool ta, bool tb, df_tensor *bias) {
  if (!a || !b) return NULL;
  df_graph *g = a->graph;
  char sa[48], sb[48];
  // The inner dimension may be the batch only where both sides run over it: A^T B.
  bool inner_batched_a = ta && a->batched, inner_batched_b = !tb && b->batched;
  int inner_a = ta ? a->rows : a->cols, inner_b = tb ? b->cols : b->rows;
  if (inner_a != inner_b || inner_batched_a != inner_batched_b || (tb && b->batched) || (ta && tb))
    return df_graph_fail(g, DF_BAD_SHAPE, "matmul: %s%s and %s%s do not fit", df_shape(a, sa),
                         ta ? "^T" : "", df_shape(b, sb), tb ? "^T" : "");
  int n = tb ? b->rows : b->cols;
  if (bias && (bias->rows != 1 || bias->cols != n || bias->batched))
    return df_graph_fail(g, DF_BAD_SHAPE, "matmul: expected a bias (1, %d), found %s", n,
                         df_shape(bias, sa));
  df_tensor *c = df_tensor_new(g, &df_op_matmul, ta ? a->cols : a->rows, n, !ta && a->batched,
                               (df_tensor *[]){a, b, bias}, 3);
  if (c) c->i[0] = ta, c->i[1] = tb;
  return c;
}

df_tensor *df_matmul_op(df_tensor *a, df_tensor *b, bool transpose_a, bool transpose_b) {
  return product(a, b, transpose_a, transpose_b, NULL);
}

df_tensor *df_linear_op(df_tensor *x, df_tensor *w, df_tensor *b) {
  return product(x, w, false, true, b);
}
