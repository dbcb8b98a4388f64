// The log of a run: log.csv, one line per logged step, and loss.svg, a picture of it.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "train/internal.h"

#define HEADER                                                                                     \
  "step,seconds,loss,stop,gradient_norm,rate,tokens_per_second,valid_loss,valid_stop,"             \
  "valid_stop_clean,level_1,level_2,level_3,level_4,level_5,level_6,level_7,level_8,level_9,"      \
  "level_10\n"

// A text that grows.
typedef struct text {
  char *bytes;
  size_t size, room;
  bool failed;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *format, ...) {
  char piece[1024];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(piece, sizeof piece, format, arguments);
  va_end(arguments);
  if (length < 0 || length >= (int)sizeof piece) t->failed = true;
  if (t->failed) return;
  if (t->size + (size_t)length + 1 > t->room) {
    size_t room = 2 * t->room + 4096;
    char *grown = df_realloc(t->bytes, room);
    if (!grown) {
      t->failed = true;
      return;
    }
    t->bytes = grown;
    t->room = room;
  }
  memcpy(t->bytes + t->size, piece, (size_t)length + 1);
  t->size += (size_t)length;
}

static df_status write_text(text *t, const char *folder, const char *name, df_error *error) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  df_status status = t->failed ? df_fail(error, DF_NO_MEMORY, "no memory for %s", path)
                               : df_file_write(path, t->bytes, t->size, error);
  df_free(t->bytes);
  return status;
}

// ---- log.csv ----

static void put_line(text *t, const df_log_line *l) {
  put(t, "%d,%.2f,%.6g,%.6g,%.5g,%.5g,%.0f", l->step, l->seconds, l->loss, l->stop, l->norm,
      l->rate, l->speed);
  if (!l->validated) {
    put(t, ",,,,,,,,,,,,,\n");
    return;
  }
  put(t, ",%.6g,%.6g,%.6g", l->valid, l->valid_stop, l->valid_stop_clean);
  for (int k = 0; k < 10; k++)
    if (isfinite(l->level[k]))
      put(t, ",%.5g", l->level[k]);
    else
      put(t, ",");
  put(t, "\n");
}

static df_status keep(df_log *log, const df_log_line *line, df_error *error) {
  if (log->count == log->room) {
    int room = log->room ? 2 * log->room : 256;
    df_log_line *grown = df_realloc(log->lines, (size_t)room * sizeof *grown);
    if (!grown) return df_fail(error, DF_NO_MEMORY, "no memory for the log");
    log->lines = grown;
    log->room = room;
  }
  log->lines[log->count++] = *line;
  return DF_OK;
}

// One line of an earlier session; false if it is not whole.
static bool read_line(const char *at, df_log_line *l) {
  double v[20];
  *l = (df_log_line){0};
  for (int i = 0; i < 20; i++) {
    char *end = NULL;
    bool empty = *at == ',' || *at == '\n' || *at == '\r';
    v[i] = empty ? NAN : strtod(at, &end);
    if (!empty && end == at) return false;
    if (!empty) at = end;
    if (i < 19 ? *at != ',' : *at != '\n' && *at != '\r') return false;
    at++;
  }
  l->step = (int)v[0];
  l->seconds = v[1], l->loss = v[2], l->stop = v[3], l->norm = v[4], l->rate = v[5],
  l->speed = v[6];
  l->validated = isfinite(v[7]);
  l->valid = v[7], l->valid_stop = v[8], l->valid_stop_clean = v[9];
  memcpy(l->level, v + 10, sizeof l->level);
  return isfinite(v[0]);
}

df_status df_log_open(df_log *log, const char *folder, int step, df_error *error) {
  *log = (df_log){.folder = folder};
  char path[1024];
  void *bytes = NULL;
  size_t size = 0;
  df_status status = DF_OK;
  snprintf(path, sizeof path, "%s/log.csv", folder);
  if (step > 0 && df_file_read(&bytes, &size, path, NULL) == DF_OK) {
    df_log_line line;
    for (const char *at = strchr(bytes, '\n'); at && at[1] && !status; at = strchr(at + 1, '\n'))
      if (strchr(at + 1, '\n') && read_line(at + 1, &line) && line.step <= step)
        status = keep(log, &line, error);
    df_free(bytes);
  }
  text t = {0};
  put(&t, HEADER);
  for (int i = 0; i < log->count; i++) put_line(&t, &log->lines[i]);
  df_status written = write_text(&t, folder, "log.csv", error);
  return status ? status : written;
}

df_status df_log_add(df_log *log, const df_log_line *line, df_error *error) {
  df_status status = keep(log, line, error);
  if (status) return status;
  text t = {0};
  put_line(&t, line);
  char path[1024];
  snprintf(path, sizeof path, "%s/log.csv", log->folder);
  FILE *file = t.failed ? NULL : fopen(path, "ab");
  bool fine = file && fwrite(t.bytes, 1, t.size, file) == t.size;
  if (file && fclose(file)) fine = false;
  df_free(t.bytes);
  return fine ? DF_OK : df_fail(error, DF_IO, "%s: could not be written", path);
}

void df_log_close(df_log *log) {
  df_free(log->lines);
  *log = (df_log){0};
}

// ---- loss.svg ----

enum { WIDTH = 860, HEIGHT = 460, LEFT = 64, RIGHT = 150, TOP = 44, BOTTOM = 48, POINTS = 700 };

typedef struct axes {
  double x0, x1, y0, y1; // steps; logarithms of losses
} axes;

static double to_x(const axes *a, double step) {
  return LEFT + (step - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}
static double to_y(const axes *a, double value) {
  return TOP + (a->y1 - log10(value)) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

// One curve of the picture.
typedef struct curve {
  const char *name, *color;
  int kind; // 0: loss, 1: validation, 2: lowest tenth of the levels, 3: highest, 4: stop head, validated
} curve;

static double value_of(const df_log_line *l, int kind) {
  switch (kind) {
  case 0: return l->loss;
  case 1: return l->validated ? l->valid : NAN;
  case 2: return l->validated ? l->level[0] : NAN;
  case 3: return l->validated ? l->level[9] : NAN;
  case 4: return l->validated ? l->valid_stop : NAN;
  }
  return NAN;
}

// A round distance of ticks: 1, 2 or 5 times a power of ten.
static double round_step(double range, int ticks) {
  double raw = range / ticks, power = pow(10, floor(log10(raw))), part = raw / power;
  return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static void put_axes(text *t, const axes *a) {
  double step = round_step(a->x1 - a->x0, 6);
  for (double x = ceil(a->x0 / step) * step; x <= a->x1 * 1.0001; x += step)
    put(t,
        "<path class='grid' d='M%.1f %dV%d'/><text x='%.1f' y='%d' "
        "text-anchor='middle'>%.0f</text>\n",
        to_x(a, x), TOP, HEIGHT - BOTTOM, to_x(a, x), HEIGHT - BOTTOM + 18, x);
  static const double marks[] = {1, 1.5, 2, 3, 5, 7};
  double decades = a->y1 - a->y0;
  for (int e = (int)floor(a->y0); e <= (int)ceil(a->y1); e++)
    for (int i = 0; i < 6; i++) {
      double v = marks[i] * pow(10, e);
      bool wanted =
          decades < 0.7 || i == 0 || (decades < 1.6 ? i != 1 && i != 5 : i == 2 || i == 4);
      if (!wanted || log10(v) < a->y0 || log10(v) > a->y1) continue;
      put(t,
          "<path class='grid' d='M%d %.1fH%d'/><text x='%d' y='%.1f' text-anchor='end'>%g</text>\n",
          LEFT, to_y(a, v), WIDTH - RIGHT, LEFT - 8, to_y(a, v) + 4, v);
    }
  put(t, "<text x='%d' y='%d' text-anchor='middle'>steps</text>\n", (LEFT + WIDTH - RIGHT) / 2,
      HEIGHT - 10);
}

static void put_curve(text *t, const df_log *log, const axes *a, const curve *c, int place) {
  int every = log->count / POINTS + 1, drawn = 0;
  double sum = 0, last = NAN;
  int n = 0;
  put(t, "<path fill='none' stroke='%s' stroke-width='%s' stroke-linejoin='round' d='", c->color,
      c->kind == 0 ? "1.2" : "1.8");
  for (int i = 0; i < log->count; i++) {
    double v = value_of(&log->lines[i], c->kind);
    if (isfinite(v) && v > 0) sum += v, n++;
    // the training loss is averaged over neighbouring lines when there are more than points
    if (n == 0 || (c->kind == 0 && n < every && i + 1 < log->count)) continue;
    last = sum / n;
    put(t, "%s%.1f %.1f", drawn++ ? "L" : "M", to_x(a, log->lines[i].step), to_y(a, last));
    sum = 0;
    n = 0;
  }
  put(t, "'/>\n");
  if (drawn)
    put(t,
        "<path stroke='%s' stroke-width='3' d='M%d %dh16'/><text x='%d' y='%d'>%s</text>"
        "<text x='%d' y='%d' class='value'>%.4g</text>\n",
        c->color, WIDTH - RIGHT + 12, TOP + 8 + place * 38, WIDTH - RIGHT + 34,
        TOP + 12 + place * 38, c->name, WIDTH - RIGHT + 34, TOP + 27 + place * 38, last);
}

df_status df_log_draw(const df_log *log, const char *title, df_error *error) {
  static const curve curves[] = {{"training", "#7aa6d8", 0},
                                 {"validation", "#e07b39", 1},
                                 {"lowest levels", "#3fa36b", 2},
                                 {"highest levels", "#a678c8", 3},
                                 {"stop head, nats", "#b8a13a", 4}};
  enum { CURVES = sizeof curves / sizeof curves[0] };
  axes a = {0, 1, INFINITY, -INFINITY};
  for (int i = 0; i < log->count; i++) {
    a.x1 = log->lines[i].step > a.x1 ? log->lines[i].step : a.x1;
    for (int c = 0; c < CURVES; c++) {
      double v = value_of(&log->lines[i], curves[c].kind);
      if (!isfinite(v) || v <= 0) continue;
      a.y0 = fmin(a.y0, log10(v));
      a.y1 = fmax(a.y1, log10(v));
    }
  }
  if (!(a.y0 < a.y1)) a.y0 = isfinite(a.y0) ? a.y0 - 0.5 : -1, a.y1 = a.y0 + 1;
  double margin = 0.04 * (a.y1 - a.y0);
  a.y0 -= margin;
  a.y1 += margin;
  text t = {0};
  put(&t,
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' "
      "font-family='system-ui, sans-serif' font-size='12' fill='#808080'>\n",
      WIDTH, HEIGHT, WIDTH, HEIGHT);
  put(&t, "<style>.grid{stroke:#808080;stroke-opacity:.25;fill:none}.value{font-size:11px;"
          "fill-opacity:.8}</style>\n");
  put(&t, "<text x='%d' y='24' font-size='15'>", LEFT);
  for (const char *c = title; *c; c++) // the name may hold what XML gives a meaning
    put(&t, *c == '<' || *c == '&' || *c == '>' ? "&#%d;" : "%c", *c);
  put(&t, ": loss</text>\n");
  put_axes(&t, &a);
  for (int c = 0, place = 0; c < CURVES; c++) {
    bool any = false;
    for (int i = 0; i < log->count && !any; i++) {
      double v = value_of(&log->lines[i], curves[c].kind);
      any = isfinite(v) && v > 0;
    }
    if (any) put_curve(&t, log, &a, &curves[c], place++);
  }
  put(&t, "</svg>\n");
  return write_text(&t, log->folder, "loss.svg", error);
}
