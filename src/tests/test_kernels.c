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

// |a - b| in units of the last place of `size`
static double units(double a, double b, double size) { return fabs(a - b) / ldexp(size, -23); }

// The largest errors found; kernels/README.md has them and the command.
static void print_units(const df_kernels *K, const char *what, double value, double other) {
#ifdef DF_UNITS
  printf("%-8s %-20s %.2f %.2f\n", K->name, what, value, other);
#else
  (void)K, (void)what, (void)value, (void)other;
#endif
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

// Packs B[k,n] (b, or its transpose) in front of a gap.
static float *packed_as(df_weights format, const df_kernels *K, int n, int k, const float *b,
                        ptrdiff_t b_row, ptrdiff_t b_col) {
  const bool int8 = format == DF_WEIGHTS_INT8;
  const size_t size = int8 ? K->int8_size(n, k) : K->packed_size(n, k);
  float *p = df_alloc((size + 1) * sizeof(float));
  p[size] = gap;
  (int8 ? K->int8_pack : K->pack)(n, k, b, b_row, b_col, p);
  CHECK_NEAR(p[size], gap, 0);
  return p;
}

static float *packed(const df_kernels *K, int n, int k, const float *b, ptrdiff_t b_row,
                     ptrdiff_t b_col) {
  return packed_as(DF_WEIGHTS_F32, K, n, k, b, b_row, b_col);
}

enum { NO_RESIDUAL, RESIDUAL, RESIDUAL_IS_C, RESIDUALS };

typedef struct product_case {
  bool a_transposed, b_transposed, bias;
  int residual, act;
} product_case;

// One product, checked against the reference.
static void check_product(df_weights format, const df_kernels *K, int m, int n, int k,
                          const product_case *form) {
  matrix a = form->a_transposed ? random_matrix(k, m, 3, 1) : random_matrix(m, k, 5, 1);
  matrix b = form->b_transposed ? random_matrix(n, k, 1, 1) : random_matrix(k, n, 2, 1);
  matrix c = random_matrix(m, n, 3, 1), d = copy_of(c), r = random_matrix(m, n, 7, 1);
  matrix v = random_matrix(1, n, 0, 1);
  const ptrdiff_t b_row = form->b_transposed ? 1 : b.row, b_col = form->b_transposed ? b.row : 1;
  float *mine = packed_as(format, K, n, k, b.x, b_row, b_col);
  float *plain = packed_as(format, reference(), n, k, b.x, b_row, b_col);
  const bool in_place = form->residual == RESIDUAL_IS_C;
  df_matmul p = {
      .m = m,
      .n = n,
      .k = k,
      .a = a.x,
      .a_row = form->a_transposed ? 1 : a.row,
      .a_col = form->a_transposed ? a.row : 1,
      .b = mine,
      .bias = form->bias ? v.x : NULL,
      .residual = in_place                     ? c.x
                  : form->residual == RESIDUAL ? r.x
                                               : NULL,
      .residual_row = in_place ? c.row : r.row,
      .act = form->act,
      .c = c.x,
      .c_row = c.row,
  };
  const bool int8 = format == DF_WEIGHTS_INT8;
  (int8 ? K->int8_matmul : K->matmul)(&p);
  p.b = plain;
  p.c = d.x;
  if (in_place) p.residual = d.x;
  (int8 ? reference()->int8_matmul : reference()->matmul)(&p);
  // The error of a sum of k random terms grows like k: sqrt(k) terms of the size of a partial sum.
  check_matrix(&c, &d, 1e-6 + 1.2e-7 * k, 0);
  FREE(a, b, c, d, r, v);
  df_free(mine);
  df_free(plain);
}

static void check_matmul(const df_kernels *K, int m, int n, int k, int variant) {
  const product_case form = {.a_transposed = variant & 1,
                             .b_transposed = variant >> 1 & 1,
                             .bias = variant >> 2 & 1,
                             .residual = (variant >> 3) % RESIDUALS,
                             .act = variant % 5 == 4 ? DF_GELU : -1};
  DURING("%s, m %d, n %d, k %d, variant %d", K->name, m, n, k, variant);
  check_product(DF_WEIGHTS_F32, K, m, n, k, &form);
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
    // so large that one row reads B in another way
    for (int i = 0; i < 24; i++)
      check_matmul(K, 1 + i % 2, 1024 + 19 * (i % 3), 255 + i, variant++);
  }
}

TEST(a_row_of_a_product_does_not_depend_on_the_other_rows) {
  static const int shapes[][2] = {{1, 5},    {7, 300},   {40, 33},   {97, 520},
                                  {129, 64}, {300, 270}, {1043, 300}};
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
  return packed_as(DF_WEIGHTS_INT8, K, n, k, b, b_row, b_col);
}

// The reference rounds to the same whole numbers, so that only the float32 sums of the blocks differ.
static void check_int8(const df_kernels *K, int m, int n, int k, int variant) {
  const product_case form = {.a_transposed = variant % 7 == 3,
                             .b_transposed = variant & 1,
                             .bias = variant >> 1 & 1,
                             .residual = variant % RESIDUALS,
                             .act = variant % 5 == 4 ? DF_GELU : -1};
  DURING("%s, m %d, n %d, k %d, variant %d", K->name, m, n, k, variant);
  check_product(DF_WEIGHTS_INT8, K, m, n, k, &form);
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
    [DF_GELU] = {"gelu", -1e4f, 1e4f, 2, 1, 1.2e-38, 2e-7},
    [DF_SILU] = {"silu", -1e4f, 1e4f, 2, 1, 4e-37, 1e-7},
    [DF_RELU] = {"relu", -1e30f, 1e30f, 0, 0, 0, 0},
    [DF_ELU] = {"elu", -1e4f, 1e4f, 1.5, 1.5, 1.2e-38, 1.2e-38},
    [DF_SIGMOID] = {"sigmoid", -1e4f, 1e4f, 2, 2, 1.2e-38, 1.2e-38},
    [DF_TANH] = {"tanh", -1e4f, 1e4f, 2, 2, 1.2e-38, 5e-38},
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
      print_units(K, functions[f].name, worst[0], worst[1]);
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

// ---- Normalisations and softmax ------------------------------------------------------------------

static df_norm norm_of(const matrix *x, const matrix *scale, const matrix *shift, matrix *y,
                       int groups, bool centred) {
  return (df_norm){.rows = x->rows,
                   .cols = x->cols,
                   .groups = groups,
                   .centred = centred,
                   .eps = 1e-5f,
                   .x = x->x,
                   .x_row = x->row,
                   .scale = scale ? scale->x : NULL,
                   .shift = shift ? shift->x : NULL,
                   .y = y->x,
                   .y_row = y->row};
}

TEST(normalisations_agree_with_the_reference) {
  EACH_TABLE(K)
  for (int n = 1; n <= 150; n += n < 34 ? 1 : 29)
    for (int variant = 0; variant < 32; variant++) {
      const bool centred = variant & 1, scaled = variant & 2, shifted = variant & 4;
      const int groups = variant & 8 ? 3 : 1, wider = variant & 16 ? 3 : 0, rows = 1 + n % 4;
      const int cols = n * groups;
      DURING("%s, %d x %d in %d groups, variant %d", K->name, rows, cols, groups, variant);
      matrix x = random_matrix(rows, cols, wider, 3), dy = random_matrix(rows, cols, wider, 1);
      matrix scale = random_matrix(1, cols, 0, 1), shift = random_matrix(1, cols, 0, 1);
      matrix y = random_matrix(rows, cols, wider, 1), y0 = copy_of(y), z = copy_of(x);
      df_norm p = norm_of(&x, scaled ? &scale : NULL, shifted ? &shift : NULL, &y, groups, centred);
      K->norm(&p);
      p.y = y0.x;
      reference()->norm(&p);
      check_matrix(&y, &y0, 1e-6, 1e-6);
      p.x = p.y = z.x; // in place
      K->norm(&p);
      CHECK(same_bits(z.x, y.x, (int)floats(&z)));
      p.x = x.x + (rows - 1) * x.row; // a row alone
      p.rows = 1;
      p.y = z.x;
      K->norm(&p);
      CHECK(same_bits(z.x, y.x + (rows - 1) * y.row, cols));

      matrix dx = copy_of(y), dx0 = copy_of(y), onto = copy_of(dy), over = copy_of(x);
      p = norm_of(&x, scaled ? &scale : NULL, NULL, &dx, groups, centred);
      K->norm_grad(&p, dy.x, dy.row);
      p.y = dx0.x;
      reference()->norm_grad(&p, dy.x, dy.row);
      // dx grows with 1 / sqrt(variance + eps), which is 300 where all of x are the same.
      for (int i = 0; i < rows; i++)
        for (int g = 0; g < groups; g++) {
          const float *row = x.x + i * x.row + g * n;
          double mean = 0, squares = 0;
          for (int j = 0; centred && j < n; j++) mean += row[j] / (double)n;
          for (int j = 0; j < n; j++) squares += (row[j] - mean) * (row[j] - mean) / n;
          for (int j = g * n; j < (g + 1) * n; j++)
            CHECK_NEAR(dx.x[i * dx.row + j], dx0.x[i * dx0.row + j], 1e-6 / sqrt(squares + 1e-5));
        }
      gaps_are_untouched(&dx);
      p.y = onto.x;
      K->norm_grad(&p, onto.x, onto.row);
      CHECK(same_bits(onto.x, dx.x, (int)floats(&dx)));
      p.x = p.y = over.x;
      K->norm_grad(&p, dy.x, dy.row);
      CHECK(same_bits(over.x, dx.x, (int)floats(&dx)));
      p.x = x.x + (rows - 1) * x.row;
      p.y = over.x;
      p.rows = 1;
      K->norm_grad(&p, dy.x + (rows - 1) * dy.row, 0);
      CHECK(same_bits(over.x, dx.x + (rows - 1) * dx.row, cols));
      FREE(x, dy, scale, shift, y, y0, z, dx, dx0, onto, over);
    }
}

// Units of the last place: of the result for an RMS norm; for a layer norm of max(1, |u|), u the result without
// scale and shift, because x - mean has lost what it has lost when it is near 0. Rows may lie far from 0.
// Of dx, a difference: of the largest |scale dy| of the row over the square root, times max(1, |u|).
TEST(normalisations_are_as_exact_as_stated) {
  static const int sizes[] = {2, 3, 7, 16, 33, 64, 100, 256, 512, 1024, 3072};
  EACH_TABLE(K) {
    double worst[2] = {0, 0}, worst_grad[2] = {0, 0};
    for (int s = 0; s < COUNT(sizes); s++)
      for (int centred = 0; centred < 2; centred++)
        for (float offset = 0; offset <= 1000; offset = offset ? 10 * offset : 1) {
          const int n = sizes[s], rows = 24;
          DURING("%s, %d columns from %g, centred %d", K->name, n, (double)offset, centred);
          matrix x = random_matrix(rows, n, 0, 2), y = copy_of(x), y0 = copy_of(x);
          matrix scale = random_matrix(1, n, 0, 3);
          for (int i = 0; i < rows * n; i++) x.x[i] += offset;
          df_norm p = norm_of(&x, centred ? NULL : &scale, NULL, &y, 1, centred);
          K->norm(&p);
          p.y = y0.x;
          reference()->norm(&p);
          for (int i = 0; i < rows * n; i++) {
            const double size = centred ? fmax(1, fabsf(y0.x[i])) : fabsf(y0.x[i]);
            const double e = units(y.x[i], y0.x[i], size);
            CHECK_NEAR(y.x[i], y0.x[i], 2.5 * ldexp(size, -23)); // the reference is rounded too
            worst[centred] = fmax(worst[centred], e);
          }
          matrix dy = random_matrix(rows, n, 0, 1), u = copy_of(y0);
          p.scale = NULL;
          p.y = u.x;
          reference()->norm(&p);
          p.scale = scale.x;
          p.y = y0.x;
          reference()->norm_grad(&p, dy.x, n);
          p.y = y.x;
          K->norm_grad(&p, dy.x, n);
          for (int i = 0; i < rows; i++) {
            double mean = 0, squares = 0, largest = 0;
            const float *row = x.x + i * n;
            for (int j = 0; centred && j < n; j++) mean += row[j] / (double)n;
            for (int j = 0; j < n; j++) squares += (row[j] - mean) * (row[j] - mean) / n;
            for (int j = 0; j < n; j++)
              largest = fmax(largest, fabsf(scale.x[j] * dy.x[i * n + j]));
            for (int j = i * n; j < (i + 1) * n; j++) {
              const double size = largest / sqrt(squares + 1e-5) * fmax(1, fabsf(u.x[j]));
              const double e = units(y.x[j], y0.x[j], size);
              CHECK(e <= 2.5);
              worst_grad[centred] = fmax(worst_grad[centred], e);
            }
          }
          FREE(x, y, y0, scale, dy, u);
        }
    DURING("%s", K->name);
    print_units(K, "RMS norm, dx", worst[0], worst_grad[0]);
    print_units(K, "layer norm, dx", worst[1], worst_grad[1]);
    CHECK(worst[0] > 0.7 && worst[1] > 0.7); // a bound that could be far tighter is not a bound
  }
}

TEST(a_row_of_equal_numbers_is_normalised_to_0) {
  EACH_TABLE(K)
  for (int n = 1; n <= 70; n++) {
    DURING("%s, %d", K->name, n);
    matrix x = random_matrix(1, n, 0, 1), y = copy_of(x);
    for (int j = 0; j < n; j++) x.x[j] = 0.1f;
    const df_norm p = norm_of(&x, NULL, NULL, &y, 1, true);
    K->norm(&p);
    for (int j = 0; j < n; j++) CHECK_NEAR(y.x[j], 0, 1e-6);
    FREE(x, y);
  }
}

TEST(an_rms_norm_divides_by_the_length) { // x / max(|x|, 1e-12) sqrt(n), the form of image networks
  EACH_TABLE(K)
  for (float size = 1e-8f; size < 1e15f; size *= 100) {
    DURING("%s, %g", K->name, (double)size);
    enum { N = 37 };
    matrix x = random_matrix(2, N, 0, size), y = copy_of(x);
    for (int j = 0; j < N; j++) x.x[N + j] = 0;
    df_norm p = norm_of(&x, NULL, NULL, &y, 1, false);
    p.eps = 1e-24f / N;
    K->norm(&p);
    double squares = 0;
    for (int j = 0; j < N; j++) squares += (double)x.x[j] * x.x[j];
    for (int j = 0; j < N; j++) {
      const double want = x.x[j] / fmax(sqrt(squares), 1e-12) * sqrt(N);
      CHECK_NEAR(y.x[j], want, 2.5e-7 * fabs(want));
      CHECK(y.x[N + j] == 0);
    }
    FREE(x, y);
  }
}

TEST(softmax_agrees_with_the_reference) {
  EACH_TABLE(K)
  for (int cols = 1; cols <= 150; cols += cols < 34 ? 1 : 29)
    for (int wider = 0; wider <= 3; wider += 3)
      for (float factor = 0.125f; factor < 2; factor += 0.875f) {
        const int rows = 1 + cols % 4;
        DURING("%s, %d x %d + %d, scale %g", K->name, rows, cols, wider, (double)factor);
        matrix x = random_matrix(rows, cols, wider, 4), dy = random_matrix(rows, cols, wider, 1);
        for (int i = 0; i < rows; i++) x.x[i * x.row] -= 40; // a row of negative numbers, too
        if (cols > 2) x.x[cols / 2] = -INFINITY;
        matrix y = random_matrix(rows, cols, wider, 1), y0 = copy_of(y), z = copy_of(x);
        K->softmax(factor, rows, cols, x.x, x.row, y.x, y.row);
        reference()->softmax(factor, rows, cols, x.x, x.row, y0.x, y0.row);
        check_matrix(&y, &y0, 1e-10, 4e-6);
        if (cols > 2) CHECK(y.x[cols / 2] == 0);
        K->softmax(factor, rows, cols, z.x, z.row, z.x, z.row);
        CHECK(same_bits(z.x, y.x, (int)floats(&z)));
        K->softmax(factor, 1, cols, x.x + (rows - 1) * x.row, 0, z.x, 0);
        CHECK(same_bits(z.x, y.x + (rows - 1) * y.row, cols));
        matrix dx = copy_of(y), dx0 = copy_of(y), onto = copy_of(dy), over = copy_of(y);
        K->softmax_grad(factor, rows, cols, y.x, y.row, dy.x, dy.row, dx.x, dx.row);
        reference()->softmax_grad(factor, rows, cols, y.x, y.row, dy.x, dy.row, dx0.x, dx0.row);
        check_matrix(&dx, &dx0, 2e-7, 2e-6);
        K->softmax_grad(factor, rows, cols, y.x, y.row, onto.x, onto.row, onto.x, onto.row);
        CHECK(same_bits(onto.x, dx.x, (int)floats(&dx)));
        K->softmax_grad(factor, rows, cols, over.x, over.row, dy.x, dy.row, over.x, over.row);
        CHECK(same_bits(over.x, dx.x, (int)floats(&dx)));
        const int i = rows - 1;
        K->softmax_grad(factor, 1, cols, y.x + i * y.row, 0, dy.x + i * dy.row, 0, over.x, 0);
        CHECK(same_bits(over.x, dx.x + i * dx.row, cols));
        FREE(x, dy, y, y0, z, dx, dx0, onto, over);
      }
}

// Units of the last place of the row's largest result; of a result itself, one more for every 1 that scale x lies
// under its largest, for x - largest and its product with scale are rounded at their own size. Of dx: of scale y
// times the bound of |dy|, 1.
TEST(softmax_is_as_exact_as_stated) {
  static const int sizes[] = {2, 3, 7, 16, 33, 64, 100, 256, 1024, 4096};
  EACH_TABLE(K) {
    double worst[2] = {0, 0}, worst_grad = 0;
    for (int s = 0; s < COUNT(sizes); s++)
      for (float range = 1; range < 100; range *= 3) {
        const int n = sizes[s], rows = 16;
        const float factor = 0.17677669f;
        DURING("%s, %d columns up to %g", K->name, n, (double)range);
        matrix x = random_matrix(rows, n, 0, range / factor), y = copy_of(x), y0 = copy_of(x);
        K->softmax(factor, rows, n, x.x, n, y.x, n);
        reference()->softmax(factor, rows, n, x.x, n, y0.x, n);
        for (int i = 0; i < rows; i++) {
          double largest = 0, most = -1e30;
          for (int j = 0; j < n; j++) largest = fmax(largest, y0.x[i * n + j]);
          for (int j = 0; j < n; j++) most = fmax(most, x.x[i * n + j]);
          for (int j = i * n; j < (i + 1) * n; j++) {
            const double below = factor * (most - x.x[j]);
            if (below > 80) continue;
            const double e = units(y.x[j], y0.x[j], largest);
            const double own = units(y.x[j], y0.x[j], y0.x[j]);
            CHECK(e <= 2.5);
            CHECK(own <= 2.5 + below);
            worst[0] = fmax(worst[0], e);
            worst[1] = fmax(worst[1], own - below);
          }
        }
        matrix dy = random_matrix(rows, n, 0, 1), dx = copy_of(x), dx0 = copy_of(x);
        K->softmax_grad(factor, rows, n, y.x, n, dy.x, n, dx.x, n);
        reference()->softmax_grad(factor, rows, n, y.x, n, dy.x, n, dx0.x, n);
        for (int i = 0; i < rows * n; i++) {
          const double size = factor * y.x[i];
          if (size < 1e-30) continue;
          const double e = units(dx.x[i], dx0.x[i], size);
          CHECK(e <= 2.5);
          worst_grad = fmax(worst_grad, e);
        }
        FREE(x, y, y0, dy, dx, dx0);
      }
    DURING("%s", K->name);
    print_units(K, "softmax", worst[0], worst[1]);
    print_units(K, "softmax, dx", worst_grad, 0);
    CHECK(worst[0] > 0.7 && worst[1] > 0.7);
  }
}

TEST(softmax_keeps_nan_in_its_row) {
  EACH_TABLE(K) {
    enum { N = 19 };
    matrix x = random_matrix(3, N, 0, 1);
    x.x[N + 7] = NAN;
    for (int j = 0; j < N; j++) x.x[2 * N + j] = -INFINITY;
    K->softmax(1, 3, N, x.x, N, x.x, N);
    for (int j = 0; j < N; j++) {
      DURING("%s, %d", K->name, j);
      CHECK(x.x[j] > 0 && isnan(x.x[N + j]) && isnan(x.x[2 * N + j]));
    }
    FREE(x);
  }
}

// L = sum of dy y; x[i] is moved by +-e.
TEST(gradients_of_normalisations_and_softmax_are_derivatives) {
  enum { N = 12 };
  const df_kernels *K = reference();
  for (int what = 0; what < 5; what++) { // layer, group, RMS, RMS in groups, softmax
    float x[N], y[N], dy[N], dx[N], scale[N];
    fill(N, x, 2);
    fill(N, dy, 1);
    fill(N, scale, 2);
    df_norm p = {1, N, what & 1 ? 3 : 1, what < 2, 0.1f, x, N, scale, NULL, dx, N};
    if (what == 4)
      K->softmax(0.7f, 1, N, x, N, y, N), K->softmax_grad(0.7f, 1, N, y, N, dy, N, dx, N);
    else
      K->norm_grad(&p, dy, N);
    for (int i = 0; i < N; i++) {
      DURING("%d, input %d", what, i);
      const float at = x[i], e = 1.0f / 128;
      double l[2] = {0, 0};
      for (int side = 0; side < 2; side++) {
        x[i] = side ? at + e : at - e;
        p.y = y;
        if (what == 4)
          K->softmax(0.7f, 1, N, x, N, y, N);
        else
          K->norm(&p);
        for (int j = 0; j < N; j++) l[side] += (double)dy[j] * y[j];
      }
      x[i] = at;
      CHECK_NEAR(dx[i], (l[1] - l[0]) / (2 * e), 3e-4);
    }
  }
}

// ---- Attention -----------------------------------------------------------------------------------

// The rows of a sequence, and its keys and values transposed, as attention wants them. What no row may look at is NaN.
typedef struct sequence {
  matrix qkv, keys, values; // (rows,3C), (C,keys_row), (C,keys_row)
} sequence;

static sequence random_sequence(int rows, int cols, int wider, float scale) {
  const int row = df_keys_row(rows);
  sequence s = {random_matrix(rows, 3 * cols, wider, scale), random_matrix(cols, row, 0, 1),
                random_matrix(cols, row, 0, 1)};
  for (int c = 0; c < cols; c++)
    for (int j = 0; j < row; j++) {
      const float *from = s.qkv.x + j * s.qkv.row + cols + c;
      s.keys.x[c * row + j] = j < rows ? from[0] : NAN;
      s.values.x[c * row + j] = j < rows ? from[cols] : NAN;
    }
  return s;
}

static df_query query(const sequence *s, int heads, int rows, int self, int seen, int more,
                      matrix *y) {
  const int cols = s->keys.rows;
  return (df_query){.rows = rows,
                    .heads = heads,
                    .size = cols / heads,
                    .self = self,
                    .seen = seen,
                    .more = more,
                    .q = s->qkv.x + self * s->qkv.row,
                    .q_row = s->qkv.row,
                    .keys = s->keys.x,
                    .keys_row = s->keys.row,
                    .values = s->qkv.x + 2 * cols,
                    .values_row = s->qkv.row,
                    .y = y->x,
                    .y_row = y->row};
}

static df_query_grad query_grad(const sequence *s, int self, const matrix *dy, matrix *d) {
  const int cols = s->keys.rows;
  return (df_query_grad){.keys = s->qkv.x + cols,
                         .values = s->values.x,
                         .dy = dy->x,
                         .dy_row = dy->row,
                         .dq = d->x + self * d->row,
                         .dk = d->x + cols,
                         .dv = d->x + 2 * cols,
                         .d_row = d->row};
}

// Runs of rows of which the first sees `seen` rows: it is the next one, or further on, or amid them.
TEST(attention_agrees_with_the_reference) {
  static const int sizes[] = {1, 3, 4, 7, 12, 16, 19, 32, 35, 64, 77};
  EACH_TABLE(K)
  for (int s = 0; s < COUNT(sizes); s++)
    for (int seen = 0; seen <= 160; seen += seen < 20 ? 1 : seen < 70 ? 7 : 43)
      for (int where = 0; where < 3; where++) {
        const int heads = 1 + (seen + s) % 5, cols = heads * sizes[s], wider = seen % 2 ? 3 : 0;
        const int rows = 1 + (seen + 2 * s + where) % 6, more = where < 2 ? 1 : 0;
        const int self = where == 0 ? seen : where == 1 ? seen + rows + 1 : seen / 2;
        if (where == 2 && self + rows > seen) continue;
        const int all = self + rows > seen ? self + rows : seen;
        const float scale = seen % 3 ? 1 : 4;
        DURING("%s, %d heads of %d, %d rows from %d on see %d, scale %g", K->name, heads, sizes[s],
               rows, self, seen, (double)scale);
        sequence q = random_sequence(all, cols, wider, scale);
        matrix y = random_matrix(rows, cols, wider, 1), y0 = copy_of(y);
        matrix dy = random_matrix(rows, cols, wider, 1);
        matrix d = random_matrix(all, 3 * cols, wider, 1), d0 = copy_of(d);
        df_query p = query(&q, heads, rows, self, seen, more, &y);
        df_query p0 = query(&q, heads, rows, self, seen, more, &y0);
        const df_query_grad g = query_grad(&q, self, &dy, &d), g0 = query_grad(&q, self, &dy, &d0);
        K->attention(&p);
        reference()->attention(&p0);
        check_matrix(&y, &y0, 4e-6 * (double)scale, 0);
        K->attention_grad(&p, &g);
        reference()->attention_grad(&p0, &g0);
        check_matrix(&d, &d0, 1e-5 * (double)(scale * scale), 0);
        // Each row alone; what it does not see is nobody's business.
        for (int r = rows - 1; r >= 0; r--) {
          for (int i = seen + r * more; i < all; i++)
            for (int c = 0; c < cols && (i < self || i > self + r); c++)
              q.qkv.x[i * q.qkv.row + 2 * cols + c] = q.keys.x[c * q.keys.row + i] = NAN;
          p = query(&q, heads, 1, self + r, seen + r * more, 0, &y0);
          K->attention(&p);
          CHECK(same_bits(y0.x, y.x + r * y.row, cols));
          if (where == 0) { // the row itself is seen anyway, and may be counted
            p.seen++;
            K->attention(&p);
            CHECK(same_bits(y0.x, y.x + r * y.row, cols));
          }
        }
        FREE(q.qkv, q.keys, q.values, y, y0, dy, d, d0);
      }
}

// One score above all others, by more than float32 can count in e^x, before, in and behind the first block
TEST(attention_can_be_to_one_row_alone) {
  enum { N = 150, HEADS = 2, SIZE = 5, C = HEADS * SIZE };
  EACH_TABLE(K)
  for (int to = 0; to < N; to += 37) {
    DURING("%s, row %d", K->name, to);
    sequence s = random_sequence(N + 1, C, 0, 1);
    for (int c = 0; c < C; c++) {
      s.qkv.x[N * s.qkv.row + c] = 300;
      s.keys.x[c * s.keys.row + to] = 300;
    }
    matrix y = random_matrix(1, C, 0, 1);
    const df_query p = query(&s, HEADS, 1, N, N, 0, &y);
    K->attention(&p);
    for (int c = 0; c < C; c++) {
      const float v = s.qkv.x[to * s.qkv.row + 2 * C + c];
      CHECK_NEAR(y.x[c], v, 2.5e-7 * fabsf(v));
    }
    FREE(s.qkv, s.keys, s.values, y);
  }
}

TEST(attention_keeps_nan_in_its_head) {
  enum { N = 21, HEADS = 3, SIZE = 4, C = HEADS * SIZE };
  EACH_TABLE(K)
  for (int what = 0; what < 4; what++) { // in a query, a key, a value, and the row's own value
    DURING("%s, %d", K->name, what);
    sequence s = random_sequence(N + 1, C, 0, 1);
    if (what == 0) s.qkv.x[N * s.qkv.row + SIZE + 1] = NAN;
    if (what == 1) s.keys.x[(SIZE + 1) * s.keys.row + 20] = NAN;
    if (what == 2) s.qkv.x[7 * s.qkv.row + 2 * C + SIZE + 1] = NAN;
    if (what == 3) s.qkv.x[N * s.qkv.row + 2 * C + SIZE + 1] = NAN;
    matrix y = random_matrix(1, C, 0, 1);
    const df_query p = query(&s, HEADS, 1, N, N, 0, &y);
    K->attention(&p);
    for (int c = 0; c < C; c++) CHECK(isnan(y.x[c]) == (what < 2 ? c / SIZE == 1 : c == SIZE + 1));
    FREE(s.qkv, s.keys, s.values, y);
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

// Units of the last place of the larger of |h| and |gi_c| + |gh_c|, not of the result: both gi_c + r gh_c and
// (1 - u) c + u h may cancel.
TEST(gru_is_as_exact_as_stated) {
  enum { ROWS = 64, N = 256 };
  EACH_TABLE(K) {
    double worst = 0;
    for (float scale = 1e-3f; scale < 200; scale *= 10)
      for (float state = 1e-3f; state < 2; state *= 10) {
        DURING("%s, gates up to %g, state up to %g", K->name, (double)scale, (double)state);
        matrix gi = random_matrix(ROWS, 3 * N, 0, scale), gh = random_matrix(ROWS, 3 * N, 0, scale);
        matrix h = random_matrix(ROWS, N, 0, state), y = copy_of(h), y0 = copy_of(h);
        K->gru(ROWS, N, gi.x, gi.row, gh.x, gh.row, h.x, N, y.x, N);
        reference()->gru(ROWS, N, gi.x, gi.row, gh.x, gh.row, h.x, N, y0.x, N);
        for (int i = 0; i < ROWS; i++)
          for (int j = 0; j < N; j++) {
            const float a = gi.x[i * gi.row + 2 * N + j], b = gh.x[i * gh.row + 2 * N + j];
            const double size = fmax(fabsf(h.x[i * N + j]), fabs((double)a) + fabs((double)b));
            const double e = units(y.x[i * N + j], y0.x[i * N + j], size);
            CHECK(e <= 2.5); // the reference is rounded too
            worst = fmax(worst, e);
          }
        FREE(gi, gh, h, y, y0);
      }
    DURING("%s", K->name);
    print_units(K, "gru", worst, 0);
    CHECK(worst > 0.7);
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
