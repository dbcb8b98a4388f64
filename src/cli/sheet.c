#include "cli/sheet.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { CELL = 96, MARGIN = 24, CAPTION = 28 };
static const double FILLED = 0.74; // of a cell, by a drawing of usual extent

// ---- A growing text ----

typedef struct svg_text {
  char *at;
  size_t size, room;
  bool failed;
} svg_text;

__attribute__((format(printf, 2, 3))) static void put(svg_text *t, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char piece[512];
  int length = vsnprintf(piece, sizeof piece, format, arguments);
  va_end(arguments);
  if (length < 0 || t->failed) return;
  if (length >= (int)sizeof piece) length = sizeof piece - 1;
  if (t->size + (size_t)length + 1 > t->room) {
    size_t room = (t->room ? t->room * 2 : 16384) + (size_t)length;
    char *grown = df_realloc(t->at, room);
    if (!grown) {
      t->failed = true;
      return;
    }
    t->at = grown;
    t->room = room;
  }
  memcpy(t->at + t->size, piece, (size_t)length + 1);
  t->size += (size_t)length;
}

// Text content of an element.
static void put_escaped(svg_text *t, const char *s) {
  for (; *s; s++) switch (*s) {
    case '<': put(t, "&lt;"); break;
    case '>': put(t, "&gt;"); break;
    case '&': put(t, "&amp;"); break;
    default:
      if ((unsigned char)*s >= ' ') put(t, "%c", *s);
    }
}

// ---- Drawings ----

typedef struct box {
  double left, right, top, bottom;
} box;

static box box_of(const df_dataset *data, const df_pen *pen, int i) {
  box b = {0, 0, 0, 0};
  double x = 0, y = 0;
  for (int f = data->offsets[i]; f < data->offsets[i + 1]; f++) {
    const float *v = data->values + (size_t)f * (size_t)data->fields;
    df_pen_move(pen, v, &x, &y);
    bool first = f == data->offsets[i];
    if (first || x < b.left) b.left = x;
    if (first || x > b.right) b.right = x;
    if (first || y < b.top) b.top = y;
    if (first || y > b.bottom) b.bottom = y;
  }
  return b;
}

static double extent_of(box b) { return fmax(b.right - b.left, b.bottom - b.top); }

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// A number with at most one digit behind the point.
static void put_number(svg_text *t, double v) {
  double rounded = round(v * 10) / 10;
  put(t, "%g", rounded == 0 ? 0 : rounded);
}

// The drawing in the middle of a cell whose corner is (left, top).
static void put_drawing(svg_text *t, const df_dataset *data, const df_pen *pen, int i, double scale,
                        double left, double top) {
  box b = box_of(data, pen, i);
  double largest = 0.94 * CELL, extent = extent_of(b) * scale;
  if (extent > largest) scale *= largest / extent;
  double x = 0, y = 0, x0 = left + CELL / 2.0 - scale * (b.left + b.right) / 2,
         y0 = top + CELL / 2.0 - scale * (b.top + b.bottom) / 2;
  bool down = false;
  put(t, "<path d=\"");
  for (int f = data->offsets[i]; f < data->offsets[i + 1]; f++) {
    const float *v = data->values + (size_t)f * (size_t)data->fields;
    df_pen_move(pen, v, &x, &y);
    bool lifted = v[pen->pen] > pen->threshold;
    put(t, down ? "L" : "M");
    put_number(t, x0 + scale * x);
    put(t, " ");
    put_number(t, y0 + scale * y);
    if (!down && lifted) put(t, "h0"); // a stroke of one point: a dot
    down = !lifted;
  }
  put(t, "\"/>\n");
}

df_status sheet_write(char **svg, size_t *size, const df_dataset *data, const df_pen *pen,
                      const sheet_options *o, df_error *error) {
  svg_text t = {0};
  int count = o->first + o->count > data->count ? data->count - o->first : o->count;
  if (count < 0) count = 0;
  int columns = o->columns ? o->columns : count ? (int)ceil(sqrt(count)) : 1;
  int rows = (count + columns - 1) / columns;
  int width = 2 * MARGIN + columns * CELL;
  int height = 2 * MARGIN + rows * CELL + (o->caption ? CAPTION : 0);

  // One scale for all: the 90th percentile of the extents fills a cell as it should.
  double *extents = df_alloc(sizeof(double) * (size_t)(count + 1));
  if (!extents) return df_fail(error, DF_NO_MEMORY, "out of memory for the sheet");
  for (int i = 0; i < count; i++) extents[i] = extent_of(box_of(data, pen, o->first + i));
  qsort(extents, (size_t)count, sizeof *extents, ascending);
  double usual = count ? extents[(count * 9 + 9) / 10 - 1] : 0;
  df_free(extents);
  double scale = usual > 0 ? FILLED * CELL / usual : 1;

  put(&t,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
      "height=\"%d\" role=\"img\">\n<title>",
      width, height, width, height);
  put_escaped(&t, o->title ? o->title : "Drawings");
  put(&t, "</title>\n"
          "<style>\n"
          ".paper{fill:#fff}.grid{stroke:#e4e1da;fill:none}\n"
          ".ink{stroke:#1c1b19;fill:none;stroke-width:2.2;stroke-linecap:round;"
          "stroke-linejoin:round}\n"
          ".note{fill:#6d6a64;font:12px system-ui,sans-serif}\n"
          "@media(prefers-color-scheme:dark){.paper{fill:#161513}.grid{stroke:#2f2d29}"
          ".ink{stroke:#ece8df}.note{fill:#99958c}}\n"
          "</style>\n");
  put(&t, "<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n<path class=\"grid\" d=\"", width,
      height);
  for (int i = 0; i <= rows; i++) {
    put(&t, "M%d %dh%d", MARGIN, MARGIN + i * CELL, columns * CELL);
  }
  for (int i = 0; i <= columns; i++) {
    put(&t, "M%d %dv%d", MARGIN + i * CELL, MARGIN, rows * CELL);
  }
  put(&t, "\"/>\n<g class=\"ink\">\n");
  for (int i = 0; i < count; i++)
    put_drawing(&t, data, pen, o->first + i, scale, MARGIN + i % columns * CELL,
                MARGIN + i / columns * CELL);
  put(&t, "</g>\n");
  if (o->caption) {
    put(&t, "<text class=\"note\" x=\"%d\" y=\"%d\">", MARGIN, height - MARGIN);
    put_escaped(&t, o->caption);
    put(&t, "</text>\n");
  }
  put(&t, "</svg>\n");
  if (t.failed) {
    df_free(t.at);
    return df_fail(error, DF_NO_MEMORY, "out of memory for the sheet");
  }
  *svg = t.at;
  *size = t.size;
  return DF_OK;
}
