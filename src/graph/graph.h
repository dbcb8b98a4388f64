// Tensors, operations and their derivatives; then a plan that runs them in memory laid out beforehand.
//
// A tensor is a matrix of float32. Where `batched` is set it has `rows` rows for each member of the batch,
// so one plan made for up to R members runs with any number up to R.
//
//   df_graph *g = df_graph_create();
//   df_tensor *x = df_input(g, "x", 1, 16, true), *y = df_unary_op(g, DF_GELU, 0, 0, df_linear_op(g, x, w, b));
//   df_plan_create(&plan, g, &y, 1, &(df_plan_options){.batch = 100}, &error);
//   df_plan_data(plan, x)[...] = ...;  df_plan_run(plan, 7);  ... = df_plan_data(plan, y)[...];
//
// Building never needs a check after every call: a wrong shape or no memory makes the constructor return NULL,
// NULL operands give NULL, and the first error waits in the graph, where df_plan_create reports it.
#ifndef DF_GRAPH_GRAPH_H
#define DF_GRAPH_GRAPH_H

#include <stdbool.h>

#include "base/memory.h"
#include "graph/params.h"
#include "kernels/kernels.h"

enum { DF_MAX_SOURCES = 4 };

typedef struct df_op df_op;
typedef struct df_graph df_graph;
typedef struct df_tensor df_tensor;

struct df_tensor {
  const df_op *op; // how it is made; NULL: an input, a constant or a parameter
  df_tensor *src[DF_MAX_SOURCES];
  int rows, cols; // rows of one member of the batch, if batched
  bool batched;
  bool needs_grad;       // a parameter or a marked input is upstream
  const df_param *param; // the parameter that this tensor is
  int row;               // distance of its rows in floats: cols, or more in a view
  df_tensor *view;       // this tensor owns no memory, it shows that of another one,
  size_t
      view_at; // from this float on; the first of every row is `row` floats behind the last one's
  const char *name; // inputs and parameters; others NULL
  float *memory;    // the caller's (df_memory), else NULL
  float f[2];       // attributes of the op
  int i[4];
  int index; // place in the graph, ascending from sources to results
  df_graph *graph;
};

df_graph *df_graph_create(void); // NULL: no memory
void df_graph_free(df_graph *g); // tensors included; plans made from it must be freed first
const df_error *df_graph_error(const df_graph *g); // code DF_OK: none so far

// Leaves. A constant holds one value in all entries, row numbers 0, 1, .. rows - 1 in those of a member.
df_tensor *df_input(df_graph *g, const char *name, int rows, int cols, bool batched);
df_tensor *df_input_grad(df_graph *g, const char *name, int rows, int cols,
                         bool batched); // differentiable input
// The caller's memory (rows, cols) from the start: a plan keeps none for it. An operation may say that it writes it.
df_tensor *df_memory(df_graph *g, const char *name, int rows, int cols, float *data);
df_tensor *df_constant(df_graph *g, int rows, int cols, bool batched, float value);
df_tensor *df_row_numbers(df_graph *g, int rows, bool batched); // (rows,1)
df_tensor *df_parameter(df_graph *g,
                        const df_param *param); // the same tensor for the same parameter

// Operations. Shapes: R rows (batched or not), written (R, cols).
df_tensor *df_matmul_op(df_tensor *a, df_tensor *b, bool transpose_a,
                        bool transpose_b); // op(A) op(B)
df_tensor *df_linear_op(df_tensor *x, df_tensor *w,
                        df_tensor *b); // x (R,K) W (N,K) b (1,N) or NULL -> x W^T + b (R,N)
df_tensor *df_unary_op(df_unary f, float p, float q, df_tensor *x);
df_tensor *df_binary_op(df_binary op, df_tensor *a,
                        df_tensor *b); // (R,C) with (R,C), (1,C), (R,1) or (1,1)
df_tensor *df_add(df_tensor *a, df_tensor *b);
df_tensor *df_sub(df_tensor *a, df_tensor *b);
df_tensor *df_mul(df_tensor *a, df_tensor *b);
df_tensor *df_div(df_tensor *a, df_tensor *b);
df_tensor *df_scale(df_tensor *x, float p); // p x
df_tensor *df_sum_rows(df_tensor *x);       // (R,C) -> (1,C), over the whole batch, not batched
df_tensor *df_sum_cols(df_tensor *x);       // (R,C) -> (R,1)
df_tensor *df_sum_all(df_tensor *x);        // (R,C) -> (1,1), not batched
df_tensor *df_columns(df_tensor *x, int begin, int cols); // a view, no copy
df_tensor *df_concat(df_tensor *const *parts, int count); // side by side; NULL parts are skipped
// (rows,cols) of each member of the batch, of the same numbers in the same order: a view, no copy, where the rows of x
// lie one behind the other
df_tensor *df_reshape(df_tensor *x, int rows, int cols);
df_tensor *df_transpose(df_tensor *x); // (R,C) -> (C,R), of each member of the batch
df_tensor *df_broadcast(df_tensor *x, int rows, int cols, bool batched); // from (1,C), (R,1), (1,1)
df_tensor *df_gru_op(df_tensor *gi, df_tensor *gh,
                     df_tensor *h); // gates (R,3n), (R,3n), state (R,n) -> (R,n)
// Normalisations of rows (kernels/kernels.h has the formulas); scale and shift (1,C), or NULL.
df_tensor *df_layer_norm(df_tensor *x, df_tensor *scale, df_tensor *shift, float eps);
df_tensor *df_group_norm(df_tensor *x, int groups, df_tensor *scale, df_tensor *shift,
                         float eps); // C / groups neighbouring columns form a group
df_tensor *df_rms_norm(df_tensor *x, df_tensor *scale, float eps);
df_tensor *df_softmax(df_tensor *x, float scale); // of scale x over each row; scale > 0. A mask is
                                                  // added to x before: -infinity where y shall be 0
df_tensor *df_position_code(df_tensor *t,
                            int size); // (R,1) -> (R,size): sines, then cosines, of t f_j,
                                       // f_j = exp(-j ln(10000) / (size/2 - 1)), in float32
df_tensor *df_stop_gradient(df_tensor *x);

// Attention between the R rows of a member of the batch: its tokens. qkv (R,3C) holds queries, keys and values side by
// side; each of `heads` blocks of d = C / heads neighbouring columns attends on its own:
//   y_i = sum_j p_ij v_j, (R,C)    p_ij = softmax over j of <q_i, k_j> / sqrt(d), over the rows j that row i sees
typedef enum df_attend {
  DF_ATTEND_PAST, // rows 0 .. i
  DF_ATTEND_ALL,  // all rows
  DF_ATTEND_CLEAN, // R = 2T, T clean tokens and then the same T noised: clean row i sees clean rows 0 .. i, noised row
  // T + i sees clean rows 0 .. i - 1 and itself
} df_attend;
df_tensor *df_attention(df_tensor *qkv, int heads, df_attend attend);

// The same for single rows, with the keys and values of other rows kept from run to run. qkv (R,3C): a token each.
// memory (slots, df_attention_kept_size(C, window)), an input or columns of one: WRITTEN TO by the run. A row of it
// keeps a sequence: its keys transposed, then its values. place (R,3), whole numbers: the row of memory, the token's
// own place 0 .. window - 1 there, and how many places it sees, counted from 0 on; itself it sees always. First all
// rows store key and value at their own place, then all attend, so rows of one run see each other. Places seen must
// have been written. The result (R,C) has the bits of df_attention. There is no derivative.
df_tensor *df_attention_kept(df_tensor *qkv, df_tensor *place, df_tensor *memory, int window,
                             int heads);
int df_attention_kept_size(int cols, int window); // floats

// Adds the graph of the derivative of `scalar` (1,1) to g: grads[i] is d scalar / d wrt[i], of wrt[i]'s shape,
// and NULL where scalar does not depend on wrt[i].
df_status df_gradient(df_tensor *scalar, df_tensor *const *wrt, df_tensor **grads, int count,
                      df_error *error);
// The same for several outputs that receive given derivatives: sum_i <seed[i], out[i]>.
df_status df_gradient_seeded(df_tensor *const *out, df_tensor *const *seed, int outs,
                             df_tensor *const *wrt, df_tensor **grads, int count, df_error *error);

typedef struct df_plan df_plan;

// Matrices of fewer numbers stay float32: they are read from L1, and heads and codes are where errors count.
enum { DF_WEIGHTS_LEAST = 16384 };

typedef struct df_plan_options {
  int batch; // largest batch, at least 1
  bool
      fixed_weights; // parameters do not change while the plan lives: pack them once, shared by all such plans
  df_weights
      weights; // format of fixed weights; matrices of less than DF_WEIGHTS_LEAST numbers stay float32
  const df_kernels *kernels; // NULL: df_kernels_best()
  const df_tensor *border;   // nullable: where df_plan_run_part cuts the plan in two
} df_plan_options;

// Lays out all memory that computing outputs[count] needs: inputs, outputs and what lives between, in one block.
// Unused parts of the graph cost nothing. The plan keeps pointers into g and into the parameters.
df_status df_plan_create(df_plan **plan, df_graph *g, df_tensor *const *outputs, int count,
                         const df_plan_options *options, df_error *error);
void df_plan_free(df_plan *plan);

// Where an input or an output lies: (rows, cols) dense, rows of batch member b at b * rows. Valid as long as the plan.
// NULL for tensors that are neither. Inputs keep their values between runs; outputs until the next run.
float *df_plan_data(const df_plan *plan, const df_tensor *t);
// Makes the plan read an input from, or write an output to, the caller's memory from now on.
df_status df_plan_bind(df_plan *plan, const df_tensor *t, float *memory, df_error *error);

// Computes all outputs for `batch` members, 1 .. options.batch. Allocates nothing.
df_status df_plan_run(df_plan *plan, int batch, df_error *error);

// The same in two parts: first what was built before options.border, then, with inputs that the caller may have set in
// between from what the first part made, the rest. Outputs of the first part keep their values.
df_status df_plan_run_part(df_plan *plan, int batch, bool second, df_error *error);

size_t df_plan_bytes(const df_plan *plan);        // the block, shared packed weights not counted
size_t df_plan_weight_bytes(const df_plan *plan); // fixed weights that a run reads
int df_plan_steps(const df_plan *plan);           // operations run

#endif
