// forcing COMMAND ...: train, sample, eval, inspect and verify Diffusion Forcing models.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "df.h"

static const struct command {
  const char *name, *summary;
  int (*run)(int argc, char **argv);
} commands[] = {
    {"train", "trains a model as a recipe says", cli_train},
    {"sample", "draws sequences from a model", cli_sample},
    {"eval", "compares drawn sequences with real ones", cli_eval},
    {"info", "says what a model file holds", cli_info},
    {"verify", "compares a model with what PyTorch computed", cli_verify},
    {"tune", "fits a sampling grid to a model and sets its sampling defaults", cli_tune},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(FILE *out) {
  fprintf(out, "Diffusion Forcing: sequence models with a noise level for every token\n"
               "(Chen et al. 2024, arXiv 2407.01392).\n\n"
               "Usage: forcing COMMAND ...\n\n");
  for (int i = 0; i < COMMANDS; i++)
    fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
  fprintf(out, "\n`forcing COMMAND --help` is the manual of a command; `forcing --version` tells "
               "version and\ninstruction set.\n");
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
    help(stdout);
    return CLI_OK;
  }
  if (!strcmp(name, "--version")) {
    printf("forcing %s (%s)\n", df_version(), df_isa());
    return CLI_OK;
  }
  for (int i = 0; i < COMMANDS; i++)
    if (!strcmp(name, commands[i].name)) return commands[i].run(argc - 1, argv + 1);
  if (argc > 1) fprintf(stderr, "forcing: there is no command \"%s\"\n\n", name);
  help(stderr);
  return CLI_USAGE;
}
