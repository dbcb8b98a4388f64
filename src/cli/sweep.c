// forcing eval --sweep: one model, sampled with many settings and numbers of steps.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/evaluation.h"
#include "io/file.h"

// Puts "grid=fitted,stabilization=50" onto *s, and its name "fitted, stabilization 50" into name[size].
// Texts in *s live in the arena.
static df_status read_way(const char *way, sampling *s, df_arena *arena, char *name, size_t size,
                          df_error *error) {
  char *rest = df_arena_print(arena, "%s", way);
  if (!rest) return df_fail(error, DF_NO_MEMORY, "out of memory");
  size_t used = 0;
  for (char *key; (key = strtok_r(rest, ",", &rest));) {
    char *value = strchr(key, '='), *end = NULL;
    const double number = value ? strtod(value + 1, &end) : 0;
    const bool is_number = value && end != value + 1 && !*end;
    if (value) *value++ = 0;
    const bool word = !strcmp(key, "grid") || !strcmp(key, "schedule");
    if (value && !strcmp(key, "grid"))
      s->grid = value;
    else if (value && !strcmp(key, "schedule"))
      s->schedule = value;
    else if (is_number && !strcmp(key, "uncertainty"))
      s->uncertainty = number;
    else if (is_number && !strcmp(key, "eta"))
      s->eta = number;
    else if (is_number && !strcmp(key, "stabilization") && fabs(number) < 1e6)
      s->stabilization = (int)number;
    else
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--curve: expected settings (grid, schedule, uncertainty, eta, stabilization) "
                     "such as grid=fitted,eta=0.5, found \"%s\"",
                     way);
    if (used < size)
      used += (size_t)snprintf(name + used, size - used, "%s%s%s%s", used ? ", " : "",
                               word ? "" : key, word ? "" : " ", value);
  }
  return DF_OK;
}

// Lines and points, and how each is sampled, into samplers[line][point].
static df_status plan_sweep(evaluation *e, df_arena *arena,
                            df_sampler_options samplers[CURVE_LINES][CURVE_STEPS],
                            df_error *error) {
  const df_config *config = &e->open[0].config;
  curve *c = &e->curve;
  for (const char *at = e->sweep; *at;) {
    char *end;
    long steps = strtol(at, &end, 10);
    if (end == at || (*end && *end != ',') || steps < 1 || steps > config->K ||
        c->points == CURVE_STEPS)
      return df_fail(error, DF_BAD_ARGUMENT,
                     "--sweep: expected up to %d numbers of steps from 1 to %d, such as 4,8,16, "
                     "found \"%s\"",
                     CURVE_STEPS, config->K, e->sweep);
    c->steps[c->points++] = (int)steps;
    at = end + (*end == ',');
  }
  if (!e->ways.count)
    e->ways = (cli_list){{"grid=uniform", "grid=quadratic", "grid=fitted"},
                         config->sampling.fitted_grid.levels ? 3 : 2};
  if (!c->points || e->ways.count > CURVE_LINES)
    return df_fail(error, DF_BAD_ARGUMENT,
                   "--sweep: expected at least one number of steps and at most %d curves",
                   CURVE_LINES);
  c->lines = e->ways.count;
  for (int l = 0; l < c->lines; l++) {
    sampling own = e->s;
    if (!own.schedule) own.schedule = evaluation_schedule(config);
    c->names[l] = e->way_names[l];
    df_status status =
        read_way(e->ways.items[l], &own, arena, e->way_names[l], sizeof e->way_names[l], error);
    for (int p = 0; p < c->points && !status; p++) {
      own.steps = c->steps[p];
      status = sampling_resolve(&own, config, &samplers[l][p], error);
    }
    if (status) return status;
  }
  return DF_OK;
}

// What the report says of the model, as one more repeat of a point.
static void collect(evaluation *e, int line, int point) {
  for (int i = 0; i < e->report.count; i++) {
    const report_row *row = &e->report.rows[i];
    const report_value *v = &row->values[0];
    if (v->there)
      curve_add(&e->curve, line, point, row->key, row->title, row->percent, v->value, v->error);
  }
}

// real: what the classifier makes of real data, NaN without it.
static df_status write_sweep(const evaluation *e, double real, df_error *error) {
  df_arena arena = {0};
  const int classifier = curve_measure(&e->curve, "classifier"), drawn = e->learn ? classifier : 0;
  char title[256], path[1024];
  snprintf(title, sizeof title, "%s: %s", e->open[0].config.name, e->curve.titles[drawn]);
  const char *const names[] = {"steps.csv", "steps.svg"};
  const char *const texts[] = {curve_csv(&e->curve, &arena),
                               curve_svg(&e->curve, &arena, drawn, title, real)};
  df_status status = DF_OK;
  for (int i = 0; i < 2 && !status; i++) {
    snprintf(path, sizeof path, "%s/%s", e->folder, names[i]);
    status = texts[i] ? df_file_write(path, texts[i], strlen(texts[i]), error)
                      : df_fail(error, DF_NO_MEMORY, "out of memory for %s", path);
  }
  df_arena_free(&arena);
  return status;
}

static df_status print_sweep(const evaluation *e, uint64_t seed, df_arena *arena, df_error *error) {
  static const char *const keys[] = {"classifier", "strokes", "points", "size", "frames"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const int measure = curve_measure(&e->curve, keys[i]);
    if (measure < 0) continue;
    const char *table = curve_markdown(&e->curve, arena, measure);
    if (!table) return df_fail(error, DF_NO_MEMORY, "out of memory for the table");
    printf("%s%s\n\n%s\n", e->curve.titles[measure], e->curve.percent[measure] ? ", %" : "", table);
  }
  printf("%d sequences against %d held-out ones; seeds %llu to %llu, errors from seed to seed.\n",
         e->count, e->valid.count, (unsigned long long)seed,
         (unsigned long long)seed + (unsigned long long)e->repeats - 1);
  if (e->learn)
    printf("Classifier: learns from %d real and %d generated sequences, tested on %d and %d; 50 %% "
           "is perfect.\n",
           e->learn, e->learn, e->valid.count, e->valid.count);
  return DF_OK;
}

df_status evaluation_sweep(evaluation *e, df_error *error) {
  static df_sampler_options samplers[CURVE_LINES][CURVE_STEPS];
  df_arena arena = {0};
  const curve *c = &e->curve;
  const uint64_t seed = e->seed;
  double real = 0; // sum over the repeats
  df_status status = plan_sweep(e, &arena, samplers, error);
  for (int repeat = 0; repeat < e->repeats && !status; repeat++) {
    e->seed = seed + (uint64_t)repeat;
    if (repeat) { // the real sequences that the classifier sees, too, are others
      evaluation_forget(e);
      status = evaluation_read(e, error);
    }
    e->report = (report){0};
    if (!status && e->learn) status = evaluation_classify(e, REPORT_REAL, NULL, error);
    const report_value *v = &e->report.rows[0].values[REPORT_REAL];
    real += v->there ? v->value : NAN;
    for (int l = 0; l < c->lines; l++)
      for (int p = 0; p < c->points && !status; p++) {
        e->report = (report){0};
        e->samplers[0] = samplers[l][p];
        e->samplers[0].seed = e->seed;
        snprintf(e->names[0], sizeof e->names[0], "repeat %d, %.40s, %d steps", repeat + 1,
                 c->names[l], c->steps[p]);
        status = evaluation_model(e, 0, error);
        generated_free(&e->drawn[0]);
        if (!status) collect(e, l, p);
        if (!status && e->folder) status = write_sweep(e, real / (repeat + 1), error);
      }
  }
  if (!status) status = print_sweep(e, seed, &arena, error);
  df_arena_free(&arena);
  return status;
}
