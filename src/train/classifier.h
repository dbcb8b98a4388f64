// The classifier two-sample test (Lopez-Paz & Oquab 2017): a small network learns to tell real
// sequences from generated ones; its accuracy on sequences it has not seen is 1/2 if there is
// nothing to tell, and 1 if every sequence gives itself away.
//
// Network: a GRU in each direction over pairs of frames; the mean of their states and their last states
// go through one hidden layer to a logit. A share of the training sequences is held out of the
// gradient and says when to stop; the test sequences are used once, at the end. The result depends on
// sequences, options and seed, not on the number of threads.
#ifndef DF_TRAIN_CLASSIFIER_H
#define DF_TRAIN_CLASSIFIER_H

#include "train/train.h"

typedef struct df_classifier_options {
  int hidden;   // width of each GRU and of the hidden layer
  int batch;    // sequences per step
  int epochs;   // at most
  int patience; // epochs without a better held-out loss before it stops
  double rate, weight_decay;
  double held_out; // share of the training sequences of each class
  bool fine;       // fields that are not binary are also shown magnified, near 0
  uint64_t seed;
  df_threads *threads; // nullable
  // Nullable; called after each epoch. Return false to stop: DF_STOPPED.
  bool (*report)(void *context, int epoch, int epochs, double held_out_loss);
  void *context;
} df_classifier_options;

df_classifier_options df_classifier_defaults(void);

// Real and generated sequences: their frames in data units, begin .. begin + count - 1 of a data set.
typedef struct df_class {
  const df_dataset *data;
  int begin, count;
} df_class;

typedef struct df_classifier_result {
  double accuracy;        // mean over both classes of the share of test sequences put right
  double standard_error;  // of the accuracy, for the number of test sequences
  double real, generated; // share put right in each class
  double loss;            // cross-entropy on the test sequences, nats (ln 2: nothing to tell)
  double held_out_loss;
  int epochs; // run; the network is that of the best one
  int best_epoch;
} df_classifier_result;

// Of the config only the fields count: names, mean, std and threshold. Movements of a pen (fields dx and
// dy) are also summed up to positions.
df_status df_classify(df_classifier_result *result, const df_config *config, df_class train_real,
                      df_class train_generated, df_class test_real, df_class test_generated,
                      const df_classifier_options *options, df_error *error);

#endif
