// Rotary position code (Su et al. 2021, "RoFormer"): queries and keys are turned by angles that grow with the position,
// so that a score depends on how far two tokens are apart.
#include <math.h>

#include "graph/internal.h"

// (R,1) -> (R,size): cosine and sine of t 10000^(-2j/size), j = 0 .. size/2 - 1, side by side
static void code_run(const df_step *s, int batch) {
  const int rows = df_rows(s->y, batch), size = s->y->cols;
  for (int j = 0; j < size; j += 2) {
    const float frequency = expf((float)j * (float)(-log(10000.0) / size));
    for (int i = 0; i < rows; i++) {
      const float angle = s->src[0].data[(ptrdiff_t)i * s->src[0].row] * frequency;
      float *y = s->out.data + (ptrdiff_t)i * s->out.row + j;
      y[0] = cosf(angle);
      y[1] = sinf(angle);
    }
  }
}

const df_op df_op_rotary_code = {"rotary_code", code_run, NULL, 0};

// src = qkv, code; i = {1 or -1: the other way round}
static void run(const df_step *s, int batch) {
  const int rows = df_rows(s->y, batch), cols = s->y->cols, size = s->src[1].t->cols;
  const float way = (float)s->y->i[0];
  for (int i = 0; i < rows; i++) {
    const float *x = s->src[0].data + (ptrdiff_t)i * s->src[0].row;
    const float *code = s->src[1].data + (ptrdiff_t)i * s->src[1].row;
    float *y = s->out.data + (ptrdiff_t)i * s->out.row;
    for (int at = 0; at < cols / 3 * 2; at += size)
      for (int j = 0; j < size; j += 2) {
        const float a = x[at + j], b = x[at + j + 1], cosine = code[j], sine = way * code[j + 1];
        y[at + j] = a * cosine - b * sine;
        y[at + j + 1] = a * sine + b * cosine;
      }
    for (int j = cols / 3 * 2; j < cols; j++) y[j] = x[j];
  }
}

static df_tensor *rotary(df_tensor *x, df_tensor *code, int way) {
  df_tensor *y = x ? df_tensor_new(x->graph, &df_op_rotary, x->rows, x->cols, x->batched,
                                   (df_tensor *[]){x, code}, 2)
                   : NULL;
  if (y) y->i[0] = way;
  return y;
}

static void derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  if (df_gradient_wanted(g, y->src[0]))
    df_gradient_add(g, y->src[0], rotary(dy, y->src[1], -y->i[0]));
}

const df_op df_op_rotary = {"rotary", run, derive, 1};

// One for all layers
static df_tensor *code_of(df_tensor *position, int size) {
  df_graph *g = position->graph;
  for (int i = 0; i < g->count; i++) {
    df_tensor *t = g->tensors[i];
    if (t->op == &df_op_rotary_code && t->src[0] == position && t->cols == size) return t;
  }
  return df_tensor_new(g, &df_op_rotary_code, position->rows, size, position->batched, &position,
                       1);
}

df_tensor *df_rotary(df_tensor *qkv, df_tensor *position, int heads) {
  if (!qkv || !position) return NULL;
  char a[48], b[48];
  if (heads < 1 || qkv->cols % (6 * heads))
    return df_graph_fail(qkv->graph, DF_BAD_SHAPE,
                         "rotary: expected columns for queries, keys and values of %d heads of an "
                         "even size, found %s",
                         heads, df_shape(qkv, a));
  if (position->cols != 1 || position->rows != qkv->rows || position->batched != qkv->batched)
    return df_graph_fail(qkv->graph, DF_BAD_SHAPE,
                         "rotary: expected a position for each row of %s, found %s",
                         df_shape(qkv, a), df_shape(position, b));
  df_tensor *code = code_of(position, qkv->cols / 3 / heads);
  return code ? rotary(qkv, code, 1) : NULL;
}
