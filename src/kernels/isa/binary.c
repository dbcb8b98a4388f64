// Arithmetic of two matrices, one of which may be a row, a column or a number.
#include "kernels/isa/isa.h"

void DF_K(binary)(df_binary op, int rows, int cols, const float *a, ptrdiff_t a_row, int a_col,
                  const float *b, ptrdiff_t b_row, int b_col, float *y, ptrdiff_t y_row) {
  ptrdiff_t n = cols;
  // No gaps, or a number: one long row.
  if (y_row == cols && a_row == (a_col ? cols : 0) && b_row == (b_col ? cols : 0))
    n *= rows, rows = 1;

#define EACH(word)                                                                                 \
  for (; rows > 0; rows--, a += a_row, b += b_row, y += y_row)                                     \
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {                                                     \
      const vec s = a_col ? v_get(a + j, n - j) : v_spread(a);                                     \
      const vec t = b_col ? v_get(b + j, n - j) : v_spread(b);                                     \
      v_put(y + j, n - j, word(s, t));                                                             \
    }                                                                                              \
  break;

  switch (op) {
  case DF_ADD: EACH(v_add)
  case DF_SUB: EACH(v_sub)
  case DF_MUL: EACH(v_mul)
  case DF_DIV: EACH(v_div)
  case DF_BINARY_COUNT: break;
  }
#undef EACH
}
