// What an evaluation holds, for eval.c and sweep.c.
#ifndef DF_CLI_EVALUATION_H
#define DF_CLI_EVALUATION_H

#include "cli/curve.h"
#include "cli/generate.h"
#include "cli/report.h"
#include "cli/weights.h"
#include "train/classifier.h"
#include "train/metrics.h"

typedef struct evaluation {
  const char *data_path, *folder;
  int count, learn, sheet; // sequences compared, to learn from in each class, on the sheet
  sampling s;
  uint64_t seed;
  const volatile int *stop;
  double start;

  // Whatever form the models and the files have, drawings are compared as movements, the first of which
  // is 0: neither form nor place tells anything.
  df_config form;        // only its fields, with the statistics of the training set
  df_pen pen;            // of that form
  bool draws;            // there is a pen
  df_dataset valid_read; // as it was read
  bool read_positions;   // fields 0 and 1 are positions there

  df_dataset train, valid; // train in a random order
  bool *whole;             // (fields) all values of this field are whole numbers
  uint64_t *hashes;        // (train.count) of the training sequences, ascending
  df_threads *threads;

  int models;
  const char *paths[REPORT_MODELS];
  open_model open[REPORT_MODELS];
  char names[REPORT_MODELS][96];
  generated drawn[REPORT_MODELS];
  df_sampler_options samplers[REPORT_MODELS];
  weights_measure weights[REPORT_MODELS][DF_WEIGHTS_COUNT];
  char classify_name[128]; // of the progress line
  report report;

  // --sweep: one model, sampled in many ways
  const char *sweep; // numbers of steps; NULL: no sweep
  cli_list ways;     // --curve
  char way_names[CURVE_LINES][64];
  int repeats;
  curve curve;
} evaluation;

// Reads the data sets; which of their sequences come first depends on e->seed.
df_status evaluation_read(evaluation *e, df_error *error);
void evaluation_forget(evaluation *e); // frees the data sets
// Samples model k as samplers[k] says and fills its column of the report; the caller frees drawn[k].
df_status evaluation_model(evaluation *e, int k, df_error *error);
// Rows of the classifier in a column; data NULL: real sequences against real ones.
df_status evaluation_classify(evaluation *e, int column, const df_dataset *data, df_error *error);
// The schedule that a model was trained for.
const char *evaluation_schedule(const df_config *config);

// --sweep: one model at many settings, as tables, steps.csv and steps.svg.
df_status evaluation_sweep(evaluation *e, df_error *error);

#endif
