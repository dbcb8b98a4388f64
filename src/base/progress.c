#include "base/progress.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

double df_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void df_progress_begin(df_progress *p, double done) {
  p->start = p->last = df_seconds();
  p->first = done;
}

int df_progress_due(df_progress *p, double done, double total, double interval) {
  double now = df_seconds();
  if (done < total && now - p->last < interval) return 0;
  p->last = now;
  return 1;
}

// 12345 as "12,345"
static const char *group(double value, char text[32]) {
  char digits[32];
  int length = snprintf(digits, sizeof digits, "%.0f",
                        value < 0      ? 0
                        : value > 1e15 ? 1e15
                                       : value),
      n = 0;
  for (int i = 0; i < length; i++) {
    if (i && (length - i) % 3 == 0) text[n++] = ',';
    text[n++] = digits[i];
  }
  text[n] = 0;
  return text;
}

void df_progress_text(const df_progress *p, double done, double total, const char *unit, char *text,
                      size_t size) {
  char a[32], b[32], rate_text[32] = "", left[32] = "", line[256];
  double seconds = df_seconds() - p->start, rate = 0;
  if (seconds > 0 && done > p->first) rate = (done - p->first) / seconds;
  if (rate >= 1000)
    group(rate, rate_text);
  else if (rate > 0)
    snprintf(rate_text, sizeof rate_text, "%.3g", rate);
  if (rate > 0 && total > 0) df_progress_time((total - done) / rate, left, sizeof left);

  snprintf(line, sizeof line, "%.0f %%  %s/%s %.40s%s%s%s%.40s%s%s%s",
           total > 0 ? floor(100 * done / total) : 0, group(done, a), group(total, b), unit,
           *rate_text ? "  " : "", rate_text, *rate_text ? " " : "", *rate_text ? unit : "",
           *rate_text ? "/s" : "", *left ? "  " : "", left);
  snprintf(text, size, "%s%s", line, *left ? " left" : "");
}

void df_progress_time(double seconds, char *text, size_t size) {
  // Rounded to whole seconds first, so that 59.7 s is a minute.
  double whole = seconds < 0 ? 0 : seconds > 1e9 ? 1e9 : seconds;
  long s = (long)(whole + 0.5), m = s / 60, h = m / 60;
  if (h)
    snprintf(text, size, "%ld h %02ld min", h, m % 60);
  else if (m)
    snprintf(text, size, "%ld min %ld s", m, s % 60);
  else
    snprintf(text, size, "%ld s", s);
}
