#include <stdlib.h>

#include "diffusion/levels.h"
#include "tests/golden.h"

// A table as text: a row per line, an entry per character.
static const char *picture(df_schedule schedule, int T, int S, double u) {
  static char text[2048];
  static int32_t table[1024];
  int rows = 0;
  text[0] = 0;
  if (!CHECK_OK(df_levels_rows(schedule, T, S, u, &rows, &test_error)) ||
      !CHECK(rows * T <= COUNT(table)))
    return text;
  CHECK_OK(df_levels_fill(schedule, T, S, u, table, &test_error));
  CHECK_OK(df_levels_check(table, rows, T, S, false, schedule == DF_ROLLING, &test_error));
  char *end = text;
  for (int m = 0; m < rows; m++) {
    for (int t = 0; t < T; t++) *end++ = (char)('0' + table[m * T + t]);
    *end++ = '\n';
  }
  *end = 0;
  return text;
}

TEST(full_sequence_moves_all_columns_together) {
  CHECK_TEXT(picture(DF_FULL_SEQUENCE, 5, 3, 7), "33333\n"
                                                 "22222\n"
                                                 "11111\n"
                                                 "00000\n");
}

TEST(pyramid_starts_each_column_later) {
  CHECK_TEXT(picture(DF_PYRAMID, 5, 3, 1), "33333\n"
                                           "23333\n"
                                           "12333\n"
                                           "01233\n"
                                           "00123\n"
                                           "00012\n"
                                           "00001\n"
                                           "00000\n");
  CHECK_TEXT(picture(DF_PYRAMID, 5, 3, 0.5), "33333\n"
                                             "22333\n"
                                             "11223\n"
                                             "00112\n"
                                             "00001\n"
                                             "00000\n");
  CHECK_TEXT(picture(DF_PYRAMID, 3, 3, 0), picture(DF_FULL_SEQUENCE, 3, 3, 0));
}

TEST(autoregressive_finishes_a_column_before_the_next) {
  CHECK_TEXT(picture(DF_AUTOREGRESSIVE, 3, 2, 0), "222\n"
                                                  "122\n"
                                                  "022\n"
                                                  "012\n"
                                                  "002\n"
                                                  "001\n"
                                                  "000\n");
}

TEST(trapezoid_walks_from_both_ends_to_the_middle) {
  CHECK_TEXT(picture(DF_TRAPEZOID, 6, 3, 1), "333333\n"
                                             "233332\n"
                                             "123321\n"
                                             "012210\n"
                                             "001100\n"
                                             "000000\n");
  CHECK_TEXT(picture(DF_TRAPEZOID, 5, 2, 2), "22222\n"
                                             "12221\n"
                                             "02220\n"
                                             "01210\n"
                                             "00200\n"
                                             "00100\n"
                                             "00000\n");
  CHECK_TEXT(picture(DF_TRAPEZOID, 1, 2, 0.5), "2\n1\n0\n");
}

TEST(rolling_finishes_a_column_and_moves_the_others_on_by_one) {
  CHECK_TEXT(picture(DF_ROLLING, 5, 3, 1), "12333\n"
                                           "01233\n");
  CHECK_TEXT(picture(DF_ROLLING, 4, 5, 2), "2455\n"
                                           "1355\n"
                                           "0245\n");
  CHECK_TEXT(picture(DF_ROLLING, 3, 3, 3), "333\n"
                                           "233\n"
                                           "133\n"
                                           "033\n");
  CHECK_TEXT(picture(DF_ROLLING, 2, 6, 2), "24\n"
                                           "13\n"
                                           "02\n");
  // It is row S - u of a pyramid.
  for (int m = 0; m < 4; m++)
    for (int t = 0; t < 6; t++)
      CHECK_INT(df_levels_at(DF_ROLLING, 6, 8, 3, m, t),
                df_levels_at(DF_PYRAMID, 6, 8, 3, 5 + m, t));
}

TEST(one_token_is_a_column_for_every_schedule) {
  for (int s = 0; s < DF_ROLLING; s++)
    CHECK_TEXT(picture((df_schedule)s, 1, 4, 1), "4\n3\n2\n1\n0\n");
}

// "U0_5" -> 0.5
static bool name_numbers(const char *name, int *S, double *u, int *H) {
  const char *s = strstr(name, ".S"), *h = strstr(name, ".H"), *up = strstr(name, ".U");
  if (!s || !h) return false;
  *S = atoi(s + 2), *H = atoi(h + 2), *u = 0;
  if (up) {
    char number[32];
    snprintf(number, sizeof number, "%.*s", (int)strcspn(up + 2, "."), up + 2);
    char *line = strchr(number, '_');
    if (line) *line = '.';
    *u = strtod(number, NULL);
  }
  return true;
}

// The planner's table counts steps made, in rows that are steps; ours counts levels left. It may
// have more rows.
TEST(pyramids_are_those_of_the_reference) {
  golden g = golden_open("rnn_pyramid_tables");
  int tables = 0;
  for (int i = 0; i < g.file.count; i++) {
    const df_view *view = &g.file.views[i];
    int S, H, rows = 0;
    double u;
    if (!name_numbers(view->name, &S, &u, &H) || u > S)
      continue; // u > S would only add rows in which nothing moves
    int64_t *want = golden_ints(&g, view->name);
    if (!CHECK(want != NULL)) continue;
    DURING("%s", view->name);
    CHECK_OK(df_levels_rows(DF_PYRAMID, H, S, u, &rows, &test_error));
    CHECK(view->shape[0] >= rows - 1);
    for (int64_t m = 0; m < view->shape[0]; m++)
      for (int t = 0; t < H; t++) {
        int64_t made = want[m * H + t];
        made = made < 0 ? 0 : made > S ? S : made;
        CHECK_INT(S - made, df_levels_at(DF_PYRAMID, H, S, u, m, t));
      }
    tables++;
  }
  CHECK(tables > 50);
  golden_close(&g);
}

// As published, the trapezoid mirrors column t onto -t modulo H, a slip: column 0 has no mirror
// image and column H-1 mirrors column 1. Ours mirrors onto H-1-t. Column t < (H+1)/2 is the same in
// both; the published column H-t (t >= 1) is our column H-1-t. A published column that is never
// written (the middle one of an even H) is not compared.
TEST(scheduling_matrices_are_those_of_the_reference_but_for_the_mirror_of_the_trapezoid) {
  golden g = golden_open("main_scheduling");
  int tables = 0;
  for (int i = 0; i < g.file.count; i++) {
    const df_view *view = &g.file.views[i];
    int S, H, rows = 0;
    double u;
    if (!name_numbers(view->name, &S, &u, &H)) continue;
    int64_t *want = golden_ints(&g, view->name);
    if (!CHECK(want != NULL)) continue;
    DURING("%s", view->name);
    df_schedule schedule = strstr(view->name, "full_sequence")    ? DF_FULL_SEQUENCE
                           : strstr(view->name, "autoregressive") ? DF_AUTOREGRESSIVE
                           : strstr(view->name, "pyramid")        ? DF_PYRAMID
                                                                  : DF_TRAPEZOID;
    CHECK_OK(df_levels_rows(schedule, H, S, u, &rows, &test_error));
    if (schedule != DF_TRAPEZOID) CHECK_INT(rows, view->shape[0]);
    for (int64_t m = 0; m < view->shape[0]; m++) {
      for (int t = 0; t < H; t++) {
        int half = (H + 1) / 2, published = t;
        if (schedule == DF_TRAPEZOID && t >= half)
          published = t + 1;          // our t is H-1-t', theirs H-t'
        if (published >= H) continue; // t' = 0, which they do not mirror
        CHECK_INT(df_levels_at(schedule, H, S, u, m, t), want[m * H + published]);
      }
    }
    tables++;
  }
  CHECK(tables > 100);
  golden_close(&g);
}

TEST(levels_far_down_an_endless_table) {
  int64_t far = 3000000000;
  CHECK_INT(df_levels_at(DF_PYRAMID, 1, 10, 2, 2 * far + 4, far), 6);
  CHECK_INT(df_levels_at(DF_AUTOREGRESSIVE, 1, 10, 0, 10 * far, far), 10);
  CHECK_INT(df_levels_at(DF_AUTOREGRESSIVE, 1, 10, 0, 10 * far + 10, far), 0);
}

TEST(impossible_schedules_are_refused) {
  int rows;
  CHECK_STATUS(df_levels_rows(DF_PYRAMID, 0, 3, 1, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_PYRAMID, 3, 0, 1, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_PYRAMID, 3, 4, -0.5, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_PYRAMID, 3, 4, NAN, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_TRAPEZOID, 3, 4, 4.5, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message,
                 "expected an uncertainty from 0 to 4 (the sampling steps), found 4.5");
  CHECK_STATUS(df_levels_rows(DF_ROLLING, 3, 4, 0.5, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_ROLLING, 3, 4, 1.5, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message, "a whole uncertainty from 1 on, found 1.5");
  CHECK_STATUS(df_levels_rows(DF_ROLLING, 3, 4, 5, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_CUSTOM, 3, 4, 1, &rows, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_levels_rows(DF_AUTOREGRESSIVE, 2000000, 2000, 0, &rows, &test_error),
               DF_BAD_ARGUMENT);
}

TEST(a_custom_table_is_checked) {
  const struct {
    int32_t table[6]; // 3 rows of 2
    bool renoise, partial;
    const char *wrong;
  } cases[] = {
      {{2, 2, 1, 2, 0, 0}, false, false, NULL},
      {{2, 2, 0, 2, 0, 0}, false, false, NULL},
      {{2, 2, 1, 3, 0, 0}, false, false, "row 1, column 1: expected a level from 0 to 2, found 3"},
      {{2, 2, 1, -1, 0, 0},
       false,
       false,
       "row 1, column 1: expected a level from 0 to 2, found -1"},
      {{2, 0, 1, 2, 0, 0}, false, false, "row 1, column 1: the level rises from 0 to 2"},
      {{2, 0, 1, 2, 0, 0}, true, false, NULL},
      {{2, 2, 1, 2, 0, 1}, false, false, "row 2, column 1: expected 0 in the last row, found 1"},
      {{2, 2, 1, 2, 0, 1}, false, true, NULL},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    DURING("case %d", i);
    df_status status =
        df_levels_check(cases[i].table, 3, 2, 2, cases[i].renoise, cases[i].partial, &test_error);
    CHECK_INT(status, cases[i].wrong ? DF_BAD_TABLE : DF_OK);
    if (cases[i].wrong) CHECK_CONTAINS(test_error.message, cases[i].wrong);
  }
  CHECK_STATUS(df_levels_check(cases[0].table, 1, 2, 2, false, false, &test_error), DF_BAD_TABLE);
  CHECK_STATUS(df_levels_check(NULL, 3, 2, 2, false, false, &test_error), DF_BAD_ARGUMENT);
}
