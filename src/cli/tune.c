// forcing tune: how a model is sampled by default.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/progress.h"
#include "cli/options.h"
#include "diffusion/sampler.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "train/fit.h"

enum { KNOTS = 33 };

typedef struct tuning {
  open_model m;
  sampling s;
  const char *folder; // NULL: where the model is
  bool fit;
  int sequences;
  const volatile int *stop;
  df_progress progress;
  float levels[KNOTS];
} tuning;

static bool told(void *context, int done, int sequences) {
  tuning *t = context;
  if (df_progress_due(&t->progress, done, sequences, 1)) {
    char text[160], line[200];
    df_progress_text(&t->progress, done, sequences, "sequences", text, sizeof text);
    snprintf(line, sizeof line, "fitting: %s", text);
    cli_line(line);
  }
  return !(t->stop && *t->stop);
}

// What the grids lose, few steps against many.
static df_status print_distances(df_fit *fit, const df_config *c, df_error *error) {
  printf("Distance of a token from where %d small steps end, in standard deviations of its values "
         "(%d tokens):\n\n| steps |",
         DF_FIT_INTERVALS * DF_FIT_SMALL, df_fit_tokens(fit));
  for (int k = 0; k < DF_GRIDS; k++) printf(" %-9s |", df_grid_names[k]);
  printf("\n| ----: |");
  for (int k = 0; k < DF_GRIDS; k++) printf(" --------: |");
  printf("\n");
  df_status status = DF_OK;
  for (int S = 4; S <= 32 && S <= c->K && !status; S *= 2) {
    int32_t grid[32 + 1];
    printf("| %5d |", S);
    for (int k = 0; k < DF_GRIDS && !status; k++) {
      double distance;
      status = df_noise_grid((df_grid_kind)k, c->sampling.fitted_grid, c->K, S, grid, error);
      if (!status) status = df_fit_distance(fit, grid, S, &distance, error);
      if (!status) printf(" %9.4f |", distance);
    }
    printf("\n");
  }
  return status;
}

static df_status fit_grid(tuning *t, uint64_t seed, df_error *error) {
  df_config *c = &t->m.config;
  df_threads *threads = NULL;
  df_fit *fit = NULL;
  df_fit_options o = {.sequences = t->sequences, .seed = seed, .report = told, .context = t};
  df_status status = df_threads_create(&threads, t->s.threads, error);
  o.threads = threads;
  df_progress_begin(&t->progress, 0);
  if (!status) status = df_fit_create(&fit, c, &t->m.model->noise, &t->m.model->params, &o, error);
  cli_line_end();
  if (!status) {
    df_fit_warp(fit, KNOTS, t->levels);
    c->sampling.fitted_grid = (df_warp){t->levels, KNOTS};
    status = print_distances(fit, c, error);
  }
  df_fit_free(fit);
  df_threads_free(threads);
  return status;
}

// The file with another config, and config.json where the model has one.
static df_status write_model(const tuning *t, const char *text, df_error *error) {
  char model[1024], config[1024];
  const char *slash = strrchr(t->m.path, '/');
  struct stat about;
  if (t->folder) {
    snprintf(model, sizeof model, "%s/model.safetensors", t->folder);
    snprintf(config, sizeof config, "%s/config.json", t->folder);
  } else {
    snprintf(model, sizeof model, "%s", t->m.path);
    snprintf(config, sizeof config, "%.*sconfig.json", slash ? (int)(slash + 1 - t->m.path) : 0,
             t->m.path);
  }
  bool beside = t->folder || !stat(config, &about);
  void *bytes = NULL;
  size_t size;
  df_status status = t->folder ? df_file_make_folder(t->folder, error) : DF_OK;
  if (!status)
    status = df_safetensors_set_meta(&bytes, &size, t->m.bytes, t->m.size, "config", text, error);
  if (!status) status = df_file_write(model, bytes, size, error);
  if (!status && beside) status = df_file_write(config, text, strlen(text), error);
  df_free(bytes);
  if (!status) printf("%s%s%s\n", model, beside ? ", " : "", beside ? config : "");
  return status;
}

static df_status tune(tuning *t, df_error *error) {
  struct df_sampling *own = &t->m.config.sampling;
  df_sampler_options o;
  // What is given is checked before the work; a grid that is yet to be fitted cannot be.
  sampling before = t->s;
  if (t->fit) before.grid = NULL;
  df_status status = sampling_resolve(&before, &t->m.config, &o, error);
  if (!status)
    own->stabilization = o.stabilization; // the grid is for the model as it will be sampled
  if (!status && t->fit) status = fit_grid(t, o.seed, error);
  if (!status) status = sampling_resolve(&t->s, &t->m.config, &o, error);
  if (status) return status;
  own->schedule = (df_schedule)o.schedule;
  own->steps = o.steps;
  own->grid = (df_grid_kind)o.grid;
  own->eta = o.eta;
  // Schedules that have no use for it leave it to those that have.
  if (t->s.uncertainty != DF_DEFAULT) own->uncertainty = t->s.uncertainty;
  if (own->uncertainty > own->steps) own->uncertainty = own->steps;
  char *text = df_config_with_sampling(&t->m.config, own);
  if (!text) return df_fail(error, DF_NO_MEMORY, "no memory for the config");
  char how[160];
  sampling_text(&o, how, sizeof how);
  printf("%s%s: %s\n", t->fit ? "\n" : "", t->m.config.name, how);
  status = write_model(t, text, error);
  df_free(text);
  return status;
}

int cli_tune(int argc, char **argv) {
  const char *path = NULL;
  tuning t = {.s = sampling_defaults(), .sequences = 128};
  sampling *s = &t.s;
  const cli_option options[] = {
      {"--fit-grid", NULL, "Fit a sampling grid to the model (--grid fitted then uses it).",
       CLI_FLAG, &t.fit},
      {"--sequences", "N", "How many are drawn to fit the grid (default 128).", CLI_INT,
       &t.sequences},
      {"--seed", "SEED", "Of these sequences (default 0).", CLI_TEXT, &s->seed},
      {"--threads", "N", "Cores to use (default: all). Changes speed only.", CLI_INT, &s->threads},
      {"--schedule", "NAME", "The model's schedule from now on.", CLI_TEXT, &s->schedule},
      {"--steps", "S", "Its steps.", CLI_INT, &s->steps},
      {"--grid", "NAME", "Its grid: uniform, quadratic or fitted.", CLI_TEXT, &s->grid},
      {"--uncertainty", "U", "Its uncertainty, of the schedules pyramid and trapezoid.", CLI_NUMBER,
       &s->uncertainty},
      {"--eta", "E", "Its eta.", CLI_NUMBER, &s->eta},
      {"--stabilization", "K", "Its stabilization level.", CLI_INT, &s->stabilization},
      {"--out", "FOLDER",
       "Where to write model.safetensors and config.json. Default: the model's own files, "
       "config.json if there is one.",
       CLI_TEXT, &t.folder},
  };
  const cli_manual manual = {
      .name = "tune",
      .arguments = "MODEL",
      .about =
          "Changes how a model (a .safetensors file, or the folder of a model.safetensors) is "
          "sampled where nothing else is said. The weights stay as they are, to the last bit. "
          "What an option does says `forcing sample --help`.\n\n"
          "With --fit-grid the model draws sequences of its own (no data is needed) in many small "
          "steps, and then goes each token's way once more for each of 32 intervals of the noise "
          "level, in one step through that interval. How far it ends from where it had ended says "
          "how small the steps have to be there; the levels of the grid lie at equal shares of "
          "the square root of that distance. A table tells what it gains. The same seed gives the "
          "same grid on the same kind of processor.\n\n"
          "Exit codes: 0 done, 1 failed (the reason is printed), 2 wrong command line, 130 "
          "interrupted.",
      .examples = "  forcing tune models/kanji --fit-grid\n"
                  "  forcing tune models/kanji --steps 25 --grid fitted --stabilization 50\n",
      .options = options,
      .count = sizeof options / sizeof options[0],
  };
  int over = cli_parse(&manual, argc, argv, &path, 1, 1);
  if (over >= 0) return over;

  df_error error;
  bool some = t.fit || s->schedule || s->grid || s->steps != DF_DEFAULT ||
              s->uncertainty != DF_DEFAULT || s->eta != DF_DEFAULT ||
              s->stabilization != DF_DEFAULT;
  if (!some) {
    df_fail(&error, DF_BAD_ARGUMENT,
            "nothing to do: give --fit-grid or a default, such as --steps");
    return options_fail("tune", &error);
  }
  if (t.sequences < 1 || t.sequences > 65536) {
    df_fail(&error, DF_BAD_ARGUMENT, "--sequences: expected 1 to 65536, found %d", t.sequences);
    return options_fail("tune", &error);
  }
  df_status status = open_model_read(&t.m, path, &error);
  if (status) return cli_fail("tune", &error);
  t.stop = cli_catch_interrupt();
  status = tune(&t, &error);
  open_model_close(&t.m);
  return status ? options_fail("tune", &error) : CLI_OK;
}
