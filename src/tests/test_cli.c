// The command `forcing` as a user runs it: exit codes, messages, files. It is looked for in the
// folder that the tests run in, or where the environment variable FORCING says.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "diffusion/config.h"
#include "io/file.h"
#include "io/npy.h"
#include "io/safetensors.h"
#include "tests/test.h"
#include "tests/verify_pair.h"

// ---- A folder with a model and data ----

static char folder[64];

static void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  if (system(command)) fprintf(stderr, "%s stays\n", folder);
}

static const char *in_folder(const char *name) {
  static char paths[4][128];
  static int next;
  char *path = paths[next = (next + 1) % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

#define CONFIG(x, y)                                                                               \
  "{\"format\": \"diffusion-forcing/1\", \"name\": \"tiny\", \"license\": \"free\","               \
  " \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 4,"                    \
  "   \"hidden_size\": 8, \"stop_head\": true},"                                                   \
  " \"diffusion\": {\"levels\": 30, \"objective\": \"v\", \"schedule\": \"cosine\"},"              \
  " \"tokens\": {\"frame_stack\": 2, \"present\": true, \"fields\": [{\"name\": \"" x              \
  "\", \"std\": 9},"                                                                               \
  "   {\"name\": \"" y "\", \"std\": 9}, {\"name\": \"pen\", \"mean\": 0.5, \"std\": 0.5,"         \
  "   \"binary\": true}]},"                                                                        \
  " \"sampling\": {\"schedule\": \"pyramid\", \"steps\": 5, \"uncertainty\": 1, \"max_tokens\": "  \
  "6}}"

static const char movements[] = CONFIG("dx", "dy"), positions[] = CONFIG("x", "y");

// A model with random weights.
static bool write_model(const char *path, const char *config_text) {
  df_config config;
  df_params params = {0};
  df_tensor_out tensors[64];
  void *bytes = NULL;
  size_t size;
  if (!CHECK_OK(df_config_parse(&config, config_text, strlen(config_text), &test_error)))
    return false;
  bool ok = CHECK_OK(df_network_declare(&config.network, &params, &test_error));
  if (ok) df_params_init(&params, 1);
  for (int i = 0; ok && i < params.count; i++) {
    const df_param *p = params.items[i];
    tensors[i] = (df_tensor_out){p->name, DF_F32, p->dims, {p->rows, p->cols}, p->value};
    if (p->dims == 1) tensors[i].shape[0] = p->cols;
  }
  const char *meta[] = {"config", config_text, NULL};
  ok = ok &&
       CHECK_OK(df_safetensors_write(&bytes, &size, tensors, params.count, meta, &test_error)) &&
       CHECK_OK(df_file_write(path, bytes, size, &test_error));
  df_free(bytes);
  df_params_free(&params);
  df_config_free(&config);
  return ok;
}

static bool write_npy(const char *name, const float *data, int dims, int64_t rows, int64_t cols) {
  void *bytes = NULL;
  size_t size;
  int64_t shape[] = {rows, cols};
  bool ok = CHECK_OK(df_npy_write(&bytes, &size, data, dims, shape, &test_error)) &&
            CHECK_OK(df_file_write(in_folder(name), bytes, size, &test_error));
  df_free(bytes);
  return ok;
}

// int32 offsets, for which the library has no writer.
static bool write_offsets(const char *name, const int32_t *offsets, int count) {
  char file[128 + 4 * 512];
  memset(file, ' ', 128);
  memcpy(file, "\x93NUMPY\x01\x00\x76\x00", 10);
  char header[100];
  int length = snprintf(header, sizeof header,
                        "{'descr': '<i4', 'fortran_order': False, 'shape': (%d,), }", count);
  memcpy(file + 10, header, (size_t)length);
  file[127] = '\n';
  memcpy(file + 128, offsets, 4 * (size_t)count);
  return CHECK_OK(df_file_write(in_folder(name), file, 128 + 4 * (size_t)count, &test_error));
}

// Characters of 3 to 7 points for training and validation.
static bool write_data(void) {
  static float points[3 * 7 * 400];
  static int32_t offsets[401];
  for (int i = 0; i < 400; i++) {
    offsets[i + 1] = offsets[i] + 3 + i % 5;
    for (int f = offsets[i]; f < offsets[i + 1]; f++) {
      points[3 * f] = (float)((f * 7 + i) % 19 - 9);
      points[3 * f + 1] = (float)((f * 5 + i) % 17 - 8);
      points[3 * f + 2] = f % 3 == 2 || f + 1 == offsets[i + 1];
    }
  }
  return write_npy("train_points.npy", points, 2, offsets[400], 3) &&
         write_offsets("train_offsets.npy", offsets, 401) &&
         write_npy("valid_points.npy", points, 2, offsets[60], 3) &&
         write_offsets("valid_offsets.npy", offsets, 61);
}

static bool ready(void) {
  static int state; // 1: there, -1: failed
  if (state) return state > 0;
  snprintf(folder, sizeof folder, "%s/forcing-test-XXXXXX", "/tmp");
  state = -1;
  if (!CHECK(mkdtemp(folder) != NULL)) return false;
  atexit(remove_folder);
  if (write_model(in_folder("model.safetensors"), movements) &&
      write_model(in_folder("positions.safetensors"), positions) && write_data())
    state = 1;
  return state > 0;
}

// ---- Running a command ----

static char out[1 << 20], err[1 << 16];

static void read_text(const char *name, char *text, size_t size) {
  FILE *file = fopen(in_folder(name), "rb");
  size_t got = file ? fread(text, 1, size - 1, file) : 0;
  text[got] = 0;
  if (file) fclose(file);
}

// The exit code; MODEL in the arguments stands for the model, DIR for the folder.
static int forcing(const char *arguments) {
  char command[1024];
  const char *program = getenv("FORCING");
  int used = snprintf(command, sizeof command, "%s ", program ? program : "./forcing");
  for (const char *a = arguments; *a && used < 800; a++) {
    if (!strncmp(a, "MODEL", 5)) {
      used += sprintf(command + used, "%s/model.safetensors", folder);
      a += 4;
    } else if (!strncmp(a, "DIR", 3)) {
      used += sprintf(command + used, "%s", folder);
      a += 2;
    } else {
      command[used++] = *a;
    }
  }
  snprintf(command + used, sizeof command - (size_t)used, " >%s/out 2>%s/err", folder, folder);
  int status = system(command);
  read_text("out", out, sizeof out);
  read_text("err", err, sizeof err);
  DURING("forcing %.200s", arguments);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A command that fails with this code and these words in one line.
static void fails(int code, const char *arguments, const char *words) {
  CHECK_INT(forcing(arguments), code);
  CHECK_CONTAINS(err, words);
  CHECK(strncmp(err, "forcing", 7) == 0);
  CHECK_TEXT(out, "");
}

// ---- Help and wrong command lines ----

TEST(every_command_has_a_manual) {
  REQUIRE(ready());
  const char *const commands[] = {"train", "sample", "eval", "info", "tune", "verify"};
  for (int i = 0; i < COUNT(commands); i++) {
    char line[64];
    snprintf(line, sizeof line, "%s --help", commands[i]);
    CHECK_INT(forcing(line), CLI_OK);
    snprintf(line, sizeof line, "Usage: forcing %s", commands[i]);
    CHECK_CONTAINS(out, line);
    CHECK_CONTAINS(out, "\nOptions:\n");
    CHECK_CONTAINS(out, "\nExamples:\n");
    CHECK_TEXT(err, "");
    for (const char *s = out; *s;) { // fits a terminal
      size_t length = strcspn(s, "\n");
      if (!CHECK(length <= 100)) break;
      s += length + (s[length] != 0);
    }
  }
  CHECK_INT(forcing("--help"), CLI_OK);
  CHECK_CONTAINS(out, "sample");
}

TEST(a_wrong_command_line_is_told_in_one_line) {
  REQUIRE(ready());
  fails(2, "sample MODEL --stpes 3", "no option --stpes; did you mean --steps?");
  fails(2, "sample MODEL --uncert=3", "did you mean --uncertainty?");
  fails(2, "sample MODEL --qqq", "there is no option --qqq (");
  fails(2, "sample MODEL --steps many", "\"many\"");
  fails(2, "sample MODEL --steps 31", "--steps: expected 1 to 30");
  fails(2, "sample MODEL --schedule pyramids", "autoregressive");
  fails(2, "sample MODEL --schedule full-sequence --uncertainty 1", "--uncertainty belongs to");
  fails(2, "sample MODEL --uncertainty 6", "--uncertainty: expected 0 to 5");
  fails(2, "sample MODEL --eta 1.5", "--eta");
  fails(2, "sample MODEL --weights f64", "--weights: expected one of f32, int8, found \"f64\"");
  fails(2, "sample MODEL --seed -1", "--seed");
  fails(2, "sample MODEL --length 0", "--length");
  fails(2, "sample MODEL --batch 0", "--batch");
  fails(2, "sample MODEL --ancestral --steps 3", "--ancestral");
  fails(2, "sample MODEL --count 0", "--count");
  fails(2, "sample MODEL --out a.gif", ".json, .csv, .npy or .svg");
  fails(2, "sample MODEL --condition DIR/train_points.npy", "--condition");
  fails(2, "sample MODEL --grid cubic", "--grid: expected one of uniform, quadratic, fitted");
  fails(2, "sample MODEL --grid fitted", "`forcing tune MODEL --fit-grid` makes one");
  fails(2, "sample", "missing");
  fails(2, "verify MODEL --weights f16", "--weights: expected one of f32, int8, found \"f16\"");
  fails(2, "verify MODEL --tolerance -1", "--tolerance: expected 0 or more, found -1");
  fails(2, "verify MODEL --tolerance nan", "--tolerance");
  fails(2, "verify MODEL --threads 1000", "--threads");
  fails(2, "tune MODEL", "nothing to do");
  fails(2, "tune MODEL --steps 31", "--steps: expected 1 to 30");
  fails(2, "tune MODEL --grid fitted", "no fitted grid");
  fails(2, "tune MODEL --fit-grid --sequences 0", "--sequences");
  fails(2, "eval MODEL --data DIR --sweep 3,x", "--sweep: expected up to");
  fails(2, "eval MODEL --data DIR --sweep 31", "from 1 to 30");
  fails(2, "eval MODEL --data DIR --sweep 3 --curve grid=cubic", "--grid");
  fails(2, "eval MODEL --data DIR --sweep 3 --curve gird=uniform", "--curve: expected settings");
  fails(2, "eval MODEL MODEL --data DIR --sweep 3", "expected one model, found 2");
  fails(2, "eval MODEL --data DIR --repeats 3", "belong to --sweep");
  fails(2, "eval MODEL --sweep 3", "--data is missing");
  fails(2, "eval MODEL --data DIR --classifier 5", "--classifier");
}

TEST(a_bad_file_is_named) {
  REQUIRE(ready());
  fails(1, "info DIR/none", "none");
  fails(1, "info DIR/train_points.npy", "train_points.npy");
  fails(1, "sample DIR/train_points.npy", "train_points.npy");
  fails(1, "eval MODEL --data DIR/none", "none");
  fails(1, "sample MODEL --keep DIR/train_points.npy", "train_points.npy");
  fails(1, "sample MODEL --out DIR/no/such/file.json", "no/such");
  fails(1, "verify MODEL", "/reference.safetensors: cannot be opened");
  fails(1, "verify MODEL --reference DIR/train_points.npy", "reference: ");
  fails(1, "verify MODEL --reference MODEL",
        "reference: format: expected \"diffusion-forcing-reference/1\", found none");
  fails(1, "verify DIR/train_points.npy", "train_points.npy");
}

// ---- info ----

TEST(info_says_what_the_file_holds) {
  REQUIRE(ready());
  CHECK_INT(forcing("info MODEL"), CLI_OK);
  CHECK_CONTAINS(out, "tiny:");
  CHECK_CONTAINS(out, "latent_size 8, network_size 4");
  CHECK_CONTAINS(out, "stop_head");
  CHECK_CONTAINS(out, "2 frames of dx, dy, pen");
  CHECK_CONTAINS(out, "pyramid, 5 steps, uncertainty 1, eta 0");
  CHECK_CONTAINS(out, "stop.weight");
  CHECK_INT(forcing("info DIR --json"), CLI_OK); // the folder of a model.safetensors
  df_arena arena = {0};
  const df_json *root;
  if (CHECK_OK(df_json_parse(&root, &arena, out, strlen(out), &test_error))) {
    double sum = 0;
    const df_json *tensors = df_json_at(root, "tensors");
    for (const df_json *t = tensors ? tensors->first : NULL; t; t = t->next)
      sum += df_json_at(t, "bytes")->number / 4;
    CHECK(sum > 0 && sum == df_json_at(root, "parameters")->number);
    CHECK_TEXT(df_json_at(df_json_at(root, "config"), "name")->string, "tiny");
  }
  df_arena_free(&arena);
}

TEST(info_says_how_a_model_is_observed_and_viewed) {
  REQUIRE(ready());
  REQUIRE(
      write_model(in_folder("observing.safetensors"),
                  "{\"format\": \"diffusion-forcing/1\", \"license\": \"MIT\","
                  " \"condition\": {\"fields\": [\"push\", \"pull\"]},"
                  " \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 4,"
                  "   \"initial\": \"encoded\"},"
                  " \"diffusion\": {\"levels\": 30, \"objective\": \"v\", \"schedule\": "
                  "\"cosine\"}, \"tokens\": {\"fields\": [{\"name\": \"x\"}]},"
                  " \"observation\": {\"fields\": [{\"name\": \"height\", \"mean\": 3, \"std\": "
                  "0.25}, {\"name\": \"speed\"}]}, \"view\": {\"kind\": \"lines\"}}"));
  CHECK_INT(forcing("info DIR/observing.safetensors"), CLI_OK);
  CHECK_CONTAINS(out, "observation height: mean 3, standard deviation 0.25");
  CHECK_CONTAINS(out, "            speed: mean 0, standard deviation 1");
  CHECK_CONTAINS(out, "view        lines");
  CHECK_CONTAINS(out, "license     MIT\n");
  CHECK_CONTAINS(out, "condition   for each frame push, pull\n");
  CHECK(!strncmp(out, folder, strlen(folder))); // it has no name
  CHECK_CONTAINS(out, "weights     f32 in the file");
}

// ---- sample ----

TEST(a_sample_does_not_depend_on_batch_threads_and_count) {
  REQUIRE(ready());
  static char first[sizeof out];
  CHECK_INT(forcing("sample MODEL --count 9 --seed 3"), CLI_OK);
  strcpy(first, out);
  CHECK_INT(forcing("sample MODEL --count 9 --seed 3 --batch 1 --threads 2"), CLI_OK);
  CHECK_TEXT(out, first);
  CHECK_INT(forcing("sample MODEL --count 9 --seed 3 --batch 4 --threads 3"), CLI_OK);
  CHECK_TEXT(out, first);
  CHECK_INT(forcing("sample MODEL --count 9 --seed 4"), CLI_OK);
  CHECK(strcmp(out, first) != 0);
  // The last two of nine on their own: the same text behind the head.
  CHECK_INT(forcing("sample MODEL --count 2 --first 7 --seed 3"), CLI_OK);
  const char *frames = strstr(out, "\"sequences\":[");
  REQUIRE(CHECK(frames != NULL));
  CHECK_CONTAINS(first, frames + strlen("\"sequences\":["));
  static char two[sizeof out];
  strcpy(two, out);
  CHECK_INT(forcing("sample MODEL --count 2 --first 7 --seed 3 --threads 5"), CLI_OK); // 2 on each
  CHECK_TEXT(out, two);
}

TEST(json_holds_what_the_manual_says) {
  REQUIRE(ready());
  REQUIRE(CHECK_INT(forcing("sample MODEL --count 5 --seed 18446744073709551615 --steps 4 "
                            "--schedule autoregressive --weights int8 --out DIR/s.json"),
                    CLI_OK));
  CHECK_TEXT(out, "");
  read_text("s.json", out, sizeof out);
  df_arena arena = {0};
  const df_json *root;
  if (CHECK_OK(df_json_parse(&root, &arena, out, strlen(out), &test_error))) {
    const df_json *sampling = df_json_at(root, "sampling");
    CHECK_TEXT(df_json_at(root, "format")->string, "diffusion-forcing-samples/1");
    CHECK_TEXT(df_json_at(root, "model")->string, "tiny");
    CHECK_TEXT(df_json_at(root, "seed")->string, "18446744073709551615");
    CHECK_TEXT(df_json_at(sampling, "schedule")->string, "autoregressive");
    CHECK_TEXT(df_json_at(sampling, "length")->string, "drawn");
    CHECK(df_json_at(sampling, "steps")->number == 4);
    CHECK_TEXT(df_json_at(sampling, "weights")->string, "int8");
    CHECK_INT(df_json_at(root, "fields")->length, 3);
    CHECK_INT(df_json_at(root, "sequences")->length, 5);
    for (const df_json *s = df_json_at(root, "sequences")->first; s; s = s->next) {
      int tokens = (int)df_json_at(s, "tokens")->number, frames = df_json_at(s, "frames")->length;
      CHECK(tokens >= 0 && tokens <= 6 && frames <= 2 * tokens);
      for (const df_json *f = df_json_at(s, "frames")->first; f; f = f->next) {
        CHECK_INT(f->length, 3);
        double pen = df_json_item(f, 2)->number;
        CHECK(pen == 0 || pen == 1);
      }
    }
  }
  df_arena_free(&arena);
}

TEST(raw_leaves_the_pen_as_it_is) {
  REQUIRE(ready());
  CHECK_INT(forcing("sample MODEL --count 8 --length 4 --raw --out DIR/raw.csv"), CLI_OK);
  read_text("raw.csv", out, sizeof out);
  CHECK(strncmp(out, "sequence,frame,dx,dy,pen\n", 25) == 0);
  bool between = false;
  for (char *line = strchr(out, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
    int sequence, frame;
    float dx, dy, pen;
    if (!CHECK(sscanf(line, "%d,%d,%f,%f,%f", &sequence, &frame, &dx, &dy, &pen) == 5)) break;
    between = between || (pen != 0 && pen != 1);
  }
  CHECK(between);
}

TEST(known_tokens_stay_in_every_output) {
  REQUIRE(ready());
  const char *plain = "[[1, 2, 0], [3, 4.5, 1]]";
  const char *chosen = "[{\"token\": 2, \"sequence\": 1, \"frames\": [[7, 7, 1], [8, 8, 0]]}]";
  CHECK_OK(df_file_write(in_folder("keep.json"), plain, strlen(plain), &test_error));
  CHECK_INT(forcing("sample MODEL --count 3 --length 4 --keep DIR/keep.json --raw"), CLI_OK);
  int found = 0;
  for (const char *s = out; (s = strstr(s, "\"frames\":[[1,2,0],[3,4.5,1]")); s++) found++;
  CHECK_INT(found, 3);
  CHECK_OK(df_file_write(in_folder("keep.json"), chosen, strlen(chosen), &test_error));
  CHECK_INT(forcing("sample MODEL --count 3 --length 4 --keep DIR/keep.json --raw"), CLI_OK);
  CHECK_CONTAINS(out, "[7,7,1],[8,8,0]");
  fails(2, "sample MODEL --count 1 --length 4 --keep DIR/keep.json", "entry 0");
  const char *wrong = "[[1, 2]]";
  CHECK_OK(df_file_write(in_folder("keep.json"), wrong, strlen(wrong), &test_error));
  fails(2, "sample MODEL --keep DIR/keep.json", "frame 0: expected a list of 3 numbers");
}

TEST(arrays_and_sheets_are_written) {
  REQUIRE(ready());
  CHECK_INT(forcing("sample MODEL --count 6 --length 3 --out DIR/s.npy"), CLI_OK);
  void *bytes;
  size_t size;
  df_view view;
  if (CHECK_OK(df_file_read(&bytes, &size, in_folder("s.npy"), &test_error))) {
    if (CHECK_OK(df_npy_open(&view, bytes, size, &test_error)))
      CHECK(view.dims == 3 && view.shape[0] == 6 && view.shape[1] <= 6 && view.shape[2] == 3);
    df_free(bytes);
  }
  CHECK_INT(forcing("sample MODEL --count 6 --out DIR/s.svg"), CLI_OK);
  read_text("s.svg", out, sizeof out);
  CHECK(strncmp(out, "<svg ", 5) == 0);
  CHECK_CONTAINS(out, "6 samples of the model tiny");
  CHECK_CONTAINS(out, ". free</text>"); // whose pictures these are
}

// ---- eval ----

TEST(eval_prints_a_table_and_writes_files) {
  REQUIRE(ready());
  REQUIRE(CHECK_INT(forcing("eval MODEL MODEL --data DIR --count 50 --classifier 100 --out DIR/e"),
                    CLI_OK));
  CHECK_CONTAINS(out, "| measure ");
  CHECK_CONTAINS(out, "| number of strokes, W1 ");
  CHECK_CONTAINS(out, "| length in tokens, nats per sequence ");
  CHECK_CONTAINS(out, "| classifier: real or generated? ");
  CHECK_CONTAINS(out, " tiny 2 |");
  read_text("e/sheet-2.svg", out, sizeof out);
  CHECK_CONTAINS(out, "</svg>");
  read_text("e/eval.json", out, sizeof out);
  df_arena arena = {0};
  const df_json *root;
  if (CHECK_OK(df_json_parse(&root, &arena, out, strlen(out), &test_error))) {
    const df_json *models = df_json_at(root, "models");
    const df_json *a = df_json_at(df_json_item(models, 0), "measures");
    const df_json *b = df_json_at(df_json_item(models, 1), "measures");
    const char *const keys[] = {"strokes",  "points",     "size",       "aspect",
                                "pen_rate", "length_nll", "classifier", "classifier_fine"};
    for (int i = 0; i < COUNT(keys); i++) {
      DURING("%s", keys[i]);
      const df_json *x = df_json_at(df_json_at(a, keys[i]), "value");
      const df_json *y = df_json_at(df_json_at(b, keys[i]), "value");
      CHECK(x && y && isfinite(x->number) && x->number == y->number); // the same model twice
      CHECK(df_json_at(df_json_at(root, "real"), keys[i]) != NULL);
    }
    // The matrices of this model are too small for 8 bits: the formats are one and the same.
    const df_json *weights = df_json_at(df_json_item(models, 0), "weights");
    const df_json *f32 = df_json_at(weights, "f32"), *int8 = df_json_at(weights, "int8");
    if (CHECK(f32 && int8)) {
      CHECK(df_json_at(f32, "bytes")->number == df_json_at(int8, "bytes")->number);
      CHECK(df_json_at(f32, "microseconds")->number > 0);
      CHECK(df_json_at(df_json_at(int8, "output"), "largest")->number == 0);
    }
    // Random weights give themselves away.
    CHECK(df_json_at(df_json_at(a, "classifier"), "value")->number > 0.8);
  }
  df_arena_free(&arena);
}

TEST(eval_compares_the_formats_of_weights_without_data) {
  REQUIRE(ready());
  CHECK_INT(forcing("eval MODEL --out DIR/w"), CLI_OK);
  CHECK_CONTAINS(out, "tiny, weights in each format on ");
  CHECK_CONTAINS(out, "| f32 | ");
  CHECK_CONTAINS(out, "| int8 | ");
  CHECK(strstr(out, "| measure ") == NULL);
  read_text("w/weights.md", out, sizeof out);
  CHECK_CONTAINS(out, "| int8 | ");
}

TEST(models_with_positions_and_with_movements_are_compared) {
  REQUIRE(ready());
  CHECK_INT(forcing("eval MODEL DIR/positions.safetensors --data DIR --count 20 --classifier 0"),
            CLI_OK);
  CHECK_CONTAINS(out, "| middle of the box, mean distance from (0, 0) ");
  CHECK_CONTAINS(out, " tiny 2 |");
  CHECK_INT(forcing("sample DIR/positions.safetensors --count 4 --out DIR/p.svg"), CLI_OK);
}

TEST(a_sweep_measures_quality_against_steps) {
  REQUIRE(ready());
  REQUIRE(CHECK_INT(forcing("eval MODEL --data DIR --count 30 --classifier 100 --sweep 1,5,30 "
                            "--curve grid=uniform --curve grid=quadratic,stabilization=3,eta=0.5 "
                            "--repeats 2 --seed 4 --out DIR/w"),
                    CLI_OK));
  CHECK_CONTAINS(out, "| steps | uniform | quadratic, stabilization 3, eta 0.5 |");
  CHECK_CONTAINS(out, "\n| 30 | ");
  CHECK_CONTAINS(out, "seeds 4 to 5");
  read_text("w/steps.svg", out, sizeof out);
  CHECK(!strncmp(out, "<svg ", 5) && strstr(out, "</svg>"));
  CHECK_CONTAINS(out, "tiny: classifier: real or generated?");
  read_text("w/steps.csv", out, sizeof out);
  char *line = strchr(out, '\n');
  const char *const grids[] = {"uniform", "quadratic, stabilization 3, eta 0.5"};
  int points = 0;
  for (; line && line[1]; line = strchr(line + 1, '\n'), points++) {
    char grid[64];
    int steps, repeats;
    double strokes;
    REQUIRE(
        CHECK_INT(sscanf(line, "\n\"%63[^\"]\",%d,%d,%lf", grid, &steps, &repeats, &strokes), 4));
    CHECK_TEXT(grid, grids[points / 3]);
    CHECK_INT(steps, ((int[]){1, 5, 30})[points % 3]);
    CHECK(repeats == 2 && isfinite(strokes));
  }
  CHECK_INT(points, 6);
  // With one repeat and S = K the grids are one.
  CHECK_INT(forcing("eval MODEL --data DIR --count 30 --classifier 0 --sweep 30"), CLI_OK);
  const char *row = strstr(out, "\n| 30 | ");
  double uniform = 0, quadratic = 1;
  CHECK(row && sscanf(row, "\n| 30 | %lf | %lf |", &uniform, &quadratic) == 2);
  CHECK(uniform == quadratic);
}

// ---- verify ----

// A folder with the planner of the golden files and what PyTorch computed with it.
static bool write_pair(const char *name, float change) {
  golden_model m;
  pair p;
  void *model = NULL, *reference = NULL;
  size_t model_size, reference_size;
  char path[128];
  bool fine = false;
  pair_begin(&p, "f32");
  if (golden_model_open(&m, "rnn_mlp_plan")) {
    pair_take_pass(&p, &m, 0);
    df_params_find(&m.params, "model.mlp_after_gru.3.weight")->value[3] += change;
    model = pair_weights(&p, &model_size);
    reference = pair_reference(&p, &reference_size);
    fine = model && reference && CHECK_OK(df_file_make_folder(in_folder(name), &test_error));
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    fine = fine && CHECK_OK(df_file_write(in_folder(path), model, model_size, &test_error));
    snprintf(path, sizeof path, "%s/reference.safetensors", name);
    fine = fine && CHECK_OK(df_file_write(in_folder(path), reference, reference_size, &test_error));
  }
  df_free(reference);
  df_free(model);
  pair_drop(&p);
  golden_model_close(&m);
  return fine;
}

// Does the table say so of this output?
static void check_line(const char *name, const char *ok) {
  char start[32];
  snprintf(start, sizeof start, "\n%s ", name);
  const char *line = strstr(out, start), *end = line ? strchr(line + 1, '\n') : NULL;
  const size_t n = strlen(ok);
  double numbers[3];
  if (!CHECK(end && end - line > (long)n)) return;
  CHECK(!strncmp(end - n, ok, n) && end[-(long)n - 1] == ' ');
  if (CHECK_INT(sscanf(line + strlen(start), "%lf %lf %lf", &numbers[0], &numbers[1], &numbers[2]),
                3))
    CHECK_NEAR(numbers[2], numbers[1] / numbers[0], 0.02 * numbers[2]);
}

TEST(verify_compares_with_what_pytorch_computed) {
  REQUIRE(ready() && write_pair("good", 0) && write_pair("bad", 0.01f));
  CHECK_INT(forcing("verify DIR/good"), CLI_OK);
  CHECK(!strncmp(out, "output ", 7));
  check_line("out.output", "yes");
  check_line("out.z", "yes");
  check_line("out.frames", "yes");
  CHECK_CONTAINS(out, "\nok: the model computes what PyTorch did (f32 weights, f32 arithmetic, ");
  CHECK_TEXT(err, "");
  CHECK_INT(forcing("verify DIR/good/model.safetensors --threads 2"), CLI_OK);

  CHECK_INT(forcing("verify DIR/bad"), CLI_FAILED);
  check_line("out.z0", "yes");
  check_line("out.output", "NO");
  check_line("out.z", "NO");
  CHECK_CONTAINS(out, "\nFAILED: more than the limit: out.output, out.z (f32 weights");
  CHECK_INT(forcing("verify DIR/bad/model.safetensors --reference DIR/good/reference.safetensors"),
            CLI_FAILED);
  CHECK_INT(forcing("verify DIR/bad --tolerance 0.5"), CLI_OK);

  CHECK_INT(forcing("verify DIR/good --weights int8"), CLI_OK);
  check_line("out.output", "-");
  CHECK_CONTAINS(out, "\nreported, not judged: give a limit with --tolerance (f32 weights, int8");
  CHECK_INT(forcing("verify DIR/good --weights int8 --tolerance 0.1"), CLI_OK);
  check_line("out.output", "yes");
  CHECK_INT(forcing("verify DIR/good --weights int8 --tolerance 1e-5"), CLI_FAILED);
  check_line("out.output", "NO");

  // That of another model
  fails(1, "verify MODEL --reference DIR/good/reference.safetensors",
        "reference: tensor in.x: expected shape (B, T, 8), found (1, 1, 12)");
}

// ---- tune ----

static bool same_tensors(const char *a, const char *b) {
  void *bytes[2] = {NULL, NULL};
  size_t size;
  df_safetensors file[2];
  memset(file, 0, sizeof file);
  bool same = true;
  for (int i = 0; i < 2; i++)
    same = same && CHECK_OK(df_file_read(&bytes[i], &size, in_folder(i ? b : a), &test_error)) &&
           CHECK_OK(df_safetensors_open(&file[i], bytes[i], size, &test_error));
  same = same && CHECK_INT(file[0].count, file[1].count);
  for (int i = 0; same && i < file[0].count; i++) {
    const df_view *x = &file[0].views[i], *y = df_safetensors_find(&file[1], x->name);
    same = CHECK(y && y->dtype == x->dtype && y->count == x->count) &&
           CHECK(!memcmp(x->data, y->data, x->count * df_dtype_size(x->dtype)));
  }
  for (int i = 0; i < 2; i++) {
    df_safetensors_close(&file[i]);
    df_free(bytes[i]);
  }
  return same;
}

TEST(a_grid_is_fitted_and_used) {
  REQUIRE(ready());
  static char first[sizeof out];
  REQUIRE(CHECK_INT(forcing("tune MODEL --fit-grid --sequences 10 --seed 3 --out DIR/t"), CLI_OK));
  CHECK_CONTAINS(out, "| steps | uniform   | quadratic | fitted    |");
  CHECK_CONTAINS(out, "t/model.safetensors");
  CHECK(same_tensors("model.safetensors", "t/model.safetensors"));
  read_text("t/config.json", first, sizeof first);
  df_config c;
  REQUIRE(CHECK_OK(df_config_parse(&c, first, strlen(first), &test_error)));
  CHECK_INT(c.sampling.fitted_grid.knots, 33);
  CHECK(c.sampling.grid == DF_GRID_UNIFORM && c.sampling.steps == 5); // only a grid was asked for
  df_config_free(&c);
  // The same seed gives the same grid on any number of threads, another seed another one.
  CHECK_INT(forcing("tune MODEL --fit-grid --sequences 10 --seed 3 --threads 3 --out DIR/u"),
            CLI_OK);
  read_text("u/config.json", out, sizeof out);
  CHECK_TEXT(out, first);
  CHECK_INT(forcing("tune MODEL --fit-grid --sequences 10 --seed 4 --out DIR/u"), CLI_OK);
  read_text("u/config.json", out, sizeof out);
  CHECK(strcmp(out, first) != 0);
  CHECK_INT(forcing("info DIR/t"), CLI_OK);
  CHECK_CONTAINS(out, "has a fitted grid, of 33 levels");
  // What is sampled changes with the grid.
  CHECK_INT(forcing("sample DIR/t --count 3 --steps 11"), CLI_OK);
  CHECK_CONTAINS(out, "\"grid\":\"uniform\"");
  strcpy(first, strstr(out, "\"sequences\""));
  CHECK_INT(forcing("sample DIR/t --count 3 --steps 11 --grid fitted"), CLI_OK);
  CHECK_CONTAINS(out, "\"grid\":\"fitted\"");
  CHECK(strcmp(first, strstr(out, "\"sequences\"")) != 0);
}

TEST(sampling_defaults_are_set_in_place) {
  REQUIRE(ready());
  CHECK_INT(forcing("tune MODEL --out DIR/v --steps 4"), CLI_OK);
  CHECK_INT(forcing("tune DIR/v --schedule autoregressive --steps 3 --grid quadratic --eta 0.5 "
                    "--stabilization 2"),
            CLI_OK);
  CHECK_CONTAINS(out, "tiny: autoregressive, 3 quadratic steps, eta 0.5, stabilization 2");
  CHECK(same_tensors("model.safetensors", "v/model.safetensors"));
  CHECK_INT(forcing("info DIR/v"), CLI_OK);
  CHECK_CONTAINS(out, "autoregressive, 3 quadratic steps, eta 0.5, stabilization 2");
  CHECK(!strstr(out, "fitted grid"));
  // The file beside the model says the same as the one inside.
  void *bytes;
  size_t size;
  df_safetensors file;
  read_text("v/config.json", out, sizeof out);
  if (CHECK_OK(df_file_read(&bytes, &size, in_folder("v/model.safetensors"), &test_error))) {
    if (CHECK_OK(df_safetensors_open(&file, bytes, size, &test_error)))
      CHECK_TEXT(df_safetensors_meta(&file, "config"), out);
    df_safetensors_close(&file);
    df_free(bytes);
  }
}
