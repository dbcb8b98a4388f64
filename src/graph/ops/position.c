// Position code of a number per row: sines first, then cosines, half - 1 in the divisor, as the reference has it.
#include <math.h>

#include "graph/internal.h"

static void run(const df_step *s, int batch) {
  int rows = df_rows(s->y, batch), half = s->y->cols / 2;
  // exp and the angle in float32, like the reference: at t = 999 this differs from float64 by up to 1e-4
  float ratio = (float)(log(10000.0) / (half - 1));
  for (int j = 0; j < half; j++) {
    float frequency = expf((float)j * -ratio);
    for (int i = 0; i < rows; i++) {
      float angle = s->src[0].data[(size_t)i * (size_t)s->src[0].row] * frequency;
      float *y = s->out.data + (size_t)i * (size_t)s->out.row;
      y[j] = sinf(angle);
      y[half + j] = cosf(angle);
    }
  }
}

const df_op df_op_position_code = {"position_code", run, NULL, 0};

df_tensor *df_position_code(df_tensor *t, int size) {
  if (!t) return NULL;
  if (t->cols != 1 || size < 4 || size % 2) {
    char text[48];
    return df_graph_fail(
        t->graph, DF_BAD_SHAPE,
        "position code: expected one column and an even size from 4 on, found %s and %d",
        df_shape(t, text), size);
  }
  return df_tensor_new(t->graph, &df_op_position_code, t->rows, size, t->batched, &t, 1);
}
