// Normalisations and softmax of rows. Scale and shift, and the factor of a softmax, are part of the operation: one
// pass over memory less.
#include "graph/internal.h"

// src = x, scale or NULL, shift or NULL; i = {groups, centred}, f = {eps}
static df_norm arguments(const df_step *s, int batch) {
  const df_tensor *y = s->y;
  return (df_norm){.rows = df_rows(y, batch),
                   .cols = y->cols,
                   .groups = y->i[0],
                   .centred = y->i[1],
                   .eps = y->f[0],
                   .x = s->src[0].data,
                   .x_row = s->src[0].row,
                   .scale = s->src[1].t ? s->src[1].data : NULL,
                   .y = s->out.data,
                   .y_row = s->out.row};
}

static void run(const df_step *s, int batch) {
  df_norm p = arguments(s, batch);
  p.shift = s->src[2].t ? s->src[2].data : NULL;
  s->kernels->norm(&p);
}

// src = x, scale or NULL, dy. There is no second derivative.
static void grad_run(const df_step *s, int batch) {
  df_norm p = arguments(s, batch);
  s->kernels->norm_grad(&p, s->src[2].data, s->src[2].row);
}

// A tensor of x's shape with the attributes of a normalisation
static df_tensor *make(const df_op *op, int groups, bool centred, float eps, df_tensor *x,
                       df_tensor *scale, df_tensor *last) {
  df_tensor *y =
      df_tensor_new(x->graph, op, x->rows, x->cols, x->batched, (df_tensor *[]){x, scale, last}, 3);
  if (y) y->i[0] = groups, y->i[1] = centred, y->f[0] = eps;
  return y;
}

static void derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *x = y->src[0], *scale = y->src[1], *shift = y->src[2];
  const int groups = y->i[0];
  const bool centred = y->i[1];
  if (df_gradient_wanted(g, x))
    df_gradient_add(g, x, make(&df_op_norm_grad, groups, centred, y->f[0], x, scale, dy));
  if (df_gradient_wanted(g, scale)) {
    df_tensor *u = make(&df_op_norm, groups, centred, y->f[0], x, NULL, NULL);
    df_gradient_add(g, scale, df_sum_rows(df_mul(dy, u)));
  }
  if (df_gradient_wanted(g, shift)) df_gradient_add(g, shift, df_sum_rows(dy));
}

const df_op df_op_norm = {"norm", run, derive, 1};
const df_op df_op_norm_grad = {"norm_grad", grad_run, NULL, 1 | 4};

static df_tensor *norm(const char *name, df_tensor *x, int groups, bool centred, df_tensor *scale,
                       df_tensor *shift, float eps) {
  if (!x) return NULL;
  if (groups < 1 || x->cols % groups)
    return df_graph_fail(x->graph, DF_BAD_SHAPE, "%s: %d columns do not form %d groups", name,
                         x->cols, groups);
  if (!(eps >= 0))
    return df_graph_fail(x->graph, DF_BAD_ARGUMENT, "%s: expected eps from 0 on, found %g", name,
                         (double)eps);
  for (int i = 0; i < 2; i++) {
    const df_tensor *t = i ? shift : scale;
    char text[48];
    if (t && (t->rows != 1 || t->cols != x->cols || t->batched))
      return df_graph_fail(x->graph, DF_BAD_SHAPE, "%s: expected a %s (1, %d), found %s", name,
                           i ? "shift" : "scale", x->cols, df_shape(t, text));
  }
  return make(&df_op_norm, groups, centred, eps, x, scale, shift);
}

df_tensor *df_layer_norm(df_tensor *x, df_tensor *scale, df_tensor *shift, float eps) {
  return norm("layer norm", x, 1, true, scale, shift, eps);
}
df_tensor *df_group_norm(df_tensor *x, int groups, df_tensor *scale, df_tensor *shift, float eps) {
  return norm("group norm", x, groups, true, scale, shift, eps);
}
df_tensor *df_rms_norm(df_tensor *x, df_tensor *scale, float eps) {
  return norm("RMS norm", x, 1, false, scale, NULL, eps);
}

// f = {scale}
static void softmax_run(const df_step *s, int batch) {
  s->kernels->softmax(s->y->f[0], df_rows(s->y, batch), s->y->cols, s->src[0].data, s->src[0].row,
                      s->out.data, s->out.row);
}

// src = y, dy. There is no second derivative.
static void softmax_grad_run(const df_step *s, int batch) {
  s->kernels->softmax_grad(s->y->f[0], df_rows(s->y, batch), s->y->cols, s->src[0].data,
                           s->src[0].row, s->src[1].data, s->src[1].row, s->out.data, s->out.row);
}

static void softmax_derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  if (!df_gradient_wanted(g, y->src[0])) return;
  df_tensor *dx = df_tensor_new(y->graph, &df_op_softmax_grad, y->rows, y->cols, y->batched,
                                (df_tensor *[]){y, dy}, 2);
  if (dx) dx->f[0] = y->f[0];
  df_gradient_add(g, y->src[0], dx);
}

const df_op df_op_softmax = {"softmax", softmax_run, softmax_derive, 1};
const df_op df_op_softmax_grad = {"softmax_grad", softmax_grad_run, NULL, 3};

df_tensor *df_softmax(df_tensor *x, float scale) {
  if (!x) return NULL;
  if (!(scale > 0))
    return df_graph_fail(x->graph, DF_BAD_ARGUMENT, "softmax: expected a scale above 0, found %g",
                         (double)scale);
  df_tensor *y = df_tensor_new(x->graph, &df_op_softmax, x->rows, x->cols, x->batched, &x, 1);
  if (y) y->f[0] = scale;
  return y;
}
