// forcing eval: how near the sequences of a model are to real ones.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/progress.h"
#include "base/random.h"
#include "cli/evaluation.h"
#include "cli/sheet.h"
#include "diffusion/sampler.h"
#include "io/file.h"
#include "train/internal.h"
#include "train/metrics.h"

enum { FLOOR_DRAWS = 20 };

// ---- What is compared ----

// Sequences `order[0..count-1]` of a data set as one of their own; order NULL: 0, 1, ...
static df_status pick(df_dataset *out, const df_dataset *from, const int32_t *order, int count,
                      df_error *error) {
  size_t C = (size_t)from->fields, total = 0;
  for (int i = 0; i < count; i++) total += (size_t)df_dataset_tokens(from, order ? order[i] : i, 1);
  *out = (df_dataset){.count = count, .fields = from->fields};
  out->offsets = df_alloc(sizeof(int32_t) * ((size_t)count + 1));
  out->values = df_alloc(sizeof(float) * total * C);
  if (!out->offsets || !out->values) {
    df_dataset_free(out);
    return df_fail(error, DF_NO_MEMORY, "out of memory for %d sequences", count);
  }
  for (int i = 0; i < count; i++) {
    int begin = from->offsets[order ? order[i] : i];
    int frames = df_dataset_tokens(from, order ? order[i] : i, 1);
    memcpy(out->values + (size_t)out->offsets[i] * C, from->values + (size_t)begin * C,
           sizeof(float) * (size_t)frames * C);
    out->offsets[i + 1] = out->offsets[i] + frames;
  }
  return DF_OK;
}

// FOLDER/SET_points.npy or SET_values.npy, and SET_offsets.npy.
static df_status read_set(df_dataset *out, const char *folder, const char *set, int fields,
                          df_error *error) {
  static const char *const endings[] = {"points", "values"};
  char values[1024], offsets[1024];
  struct stat about;
  int i = 0;
  do snprintf(values, sizeof values, "%s/%s_%s.npy", folder, set, endings[i]);
  while (stat(values, &about) && ++i < 2);
  if (i == 2)
    return df_fail(error, DF_IO, "%s holds neither %s_points.npy nor %s_values.npy", folder, set,
                   set);
  snprintf(offsets, sizeof offsets, "%s/%s_offsets.npy", folder, set);
  return df_dataset_read(out, &(df_data_files){.values = values, .offsets = offsets}, fields, 0, 0,
                         error);
}

static uint64_t hash_of(const df_dataset *d, int i) {
  size_t begin = (size_t)d->offsets[i], end = (size_t)d->offsets[i + 1], C = (size_t)d->fields;
  return df_hash((const char *)(d->values + begin * C), (end - begin) * C * sizeof(float));
}

static int ascending_hashes(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

// Fields 0 and 1 are the positions of a pen.
static bool has_positions(const df_config *config) {
  df_pen pen;
  return df_pen_find(&pen, config) && pen.positions && pen.x == 0 && pen.y == 1;
}

static void to_form(const evaluation *e, df_dataset *d, bool positions) {
  if (positions) df_dataset_to_movements(d);
  for (int i = 0; e->draws && i < d->count; i++)
    if (d->offsets[i] < d->offsets[i + 1]) {
      float *first = d->values + (size_t)d->offsets[i] * (size_t)d->fields;
      first[e->pen.x] = first[e->pen.y] = 0;
    }
}

// The fields of the first model, a pen's as movements.
static df_status make_form(evaluation *e, df_error *error) {
  const df_config *config = &e->open[0].config;
  df_config *form = &e->form;
  size_t C = (size_t)config->field_count;
  form->field_count = config->field_count;
  form->fields = df_arena_alloc(&form->arena, C * sizeof *form->fields);
  if (!form->fields) return df_fail(error, DF_NO_MEMORY, "out of memory");
  memcpy(form->fields, config->fields, C * sizeof *form->fields);
  if (has_positions(config)) {
    form->fields[0].name = "dx";
    form->fields[1].name = "dy";
  }
  e->draws = df_pen_find(&e->pen, form);
  return DF_OK;
}

static df_status form_statistics(evaluation *e, df_error *error) {
  size_t C = (size_t)e->form.field_count;
  float *mean = df_arena_alloc(&e->form.arena, C * sizeof(float));
  float *std = df_arena_alloc(&e->form.arena, C * sizeof(float));
  if (!mean || !std) return df_fail(error, DF_NO_MEMORY, "out of memory");
  df_dataset_statistics(&e->train, mean, std);
  for (size_t c = 0; c < C; c++) {
    e->form.fields[c].mean = mean[c];
    e->form.fields[c].std = std[c];
  }
  return DF_OK;
}

df_status evaluation_read(evaluation *e, df_error *error) {
  int fields = e->open[0].config.field_count;
  df_dataset train = {0};
  df_status status = make_form(e, error);
  if (status) return status;
  if (has_ending(e->data_path, ".json")) {
    df_recipe recipe;
    status = df_recipe_read(&recipe, e->data_path, NULL, 0, error);
    if (status) return status;
    recipe.train.conditions = recipe.valid.conditions = NULL; // of models that are refused
    recipe.train.observations = recipe.valid.observations = NULL;
    status = df_dataset_read(&train, &recipe.train, fields, 0, 0, error);
    if (!status) status = df_dataset_read(&e->valid_read, &recipe.valid, fields, 0, 0, error);
    e->read_positions = has_positions(&recipe.config) && !recipe.positions;
    df_recipe_free(&recipe);
  } else {
    status = read_set(&train, e->data_path, "train", fields, error);
    if (!status) status = read_set(&e->valid_read, e->data_path, "valid", fields, error);
  }
  if (!status) status = pick(&e->valid, &e->valid_read, NULL, e->valid_read.count, error);
  if (!status) {
    to_form(e, &train, e->read_positions);
    to_form(e, &e->valid, e->read_positions);
  }

  // Real sequences are taken from the front of a random order, the same for every model.
  int32_t *order = NULL;
  if (!status && !(order = df_alloc(sizeof(int32_t) * (size_t)train.count)))
    status = df_fail(error, DF_NO_MEMORY, "out of memory");
  if (!status) {
    df_random at = {.seed = e->seed, .purpose = DF_RANDOM_TEST};
    df_random_shuffle(&at, train.count, order);
    status = pick(&e->train, &train, order, train.count, error);
  }
  df_free(order);
  df_dataset_free(&train);
  if (!status) status = form_statistics(e, error);
  if (status) return status;

  e->whole = df_alloc(sizeof(bool) * (size_t)fields);
  e->hashes = df_alloc(sizeof(uint64_t) * (size_t)e->train.count);
  if (!e->whole || !e->hashes) return df_fail(error, DF_NO_MEMORY, "out of memory");
  for (int c = 0; c < fields; c++) e->whole[c] = true;
  for (int f = 0; f < e->train.offsets[e->train.count]; f++)
    for (int c = 0; c < fields; c++) {
      float v = e->train.values[(size_t)f * (size_t)fields + (size_t)c];
      if (v != nearbyintf(v)) e->whole[c] = false;
    }
  for (int i = 0; i < e->train.count; i++) e->hashes[i] = hash_of(&e->train, i);
  qsort(e->hashes, (size_t)e->train.count, sizeof *e->hashes, ascending_hashes);
  return DF_OK;
}

// ---- Distances ----

// A property of a sequence whose distribution is compared.
typedef struct property {
  const char *key, *title;
  double (*of)(const evaluation *e, const df_dataset *data, int i);
} property;

static double strokes(const evaluation *e, const df_dataset *d, int i) {
  return df_drawing_of(d, &e->pen, i).strokes;
}
static double size(const evaluation *e, const df_dataset *d, int i) {
  return df_drawing_of(d, &e->pen, i).size;
}
static double aspect(const evaluation *e, const df_dataset *d, int i) {
  return df_drawing_of(d, &e->pen, i).aspect;
}
static double frames(const evaluation *e, const df_dataset *d, int i) {
  (void)e;
  return d->offsets[i + 1] - d->offsets[i];
}

static const property stroke_properties[] = {
    {"strokes", "number of strokes, W1", strokes},
    {"points", "number of points, W1", frames},
    {"size", "size: diagonal of the box, W1", size},
    {"aspect", "aspect: ln(width / height), W1", aspect},
};
static const property plain_properties[] = {{"frames", "number of frames, W1", frames}};

static double fill(const evaluation *e, const property *p, const df_dataset *d, int count,
                   double *out) {
  double sum = 0;
  for (int i = 0; i < count; i++) sum += out[i] = p->of(e, d, i);
  return sum / count;
}

// Each property: model's sequences against validation, and training against validation as the floor.
static df_status distances(evaluation *e, int column, const df_dataset *data, df_error *error) {
  const property *properties = e->draws ? stroke_properties : plain_properties;
  int count = e->draws ? 4 : 1, train = e->train.count, n = data ? data->count : train;
  if (n > e->count) n = e->count;
  double *a = df_alloc(sizeof(double) * (size_t)(n + train));
  double *b = df_alloc(sizeof(double) * (size_t)e->valid.count);
  int32_t *order = df_alloc(sizeof(int32_t) * (size_t)train);
  bool memory = a && b && order;
  for (int k = 0; memory && k < count; k++) {
    const property *p = &properties[k];
    report_value *v = report_at(&e->report, p->key, p->title, column);
    double mean = fill(e, p, &e->valid, e->valid.count, b);
    v->has_mean = true;
    if (data) {
      v->mean = fill(e, p, data, n, a);
      v->value = df_wasserstein1(a, n, b, e->valid.count);
      continue;
    }
    // The floor: as many training sequences, drawn anew a few times.
    double *all = a + n, sum = 0, squares = 0;
    fill(e, p, &e->train, train, all);
    for (int draw = 0; draw < FLOOR_DRAWS; draw++) {
      df_random at = {.seed = e->seed, .row = (uint32_t)draw + 1, .purpose = DF_RANDOM_TEST};
      df_random_shuffle(&at, train, order);
      for (int i = 0; i < n; i++) a[i] = all[order[i]];
      double w1 = df_wasserstein1(a, n, b, e->valid.count);
      sum += w1;
      squares += w1 * w1;
    }
    v->mean = mean;
    v->value = sum / FLOOR_DRAWS;
    v->error = sqrt(fmax(0, squares / FLOOR_DRAWS - v->value * v->value));
  }
  df_free(a);
  df_free(b);
  df_free(order);
  return memory ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory for the distances");
}

// ---- Fields ----

// Values of a field over all frames of the first `count` sequences.
static int field_values(const df_dataset *d, int count, int c, double *out) {
  int total = d->offsets[count < d->count ? count : d->count];
  for (int f = 0; f < total; f++) out[f] = d->values[(size_t)f * (size_t)d->fields + (size_t)c];
  return total;
}

// Rates of binary fields, before and after the threshold. g: as the model left it; NULL: real data.
static void binary_fields(evaluation *e, int column, const df_dataset *raw) {
  const df_config *config = &e->form;
  const df_dataset *d = raw ? raw : &e->valid;
  int total = d->offsets[raw && d->count > e->count ? e->count : d->count];
  for (int c = 0; c < config->field_count; c++) {
    const df_field *field = &config->fields[c];
    if (!field->binary || !total) continue;
    char key[48], title[112];
    double above = 0, sum = 0, undecided = 0;
    for (int f = 0; f < total; f++) {
      double v = d->values[(size_t)f * (size_t)d->fields + (size_t)c];
      above += v > field->threshold;
      sum += v;
      undecided += v > 0.25 && v < 0.75;
    }
    snprintf(key, sizeof key, "%.30s_rate", field->name);
    snprintf(title, sizeof title, "%.30s: share of frames with 1", field->name);
    report_put(&e->report, key, title, column, above / total, 0);
    if (!raw) continue;
    snprintf(key, sizeof key, "%.30s_raw", field->name);
    snprintf(title, sizeof title, "%.30s: mean before the threshold", field->name);
    report_put(&e->report, key, title, column, sum / total, 0);
    snprintf(key, sizeof key, "%.30s_undecided", field->name);
    snprintf(title, sizeof title, "%.30s: between 0.25 and 0.75 before it", field->name);
    report_share(&e->report, key, title, column, undecided / total, 0);
  }
}

// Distances of the values of the other fields, frame by frame, for models that do not draw.
static df_status other_fields(evaluation *e, int column, const df_dataset *data, df_error *error) {
  const df_config *config = &e->form;
  if (e->draws) return DF_OK;
  const df_dataset *d = data ? data : &e->train;
  double *a = df_alloc(sizeof(double) * (size_t)d->offsets[d->count]);
  double *b = df_alloc(sizeof(double) * (size_t)e->valid.offsets[e->valid.count]);
  for (int c = 0; a && b && c < config->field_count; c++) {
    char key[48], title[112];
    if (config->fields[c].binary) continue;
    snprintf(key, sizeof key, "%.40s", config->fields[c].name);
    snprintf(title, sizeof title, "%.40s, W1", config->fields[c].name);
    int n = field_values(d, e->count, c, a), m = field_values(&e->valid, e->valid.count, c, b);
    if (n && m) report_put(&e->report, key, title, column, df_wasserstein1(a, n, b, m), 0);
  }
  bool memory = a && b;
  df_free(a);
  df_free(b);
  return memory ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory for the fields");
}

// ---- Lengths ----

static void put_mean(evaluation *e, const char *key, const char *title, int column,
                     const double *values, int n) {
  double sum = 0, squares = 0;
  for (int i = 0; i < n; i++) sum += values[i];
  for (int i = 0; i < n; i++) squares += (values[i] - sum / n) * (values[i] - sum / n);
  report_put(&e->report, key, title, column, sum / n, n > 1 ? sqrt(squares / (n - 1) / n) : 0);
}

static const char nll_title[] = "length in tokens, nats per sequence";
static const char alone_title[] = "the same, last token not seen";

static df_status stop_head(evaluation *e, int k, df_error *error) {
  const df_config *config = &e->open[k].config;
  if (!config->network.stop_head) return DF_OK;
  double *nll = df_alloc(sizeof(double) * (size_t)e->valid.count);
  if (!nll) return df_fail(error, DF_NO_MEMORY, "out of memory");
  df_dataset valid; // in the form of this model
  df_status status = pick(&valid, &e->valid_read, NULL, e->valid_read.count, error);
  bool positions = has_positions(config);
  if (!status && positions && !e->read_positions) df_dataset_to_positions(&valid);
  if (!status && !positions && e->read_positions) df_dataset_to_movements(&valid);
  if (!status) status = df_stop_nll(config, &e->open[k].model->params, &valid, nll, error);
  df_dataset_free(&valid);
  if (!status) put_mean(e, "length_nll", nll_title, k, nll, e->valid.count);
  if (!status && config->present) // the row's place in the table
    report_at(&e->report, "length_alone", alone_title, k)->there = false;
  df_free(nll);
  return status;
}

// Beside it the hazard of the training lengths in tokens; where a last token shows how full it is, the
// hazard sees that too, as the stop head does.
static df_status hazard(evaluation *e, df_error *error) {
  const df_config *config = &e->open[0].config;
  int stack = config->frame_stack, most = 0, n = e->train.count, m = e->valid.count;
  for (int k = 0; k < e->models; k++) {
    const df_config *other = &e->open[k].config;
    if (other->frame_stack != stack || other->present != config->present ||
        !other->network.stop_head)
      return DF_OK; // nothing that all of them could stand beside
  }
  for (int i = 0; i < n; i++) {
    int tokens = df_dataset_tokens(&e->train, i, stack);
    if (tokens > most) most = tokens;
  }
  int *tokens = df_alloc(sizeof(int) * (size_t)n), *length = df_alloc(sizeof(int) * (size_t)n);
  double *nll = df_alloc(sizeof(double) * (size_t)m);
  double *tables = df_alloc(sizeof(double) * 2 * ((size_t)most + 1)),
         *part = tables ? tables + most + 1 : NULL;
  bool memory = tokens && length && nll && tables;
  for (int i = 0; memory && i < n; i++) {
    tokens[i] = df_dataset_tokens(&e->train, i, stack);
    length[i] = e->train.offsets[i + 1] - e->train.offsets[i];
  }
  if (memory && config->present) {
    df_hazard_fit_seen(length, n, stack, most, tables, part);
    for (int i = 0; i < m; i++)
      nll[i] = df_hazard_nll_seen(tables, part, most, stack,
                                  e->valid.offsets[i + 1] - e->valid.offsets[i]);
    put_mean(e, "length_nll", nll_title, REPORT_REAL, nll, m);
  }
  if (memory) {
    df_hazard_fit(tokens, n, most, tables);
    for (int i = 0; i < m; i++)
      nll[i] = df_hazard_nll(tables, most, df_dataset_tokens(&e->valid, i, stack));
    put_mean(e, config->present ? "length_alone" : "length_nll",
             config->present ? alone_title : nll_title, REPORT_REAL, nll, m);
  }
  df_free(tokens);
  df_free(length);
  df_free(nll);
  df_free(tables);
  return memory ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory for the lengths");
}

// ---- Sequences that end inside a token ----

static double last_frames(int frames_, int stack) {
  return frames_ ? (frames_ - 1) % stack + 1 : 0;
}

static df_status last_tokens(evaluation *e, int k, df_error *error) {
  const df_config *config = &e->open[k].config;
  if (!config->present) return DF_OK;
  const generated *g = &e->drawn[k];
  int n = g->data.count < e->count ? g->data.count : e->count, m = e->valid.count;
  double *a = df_alloc(sizeof(double) * (size_t)n), *b = df_alloc(sizeof(double) * (size_t)m);
  if (a && b) {
    for (int i = 0; i < n; i++)
      a[i] = last_frames(g->data.offsets[i + 1] - g->data.offsets[i], config->frame_stack);
    for (int i = 0; i < m; i++)
      b[i] = last_frames(e->valid.offsets[i + 1] - e->valid.offsets[i], config->frame_stack);
    report_put(&e->report, "last_token", "frames in the last token, W1", k,
               df_wasserstein1(a, n, b, m), 0);
    double gaps = 0;
    for (int i = 0; i < n; i++) {
      int tokens = df_dataset_tokens(&g->data, i, config->frame_stack);
      gaps += tokens != g->tokens[i];
    }
    report_share(&e->report, "gaps", "sequences with an empty or a broken token", k, gaps / n, 0);
  }
  bool memory = a && b;
  df_free(a);
  df_free(b);
  return memory ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory");
}

// ---- The classifier ----

static bool told(void *context, int epoch, int epochs, double loss) {
  evaluation *e = context;
  char text[256];
  snprintf(text, sizeof text, "%s: epoch %d of at most %d, held-out loss %.3f", e->classify_name,
           epoch, epochs, loss);
  static double last;
  double now = df_seconds();
  if (now - last > (isatty(2) ? 0.5 : 10)) {
    last = now;
    cli_line(text);
  }
  return !(e->stop && *e->stop);
}

static const struct {
  const char *key, *title;
} classifiers[] = {
    {"classifier", "classifier: real or generated?"},
    {"classifier_fine", "the same, small values magnified"},
};

// Real against generated training sequences, tested on validation and as many fresh ones.
// generated NULL: against other real ones.
df_status evaluation_classify(evaluation *e, int column, const df_dataset *data, df_error *error) {
  int test = e->valid.count, learn = e->learn;
  df_class real = {&e->train, 0, learn}, other = {data, 0, learn};
  df_class test_real = {&e->valid, 0, test}, test_other = {data, learn, test};
  if (!data) {
    if (e->train.count < 2 * learn + test) learn = (e->train.count - test) / 2;
    if (learn < 100) return DF_OK;
    real.count = learn;
    other = (df_class){&e->train, learn, learn};
    test_other = (df_class){&e->train, 2 * learn, test};
  }
  df_status status = DF_OK;
  for (int fine = 0; !status && fine < (e->sweep ? 1 : 2); fine++) {
    snprintf(e->classify_name, sizeof e->classify_name, "%s: %sclassifier",
             data ? e->names[column] : "real against real", fine ? "fine " : "");
    df_classifier_options o = df_classifier_defaults();
    o.seed = e->seed;
    o.fine = fine;
    o.threads = e->threads;
    o.report = told;
    o.context = e;
    df_classifier_result r;
    status = df_classify(&r, &e->form, real, other, test_real, test_other, &o, error);
    cli_line_end();
    if (status) break;
    report_share(&e->report, classifiers[fine].key, classifiers[fine].title, column, r.accuracy,
                 r.standard_error);
  }
  return status;
}

// ---- A model ----

// Generated values as the data has them: binary fields 0 or 1, whole numbers where the data has them.
static void like_data(const evaluation *e, generated *g, const df_config *config) {
  generated_threshold(g, config);
  for (int f = 0; f < g->data.offsets[g->data.count]; f++)
    for (int c = 0; c < g->data.fields; c++) {
      float *v = &g->data.values[(size_t)f * (size_t)g->data.fields + (size_t)c];
      if (e->whole[c]) *v = nearbyintf(*v) + 0.0f; // no negative zero
    }
  to_form(e, &g->data, has_positions(config));
}

// How far a model that knows positions puts its drawings from where the data's stand: the middle of the
// box at (0, 0). It is told here and nowhere else.
static void places(evaluation *e, int k, const df_dataset *data) {
  if (!has_positions(&e->open[k].config)) return;
  int n = data->count < e->count ? data->count : e->count;
  double sum = 0;
  for (int i = 0; i < n; i++) {
    float low[2] = {0}, high[2] = {0};
    for (int f = data->offsets[i]; f < data->offsets[i + 1]; f++)
      for (int c = 0; c < 2; c++) {
        float v = data->values[(size_t)f * (size_t)data->fields + (size_t)c];
        low[c] = f == data->offsets[i] ? v : fminf(low[c], v);
        high[c] = f == data->offsets[i] ? v : fmaxf(high[c], v);
      }
    sum += hypot((low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0);
  }
  report_put(&e->report, "place", "middle of the box, mean distance from (0, 0)", k, sum / n, 0);
}

df_status evaluation_model(evaluation *e, int k, df_error *error) {
  const open_model *m = &e->open[k];
  generated *g = &e->drawn[k];
  int learned = e->learn ? e->learn + e->valid.count : 0;
  char what[128];
  snprintf(what, sizeof what, "%s: ", e->names[k]);
  generate_options o = {.sampler = e->samplers[k],
                        .count = e->count > learned ? e->count : learned,
                        .threads = e->s.threads,
                        .label = what,
                        .stop = e->stop};
  df_status status = generate(g, m, &o, error);
  if (status) return status;
  df_dataset raw = g->data;
  size_t values = (size_t)raw.offsets[raw.count] * (size_t)raw.fields;
  raw.values = df_alloc(sizeof(float) * values);
  if (!raw.values) return df_fail(error, DF_NO_MEMORY, "out of memory");
  memcpy(raw.values, g->data.values, sizeof(float) * values);
  like_data(e, g, &m->config);

  status = distances(e, k, &g->data, error);
  if (!status) status = other_fields(e, k, &g->data, error);
  if (!status) places(e, k, &raw);
  if (!status) status = last_tokens(e, k, error);
  if (!status) binary_fields(e, k, &raw);
  df_free(raw.values);
  if (status) return status;

  int n = g->data.count < e->count ? g->data.count : e->count, copies = 0;
  for (int i = 0; i < n; i++) {
    uint64_t hash = hash_of(&g->data, i);
    copies +=
        bsearch(&hash, e->hashes, (size_t)e->train.count, sizeof hash, ascending_hashes) != NULL;
  }
  report_share(&e->report, "copies", "equal to a training sequence", k, (double)copies / n, 0);
  status = stop_head(e, k, error);
  if (!status && e->learn) status = evaluation_classify(e, k, &g->data, error);
  return status;
}

// What real data scores: the column beside the models.
static df_status evaluate_real(evaluation *e, df_error *error) {
  df_status status = distances(e, REPORT_REAL, NULL, error);
  if (!status) status = other_fields(e, REPORT_REAL, NULL, error);
  if (!status) {
    binary_fields(e, REPORT_REAL, NULL);
    int copies = 0;
    for (int i = 0; i < e->valid.count; i++) {
      uint64_t hash = hash_of(&e->valid, i);
      copies +=
          bsearch(&hash, e->hashes, (size_t)e->train.count, sizeof hash, ascending_hashes) != NULL;
    }
    report_share(&e->report, "copies", "", REPORT_REAL, (double)copies / e->valid.count, 0);
    status = hazard(e, error);
  }
  if (!status && e->learn) status = evaluation_classify(e, REPORT_REAL, NULL, error);
  return status;
}

// ---- What comes out ----

static df_status write_sheet(const evaluation *e, int k, df_error *error) {
  const open_model *m = &e->open[k];
  if (!e->sheet || !e->draws) return DF_OK;
  char path[1024], how[160], title[256], caption[320];
  const char *license = NULL;
  df_error ignored;
  df_json_get_string(m->config.json, "license", &license, &ignored);
  sampling_text(&e->samplers[k], how, sizeof how);
  snprintf(title, sizeof title, "The first %d samples of the model %s", e->sheet, e->names[k]);
  snprintf(caption, sizeof caption, "%s: seed %llu, %s%s%s", e->names[k],
           (unsigned long long)e->seed, how, license ? ". " : "", license ? license : "");
  if (e->models > 1)
    snprintf(path, sizeof path, "%s/sheet-%d.svg", e->folder, k + 1);
  else
    snprintf(path, sizeof path, "%s/sheet.svg", e->folder);
  char *svg;
  size_t bytes;
  sheet_options o = {.count = e->sheet, .title = title, .caption = caption};
  df_status status = sheet_write(&svg, &bytes, &e->drawn[k].data, &e->pen, &o, error);
  if (status) return status;
  status = df_file_write(path, svg, bytes, error);
  df_free(svg);
  return status;
}

// The weights of each model in every format: printed, and into weights.md.
static df_status print_weights(const evaluation *e, df_error *error) {
  df_arena arena = {0};
  df_status status = DF_OK;
  char *all = df_arena_alloc(&arena, 1), path[1024];
  for (int k = 0; all && k < e->models; k++) {
    const char *table = weights_markdown(e->weights[k], &arena);
    size_t room = table ? strlen(all) + strlen(table) + 256 : 0;
    char *longer = table ? df_arena_alloc(&arena, room) : NULL;
    if (longer)
      snprintf(longer, room, "%s%s%s, weights in each format on %s:\n\n%s", all, k ? "\n" : "",
               e->names[k], df_isa(), table);
    all = longer;
  }
  if (!all) status = df_fail(error, DF_NO_MEMORY, "out of memory for the table");
  if (!status) printf("%s\n", all);
  if (!status && e->folder) {
    snprintf(path, sizeof path, "%s/weights.md", e->folder);
    status = df_file_write(path, all, strlen(all), error);
  }
  df_arena_free(&arena);
  return status;
}

static df_status write_json(const evaluation *e, df_error *error) {
  df_json_writer w = {.indent = 2};
  char path[1024], seed[24];
  df_json_object_begin(&w, NULL);
  df_json_put_string(&w, "format", "diffusion-forcing-eval/1");
  df_json_put_number(&w, "count", e->count);
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)e->seed);
  df_json_put_string(&w, "seed", seed);
  df_json_put_number(&w, "train", e->train.count);
  df_json_put_number(&w, "valid", e->valid.count);
  df_json_put_number(&w, "classifier_learns_from", e->learn);
  df_json_put_number(&w, "seconds", df_seconds() - e->start);
  df_json_put_string(&w, "isa", df_isa());
  df_json_array_begin(&w, "models");
  for (int k = 0; k < e->models; k++) {
    const open_model *m = &e->open[k];
    const generated *g = &e->drawn[k];
    df_json_object_begin(&w, NULL);
    df_json_put_string(&w, "name", e->names[k]);
    df_json_put_number(&w, "parameters", (double)df_model_parameters(m->model));
    df_json_put_number(&w, "bytes", (double)m->size);
    const df_json *training = df_json_at(m->config.json, "training");
    if (training) df_json_put(&w, "training", training);
    sampling_write(&e->samplers[k], &w, "sampling");
    df_json_put_number(&w, "sequences", g->data.count);
    df_json_put_number(&w, "passes", (double)g->cells);
    df_json_put_number(&w, "sampling_seconds", g->seconds);
    report_write(&e->report, k, &w, "measures");
    weights_write(e->weights[k], &w);
    df_json_object_end(&w);
  }
  df_json_array_end(&w);
  report_write(&e->report, REPORT_REAL, &w, "real");
  df_json_object_end(&w);
  snprintf(path, sizeof path, "%s/eval.json", e->folder);
  df_status status = w.failed ? df_fail(error, DF_NO_MEMORY, "out of memory for the JSON text")
                              : df_file_write(path, w.text, w.size, error);
  df_json_writer_free(&w);
  return status;
}

static df_status print(const evaluation *e, df_error *error) {
  df_arena arena = {0};
  const char *names[REPORT_MODELS];
  for (int k = 0; k < e->models; k++) names[k] = e->names[k];
  char *table = report_markdown(&e->report, &arena, names, e->models);
  df_status status = table ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory for the table");
  if (!status) {
    printf("%s\n", table);
    printf(
        "%d sequences of each model against %d held-out ones; real: %d of %d training sequences, "
        "drawn %d times, in the rows W1, else the held-out ones.\n",
        e->count, e->valid.count, e->count < e->train.count ? e->count : e->train.count,
        e->train.count, FLOOR_DRAWS);
    if (e->learn)
      printf(
          "Classifier: learns from %d real and %d generated sequences, tested on %d and %d; 50 %% "
          "is perfect.\n",
          e->learn, e->learn, e->valid.count, e->valid.count);
    for (int k = 0; k < e->models; k++) {
      char how[160], took[32];
      sampling_text(&e->samplers[k], how, sizeof how);
      df_progress_time(e->drawn[k].seconds, took, sizeof took);
      printf("%s: seed %llu, %s; %d sequences in %s.\n", e->names[k], (unsigned long long)e->seed,
             how, e->drawn[k].data.count, took);
    }
    if (e->folder) {
      char path[1024];
      snprintf(path, sizeof path, "%s/eval.md", e->folder);
      status = df_file_write(path, table, strlen(table), error);
    }
  }
  df_arena_free(&arena);
  return status;
}

// ---- The command ----

// A name for each column: the model's, with what tells it from the others.
static void name_models(evaluation *e) {
  for (int k = 0; k < e->models; k++) {
    const df_config *config = &e->open[k].config;
    const char *mode = NULL;
    df_error ignored;
    df_json_get_string(df_json_at(config->json, "training"), "mode", &mode, &ignored);
    bool twice = false;
    for (int j = 0; j < e->models; j++)
      twice = twice || (j != k && !strcmp(e->open[j].config.name, config->name));
    snprintf(e->names[k], sizeof e->names[k], "%.60s%s%.30s",
             config->name[0] ? config->name : "model", twice && mode ? ", " : "",
             twice && mode ? mode : "");
  }
  for (int k = 1; k < e->models; k++)
    for (int j = 0; j < k; j++)
      if (!strcmp(e->names[j], e->names[k])) {
        char number[16];
        snprintf(number, sizeof number, " %d", k + 1);
        strncat(e->names[k], number, sizeof e->names[k] - strlen(e->names[k]) - 1);
      }
}

// The baselines are sampled as they were trained, whatever schedule the recipe that they share with Diffusion
// Forcing names. NULL: as the config says.
const char *evaluation_schedule(const df_config *config) {
  const char *mode = "";
  df_error ignored;
  df_json_get_string(df_json_at(config->json, "training"), "mode", &mode, &ignored);
  if (!strcmp(mode, df_train_mode_names[DF_MODE_TEACHER_FORCING]))
    return df_schedule_names[DF_AUTOREGRESSIVE];
  if (!strcmp(mode, df_train_mode_names[DF_MODE_FULL_SEQUENCE]))
    return df_schedule_names[DF_FULL_SEQUENCE];
  return NULL;
}

static df_status open_models(evaluation *e, df_error *error) {
  for (int k = 0; k < e->models; k++) {
    df_status status = open_model_read(&e->open[k], e->paths[k], error);
    if (status) return status;
    const df_config *first = &e->open[0].config, *config = &e->open[k].config;
    if (e->data_path &&
        (config->network.condition_size || config->network.initial == DF_INITIAL_ENCODED))
      return df_fail(error, DF_NOT_SUPPORTED, "%s has conditions, which eval does not supply",
                     e->paths[k]);
    bool same = config->field_count == first->field_count;
    for (int c = 0; same && c < config->field_count; c++) {
      const char *a = first->fields[c].name, *b = config->fields[c].name;
      same = !strcmp(a + (a[0] == 'd'), b + (b[0] == 'd')); // x and dx are one field in two forms
    }
    if (!same)
      return df_fail(error, DF_BAD_ARGUMENT, "%s and %s have different fields: no comparing them",
                     e->paths[0], e->paths[k]);
    sampling own = e->s;
    if (!own.schedule) own.schedule = evaluation_schedule(config);
    status = sampling_resolve(&own, config, &e->samplers[k], error);
    if (status) return status;
  }
  e->seed = e->samplers[0].seed;
  name_models(e);
  return DF_OK;
}

void evaluation_forget(evaluation *e) {
  df_dataset_free(&e->train);
  df_dataset_free(&e->valid);
  df_dataset_free(&e->valid_read);
  df_config_free(&e->form);
  df_free(e->whole);
  df_free(e->hashes);
  e->whole = NULL;
  e->hashes = NULL;
}

// ---- All of it ----

static df_status run(evaluation *e, df_error *error) {
  df_status status = open_models(e, error);
  if (!status && e->data_path) {
    status = evaluation_read(e, error);
    if (!status && e->learn > e->train.count) e->learn = e->train.count;
    if (!status) status = df_threads_create(&e->threads, e->s.threads, error);
  }
  if (!status && e->folder) status = df_file_make_folder(e->folder, error);
  if (!status && e->sweep) return evaluation_sweep(e, error);
  for (int k = 0; !status && k < e->models; k++)
    status = weights_compare(e->weights[k], &e->open[k], e->seed, error);
  if (!status) status = print_weights(e, error);
  if (status || !e->data_path) return status;
  for (int k = 0; !status && k < e->models; k++) status = evaluation_model(e, k, error);
  if (!status) status = evaluate_real(e, error);
  for (int k = 0; !status && e->folder && k < e->models; k++) status = write_sheet(e, k, error);
  if (!status && e->folder) status = write_json(e, error);
  if (!status) status = print(e, error);
  return status;
}

int cli_eval(int argc, char **argv) {
  static evaluation e; // large
  e = (evaluation){
      .count = 1000, .learn = 4000, .sheet = 64, .repeats = 1, .s = sampling_defaults()};
  const cli_option options[] = {
      {"--data", "DATA",
       "What the models were trained on: a recipe.json, or a folder with train_points.npy (or "
       "train_values.npy), train_offsets.npy and the same for valid, drawings as movements. "
       "Without it only the formats of weights are compared.",
       CLI_TEXT, &e.data_path},
      {"--count", "N", "Sequences whose properties are compared (default 1000).", CLI_INT,
       &e.count},
      {"--classifier", "N",
       "Sequences of each class that the classifier learns from (default 4000); 0: no classifier.",
       CLI_INT, &e.learn},
      {"--out", "DIR",
       "Folder for eval.json, eval.md and, for models that draw, sheet.svg (sheet-1.svg, ... if "
       "there are several models).",
       CLI_TEXT, &e.folder},
      {"--sheet", "N", "Drawings on the sheet, the first ones of the seed (default 64).", CLI_INT,
       &e.sheet},
      {"--sweep", "S,S,...",
       "Instead of the table: quality of one model against these numbers of steps, as tables and, "
       "with --out, as steps.csv and steps.svg.",
       CLI_TEXT, &e.sweep},
      {"--curve", "SETTINGS",
       "A curve of the sweep: grid, schedule, uncertainty, eta and stabilization, such as "
       "grid=fitted,eta=0.5. May be given several times. Default: a curve for each grid.",
       CLI_LIST, &e.ways},
      {"--repeats", "N",
       "How often the sweep is done, with seeds of their own, for means and errors (default 1).",
       CLI_INT, &e.repeats},
      SAMPLING_OPTIONS(e.s),
  };
  const cli_manual manual = {
      .name = "eval",
      .arguments = "MODEL [MODEL ...]",
      .about =
          "Measures how near the sequences of a model are to held-out real ones, and prints a "
          "Markdown table with a column for each model and one for real data. Each model samples "
          "with its own defaults unless an option says otherwise; one trained by teacher forcing "
          "samples autoregressively, one trained on full sequences by full-sequence diffusion.\n\n"
          "  W1           Wasserstein-1 distance between generated and held-out sequences\n"
          "               in a property, in its unit, and the mean of the property;\n"
          "               real: training against held-out sequences, the same number,\n"
          "               mean and standard deviation of 20 draws: the floor\n"
          "  strokes, points, size, aspect\n"
          "               of drawings (fields x, y or dx, dy, and pen); size is the diagonal of "
          "the\n"
          "               box in data units, aspect is ln((width + 1) / (height + 1))\n"
          "  share of 1   of a binary field after the threshold; beside it the mean\n"
          "               before it and the share between 0.25 and 0.75\n"
          "  length       negative log-likelihood of the stop head on held-out\n"
          "               sequences, their tokens clean, with standard error; real: the\n"
          "               hazard of the training lengths in tokens, half an ending and\n"
          "               half a continuation added. Where a sequence may end inside a\n"
          "               token, a last token shows how full it is: that hazard sees it\n"
          "               as the stop head does, the row below is the hazard that does not\n"
          "  classifier   accuracy of a small recurrent network that learned to tell\n"
          "               real from generated, and its standard error; 50 % is perfect.\n"
          "               It learns from training sequences and is tested on held-out\n"
          "               ones beside fresh generated ones; a part of its training\n"
          "               sequences says when to stop. real: two halves of the training\n"
          "               sequences told from each other. In the second row it also\n"
          "               sees every value v as tanh(v / (0.05 standard deviations)),\n"
          "               which shows whether exact zeros are hit\n\n"
          "First it compares the formats of weights (--weights), which needs no data: memory of "
          "the "
          "weights that a network pass reads, time of a pass for one token of one sequence, and, "
          "in "
          "parts of the root-mean-square value, root-mean-square and largest difference from "
          "float32 "
          "of the network's output, of the estimate of the clean token and of the latent, over the "
          "passes of sequences sampled with float32. Without --data that is all.\n\n"
          "Generated fields are rounded where all training values are whole numbers. Drawings are "
          "compared as movements from their first point, whether a model has positions (fields x, "
          "y) or movements (dx, dy). The same "
          "seed gives the same table on the same kind of processor.\n\n"
          "Exit codes: 0 done, 1 failed (the reason is printed), 2 wrong command line, 130 "
          "interrupted.",
      .examples = "  forcing eval models/kanji\n"
                  "  forcing eval models/kanji --data models/kanji/recipe.json --out runs/eval\n"
                  "  forcing eval models/kanji --data models/kanji/recipe.json --classifier 0 "
                  "--schedule full-sequence\n"
                  "  forcing eval a.safetensors b.safetensors c.safetensors --data recipe.json\n",
      .options = options,
      .count = sizeof options / sizeof options[0],
  };
  int over = cli_parse(&manual, argc, argv, e.paths, 1, REPORT_MODELS);
  if (over >= 0) return over;

  df_error error;
  df_status status = DF_OK;
  while (e.models < REPORT_MODELS && e.paths[e.models]) e.models++;
  if (e.count < 2 || e.count > 10000000)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--count: expected 2 to 10000000, found %d", e.count);
  else if (e.learn && (e.learn < 100 || e.learn > 1000000))
    status = df_fail(&error, DF_BAD_ARGUMENT,
                     "--classifier: expected 0, or 100 to 1000000, found %d", e.learn);
  else if (e.repeats < 1 || e.repeats > 1000)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--repeats: expected 1 to 1000, found %d", e.repeats);
  else if (e.sweep && e.models > 1)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--sweep: expected one model, found %d", e.models);
  else if (e.sweep && !e.data_path)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--sweep: --data is missing");
  else if (!e.sweep && (e.ways.count || e.repeats > 1))
    status = df_fail(&error, DF_BAD_ARGUMENT, "--curve and --repeats belong to --sweep");
  else if (e.sheet < 0 || e.sheet > 10000)
    status = df_fail(&error, DF_BAD_ARGUMENT, "--sheet: expected 0 to 10000, found %d", e.sheet);
  if (status) return options_fail("eval", &error);

  e.start = df_seconds();
  e.stop = cli_catch_interrupt();
  status = run(&e, &error);
  for (int k = 0; k < e.models; k++) {
    generated_free(&e.drawn[k]);
    open_model_close(&e.open[k]);
  }
  evaluation_forget(&e);
  df_threads_free(e.threads);
  return status ? options_fail("eval", &error) : CLI_OK;
}
