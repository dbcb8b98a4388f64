// The table of one instruction set.
#include "kernels/isa/isa.h"

#define TABLE(int8)                                                                                \
  {                                                                                                \
    .name = DF_ISA_NAME, .width = WIDTH, .packed_size = DF_K(packed_size), .pack = DF_K(pack),     \
    .matmul = DF_K(matmul), .int8_size = DF_K(int8##_size), .int8_pack = DF_K(int8##_pack),        \
    .int8_matmul = DF_K(int8##_matmul), .unary = DF_K(unary), .unary_grad = DF_K(unary_grad),      \
    .binary = DF_K(binary), .sum_rows = DF_K(sum_rows), .sum_cols = DF_K(sum_cols),                \
    .norm = DF_K(norm), .norm_grad = DF_K(norm_grad), .softmax = DF_K(softmax),                    \
    .softmax_grad = DF_K(softmax_grad), .attention = DF_K(attention),                              \
    .attention_grad = DF_K(attention_grad), .gru = DF_K(gru), .gru_grad = DF_K(gru_grad),          \
    .adamw = DF_K(adamw), .lerp = DF_K(lerp), .sum_squares = DF_K(sum_squares),                    \
  }

extern const df_kernels DF_JOIN(df_kernels__, DF_ISA);
const df_kernels DF_JOIN(df_kernels__, DF_ISA) = TABLE(int8);

#if DF_IS(relaxed)
extern const df_kernels df_kernels__relaxed_pairs;
const df_kernels df_kernels__relaxed_pairs = TABLE(int8_pairs);
#endif
