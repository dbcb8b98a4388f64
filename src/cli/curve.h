// Quality against steps: what `forcing eval --sweep` measures, as a table, as CSV and as a chart.
#ifndef DF_CLI_CURVE_H
#define DF_CLI_CURVE_H

#include "base/memory.h"
#include "base/status.h"

enum { CURVE_LINES = 12, CURVE_STEPS = 16, CURVE_MEASURES = 16 };

// Sums over the repeats of one measure at one point.
typedef struct curve_value {
  int count;
  double sum, squares;
  double error; // standard error of the last one on its own; 0: none
} curve_value;

// A line for each way to sample, a point for each number of steps, some measures at each.
typedef struct curve {
  int lines, points, measures;
  const char *names[CURVE_LINES]; // of the ways to sample
  int steps[CURVE_STEPS];
  char keys[CURVE_MEASURES][64], titles[CURVE_MEASURES][112];
  bool percent[CURVE_MEASURES];
  curve_value values[CURVE_LINES][CURVE_STEPS][CURVE_MEASURES];
} curve;

// Adds a value to a measure, whose key is new or known. A curve that is full takes no more measures.
void curve_add(curve *c, int line, int point, const char *key, const char *title, bool percent,
               double value, double error);
// The number of a measure, -1: none.
int curve_measure(const curve *c, const char *key);
// Mean of the repeats, and its standard error: of the repeats if there are several, else what came with
// the value. Both are NaN where nothing was measured.
void curve_mean(const curve *c, int line, int point, int measure, double *mean, double *error);

// Texts of the arena (NULL: no memory). Markdown: a row for each number of steps, a column for each line.
char *curve_markdown(const curve *c, df_arena *arena, int measure);
char *curve_csv(const curve *c, df_arena *arena);
// SVG; the steps stand on a logarithmic axis. `real`: a value to draw as a line across, NaN: none.
char *curve_svg(const curve *c, df_arena *arena, int measure, const char *title, double real);

#endif
