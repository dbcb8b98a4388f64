// forcing verify: does the model compute here what PyTorch computed?
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "graph/packed.h"
#include "io/file.h"

// reference.safetensors in the folder of the model's file
static df_status reference_beside(const char *model, char *path, size_t size, df_error *error) {
  const char *slash = strrchr(model, '/');
  const int length = snprintf(path, size, "%.*sreference.safetensors",
                              slash ? (int)(slash + 1 - model) : 0, model);
  if (length < (int)size) return DF_OK;
  return df_fail(error, DF_BAD_ARGUMENT, "the name is too long: %s", model);
}

static void print_table(const df_verification *report) {
  printf("%-12s  %10s  %10s  %10s  %10s  %s\n", "output", "largest", "absolute", "relative",
         "limit", "ok");
  for (int i = 0; i < report->count; i++) {
    const df_difference *d = &report->outputs[i];
    const bool judged = !isinf(d->tolerance);
    char limit[32] = "-";
    if (judged) snprintf(limit, sizeof limit, "%.3g", d->tolerance);
    printf("%-12s  %10.3g  %10.3g  %10.3g  %10s  %s\n", d->name, d->largest, d->absolute,
           d->relative, limit,
           !d->ok   ? "NO"
           : judged ? "yes"
                    : "-");
  }
}

static void print_verdict(const df_verification *report, const df_verify_options *o) {
  char how[128];
  snprintf(how, sizeof how, "%s weights, %s arithmetic, %s kernels", report->weights,
           df_weights_names[o->weights], df_isa());
  if (!report->ok) {
    printf("FAILED: more than the limit: ");
    for (int i = 0, found = 0; i < report->count; i++)
      if (!report->outputs[i].ok) printf("%s%s", found++ ? ", " : "", report->outputs[i].name);
    printf(" (%s)\n", how);
  } else if (o->weights != DF_WEIGHTS_F32 && o->tolerance < 0) {
    printf("reported, not judged: give a limit with --tolerance (%s)\n", how);
  } else {
    printf("ok: the model computes what PyTorch did (%s)\n", how);
  }
}

static df_status run(const open_model *m, const char *path, const df_verify_options *o,
                     df_verification *report, df_error *error) {
  void *bytes = NULL;
  size_t size;
  df_status status = df_file_read(&bytes, &size, path, error);
  if (!status) status = df_model_verify(m->model, bytes, size, o, report, error);
  df_free(bytes);
  if (status) return status;
  print_table(report);
  print_verdict(report, o);
  return DF_OK;
}

int cli_verify(int argc, char **argv) {
  const char *path = NULL, *reference = NULL, *weights = NULL;
  df_verify_options o = df_verify_defaults();
  o.threads = 0;
  double tolerance = DF_DEFAULT;
  const cli_option options[] = {
      {"--reference", "FILE",
       "What PyTorch computed. Default: reference.safetensors in the folder of the model.",
       CLI_TEXT, &reference},
      {"--weights", "FORMAT",
       "Arithmetic: f32 (default) or int8, the products of 8 bits that sampling can use. Its "
       "differences are reported, and judged only by --tolerance.",
       CLI_TEXT, &weights},
      {"--tolerance", "X",
       "Largest difference that is still right, as a fraction of an output's largest magnitude. "
       "Default: what the rounding of float32 explains.",
       CLI_NUMBER, &tolerance},
      {"--threads", "N", "Cores to use (default: all). Changes speed only.", CLI_INT, &o.threads},
  };
  const cli_manual manual = {
      .name = "verify",
      .arguments = "MODEL",
      .about =
          "Runs the network of a model (a .safetensors file, or the folder of a "
          "model.safetensors) on the inputs of a reference and compares with what PyTorch "
          "computed from them. `python -m df_export` writes such a file, reference.safetensors, "
          "beside each model that it exports.\n\n"
          "A line for each output: its largest magnitude in the reference, the largest absolute "
          "difference, that as a fraction of the largest magnitude, and the limit of the absolute "
          "one. out.z0, out.output and out.z are the first latent, the output of the network and "
          "its latents, with the weights as the model file holds them; out.frames are the tokens "
          "in data units. The limit is 20 times the rounding noise that the reference states for "
          "itself, plus a millionth of the largest magnitude. f32.z0, f32.output and f32.z are "
          "from the weights before they were rounded to f16 or int8: what rounding costs, without "
          "a limit.\n\n"
          "Exit codes: 0 all within their limits, 1 not, or a file cannot be read (the reason is "
          "printed), 2 wrong command line.",
      .examples = "  forcing verify models/maze\n"
                  "  forcing verify models/maze --weights int8 --tolerance 0.02\n"
                  "  forcing verify model.safetensors --reference other/reference.safetensors\n",
      .options = options,
      .count = sizeof options / sizeof options[0],
  };
  int over = cli_parse(&manual, argc, argv, &path, 1, 1);
  if (over >= 0) return over;

  df_error error;
  df_status status = options_weights(weights, &o.weights, &error);
  if (!status && tolerance != DF_DEFAULT && !(tolerance >= 0 && isfinite(tolerance)))
    status =
        df_fail(&error, DF_BAD_ARGUMENT, "--tolerance: expected 0 or more, found %g", tolerance);
  if (!status && (o.threads < 0 || o.threads > 256))
    status = df_fail(&error, DF_BAD_ARGUMENT,
                     "--threads: expected 1 to 256, or 0 for all cores, found %d", o.threads);
  if (status) return options_fail("verify", &error);
  if (tolerance != DF_DEFAULT) o.tolerance = tolerance;

  open_model m;
  char beside[1024];
  df_verification report = {.ok = false};
  status = open_model_read(&m, path, &error);
  if (status) return cli_fail("verify", &error);
  if (!reference) {
    status = reference_beside(m.path, beside, sizeof beside, &error);
    reference = beside;
  }
  if (!status) status = run(&m, reference, &o, &report, &error);
  open_model_close(&m);
  if (status) return cli_fail("verify", &error);
  return report.ok ? CLI_OK : CLI_FAILED;
}
