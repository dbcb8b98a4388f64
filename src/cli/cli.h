// The command `forcing`: a table of commands, and what they share. A command describes itself once,
// in a cli_manual; parsing and the text of --help both come from it.
//
//   int cli_info(int argc, char **argv) {
//     const char *path = NULL;
//     bool json = false;
//     const cli_option options[] = {{"--json", NULL, "Print the config as it is.", CLI_FLAG,
//     &json}}; const cli_manual manual = {"info", "MODEL", "Says what a model file holds.", NULL,
//     options, 1}; int done = cli_parse(&manual, argc, argv, &path, 1, 1); if (done >= 0) return
//     done;
//     ...
//   }
#ifndef DF_CLI_CLI_H
#define DF_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

// argv[0] is the command's own name; the result is the exit code.
int cli_train(int argc, char **argv);
int cli_sample(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_tune(int argc, char **argv);
int cli_verify(int argc, char **argv);

enum {
  CLI_OK = 0,
  CLI_FAILED = 1,       // a file, a value or a run failed; the reason was printed
  CLI_USAGE = 2,        // the command line is wrong
  CLI_INTERRUPTED = 130 // Ctrl-C; what can be saved was saved
};

typedef enum cli_kind { CLI_FLAG, CLI_INT, CLI_NUMBER, CLI_TEXT, CLI_LIST } cli_kind;

enum { CLI_LIST_MAX = 32 };
typedef struct cli_list { // an option that may be given several times
  const char *items[CLI_LIST_MAX];
  int count;
} cli_list;

typedef struct cli_option {
  const char *name;  // "--threads"
  const char *value; // what stands behind it in the help: "N"; NULL for a flag
  const char *help;  // sentences; lines are broken by the printer
  cli_kind kind;
  void *out; // bool, int, double, const char * or cli_list; written only if the option is given
} cli_option;

typedef struct cli_manual {
  const char *name;      // "train"
  const char *arguments; // "RECIPE", "MODEL [OUT]", ""
  const char *about; // paragraphs, divided by empty lines; lines that begin with a space are kept
  const char *examples; // kept as they are; nullable
  const cli_option *options;
  int count;
} cli_manual;

// Reads options (--name value, --name=value) and between `least` and `most` arguments into
// arguments[most]. Below 0: go on. Else the command is over and this is its exit code (help was
// printed, or what is wrong).
int cli_parse(const cli_manual *manual, int argc, char **argv, const char **arguments, int least,
              int most);

// Prints "forcing train: ..." to standard error and returns the exit code.
int cli_fail(const char *command, const df_error *error);

// A progress line on standard error: rewritten in place on a terminal, a plain line elsewhere.
// cli_line_end leaves the last one standing.
void cli_line(const char *text);
void cli_line_end(void);

// From now on Ctrl-C sets a number other than 0 instead of ending the program; a second one ends
// it.
const volatile int *cli_catch_interrupt(void);

#endif
