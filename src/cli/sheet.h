// A contact sheet: drawings of pen strokes in a grid, as SVG.
#ifndef DF_CLI_SHEET_H
#define DF_CLI_SHEET_H

#include "train/metrics.h"

typedef struct sheet_options {
  int first, count;    // drawings first .. first + count - 1
  int columns;         // 0: as near to a square as it goes
  const char *title;   // what it shows, for the picture's title
  const char *caption; // a line below; nullable
} sheet_options;

// The whole SVG as one text (*svg, df_free it). All drawings have one scale, so that sizes compare;
// only those that would leave their cell are made smaller.
df_status sheet_write(char **svg, size_t *size, const df_dataset *data, const df_pen *pen,
                      const sheet_options *options, df_error *error);

#endif
