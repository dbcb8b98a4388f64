// forcing train: runs a recipe.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/progress.h"
#include "cli/cli.h"
#include "df.h"
#include "train/train.h"

static const char about[] =
    "Trains a model as the recipe says (models/NAME/recipe.json) and writes into a run folder: "
    "model.safetensors and config.json (the moving average of the weights that was best in "
    "validation), log.csv, loss.svg, and state.safetensors, from which --resume goes on.\n"
    "\n"
    "A run is a function of its recipe: neither the number of threads nor an interruption changes "
    "the result, to the last bit. Ctrl-C saves and ends; a second Ctrl-C ends at once.\n"
    "\n"
    "Three modes. independent: Diffusion Forcing, every token has its own noise level. "
    "teacher-forcing: next-token diffusion, each token is noised while its past is clean. "
    "full-sequence: causal full-sequence diffusion, one level for all tokens.\n"
    "\n"
    "The losses that are shown: training (weighted squared error of the network's output, mean "
    "over "
    "tokens), stop (negative log-likelihood of a sequence's length in nats), valid (both for the "
    "held-out sequences, with the moving average of the weights). log.csv has the held-out error "
    "in "
    "ten equal ranges of the noise level, too.";

static const char examples[] =
    "  forcing train models/kanji/recipe.json\n"
    "  forcing train models/kanji/recipe.json --resume --steps 60000\n"
    "  forcing train models/kanji/recipe.json --mode teacher-forcing --out runs/kanji-tf\n"
    "  forcing train models/kanji/recipe.json --set training.rate=5e-4 --out runs/slower\n";

typedef struct screen {
  df_progress progress;
  bool terminal, started;
  double interval;
} screen;

static bool show(void *context, const df_train_report *r) {
  screen *s = context;
  if (!s->started) {
    df_progress_begin(&s->progress, r->step - 1);
    s->started = true;
  }
  char text[512], done[160];
  if (r->validated) {
    int length = snprintf(text, sizeof text, "step %d  loss %.4f  valid %.4f", r->step, r->loss,
                          r->valid_loss);
    if (r->valid_stop > 0)
      length += snprintf(text + length, sizeof text - length, "  stop %.3f (clean history %.3f)",
                         r->valid_stop, r->valid_stop_clean);
    snprintf(text + length, sizeof text - length, "  %.0f tokens/s%s", r->tokens_per_second,
             r->improved ? "  best so far" : "");
    cli_line(text);
    cli_line_end();
  }
  bool due = df_progress_due(&s->progress, r->step, r->steps, s->interval);
  if (due && (s->terminal || !r->validated)) {
    df_progress_text(&s->progress, r->step, r->steps, "steps", done, sizeof done);
    int length = snprintf(text, sizeof text, "%s  loss %.4f", done, r->loss);
    if (r->loss_stop > 0)
      length += snprintf(text + length, sizeof text - length, "  stop %.3f", r->loss_stop);
    snprintf(text + length, sizeof text - length, "  %.0f tokens/s", r->tokens_per_second);
    cli_line(text);
  }
  return true;
}

int cli_train(int argc, char **argv) {
  const char *path = NULL, *out = NULL, *mode = NULL;
  bool resume = false, restart = false;
  int threads = 0, steps = 0;
  cli_list changes = {0};
  const cli_option options[] = {
      {"--out", "FOLDER", "The run folder. Default: runs/NAME, with the recipe's name.", CLI_TEXT,
       &out},
      {"--resume", NULL,
       "Go on with the run in the folder. The recipe must be the same, except for training.steps, "
       "log_every, valid_every and save_every.",
       CLI_FLAG, &resume},
      {"--restart", NULL, "Begin anew even if the folder holds a run; that run is lost.", CLI_FLAG,
       &restart},
      {"--threads", "N",
       "Threads. Default: all cores. More than the recipe's shards are of little use.", CLI_INT,
       &threads},
      {"--steps", "N", "Instead of the recipe's training.steps.", CLI_INT, &steps},
      {"--mode", "MODE", "Instead of the recipe's training.mode.", CLI_TEXT, &mode},
      {"--set", "PATH=VALUE",
       "Changes the recipe before it is read, for instance training.batch=64 or "
       "model.denoiser.latent_size=128. May be given several times.",
       CLI_LIST, &changes}};
  const cli_manual manual = {"train",  "RECIPE", about,
                             examples, options,  sizeof options / sizeof options[0]};
  int done = cli_parse(&manual, argc, argv, &path, 1, 1);
  if (done >= 0) return done;
  if (threads < 0 || steps < 0) {
    fprintf(stderr, "forcing train: --threads and --steps are numbers from 1 on\n");
    return CLI_USAGE;
  }
  if (resume && restart) {
    fprintf(stderr, "forcing train: --resume or --restart, not both\n");
    return CLI_USAGE;
  }
  char mode_change[128], steps_change[64];
  const char *all[CLI_LIST_MAX + 2];
  int count = 0;
  for (; count < changes.count; count++) all[count] = changes.items[count];
  if (mode) {
    snprintf(mode_change, sizeof mode_change, "training.mode=%s", mode);
    all[count++] = mode_change;
  }
  if (steps) {
    snprintf(steps_change, sizeof steps_change, "training.steps=%d", steps);
    all[count++] = steps_change;
  }

  df_recipe recipe;
  df_error error;
  if (df_recipe_read(&recipe, path, all, count, &error)) return cli_fail("train", &error);
  char folder[1024];
  snprintf(folder, sizeof folder, "%s%s", out ? out : "runs/", out ? "" : recipe.name);
  screen s = {.terminal = isatty(2), .interval = isatty(2) ? 0.5 : 30};
  fprintf(stderr, "%s: %s, %d steps of %d sequences, %s, recipe %s -> %s\n", recipe.name,
          df_train_mode_names[recipe.mode], recipe.steps, recipe.batch, df_isa(), recipe.hash,
          folder);
  df_train_options how = {.folder = folder,
                          .resume = resume,
                          .restart = restart,
                          .threads = threads,
                          .report = show,
                          .context = &s,
                          .stop = cli_catch_interrupt()};
  df_status status = df_train(&recipe, &how, &error);
  cli_line_end();
  int code = CLI_OK;
  if (status) {
    code = cli_fail("train", &error);
    if (status == DF_STOPPED) {
      fprintf(stderr, "Go on with: forcing");
      for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--resume") && strcmp(argv[i], "--restart"))
          fprintf(stderr, " %s", argv[i]);
      fprintf(stderr, " --resume\n");
    }
    if (status == DF_WRONG_STATE && !resume)
      fprintf(stderr, "(--resume, --restart or --out FOLDER)\n");
  } else {
    fprintf(stderr, "%s/model.safetensors is done\n", folder);
  }
  df_recipe_free(&recipe);
  return code;
}
