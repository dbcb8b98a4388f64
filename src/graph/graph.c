#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "graph/internal.h"

df_graph *df_graph_create(void) { return df_alloc(sizeof(df_graph)); }

void df_graph_free(df_graph *g) {
  if (!g) return;
  df_arena_free(&g->arena);
  df_free(g->tensors);
  df_free(g);
}

const df_error *df_graph_error(const df_graph *g) { return &g->error; }

df_tensor *df_graph_fail(df_graph *g, df_status code, const char *format, ...) {
  if (g->error.code) return NULL; // the first failure explains the later ones
  va_list args;
  va_start(args, format);
  vsnprintf(g->error.message, sizeof g->error.message, format, args);
  va_end(args);
  g->error.code = code;
  return NULL;
}

const char *df_shape(const df_tensor *t, char text[48]) {
  if (!t->batched)
    snprintf(text, 48, "(%d, %d)", t->rows, t->cols);
  else if (t->rows == 1)
    snprintf(text, 48, "(B, %d)", t->cols);
  else
    snprintf(text, 48, "(B x %d, %d)", t->rows, t->cols);
  return text;
}

df_tensor *df_tensor_new(df_graph *g, const df_op *op, int rows, int cols, bool batched,
                         df_tensor *const *src, int count) {
  if (rows < 1 || cols < 1)
    return df_graph_fail(g, DF_BAD_SHAPE, "%s: sizes must be positive, found (%d, %d)",
                         op ? op->name : "input", rows, cols);
  if (g->count == g->room) {
    int room = g->room ? 2 * g->room : 256;
    df_tensor **grown = df_realloc(g->tensors, (size_t)room * sizeof *grown);
    if (!grown) return df_graph_fail(g, DF_NO_MEMORY, "no memory for a graph of %d tensors", room);
    g->tensors = grown;
    g->room = room;
  }
  df_tensor *t = df_arena_alloc(&g->arena, sizeof *t);
  if (!t)
    return df_graph_fail(g, DF_NO_MEMORY, "no memory for a graph of %d tensors", g->count + 1);
  *t = (df_tensor){.op = op,
                   .rows = rows,
                   .cols = cols,
                   .batched = batched,
                   .row = cols,
                   .index = g->count,
                   .graph = g};
  for (int i = 0; i < count; i++) {
    t->src[i] = src[i];
    if (src[i] && src[i]->needs_grad && op->derive) t->needs_grad = true;
  }
  return g->tensors[g->count++] = t;
}

static df_tensor *leaf(df_graph *g, const char *name, int rows, int cols, bool batched,
                       bool needs_grad) {
  df_tensor *t = df_tensor_new(g, NULL, rows, cols, batched, NULL, 0);
  if (!t) return NULL;
  t->name = name ? df_arena_print(&g->arena, "%s", name) : NULL;
  t->needs_grad = needs_grad;
  if (name && !t->name)
    return df_graph_fail(g, DF_NO_MEMORY, "no memory for the name of input %s", name);
  return t;
}

df_tensor *df_input(df_graph *g, const char *name, int rows, int cols, bool batched) {
  return leaf(g, name ? name : "input", rows, cols, batched, false);
}

df_tensor *df_input_grad(df_graph *g, const char *name, int rows, int cols, bool batched) {
  return leaf(g, name ? name : "input", rows, cols, batched, true);
}

df_tensor *df_memory(df_graph *g, const char *name, int rows, int cols, float *data) {
  df_tensor *t = df_input(g, name, rows, cols, false);
  if (t) t->memory = data;
  return t;
}

df_tensor *df_constant(df_graph *g, int rows, int cols, bool batched, float value) {
  df_tensor *t = leaf(g, NULL, rows, cols, batched, false);
  if (t) t->f[0] = value;
  return t;
}

df_tensor *df_row_numbers(df_graph *g, int rows, bool batched) {
  df_tensor *t = leaf(g, NULL, rows, 1, batched, false);
  if (t) t->f[1] = 1;
  return t;
}

df_tensor *df_parameter(df_graph *g, const df_param *param) {
  if (!param) return NULL;
  for (int i = 0; i < g->count; i++)
    if (g->tensors[i]->param == param) return g->tensors[i];
  df_tensor *t = df_tensor_new(g, NULL, param->rows, param->cols, false, NULL, 0);
  if (!t) return NULL;
  t->param = param;
  t->name = param->name;
  t->needs_grad = true;
  return t;
}

void df_gradient_add(df_gradients *g, df_tensor *x, df_tensor *dx) {
  if (!df_gradient_wanted(g, x) || !dx) return;
  df_tensor **slot = &g->of[x->index];
  *slot = *slot ? df_add(*slot, dx) : dx;
}

df_status df_gradient_seeded(df_tensor *const *out, df_tensor *const *seed, int outs,
                             df_tensor *const *wrt, df_tensor **grads, int count, df_error *error) {
  for (int i = 0; i < outs; i++)
    if (!out[i] || !seed[i])
      return df_fail(error, DF_BAD_ARGUMENT, "derivative of an output that was not built");
  if (outs < 1) return df_fail(error, DF_BAD_ARGUMENT, "derivative of no output");
  df_graph *g = out[0]->graph;
  int n = g->count; // the derivative's own tensors come behind these
  bool *wanted = df_alloc((size_t)n * sizeof *wanted);
  df_tensor **of = df_alloc((size_t)n * sizeof *of);
  df_status status = DF_OK;
  if (!wanted || !of) {
    status =
        df_fail(error, DF_NO_MEMORY, "no memory for the derivative of a graph of %d tensors", n);
    goto done;
  }
  for (int i = 0; i < count; i++)
    if (wrt[i]) wanted[wrt[i]->index] = true;
  for (int i = 0; i < n; i++) {
    const df_tensor *t = g->tensors[i];
    if (t->op && t->op->derive)
      for (int j = 0; j < DF_MAX_SOURCES; j++)
        if (t->src[j] && wanted[t->src[j]->index]) wanted[i] = true;
  }
  df_gradients gradients = {g, of, wanted};
  for (int i = 0; i < outs; i++) {
    if (!df_same_shape(out[i], seed[i])) {
      char a[48], b[48];
      status = df_fail(error, DF_BAD_SHAPE, "seed of a derivative: expected %s, found %s",
                       df_shape(out[i], a), df_shape(seed[i], b));
      goto done;
    }
    df_gradient_add(&gradients, out[i], seed[i]);
  }
  for (int i = n - 1; i >= 0; i--) {
    df_tensor *t = g->tensors[i];
    if (of[i] && t->op && t->op->derive) t->op->derive(t, of[i], &gradients);
  }
  for (int i = 0; i < count; i++) grads[i] = wrt[i] ? of[wrt[i]->index] : NULL;
  if (g->error.code) status = df_fail(error, g->error.code, "%s", g->error.message);
done:
  df_free(wanted);
  df_free(of);
  return status;
}

df_status df_gradient(df_tensor *scalar, df_tensor *const *wrt, df_tensor **grads, int count,
                      df_error *error) {
  if (!scalar) return df_fail(error, DF_BAD_ARGUMENT, "derivative of an output that was not built");
  if (scalar->rows != 1 || scalar->cols != 1 || scalar->batched) {
    char text[48];
    return df_fail(error, DF_BAD_SHAPE, "derivative: expected a scalar (1, 1), found %s",
                   df_shape(scalar, text));
  }
  df_tensor *one = df_constant(scalar->graph, 1, 1, false, 1);
  if (!one) return df_fail(error, DF_NO_MEMORY, "no memory for the derivative");
  return df_gradient_seeded(&scalar, &one, 1, wrt, grads, count, error);
}
