#include "cli/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

report_value *report_at(report *r, const char *key, const char *title, int column) {
  int i = 0;
  while (i < r->count && strcmp(r->rows[i].key, key)) i++;
  if (i == r->count && i < REPORT_ROWS) {
    snprintf(r->rows[i].key, sizeof r->rows[i].key, "%s", key);
    snprintf(r->rows[i].title, sizeof r->rows[i].title, "%s", title);
    r->count++;
  }
  if (i == REPORT_ROWS) i--;
  r->rows[i].values[column].there = true;
  return &r->rows[i].values[column];
}

void report_put(report *r, const char *key, const char *title, int column, double value,
                double error) {
  report_value *v = report_at(r, key, title, column);
  v->value = value;
  v->error = error;
}

void report_share(report *r, const char *key, const char *title, int column, double value,
                  double error) {
  report_put(r, key, title, column, value, error);
  for (int i = 0; i < r->count; i++)
    if (!strcmp(r->rows[i].key, key)) r->rows[i].percent = true;
}

// "0.123 ± 0.045 (mean 12.6)": as many digits behind the point as say something.
static void value_text(const report_row *row, const report_value *v, char *text, size_t size) {
  if (!v->there) {
    snprintf(text, size, "–");
    return;
  }
  double scale = row->percent ? 100 : 1, value = v->value * scale, error = v->error * scale;
  double least = error > 0 ? error : fabs(value);
  int digits = least >= 100 ? 0 : least >= 10 ? 1 : least >= 1 ? 2 : 3;
  if (row->percent && digits > 2) digits = 2;
  size_t used = (size_t)snprintf(text, size, "%.*f", digits, value);
  if (error > 0) used += (size_t)snprintf(text + used, size - used, " ± %.*f", digits, error);
  if (row->percent) used += (size_t)snprintf(text + used, size - used, " %%");
  if (v->has_mean) snprintf(text + used, size - used, " (mean %.3g)", v->mean);
}

// Columns that text takes: bytes that do not go on a UTF-8 character.
static int columns_of(const char *text) {
  int n = 0;
  for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
  return n;
}

enum { CELL_TEXT = 160 };

static char *put_cell(char *to, const char *text, int width, bool right) {
  int gap = width - columns_of(text);
  return to + sprintf(to, " %*s%s%*s |", right ? gap : 0, "", text, right ? 0 : gap, "");
}

char *report_markdown(const report *r, df_arena *arena, const char *const *names, int models) {
  int columns = models + 2, lines = r->count + 1;
  char(*cells)[CELL_TEXT] = df_arena_alloc(arena, sizeof *cells * (size_t)(lines * columns));
  int *widths = df_arena_alloc(arena, sizeof *widths * (size_t)columns);
  if (!cells || !widths) return NULL;
  for (int i = 0; i < lines; i++)
    for (int j = 0; j < columns; j++) {
      char *cell = cells[i * columns + j];
      const report_row *row = &r->rows[i > 0 ? i - 1 : 0];
      if (i == 0)
        snprintf(cell, CELL_TEXT, "%s", j == 0 ? "measure" : j <= models ? names[j - 1] : "real");
      else if (j == 0)
        snprintf(cell, CELL_TEXT, "%s", row->title);
      else
        value_text(row, &row->values[j <= models ? j - 1 : REPORT_REAL], cell, CELL_TEXT);
      int width = columns_of(cell);
      if (width > widths[j]) widths[j] = width;
    }
  size_t room = 1;
  for (int j = 0; j < columns; j++) room += (size_t)(lines + 1) * ((size_t)widths[j] * 4 + 8);
  char *text = df_arena_alloc(arena, room), *to = text;
  if (!text) return NULL;
  for (int i = 0; i < lines; i++) {
    *to++ = '|';
    for (int j = 0; j < columns; j++) to = put_cell(to, cells[i * columns + j], widths[j], j > 0);
    *to++ = '\n';
    if (i) continue;
    *to++ = '|';
    for (int j = 0; j < columns; j++) {
      *to++ = ' ';
      memset(to, '-', (size_t)widths[j]);
      to += widths[j];
      if (j) to[-1] = ':';
      to += sprintf(to, " |");
    }
    *to++ = '\n';
  }
  *to = 0;
  return text;
}

void report_write(const report *r, int column, df_json_writer *w, const char *key) {
  df_json_object_begin(w, key);
  for (int i = 0; i < r->count; i++) {
    const report_value *v = &r->rows[i].values[column];
    if (!v->there) continue;
    df_json_object_begin(w, r->rows[i].key);
    df_json_put_number(w, "value", v->value);
    if (v->error > 0) df_json_put_number(w, "error", v->error);
    if (v->has_mean) df_json_put_number(w, "mean", v->mean);
    df_json_object_end(w);
  }
  df_json_object_end(w);
}
