// Attention: of all rows of a member of the batch to each other, or of single rows to what is kept of their sequence.
// The kernel does one query row; here is who sees whom.
#include <string.h>

#include "graph/internal.h"

// Keys and values that row i sees beside its own: those of rows 0 .. result - 1.
static int seen(df_attend attend, int rows, int i) {
  switch (attend) {
  case DF_ATTEND_PAST: return i;
  case DF_ATTEND_ALL: return rows;
  case DF_ATTEND_CLEAN: return i < rows / 2 ? i : i - rows / 2;
  }
  return 0;
}

// Row i of a member, whose qkv (rows,3C) and transposed keys begin where the arguments say
static df_query query(const df_tensor *y, int i, const float *qkv, ptrdiff_t qkv_row,
                      const float *keys, ptrdiff_t keys_row) {
  return (df_query){.heads = y->i[0],
                    .size = y->i[2],
                    .self = i,
                    .seen = seen((df_attend)y->i[1], y->rows, i),
                    .row = qkv + i * qkv_row,
                    .keys = keys,
                    .keys_row = keys_row,
                    .values = qkv + 2 * y->i[0] * y->i[2],
                    .values_row = qkv_row};
}

// src = qkv, keys transposed; i = {heads, attend, columns of a head}
static void run(const df_step *s, int batch) {
  const df_tensor *y = s->y;
  const ptrdiff_t rows = y->rows, qkv_row = s->src[0].row, keys_row = s->src[1].row;
  const int members = df_rows(y, batch) / y->rows;
  for (int b = 0; b < members; b++)
    for (int i = 0; i < rows; i++) {
      df_query q = query(y, i, s->src[0].data + b * rows * qkv_row, qkv_row,
                         s->src[1].data + b * y->cols * keys_row, keys_row);
      q.y = s->out.data + (b * rows + i) * s->out.row;
      s->kernels->attention(&q);
    }
}

// src = qkv, keys and values transposed, dy. There is no second derivative.
static void grad_run(const df_step *s, int batch) {
  const df_tensor *y = s->y; // (R,3C)
  const ptrdiff_t rows = y->rows, cols = y->cols / 3, turned_row = s->src[1].row;
  const int members = df_rows(y, batch) / y->rows;
  for (int b = 0; b < members; b++) {
    const float *qkv = s->src[0].data + b * rows * s->src[0].row;
    float *d = s->out.data + b * rows * s->out.row;
    memset(d, 0, (size_t)rows * (size_t)s->out.row * sizeof *d);
    for (int i = 0; i < rows; i++) {
      df_query q =
          query(y, i, qkv, s->src[0].row, s->src[1].data + b * cols * turned_row, turned_row);
      s->kernels->attention_grad(&q, s->src[2].data + b * cols * turned_row,
                                 s->src[3].data + (b * rows + i) * s->src[3].row, d, s->out.row);
    }
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

// src = qkv, place, memory; i = {heads, window}
static void kept_run(const df_step *s, int batch) {
  const int cols = s->y->cols, rows = df_rows(s->y, batch), keys_row = df_keys_row(s->y->i[1]);
  const size_t all_keys = (size_t)cols * (size_t)keys_row;
  for (int pass = 0; pass < 2; pass++) // everybody's key and value are stored before anybody looks
    for (int i = 0; i < rows; i++) {
      const float *row = s->src[0].data + (ptrdiff_t)i * s->src[0].row;
      const float *place = s->src[1].data + (ptrdiff_t)i * s->src[1].row;
      const int self = (int)place[1];
      float *keys = s->src[2].data + (ptrdiff_t)place[0] * s->src[2].row;
      float *values = keys + all_keys;
      if (pass == 0) {
        for (int c = 0; c < cols; c++) keys[c * keys_row + self] = row[cols + c];
        memcpy(values + self * cols, row + 2 * cols, (size_t)cols * sizeof *values);
        continue;
      }
      s->kernels->attention(&(df_query){.heads = s->y->i[0],
                                        .size = cols / s->y->i[0],
                                        .self = self,
                                        .seen = (int)place[2],
                                        .row = row,
                                        .keys = keys,
                                        .keys_row = keys_row,
                                        .values = values,
                                        .values_row = cols,
                                        .y = s->out.data + (ptrdiff_t)i * s->out.row});
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
