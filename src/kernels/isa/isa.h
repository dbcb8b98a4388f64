// What the files of this folder give to table.c; comments and parameters are in kernels/kernels.h.
#ifndef DF_KERNELS_ISA_H
#define DF_KERNELS_ISA_H

#include "kernels/kernels.h"
#include "kernels/simd.h"

size_t DF_K(packed_size)(int n, int k);
void DF_K(pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed);
void DF_K(matmul)(const df_matmul *p);
size_t DF_K(int8_size)(int n, int k);
void DF_K(int8_pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *packed);
void DF_K(int8_matmul)(const df_matmul *p);
#if DF_IS(relaxed)
size_t DF_K(int8_pairs_size)(int n, int k);
void DF_K(int8_pairs_pack)(int n, int k, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                           float *packed);
void DF_K(int8_pairs_matmul)(const df_matmul *p);
#endif

void DF_K(unary)(df_unary f, float p, float q, int rows, int cols, const float *x, ptrdiff_t x_row,
                 float *y, ptrdiff_t y_row);
void DF_K(unary_grad)(df_unary f, float p, float q, int rows, int cols, const float *x,
                      ptrdiff_t x_row, const float *dy, ptrdiff_t dy_row, float *dx,
                      ptrdiff_t dx_row);
void DF_K(binary)(df_binary op, int rows, int cols, const float *a, ptrdiff_t a_row, int a_col,
                  const float *b, ptrdiff_t b_row, int b_col, float *y, ptrdiff_t y_row);
void DF_K(sum_rows)(int rows, int cols, const float *x, ptrdiff_t x_row, float *y);
void DF_K(sum_cols)(int rows, int cols, const float *x, ptrdiff_t x_row, float *y, ptrdiff_t y_row);

void DF_K(norm)(const df_norm *p);
void DF_K(norm_grad)(const df_norm *p, const float *dy, ptrdiff_t dy_row);
void DF_K(softmax)(float scale, int rows, int cols, const float *x, ptrdiff_t x_row, float *y,
                   ptrdiff_t y_row);
void DF_K(softmax_grad)(float scale, int rows, int cols, const float *y, ptrdiff_t y_row,
                        const float *dy, ptrdiff_t dy_row, float *dx, ptrdiff_t dx_row);

void DF_K(attention)(const df_query *p);
void DF_K(attention_grad)(const df_query *p, const df_query_grad *g);

void DF_K(gru)(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
               ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, float *y, ptrdiff_t y_row);
void DF_K(gru_grad)(int rows, int n, const float *gi, ptrdiff_t gi_row, const float *gh,
                    ptrdiff_t gh_row, const float *h, ptrdiff_t h_row, const float *dy,
                    ptrdiff_t dy_row, float *d, ptrdiff_t d_row);

void DF_K(adamw)(size_t n, float *w, const float *g, float *m, float *v, float grad_scale, float lr,
                 float beta1, float beta2, float eps, float decay, float c1, float c2);
void DF_K(lerp)(size_t n, float a, const float *x, float *y);
double DF_K(sum_squares)(size_t n, const float *x);

#endif
