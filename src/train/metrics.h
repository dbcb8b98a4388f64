// How near drawn sequences are to real ones: distances between distributions of plain properties,
// and the likelihood of lengths.
#ifndef DF_TRAIN_METRICS_H
#define DF_TRAIN_METRICS_H

#include "train/train.h"

// ---- Distances ----

// Wasserstein-1 distance of the samples a[n] and b[m]: the integral of |F_a - F_b|, which is the
// mean |a_i - b_i| of the sorted samples if n = m. Sorts both.
double df_wasserstein1(double *a, int n, double *b, int m);

// ---- Pen strokes ----

// Which fields of a frame are the pen's. Named x and y they are the position of a point, named dx and dy the way to it
// from the point before; pen is above its threshold if the pen is lifted after the point.
typedef struct df_pen {
  int x, y, pen;
  bool positions; // x and y, not dx and dy
  float threshold;
} df_pen;

// True if the config has fields x, y, pen or dx, dy, pen.
bool df_pen_find(df_pen *pen, const df_config *config);
// Moves (x, y), which is (0, 0) before the first point of a sequence, to the point of this frame.
void df_pen_move(const df_pen *pen, const float *frame, double *x, double *y);

// A drawing as the eye sees it. Strokes: runs of points with the pen down, the last one lifted or not.
// width and height of the box around all points, in data units.
typedef struct df_drawing {
  int points, strokes;
  double width, height;
  double size;   // diagonal of the box
  double aspect; // ln((width + 1) / (height + 1)): 0 for a square, and finite for a straight line
} df_drawing;
df_drawing df_drawing_of(const df_dataset *data, const df_pen *pen, int i);

// ---- Lengths ----

// The hazard of lengths[n] >= 0 as a table of P(length = t | length >= t), t = 0 .. most, each with
// half an ending and half a continuation more than were seen (Krichevsky & Trofimov 1981), so that
// no length is impossible: (ends at t + 1/2) / (alive at t + 1). Beyond `most` it is 1/2.
void df_hazard_fit(const int *lengths, int n, int most, double *hazard);
// -ln P(length) under a hazard table, nats.
double df_hazard_nll(const double *hazard, int most, int length);

// The same for sequences whose last token may be part full (`stack` frames fill one) and shows it: what
// a stop head can know that sees the last token but not what it means. full[t]: the hazard where
// token t is full; part[t]: where it is not. Lengths are in frames, `most` in tokens.
void df_hazard_fit_seen(const int *frames, int n, int stack, int most, double *full, double *part);
double df_hazard_nll_seen(const double *full, const double *part, int most, int stack, int frames);

// Negative log-likelihood, nats, that a model's stop head gives to the length of each sequence, its
// tokens being clean, into nll[data->count]. The model must have a stop head and no conditions.
df_status df_stop_nll(const df_config *config, const df_params *params, const df_dataset *data,
                      double *nll, df_error *error);

#endif
