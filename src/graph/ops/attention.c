// Attention: of all rows of a member of the batch to each other, or of single rows to what is kept of their sequence. Who
// sees whom is told here, in runs of rows of which each sees as much as the one before, or one more.
#include <string.h>

#include "graph/internal.h"

// Rows of a member in such runs: one, or the clean ones and the noised ones. src = qkv, keys transposed;
// i = {heads, attend, columns of a head}
static int runs_of(const df_step *s, int b, df_query run[2]) {
  const int heads = s->y->i[0], size = s->y->i[2], rows = s->y->rows, cols = heads * size;
  const ptrdiff_t row = s->src[0].row, keys_row = s->src[1].row;
  const float *qkv = s->src[0].data + b * rows * row;
  run[0] = (df_query){.rows = rows,
                      .heads = heads,
                      .size = size,
                      .more = 1,
                      .q = qkv,
                      .q_row = row,
                      .keys = s->src[1].data + b * cols * keys_row,
                      .keys_row = keys_row,
                      .values = qkv + 2 * cols,
                      .values_row = row};
  switch ((df_attend)s->y->i[1]) {
  case DF_ATTEND_PAST: break;
  case DF_ATTEND_ALL:
    run[0].seen = rows;
    run[0].more = 0;
    break;
  case DF_ATTEND_CLEAN:
    run[0].rows = rows / 2;
    run[1] = run[0];
    run[1].self = rows / 2;
    run[1].q += rows / 2 * row;
    return 2;
  }
  return 1;
}

static void run(const df_step *s, int batch) {
  const int rows = s->y->rows, members = df_rows(s->y, batch) / rows;
  for (int b = 0; b < members; b++) {
    df_query part[2];
    for (int i = 0, n = runs_of(s, b, part); i < n; i++) {
      part[i].y = s->out.data + (b * rows + part[i].self) * (ptrdiff_t)s->out.row;
      part[i].y_row = s->out.row;
      s->kernels->attention(&part[i]);
    }
  }
}

// src = qkv, keys and values transposed, dy; y (R,3C). There is no second derivative.
static void grad_run(const df_step *s, int batch) {
  const int rows = s->y->rows, cols = s->y->cols / 3, members = df_rows(s->y, batch) / rows;
  const ptrdiff_t d_row = s->out.row, dy_row = s->src[3].row;
  for (int b = 0; b < members; b++) {
    df_query part[2];
    float *d = s->out.data + b * rows * d_row;
    memset(d, 0, (size_t)rows * (size_t)d_row * sizeof *d);
    for (int i = 0, n = runs_of(s, b, part); i < n; i++)
      s->kernels->attention_grad(
          &part[i], &(df_query_grad){.keys = part[i].values - cols,
                                     .values = s->src[2].data + b * cols * part[i].keys_row,
                                     .dy = s->src[3].data + (b * rows + part[i].self) * dy_row,
                                     .dy_row = dy_row,
                                     .dq = d + part[i].self * d_row,
                                     .dk = d + cols,
                                     .dv = d + 2 * cols,
                                     .d_row = d_row});
  }
}

// Columns begin .. begin + cols - 1 of x, transposed, with rows of full vectors
static df_tensor *turned(df_tensor *x, int begin, int cols) {
  df_tensor *part = df_columns(x, begin, cols);
  if (!part) return NULL;
  return df_tensor_new(x->graph, &df_op_transpose, cols, df_keys_row(x->rows), x->batched, &part,
                       1);
}

static void copy_attributes(df_tensor *y, const df_tensor *from) {
  if (y) memcpy(y->i, from->i, sizeof y->i);
}

static void derive(df_tensor *y, df_tensor *dy, df_gradients *g) {
  df_tensor *qkv = y->src[0], *values = turned(qkv, 2 * y->cols, y->cols);
  if (!values || !dy) return;
  df_tensor *d = df_tensor_new(y->graph, &df_op_attention_grad, qkv->rows, qkv->cols, qkv->batched,
                               (df_tensor *[]){qkv, y->src[1], values, dy}, 4);
  copy_attributes(d, y);
  df_gradient_add(g, qkv, d); // all of it: the transposed keys are columns of qkv too
}

const df_op df_op_attention = {"attention", run, derive, 0};
const df_op df_op_attention_grad = {"attention_grad", grad_run, NULL, 0};

static bool heads_fit(df_tensor *qkv, int heads) {
  if (heads >= 1 && qkv->cols % 3 == 0 && qkv->cols / 3 % heads == 0) return true;
  char text[48];
  df_graph_fail(
      qkv->graph, DF_BAD_SHAPE,
      "attention: expected columns for queries, keys and values of %d heads each, found %s", heads,
      df_shape(qkv, text));
  return false;
}

df_tensor *df_attention(df_tensor *qkv, int heads, df_attend attend) {
  if (!qkv || !heads_fit(qkv, heads)) return NULL;
  char text[48];
  if (attend == DF_ATTEND_CLEAN && qkv->rows % 2)
    return df_graph_fail(qkv->graph, DF_BAD_SHAPE,
                         "attention: expected as many noised rows as clean ones, found %s",
                         df_shape(qkv, text));
  const int cols = qkv->cols / 3;
  df_tensor *keys = turned(qkv, cols, cols);
  if (!keys) return NULL;
  df_tensor *y = df_tensor_new(qkv->graph, &df_op_attention, qkv->rows, cols, qkv->batched,
                               (df_tensor *[]){qkv, keys}, 2);
  if (y) y->i[0] = heads, y->i[1] = attend, y->i[2] = cols / heads;
  return y;
}

// Row i of place, and where its sequence is kept
typedef struct place {
  int self, seen;
  float *keys, *values;
} place;

static place place_of(const df_step *s, int i) {
  const float *p = s->src[1].data + (ptrdiff_t)i * s->src[1].row;
  float *keys = s->src[2].data + (ptrdiff_t)p[0] * s->src[2].row;
  return (place){(int)p[1], (int)p[2], keys,
                 keys + (ptrdiff_t)s->y->cols * df_keys_row(s->y->i[1])};
}

// src = qkv, place, memory; i = {heads, window}
static void kept_run(const df_step *s, int batch) {
  const int heads = s->y->i[0], cols = s->y->cols, rows = df_rows(s->y, batch);
  const ptrdiff_t q_row = s->src[0].row, keys_row = df_keys_row(s->y->i[1]);
  for (int i = 0; i < rows; i++) {
    const place to = place_of(s, i);
    const float *k = s->src[0].data + i * q_row + cols;
    for (int c = 0; c < cols; c++) to.keys[c * keys_row + to.self] = k[c];
    memcpy(to.values + (ptrdiff_t)to.self * cols, k + cols, (size_t)cols * sizeof *k);
  }
  // Tokens of one sequence that follow each other are asked together: they read the same keys and values.
  for (int i = 0, n; i < rows; i += n) {
    const place first = place_of(s, i);
    int more = 0;
    for (n = 1; i + n < rows; n++) {
      const place next = place_of(s, i + n);
      if (n == 1) more = next.seen - first.seen;
      if (next.keys != first.keys || next.self != first.self + n || more < 0 || more > 1 ||
          next.seen != first.seen + n * more)
        break;
    }
    s->kernels->attention(&(df_query){.rows = n,
                                      .heads = heads,
                                      .size = cols / heads,
                                      .self = first.self,
                                      .seen = first.seen,
                                      .more = n > 1 ? more : 0,
                                      .q = s->src[0].data + i * q_row,
                                      .q_row = q_row,
                                      .keys = first.keys,
                                      .keys_row = keys_row,
                                      .values = first.values,
                                      .values_row = cols,
                                      .y = s->out.data + (ptrdiff_t)i * s->out.row,
                                      .y_row = s->out.row});
  }
}

const df_op df_op_attention_kept = {"attention_kept", kept_run, NULL, 0};

int df_attention_kept_size(int cols, int window) { return 2 * cols * df_keys_row(window); }

df_tensor *df_attention_kept(df_tensor *qkv, df_tensor *place, df_tensor *memory, int window,
                             int heads) {
  if (!qkv || !place || !memory || !heads_fit(qkv, heads)) return NULL;
  df_graph *g = qkv->graph;
  const int cols = qkv->cols / 3;
  const df_tensor *owner = memory->view ? memory->view : memory;
  char a[48], b[48];
  if (place->rows != qkv->rows || place->batched != qkv->batched || place->cols != 3)
    return df_graph_fail(g, DF_BAD_SHAPE, "attention: expected 3 columns that place %s, found %s",
                         df_shape(qkv, a), df_shape(place, b));
  if (window < 1 || memory->batched || memory->cols != df_attention_kept_size(cols, window))
    return df_graph_fail(
        g, DF_BAD_SHAPE,
        "attention: expected a memory (slots, %d) for %d columns of %d tokens, found %s",
        df_attention_kept_size(cols, window), cols, window, df_shape(memory, a));
  if (owner->op || owner->param || !owner->name)
    return df_graph_fail(g, DF_BAD_ARGUMENT, "attention: expected an input as memory");
  df_tensor *y = df_tensor_new(g, &df_op_attention_kept, qkv->rows, cols, qkv->batched,
                               (df_tensor *[]){qkv, place, memory}, 3);
  if (y) y->i[0] = heads, y->i[1] = window;
  return y;
}
