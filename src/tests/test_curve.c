// Quality against steps: means, errors, and how they are written (cli/curve.c).
#include "cli/curve.c"

#include "tests/test.h"

// Two ways to sample at three numbers of steps; the second one was not measured at the last.
static curve example(void) {
  curve c = {.lines = 2, .points = 3, .names = {"uniform", "a < b & c"}, .steps = {4, 8, 100}};
  static const double shares[2][3][2] = {{{0.9, 0.8}, {0.75, 0.65}, {0.5, 0.5}},
                                         {{0.7, 0.9}, {0.6, 0.7}, {0, 0}}};
  for (int l = 0; l < 2; l++)
    for (int p = 0; p < 3 - l; p++)
      for (int repeat = 0; repeat < 2; repeat++) {
        curve_add(&c, l, p, "share", "a share", true, shares[l][p][repeat], 0.01);
        curve_add(&c, l, p, "strokes", "strokes, W1", false, l + p, 0);
      }
  return c;
}

TEST(repeats_have_a_mean_and_an_error_of_their_own) {
  static curve c;
  c = example();
  double mean, error;
  CHECK_INT(c.measures, 2);
  CHECK_INT(curve_measure(&c, "strokes"), 1);
  CHECK_INT(curve_measure(&c, "stroke"), -1);
  curve_mean(&c, 0, 0, 0, &mean, &error);
  CHECK_NEAR(mean, 0.85, 1e-12);
  CHECK_NEAR(error, 0.05,
             1e-12); // 0.1 / sqrt(2) is the deviation of one, / sqrt(2) that of the mean
  curve_mean(&c, 0, 2, 0, &mean, &error);
  CHECK(mean == 0.5 && error == 0);
  curve_mean(&c, 1, 2, 0, &mean, &error);
  CHECK(isnan(mean) && isnan(error));
  // One value has the error that came with it.
  curve_add(&c, 1, 2, "share", "", true, 0.5, 0.01);
  curve_mean(&c, 1, 2, 0, &mean, &error);
  CHECK(mean == 0.5 && error == 0.01);
  // No more than there is room for.
  char key[16];
  for (int i = 0; i < 2 * CURVE_MEASURES; i++) {
    snprintf(key, sizeof key, "m%d", i);
    curve_add(&c, 0, 0, key, "", false, i, 0);
  }
  CHECK_INT(c.measures, CURVE_MEASURES);
  CHECK_INT(curve_measure(&c, "m13"), CURVE_MEASURES - 1);
}

TEST(a_curve_is_written_as_a_table_as_csv_and_as_a_chart) {
  static curve c;
  c = example();
  df_arena arena = {0};
  CHECK_TEXT(curve_markdown(&c, &arena, 0), "| steps | uniform | a < b & c |\n"
                                            "| ---: | ---: | ---: |\n"
                                            "| 4 | 85.0 ± 5.0 | 80.0 ± 10.0 |\n"
                                            "| 8 | 70.0 ± 5.0 | 65.0 ± 5.0 |\n"
                                            "| 100 | 50.0 | – |\n");
  CHECK_TEXT(curve_csv(&c, &arena),
             "sampling,steps,repeats,share,share_error,strokes,strokes_error\n"
             "\"uniform\",4,2,0.85,0.05,0,0\n"
             "\"uniform\",8,2,0.7,0.05,1,0\n"
             "\"uniform\",100,2,0.5,0,2,0\n"
             "\"a < b & c\",4,2,0.8,0.1,1,0\n"
             "\"a < b & c\",8,2,0.65,0.05,2,0\n"
             "\"a < b & c\",100,0,,,,\n");
  const char *svg = curve_svg(&c, &arena, 0, "x > y", 0.5);
  REQUIRE(svg);
  CHECK(!strncmp(svg, "<svg ", 5) && !strcmp(svg + strlen(svg) - 7, "</svg>\n"));
  CHECK(!strstr(svg, "nan") && !strstr(svg, "inf"));
  CHECK_CONTAINS(svg, "x &#62; y");
  CHECK_CONTAINS(svg, "a &#60; b &#38; c");
  CHECK_CONTAINS(svg, "real data");
  // From the left edge to the right one, the mark of the best value below that of the worst.
  CHECK_CONTAINS(svg, "d='M64.0 ");
  CHECK_CONTAINS(svg, "L670.0 ");
  // One point, and none at all.
  c.points = 1;
  CHECK(!strstr(curve_svg(&c, &arena, 1, "", NAN), "nan"));
  c.values[0][0][1].count = c.values[1][0][1].count = 0;
  CHECK(!strstr(curve_svg(&c, &arena, 1, "", NAN), "nan"));
  df_arena_free(&arena);
}
