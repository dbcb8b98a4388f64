// What guided sampling raises: an objective J over the frames of one sequence, in data units, as a
// weighted sum of terms; those of the sequence. Pure functions; nothing is allocated.
//
// Letters: n frames first .. last, p the fields (x, y) of a frame, d = |p - at|, w the weight.
// ramp(u, m) is 0 up to u = 0, u^2 / 2m up to u = m, then u - m/2: a slope of 1 with a smooth
// beginning of width m (Huber 1964); m = 0: max(u, 0). Where a term has no derivative (d = 0, the
// middle of an obstacle) its part of the gradient is 0 or that of one side.
//
//   reach      w s log sum exp(- ramp(d, size[0]) / s), s = softness: minus the soft minimum of the
//              distance, so that being there once is enough. Between -w min d and s w log n above
//              it; more frames never lower it. s = 0 is not allowed.
//   then       A further way-point of the `reach` before it in the list, passed in the same frame or
//              later: a `reach` and the k - 1 `then` behind it are one term,
//                w s log sum over t_1 <= .. <= t_k of exp(- sum_j w_j / w ramp(d_j(t_j), size_j[0]) / s)
//              with w, s of the `reach`. That is minus the soft minimum over all ways to pass the
//              points in their order (a soft alignment, as in Cuturi & Blondel 2017), and `reach`
//              for k = 1. The frames are found, not given: way-points at given times are `at` terms,
//              but a plan seldom knows when it gets there, and several `reach` do not mind the order.
//   at         - w mean ramp(d, size[0]). size[0] = 0: the Euclidean distance to the goal in all frames,
//              with which Diffusion Forcing (Chen et al. 2024) plans (there times the episode's
//              length). Above 0: the pull eases off within this radius.
//   at-tanh    - w mean of size[0] tanh(d / size[0]): far frames are pulled less. The same authors'
//              later code, with size[0] = 2.
//   target     - w mean d^2: a field, or two, held at a value. The squared distance of the same code.
//   disc       - w sum ramp(m - (d - size[0]), m), m = softness: 0 beyond the margin m around a disc
//              of radius size[0], the depth plus m/2 inside (the obstacle cost of CHOMP, Ratliff et
//              al. 2009). A sum: a frame inside costs the same in a plan of any length.
//   box        The same around a box of half sizes `size`, d - size[0] replaced by the signed
//              distance to the box (negative inside: to the nearest side, with a kink where two
//              sides are as near).
//   bounds     - w sum (ramp(size[0] - v, m) + ramp(v - size[1], m)) of field x: 0 within
//              [size[0], size[1]].
//   smooth     - w mean |p(t+1) - 2 p(t) + p(t-1)|^2 over the n - 2 inner frames; 0 where n < 3.
//   reward     w sum v of field x: a return that the model predicts (Janner et al. 2022, Diffuser).
#ifndef DF_DIFFUSION_GUIDE_H
#define DF_DIFFUSION_GUIDE_H

#include "base/status.h"

typedef enum df_guide_kind {
  DF_GUIDE_REACH,
  DF_GUIDE_THEN,
  DF_GUIDE_AT,
  DF_GUIDE_AT_TANH,
  DF_GUIDE_TARGET,
  DF_GUIDE_DISC,
  DF_GUIDE_BOX,
  DF_GUIDE_BOUNDS,
  DF_GUIDE_SMOOTH,
  DF_GUIDE_REWARD,
  DF_GUIDES
} df_guide_kind;
extern const char *const df_guide_names[DF_GUIDES]; // as above

enum { DF_GUIDE_POINTS = 32 }; // way-points of a chain, its `reach` included, at most

typedef struct df_guide_term {
  int kind;      // a df_guide_kind
  double weight; // w; below 0: J sinks with what it would rise with. Way-points: above 0
  int x, y; // fields that it looks at. y = -1: x alone; a box needs both, bounds and reward one
  int first, last; // frames that it looks at; last = -1: up to the end
  double at[2];    // point, centre, value
  double size[2];  // radius, half sizes, bounds
  double softness; // temperature of `reach`, width of a soft edge
  int sequence; // of the batch that it is of; -1: of all. A `then` is of those of its `reach`: -1 or the same
} df_guide_term;

// Do the terms fit B sequences of so many frames of C fields? DF_BAD_ARGUMENT, or DF_BAD_VALUE for a
// number that is not finite; the error names the term and what was expected.
df_status df_guide_check(const df_guide_term *terms, int count, int B, int C, int frames,
                         df_error *error);

// J of sequence b with values (frames, C), and dJ/dvalues added to gradient (frames, C) unless NULL. The terms are
// such as df_guide_check lets through. A NaN in what a term looks at makes J NaN.
double df_guide_value(const df_guide_term *terms, int count, int b, int C, int frames,
                      const float *values, float *gradient);

#endif
