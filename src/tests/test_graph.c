// Graph and plan. Every operation stands once in the table below, as a small graph; it is run with every set of
// kernels, for several batches and odd sizes, and compared with the plain reference; its derivative is compared with
// finite differences along a random direction.
#include <stdlib.h>

#include "base/random.h"
#include "graph/packed.h"
#include "nn/nn.h"
#include "tests/test.h"

enum { MAX_INPUTS = 4 };

// A case builds a graph from inputs of its own choice and returns its result; `in` gets the inputs.
typedef struct op_case {
  const char *name;
  df_tensor *(*build)(df_graph *g, df_tensor **in, int rows, int cols);
  bool smooth;   // has a derivative
  bool positive; // needs inputs above 0
} op_case;

static df_tensor *full(df_graph *g, df_tensor **in, int i, int rows, int cols) {
  char name[8] = {(char)('a' + i)};
  return in[i] = df_input_grad(g, name, rows, cols, true);
}
static df_tensor *fixed(df_graph *g, df_tensor **in, int i, int rows, int cols) {
  char name[8] = {(char)('a' + i)};
  return in[i] = df_input_grad(g, name, rows, cols, false);
}

#define CASE(name) static df_tensor *build_##name(df_graph *g, df_tensor **in, int rows, int cols)
CASE(matmul) {
  return df_matmul_op(full(g, in, 0, rows, cols), fixed(g, in, 1, cols, 5), false, false);
}
CASE(matmul_b_transposed) {
  return df_matmul_op(full(g, in, 0, rows, cols), fixed(g, in, 1, 7, cols), false, true);
}
CASE(matmul_over_the_batch) {
  return df_matmul_op(full(g, in, 0, rows, cols), full(g, in, 1, rows, 3), true, false);
}
CASE(linear) {
  return df_linear_op(full(g, in, 0, rows, cols), fixed(g, in, 1, 6, cols), fixed(g, in, 2, 1, 6));
}
CASE(linear_gelu_residual) {
  df_tensor *x = full(g, in, 0, rows, cols);
  return df_unary_op(
      DF_GELU, 0, 0,
      df_add(x, df_linear_op(x, fixed(g, in, 1, cols, cols), fixed(g, in, 2, 1, cols))));
}
CASE(two_products_added) {
  df_tensor *x = full(g, in, 0, rows, cols);
  return df_add(df_linear_op(x, fixed(g, in, 1, 4, cols), NULL),
                df_linear_op(x, fixed(g, in, 2, 4, cols), NULL));
}
CASE(affine) { return df_unary_op(DF_AFFINE, -1.5f, 0.25f, full(g, in, 0, rows, cols)); }
CASE(gelu) { return df_unary_op(DF_GELU, 0, 0, full(g, in, 0, rows, cols)); }
CASE(silu) { return df_unary_op(DF_SILU, 0, 0, full(g, in, 0, rows, cols)); }
CASE(relu) { return df_unary_op(DF_RELU, 0, 0, full(g, in, 0, rows, cols)); }
CASE(elu) { return df_unary_op(DF_ELU, 0, 0, full(g, in, 0, rows, cols)); }
CASE(sigmoid) { return df_unary_op(DF_SIGMOID, 0, 0, full(g, in, 0, rows, cols)); }
CASE(tanh) { return df_unary_op(DF_TANH, 0, 0, full(g, in, 0, rows, cols)); }
CASE(exp) { return df_unary_op(DF_EXP, 0, 0, full(g, in, 0, rows, cols)); }
CASE(softplus) { return df_unary_op(DF_SOFTPLUS, 0, 0, full(g, in, 0, rows, cols)); }
CASE(square) { return df_unary_op(DF_SQUARE, 0, 0, full(g, in, 0, rows, cols)); }
CASE(sqrt) { return df_unary_op(DF_SQRT, 0, 0, full(g, in, 0, rows, cols)); }
CASE(clamp) { return df_unary_op(DF_CLAMP, -0.5f, 0.7f, full(g, in, 0, rows, cols)); }
CASE(add) { return df_add(full(g, in, 0, rows, cols), full(g, in, 1, rows, cols)); }
CASE(sub_row) { return df_sub(full(g, in, 0, rows, cols), fixed(g, in, 1, 1, cols)); }
CASE(mul_column) { return df_mul(full(g, in, 0, rows, 1), full(g, in, 1, rows, cols)); }
CASE(mul_scalar) { return df_mul(fixed(g, in, 0, 1, 1), full(g, in, 1, rows, cols)); }
CASE(mul_outer) { return df_mul(full(g, in, 0, rows, 1), fixed(g, in, 1, 1, cols)); }
CASE(div) { return df_div(full(g, in, 0, rows, cols), full(g, in, 1, rows, cols)); }
CASE(div_column) { return df_div(full(g, in, 0, rows, cols), full(g, in, 1, rows, 1)); }
CASE(same_twice) {
  df_tensor *x = full(g, in, 0, rows, cols);
  return df_mul(x, df_add(x, x));
}
CASE(sum_rows) { return df_sum_rows(full(g, in, 0, rows, cols)); }
CASE(sum_cols) { return df_sum_cols(full(g, in, 0, rows, cols)); }
CASE(sum_all) { return df_sum_all(full(g, in, 0, rows, cols)); }
CASE(broadcast_row) { return df_broadcast(fixed(g, in, 0, 1, cols), rows, cols, true); }
CASE(broadcast_column) { return df_broadcast(full(g, in, 0, rows, 1), rows, cols, true); }
CASE(columns) {
  df_tensor *x = full(g, in, 0, rows, cols + 3);
  return df_mul(df_columns(x, 1, cols), df_columns(x, 3, cols));
}
CASE(columns_as_result) { return df_columns(full(g, in, 0, rows, cols + 2), 1, cols); }
CASE(concat) {
  df_tensor *a = full(g, in, 0, rows, cols), *b = full(g, in, 1, rows, 1),
            *c = full(g, in, 2, rows, 2);
  return df_concat((df_tensor *[]){a, NULL, b, c, a, df_columns(a, 0, 1)}, 6);
}
CASE(concat_of_many) { // more than two levels of a tree, and gaps
  df_tensor *part[81] = {0}, *x = full(g, in, 0, rows, cols + 1);
  for (int i = 0; i < 81; i++)
    if (i % 7 != 3 && i / 10 != 2) part[i] = df_columns(x, i % cols, 1 + i % 2);
  return df_concat(part, 81);
}
CASE(reshape) { return df_reshape(full(g, in, 0, rows, 3 * cols), 3, rows * cols); }
CASE(reshape_of_columns) {
  return df_reshape(df_columns(full(g, in, 0, rows, cols + 2), 1, cols), rows * cols, 1);
}
CASE(columns_of_a_reshape) { // in two shapes and places, one of them in the middle of a row
  df_tensor *x = df_scale(full(g, in, 0, rows, 2 * cols), 1.5f);
  df_tensor *y = df_reshape(x, 2 * rows, cols), *z = df_reshape(x, 2 * rows * cols, 1);
  y = df_reshape(df_columns(y, cols / 2, 1), rows, 2);
  return df_mul(df_columns(df_reshape(df_columns(z, 0, 1), rows, 2 * cols), cols - 1, 2), y);
}
CASE(reshape_as_result) { return df_reshape(full(g, in, 0, rows, 2 * cols), 2 * rows, cols); }
CASE(product_with_a_reshape) { // packed from columns of rows that are not those of its source
  df_tensor *w = df_columns(df_reshape(fixed(g, in, 1, 2, 4 * cols), 8, cols), 0, cols - cols / 2);
  return df_matmul_op(df_columns(full(g, in, 0, rows, cols), cols / 2, cols - cols / 2), w, false,
                      true);
}
CASE(transpose) {
  df_tensor *x = df_columns(full(g, in, 0, rows, cols + 1), 1, cols);
  return df_transpose(df_mul(x, x));
}
CASE(row_numbers) { return df_mul(df_row_numbers(g, rows, true), full(g, in, 0, rows, cols)); }
CASE(attention_to_the_past) {
  return df_attention(full(g, in, 0, 2 * rows, 3 * 2 * cols), 2, DF_ATTEND_PAST);
}
CASE(attention_to_all) {
  return df_attention(full(g, in, 0, 2 * rows, 3 * cols), cols, DF_ATTEND_ALL);
}
CASE(attention_to_clean_rows) {
  df_tensor *x = df_columns(full(g, in, 0, 4 * rows, 3 * cols + 1), 1, 3 * cols); // a view
  return df_attention(x, 1, DF_ATTEND_CLEAN);
}
CASE(gru) {
  df_tensor *gi = full(g, in, 0, rows, 3 * cols), *gh = full(g, in, 1, rows, 3 * cols);
  return df_gru_op(gi, gh, full(g, in, 2, rows, cols));
}
CASE(layer_norm) {
  df_tensor *x = full(g, in, 0, rows, cols);
  return df_layer_norm(x, fixed(g, in, 1, 1, cols), fixed(g, in, 2, 1, cols), 0.1f);
}
CASE(layer_norm_with_a_shift_only) {
  return df_layer_norm(full(g, in, 0, rows, cols), NULL, fixed(g, in, 1, 1, cols), 0.1f);
}
CASE(layer_norm_of_columns) { // a view
  return df_layer_norm(df_columns(full(g, in, 0, rows, cols + 4), 2, cols), NULL, NULL, 0.1f);
}
CASE(group_norm) {
  df_tensor *x = full(g, in, 0, rows, 3 * cols);
  return df_group_norm(x, 3, fixed(g, in, 1, 1, 3 * cols), fixed(g, in, 2, 1, 3 * cols), 0.1f);
}
CASE(rms_norm) { return df_rms_norm(full(g, in, 0, rows, cols), fixed(g, in, 1, 1, cols), 1e-3f); }
CASE(softmax) { return df_softmax(full(g, in, 0, rows, cols), 1.5f); }
CASE(attention_to_inputs) { // one head: queries of the batch, keys and values of everybody
  df_tensor *q = full(g, in, 0, rows, cols), *k = fixed(g, in, 1, 7, cols);
  df_tensor *scores = df_add(df_matmul_op(q, k, false, true), fixed(g, in, 2, 1, 7));
  return df_matmul_op(df_softmax(scores, 0.7f), fixed(g, in, 3, 7, 3), false, false);
}
CASE(block_with_layer_norm) { // norm(x + W2 gelu(W1 x)), as in a transformer
  df_tensor *x = full(g, in, 0, rows, cols);
  df_tensor *h = df_linear_op(x, fixed(g, in, 1, 9, cols), NULL);
  h = df_linear_op(df_unary_op(DF_GELU, 0, 0, h), fixed(g, in, 2, cols, 9), NULL);
  return df_layer_norm(df_add(x, h), fixed(g, in, 3, 1, cols), NULL, 0.1f);
}
CASE(position_code) {
  (void)cols;
  return df_position_code(df_input(g, "t", rows, 1, true), 6);
}
CASE(stop_gradient) {
  df_tensor *x = full(g, in, 0, rows, cols);
  return df_add(df_scale(x, 2), df_stop_gradient(df_scale(df_stop_gradient(x), 0)));
}

#define ROW(name, smooth, positive)                                                                \
  { #name, build_##name, smooth, positive }
static const op_case cases[] = {
    ROW(matmul, 1, 0),
    ROW(matmul_b_transposed, 1, 0),
    ROW(matmul_over_the_batch, 1, 0),
    ROW(linear, 1, 0),
    ROW(linear_gelu_residual, 1, 0),
    ROW(two_products_added, 1, 0),
    ROW(affine, 1, 0),
    ROW(gelu, 1, 0),
    ROW(silu, 1, 0),
    ROW(relu, 1, 0),
    ROW(elu, 1, 0),
    ROW(sigmoid, 1, 0),
    ROW(tanh, 1, 0),
    ROW(exp, 1, 0),
    ROW(softplus, 1, 0),
    ROW(square, 1, 0),
    ROW(sqrt, 1, 1),
    ROW(clamp, 1, 0),
    ROW(add, 1, 0),
    ROW(sub_row, 1, 0),
    ROW(mul_column, 1, 0),
    ROW(mul_scalar, 1, 0),
    ROW(mul_outer, 1, 0),
    ROW(div, 1, 1),
    ROW(div_column, 1, 1),
    ROW(same_twice, 1, 0),
    ROW(sum_rows, 1, 0),
    ROW(sum_cols, 1, 0),
    ROW(sum_all, 1, 0),
    ROW(broadcast_row, 1, 0),
    ROW(broadcast_column, 1, 0),
    ROW(columns, 1, 0),
    ROW(columns_as_result, 1, 0),
    ROW(concat, 1, 0),
    ROW(concat_of_many, 1, 0),
    ROW(reshape, 1, 0),
    ROW(reshape_of_columns, 1, 0),
    ROW(columns_of_a_reshape, 1, 0),
    ROW(reshape_as_result, 1, 0),
    ROW(product_with_a_reshape, 1, 0),
    ROW(transpose, 1, 0),
    ROW(row_numbers, 1, 0),
    ROW(attention_to_the_past, 1, 0),
    ROW(attention_to_all, 1, 0),
    ROW(attention_to_clean_rows, 1, 0),
    ROW(gru, 1, 0),
    ROW(layer_norm, 1, 0),
    ROW(layer_norm_with_a_shift_only, 1, 0),
    ROW(layer_norm_of_columns, 1, 0),
    ROW(group_norm, 1, 0),
    ROW(rms_norm, 1, 0),
    ROW(softmax, 1, 0),
    ROW(attention_to_inputs, 1, 0),
    ROW(block_with_layer_norm, 1, 0),
    ROW(position_code, 0, 0),
    ROW(stop_gradient, 1, 0),
};

static int rows_of(const df_tensor *t, int batch) { return t->batched ? t->rows * batch : t->rows; }
static int size_of(const df_tensor *t, int batch) { return rows_of(t, batch) * t->cols; }

// Deterministic values; away from 0, where relu, elu and clamp have their corners, by at least 0.05.
static void fill(float *x, int n, uint32_t what, bool positive) {
  df_random at = {.seed = 5, .token = what, .purpose = DF_RANDOM_TEST};
  df_random_uniform(&at, n, x);
  for (int i = 0; i < n; i++)
    x[i] = positive ? 0.5f + x[i]
                    : (x[i] < 0.5f ? -0.05f - 0.8f * x[i] : 0.05f + 1.2f * (x[i] - 0.5f));
}

static float *run_case(const op_case *c, const df_kernels *kernels, int batch, int largest,
                       int rows, int cols, int *n) {
  df_tensor *in[MAX_INPUTS] = {0};
  df_graph *g = df_graph_create();
  df_tensor *y = c->build(g, in, rows, cols);
  df_plan *plan = NULL;
  float *copy = NULL;
  if (CHECK_OK(df_plan_create(&plan, g, &y, 1,
                              &(df_plan_options){.batch = largest, .kernels = kernels},
                              &test_error))) {
    for (int i = 0; i < MAX_INPUTS; i++)
      if (in[i]) fill(df_plan_data(plan, in[i]), size_of(in[i], batch), (uint32_t)i, c->positive);
    for (int again = 0; again < 2; again++) // a second run must not be disturbed by the first
      CHECK_OK(df_plan_run(plan, batch, &test_error));
    *n = size_of(y, batch);
    copy = df_alloc((size_t)*n * sizeof *copy);
    memcpy(copy, df_plan_data(plan, y), (size_t)*n * sizeof *copy);
  }
  df_plan_free(plan);
  df_graph_free(g);
  return copy;
}

static const int shapes[][4] = {{1, 1, 1, 1},  {1, 4, 1, 3}, {3, 3, 2, 5},
                                {2, 7, 1, 17}, {5, 6, 3, 8}, {19, 19, 1, 33}};

TEST(every_operation_equals_the_reference_for_every_kernel_table_and_batch) {
  for (int i = 0; i < COUNT(cases); i++)
    for (int s = 0; s < COUNT(shapes); s++) {
      const int *shape = shapes[s];
      int n = 0, m = 0;
      float *want =
          run_case(&cases[i], df_kernels_reference(), shape[0], shape[1], shape[2], shape[3], &n);
      for (int k = 0; df_kernels_list(k); k++) {
        DURING("%s, %s kernels, batch %d of %d, rows %d, cols %d", cases[i].name,
               df_kernels_list(k)->name, shape[0], shape[1], shape[2], shape[3]);
        float *got =
            run_case(&cases[i], df_kernels_list(k), shape[0], shape[1], shape[2], shape[3], &m);
        if (want && got && CHECK_INT(m, n)) CHECK_FLOATS(got, want, n, 2e-5);
        df_free(got);
      }
      df_free(want);
    }
}

// d <r, f(a + e d)> / de by the graph and by central differences in the reference kernels.
TEST(every_derivative_agrees_with_finite_differences) {
  for (int i = 0; i < COUNT(cases); i++) {
    if (!cases[i].smooth) continue;
    int batch = 3, rows = 2, cols = 5;
    df_tensor *in[MAX_INPUTS] = {0}, *grad[MAX_INPUTS] = {0};
    df_graph *g = df_graph_create();
    df_tensor *y = cases[i].build(g, in, rows, cols);
    df_tensor *r = df_input(g, "r", y->rows, y->cols, y->batched);
    df_tensor *J = df_sum_all(df_mul(y, r));
    CHECK_OK(df_gradient(J, in, grad, MAX_INPUTS, &test_error));
    df_tensor *outputs[MAX_INPUTS + 1] = {J};
    int outs = 1;
    for (int j = 0; j < MAX_INPUTS; j++)
      if (grad[j]) outputs[outs++] = grad[j];
    df_plan *plan = NULL;
    if (CHECK_OK(df_plan_create(
            &plan, g, outputs, outs,
            &(df_plan_options){.batch = batch, .kernels = df_kernels_reference()}, &test_error))) {
      fill(df_plan_data(plan, r), size_of(r, batch), 90, false);
      for (int j = 0; j < MAX_INPUTS; j++)
        if (in[j])
          fill(df_plan_data(plan, in[j]), size_of(in[j], batch), (uint32_t)j, cases[i].positive);
      for (int j = 0; j < MAX_INPUTS; j++) {
        DURING("%s, input %d", cases[i].name, j);
        if (!in[j] || !CHECK(grad[j] != NULL)) continue;
        int n = size_of(in[j], batch);
        float *x = df_plan_data(plan, in[j]), d[512], x0[512], e = 4e-3f;
        if (!CHECK(n <= 512)) continue;
        fill(d, n, 91 + (uint32_t)j, false);
        memcpy(x0, x, (size_t)n * sizeof *x);
        CHECK_OK(df_plan_run(plan, batch, &test_error));
        double analytic = 0, J2[2];
        for (int k = 0; k < n; k++) analytic += (double)d[k] * df_plan_data(plan, grad[j])[k];
        for (int side = 0; side < 2; side++) {
          for (int k = 0; k < n; k++) x[k] = x0[k] + (side ? -e : e) * d[k];
          CHECK_OK(df_plan_run(plan, batch, &test_error));
          J2[side] = df_plan_data(plan, J)[0];
        }
        memcpy(x, x0, (size_t)n * sizeof *x);
        double numeric = (J2[0] - J2[1]) / (2 * (double)e);
        CHECK_NEAR(analytic, numeric, 2e-3 + 2e-3 * fabs(numeric));
      }
    }
    df_plan_free(plan);
    df_graph_free(g);
  }
}

TEST(rows_of_a_batch_do_not_depend_on_the_batch) {
  for (int i = 0; i < COUNT(cases); i++) {
    df_tensor *in[MAX_INPUTS] = {0};
    df_graph *g = df_graph_create();
    df_tensor *y = cases[i].build(g, in, 1, 13);
    df_plan *plan = NULL;
    if (y->batched &&
        CHECK_OK(df_plan_create(&plan, g, &y, 1, &(df_plan_options){.batch = 9}, &test_error))) {
      float all[9 * 256], keep[9 * 256];
      const int size = size_of(y, 1);
      CHECK(size <= 256);
      for (int j = 0; j < MAX_INPUTS; j++)
        if (in[j])
          fill(df_plan_data(plan, in[j]), size_of(in[j], 9), (uint32_t)j, cases[i].positive);
      CHECK_OK(df_plan_run(plan, 9, &test_error));
      memcpy(all, df_plan_data(plan, y), (size_t)size_of(y, 9) * sizeof *all);
      for (int b = 8; b >= 0; b--) {
        DURING("%s, row %d", cases[i].name, b);
        for (int j = 0; j < MAX_INPUTS; j++) {
          if (!in[j] || !in[j]->batched) continue;
          float *x = df_plan_data(plan, in[j]);
          int n = size_of(in[j], 1);
          if (!CHECK(n <= 256)) continue;
          fill(keep, 9 * n, (uint32_t)j, cases[i].positive);
          memcpy(x, keep + b * n, (size_t)n * sizeof *x);
        }
        CHECK_OK(df_plan_run(plan, 1, &test_error));
        CHECK(!memcmp(df_plan_data(plan, y), all + b * size, (size_t)size * sizeof *all));
      }
    }
    df_plan_free(plan);
    df_graph_free(g);
  }
}

// ---- Attention -------------------------------------------------------------------------------------

static bool sees(df_attend attend, int rows, int i, int j) {
  const int T = rows / 2;
  switch (attend) {
  case DF_ATTEND_PAST: return j <= i;
  case DF_ATTEND_ALL: return true;
  case DF_ATTEND_CLEAN: return j == i || j < (i < T ? i : i - T);
  }
  return false;
}

// The formula, in float64
static void plain_attention(int rows, int heads, int size, df_attend attend, const float *qkv,
                            float *y) {
  const int cols = heads * size;
  for (int h = 0; h < heads; h++)
    for (int i = 0; i < rows; i++) {
      double weight[256], sum = 0;
      for (int j = 0; j < rows; j++) {
        double score = 0;
        for (int c = h * size; c < (h + 1) * size; c++)
          score += (double)qkv[i * 3 * cols + c] * qkv[j * 3 * cols + cols + c];
        sum += weight[j] = sees(attend, rows, i, j) ? exp(score / sqrt(size)) : 0;
      }
      for (int c = h * size; c < (h + 1) * size; c++) {
        double v = 0;
        for (int j = 0; j < rows; j++) v += weight[j] / sum * qkv[j * 3 * cols + 2 * cols + c];
        y[i * cols + c] = (float)v;
      }
    }
}

enum { LONGEST = 140, WIDEST = 5 * 32 };

TEST(attention_is_what_its_formula_says) {
  static const int sizes[] = {1, 3, 12, 32}, lengths[] = {1, 2, 5, 17, 33, 63, 64, 65, 70};
  static float want[LONGEST * WIDEST];
  for (int t = 0; df_kernels_list(t); t++)
    for (int heads = 1; heads <= 5; heads++)
      for (int s = 0; s < COUNT(sizes); s++)
        for (int attend = DF_ATTEND_PAST; attend <= DF_ATTEND_CLEAN; attend++) {
          // every length with every kind, and every size with every length, some time
          const int T = lengths[(heads + 5 * s + 2 * attend) % COUNT(lengths)];
          const int rows = attend == DF_ATTEND_CLEAN ? 2 * T : T, cols = heads * sizes[s];
          DURING("%s, %d heads of %d, %d rows, kind %d", df_kernels_list(t)->name, heads, sizes[s],
                 rows, attend);
          df_graph *g = df_graph_create();
          df_tensor *x = df_input(g, "x", rows, 3 * cols, true);
          df_tensor *y = df_attention(x, heads, (df_attend)attend);
          df_plan *plan = NULL;
          if (CHECK_OK(df_plan_create(&plan, g, &y, 1,
                                      &(df_plan_options){.batch = 2, .kernels = df_kernels_list(t)},
                                      &test_error))) {
            float *in = df_plan_data(plan, x);
            fill(in, size_of(x, 2), (uint32_t)T, false);
            for (int i = 0; i < size_of(x, 2); i++) in[i] *= 4; // weights that differ
            CHECK_OK(df_plan_run(plan, 2, &test_error));
            for (int b = 0; b < 2; b++) {
              plain_attention(rows, heads, sizes[s], (df_attend)attend, in + b * size_of(x, 1),
                              want);
              CHECK_FLOATS(df_plan_data(plan, y) + b * rows * cols, want, rows * cols, 2e-5);
            }
          }
          df_plan_free(plan);
          df_graph_free(g);
        }
}

// Two sequences of T tokens, in slots 2 and 0 of 3, come in runs of some tokens each, in the order of time; or, where
// all see all, once more when everybody is there. Two layers share the memory: columns of one input.
TEST(attention_to_what_is_kept_has_the_bits_of_attention) {
  static const struct {
    int heads, size, T, window;
    bool all;
  } runs[] = {{1, 1, 1, 1, false},    {2, 3, 5, 5, false},   {3, 12, 17, 20, false},
              {4, 32, 70, 70, false}, {5, 3, 65, 99, false}, {2, 12, 33, 33, true},
              {4, 32, 70, 77, true}};
  enum { SLOTS = 3, BATCH = 6 };
  for (int t = 0; df_kernels_list(t); t++)
    for (int c = 0; c < COUNT(runs); c++) {
      const int heads = runs[c].heads, cols = heads * runs[c].size, T = runs[c].T;
      const bool all = runs[c].all;
      DURING("%s, case %d", df_kernels_list(t)->name, c);
      df_graph *g = df_graph_create();
      const int kept = df_attention_kept_size(cols, runs[c].window);
      df_tensor *x = df_input(g, "x", T, 3 * cols, true),
                *row = df_input(g, "row", 1, 3 * cols, true);
      df_tensor *place = df_input(g, "place", 1, 3, true);
      df_tensor *memory = df_input(g, "memory", SLOTS, 2 * kept, false);
      df_tensor *want = df_attention(x, heads, all ? DF_ATTEND_ALL : DF_ATTEND_PAST);
      df_tensor *y[2];
      for (int layer = 0; layer < 2; layer++)
        y[layer] = df_attention_kept(layer ? df_scale(row, 2) : row, place,
                                     df_columns(memory, layer * kept, kept), runs[c].window, heads);
      df_plan *plan = NULL, *whole = NULL;
      df_plan_options options = {.batch = BATCH, .kernels = df_kernels_list(t)};
      if (CHECK_OK(df_plan_create(&plan, g, y, 2, &options, &test_error)) &&
          CHECK_OK(df_plan_create(&whole, g, &want, 1, &options, &test_error))) {
        float *in = df_plan_data(whole, x), *kept_rows = df_plan_data(plan, memory);
        for (int i = 0; i < SLOTS * 2 * kept; i++) kept_rows[i] = NAN; // not written: not read
        fill(in, size_of(x, 2), 7, false);
        CHECK_OK(df_plan_run(whole, 2, &test_error));
        for (int pass = 0; pass <= all; pass++)
          for (int first = 0, n; first < 2 * T; first += n) { // tokens of both, by turns
            n = 1 + (first + c) % BATCH;
            if (n > 2 * T - first) n = 2 * T - first;
            for (int i = 0; i < n; i++) {
              const int b = (first + i) % 2, at = (first + i) / 2;
              memcpy(df_plan_data(plan, row) + i * 3 * cols, in + (b * T + at) * 3 * cols,
                     (size_t)(3 * cols) * sizeof *in);
              float *p = df_plan_data(plan, place) + 3 * i;
              p[0] = b ? 0 : 2, p[1] = (float)at, p[2] = (float)(pass ? T : at + 1);
            }
            CHECK_OK(df_plan_run(plan, n, &test_error));
            for (int i = 0; i < n && pass == all; i++) {
              const int b = (first + i) % 2, at = (first + i) / 2;
              CHECK(!memcmp(df_plan_data(plan, y[0]) + i * cols,
                            df_plan_data(whole, want) + (b * T + at) * cols,
                            (size_t)cols * sizeof *in));
            }
          }
        for (int i = 0; i < 2 * kept; i++) CHECK(isnan(kept_rows[2 * kept + i])); // slot 1
        // the second layer's own part: the same numbers, doubled
        const int values = kept / 2;
        CHECK_NEAR(kept_rows[kept + values], 2 * kept_rows[values], 1e-5);
      }
      df_plan_free(plan);
      df_plan_free(whole);
      df_graph_free(g);
    }
}

// A chain x -> gelu(W x + b) repeated: every layer needs two buffers at a time, whatever its length.
static df_tensor *chain(df_graph *g, df_tensor *x, df_tensor *w, int layers) {
  for (int i = 0; i < layers; i++) x = df_unary_op(DF_GELU, 0, 0, df_linear_op(x, w, NULL));
  return x;
}

// x (R,K) -> GELU(x + (x U^T) W^T + b): two fixed matrices, the small one of which stays float32.
TEST(fixed_weights_can_be_held_in_8_bits) {
  enum { K = 150, B = 5, SMALL = 100 };
  df_params params = {0};
  df_param *u = df_params_declare(&params, "u", SMALL, K, 2, DF_INIT_UNIFORM, K, &test_error);
  df_param *v =
      df_params_declare(&params, "v", 2 * K, SMALL, 2, DF_INIT_UNIFORM, SMALL, &test_error);
  df_param *w = df_params_declare(&params, "w", K, 2 * K, 2, DF_INIT_UNIFORM, 2 * K, &test_error);
  REQUIRE(u && v && w && CHECK_OK(df_params_seal(&params, &test_error)));
  df_params_init(&params, 5);
  df_graph *g = df_graph_create();
  df_tensor *x = df_input(g, "x", 1, K, true);
  df_tensor *h = df_linear_op(x, df_parameter(g, u), NULL);
  h = df_linear_op(h, df_parameter(g, v), NULL);
  df_tensor *y = df_unary_op(DF_GELU, 0, 0, df_add(x, df_linear_op(h, df_parameter(g, w), NULL)));
  float want[B * K], together[B * K];
  df_plan_options options = {.batch = B, .fixed_weights = true};
  options.kernels = df_kernels_reference();
  df_plan *plan = NULL;
  if (CHECK_OK(df_plan_create(&plan, g, &y, 1, &options, &test_error))) {
    fill(df_plan_data(plan, x), B * K, 1, false);
    CHECK_OK(df_plan_run(plan, B, &test_error));
    memcpy(want, df_plan_data(plan, y), sizeof want);
  }
  df_plan_free(plan);
  options.weights = DF_WEIGHTS_INT8;
  for (int t = -1; t < 0 || df_kernels_list(t); t++) {
    options.kernels = t < 0 ? df_kernels_reference() : df_kernels_list(t);
    DURING("%s", options.kernels->name);
    const size_t before = df_packed_bytes(u) + df_packed_bytes(v) + df_packed_bytes(w);
    df_plan *again = NULL;
    if (!CHECK_OK(df_plan_create(&plan, g, &y, 1, &options, &test_error))) continue;
    const size_t after = df_packed_bytes(u) + df_packed_bytes(v) + df_packed_bytes(w);
    CHECK(after > before || t < 0); // the reference has packed the small one before
    CHECK_OK(df_plan_create(&again, g, &y, 1, &options, &test_error));
    CHECK(df_packed_bytes(u) + df_packed_bytes(v) + df_packed_bytes(w) == after); // shared
    df_plan_free(again);
    if (t >= 0) { // a byte each, and the float32 of the small one
      const double bytes = (double)df_plan_weight_bytes(plan);
      CHECK(bytes > 4 * SMALL * K + SMALL * 2 * K + 2 * K * K);
      CHECK(bytes < 1.2 * (4 * SMALL * K + SMALL * 2 * K + 2 * K * K));
    }
    fill(df_plan_data(plan, x), B * K, 1, false);
    CHECK_OK(df_plan_run(plan, B, &test_error));
    memcpy(together, df_plan_data(plan, y), sizeof together);
    double difference = 0, size = 0;
    for (int i = 0; i < B * K; i++) {
      difference += (double)(together[i] - want[i]) * (double)(together[i] - want[i]);
      size += (double)want[i] * (double)want[i];
    }
    CHECK(sqrt(difference / size) < 3e-3 && difference > 0);
    for (int b = 0; b < B; b++) { // alone
      fill(df_plan_data(plan, x), B * K, 1, false);
      memmove(df_plan_data(plan, x), df_plan_data(plan, x) + b * K, K * sizeof(float));
      CHECK_OK(df_plan_run(plan, 1, &test_error));
      CHECK(!memcmp(df_plan_data(plan, y), together + b * K, K * sizeof(float)));
    }
    df_plan_free(plan);
  }
  df_graph_free(g);
  df_params_free(&params);
}

TEST(memory_of_finished_tensors_is_used_again) {
  size_t bytes[2];
  int steps[2];
  for (int i = 0; i < 2; i++) {
    df_graph *g = df_graph_create();
    df_tensor *x = df_input(g, "x", 1, 64, true), *w = df_input(g, "w", 64, 64, false);
    df_tensor *y = chain(g, x, w, i ? 40 : 4);
    df_plan *plan = NULL;
    CHECK_OK(df_plan_create(&plan, g, &y, 1, &(df_plan_options){.batch = 8}, &test_error));
    bytes[i] = df_plan_bytes(plan);
    steps[i] = df_plan_steps(plan);
    df_plan_free(plan);
    df_graph_free(g);
  }
  CHECK_INT(steps[0], 5); // W is packed once, product and GELU are one step
  CHECK_INT(steps[1], 41);
  CHECK(bytes[0] == bytes[1]);
}

// Post-norm blocks of a transformer: x = norm(x + W2 relu(W1 x + b1) + b2). The sum is part of the second product,
// scale and shift are part of the norm, and the norm runs where the product was.
TEST(a_residual_block_with_a_norm_is_three_steps_in_the_memory_of_two) {
  size_t bytes[2];
  for (int with_norm = 0; with_norm < 2; with_norm++) {
    df_graph *g = df_graph_create();
    df_tensor *x = df_input(g, "x", 1, 64, true), *b = df_input(g, "b", 1, 64, false);
    df_tensor *w1 = df_input(g, "w1", 64, 64, false), *w2 = df_input(g, "w2", 64, 64, false);
    df_tensor *y = x;
    for (int i = 0; i < 5; i++) {
      df_tensor *h = df_unary_op(DF_RELU, 0, 0, df_linear_op(y, w1, b));
      y = df_add(y, df_linear_op(h, w2, b));
      if (with_norm) y = df_layer_norm(y, b, b, 1e-5f);
    }
    df_plan *plan = NULL;
    CHECK_OK(df_plan_create(&plan, g, &y, 1, &(df_plan_options){.batch = 8}, &test_error));
    CHECK_INT(df_plan_steps(plan), 2 + 5 * (with_norm ? 3 : 2)); // both weights are packed
    bytes[with_norm] = df_plan_bytes(plan);
    df_plan_free(plan);
    df_graph_free(g);
  }
  CHECK(bytes[0] == bytes[1]);
}

TEST(gradients_of_a_shared_weight_accumulate_in_place) {
  size_t bytes[2];
  for (int i = 0; i < 2; i++) {
    df_graph *g = df_graph_create();
    df_tensor *x = df_input(g, "x", 1, 64, true), *w = df_input_grad(g, "w", 64, 64, false), *dw,
              *J = NULL;
    for (int k = 0; k < (i ? 20 : 2); k++) { // products of one input and one weight, many times
      df_tensor *y = df_sum_all(df_matmul_op(df_scale(x, (float)k), w, false, true));
      J = J ? df_add(J, y) : y;
    }
    CHECK_OK(df_gradient(J, &w, &dw, 1, &test_error));
    df_plan *plan = NULL;
    CHECK_OK(df_plan_create(&plan, g, &dw, 1, &(df_plan_options){.batch = 8}, &test_error));
    bytes[i] = df_plan_bytes(plan);
    df_plan_free(plan);
    df_graph_free(g);
  }
  CHECK(bytes[1] < bytes[0] + 20 * 3 * 8 * 64 * sizeof(float)); // no copy of dw for each product
}

TEST(a_run_allocates_nothing) {
  df_graph *g = df_graph_create();
  df_tensor *x = df_input_grad(g, "x", 1, 33, true), *w = df_input_grad(g, "w", 33, 33, false),
            *d[2];
  df_tensor *J = df_sum_all(chain(g, x, w, 5));
  CHECK_OK(df_gradient(J, (df_tensor *[]){x, w}, d, 2, &test_error));
  df_plan *plan = NULL;
  CHECK_OK(df_plan_create(&plan, g, (df_tensor *[]){J, d[0], d[1]}, 3,
                          &(df_plan_options){.batch = 9}, &test_error));
  size_t count = df_alloc_count();
  for (int batch = 1; batch <= 9; batch++) CHECK_OK(df_plan_run(plan, batch, &test_error));
  CHECK(df_alloc_count() == count);
  CHECK_STATUS(df_plan_run(plan, 10, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_plan_run(plan, 0, &test_error), DF_BAD_ARGUMENT);
  df_plan_free(plan);
  df_graph_free(g);
}

TEST(inputs_and_outputs_can_live_in_memory_of_the_caller) {
  df_graph *g = df_graph_create();
  df_tensor *x = df_input(g, "x", 1, 3, true), *y = df_scale(x, 2);
  df_plan *plan = NULL;
  CHECK_OK(df_plan_create(&plan, g, &y, 1, &(df_plan_options){.batch = 2}, &test_error));
  float in[6] = {1, 2, 3, 4, 5, 6}, out[6] = {0};
  CHECK_OK(df_plan_bind(plan, x, in, &test_error));
  CHECK_OK(df_plan_bind(plan, y, out, &test_error));
  CHECK_OK(df_plan_run(plan, 2, &test_error));
  CHECK_FLOATS(out, ((float[]){2, 4, 6, 8, 10, 12}), 6, 0);
  CHECK(df_plan_data(plan, y) == out && df_plan_data(plan, x) == in);
  df_tensor *other = df_scale(x, 3);
  CHECK(df_plan_data(plan, other) == NULL);
  CHECK_STATUS(df_plan_bind(plan, other, out, &test_error), DF_BAD_ARGUMENT);
  df_plan_free(plan);
  df_graph_free(g);
}

TEST(wrong_shapes_are_named_when_the_plan_is_made) {
  static const struct {
    const char *want;
    int which;
  } wrong[] = {
      {"matmul: (B, 4) and (5, 2)", 0},
      {"binary: (B, 4) and (B, 3)", 1},
      {"gru", 2},
      {"columns 3 to 5 of (B, 4)", 3},
      {"concat", 4},
      {"expected a bias (1, 2)", 5},
      {"layer norm: expected a shift (1, 4), found (1, 3)", 6},
      {"group norm: 4 columns do not form 3 groups", 7},
      {"reshape: (B, 4) does not have the numbers of (2, 3)", 8},
      {"queries, keys and values of 2 heads each, found (B, 9)", 9},
      {"queries, keys and values of 1 heads each, found (B, 4)", 10},
      {"as many noised rows as clean ones, found (B x 3, 6)", 11},
      {"expected 3 columns that place (B, 6), found (B, 4)", 12},
      {"expected a memory (slots, 64) for 2 columns of 5 tokens, found (3, 63)", 13},
  };
  for (int i = 0; i < COUNT(wrong); i++) {
    df_graph *g = df_graph_create();
    df_tensor *x = df_input(g, "x", 1, 4, true), *y = NULL;
    switch (wrong[i].which) {
    case 0: y = df_matmul_op(x, df_input(g, "w", 5, 2, false), false, false); break;
    case 1: y = df_add(x, df_input(g, "w", 1, 3, true)); break;
    case 2: y = df_gru_op(x, x, x); break;
    case 3: y = df_columns(x, 3, 3); break;
    case 4: y = df_concat((df_tensor *[]){x, df_input(g, "w", 2, 3, true)}, 2); break;
    case 5:
      y = df_linear_op(x, df_input(g, "w", 2, 4, false), df_input(g, "b", 1, 3, false));
      break;
    case 6: y = df_layer_norm(x, NULL, df_input(g, "b", 1, 3, false), 1e-5f); break;
    case 7: y = df_group_norm(x, 3, NULL, NULL, 1e-5f); break;
    case 8: y = df_reshape(x, 2, 3); break;
    case 9: y = df_attention(df_input(g, "qkv", 1, 9, true), 2, DF_ATTEND_ALL); break;
    case 10: y = df_attention(x, 1, DF_ATTEND_ALL); break;
    case 11: y = df_attention(df_input(g, "qkv", 3, 6, true), 2, DF_ATTEND_CLEAN); break;
    case 12:
    case 13:
      y = df_attention_kept(df_input(g, "qkv", 1, 6, true),
                            wrong[i].which == 12 ? x : df_input(g, "place", 1, 3, true),
                            df_input(g, "memory", 3, 63, false), 5, 1);
      break;
    }
    CHECK(y == NULL);
    y = df_unary_op(DF_GELU, 0, 0, df_add(y, x)); // goes on without a crash
    df_plan *plan = NULL;
    CHECK_STATUS(df_plan_create(&plan, g, &y, 1, &(df_plan_options){.batch = 1}, &test_error),
                 DF_BAD_SHAPE);
    CHECK_CONTAINS(test_error.message, wrong[i].want);
    CHECK(plan == NULL);
    df_graph_free(g);
  }
}

TEST(norms_and_softmax_refuse_senseless_constants) {
  for (int i = 0; i < 2; i++) {
    df_graph *g = df_graph_create();
    df_tensor *x = df_input(g, "x", 1, 4, true);
    CHECK((i ? df_softmax(x, 0) : df_rms_norm(x, NULL, -1)) == NULL);
    CHECK_INT(df_graph_error(g)->code, DF_BAD_ARGUMENT);
    CHECK_TEXT(df_graph_error(g)->message, i ? "softmax: expected a scale above 0, found 0"
                                             : "RMS norm: expected eps from 0 on, found -1");
    df_graph_free(g);
  }
}

TEST(layers_of_norms_start_as_the_norm_alone) {
  df_params params = {0};
  df_error error = {0};
  df_tensor *y[3], *plain[3];
  for (int pass = 0; pass < 2; pass++) { // declare, then use
    df_graph *g = df_graph_create();
    df_nn nn = {g, &params, &error};
    df_tensor *x = df_input(g, "x", 1, 6, true);
    y[0] = df_nn_layer_norm(&nn, x, 1e-5f, "norm1");
    y[1] = df_nn_group_norm(&nn, x, 2, 1e-5f, "layers.0.norm");
    y[2] = df_nn_rms_norm(&nn, x, 1e-5f, "rms");
    plain[0] = df_layer_norm(x, NULL, NULL, 1e-5f);
    plain[1] = df_group_norm(x, 2, NULL, NULL, 1e-5f);
    plain[2] = df_rms_norm(x, NULL, 1e-5f);
    if (pass == 0) {
      static const char *const names[] = {"norm1.weight", "norm1.bias", "layers.0.norm.weight",
                                          "layers.0.norm.bias", "rms.weight"};
      REQUIRE(CHECK_INT(params.count, COUNT(names)));
      for (int i = 0; i < COUNT(names); i++) {
        CHECK_TEXT(params.items[i]->name, names[i]);
        CHECK_INT(params.items[i]->cols, 6);
        CHECK_INT(params.items[i]->dims, 1);
      }
      CHECK_OK(df_params_seal(&params, &test_error));
      df_params_init(&params, 1);
    } else {
      df_plan *plan = NULL;
      CHECK_OK(df_plan_create(&plan, g,
                              (df_tensor *[]){y[0], y[1], y[2], plain[0], plain[1], plain[2]}, 6,
                              &(df_plan_options){.batch = 3}, &test_error));
      fill(df_plan_data(plan, x), 18, 0, false);
      CHECK_OK(df_plan_run(plan, 3, &test_error));
      for (int i = 0; i < 3; i++)
        CHECK_FLOATS(df_plan_data(plan, y[i]), df_plan_data(plan, plain[i]), 18, 0);
      df_plan_free(plan);
    }
    df_graph_free(g);
  }
  CHECK(!error.code);
  df_params_free(&params);
}

static df_status build_all(df_graph **g, df_plan **plan) {
  *plan = NULL;
  *g = df_graph_create();
  if (!*g) return DF_NO_MEMORY;
  df_tensor *x = df_input_grad(*g, "x", 1, 9, true), *w = df_input_grad(*g, "w", 9, 9, false),
            *d[2] = {0};
  df_tensor *J = df_sum_all(chain(*g, x, w, 3));
  df_status status =
      J ? df_gradient(J, (df_tensor *[]){x, w}, d, 2, &test_error) : df_graph_error(*g)->code;
  if (!status)
    status = df_plan_create(plan, *g, (df_tensor *[]){J, d[0], d[1]}, 3,
                            &(df_plan_options){.batch = 2}, &test_error);
  if (status) {
    df_graph_free(*g);
    *g = NULL;
  }
  return status;
}

TEST(running_out_of_memory_is_an_error_and_leaks_nothing) {
  df_graph *g;
  df_plan *plan;
  CHECK_WITHOUT_MEMORY(build_all(&g, &plan));
  df_plan_free(plan);
  df_graph_free(g);
}
