#include "cli/curve.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int curve_measure(const curve *c, const char *key) {
  for (int i = 0; i < c->measures; i++)
    if (!strcmp(c->keys[i], key)) return i;
  return -1;
}

void curve_add(curve *c, int line, int point, const char *key, const char *title, bool percent,
               double value, double error) {
  int i = curve_measure(c, key);
  if (i < 0) {
    if (c->measures == CURVE_MEASURES) return;
    i = c->measures++;
    snprintf(c->keys[i], sizeof c->keys[i], "%s", key);
    snprintf(c->titles[i], sizeof c->titles[i], "%s", title);
    c->percent[i] = percent;
  }
  curve_value *v = &c->values[line][point][i];
  v->count++;
  v->sum += value;
  v->squares += value * value;
  v->error = error;
}

void curve_mean(const curve *c, int line, int point, int measure, double *mean, double *error) {
  const curve_value *v = &c->values[line][point][measure];
  *mean = v->count ? v->sum / v->count : NAN;
  *error = !v->count ? NAN : v->error;
  if (v->count > 1) *error = sqrt(fmax(0, v->squares / v->count - *mean * *mean) / (v->count - 1));
}

// ---- Texts ----

// Text that grows towards the end of its room.
typedef struct text {
  char *at;
  size_t size, room;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(t->at + t->size, t->room - t->size, format, arguments);
  va_end(arguments);
  t->size =
      length < 0 || t->size + (size_t)length >= t->room ? t->room - 1 : t->size + (size_t)length;
}

// Room for so many values of 64 characters, and for what stands around them.
static bool begin(text *t, df_arena *arena, int values) {
  t->room = 8192 + 64 * (size_t)values;
  t->size = 0;
  return (t->at = df_arena_alloc(arena, t->room)) != NULL;
}

// Text content of an element: without what XML gives a meaning.
static void put_plain(text *t, const char *s) {
  for (; *s; s++) put(t, *s == '<' || *s == '&' || *s == '>' ? "&#%d;" : "%c", *s);
}

char *curve_markdown(const curve *c, df_arena *arena, int measure) {
  text t;
  if (!begin(&t, arena, (c->lines + 1) * (c->points + 2) * 2)) return NULL;
  put(&t, "| steps |");
  for (int l = 0; l < c->lines; l++) put(&t, " %s |", c->names[l]);
  put(&t, "\n| ---: |");
  for (int l = 0; l < c->lines; l++) put(&t, " ---: |");
  put(&t, "\n");
  double scale = c->percent[measure] ? 100 : 1;
  for (int p = 0; p < c->points; p++) {
    put(&t, "| %d |", c->steps[p]);
    for (int l = 0; l < c->lines; l++) {
      double mean, error;
      curve_mean(c, l, p, measure, &mean, &error);
      if (isnan(mean))
        put(&t, " – |");
      else if (error > 0)
        put(&t, " %.*f ± %.*f |", c->percent[measure] ? 1 : 2, scale * mean,
            c->percent[measure] ? 1 : 2, scale * error);
      else
        put(&t, " %.*f |", c->percent[measure] ? 1 : 2, scale * mean);
    }
    put(&t, "\n");
  }
  return t.at;
}

char *curve_csv(const curve *c, df_arena *arena) {
  text t;
  if (!begin(&t, arena, (2 * c->measures + 4) * (c->lines * c->points + 1))) return NULL;
  put(&t, "sampling,steps,repeats");
  for (int i = 0; i < c->measures; i++) put(&t, ",%s,%s_error", c->keys[i], c->keys[i]);
  put(&t, "\n");
  for (int l = 0; l < c->lines; l++)
    for (int p = 0; p < c->points; p++) {
      put(&t, "\"%s\",%d,%d", c->names[l], c->steps[p], c->measures ? c->values[l][p][0].count : 0);
      for (int i = 0; i < c->measures; i++) {
        double mean, error;
        curve_mean(c, l, p, i, &mean, &error);
        if (isnan(mean))
          put(&t, ",,");
        else
          put(&t, ",%.6g,%.3g", mean, error);
      }
      put(&t, "\n");
    }
  return t.at;
}

// ---- The chart, drawn as src/train/log.c draws the losses ----

enum { WIDTH = 860, HEIGHT = 460, LEFT = 64, RIGHT = 190, TOP = 44, BOTTOM = 48 };

static const char *const colors[] = {"#7aa6d8", "#a678c8", "#e07b39", "#3fa36b",
                                     "#b8a13a", "#d86a8a", "#5bb5b0", "#9a8878"};
enum { COLORS = sizeof colors / sizeof colors[0] };

typedef struct axes {
  double x0, x1, y0, y1; // logarithms of steps; values
} axes;

static double to_x(const axes *a, double steps) {
  return LEFT + (log(steps) - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}
static double to_y(const axes *a, double value) {
  return TOP + (a->y1 - value) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

static axes axes_of(const curve *c, int measure, double scale, double real) {
  axes a = {INFINITY, -INFINITY, INFINITY, -INFINITY};
  for (int p = 0; p < c->points; p++) {
    a.x0 = fmin(a.x0, log(c->steps[p]));
    a.x1 = fmax(a.x1, log(c->steps[p]));
    for (int l = 0; l < c->lines; l++) {
      double mean, error;
      curve_mean(c, l, p, measure, &mean, &error);
      if (isnan(mean)) continue;
      a.y0 = fmin(a.y0, scale * (mean - error));
      a.y1 = fmax(a.y1, scale * (mean + error));
    }
  }
  if (!isnan(real)) a.y0 = fmin(a.y0, scale * real);
  if (!(a.y0 <= a.y1)) a.y0 = a.y1 = 0; // nothing was measured
  if (!(a.x0 < a.x1)) a.x0 -= 0.5, a.x1 += 0.5;
  double margin = a.y0 < a.y1 ? 0.05 * (a.y1 - a.y0) : 1;
  a.y0 -= margin;
  a.y1 += margin;
  return a;
}

static void put_axes(text *t, const curve *c, const axes *a, const char *unit) {
  for (int p = 0; p < c->points; p++)
    put(t,
        "<path class='grid' d='M%.1f %dV%d'/><text x='%.1f' y='%d' "
        "text-anchor='middle'>%d</text>\n",
        to_x(a, c->steps[p]), TOP, HEIGHT - BOTTOM, to_x(a, c->steps[p]), HEIGHT - BOTTOM + 18,
        c->steps[p]);
  double raw = (a->y1 - a->y0) / 6, power = pow(10, floor(log10(raw))), part = raw / power;
  double step = power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
  for (double v = ceil(a->y0 / step) * step; v <= a->y1; v += step)
    put(t,
        "<path class='grid' d='M%d %.1fH%d'/><text x='%d' y='%.1f' text-anchor='end'>%g%s</text>\n",
        LEFT, to_y(a, v), WIDTH - RIGHT, LEFT - 8, to_y(a, v) + 4, v, unit);
  put(t, "<text x='%d' y='%d' text-anchor='middle'>steps</text>\n", (LEFT + WIDTH - RIGHT) / 2,
      HEIGHT - 10);
}

static void put_line(text *t, const curve *c, const axes *a, int line, int measure, double scale) {
  const char *color = colors[line % COLORS];
  int drawn = 0;
  put(t, "<path fill='none' stroke='%s' stroke-width='1.8' stroke-linejoin='round' d='", color);
  for (int p = 0; p < c->points; p++) {
    double mean, error;
    curve_mean(c, line, p, measure, &mean, &error);
    if (!isnan(mean))
      put(t, "%s%.1f %.1f", drawn++ ? "L" : "M", to_x(a, c->steps[p]), to_y(a, scale * mean));
  }
  put(t, "'/>\n<path stroke='%s' d='", color); // standard errors
  for (int p = 0; p < c->points; p++) {
    double mean, error;
    curve_mean(c, line, p, measure, &mean, &error);
    if (error > 0)
      put(t, "M%.1f %.1fV%.1f", to_x(a, c->steps[p]), to_y(a, scale * (mean - error)),
          to_y(a, scale * (mean + error)));
  }
  put(t, "'/>\n<path stroke='%s' stroke-width='3' d='M%d %dh16'/><text x='%d' y='%d'>", color,
      WIDTH - RIGHT + 12, TOP + 8 + line * 22, WIDTH - RIGHT + 34, TOP + 12 + line * 22);
  put_plain(t, c->names[line]);
  put(t, "</text>\n");
}

char *curve_svg(const curve *c, df_arena *arena, int measure, const char *title, double real) {
  text t;
  if (!begin(&t, arena, 8 * (c->lines + 2) * (c->points + 8))) return NULL;
  const double scale = c->percent[measure] ? 100 : 1;
  axes a = axes_of(c, measure, scale, real);
  put(&t,
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' "
      "font-family='system-ui, sans-serif' font-size='12' fill='#808080'>\n",
      WIDTH, HEIGHT, WIDTH, HEIGHT);
  put(&t, "<style>.grid{stroke:#808080;stroke-opacity:.25;fill:none}</style>\n");
  put(&t, "<text x='%d' y='24' font-size='15'>", LEFT);
  put_plain(&t, title);
  put(&t, "</text>\n");
  put_axes(&t, c, &a, c->percent[measure] ? " %" : "");
  if (!isnan(real))
    put(&t,
        "<path stroke='#808080' stroke-dasharray='4 4' d='M%d %.1fH%d'/><text x='%d' y='%.1f'>real "
        "data</text>\n",
        LEFT, to_y(&a, scale * real), WIDTH - RIGHT, WIDTH - RIGHT + 12,
        to_y(&a, scale * real) + 4);
  for (int l = 0; l < c->lines; l++) put_line(&t, c, &a, l, measure, scale);
  put(&t, "</svg>\n");
  return t.at;
}
