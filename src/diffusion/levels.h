// The level table: rows = denoising steps, columns = tokens, entries = indices 0 (clean) .. S (pure
// noise) into the sampling grid. Row 0 is the start, the last row is all 0, but for rolling. A pure
// function of (schedule, T, S, uncertainty).
#ifndef DF_DIFFUSION_LEVELS_H
#define DF_DIFFUSION_LEVELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef enum df_schedule {
  DF_FULL_SEQUENCE,
  DF_PYRAMID,
  DF_AUTOREGRESSIVE,
  DF_TRAPEZOID,
  DF_ROLLING, // those before it begin with pure noise
  DF_CUSTOM,
  DF_SCHEDULES
} df_schedule;
// "full-sequence", "pyramid", "autoregressive", "trapezoid", "rolling", "custom"
extern const char *const df_schedule_names[DF_SCHEDULES];

// full-sequence: all columns together (pyramid with u = 0). pyramid: column t starts floor(u t)
// rows later. autoregressive: u = S. trapezoid: columns t and T-1-t together, from both ends to the
// middle (the published code mirrors onto -t mod T, a slip). 0 <= u <= S.
// rolling: a pyramid that has been under way for long. Row m, column t: u (t + 1) - m, cut to 0 .. S; rows 0 .. u, u
// whole and at least 1. The first column becomes clean, and the others end where the column before them began.
df_status df_levels_rows(df_schedule schedule, int T, int S, double uncertainty, int *rows,
                         df_error *error);
// Entry of row m, column t; any m >= 0 (0 after the end). T is used by the trapezoid only.
int df_levels_at(df_schedule schedule, int T, int S, double uncertainty, int64_t m, int64_t t);
// The whole table (rows, T).
df_status df_levels_fill(df_schedule schedule, int T, int S, double uncertainty, int32_t *table,
                         df_error *error);

// A user's table: entries in 0..S, at least 2 rows, no column rises unless renoise is allowed, last
// row all 0 unless partial is allowed. The error names row, column and entry.
df_status df_levels_check(const int32_t *table, int rows, int T, int S, bool allow_renoise,
                          bool allow_partial, df_error *error);

#endif
