// Every table against the reference, over sizes at which every tile and tail runs. Matrices have gaps
// between their rows, filled with a number that must survive, and end with their last row, so that
// the sanitizers see a read or a write behind it.
#include "base/random.h"
#include "kernels/kernels.h"
#include "tests/test.h"

#define EACH_TABLE(K)                                                                              \
  for (int table_ = 0; table_ >= 0; table_ = -1)                                                   \
    for (const df_kernels *K; (K = df_kernels_list(table_)) != NULL; table_++)

static const df_kernels *reference(void) { return df_kernels_reference(); }

// ---- Matrices ------------------------------------------------------------------------------------

static const float gap = 123.25f;

typedef struct matrix {
  int rows, cols;
  ptrdiff_t row;
  float *x;
} matrix;

static uint32_t draws;

static void fill(size_t n, float *x, float scale) {
  const df_random at = {.seed = 1, .sequence = draws++, .purpose = DF_RANDOM_TEST};
  df_random_uniform(&at, (int)n, x);
  for (size_t i = 0; i < n; i++) x[i] = (2 * x[i] - 1) * scale;
}

static size_t floats(const matrix *m) {
  return m->rows ? (size_t)((m->rows - 1) * m->row + m->cols) : 0;
}

// Random numbers within +-scale; rows are cols + wider apart.
static matrix random_matrix(int rows, int cols, int wider, float scale) {
  matrix m = {rows, cols, cols + wider, NULL};
  const size_t n = floats(&m);
  m.x = df_alloc(n * sizeof(float));
  fill(n, m.x, scale);
  for (int i = 0; i + 1 < rows; i++)
    for (int j = cols; j < m.row; j++) m.x[i * m.row + j] = gap;
  return m;
}

static matrix copy_of(matrix m) {
  float *x = df_alloc(floats(&m) * sizeof(float));
  memcpy(x, m.x, floats(&m) * sizeof(float));
  m.x = x;
  return m;
}

static void free_matrices(int n, matrix *m) {
  for (int i = 0; i < n; i++) df_free(m[i].x);
}
#define FREE(...) free_matrices(COUNT(((matrix[]){__VA_ARGS__})), (matrix[]){__VA_ARGS__})

static bool gaps_are_untouched(const matrix *m) {
  for (int i = 0; i + 1 < m->rows; i++)
    for (ptrdiff_t j = m->cols; j < m->row; j++)
      if (m->x[i * m->row + j] != gap) return CHECK_NEAR(m->x[i * m->row + j], gap, 0);
  return true;
}

// Entries of a and b differ by at most tol + part |b|; the gaps of a are whole.
static bool check_matrix(const matrix *a, const matrix *b, double tol, double part) {
  for (int i = 0; i < a->rows; i++)
    for (int j = 0; j < a->cols; j++) {
      const float x = a->x[i * a->row + j], y = b->x[i * b->row + j];
      if (!CHECK_NEAR(x, y, tol + part * fabsf(y))) return false;
    }
  return gaps_are_untouched(a);
}

static bool same_bits(const float *a, const float *b, int n) {
  return memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

// ---- Dispatch ------------------------------------------------------------------------------------

TEST(the_best_table_is_the_first_of_the_list) {
  REQUIRE(df_kernels_list(0) != NULL);
  CHECK(df_kernels_best() == df_kernels_list(0));
  int count = 0;
  while (df_kernels_list(count)) count++;
  CHECK(df_kernels_list(count + 1) == NULL);
  for (int i = 1; i < count; i++) CHECK(df_kernels_list(i)->width <= df_kernels_list(i - 1)->width);
}

// ---- Matrix product ------------------------------------------------------------------------------

// Packs B[k,n] (b, or its transpose) behind and before a gap.
static float *packed(const df_kernels *K, int n, int k, const float *b, ptrdiff_t b_row,
                     ptrdiff_t b_col) {
  const size_t size = K->packed_size(n, k);
  float *p = df_alloc((size + 1) * sizeof(float));
  p[size] = gap;
  K->pack(n, k, b, b_row, b_col, p);
  CHECK_NEAR(p[size], gap, 0);
  return p;
}

enum { NO_RESIDUAL, RESIDUAL, RESIDUAL_IS_C, RESIDUALS };

// One product, checked against the reference.
static void check_matmul(const df_kernels *K, int m, int n, int k, int variant) {
  const bool a_transposed = variant & 1, b_transposed = variant >> 1 & 1, bias = variant >> 2 & 1;
  const int residual = (variant >> 3) % RESIDUALS, act = variant % 5 == 4 ? DF_GELU : -1;
  DURING("%s, m %d, n %d, k %d, variant %d", K->name, m, n, k, variant);
  matrix a = a_transposed ? random_matrix(k, m, 3, 1) : random_matrix(m, k, 5, 1);
  matrix b = b_transposed ? random_matrix(n, k, 1, 1) : random_matrix(k, n, 2, 1);
  matrix c = random_matrix(m, n, 3, 1), d = copy_of(c), r = random_matrix(m, n, 7, 1);
  matrix v = random_matrix(1, n, 0, 1);
  const ptrdiff_t b_row = b_transposed ? 1 : b.row, b_col = b_transposed ? b.row : 1;
  float *mine = packed(K, n, k, b.x, b_row, b_col);
  float *plain = packed(reference(), n, k, b.x, b_row, b_col);
  df_matmul p = {
      .m = m,
      .n = n,
      .k = k,
      .a = a.x,
      .a_row = a_transposed ? 1 : a.row,
      .a_col = a_transposed ? a.row : 1,
      .b = mine,
      .bias = bias ? v.x : NULL,
      .residual = residual == RESIDUAL_IS_C ? c.x
                  : residual == RESIDUAL    ? r.x
                                            : NULL,
      .residual_row = residual == RESIDUAL_IS_C ? c.row : r.row,
      .act = act,
      .c = c.x,
      .c_row = c.row,
  };
  K->matmul(&p);
  p.b = plain;
  p.c = d.x;
  if (residual == RESIDUAL_IS_C) p.residual = d.x;
  reference()->matmul(&p);
  // The error of a sum of k random terms grows like k: sqrt(k) terms of the size of a partial sum.
  check_matrix(&c, &d, 1e-6 + 1.2e-7 * k, 0);
  FREE(a, b, c, d, r, v);
  df_free(mine);
  df_free(plain);
}

TEST(matmul_agrees_with_the_reference) {
  EACH_TABLE(K) {
    int variant = 0;
    for (int m = 1; m <= 31; m += m < 18 ? 1 : 6)
      for (int n = 1; n <= 40; n += n < 18 ? 1 : 5)
        check_matmul(K, m, n, 1 + m * n % 11, variant++);
    static const int ns[] = {1, 15, 32, 60, 64, 95, 96, 97, 128, 161, 300};
    static const int ks[] = {0, 1, 2, 3, 17, 255, 256, 257, 511, 700};
    static const int ms[] = {1, 2, 3, 5, 15, 29};
    for (int i = 0; i < COUNT(ns); i++)
      for (int j = 0; j < COUNT(ks); j++)
        for (int l = 0; l < COUNT(ms); l++) check_matmul(K, ms[l], ns[i], ks[j], variant++);
  }
}

TEST(a_row_of_a_product_does_not_depend_on_the_other_rows) {
  static const int shapes[][2] = {{1, 5}, {7, 300}, {40, 33}, {97, 520}, {129, 64}, {300, 270}};
  EACH_TABLE(K) {
    for (int s = 0; s < COUNT(shapes); s++) {
      const int n = shapes[s][0], k = shapes[s][1], most = 31;
      matrix a = random_matrix(most, k, 0, 1), b = random_matrix(k, n, 0, 1);
      matrix c = random_matrix(most, n, 0, 1), alone = copy_of(c), together = copy_of(c);
      float *p = packed(K, n, k, b.x, n, 1);
      df_matmul call = {.n = n, .k = k, .a = a.x, .a_row = k, .a_col = 1, .b = p, .c_row = n};
      call.bias = b.x;
      call.residual = c.x;
      call.residual_row = n;
      call.act = DF_SILU;
      call.m = 1;
      for (int i = 0; i < most; i++) {
        call.a = a.x + (ptrdiff_t)i * k;
        call.residual = c.x + (ptrdiff_t)i * n;
        call.c = alone.x + (ptrdiff_t)i * n;
        K->matmul(&call);
      }
      call.a = a.x;
      call.residual = c.x;
      call.c = together.x;
      for (int m = 2; m <= most; m++) {
        DURING("%s, m %d, n %d, k %d", K->name, m, n, k);
        call.m = m;
        memset(together.x, 0, floats(&together) * sizeof(float));
        K->matmul(&call);
        CHECK(same_bits(together.x, alone.x, m * n));
      }
      // The same A stored as its transpose
      matrix t = random_matrix(k, most, 0, 1);
      for (int i = 0; i < most; i++)
        for (int j = 0; j < k; j++) t.x[j * most + i] = a.x[i * k + j];
      call.a = t.x;
      call.a_row = 1;
      call.a_col = most;
      K->matmul(&call);
      CHECK(same_bits(together.x, alone.x, most * n));
      FREE(a, b, c, t, alone, together);
      df_free(p);
    }
  }
}

TEST(a_column_of_a_product_does_not_depend_on_the_other_columns) {
  const int m = 5, n = 150, k = 300;
  EACH_TABLE(K) {
    matrix a = random_matrix(m, k, 0, 1), b = random_matrix(k, n, 0, 1);
    matrix c = random_matrix(m, n, 0, 1), part = copy_of(c);
    float *p = packed(K, n, k, b.x, n, 1);
    df_matmul call = {.m = m, .n = n, .k = k, .a = a.x, .a_row = k, .a_col = 1, .act = -1};
    call.b = p;
    call.c = c.x;
    call.c_row = n;
    K->matmul(&call);
    df_free(p);
    for (int j = 0; j < n; j += 7) {
      DURING("%s, column %d", K->name, j);
      call.n = n - j < 29 ? n - j : 29;
      call.b = p = packed(K, call.n, k, b.x + j, n, 1);
      call.c = part.x;
      K->matmul(&call);
      for (int i = 0; i < m; i++) CHECK(same_bits(part.x + i * n, c.x + i * n + j, call.n));
      df_free(p);
    }
    FREE(a, b, c, part);
  }
}

// ---- Weights in 8 bits ---------------------------------------------------------------------------

static float *packed_int8(const df_kernels *K, int n, int k, const float *b, ptrdiff_t b_row,
                          ptrdiff_t b_col) {
  const size_t size = K->int8_size(n, k);
  float *p = df_alloc((size + 1) * sizeof(float));
  p[size] = gap;
  K->int8_pack(n, k, b, b_row, b_col, p);
  CHECK_NEAR(p[size], gap, 0);
  return p;
}

// The reference rounds to the same whole numbers, so that only the float32 sums of the blocks differ.
static void check_int8(const df_kernels *K, int m, int n, int k, int variant) {
  const bool a_transposed = variant % 7 == 3, b_transposed = variant & 1, bias = variant >> 1 & 1;
  const int residual = variant % RESIDUALS, act = variant % 5 == 4 ? DF_GELU : -1;
  DURING("%s, m %d, n %d, k %d, variant %d", K->name, m, n, k, variant);
  matrix a = a_transposed ? random_matrix(k, m, 3, 1) : random_matrix(m, k, 5, 1);
  matrix b = b_transposed ? random_matrix(n, k, 1, 1) : random_matrix(k, n, 2, 1);
  matrix c = random_matrix(m, n, 3, 1), d = copy_of(c), r = random_matrix(m, n, 7, 1);
  matrix v = random_matrix(1, n, 0, 1);
  const ptrdiff_t b_row = b_transposed ? 1 : b.row, b_col = b_transposed ? b.row : 1;
  float *mine = packed_int8(K, n, k, b.x, b_row, b_col);
  float *plain = packed_int8(reference(), n, k, b.x, b_row, b_col);
  df_matmul p = {
      .m = m,
      .n = n,
      .k = k,
      .a = a.x,
      .a_row = a_transposed ? 1 : a.row,
      .a_col = a_transposed ? a.row : 1,
      .b = mine,
      .bias = bias ? v.x : NULL,
      .residual = residual == RESIDUAL_IS_C ? c.x
                  : residual == RESIDUAL    ? r.x
                                            : NULL,
      .residual_row = residual == RESIDUAL_IS_C ? c.row : r.row,
      .act = act,
      .c = c.x,
      .c_row = c.row,
  };
  K->int8_matmul(&p);
  p.b = plain;
  p.c = d.x;
  if (residual == RESIDUAL_IS_C) p.residual = d.x;
  reference()->int8_matmul(&p);
  check_matrix(&c, &d, 1e-6 + 1.2e-7 * k, 0);
  FREE(a, b, c, d, r, v);
  df_free(mine);
  df_free(plain);
}

TEST(int8_products_agree_with_the_reference) {
  EACH_TABLE(K) {
    int variant = 0;
    for (int m = 1; m <= 9; m++)
      for (int n = 1; n <= 40; n += n < 18 ? 1 : 5) check_int8(K, m, n, 1 + m * n % 11, variant++);
    static const int ns[] = {1, 15, 32, 60, 97, 128, 161, 300};
    static const int ks[] = {0, 1, 3, 17, 255, 256, 257, 511, 700};
    static const int ms[] = {1, 2, 5, 31, 32, 35};
    for (int i = 0; i < COUNT(ns); i++)
      for (int j = 0; j < COUNT(ks); j++)
        for (int l = 0; l < COUNT(ms); l++) check_int8(K, ms[l], ns[i], ks[j], variant++);
  }
}

TEST(a_row_of_an_int8_product_does_not_depend_on_the_other_rows) {
  static const int shapes[][2] = {{1, 5}, {40, 33}, {97, 520}, {300, 270}};
  EACH_TABLE(K)
  for (int s = 0; s < COUNT(shapes); s++) {
    const int n = shapes[s][0], k = shapes[s][1], most = 35;
    matrix a = random_matrix(most, k, 0, 1), b = random_matrix(k, n, 0, 1);
    matrix c = random_matrix(most, n, 0, 1), alone = copy_of(c), together = copy_of(c);
    float *p = packed_int8(K, n, k, b.x, n, 1);
    df_matmul call = {.n = n, .k = k, .a_row = k, .a_col = 1, .b = p, .c_row = n};
    call.bias = b.x;
    call.residual_row = n;
    call.act = DF_SILU;
    call.m = 1;
    for (int i = 0; i < most; i++) {
      call.a = a.x + (ptrdiff_t)i * k;
      call.residual = c.x + (ptrdiff_t)i * n;
      call.c = alone.x + (ptrdiff_t)i * n;
      K->int8_matmul(&call);
    }
    call.a = a.x;
    call.residual = c.x;
    call.c = together.x;
    for (int m = 2; m <= most; m += m < 6 ? 1 : 7) {
      DURING("%s, m %d, n %d, k %d", K->name, m, n, k);
      call.m = m;
      memset(together.x, 0, floats(&together) * sizeof(float));
      K->int8_matmul(&call);
      CHECK(same_bits(together.x, alone.x, m * n));
    }
    FREE(a, b, c, alone, together);
    df_free(p);
  }
}

// |error| <= sum over k of |w| step / 2 + |a'| scale / 2, with a' as it was rounded: the reference is checked, the
// tables agree with it.
TEST(the_error_of_int8_is_what_rounding_gives) {
  const int m = 5, n = 33, k = 300;
  const df_kernels *K = reference();
  matrix a = random_matrix(m, k, 0, 2), b = random_matrix(k, n, 0, 0.1f);
  matrix c = random_matrix(m, n, 0, 1), d = copy_of(c);
  for (int i = 0; i < m * k; i++) a.x[i] += 1.5f; // an offset costs nothing
  df_matmul p = {.m = m, .n = n, .k = k, .a = a.x, .a_row = k, .a_col = 1, .act = -1, .c_row = n};
  float *exact = packed(K, n, k, b.x, n, 1);
  float *bytes = packed_int8(K, n, k, b.x, n, 1);
  p.b = exact, p.c = d.x;
  K->matmul(&p);
  p.b = bytes, p.c = c.x;
  K->int8_matmul(&p);
  double squares = 0, whole = 0;
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double most = 0, bound = 0;
      for (int l = 0; l < k; l++) most = fmax(most, fabs((double)b.x[l * n + j]));
      for (int begin = 0; begin < k; begin += DF_INT8_BLOCK) {
        const int end = k - begin < DF_INT8_BLOCK ? k : begin + DF_INT8_BLOCK;
        double low = INFINITY, high = -INFINITY;
        for (int l = begin; l < end; l++) {
          low = fmin(low, (double)a.x[i * k + l]);
          high = fmax(high, (double)a.x[i * k + l]);
        }
        const double step = (high - low) / DF_INT8_STEPS;
        for (int l = begin; l < end; l++)
          bound += 0.5 * step * fabs((double)b.x[l * n + j]) +
                   0.5 * most / 127 * (fabs((double)a.x[i * k + l]) + 0.5 * step);
      }
      const double error = (double)c.x[i * n + j] - (double)d.x[i * n + j];
      CHECK_NEAR(c.x[i * n + j], d.x[i * n + j], 1.0001 * bound);
      squares += error * error;
      whole += (double)d.x[i * n + j] * (double)d.x[i * n + j];
    }
  CHECK(sqrt(squares / whole) < 0.01);
  CHECK(squares > 0);
  FREE(a, b, c, d);
  df_free(exact);
  df_free(bytes);
}

TEST(what_is_not_finite_is_not_hidden_by_int8) {
  const int m = 3, n = 20, k = 300;
  static const float wrong[] = {NAN, INFINITY, -INFINITY};
  EACH_TABLE(K)
  for (int place = 0; place < k; place += 23)
    for (int w = 0; w < COUNT(wrong); w++) {
      DURING("%s, %g at %d", K->name, (double)wrong[w], place);
      matrix a = random_matrix(m, k, 0, 1), b = random_matrix(k, n, 0, 1);
      matrix c = random_matrix(m, n, 0, 1);
      a.x[k + place] = wrong[w];
      float *p = packed_int8(K, n, k, b.x, n, 1);
      const df_matmul call = {.m = m,
                              .n = n,
                              .k = k,
                              .a = a.x,
                              .a_row = k,
                              .a_col = 1,
                              .b = p,
                              .act = -1,
                              .c = c.x,
                              .c_row = n};
      K->int8_matmul(&call);
      for (int j = 0; j < n; j++) {
        CHECK(isfinite(c.x[j]) && isfinite(c.x[2 * n + j]));
        CHECK(!isfinite(c.x[n + j]));
      }
      FREE(a, b, c);
      df_free(p);
    }
}

TEST(rows_and_columns_of_one_value_are_exact_in_int8) {
  const int n = 9, k = 40;
  EACH_TABLE(K) {
    DURING("%s", K->name);
    matrix a = random_matrix(1, k, 0, 1), b = random_matrix(k, n, 0, 0),
           c = random_matrix(1, n, 0, 1);
    df_matmul p = {.m = 1, .n = n, .k = k, .a = a.x, .a_row = k, .a_col = 1, .act = -1, .c = c.x};
    float *zeros = packed_int8(K, n, k, b.x, n, 1);
    p.b = zeros;
    K->int8_matmul(&p);
    for (int j = 0; j < n; j++) CHECK_NEAR(c.x[j], 0, 0);
    for (int i = 0; i < k; i++) a.x[i] = 0.3f;
    for (int i = 0; i < k * n; i++) b.x[i] = -0.5f;
    float *same = packed_int8(K, n, k, b.x, n, 1);
    p.b = same;
    K->int8_matmul(&p);
    for (int j = 0; j < n; j++) CHECK_NEAR(c.x[j], -0.15 * k, 1e-5);
    FREE(a, b, c);
    df_free(zeros);
    df_free(same);
  }
}

// ---- Functions of one number ---------------------------------------------------------------------

// What may go wrong, in units of the last place (2^-23 of the result); `floor` is added to it, for
// slopes that cross 0 and results near the smallest normal number, 1e-38.
static const struct {
  const char *name;
  float from, to; // where; outside, results are infinite or 0
  double value, slope, value_floor, slope_floor;
} functions[DF_UNARY_COUNT] = {
    [DF_AFFINE] = {"affine", -1e30f, 1e30f, 1, 1, 1e-7, 1e-37},
    [DF_GELU] = {"gelu", -1e4f, 1e4f, 3, 1, 1.2e-38, 2e-7},
    [DF_SILU] = {"silu", -1e4f, 1e4f, 2, 1, 4e-37, 1e-7},
    [DF_RELU] = {"relu", -1e30f, 1e30f, 0, 0, 0, 0},
    [DF_ELU] = {"elu", -1e4f, 1e4f, 1.5, 1.5, 1.2e-38, 1.2e-38},
    [DF_SIGMOID] = {"sigmoid", -1e4f, 1e4f, 2, 3, 1.2e-38, 2e-38},
    [DF_TANH] = {"tanh", -1e4f, 1e4f, 2, 3, 1.2e-38, 5e-38},
    [DF_EXP] = {"exp", -200, 88.7f, 1.5, 1.5, 3e-45, 3e-45},
    [DF_SOFTPLUS] = {"softplus", -1e4f, 1e4f, 1.5, 2, 1.2e-38, 1.2e-38},
    [DF_SQUARE] = {"square", -1e18f, 1e18f, 0.5, 0, 1e-37, 0},
    [DF_SQRT] = {"sqrt", 0, 1e30f, 0.5, 1, 0, 0},
    [DF_CLAMP] = {"clamp", -1e30f, 1e30f, 0, 0, 0, 0},
};

// Every float between the bounds whose bits are a multiple of `stride` from the next.
static int sweep(float from, float to, uint32_t stride, float *x) {
  int n = 0;
  for (uint64_t bits = 0; bits < 0x100000000u; bits += stride) {
    const uint32_t b = (uint32_t)bits;
    float f;
    memcpy(&f, &b, sizeof f);
    if (f >= from && f <= to) {
      if (x) x[n] = f;
      n++;
    }
  }
  return n;
}

TEST(functions_are_as_exact_as_stated) {
  const float p = 0.75f, q = 1.5f;
  for (df_unary f = 0; f < DF_UNARY_COUNT; f++) {
    const uint32_t stride = 20011;
    const int n = sweep(functions[f].from, functions[f].to, stride, NULL);
    matrix x = random_matrix(1, n, 0, 1), dy = copy_of(x), y = copy_of(x), dx = copy_of(x);
    matrix y0 = copy_of(x), dx0 = copy_of(x);
    sweep(functions[f].from, functions[f].to, stride, x.x);
    for (int i = 0; i < n; i++) dy.x[i] = 1;
    reference()->unary(f, p, q, 1, n, x.x, n, y0.x, n);
    reference()->unary_grad(f, p, q, 1, n, x.x, n, dy.x, n, dx0.x, n);
    EACH_TABLE(K) {
      K->unary(f, p, q, 1, n, x.x, n, y.x, n);
      K->unary_grad(f, p, q, 1, n, x.x, n, dy.x, n, dx.x, n);
      double worst[2] = {0, 0};
      for (int i = 0; i < n; i++) {
        DURING("%s, %s of %.9g", K->name, functions[f].name, (double)x.x[i]);
        const double ulp = ldexp(1, -23);
        const double y1 = fabs((double)y0.x[i]) * ulp, dx1 = fabs((double)dx0.x[i]) * ulp;
        // Half a unit more: the reference is rounded too.
        CHECK_NEAR(y.x[i], y0.x[i], (functions[f].value + 0.5) * y1 + functions[f].value_floor);
        CHECK_NEAR(dx.x[i], dx0.x[i], (functions[f].slope + 0.5) * dx1 + functions[f].slope_floor);
        const double e = fabs((double)y.x[i] - y0.x[i]) - functions[f].value_floor;
        const double de = fabs((double)dx.x[i] - dx0.x[i]) - functions[f].slope_floor;
        if (y1 > 0 && e / y1 > worst[0]) worst[0] = e / y1;
        if (dx1 > 0 && de / dx1 > worst[1]) worst[1] = de / dx1;
      }
      DURING("%s, %s", K->name, functions[f].name);
      // A bound that could be far tighter is not a bound.
      if (functions[f].value > 1) CHECK(worst[0] > functions[f].value / 3);
    }
    FREE(x, dy, y, dx, y0, dx0);
  }
}

TEST(functions_are_right_at_infinity_and_keep_nan) {
  EACH_TABLE(K) {
    for (df_unary f = 0; f < DF_UNARY_COUNT; f++) {
      const float x[] = {INFINITY, -INFINITY, NAN, 0, -0.0f, 1e38f, -1e38f, 1e-40f, -1e-40f, 3e38f};
      enum { N = COUNT(x) };
      float dy[N], y[N], y0[N], dx[N], dx0[N];
      for (int i = 0; i < N; i++) dy[i] = 2;
      K->unary(f, -2, 3, 1, N, x, N, y, N);
      K->unary_grad(f, -2, 3, 1, N, x, N, dy, N, dx, N);
      reference()->unary(f, -2, 3, 1, N, x, N, y0, N);
      reference()->unary_grad(f, -2, 3, 1, N, x, N, dy, N, dx0, N);
      for (int i = 0; i < N; i++) {
        DURING("%s, %s of %g", K->name, functions[f].name, (double)x[i]);
        if (isnan(y0[i]))
          CHECK(isnan(y[i]));
        else
          CHECK_NEAR(y[i], y0[i], 4e-37 + 2e-7 * fabsf(y0[i]));
        // A step function has the slope of one of its sides at NaN.
        if (isnan(x[i]) && (f == DF_AFFINE || f == DF_RELU || f == DF_CLAMP)) continue;
        if (isnan(dx0[i]))
          CHECK(isnan(dx[i]));
        else
          CHECK_NEAR(dx[i], dx0[i], 4e-36 + 2e-7 * fabsf(dx0[i]));
      }
    }
  }
}

TEST(functions_keep_to_their_rows) {
  EACH_TABLE(K)
  for (df_unary f = 0; f < DF_UNARY_COUNT; f++)
    for (int cols = 1; cols <= 40; cols += cols < 18 ? 1 : 7)
      for (int wider = 0; wider <= 3; wider += 3) {
        const int rows = 1 + cols % 4;
        DURING("%s, %s, %d x %d + %d", K->name, functions[f].name, rows, cols, wider);
        matrix x = random_matrix(rows, cols, wider, 3), dy = random_matrix(rows, cols, wider, 3);
        for (int i = 0; f == DF_SQRT && i < rows; i++)
          for (int j = 0; j < cols; j++) x.x[i * x.row + j] = fabsf(x.x[i * x.row + j]) + 0.1f;
        matrix y = copy_of(x), y0 = copy_of(x), dx = copy_of(x), dx0 = copy_of(x);
        const float p = -1, q = 2;
        K->unary(f, p, q, rows, cols, x.x, x.row, y.x, y.row);
        reference()->unary(f, p, q, rows, cols, x.x, x.row, y0.x, y0.row);
        check_matrix(&y, &y0, 1e-6, 1e-6);
        K->unary_grad(f, p, q, rows, cols, x.x, x.row, dy.x, dy.row, dx.x, dx.row);
        reference()->unary_grad(f, p, q, rows, cols, x.x, x.row, dy.x, dy.row, dx0.x, dx0.row);
        check_matrix(&dx, &dx0, 2e-6, 1e-6);
        // In place: onto x, onto dy. One row alone gives the same bits.
        matrix z = copy_of(x), dz = copy_of(dy), dw = copy_of(x);
        K->unary(f, p, q, rows, cols, z.x, z.row, z.x, z.row);
        CHECK(same_bits(z.x, y.x, (int)floats(&z)));
        K->unary_grad(f, p, q, rows, cols, x.x, x.row, dz.x, dz.row, dz.x, dz.row);
        CHECK(same_bits(dz.x, dx.x, (int)floats(&dz)));
        K->unary_grad(f, p, q, rows, cols, dw.x, dw.row, dy.x, dy.row, dw.x, dw.row);
        CHECK(same_bits(dw.x, dx.x, (int)floats(&dw)));
        K->unary(f, p, q, 1, cols, x.x + (rows - 1) * x.row, x.row, z.x, z.row);
        CHECK(same_bits(z.x, y.x + (rows - 1) * y.row, cols));
        FREE(x, dy, y, y0, dx, dx0, z, dz, dw);
      }
}

TEST(slopes_are_the_derivatives) {
  for (df_unary f = 0; f < DF_UNARY_COUNT; f++)
    for (float x = f == DF_SQRT ? 0.5f : -4; x < 4; x += 0.171f) {
      DURING("%s at %g", functions[f].name, (double)x);
      const float p = -1.5f, q = 2.25f, one = 1, h = 1.0f / 128, at[2] = {x - h, x + h};
      float y[2], dx;
      reference()->unary(f, p, q, 1, 2, at, 2, y, 2);
      reference()->unary_grad(f, p, q, 1, 1, &x, 1, &one, 1, &dx, 1);
      CHECK_NEAR(dx, ((double)y[1] - y[0]) / (2 * h), 1e-4 + 3e-4 * fabsf(dx));
    }
}

// ---- Functions of two numbers, sums --------------------------------------------------------------

TEST(arithmetic_agrees_in_all_broadcast_forms) {
  EACH_TABLE(K)
  for (df_binary op = 0; op < DF_BINARY_COUNT; op++)
    for (int form = 0; form < 16; form++)
      for (int cols = 1; cols <= 40; cols += cols < 18 ? 1 : 7)
        for (int wider = 0; wider <= 2; wider += 2) {
          const int rows = 1 + cols % 5, a_col = form & 1, b_col = form >> 1 & 1;
          DURING("%s, op %d, form %d, %d x %d + %d", K->name, (int)op, form, rows, cols, wider);
          const bool a_rows = form >> 2 & 1, b_rows = form >> 3 & 1;
          matrix a = random_matrix(a_rows ? rows : 1, a_col ? cols : 1, wider, 1);
          matrix b = random_matrix(b_rows ? rows : 1, b_col ? cols : 1, wider, 1);
          matrix y = random_matrix(rows, cols, wider, 1), y0 = copy_of(y);
          const ptrdiff_t a_row = a_rows ? a.row : 0, b_row = b_rows ? b.row : 0;
          K->binary(op, rows, cols, a.x, a_row, a_col, b.x, b_row, b_col, y.x, y.row);
          reference()->binary(op, rows, cols, a.x, a_row, a_col, b.x, b_row, b_col, y0.x, y0.row);
          check_matrix(&y, &y0, 0, 1e-7);
          if (a_rows && a_col) {
            K->binary(op, rows, cols, a.x, a_row, a_col, b.x, b_row, b_col, a.x, a.row);
            check_matrix(&a, &y, 0, 0);
          } else if (b_rows && b_col) {
            K->binary(op, rows, cols, a.x, a_row, a_col, b.x, b_row, b_col, b.x, b.row);
            check_matrix(&b, &y, 0, 0);
          }
          FREE(a, b, y, y0);
        }
}

TEST(sums_agree) {
  EACH_TABLE(K)
  for (int cols = 1; cols <= 150; cols += cols < 18 ? 1 : 11)
    for (int rows = 0; rows <= 20; rows += 1 + rows / 3) {
      DURING("%s, %d x %d", K->name, rows, cols);
      matrix x = random_matrix(rows, cols, 3, 1);
      matrix y = random_matrix(1, cols, 0, 1), y0 = copy_of(y);
      K->sum_rows(rows, cols, x.x, x.row, y.x);
      reference()->sum_rows(rows, cols, x.x, x.row, y0.x);
      check_matrix(&y, &y0, 3e-6, 0);
      matrix z = random_matrix(rows, 1, 2, 1), z0 = copy_of(z);
      K->sum_cols(rows, cols, x.x, x.row, z.x, z.row);
      reference()->sum_cols(rows, cols, x.x, x.row, z0.x, z0.row);
      check_matrix(&z, &z0, 5e-6, 0);
      // A row alone, a column alone
      float sum;
      for (int i = 0; i < rows; i++) {
        K->sum_cols(1, cols, x.x + i * x.row, x.row, &sum, 1);
        CHECK(same_bits(&sum, z.x + i * z.row, 1));
      }
      for (int j = 0; j < cols; j++) {
        K->sum_rows(rows, 1, x.x + j, x.row, &sum);
        CHECK(same_bits(&sum, y.x + j, 1));
      }
      FREE(x, y, y0, z, z0);
    }
}

TEST(the_sum_of_squares_is_exact_to_float64) {
  EACH_TABLE(K) {
    for (int n = 0; n < 200; n++) {
      DURING("%s, %d", K->name, n);
      matrix x = random_matrix(1, n, 0, 1e3f);
      const double sum = reference()->sum_squares((size_t)n, x.x);
      CHECK_NEAR(K->sum_squares((size_t)n, x.x), sum, 1e-14 * sum);
      FREE(x);
    }
  }
}

// ---- GRU -----------------------------------------------------------------------------------------

TEST(gru_agrees_with_the_reference) {
  EACH_TABLE(K)
  for (int n = 1; n <= 40; n += n < 18 ? 1 : 5)
    for (int rows = 1; rows <= 5; rows += 2)
      for (int wider = 0; wider <= 3; wider += 3)
        for (float scale = 1; scale <= 100; scale *= 10) {
          DURING("%s, %d x %d + %d, scale %g", K->name, rows, n, wider, (double)scale);
          matrix gi = random_matrix(rows, 3 * n, wider, scale);
          matrix gh = random_matrix(rows, 3 * n, wider, scale);
          matrix h = random_matrix(rows, n, wider, 1), dy = random_matrix(rows, n, wider, 1);
          matrix y = random_matrix(rows, n, wider, 1), y0 = copy_of(y);
          matrix d = random_matrix(rows, 7 * n, wider, 1), d0 = copy_of(d);
          K->gru(rows, n, gi.x, gi.row, gh.x, gh.row, h.x, h.row, y.x, y.row);
          reference()->gru(rows, n, gi.x, gi.row, gh.x, gh.row, h.x, h.row, y0.x, y0.row);
          // r gh_c + gi_c is rounded at its own size before tanh sees it.
          const double tol = 1e-6 + 2e-7 * scale;
          check_matrix(&y, &y0, tol, 0);
          K->gru_grad(rows, n, gi.x, gi.row, gh.x, gh.row, h.x, h.row, dy.x, dy.row, d.x, d.row);
          reference()->gru_grad(rows, n, gi.x, gi.row, gh.x, gh.row, h.x, h.row, dy.x, dy.row, d0.x,
                                d0.row);
          check_matrix(&d, &d0, tol * (1 + scale), 0);
          const int i = rows - 1;
          matrix alone = copy_of(d);
          K->gru(1, n, gi.x + i * gi.row, 0, gh.x + i * gh.row, 0, h.x + i * h.row, 0, alone.x, 0);
          CHECK(same_bits(alone.x, y.x + i * y.row, n));
          K->gru_grad(1, n, gi.x + i * gi.row, 0, gh.x + i * gh.row, 0, h.x + i * h.row, 0,
                      dy.x + i * dy.row, 0, alone.x, 0);
          CHECK(same_bits(alone.x, d.x + i * d.row, 7 * n));
          FREE(gi, gh, h, dy, y, y0, d, d0, alone);
        }
}

// L = sum of dy y. Each input is moved by +-e; d says what should happen.
TEST(gru_grad_is_the_derivative_of_gru) {
  enum { N = 5 };
  float in[7 * N], dy[N], d[7 * N]; // in: gi, gh, h
  fill(7 * N, in, 1.5f);
  fill(N, dy, 1);
  const df_kernels *K = reference();
  K->gru_grad(1, N, in, 0, in + 3 * N, 0, in + 6 * N, 0, dy, 0, d, 0);
  for (int i = 0; i < 7 * N; i++) {
    DURING("input %d", i);
    const float x = in[i], e = 1.0f / 128;
    double l[2];
    for (int side = 0; side < 2; side++) {
      float y[N];
      in[i] = side ? x + e : x - e;
      K->gru(1, N, in, 0, in + 3 * N, 0, in + 6 * N, 0, y, 0);
      l[side] = 0;
      for (int j = 0; j < N; j++) l[side] += (double)dy[j] * y[j];
    }
    in[i] = x;
    CHECK_NEAR(d[i], (l[1] - l[0]) / (2 * e), 1e-4);
  }
}

// ---- Weights -------------------------------------------------------------------------------------

TEST(adamw_agrees_over_many_steps) {
  EACH_TABLE(K) {
    for (int n = 0; n <= 70; n += n < 20 ? 1 : 5) {
      DURING("%s, %d", K->name, n);
      // w, g, m, v, each behind a gap
      matrix s = random_matrix(4, n, 1, 1), s0 = {0, 0, 0, NULL};
      for (int j = 0; j < n; j++) s.x[2 * s.row + j] = s.x[3 * s.row + j] = 0;
      s0 = copy_of(s);
      for (int t = 1; t <= 20; t++) {
        for (int j = 0; j < n; j++) {
          const float g = (float)sin(t + 0.3 * j) * (j % 3 ? 1 : 1e-4f);
          s.x[s.row + j] = s0.x[s0.row + j] = g;
        }
        const float beta1 = 0.9f, beta2 = 0.999f;
        const float c1 = (float)(1 - pow(beta1, t)), c2 = (float)(1 - pow(beta2, t));
        K->adamw((size_t)n, s.x, s.x + s.row, s.x + 2 * s.row, s.x + 3 * s.row, 0.5f, 1e-2f, beta1,
                 beta2, 1e-8f, 1e-2f, c1, c2);
        reference()->adamw((size_t)n, s0.x, s0.x + s.row, s0.x + 2 * s.row, s0.x + 3 * s.row, 0.5f,
                           1e-2f, beta1, beta2, 1e-8f, 1e-2f, c1, c2);
      }
      check_matrix(&s, &s0, 3e-6, 0);
      FREE(s, s0);
    }
  }
}

TEST(adamw_does_what_its_formula_says) {
  // First step, by hand: m = 0.1 g, v = 0.001 g^2, both corrected back to g and g^2.
  float w = 2, m = 0, v = 0;
  const float g = 4;
  reference()->adamw(1, &w, &g, &m, &v, 0.5f, 0.1f, 0.9f, 0.999f, 0, 0.01f, 0.1f, 0.001f);
  CHECK_NEAR(m, 0.2, 1e-6);
  CHECK_NEAR(v, 0.004, 1e-7);
  CHECK_NEAR(w, 2 - 0.1 * 0.01 * 2 - 0.1, 1e-5);
}

TEST(lerp_agrees) {
  EACH_TABLE(K) {
    for (int n = 0; n <= 70; n++) {
      DURING("%s, %d", K->name, n);
      matrix x = random_matrix(1, n, 0, 1), y = random_matrix(2, n, 1, 1), y0 = copy_of(y);
      K->lerp((size_t)n, 0.3f, x.x, y.x);
      reference()->lerp((size_t)n, 0.3f, x.x, y0.x);
      check_matrix(&y, &y0, 2e-7, 0);
      FREE(x, y, y0);
    }
  }
}
