// Objectives of guidance: values by hand, by brute force and of the reference's planner; gradients against finite
// differences, also where a term has corners.
#include "diffusion/guide.h"

#include "base/random.h"
#include "tests/golden_model.h"

enum { FIELDS = 5, FRAMES = 33 };

#define END .last = -1
#define XY  .x = 1, .y = 3, END

static double value(df_guide_term term, int C, int frames, const float *values) {
  CHECK_OK(df_guide_check(&term, 1, 1, C, frames, &test_error));
  return df_guide_value(&term, 1, 0, C, frames, values, NULL);
}

static void random_frames(float *values, int n, uint32_t token) {
  df_random_normal(&(df_random){.seed = 5, .token = token, .purpose = DF_RANDOM_TEST}, n, values);
}

// ---- Gradients -----------------------------------------------------------------------------------------

// The gradient of J is what central differences say, is added to what was there, and is 0 in fields that no term looks
// at; J does not depend on whether it is asked for.
static void check_gradient(const df_guide_term *terms, int count, int frames, const float *values) {
  float dv[FIELDS * FRAMES], v[FIELDS * FRAMES];
  int n = FIELDS * frames;
  if (!CHECK_OK(df_guide_check(terms, count, 1, FIELDS, frames, &test_error))) return;
  for (int i = 0; i < n; i++) dv[i] = 0.5f;
  double J = df_guide_value(terms, count, 0, FIELDS, frames, values, dv);
  CHECK(isfinite(J) && J == df_guide_value(terms, count, 0, FIELDS, frames, values, NULL));
  memcpy(v, values, (size_t)n * sizeof *v);
  for (int i = 0; i < n; i++) {
    v[i] = values[i] + 0x1p-12f;
    double high = v[i], up = df_guide_value(terms, count, 0, FIELDS, frames, v, NULL);
    v[i] = values[i] - 0x1p-12f;
    double low = v[i], down = df_guide_value(terms, count, 0, FIELDS, frames, v, NULL);
    v[i] = values[i];
    bool seen = false;
    for (int k = 0; k < count; k++)
      seen = seen || i % FIELDS == terms[k].x || i % FIELDS == terms[k].y;
    double difference = (up - down) / (high - low);
    if (!seen) CHECK(dv[i] == 0.5f);
    test_check(fabs(dv[i] - 0.5 - difference) <= 2e-5 + 2e-5 * fabs(difference), __FILE__, __LINE__,
               "gradient", ", frame %d, field %d: %.9g, differences say %.9g", i / FIELDS,
               i % FIELDS, dv[i] - 0.5, difference);
  }
}

static const df_guide_term terms_of_all_kinds[] = {
    {DF_GUIDE_REACH, 1.5, XY, .at = {0.5, -1}, .softness = 0.3},
    {DF_GUIDE_REACH, -0.5, XY, .at = {0.5, -1}, .size = {0.4}, .softness = 2},
    {DF_GUIDE_REACH, 1, 2, -1, 3, 20, .at = {0.25}, .softness = 0.1},
    {DF_GUIDE_AT, 2, XY, .at = {0.5, -1}},
    {DF_GUIDE_AT, 2, XY, .at = {0.5, -1}, .size = {0.75}},
    {DF_GUIDE_AT, 1, 4, -1, .first = 2, .last = 7, .at = {0.3}},
    {DF_GUIDE_AT_TANH, 1, XY, .at = {0.5, -1}, .size = {2}},
    {DF_GUIDE_TARGET, 1, XY, .at = {0.5, -1}},
    {DF_GUIDE_TARGET, 3, 0, -1, 5, 5, .at = {-0.5}},
    {DF_GUIDE_DISC, 1, XY, .at = {0.5, -1}, .size = {0.8}, .softness = 0.5},
    {DF_GUIDE_DISC, 1, XY, .at = {0.5, -1}, .size = {0.8}},
    {DF_GUIDE_DISC, 1, 1, -1, END, .at = {0.5}, .size = {0.3}, .softness = 0.25},
    {DF_GUIDE_BOX, 2, XY, .at = {0.5, -1}, .size = {0.9, 0.4}, .softness = 0.5},
    {DF_GUIDE_BOX, 2, XY, .at = {0.5, -1}, .size = {0.3, 0.6}},
    {DF_GUIDE_BOUNDS, 1, 2, -1, END, .size = {-0.5, 0.75}, .softness = 0.5},
    {DF_GUIDE_BOUNDS, 1, 2, -1, END, .size = {-0.5, 0.75}},
    {DF_GUIDE_SMOOTH, 0.25, XY},
    {DF_GUIDE_SMOOTH, 0.25, 2, -1, .first = 4, .last = 9},
    {DF_GUIDE_REWARD, 0.5, 4, -1, END},
};

TEST(gradients_are_those_of_finite_differences) {
  float values[FIELDS * FRAMES];
  bool tried[DF_GUIDES] = {[DF_GUIDE_THEN] = true}; // has a test of its own
  for (int i = 0; i < COUNT(terms_of_all_kinds); i++) {
    const df_guide_term *term = &terms_of_all_kinds[i];
    tried[term->kind] = true;
    int fewest = term->last > term->first ? term->last + 1 : term->first + 1;
    static const int lengths[] = {1, 2, 3, 10, FRAMES};
    for (int k = 0; k < COUNT(lengths); k++) {
      if (lengths[k] < fewest) continue;
      DURING("%s, term %d, %d frames", df_guide_names[term->kind], i, lengths[k]);
      random_frames(values, COUNT(values), (uint32_t)i);
      check_gradient(term, 1, lengths[k], values);
    }
  }
  for (int kind = 0; kind < DF_GUIDES; kind++) {
    DURING("%s", df_guide_names[kind]);
    CHECK(tried[kind]);
  }
}

TEST(gradients_hold_at_distance_zero_and_inside_obstacles) {
  // Relative to (0.5, -1): there, beside it along both axes and between them, far away. Central differences across a
  // symmetric corner are 0, as is the gradient there.
  static const float places[][2] = {{0, 0},        {0.25f, 0},     {0, -0.25f},  {0.125f, 0.1875f},
                                    {-0.5f, 0.2f}, {0.5f, 0.375f}, {1.2f, 0.9f}, {-30, 4}};
  float values[FIELDS * FRAMES] = {0};
  for (int i = 0; i < COUNT(terms_of_all_kinds); i++) {
    const df_guide_term *term = &terms_of_all_kinds[i];
    if (term->at[0] != 0.5 || term->y < 0) continue;
    for (int k = 0; k < COUNT(places); k++) {
      DURING("%s, term %d, place %d", df_guide_names[term->kind], i, k);
      values[1] = 0.5f + places[k][0];
      values[3] = -1 + places[k][1];
      check_gradient(term, 1, 1, values); // this frame only
    }
    for (int t = 0; t < COUNT(places); t++)
      for (int f = 0; f < 2; f++) values[t * FIELDS + 1 + 2 * f] = (f ? -1 : 0.5f) + places[t][f];
    DURING("%s, term %d, all places", df_guide_names[term->kind], i);
    check_gradient(term, 1, COUNT(places), values);
  }
}

static const df_guide_term way[] = {
    {DF_GUIDE_REACH, 2, XY, .at = {0.5, -1}, .size = {0.1}, .softness = 0.3},
    {DF_GUIDE_THEN, 1, XY, .at = {-0.5, 0.5}},
    {DF_GUIDE_THEN, 3, 0, -1, END, .at = {1}, .size = {0.2}},
    {DF_GUIDE_THEN, 0.5, XY, .at = {0, 0}}};

TEST(gradients_of_way_points_are_those_of_finite_differences) {
  float values[FIELDS * FRAMES];
  df_guide_term in_windows[] = {way[0], way[1], way[2]};
  in_windows[0].first = 2, in_windows[0].last = 6;
  in_windows[1].first = 4, in_windows[1].last = 4;
  in_windows[2].last = 8;
  for (int n = 1; n <= FRAMES; n += 4)
    for (int k = 2; k <= COUNT(way); k++) {
      random_frames(values, COUNT(values), (uint32_t)n);
      values[1] = 0.5f, values[3] = -1; // the first frame is at the first point
      DURING("%d points, %d frames", k, n);
      check_gradient(way, k, n, values);
      if (k == 3 && n > 8) check_gradient(in_windows, k, n, values);
    }
}

// ---- Values --------------------------------------------------------------------------------------------

TEST(the_soft_minimum_lies_between_the_minimum_and_its_bound) {
  float values[FIELDS * FRAMES];
  random_frames(values, COUNT(values), 0);
  double nearest = INFINITY;
  for (int t = 0; t < FRAMES; t++)
    nearest = fmin(nearest, hypot(values[t * FIELDS + 1] - 0.5, values[t * FIELDS + 3] + 1.0));
  df_guide_term reach = {DF_GUIDE_REACH, 2, XY, .at = {0.5, -1}};
  for (double s = 1; s > 1e-9; s /= 10) {
    DURING("temperature %g", s);
    reach.softness = s;
    double J = value(reach, FIELDS, FRAMES, values);
    CHECK(J >= -2 * nearest && J <= -2 * nearest + 2 * s * log(FRAMES));
    // A further frame helps, and hardly so if it is far.
    double fewer = value(reach, FIELDS, FRAMES - 1, values);
    CHECK(J >= fewer);
  }
  // Two frames that are as near: the lower bound is met.
  const float twins[] = {3, 4, -5, 0};
  const df_guide_term centre = {DF_GUIDE_REACH, 1, 0, 1, END, .softness = 0.5};
  CHECK_NEAR(value(centre, 2, 2, twins), -5 + 0.5 * log(2), 1e-12);
  // One frame: the distance itself.
  CHECK_NEAR(value(reach, FIELDS, 1, values), -2 * hypot(values[1] - 0.5, values[3] + 1.0), 1e-12);
}

TEST(being_there_once_suffices_and_only_the_nearest_frame_is_pulled) {
  float values[] = {3, 0, /**/ 1, 0, /**/ 2, 2, /**/ 5, 1}, dv[8] = {0};
  df_guide_term reach = {DF_GUIDE_REACH, 1, 0, 1, END, .softness = 0.01};
  CHECK_NEAR(df_guide_value(&reach, 1, 0, 2, 4, values, dv), -1, 1e-9);
  static const float pull[8] = {0, 0, -1, 0};
  CHECK_FLOATS(dv, pull, 8, 1e-6);
  // Within the radius the pull eases off: slope d / r.
  memset(dv, 0, sizeof dv);
  reach.size[0] = 4;
  CHECK_NEAR(df_guide_value(&reach, 1, 0, 2, 4, values, dv), -1. / 8, 1e-9);
  CHECK_NEAR(dv[2], -0.25, 1e-6);
}

// Minus the soft minimum over all ways to pass three points in their order, one by one.
static double by_brute_force(const df_guide_term *points, int frames, const float *values) {
  double sum = 0, distance[3][FRAMES], w = points->weight, s = points->softness;
  for (int j = 0; j < 3; j++)
    for (int t = 0; t < frames; t++) {
      df_guide_term at = points[j];
      at.kind = DF_GUIDE_AT, at.weight = -1, at.softness = 0;
      at.first = at.last = t;
      distance[j][t] = df_guide_value(&at, 1, 0, FIELDS, frames, values, NULL);
    }
  for (int a = 0; a < frames; a++)
    for (int b = a; b < frames; b++)
      for (int c = b; c < frames; c++) {
        int t[3] = {a, b, c};
        double cost = 0;
        for (int j = 0; j < 3; j++) {
          int last = points[j].last < 0 ? frames - 1 : points[j].last;
          cost += t[j] < points[j].first || t[j] > last ? INFINITY
                                                        : points[j].weight / w * distance[j][t[j]];
        }
        sum += exp(-cost / s);
      }
  return w * s * log(sum);
}

TEST(way_points_are_the_soft_minimum_over_all_ways_to_pass_them_in_order) {
  float values[FIELDS * FRAMES];
  df_guide_term points[3] = {way[0], way[1], way[2]};
  for (int n = 1; n <= FRAMES; n += 2) {
    DURING("%d frames", n);
    random_frames(values, COUNT(values), (uint32_t)n);
    CHECK_NEAR(df_guide_value(points, 3, 0, FIELDS, n, values, NULL),
               by_brute_force(points, n, values), 1e-9);
  }
  points[0].first = 3, points[1].last = 9, points[2].first = points[2].last = 7;
  REQUIRE(CHECK_OK(df_guide_check(points, 3, 1, FIELDS, FRAMES, &test_error)));
  CHECK_NEAR(df_guide_value(points, 3, 0, FIELDS, FRAMES, values, NULL),
             by_brute_force(points, FRAMES, values), 1e-9);
}

TEST(way_points_mind_their_order_and_two_goals_do_not) {
  enum { A, B, C };
  df_guide_term points[3] = {{DF_GUIDE_REACH, 1, 0, 1, END, .at = {0, 0}, .softness = 1e-3},
                             {DF_GUIDE_THEN, 1, 0, 1, END, .at = {4, 0}},
                             {DF_GUIDE_THEN, 1, 0, 1, END, .at = {4, 3}}};
  const float forth[] = {9, 9, 0, 0, 2, 0, 4, 0, 4, 3}, back[] = {4, 3, 4, 0, 2, 0, 0, 0, 9, 9};
  CHECK_NEAR(df_guide_value(points, 3, 0, 2, 5, forth, NULL), 0, 1e-2);
  CHECK_NEAR(df_guide_value(points, 3, 0, 2, 5, back, NULL), -7, 1e-2); // (4, 0), (4, 0), (4, 0)
  for (int i = 1; i < 3; i++) points[i].kind = DF_GUIDE_REACH, points[i].softness = 1e-3;
  CHECK_NEAR(df_guide_value(points, 3, 0, 2, 5, back, NULL), 0, 1e-2);
}

TEST(values_are_those_of_their_formulas) {
  // (x, y, v) of four frames
  static const float values[] = {0, 0, 1, /**/ 3, 4, -2, /**/ 3, 0, 0.5f, /**/ 0.5f, 0, 7};
  const struct {
    df_guide_term term;
    double J;
  } cases[] = {
      {{DF_GUIDE_AT, 2, 0, 1, END}, -2 * 8.5 / 4},
      {{DF_GUIDE_AT, 2, 0, 1, 1, 2, .size = {2}}, -2 * (4. + 2) / 2},
      {{DF_GUIDE_AT, 2, 0, 1, 0, 3, .size = {2}}, -2 * (4. + 2 + 0.0625) / 4},
      {{DF_GUIDE_AT, 1, 2, -1, END, .at = {1}}, -(0 + 3 + 0.5 + 6) / 4},
      {{DF_GUIDE_AT_TANH, 1, 0, 1, END, .size = {2}},
       -2 * (tanh(2.5) + tanh(1.5) + tanh(0.25)) / 4},
      {{DF_GUIDE_TARGET, 3, 0, 1, END, .at = {3}}, -3 * (9 + 16 + 0 + 6.25) / 4},
      {{DF_GUIDE_TARGET, 1, 2, -1, 1, 3, .at = {1}}, -(9 + 0.25 + 36) / 3},
      // margin 2 around radius 1: (2 - 0)^2 / 4 .., all of it inside, none beyond 3
      {{DF_GUIDE_DISC, 1, 0, 1, END, .size = {1}, .softness = 2}, -(2 + 1 + 0.5)},
      {{DF_GUIDE_DISC, 1, 0, 1, END, .at = {3, 2}, .size = {1}, .softness = 2}, -2 * 0.25},
      {{DF_GUIDE_DISC, 1, 0, 1, END, .size = {1}}, -(1 + 0.5)},
      // half sizes 2, 1: in the middle 1 deep, (3, 4) sqrt(10) away, (3, 0) 1 away, (0.5, 0) 1 deep
      {{DF_GUIDE_BOX, 1, 0, 1, END, .size = {2, 1}, .softness = 2}, -(2 + 0.25 + 2)},
      {{DF_GUIDE_BOX, 1, 0, 1, END, .size = {2, 1}, .softness = 4},
       -(3 + (4 - sqrt(10)) * (4 - sqrt(10)) / 8 + 9. / 8 + 3)},
      {{DF_GUIDE_BOX, 1, 0, 1, END, .size = {2, 1}}, -2},
      {{DF_GUIDE_BOUNDS, 2, 2, -1, END, .size = {-1, 3}}, -2 * (1 + 4)},
      {{DF_GUIDE_BOUNDS, 2, 2, -1, END, .size = {-1, 3}, .softness = 2}, -2 * (0.25 + 3)},
      {{DF_GUIDE_SMOOTH, 1, 0, 1, END}, -(9. + 64 + 6.25 + 16) / 2},
      {{DF_GUIDE_SMOOTH, 1, 2, -1, .last = 2}, -5.5 * 5.5},
      {{DF_GUIDE_REWARD, 2, 2, -1, END}, 2 * 6.5},
      {{DF_GUIDE_REWARD, 2, 2, -1, .first = 1, .last = 2}, 2 * -1.5},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    DURING("case %d, %s", i, df_guide_names[cases[i].term.kind]);
    CHECK_NEAR(value(cases[i].term, 3, 4, values), cases[i].J, 1e-12);
  }
}

TEST(beyond_the_margin_within_the_bounds_and_along_a_line_nothing_pulls) {
  float values[] = {1.5f, 0, 2, 0.25f, 2.5f, 0.5f, 3, 0.75f}, dv[8] = {0}; // uniform motion
  const df_guide_term terms[] = {
      {DF_GUIDE_DISC, 1, 0, 1, END, .size = {1}, .softness = 0.5},
      {DF_GUIDE_BOX, 1, 0, 1, END, .size = {1, 1}, .softness = 0.5},
      {DF_GUIDE_BOUNDS, 1, 0, -1, END, .size = {1.5, 3}, .softness = 0.5},
      {DF_GUIDE_SMOOTH, 1, 0, 1, END},
      {DF_GUIDE_SMOOTH, 1, 0, 1, .first = 2, .last = 3}, // no second difference
  };
  for (int i = 0; i < COUNT(terms); i++) {
    DURING("%s, term %d", df_guide_names[terms[i].kind], i);
    CHECK(df_guide_value(&terms[i], 1, 0, 2, 4, values, dv) == 0);
  }
  for (int i = 0; i < 8; i++) CHECK(dv[i] == 0);
  CHECK(df_guide_value(NULL, 0, 0, 2, 4, values, dv) == 0);
}

// Sum over sequences, mean over frames and samples, times the length of the episode; the last frame may weigh 0.
TEST(the_distance_to_the_goal_is_the_objective_of_the_reference) {
  static const char *const files[] = {"rnn_guided_norm", "rnn_guided_square", "rnn_guided_mc"};
  for (int i = 0; i < COUNT(files); i++) {
    golden_model m;
    if (golden_model_open(&m, files[i])) {
      const df_view *shape = golden_view(&m.g, "out.x_start"); // (M, H, R, B, X), network units
      const float *x0 = golden_floats(&m.g, "out.x_start"),
                  *J = golden_floats(&m.g, "out.objective"), *goal = golden_floats(&m.g, "in.goal"),
                  *mean = golden_floats(&m.g, "weights.data_mean"),
                  *std = golden_floats(&m.g, "weights.data_std");
      REQUIRE(shape && x0 && J && goal && mean && std);
      int M = (int)shape->shape[0], H = (int)shape->shape[1], R = (int)shape->shape[2],
          B = (int)shape->shape[3], X = (int)shape->shape[4], C = X / m.frame_stack,
          frames = H * m.frame_stack;
      int used = golden_number(m.run, "last_frame_weight") == 0 ? frames - 1 : frames;
      float *values = df_arena_alloc(&m.g.arena, (size_t)(H * X) * sizeof *values);
      for (int row = 0; row < M; row++) {
        double sum = 0;
        for (int b = 0; b < B; b++)
          for (int k = 0; k < R; k++) {
            for (int t = 0; t < H; t++)
              for (int j = 0; j < X; j++)
                values[t * X + j] =
                    x0[((((size_t)row * (size_t)H + (size_t)t) * (size_t)R + (size_t)k) *
                            (size_t)B +
                        (size_t)b) *
                           (size_t)X +
                       (size_t)j] *
                        std[j % C] +
                    mean[j % C];
            sum += value(
                (df_guide_term){
                    golden_is(m.run, "objective", "norm") ? DF_GUIDE_AT : DF_GUIDE_TARGET,
                    .weight = golden_number(m.run, "n_frames") * used / (frames * R), .x = 0,
                    .y = 1, .last = used - 1, .at = {goal[2 * b], goal[2 * b + 1]}},
                C, frames, values);
          }
        DURING("%s, row %d", files[i], row);
        CHECK_NEAR(sum, J[row], golden_tolerance(&m, "out.objective"));
      }
    }
    golden_model_close(&m);
  }
}

// ---- Sums, bad numbers, refusals -----------------------------------------------------------------------

TEST(terms_add_and_weights_scale) {
  float values[FIELDS * FRAMES], sum[FIELDS * FRAMES] = {0}, all[FIELDS * FRAMES] = {0},
                                              twice[FIELDS * FRAMES] = {0};
  random_frames(values, COUNT(values), 1);
  df_guide_term list[COUNT(terms_of_all_kinds) + COUNT(way)];
  memcpy(list, way, sizeof way); // stands first, so that what follows is not part of it
  memcpy(list + COUNT(way), terms_of_all_kinds, sizeof terms_of_all_kinds);
  double J = df_guide_value(way, COUNT(way), 0, FIELDS, FRAMES, values, sum);
  for (int i = 0; i < COUNT(terms_of_all_kinds); i++)
    J += df_guide_value(&terms_of_all_kinds[i], 1, 0, FIELDS, FRAMES, values, sum);
  REQUIRE(CHECK_OK(df_guide_check(list, COUNT(list), 1, FIELDS, FRAMES, &test_error)));
  long allocations = (long)df_alloc_count();
  CHECK_NEAR(df_guide_value(list, COUNT(list), 0, FIELDS, FRAMES, values, all), J, 1e-12 * fabs(J));
  CHECK_INT((long)df_alloc_count(), allocations);
  CHECK_FLOATS(all, sum, COUNT(all), 0);
  for (int i = 0; i < COUNT(list); i++) list[i].weight *= 2;
  CHECK_NEAR(df_guide_value(list, COUNT(list), 0, FIELDS, FRAMES, values, twice), 2 * J,
             1e-12 * fabs(J));
  for (int i = 0; i < COUNT(all); i++) CHECK_NEAR(twice[i], 2 * all[i], 1e-6 + 1e-6 * fabs(all[i]));
}

TEST(not_a_number_stays_one_where_a_term_looks_and_only_there) {
  float values[FIELDS * FRAMES], dv[FIELDS * FRAMES] = {0};
  df_guide_term list[COUNT(terms_of_all_kinds)];
  for (int i = 0; i < COUNT(list); i++) {
    const df_guide_term *term = &terms_of_all_kinds[i];
    for (int f = 0; f < FIELDS; f++)
      for (int t = 0; t < FRAMES; t += 4) {
        DURING("%s, term %d, frame %d, field %d", df_guide_names[term->kind], i, t, f);
        random_frames(values, COUNT(values), 2);
        values[t * FIELDS + f] = NAN;
        bool looks = (f == term->x || f == term->y) && t >= term->first &&
                     (term->last < 0 || t <= term->last);
        double J = df_guide_value(term, 1, 0, FIELDS, FRAMES, values, dv);
        CHECK(looks ? isnan(J) : isfinite(J));
      }
  }
  for (int t = 0; t < FRAMES; t++) { // each field of the way-points, in every frame
    DURING("way-points, frame %d", t);
    random_frames(values, COUNT(values), 2);
    values[t * FIELDS + (t % 2 ? 0 : 3)] = NAN;
    CHECK(isnan(df_guide_value(way, COUNT(way), 0, FIELDS, FRAMES, values, dv)));
  }
}

TEST(what_is_refused_is_named) {
  const df_guide_term good = {DF_GUIDE_REACH, 1, XY, .softness = 1},
                      box = {DF_GUIDE_BOX, 1, XY, .size = {1, 1}},
                      bounds = {DF_GUIDE_BOUNDS, 1, 2, -1, END, .size = {-1, 1}},
                      reward = {DF_GUIDE_REWARD, 1, 2, -1, END}, then = {DF_GUIDE_THEN, 1, XY};
  struct {
    df_guide_term term;
    const char *wrong;
  } cases[] = {
      {good, NULL},
      {box, NULL},
      {bounds, NULL},
      {reward, NULL},
      {then, NULL}, // behind a reach
      {good, "(?): expected a kind from 0 to 9, found -1"},
      {good, "(?): expected a kind from 0 to 9, found 10"},
      {good, "(reach): expected a finite number as weight, found nan"},
      {good, "(reach): expected a finite number as at[1], found inf"},
      {good, "(reach): expected a finite number as softness, found -inf"},
      {good, "as x a field from 0 to 4, found 5"},
      {good, "as x a field from 0 to 4, found -1"},
      {good, "as y a field other than x from -1 (none) to 4, found 5"},
      {good, "as y a field other than x from -1 (none) to 4, found -2"},
      {good, "as y a field other than x from -1 (none) to 4, found 1"},
      {box, "(box): expected as y a field other than x from 0 to 4, found -1"},
      {reward, "(reward): expected a single field (y = -1), found y = 3"},
      {bounds, "(bounds): expected a single field (y = -1), found y = 0"},
      {good, "a first frame from 0 to 32, found 33"},
      {good, "a first frame from 0 to 32, found -1"},
      {good, "a last frame from 4 to 32, or -1 for the end, found 3"},
      {good, "a last frame from 0 to 32, or -1 for the end, found 33"},
      {good, "a last frame from 0 to 32, or -1 for the end, found -2"},
      {good, "sizes of at least 0, found -1 and 0"},
      {box, "(box): expected sizes of at least 0, found 1 and -2"},
      {bounds, "(bounds): expected rising bounds, found 2 and 1"},
      {box, "(at-tanh): expected a size above 0, found 0"},
      {box, "(box): expected a softness of at least 0, found -1"},
      {good, "(reach): expected a softness above 0, found 0"},
      {then, "(then): expected weights above 0, found -1 after 1"},
  };
  int i = 5;
  cases[i++].term.kind = -1;
  cases[i++].term.kind = DF_GUIDES;
  cases[i++].term.weight = NAN;
  cases[i++].term.at[1] = INFINITY;
  cases[i++].term.softness = -INFINITY;
  cases[i++].term.x = FIELDS;
  cases[i++].term.x = -1;
  cases[i++].term.y = FIELDS;
  cases[i++].term.y = -2;
  cases[i++].term.y = 1;
  cases[i++].term.y = -1;
  cases[i++].term.y = 3;
  cases[i++].term.y = 0;
  cases[i++].term.first = FRAMES;
  cases[i++].term.first = -1;
  cases[i].term.first = 4, cases[i++].term.last = 3;
  cases[i++].term.last = FRAMES;
  cases[i++].term.last = -2;
  cases[i++].term.size[0] = -1;
  cases[i++].term.size[1] = -2;
  cases[i++].term.size[0] = 2;
  cases[i].term.kind = DF_GUIDE_AT_TANH, cases[i++].term.size[0] = 0;
  cases[i++].term.softness = -1;
  cases[i++].term.softness = 0;
  cases[i++].term.weight = -1;
  CHECK_INT(i, COUNT(cases));
  for (i = 0; i < COUNT(cases); i++) {
    DURING("case %d", i);
    const df_guide_term list[] = {good, cases[i].term};
    const char *wrong = cases[i].wrong;
    CHECK_STATUS(df_guide_check(list, 2, 1, FIELDS, FRAMES, &test_error),
                 !wrong                             ? DF_OK
                 : strstr(wrong, "a finite number") ? DF_BAD_VALUE
                                                    : DF_BAD_ARGUMENT);
    if (!wrong) continue;
    CHECK_CONTAINS(test_error.message, "guidance term 1 (");
    CHECK_CONTAINS(test_error.message, wrong);
    CHECK(df_guide_check(list, 2, 1, FIELDS, FRAMES, NULL) != DF_OK);
  }
  CHECK_OK(df_guide_check(NULL, 0, 1, FIELDS, FRAMES, &test_error));
  CHECK_STATUS(df_guide_check(NULL, 1, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_guide_check(&good, -1, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_guide_check(&good, 1, 1, 0, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_STATUS(df_guide_check(&good, 1, 1, FIELDS, 0, &test_error), DF_BAD_ARGUMENT);
}

TEST(chains_that_cannot_be_passed_are_refused) {
  df_guide_term points[DF_GUIDE_POINTS + 1] = {
      {DF_GUIDE_REACH, 1, XY, .softness = 1}, {DF_GUIDE_THEN, 1, XY}, {DF_GUIDE_THEN, 1, XY}};
  CHECK_STATUS(df_guide_check(points + 1, 1, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message, "guidance term 0 (then): expected a reach before it");
  points[0].first = 9;
  points[1].last = 20; // still possible
  points[2].last = 9;
  CHECK_OK(df_guide_check(points, 3, 1, FIELDS, FRAMES, &test_error));
  points[2].last = 8;
  CHECK_STATUS(df_guide_check(points, 3, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message,
                 "term 2 (then): expected a last frame from 9 on, as before it, found 8");
  points[1].first = 12;
  points[2].last = 11;
  CHECK_STATUS(df_guide_check(points, 3, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message, "expected a last frame from 12 on, as before it, found 11");
  points[0].weight = 0;
  CHECK_OK(df_guide_check(points, 1, 1, FIELDS, FRAMES, &test_error)); // alone it may be
  CHECK_STATUS(df_guide_check(points, 2, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message, "weights above 0, found 1 after 0");
  points[0].weight = 1;
  points[1].kind = DF_GUIDE_AT; // stands between
  CHECK_STATUS(df_guide_check(points, 3, 1, FIELDS, FRAMES, &test_error), DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message, "term 2 (then): expected a reach before it");
  for (int i = 1; i <= DF_GUIDE_POINTS; i++) points[i] = (df_guide_term){DF_GUIDE_THEN, 1, XY};
  float values[FIELDS * FRAMES];
  random_frames(values, COUNT(values), 3);
  DURING("%d points", DF_GUIDE_POINTS);
  check_gradient(points, DF_GUIDE_POINTS, FRAMES, values);
  CHECK_STATUS(df_guide_check(points, COUNT(points), 1, FIELDS, FRAMES, &test_error),
               DF_BAD_ARGUMENT);
  CHECK_CONTAINS(test_error.message, "at most 32 way-points in a row");
}
