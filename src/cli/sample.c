// forcing sample: sequences from a model into a file.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/generate.h"
#include "cli/sheet.h"
#include "io/file.h"
#include "io/npy.h"

typedef struct output {
  const char *path; // NULL: standard output
  const df_config *config;
  const df_sampler_options *sampler;
  const generated *g;
  int first;
  bool raw;
} output;

static df_status write_text(const output *o, const void *text, size_t size, df_error *error) {
  if (o->path) return df_file_write(o->path, text, size, error);
  if (fwrite(text, 1, size, stdout) != size || fflush(stdout))
    return df_fail(error, DF_IO, "standard output cannot be written");
  return DF_OK;
}

// The format that --help describes; the tests of the JavaScript package read it.
static df_status write_json(const output *o, df_error *error) {
  const df_dataset *d = &o->g->data;
  df_json_writer w = {.indent = 0};
  df_json_object_begin(&w, NULL);
  df_json_put_string(&w, "format", "diffusion-forcing-samples/1");
  df_json_put_string(&w, "model", o->config->name);
  char seed[24]; // a float64 does not hold every 64-bit number
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->sampler->seed);
  if (o->sampler->seed <= 1ULL << 53)
    df_json_put_number(&w, "seed", (double)o->sampler->seed);
  else
    df_json_put_string(&w, "seed", seed);
  df_json_put_number(&w, "first", o->first);
  sampling_write(o->sampler, &w, "sampling");
  df_json_put_bool(&w, "raw", o->raw);
  df_json_array_begin(&w, "fields");
  for (int c = 0; c < d->fields; c++) df_json_put_string(&w, NULL, o->config->fields[c].name);
  df_json_array_end(&w);
  df_json_array_begin(&w, "sequences");
  for (int i = 0; i < d->count; i++) {
    df_json_object_begin(&w, NULL);
    df_json_put_number(&w, "tokens", o->g->tokens[i]);
    df_json_array_begin(&w, "frames");
    for (int f = d->offsets[i]; f < d->offsets[i + 1]; f++)
      df_json_put_floats(&w, NULL, d->values + (size_t)f * (size_t)d->fields, d->fields);
    df_json_array_end(&w);
    df_json_object_end(&w);
  }
  df_json_array_end(&w);
  df_json_object_end(&w);
  df_status status = w.failed ? df_fail(error, DF_NO_MEMORY, "out of memory for the JSON text")
                              : write_text(o, w.text, w.size, error);
  if (!status && !o->path) putchar('\n');
  df_json_writer_free(&w);
  return status;
}

// (sequences, frames of the longest, C); NaN behind the end of a sequence.
static df_status write_npy(const output *o, df_error *error) {
  const df_dataset *d = &o->g->data;
  size_t longest = 0, C = (size_t)d->fields;
  for (int i = 0; i < d->count; i++) {
    size_t frames = (size_t)(d->offsets[i + 1] - d->offsets[i]);
    if (frames > longest) longest = frames;
  }
  size_t total = (size_t)d->count * longest * C;
  float *all = df_alloc(total * sizeof(float));
  if (!all) return df_fail(error, DF_NO_MEMORY, "out of memory for the array");
  for (size_t i = 0; i < total; i++) all[i] = __builtin_nanf("");
  for (int i = 0; i < d->count; i++)
    memcpy(all + (size_t)i * longest * C, d->values + (size_t)d->offsets[i] * C,
           (size_t)(d->offsets[i + 1] - d->offsets[i]) * C * sizeof(float));
  void *bytes;
  size_t size;
  int64_t shape[3] = {d->count, (int64_t)longest, d->fields};
  df_status status = df_npy_write(&bytes, &size, all, 3, shape, error);
  df_free(all);
  if (status) return status;
  status = write_text(o, bytes, size, error);
  df_free(bytes);
  return status;
}

// One line for each frame: sequence, token-independent number of the frame, fields.
static df_status write_csv(const output *o, df_error *error) {
  const df_dataset *d = &o->g->data;
  size_t lines = (size_t)(d->count ? d->offsets[d->count] : 0) + 1;
  size_t room = 64 * (size_t)d->fields + 32 + lines * (32 + 18 * (size_t)d->fields), size = 0;
  for (int c = 0; c < d->fields; c++) room += strlen(o->config->fields[c].name);
  char *text = df_alloc(room);
  if (!text) return df_fail(error, DF_NO_MEMORY, "out of memory for the table");
  size += (size_t)snprintf(text, room, "sequence,frame");
  for (int c = 0; c < d->fields; c++)
    size += (size_t)snprintf(text + size, room - size, ",%s", o->config->fields[c].name);
  size += (size_t)snprintf(text + size, room - size, "\n");
  for (int i = 0; i < d->count; i++)
    for (int f = d->offsets[i]; f < d->offsets[i + 1]; f++) {
      size += (size_t)snprintf(text + size, room - size, "%d,%d", o->first + i, f - d->offsets[i]);
      for (int c = 0; c < d->fields; c++)
        size += (size_t)snprintf(text + size, room - size, ",%.9g",
                                 (double)d->values[(size_t)f * (size_t)d->fields + (size_t)c]);
      size += (size_t)snprintf(text + size, room - size, "\n");
    }
  df_status status = write_text(o, text, size, error);
  df_free(text);
  return status;
}

static df_status write_svg(const output *o, df_error *error) {
  df_pen pen;
  if (!df_pen_find(&pen, o->config))
    return df_fail(
        error, DF_NOT_SUPPORTED,
        "a contact sheet needs the fields x, y (or dx, dy) and pen, which this model lacks");
  char how[160], title[256], caption[320];
  const char *credit = NULL;
  df_error ignored;
  df_json_get_string(o->config->json, "license", &credit, &ignored);
  sampling_text(o->sampler, how, sizeof how);
  snprintf(title, sizeof title, "%d samples of the model %s", o->g->data.count, o->config->name);
  snprintf(caption, sizeof caption, "%s: seed %llu, %s%s%s", o->config->name,
           (unsigned long long)o->sampler->seed, how, credit ? ". " : "", credit ? credit : "");
  char *svg;
  size_t size;
  df_status status = sheet_write(
      &svg, &size, &o->g->data, &pen,
      &(sheet_options){.count = o->g->data.count, .title = title, .caption = caption}, error);
  if (status) return status;
  status = write_text(o, svg, size, error);
  df_free(svg);
  return status;
}

typedef df_status (*writer)(const output *o, df_error *error);

// NULL: no such format.
static writer writer_of(const char *path) {
  if (!path || has_ending(path, ".json")) return write_json;
  if (has_ending(path, ".npy")) return write_npy;
  if (has_ending(path, ".csv")) return write_csv;
  if (has_ending(path, ".svg")) return write_svg;
  return NULL;
}

// Is there a folder to write into? Better known before the work than after it.
static df_status check_folder(const char *path, df_error *error) {
  const char *slash = strrchr(path, '/');
  char folder[1024] = ".";
  if (slash) snprintf(folder, sizeof folder, "%.*s/", (int)(slash - path), path);
  if (!access(folder, W_OK)) return DF_OK;
  return df_fail(error, DF_IO, "%s cannot be written: %s (%s)", path, folder, strerror(errno));
}

int cli_sample(int argc, char **argv) {
  const char *path = NULL;
  sampling s = sampling_defaults();
  output out = {0};
  generate_options o = {.count = 1};
  const cli_option options[] = {
      {"--count", "N", "How many sequences (default 1).", CLI_INT, &o.count},
      {"--first", "I",
       "Number of the first one (default 0): sequences I to I + N - 1 of the same seed.", CLI_INT,
       &o.first},
      {"--out", "FILE",
       "Where to write: FILE.json, .csv, .npy or .svg. Without it JSON goes to standard output.",
       CLI_TEXT, &out.path},
      {"--raw", NULL,
       "Leave binary fields as the model gave them; otherwise they become 0 or 1 by the "
       "threshold in the model's config.",
       CLI_FLAG, &out.raw},
      {"--keep", "FILE", "Known tokens, which stay as they are (JSON, see above).", CLI_TEXT,
       &o.keep},
      {"--condition", "FILE",
       "External conditions of a model that takes them: .npy of shape (tokens, E), or (N, tokens, "
       "E) for each sequence its own.",
       CLI_TEXT, &o.condition},
      {"--observe", "FILE",
       "The observation that a model starts from, if it takes one: .npy of shape (O) or (N, O), "
       "in data units if the model's config tells them (`forcing info`), else as the network "
       "takes it.",
       CLI_TEXT, &o.observe},
      SAMPLING_OPTIONS(s),
  };
  const cli_manual manual = {
      .name = "sample",
      .arguments = "MODEL",
      .about =
          "Draws sequences from a model (a .safetensors file, or the folder of a "
          "model.safetensors) and writes them in data units. Sampling walks a table of noise "
          "levels, rows = denoising steps, columns = tokens; --schedule, --steps and --uncertainty "
          "make the table.\n\n"
          "JSON output is one object:\n\n"
          "  format     \"diffusion-forcing-samples/1\"\n"
          "  model      the model's name\n"
          "  seed       as given; a string if above 2^53\n"
          "  first      number of the first sequence\n"
          "  sampling   schedule, steps, grid, uncertainty, eta, length, stabilization,\n"
          "             ancestral, posterior, weights: what was used\n"
          "  raw        were binary fields left as they are?\n"
          "  fields     names of a frame's fields, such as [\"x\", \"y\", \"pen\"]\n"
          "  sequences  a list of {\"tokens\": n, \"frames\": [[x, y, pen], ...]},\n"
          "             each float32 with as many digits as tell it from its neighbours\n\n"
          "CSV has a line for each frame: sequence, frame, fields. NPY is float32 of shape "
          "(sequences, frames, fields), NaN behind the end of a sequence. SVG is a contact sheet, "
          "for models whose fields are x, y (or dx, dy) and pen.\n\n" GENERATE_KEEP_FORMAT "\n\n"
          "Exit codes: 0 done, 1 failed (the reason is printed), 2 wrong command line, 130 "
          "interrupted.",
      .examples =
          "  forcing sample models/kanji --count 64 --seed 7 --out sheet.svg\n"
          "  forcing sample models/kanji --schedule autoregressive --steps 20\n"
          "  forcing sample models/kanji --keep opening.json --count 8 --out samples.json\n",
      .options = options,
      .count = sizeof options / sizeof options[0],
  };
  int over = cli_parse(&manual, argc, argv, &path, 1, 1);
  if (over >= 0) return over;

  df_error error;
  writer write = writer_of(out.path);
  df_status status = DF_OK;
  if (!write)
    status = df_fail(&error, DF_BAD_ARGUMENT,
                     "--out: expected a name that ends in .json, .csv, .npy or .svg, found \"%s\"",
                     out.path);
  else if (o.count < 1 || o.count > 10000000)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--count: expected 1 to 10000000, found %d", o.count);
  else if (o.first < 0)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--first: expected 0 or more, found %d", o.first);
  else if (out.path)
    status = check_folder(out.path, &error);
  if (status) return options_fail("sample", &error);

  open_model m;
  generated g = {0};
  status = open_model_read(&m, path, &error);
  if (status) return cli_fail("sample", &error);
  status = sampling_resolve(&s, &m.config, &o.sampler, &error);
  df_pen pen;
  if (!status && write == write_svg && !df_pen_find(&pen, &m.config))
    status = df_fail(
        &error, DF_BAD_ARGUMENT,
        "--out %s: a contact sheet needs the fields x, y (or dx, dy) and pen, which %s lacks",
        out.path, m.config.name);
  if (!status) {
    o.threads = s.threads;
    o.stop = cli_catch_interrupt();
    status = generate(&g, &m, &o, &error);
  }
  if (!status) {
    if (!out.raw) generated_threshold(&g, &m.config);
    out.config = &m.config;
    out.sampler = &o.sampler;
    out.g = &g;
    out.first = o.first;
    status = write(&out, &error);
  }
  generated_free(&g);
  open_model_close(&m);
  return status ? options_fail("sample", &error) : CLI_OK;
}
