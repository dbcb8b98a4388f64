#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Help ----

enum { HELP_WIDTH = 80 };

// One paragraph, text[0..size), broken into lines of HELP_WIDTH; `column` is where the cursor
// stands.
static void print_filled(const char *text, size_t size, int indent, int column) {
  size_t i = 0;
  while (i < size) {
    while (i < size && isspace((unsigned char)text[i])) i++;
    size_t begin = i;
    while (i < size && !isspace((unsigned char)text[i])) i++;
    int length = (int)(i - begin);
    if (!length) break;
    if (column > indent && column + 1 + length > HELP_WIDTH) {
      printf("\n%*s", indent, "");
      column = indent;
    } else if (column > indent) {
      putchar(' ');
      column++;
    }
    printf("%.*s", length, text + begin);
    column += length;
  }
  putchar('\n');
}

static void print_paragraphs(const char *text) {
  while (*text) {
    const char *end = strstr(text, "\n\n");
    size_t size = end ? (size_t)(end - text) : strlen(text);
    if (*text == ' ')
      printf("%.*s\n", (int)size, text);
    else
      print_filled(text, size, 0, 0);
    text += size;
    while (*text == '\n') text++;
    if (*text) putchar('\n');
  }
}

static void print_help(const cli_manual *m) {
  printf("Usage: forcing %s%s%s%s\n\n", m->name, m->arguments[0] ? " " : "", m->arguments,
         m->count ? " [OPTIONS]" : "");
  print_paragraphs(m->about);
  if (m->count) printf("\nOptions:\n");
  for (int i = 0; i < m->count; i++) {
    const cli_option *o = &m->options[i];
    int column = printf("  %s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    enum { INDENT = 22 };
    if (column >= INDENT) {
      putchar('\n');
      column = 0;
    }
    printf("%*s", INDENT - column, "");
    print_filled(o->help, strlen(o->help), INDENT, INDENT);
  }
  if (m->examples) printf("\nExamples:\n%s", m->examples);
}

// ---- Parsing ----

// Edits (a letter more, less or other, or two swapped) that lead from a[0..n) to b.
static int edits(const char *a, size_t n, const char *b) {
  enum { MOST = 40 };
  int row[3][MOST + 1], m = (int)strlen(b);
  if (n > MOST || m > MOST) return MOST;
  for (int i = 0; i <= (int)n; i++) {
    int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
    for (int j = 0; j <= m; j++) {
      now[j] = i && j ? last[j - 1] + (a[i - 1] != b[j - 1]) : i + j;
      if (i && last[j] + 1 < now[j]) now[j] = last[j] + 1;
      if (j && now[j - 1] + 1 < now[j]) now[j] = now[j - 1] + 1;
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped && before[j - 2] + 1 < now[j]) now[j] = before[j - 2] + 1;
    }
  }
  return row[n % 3][m];
}

static int unknown(const cli_manual *m, const char *text, size_t length) {
  const char *nearest = NULL;
  int least = 3;
  for (int j = 0; j < m->count; j++) {
    const char *name = m->options[j].name;
    int distance = edits(text, length, name);
    if (length > 3 && !strncmp(name, text, length)) distance = 1; // cut short
    if (distance < least) least = distance, nearest = name;
  }
  fprintf(stderr, "forcing %s: there is no option %.*s", m->name, (int)length, text);
  if (nearest) fprintf(stderr, "; did you mean %s?", nearest);
  fprintf(stderr, " (`forcing %s --help` lists them)\n", m->name);
  return CLI_USAGE;
}

static int usage(const cli_manual *m, const char *what, const char *which) {
  fprintf(stderr, "forcing %s: %s%s%s%s\n", m->name, what, which ? " \"" : "", which ? which : "",
          which ? "\"" : "");
  fprintf(stderr, "Usage: forcing %s %s%s; `forcing %s --help` says more\n", m->name, m->arguments,
          m->count ? " [OPTIONS]" : "", m->name);
  return CLI_USAGE;
}

// Stores the text of an option; false if it is not of the kind.
static bool store(const cli_option *o, const char *text) {
  char *end = NULL;
  errno = 0;
  switch (o->kind) {
  case CLI_FLAG: *(bool *)o->out = true; return true;
  case CLI_TEXT: *(const char **)o->out = text; return true;
  case CLI_LIST: {
    cli_list *list = o->out;
    if (list->count == CLI_LIST_MAX) return false;
    list->items[list->count++] = text;
    return true;
  }
  case CLI_INT: {
    long value = strtol(text, &end, 10);
    if (end == text || *end || errno || value < INT_MIN || value > INT_MAX) return false;
    *(int *)o->out = (int)value;
    return true;
  }
  case CLI_NUMBER: {
    double value = strtod(text, &end);
    if (end == text || *end || errno) return false;
    *(double *)o->out = value;
    return true;
  }
  }
  return false;
}

int cli_parse(const cli_manual *m, int argc, char **argv, const char **arguments, int least,
              int most) {
  int found = 0;
  bool only_arguments = false;
  for (int i = 1; i < argc; i++) {
    char *text = argv[i];
    if (only_arguments || text[0] != '-' || !text[1]) {
      if (found == most) return usage(m, "one argument too many:", text);
      arguments[found++] = text;
      continue;
    }
    if (!strcmp(text, "--")) {
      only_arguments = true;
      continue;
    }
    if (!strcmp(text, "--help") || !strcmp(text, "-h")) {
      print_help(m);
      return CLI_OK;
    }
    size_t length = strcspn(text, "=");
    const cli_option *o = NULL;
    for (int j = 0; j < m->count; j++)
      if (strlen(m->options[j].name) == length && !strncmp(m->options[j].name, text, length))
        o = &m->options[j];
    if (!o) return unknown(m, text, length);
    const char *value = NULL;
    if (text[length])
      value = text + length + 1;
    else if (o->value && i + 1 < argc)
      value = argv[++i];
    if (o->value ? !value : value != NULL)
      return usage(m, o->value ? "a value is missing behind" : "no value belongs to", o->name);
    if (!store(o, value)) {
      fprintf(stderr, "forcing %s: %s: ", m->name, o->name);
      return usage(m,
                   o->kind == CLI_INT    ? "expected a whole number, found"
                   : o->kind == CLI_LIST ? "given too often, at"
                                         : "expected a number, found",
                   value);
    }
  }
  if (found < least) return usage(m, "an argument is missing", NULL);
  return -1;
}

int cli_fail(const char *command, const df_error *error) {
  cli_line_end();
  fprintf(stderr, "forcing %s: %s\n", command, error->message);
  return error->code == DF_STOPPED ? CLI_INTERRUPTED : CLI_FAILED;
}

// ---- Progress and Ctrl-C ----

static bool line_open;

void cli_line(const char *text) {
  if (isatty(2)) {
    fprintf(stderr, "\r\033[K%s", text);
    line_open = true;
  } else {
    fprintf(stderr, "%s\n", text);
  }
  fflush(stderr);
}

void cli_line_end(void) {
  if (line_open) fputc('\n', stderr);
  line_open = false;
}

static volatile int interrupted;

static void on_interrupt(int number) {
  interrupted = 1;
  signal(number, SIG_DFL);
}

const volatile int *cli_catch_interrupt(void) {
  interrupted = 0;
  signal(SIGINT, on_interrupt);
  signal(SIGTERM, on_interrupt);
  return &interrupted;
}
