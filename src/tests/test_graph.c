// Graph and plan. Every operation stands once in the table below, as a small graph; it is run with every set of
// kernels, for several batches and odd sizes, and compared with the plain reference; its derivative is compared with
// finite differences along a random direction.
#include <stdlib.h>

#include "base/random.h"
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
        float *x = df_plan_data(plan, in[j]), d[256], x0[256], e = 4e-3f;
        if (!CHECK(n <= 256)) continue;
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
      float all[9 * 64];
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
          int n = in[j]->cols;
          float keep[9 * 64];
          fill(keep, 9 * n, (uint32_t)j, cases[i].positive);
          memcpy(x, keep + b * n, (size_t)n * sizeof *x);
        }
        CHECK_OK(df_plan_run(plan, 1, &test_error));
        CHECK(!memcmp(df_plan_data(plan, y), all + b * y->cols, (size_t)y->cols * sizeof *all));
      }
    }
    df_plan_free(plan);
    df_graph_free(g);
  }
}

// A chain x -> gelu(W x + b) repeated: every layer needs two buffers at a time, whatever its length.
static df_tensor *chain(df_graph *g, df_tensor *x, df_tensor *w, int layers) {
  for (int i = 0; i < layers; i++) x = df_unary_op(DF_GELU, 0, 0, df_linear_op(x, w, NULL));
  return x;
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
