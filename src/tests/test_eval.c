// What `forcing eval` measures: distances, likelihood of lengths, the classifier, and the contact sheet.
#include <stdlib.h>

#include "base/random.h"
#include "cli/sheet.c"
#include "tests/test.h"
#include "train/classifier.h"
#include "train/metrics.h"

// ---- Distances ----

static double w1(int n, const double *a, int m, const double *b) {
  double x[16], y[16];
  memcpy(x, a, sizeof *a * (size_t)n);
  memcpy(y, b, sizeof *b * (size_t)m);
  return df_wasserstein1(x, n, y, m);
}

TEST(wasserstein_of_few_points_is_what_paper_says) {
  CHECK_NEAR(w1(1, (double[]){0}, 1, (double[]){3}), 3, 0);
  CHECK_NEAR(w1(1, (double[]){3}, 1, (double[]){-1}), 4, 0);
  CHECK_NEAR(w1(3, (double[]){2, 0, 1}, 3, (double[]){1, 2, 0}), 0, 0);
  // A share of 2/3 - 1/2 has to move by 1.
  CHECK_NEAR(w1(3, (double[]){0, 0, 1}, 2, (double[]){1, 0}), 1.0 / 6, 1e-15);
  CHECK_NEAR(w1(2, (double[]){5, 5}, 4, (double[]){5, 5, 5, 9}), 1, 1e-15);
  CHECK_NEAR(w1(1, (double[]){0}, 4, (double[]){-2, -1, 1, 2}), 1.5, 1e-15);
}

TEST(wasserstein_of_shifted_and_stretched_samples_has_a_closed_form) {
  enum { N = 1000, M = 700 };
  static double a[N], b[M], c[N];
  for (int i = 0; i < N; i++) a[i] = (i * 7 % N + 0.5) / N; // uniform on 0..1, in some order
  for (int i = 0; i < M; i++) b[i] = 3 * (i + 0.5) / M + 1; // uniform on 1..4
  for (int i = 0; i < N; i++) c[i] = a[i] + 0.25;
  // |F^-1 - G^-1| integrates to the difference of the means where one lies above the other.
  CHECK_NEAR(df_wasserstein1(a, N, b, M), 2.5 - 0.5, 1e-3);
  CHECK_NEAR(df_wasserstein1(a, N, c, N), 0.25, 1e-12);
}

// ---- Drawings ----

static float points[] = {0, 0, 0, 3, 0, 0, 0, 4, 1, -3, 0, 1, 1, -1, 0};
static int32_t point_offsets[] = {0, 5, 5};
static df_dataset drawing = {.count = 2, .fields = 3, .offsets = point_offsets, .values = points};
static const df_pen pen = {0, 1, 2, false, 0.5f};

TEST(strokes_box_and_aspect_of_a_drawing) {
  df_drawing d = df_drawing_of(&drawing, &pen, 0);
  CHECK_INT(d.points, 5);
  CHECK_INT(d.strokes, 3); // three points, a dot, and one that was never lifted
  CHECK_NEAR(d.width, 3, 0);
  CHECK_NEAR(d.height, 4, 0);
  CHECK_NEAR(d.size, 5, 1e-12);
  CHECK_NEAR(d.aspect, log(4.0 / 5), 1e-12);
  d = df_drawing_of(&drawing, &pen, 1);
  CHECK(d.points == 0 && d.strokes == 0 && d.size == 0 && d.aspect == 0);
}

// ---- Lengths ----

TEST(hazards_are_smoothed_shares_of_those_alive) {
  double h[4];
  df_hazard_fit((int[]){1, 1, 2}, 3, 3, h);
  CHECK_NEAR(h[0], 0.5 / 4, 1e-15);
  CHECK_NEAR(h[1], 2.5 / 4, 1e-15);
  CHECK_NEAR(h[2], 1.5 / 2, 1e-15);
  CHECK_NEAR(h[3], 0.5, 1e-15);
  CHECK_NEAR(df_hazard_nll(h, 3, 2), -log(1 - 0.125) - log(1 - 0.625) - log(0.75), 1e-12);
}

TEST(a_hazard_table_is_a_distribution_over_all_lengths) {
  double h[6], sum = 0;
  df_hazard_fit((int[]){3, 3, 2, 5, 4, 3}, 6, 5, h);
  for (int length = 0; length < 60; length++) sum += exp(-df_hazard_nll(h, 5, length));
  CHECK_NEAR(sum, 1, 1e-12);
}

TEST(a_hazard_that_sees_part_full_tokens_knows_that_they_are_the_last) {
  // Two frames to a token: lengths of 2, 3, 4, 4 and 3 frames.
  double full[3], part[3], sum = 0;
  const int frames[] = {2, 3, 4, 4, 3};
  df_hazard_fit_seen(frames, 5, 2, 2, full, part);
  CHECK_NEAR(full[0], 0.5 / 6, 1e-15);
  CHECK_NEAR(full[1], 1.5 / 6, 1e-15); // all five have a full first token, one ends with it
  CHECK_NEAR(full[2], 2.5 / 3, 1e-15); // two of the four alive have a full second token
  CHECK_NEAR(part[2], 2.5 / 3, 1e-15); // the other two do not; both end
  CHECK_NEAR(df_hazard_nll_seen(full, part, 2, 2, 3),
             -log(1 - full[0]) - log(1 - full[1]) - log(part[2]), 1e-12);
  CHECK_NEAR(df_hazard_nll_seen(full, part, 2, 2, 2), -log(1 - full[0]) - log(full[1]), 1e-12);
  // Full tokens only: a distribution over whole lengths.
  for (int tokens = 0; tokens < 60; tokens++)
    sum += exp(-df_hazard_nll_seen(full, part, 2, 2, 2 * tokens));
  CHECK_NEAR(sum, 1, 1e-12);
}

TEST(geometric_lengths_have_the_entropy_of_a_geometric_distribution) {
  enum { N = 40000, MOST = 60 };
  static int lengths[N];
  static double h[MOST + 1];
  const double p = 0.2;
  for (int i = 0; i < N; i++) {
    df_random at = {.seed = 5, .sequence = (uint32_t)i, .purpose = DF_RANDOM_TEST};
    lengths[i] = (int)(log(1 - df_random_double(&at)) / log(1 - p));
  }
  df_hazard_fit(lengths, N / 2, MOST, h);
  double nll = 0;
  for (int i = N / 2; i < N; i++) nll += df_hazard_nll(h, MOST, lengths[i]);
  double entropy = -(p * log(p) + (1 - p) * log(1 - p)) / p;
  // Standard deviation of -ln P(length): -ln(1 - p) times that of the length.
  double error = -log(1 - p) * sqrt(1 - p) / p / sqrt(N / 2);
  CHECK_NEAR(nll / (N / 2), entropy, 4 * error + 60.0 / N);
}

static const char *const stop_config =
    "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8,"
    " \"network_size\": 4, \"hidden_size\": 8, \"stop_head\": true},"
    " \"diffusion\": {\"levels\": 30, \"objective\": \"v\", \"schedule\": \"cosine\"},"
    " \"tokens\": {\"frame_stack\": 2, \"fields\": [{\"name\": \"dx\", \"std\": 2},"
    "   {\"name\": \"dy\", \"std\": 2}, {\"name\": \"pen\", \"binary\": true}]}}";

TEST(a_stop_head_that_sees_nothing_is_a_constant_hazard) {
  df_config config;
  df_params params = {0};
  double nll[2];
  REQUIRE(CHECK_OK(df_config_parse(&config, stop_config, strlen(stop_config), &test_error)));
  if (CHECK_OK(df_network_declare(&config.network, &params, &test_error))) {
    df_params_init(&params, 3);
    df_param *w = df_params_find(&params, "stop.weight"), *b = df_params_find(&params, "stop.bias");
    if (CHECK(w && b)) {
      memset(w->value, 0, sizeof(float) * 8);
      b->value[0] = -1;
      CHECK_OK(df_stop_nll(&config, &params, &drawing, nll, &test_error));
      // Five frames are three tokens, of two frames each.
      double hazard = 1 / (1 + exp(1));
      CHECK_NEAR(nll[0], -3 * log(1 - hazard) - log(hazard), 1e-5);
      CHECK_NEAR(nll[1], -log(hazard), 1e-5);
      // With weights, what was drawn counts; and a block of sequences gives what each gives alone.
      for (int i = 0; i < 8; i++) w->value[i] = 0.3f * (float)(i - 3);
      static float many[150 * 15];
      static int32_t offsets[151];
      static double all[150];
      for (int i = 0; i < 150; i++) {
        memcpy(many + (size_t)i * 15, points, sizeof points);
        offsets[i + 1] = offsets[i] + 1 + i % 5; // the frames of one run into the next
      }
      df_dataset set = {.count = 150, .fields = 3, .offsets = offsets, .values = many};
      CHECK_OK(df_stop_nll(&config, &params, &set, all, &test_error));
      for (int i = 0; i < 150; i += 37) {
        df_dataset one = {.count = 1, .fields = 3, .offsets = (int32_t[]){0, 1 + i % 5}};
        one.values = many + 3 * offsets[i];
        CHECK_OK(df_stop_nll(&config, &params, &one, nll, &test_error));
        CHECK_NEAR(nll[0], all[i], 1e-6);
      }
    }
  }
  df_params_free(&params);
  df_config_free(&config);
}

// ---- The classifier ----

enum { MANY = 1200, LONGEST = 12 };

// Random walks of 4 to 12 points; every third point ends a stroke. tilt is added to dy.
static df_dataset walks(uint64_t seed, float tilt, float *values, int32_t *offsets) {
  offsets[0] = 0;
  for (int i = 0; i < MANY; i++) {
    df_random at = {.seed = seed, .sequence = (uint32_t)i, .purpose = DF_RANDOM_TEST};
    int n = 4 + (int)(df_random_double(&at) * (LONGEST - 3));
    float noise[2 * LONGEST];
    at.token = 1;
    df_random_normal(&at, 2 * n, noise);
    for (int f = 0; f < n; f++) {
      float *v = values + 3 * (offsets[i] + f);
      v[0] = 2 * noise[2 * f];
      v[1] = 2 * noise[2 * f + 1] + tilt;
      v[2] = f % 3 == 2;
    }
    offsets[i + 1] = offsets[i] + n;
  }
  return (df_dataset){.count = MANY, .fields = 3, .offsets = offsets, .values = values};
}

static float real_values[3 * MANY * LONGEST], generated_values[3 * MANY * LONGEST];
static int32_t real_offsets[MANY + 1], generated_offsets[MANY + 1];

// 800 of each to learn from, 400 of each to test.
static df_status classify(df_classifier_result *r, float tilt, df_threads *threads) {
  df_config config;
  df_status status = df_config_parse(&config, stop_config, strlen(stop_config), &test_error);
  if (status) return status;
  df_dataset real = walks(11, 0, real_values, real_offsets);
  df_dataset generated = walks(12, tilt, generated_values, generated_offsets);
  df_classifier_options options = df_classifier_defaults();
  options.hidden = 16;
  options.batch = 32;
  options.epochs = 6;
  options.threads = threads;
  status = df_classify(r, &config, (df_class){&real, 0, 800}, (df_class){&generated, 0, 800},
                       (df_class){&real, 800, 400}, (df_class){&generated, 800, 400}, &options,
                       &test_error);
  df_config_free(&config);
  return status;
}

TEST(the_classifier_tells_different_sets_apart) {
  df_classifier_result r;
  REQUIRE(CHECK_OK(classify(&r, 5, NULL)));
  CHECK(r.accuracy > 0.95);
  CHECK(r.loss < 0.2);
  CHECK_NEAR(r.accuracy, (r.real + r.generated) / 2, 1e-12);
  CHECK(r.standard_error < 0.01);
}

TEST(the_classifier_finds_nothing_in_equal_sets) {
  df_classifier_result r;
  REQUIRE(CHECK_OK(classify(&r, 0, NULL)));
  // 800 fair coins: standard error 1/2 / sqrt(800), of which four
  CHECK_NEAR(r.accuracy, 0.5, 4 * 0.5 / sqrt(800));
  CHECK(r.standard_error <= 0.5 / sqrt(800) + 1e-9);
}

TEST(the_classifier_does_not_depend_on_the_number_of_threads) {
  df_classifier_result one, two;
  df_threads *threads;
  REQUIRE(CHECK_OK(df_threads_create(&threads, 2, &test_error)));
  if (CHECK_OK(classify(&one, 0.3f, NULL)) && CHECK_OK(classify(&two, 0.3f, threads))) {
    CHECK(one.accuracy == two.accuracy && one.loss == two.loss &&
          one.held_out_loss == two.held_out_loss && one.epochs == two.epochs);
    CHECK(one.accuracy > 0.5);
  }
  df_threads_free(threads);
}

static bool never(void *context, int epoch, int epochs, double loss) {
  *(int *)context = epoch;
  CHECK(epochs == 3 && isfinite(loss));
  return false;
}

TEST(the_classifier_stops_on_request_and_wants_enough_sequences) {
  df_config config;
  df_classifier_result r;
  int epoch = 0;
  REQUIRE(CHECK_OK(df_config_parse(&config, stop_config, strlen(stop_config), &test_error)));
  df_dataset real = walks(11, 0, real_values, real_offsets);
  df_classifier_options options = df_classifier_defaults();
  options.hidden = 4;
  options.epochs = 3;
  options.report = never;
  options.context = &epoch;
  df_class some = {&real, 0, 100}, few = {&real, 0, 3};
  CHECK_STATUS(df_classify(&r, &config, some, some, some, some, &options, &test_error), DF_STOPPED);
  CHECK_INT(epoch, 1);
  CHECK_STATUS(df_classify(&r, &config, some, few, some, some, &options, &test_error),
               DF_BAD_ARGUMENT);
  df_config_free(&config);
}

// ---- The contact sheet ----

// Elements are closed in order, attributes are quoted, & and < are escaped.
static bool well_formed(const char *s) {
  char open[16][16];
  int depth = 0, elements = 0;
  while (*s) {
    if (*s == '&') {
      if (strncmp(s, "&lt;", 4) && strncmp(s, "&gt;", 4) && strncmp(s, "&amp;", 5)) return false;
      s++;
    } else if (*s != '<') {
      s++;
    } else {
      bool closing = s[1] == '/', empty = false;
      char name[16];
      int length = 0;
      if (sscanf(s + 1 + closing, "%15[a-z]%n", name, &length) != 1) return false;
      s += 1 + closing + length;
      for (bool quoted = false; *s && (quoted || *s != '>'); s++) {
        if (*s == '"') quoted = !quoted;
        if (*s == '<') return false;
        empty = !quoted && *s == '/';
      }
      if (*s++ != '>') return false;
      elements++;
      if (closing && (!depth || strcmp(open[--depth], name))) return false;
      if (!closing && !empty) {
        if (depth == 16) return false;
        strcpy(open[depth++], name);
      }
    }
  }
  return depth == 0 && elements > 5;
}

TEST(a_sheet_is_well_formed_and_holds_every_drawing) {
  char *svg = NULL;
  size_t size;
  sheet_options o = {.count = 2, .title = "a < b & c", .caption = "1 > 0"};
  REQUIRE(CHECK_OK(sheet_write(&svg, &size, &drawing, &pen, &o, &test_error)));
  CHECK_INT(size, strlen(svg));
  CHECK(well_formed(svg));
  CHECK_CONTAINS(svg, "<title>a &lt; b &amp; c</title>");
  CHECK_CONTAINS(svg, "1 &gt; 0");
  // One box of 3 x 4 that fills 0.74 of a cell of 96 with its height; the dot is a line of no length.
  CHECK_CONTAINS(svg, "M45.4 36.5L98.6 36.5L98.6 107.5M45.4 107.5h0M63.1 89.8");
  df_free(svg);
  CHECK_WITHOUT_MEMORY(sheet_write(&svg, &size, &drawing, &pen, &o, &test_error));
  df_free(svg);
}

TEST(a_sheet_of_nothing_is_an_empty_grid) {
  char *svg = NULL;
  size_t size;
  sheet_options o = {.first = 2, .count = 8};
  REQUIRE(CHECK_OK(sheet_write(&svg, &size, &drawing, &pen, &o, &test_error)));
  CHECK(well_formed(svg));
  df_free(svg);
}
