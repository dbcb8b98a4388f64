// A table of measures, models side by side, as Markdown and as JSON. Rows come into being when a
// value is put into them, in that order.
#ifndef DF_CLI_REPORT_H
#define DF_CLI_REPORT_H

#include "io/json.h"

enum { REPORT_ROWS = 64, REPORT_MODELS = 8, REPORT_REAL = REPORT_MODELS };

typedef struct report_value {
  bool there;
  double value;
  double error; // standard error or deviation; 0: none
  double mean;  // of the measured property itself
  bool has_mean;
} report_value;

typedef struct report_row {
  char key[64], title[112];
  bool percent;
  report_value values[REPORT_MODELS + 1]; // the last one: real data
} report_row;

typedef struct report {
  report_row rows[REPORT_ROWS];
  int count;
} report;

// The place of a value; key is new or known. column: a model's number, or REPORT_REAL.
// A report that is full gives its last place again.
report_value *report_at(report *r, const char *key, const char *title, int column);
void report_put(report *r, const char *key, const char *title, int column, double value,
                double error);
// A share, printed in percent.
void report_share(report *r, const char *key, const char *title, int column, double value,
                  double error);

// The Markdown table into an arena (NULL: no memory). names[models]: heads of the columns.
char *report_markdown(const report *r, df_arena *arena, const char *const *names, int models);
// An object of {"key": {"value": ..., "error": ..., "mean": ...}}.
void report_write(const report *r, int column, df_json_writer *w, const char *key);

#endif
