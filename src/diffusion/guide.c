#include "diffusion/guide.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

const char *const df_guide_names[DF_GUIDES] = {"reach", "then", "at",     "at-tanh", "target",
                                               "disc",  "box",  "bounds", "smooth",  "reward"};

// ---- Checks ------------------------------------------------------------------------------------------

static int last_frame(const df_guide_term *term, int frames) {
  return term->last < 0 ? frames - 1 : term->last;
}

df_status df_guide_check(const df_guide_term *terms, int count, int B, int C, int frames,
                         df_error *error) {
  if (count < 0 || (count > 0 && !terms) || B < 1 || C < 1 || frames < 1)
    return df_fail(
        error, DF_BAD_ARGUMENT,
        "expected guidance terms, a sequence, a field and a frame, found %d%s, %d, %d and %d",
        count, terms ? "" : " at NULL", B, C, frames);
  static const char *const names[] = {"weight", "at[0]", "at[1]", "size[0]", "size[1]", "softness"};
  int points = 0, earliest = 0; // of the chain: how many, and when the last of them can be passed
  for (int i = 0; i < count; i++) {
    const df_guide_term *term = &terms[i];
    const int kind = term->kind, y = term->y, fewest = kind == DF_GUIDE_BOX ? 0 : -1;
    const bool bounds = kind == DF_GUIDE_BOUNDS;
    const double m = term->softness, *size = term->size;
    const double numbers[] = {term->weight, term->at[0], term->at[1], size[0], size[1], m};
#define EXPECT(condition, ...) EXPECT_OR(DF_BAD_ARGUMENT, condition, __VA_ARGS__)
#define EXPECT_OR(status, condition, format, ...)                                                  \
  if (!(condition))                                                                                \
  return df_fail(error, status, "guidance term %d (%s): expected " format, i,                      \
                 (unsigned)kind < DF_GUIDES ? df_guide_names[kind] : "?", __VA_ARGS__)
    EXPECT((unsigned)kind < DF_GUIDES, "a kind from 0 to %d, found %d", DF_GUIDES - 1, kind);
    for (int j = 0; j < 6; j++)
      EXPECT_OR(DF_BAD_VALUE, isfinite(numbers[j]), "a finite number as %s, found %g", names[j],
                numbers[j]);
    EXPECT(term->x >= 0 && term->x < C, "as x a field from 0 to %d, found %d", C - 1, term->x);
    EXPECT(!(bounds || kind == DF_GUIDE_REWARD) || y == -1, "a single field (y = -1), found y = %d",
           y);
    EXPECT(y >= fewest && y < C && y != term->x,
           "as y a field other than x from %d%s to %d, found %d", fewest, fewest ? " (none)" : "",
           C - 1, y);
    EXPECT(term->first >= 0 && term->first < frames, "a first frame from 0 to %d, found %d",
           frames - 1, term->first);
    EXPECT(term->last == -1 || (term->last >= term->first && term->last < frames),
           "a last frame from %d to %d, or -1 for the end, found %d", term->first, frames - 1,
           term->last);
    EXPECT(bounds ? size[0] <= size[1] : size[0] >= 0 && size[1] >= 0, "%s, found %g and %g",
           bounds ? "rising bounds" : "sizes of at least 0", size[0], size[1]);
    EXPECT(kind != DF_GUIDE_AT_TANH || size[0] > 0, "a size above 0, found %g", size[0]);
    EXPECT(m > 0 || (m == 0 && kind != DF_GUIDE_REACH), "a softness %s 0, found %g",
           kind == DF_GUIDE_REACH ? "above" : "of at least", m);
    EXPECT(term->sequence >= -1 && term->sequence < B,
           "a sequence from 0 to %d, or -1 for all, found %d", B - 1, term->sequence);
    if (kind != DF_GUIDE_THEN) {
      points = kind == DF_GUIDE_REACH ? 1 : 0;
      earliest = term->first;
      continue;
    }
    EXPECT(points > 0 && points < DF_GUIDE_POINTS,
           "a reach before it and at most %d way-points in a row", DF_GUIDE_POINTS);
    const double w = terms[i - points].weight;
    EXPECT(term->sequence == -1 || term->sequence == terms[i - points].sequence,
           "the sequence of its reach, %d, or -1, found %d", terms[i - points].sequence,
           term->sequence);
    EXPECT(term->weight > 0 && w > 0, "weights above 0, found %g after %g", term->weight, w);
    int last = last_frame(term, frames);
    EXPECT(last >= earliest, "a last frame from %d on, as before it, found %d", earliest, last);
    if (earliest < term->first) earliest = term->first;
    points++;
  }
#undef EXPECT
#undef EXPECT_OR
  return DF_OK;
}

// ---- One frame ---------------------------------------------------------------------------------------

// Comparisons stand so that a NaN runs into the last case and stays one.
static double ramp(double u, double m, double *slope) {
  *slope = u <= 0 ? 0 : u < m ? u / m : 1;
  return u <= 0 ? 0 : u < m ? u * u / (2 * m) : u - m / 2;
}

static double sign(double u) { return u > 0 ? 1 : u < 0 ? -1 : 0; }

// Signed distance from v, relative to the centre, to a box, and its derivative out.
static double box_distance(const double v[2], const double half[2], double out[2]) {
  double q[2] = {fabs(v[0]) - half[0], fabs(v[1]) - half[1]};
  if (q[0] <= 0 && q[1] <= 0) {
    int side = q[0] > q[1] ? 0 : 1;
    out[side] = sign(v[side]);
    out[1 - side] = 0;
    return q[side];
  }
  for (int i = 0; i < 2; i++) q[i] = q[i] <= 0 ? 0 : q[i];
  double length = sqrt(q[0] * q[0] + q[1] * q[1]);
  for (int i = 0; i < 2; i++) out[i] = q[i] / length * sign(v[i]);
  return length;
}

// What a frame costs under the term, without weight, and its derivative by the fields x, y.
static double frame_cost(const df_guide_term *term, const float *frame, double slope[2]) {
  const double m = term->softness, *size = term->size;
  double v[2] = {frame[term->x] - term->at[0], term->y < 0 ? 0 : frame[term->y] - term->at[1]};
  double d = sqrt(v[0] * v[0] + v[1] * v[1]), cost, s, low, high;
  double out[2] = {d > 0 ? v[0] / d : 0, d > 0 ? v[1] / d : 0}; // dd/dp
  switch (term->kind) {
  case DF_GUIDE_AT_TANH:
    cost = size[0] * tanh(d / size[0]);
    s = 1 - cost / size[0] * (cost / size[0]);
    break;
  case DF_GUIDE_TARGET:
    cost = d * d;
    s = 2 * d;
    break;
  case DF_GUIDE_DISC:
  case DF_GUIDE_BOX:
    d = term->kind == DF_GUIDE_DISC ? d - size[0] : box_distance(v, size, out);
    cost = ramp(m - d, m, &s);
    s = -s;
    break;
  case DF_GUIDE_BOUNDS:
    cost = ramp(size[0] - frame[term->x], m, &low) + ramp(frame[term->x] - size[1], m, &high);
    s = high - low;
    out[0] = 1;
    break;
  case DF_GUIDE_REWARD:
    cost = -(double)frame[term->x];
    s = -1;
    out[0] = 1;
    break;
  default: // reach, then, at
    cost = ramp(d, size[0], &s);
  }
  slope[0] = s * out[0];
  slope[1] = s * out[1];
  return cost;
}

static void add(const df_guide_term *term, float *frame, const double slope[2], double factor) {
  frame[term->x] += (float)(factor * slope[0]);
  if (term->y >= 0) frame[term->y] += (float)(factor * slope[1]);
}

// ---- Chains of way-points ------------------------------------------------------------------------------

typedef struct chain {
  const df_guide_term *points; // (k)
  int k, C, frames;
  const float *values;
  float *gradient;
  double log_sum; // over all ways to pass the points
} chain;

// log(exp(a) + exp(b))
static double log_add(double a, double b) {
  double high = a > b ? a : b, low = a > b ? b : a;
  return high == low ? high + log(2) : high + log1p(exp(low - high)); // both may be -infinity
}

// Log-weight of passing point j in frame t, and the derivative of its distance.
static double pass(const chain *c, int j, int t, double slope[2]) {
  const df_guide_term *point = &c->points[j];
  if (t < point->first || t > last_frame(point, c->frames)) return -INFINITY;
  double scale = (j ? point->weight / c->points->weight : 1) / c->points->softness;
  return -scale * frame_cost(point, c->values + (size_t)t * (size_t)c->C, slope);
}

// before[j]: log-sum over the ways to pass points 0 .. j-1 in the frames so far; frame t is added.
static void advance(const chain *c, int t, int points, double *before) {
  double slope[2];
  for (int j = 1; j <= points; j++)
    before[j] = log_add(before[j], before[j - 1] + pass(c, j - 1, t, slope));
}

// Gradient of frames first .. end - 1. before: of the frames ahead of them. after[j]: log-sum over the
// ways to pass points j .. k-1 in the frames behind them, moved on to `first`. `before` is needed
// backwards; it is found again by halving, so that there need not be memory for all frames.
static void chain_gradient(const chain *c, int first, int end, const double *before,
                           double *after) {
  double here[DF_GUIDE_POINTS + 1], slope[2];
  memcpy(here, before, (size_t)(c->k + 1) * sizeof *here);
  if (end - first > 1) {
    int middle = first + (end - first) / 2;
    for (int t = first; t < middle; t++) advance(c, t, c->k - 1, here);
    chain_gradient(c, middle, end, here, after);
    chain_gradient(c, first, middle, before, after);
    return;
  }
  advance(c, first, c->k - 1, here);
  for (int j = c->k - 1; j >= 0; j--) {
    double weight = pass(c, j, first, slope) + after[j + 1]; // with all that follows
    if (weight == -INFINITY) continue;
    double share = exp(here[j] + weight - c->log_sum); // of the ways that pass point j here
    add(&c->points[j], c->gradient + (size_t)first * (size_t)c->C, slope,
        -c->points[j].weight * share);
    after[j] = log_add(after[j], weight);
  }
}

static double chain_value(chain *c) {
  double before[DF_GUIDE_POINTS + 1] = {0}, after[DF_GUIDE_POINTS + 1] = {0};
  for (int j = 1; j <= c->k; j++) before[j] = after[j - 1] = -INFINITY;
  for (int t = 0; t < c->frames; t++) advance(c, t, c->k, before);
  c->log_sum = before[c->k];
  for (int j = 1; j <= c->k; j++) before[j] = -INFINITY;
  if (c->gradient) chain_gradient(c, 0, c->frames, before, after);
  return c->points->weight * c->points->softness * c->log_sum;
}

// ---- The sum -------------------------------------------------------------------------------------------

static double smoothness(const df_guide_term *term, int C, int first, int last, const float *values,
                         float *gradient) {
  if (last - first < 2) return 0;
  double sum = 0, factor = -term->weight / (last - first - 1);
  for (int t = first + 1; t < last; t++)
    for (int f = 0; f < (term->y < 0 ? 1 : 2); f++) {
      ptrdiff_t at = (ptrdiff_t)t * C + (f ? term->y : term->x);
      double second = (double)values[at - C] - 2 * (double)values[at] + (double)values[at + C];
      sum += second * second;
      for (int i = -1; i <= 1 && gradient; i++)
        gradient[at + i * C] += (float)(factor * second * (i ? 2 : -4));
    }
  return factor * sum;
}

double df_guide_value(const df_guide_term *terms, int count, int b, int C, int frames,
                      const float *values, float *gradient) {
  double J = 0, slope[2];
  for (int i = 0, k; i < count; i += k) {
    const df_guide_term *term = &terms[i];
    int first = term->first, last = last_frame(term, frames);
    for (k = 1; i + k < count && term[k].kind == DF_GUIDE_THEN;) k++;
    if (term->sequence >= 0 && term->sequence != b) continue;
    if (term->kind == DF_GUIDE_REACH) {
      J += chain_value(&(chain){term, k, C, frames, values, gradient, 0});
    } else if (term->kind == DF_GUIDE_SMOOTH) {
      J += smoothness(term, C, first, last, values, gradient);
    } else { // frame by frame
      bool mean = term->kind >= DF_GUIDE_AT && term->kind <= DF_GUIDE_TARGET;
      double sum = 0, factor = -term->weight / (mean ? last - first + 1 : 1);
      for (int t = first; t <= last; t++) {
        sum += frame_cost(term, values + (size_t)t * (size_t)C, slope);
        if (gradient) add(term, gradient + (size_t)t * (size_t)C, slope, factor);
      }
      J += factor * sum;
    }
  }
  return J;
}
