// The text of a progress line: how far, how fast, how long still. Formatting only; the command prints it.
#ifndef DF_BASE_PROGRESS_H
#define DF_BASE_PROGRESS_H

#include <stddef.h>

double df_seconds(void); // a monotonic clock

typedef struct df_progress {
  double start, last; // clock at the beginning, and when the line was last due
  double first;       // value of `done` at the beginning (a resumed run starts above 0)
} df_progress;

void df_progress_begin(df_progress *p, double done);
// 1 at most every `interval` seconds, and always when done >= total.
int df_progress_due(df_progress *p, double done, double total, double interval);
// "37 %  12,345/33,000 steps  81.2 steps/s  4 min 14 s left" into text[size]; unit is "steps".
void df_progress_text(const df_progress *p, double done, double total, const char *unit, char *text,
                      size_t size);
// "1 h 02 min", "4 min 14 s", "12 s"
void df_progress_time(double seconds, char *text, size_t size);

#endif
