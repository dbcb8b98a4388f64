#include "diffusion/levels.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>

const char *const df_schedule_names[DF_SCHEDULES] = {"full-sequence", "pyramid", "autoregressive",
                                                     "trapezoid",     "rolling", "custom"};

static double rows_later(df_schedule schedule, int S, double uncertainty) {
  return schedule == DF_FULL_SEQUENCE ? 0 : schedule == DF_AUTOREGRESSIVE ? S : uncertainty;
}

// The row in which column t begins to fall, or would have. floor of the float64 product, as the reference.
static double start_of(df_schedule schedule, int T, int S, double uncertainty, int64_t t) {
  if (schedule == DF_ROLLING) return (double)(t + 1) * uncertainty - S;
  if (schedule == DF_TRAPEZOID && T - 1 - t < t) t = T - 1 - t;
  return floor((double)t * rows_later(schedule, S, uncertainty));
}

df_status df_levels_rows(df_schedule schedule, int T, int S, double uncertainty, int *rows,
                         df_error *error) {
  if ((unsigned)schedule >= DF_CUSTOM)
    return df_fail(error, DF_BAD_ARGUMENT, "schedule %d is not one that is computed",
                   (int)schedule);
  if (T < 1) return df_fail(error, DF_BAD_ARGUMENT, "expected at least 1 token, found %d", T);
  if (S < 1)
    return df_fail(error, DF_BAD_ARGUMENT, "expected at least 1 sampling step, found %d", S);
  double u = rows_later(schedule, S, uncertainty);
  if (!(u >= 0 && u <= S))
    return df_fail(error, DF_BAD_ARGUMENT,
                   "expected an uncertainty from 0 to %d (the sampling steps), found %g", S, u);
  if (schedule == DF_ROLLING) {
    if (u < 1 || u != floor(u))
      return df_fail(error, DF_BAD_ARGUMENT,
                     "a rolling schedule needs a whole uncertainty from 1 on, found %g", u);
    *rows = (int)u + 1;
    return DF_OK;
  }
  int last = schedule == DF_TRAPEZOID ? (T - 1) / 2 : T - 1; // column that begins last
  double count = start_of(schedule, T, S, uncertainty, last) + S + 1;
  if (count > INT_MAX)
    return df_fail(error, DF_BAD_ARGUMENT, "a level table of %.0f rows is too long", count);
  *rows = (int)count;
  return DF_OK;
}

int df_levels_at(df_schedule schedule, int T, int S, double uncertainty, int64_t m, int64_t t) {
  double level = S + start_of(schedule, T, S, uncertainty, t) - (double)m;
  return level >= S ? S : level <= 0 ? 0 : (int)level;
}

df_status df_levels_fill(df_schedule schedule, int T, int S, double uncertainty, int32_t *table,
                         df_error *error) {
  int rows;
  df_status status = df_levels_rows(schedule, T, S, uncertainty, &rows, error);
  if (status) return status;
  for (int m = 0; m < rows; m++)
    for (int t = 0; t < T; t++)
      table[(size_t)m * T + t] = df_levels_at(schedule, T, S, uncertainty, m, t);
  return DF_OK;
}

df_status df_levels_check(const int32_t *table, int rows, int T, int S, bool allow_renoise,
                          bool allow_partial, df_error *error) {
  if (!table || T < 1 || S < 1)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "a level table needs entries, tokens and sampling steps");
  if (rows < 2) return df_fail(error, DF_BAD_TABLE, "expected at least 2 rows, found %d", rows);
  for (int m = 0; m < rows; m++) {
    for (int t = 0; t < T; t++) {
      int now = table[(size_t)m * T + t], before = m ? table[(size_t)(m - 1) * T + t] : S;
      if (now < 0 || now > S)
        return df_fail(error, DF_BAD_TABLE,
                       "row %d, column %d: expected a level from 0 to %d, found %d", m, t, S, now);
      if (now > before && !allow_renoise)
        return df_fail(error, DF_BAD_TABLE, "row %d, column %d: the level rises from %d to %d", m,
                       t, before, now);
      if (now > 0 && m == rows - 1 && !allow_partial)
        return df_fail(error, DF_BAD_TABLE,
                       "row %d, column %d: expected 0 in the last row, found %d", m, t, now);
    }
  }
  return DF_OK;
}
