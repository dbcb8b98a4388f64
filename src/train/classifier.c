#include "train/classifier.h"

#include <math.h>
#include <string.h>

#include "nn/nn.h"
#include "train/internal.h"
#include "train/metrics.h"

// Shapes: R rows (sequences) of a shard, T steps, F features of a step, H hidden, P parameters.
enum {
  PAIR = 2,    // frames per step
  SHARDS = 2,  // a batch is cut into so many, whatever the number of threads
  LADDER = 8,  // plans are made for multiples of so many steps
  CALLS = 256, // rows of a plan that only looks
};

df_classifier_options df_classifier_defaults(void) {
  return (df_classifier_options){.hidden = 64,
                                 .batch = 128,
                                 .epochs = 40,
                                 .patience = 8,
                                 .rate = 2e-3,
                                 .weight_decay = 0.02,
                                 .held_out = 0.15};
}

// ---- Sequences as features ----

// All sequences of both classes. A step is PAIR frames, each its fields, where it stands, and 1; a frame
// behind the end is all 0.
typedef struct examples {
  int count, F;
  int32_t *steps; // (count)
  size_t *begin;  // (count) in floats
  float *values;  // (total steps, F)
  float *labels;  // (count) 1: generated
  float *weights; // (count) both classes weigh the same together; mean 1
} examples;

static void examples_free(examples *e) {
  df_free(e->steps);
  df_free(e->begin);
  df_free(e->values);
  df_free(e->labels);
  df_free(e->weights);
  *e = (examples){0};
}

// A magnified field tells values apart that lie within a tenth of a standard deviation around 0.
static const float MAGNIFIED = 0.05f;

// Where the pen stands is scaled so that a drawing a few strokes wide fills the range of the network.
static const float POSITION_SCALE = 0.4f;

// What a frame becomes.
typedef struct layout {
  const df_config *config;
  df_pen pen;
  bool moves, fine; // fields dx and dy are summed up; magnified fields are there
  int width;        // floats per frame
} layout;

static layout layout_of(const df_config *config, bool fine) {
  layout l = {.config = config, .fine = fine};
  l.moves = df_pen_find(&l.pen, config) && !l.pen.positions;
  l.width = config->field_count + (l.moves ? 2 : 0) + 1;
  for (int c = 0; fine && c < config->field_count; c++) l.width += !config->fields[c].binary;
  return l;
}

static void fill_features(float *out, const layout *l, const df_dataset *data, int sequence) {
  int C = l->config->field_count;
  const df_field *fields = l->config->fields;
  float x = 0, y = 0;
  for (int f = data->offsets[sequence]; f < data->offsets[sequence + 1]; f++) {
    const float *v = data->values + (size_t)f * (size_t)C;
    for (int c = 0; c < C; c++)
      *out++ = fields[c].binary ? (v[c] > fields[c].threshold ? 1.0f : -1.0f)
                                : (v[c] - fields[c].mean) / fields[c].std;
    for (int c = 0; l->fine && c < C; c++)
      if (!fields[c].binary) *out++ = tanhf(v[c] / (MAGNIFIED * fields[c].std));
    if (l->moves) {
      x += v[l->pen.x] / fields[l->pen.x].std;
      y += v[l->pen.y] / fields[l->pen.y].std;
      *out++ = POSITION_SCALE * x;
      *out++ = POSITION_SCALE * y;
    }
    *out++ = 1;
  }
}

static df_status examples_make(examples *e, const layout *l, df_class real, df_class generated,
                               df_error *error) {
  int count = real.count + generated.count;
  *e = (examples){.count = count, .F = PAIR * l->width};
  e->steps = df_alloc(sizeof(int32_t) * (size_t)count);
  e->begin = df_alloc(sizeof(size_t) * (size_t)count);
  e->labels = df_alloc(sizeof(float) * (size_t)count);
  e->weights = df_alloc(sizeof(float) * (size_t)count);
  bool memory = e->steps && e->begin && e->labels && e->weights;
  // The first round measures, the second fills.
  size_t total = 0;
  for (int round = 0; memory && round < 2; round++) {
    for (int i = 0; i < count; i++) {
      bool fake = i >= real.count;
      const df_class *class = fake ? &generated : &real;
      int sequence = class->begin + (fake ? i - real.count : i);
      if (round) {
        fill_features(e->values + e->begin[i], l, class->data, sequence);
        continue;
      }
      e->steps[i] = df_dataset_tokens(class->data, sequence, PAIR);
      if (e->steps[i] < 1) e->steps[i] = 1; // an empty sequence is one empty step
      e->begin[i] = total;
      e->labels[i] = fake;
      e->weights[i] = (float)(0.5 * count / class->count);
      total += (size_t)e->steps[i] * (size_t)e->F;
    }
    if (!round) memory = (e->values = df_alloc(sizeof(float) * total)) != NULL;
  }
  if (memory) return DF_OK;
  examples_free(e);
  return df_fail(error, DF_NO_MEMORY, "out of memory for the classifier's sequences");
}

// ---- The network ----

// The network for up to R sequences of T steps.
typedef struct unrolled {
  int T;
  df_graph *graph;
  df_plan *plan;
  df_tensor **x, **mask;     // [T] inputs (R, F), (R, 1)
  df_tensor *share;          // (R, 1) 1 / steps
  df_tensor *label, *weight; // (R, 1)
  df_tensor *logit, *loss;   // (R, 1), (1, 1) sum of weight cross-entropy
  df_tensor **grads;         // (parameters), if it learns
  df_arena arena;
} unrolled;

static void unrolled_free(unrolled *u) {
  df_plan_free(u->plan);
  df_graph_free(u->graph);
  df_arena_free(&u->arena);
  *u = (unrolled){0};
}

// One direction; *sum: of the states of all steps that exist. Returns the last state.
static df_tensor *direction(df_nn *nn, unrolled *u, int H, bool backward, df_tensor **sum) {
  df_tensor *h = df_constant(nn->graph, 1, H, true, 0);
  *sum = NULL;
  for (int i = 0; i < u->T; i++) {
    int t = backward ? u->T - 1 - i : i;
    df_tensor *next = df_nn_gru(nn, u->x[t], h, backward ? "backward" : "forward");
    // h <- h + mask (next - h): a step that does not exist leaves the state as it is
    h = df_add(h, df_mul(df_sub(next, h), u->mask[t]));
    df_tensor *seen = df_mul(h, u->mask[t]);
    *sum = *sum ? df_add(*sum, seen) : seen;
  }
  return h;
}

static df_status build(unrolled *u, df_params *params, int F, int H, int T, df_error *error) {
  df_error why = {DF_OK, ""};
  *u = (unrolled){.T = T, .graph = df_graph_create()};
  u->x = df_arena_alloc(&u->arena, sizeof *u->x * (size_t)T);
  u->mask = df_arena_alloc(&u->arena, sizeof *u->mask * (size_t)T);
  if (!u->graph || !u->x || !u->mask)
    return df_fail(error, DF_NO_MEMORY, "out of memory for the classifier");
  df_nn nn = {u->graph, params, &why};
  for (int t = 0; t < T; t++) {
    u->x[t] = df_input(u->graph, "x", 1, F, true);
    u->mask[t] = df_input(u->graph, "mask", 1, 1, true);
  }
  u->share = df_input(u->graph, "share", 1, 1, true);
  u->label = df_input(u->graph, "label", 1, 1, true);
  u->weight = df_input(u->graph, "weight", 1, 1, true);

  df_tensor *sum[2], *last[2];
  for (int d = 0; d < 2; d++) last[d] = direction(&nn, u, H, d, &sum[d]);
  df_tensor *parts[] = {df_mul(sum[0], u->share), df_mul(sum[1], u->share), last[0], last[1]};
  df_tensor *hidden = df_nn_linear(&nn, df_concat(parts, 4), H, "hidden");
  u->logit = df_nn_linear(&nn, df_unary_op(DF_GELU, 0, 0, hidden), 1, "logit");
  // cross-entropy: softplus(logit) - label logit
  df_tensor *each = df_sub(df_unary_op(DF_SOFTPLUS, 0, 0, u->logit), df_mul(u->logit, u->label));
  u->loss = df_sum_all(df_mul(each, u->weight));
  if (why.code) {
    if (error) *error = why;
    return why.code;
  }
  return DF_OK;
}

// A network that learns (gradients of the loss) or only looks (logits).
static df_status make(unrolled *u, df_params *params, int F, int H, int T, int rows, bool learns,
                      df_error *error) {
  df_status status = build(u, params, F, H, T, error);
  if (status) return status;
  int count = learns ? params->count : 0;
  df_tensor **wrt = df_arena_alloc(&u->arena, sizeof *wrt * (size_t)(count + 1));
  df_tensor **outputs = df_arena_alloc(&u->arena, sizeof *outputs * (size_t)(count + 2));
  u->grads = df_arena_alloc(&u->arena, sizeof *u->grads * (size_t)(count + 1));
  if (!wrt || !outputs || !u->grads)
    return df_fail(error, DF_NO_MEMORY, "out of memory for the classifier");
  outputs[0] = u->logit;
  outputs[1] = u->loss;
  if (learns) {
    for (int i = 0; i < count; i++) wrt[i] = df_parameter(u->graph, params->items[i]);
    status = df_gradient(u->loss, wrt, u->grads, count, error);
    if (status) return status;
    memcpy(outputs + 2, u->grads, sizeof *outputs * (size_t)count);
  }
  return df_plan_create(&u->plan, u->graph, outputs, count + 2, &(df_plan_options){.batch = rows},
                        error);
}

// Puts example i into row b. The inputs keep their values between runs, so all T steps are written.
static void fill_row(unrolled *u, int b, const examples *e, int i) {
  size_t F = (size_t)e->F;
  const float *from = e->values + e->begin[i];
  for (int t = 0; t < u->T; t++) {
    bool there = t < e->steps[i];
    float *x = df_plan_data(u->plan, u->x[t]) + (size_t)b * F;
    if (there)
      memcpy(x, from + (size_t)t * F, sizeof(float) * F);
    else
      memset(x, 0, sizeof(float) * F);
    df_plan_data(u->plan, u->mask[t])[b] = there;
  }
  df_plan_data(u->plan, u->share)[b] = 1.0f / (float)e->steps[i];
  df_plan_data(u->plan, u->label)[b] = e->labels[i];
  df_plan_data(u->plan, u->weight)[b] = e->weights[i];
}

// ---- Learning ----

typedef struct shard {
  unrolled *plans; // one for each rung of the ladder; those never used are empty
  float *gradient; // (P)
  const int32_t *items;
  int count;
  df_error error;
} shard;

typedef struct learner {
  const df_classifier_options *options;
  const examples *train; // training and held-out sequences, or those of a test
  df_params params;
  int rungs;
  shard shards[SHARDS];
  unrolled *lookers[SHARDS]; // plans without gradients
  float *m, *v, *best;       // (P)
  const examples *looked_at; // for look_at_share
  float *logits;
} learner;

static df_status rung(unrolled **out, unrolled *plans, learner *l, int steps, int rows, bool learns,
                      df_error *error) {
  int i = (steps + LADDER - 1) / LADDER - 1;
  *out = &plans[i];
  if (plans[i].plan) return DF_OK;
  df_status status = make(&plans[i], &l->params, l->train->F, l->options->hidden, (i + 1) * LADDER,
                          rows, learns, error);
  if (status) unrolled_free(&plans[i]);
  return status;
}

// The gradient of one shard of a batch, divided by nothing yet.
static void shard_run(void *context, int i, int thread) {
  (void)thread;
  learner *l = context;
  shard *s = &l->shards[i];
  memset(s->gradient, 0, sizeof(float) * l->params.size);
  if (s->error.code || !s->count) return;
  int longest = 1;
  for (int j = 0; j < s->count; j++)
    if (l->train->steps[s->items[j]] > longest) longest = l->train->steps[s->items[j]];
  unrolled *u;
  int rows = (l->options->batch + SHARDS - 1) / SHARDS;
  if (rung(&u, s->plans, l, longest, rows, true, &s->error)) return;
  for (int j = 0; j < s->count; j++) fill_row(u, j, l->train, s->items[j]);
  if (df_plan_run(u->plan, s->count, &s->error)) return;
  for (int p = 0; p < l->params.count; p++) {
    const df_param *param = l->params.items[p];
    if (u->grads[p])
      memcpy(s->gradient + param->offset, df_plan_data(u->plan, u->grads[p]),
             sizeof(float) * (size_t)param->rows * (size_t)param->cols);
  }
}

// AdamW on the mean gradient of a batch, its norm clipped to 1; the rate warms up over 50 steps.
static void step(learner *l, int number, int batch, double rate) {
  const df_kernels *k = df_kernels_best();
  float *sum = l->shards[0].gradient;
  for (int s = 1; s < SHARDS; s++)
    for (size_t i = 0; i < l->params.size; i++) sum[i] += l->shards[s].gradient[i];
  double norm = sqrt(k->sum_squares(l->params.size, sum)) / batch;
  double scale = (norm > 1 ? 1 / norm : 1) / batch;
  double warm = number < 50 ? (number + 1) / 50.0 : 1;
  const double beta1 = 0.9, beta2 = 0.99;
  k->adamw(l->params.size, l->params.values, sum, l->m, l->v, (float)scale, (float)(rate * warm),
           (float)beta1, (float)beta2, 1e-8f, (float)l->options->weight_decay,
           (float)(1 - pow(beta1, number + 1)), (float)(1 - pow(beta2, number + 1)));
}

// Logits of the examples that fall to shard i: blocks of CALLS in turn.
static void look_at_share(void *context, int i, int thread) {
  (void)thread;
  learner *l = context;
  const examples *e = l->looked_at;
  df_error *error = &l->shards[i].error;
  for (int begin = i * CALLS; begin < e->count && !error->code; begin += SHARDS * CALLS) {
    int n = e->count - begin < CALLS ? e->count - begin : CALLS, longest = 1;
    for (int j = 0; j < n; j++)
      if (e->steps[begin + j] > longest) longest = e->steps[begin + j];
    unrolled *u;
    if (rung(&u, l->lookers[i], l, longest, CALLS, false, error)) return;
    for (int j = 0; j < n; j++) fill_row(u, j, e, begin + j);
    if (df_plan_run(u->plan, n, error)) return;
    memcpy(l->logits + begin, df_plan_data(u->plan, u->logit), sizeof(float) * (size_t)n);
  }
}

static df_status shard_errors(learner *l, df_error *error) {
  for (int s = 0; s < SHARDS; s++)
    if (l->shards[s].error.code) {
      if (error) *error = l->shards[s].error;
      return l->shards[s].error.code;
    }
  return DF_OK;
}

// Mean cross-entropy of the examples, and the shares put right in each class.
static df_status look(learner *l, const examples *e, double *loss, double right[2],
                      df_error *error) {
  l->looked_at = e;
  df_threads_run(l->options->threads, SHARDS, look_at_share, l);
  df_status status = shard_errors(l, error);
  if (status) return status;
  double sum = 0, weights = 0, count[2] = {0}, good[2] = {0};
  for (int i = 0; i < e->count; i++) {
    double logit = l->logits[i];
    int label = e->labels[i] > 0;
    double signed_logit = label ? logit : -logit;
    sum += e->weights[i] *
           (signed_logit > 0 ? log1p(exp(-signed_logit)) : log1p(exp(signed_logit)) - signed_logit);
    weights += e->weights[i];
    count[label]++;
    good[label] += signed_logit > 0 ? 1 : signed_logit == 0 ? 0.5 : 0;
  }
  *loss = sum / weights;
  for (int i = 0; right && i < 2; i++) right[i] = good[i] / count[i];
  return DF_OK;
}

static df_status learner_make(learner *l, const df_classifier_options *o, const examples *train,
                              int longest, int most, df_error *error) {
  *l = (learner){.options = o, .train = train, .rungs = (longest + LADDER - 1) / LADDER};
  // The parameters are declared by building the network once.
  unrolled first;
  df_status status = build(&first, &l->params, train->F, o->hidden, 1, error);
  unrolled_free(&first);
  if (!status) status = df_params_seal(&l->params, error);
  if (status) return status;
  df_params_init(&l->params, o->seed);
  size_t block = sizeof(float) * l->params.size;
  l->m = df_alloc(block);
  l->v = df_alloc(block);
  l->best = df_alloc(block);
  l->logits = df_alloc(sizeof(float) * (size_t)most);
  bool memory = l->m && l->v && l->best && l->logits;
  for (int s = 0; s < SHARDS; s++) {
    l->shards[s].plans = df_alloc(sizeof(unrolled) * (size_t)l->rungs);
    l->shards[s].gradient = df_alloc(block);
    l->lookers[s] = df_alloc(sizeof(unrolled) * (size_t)l->rungs);
    memory = memory && l->shards[s].plans && l->shards[s].gradient && l->lookers[s];
  }
  return memory ? DF_OK : df_fail(error, DF_NO_MEMORY, "out of memory for the classifier");
}

static void learner_free(learner *l) {
  for (int s = 0; s < SHARDS; s++) {
    for (int i = 0; i < l->rungs; i++) {
      if (l->shards[s].plans) unrolled_free(&l->shards[s].plans[i]);
      if (l->lookers[s]) unrolled_free(&l->lookers[s][i]);
    }
    df_free(l->shards[s].plans);
    df_free(l->shards[s].gradient);
    df_free(l->lookers[s]);
  }
  df_free(l->m);
  df_free(l->v);
  df_free(l->best);
  df_free(l->logits);
  df_params_free(&l->params);
}

static df_status learn(learner *l, const examples *held, df_classifier_result *r, df_error *error) {
  const df_classifier_options *o = l->options;
  const examples *train = l->train;
  df_order order;
  df_status status = df_order_create(&order, train->steps, train->count, o->batch, o->seed, error);
  if (status) return status;
  r->held_out_loss = INFINITY;
  int number = 0;
  double rate = o->rate;
  for (int epoch = 0; !status && epoch < o->epochs; epoch++) {
    df_order_epoch(&order, epoch);
    for (int b = 0; !status && b < order.batches; b++) {
      const int32_t *items = order.sequences + (size_t)b * (size_t)order.batch;
      int half = (order.batch + SHARDS - 1) / SHARDS;
      for (int s = 0; s < SHARDS; s++) {
        // The order puts the longest first: one shard has the longer half.
        int left = order.batch - s * half;
        l->shards[s].items = items + s * half;
        l->shards[s].count = left < 0 ? 0 : left < half ? left : half;
      }
      df_threads_run(o->threads, SHARDS, shard_run, l);
      status = shard_errors(l, error);
      if (!status) step(l, number++, order.batch, rate);
    }
    double loss;
    if (!status) status = look(l, held, &loss, NULL, error);
    if (status) break;
    r->epochs = epoch + 1;
    if (loss < r->held_out_loss) {
      r->held_out_loss = loss;
      r->best_epoch = epoch + 1;
      memcpy(l->best, l->params.values, sizeof(float) * l->params.size);
    }
    if (o->report && !o->report(o->context, epoch + 1, o->epochs, loss))
      status = df_fail(error, DF_STOPPED, "stopped on request");
    int worse = r->epochs - r->best_epoch;
    if (worse >= o->patience) break;
    if (worse && worse % ((o->patience + 1) / 2) == 0) rate /= 2;
  }
  df_order_free(&order);
  if (!status && !r->best_epoch)
    status = df_fail(error, DF_BAD_VALUE, "the classifier's held-out loss is not a number");
  if (!status) memcpy(l->params.values, l->best, sizeof(float) * l->params.size);
  return status;
}

static int longest_of(const examples *e) {
  int longest = 1;
  for (int i = 0; i < e->count; i++)
    if (e->steps[i] > longest) longest = e->steps[i];
  return longest;
}

df_status df_classify(df_classifier_result *r, const df_config *config, df_class train_real,
                      df_class train_generated, df_class test_real, df_class test_generated,
                      const df_classifier_options *options, df_error *error) {
  *r = (df_classifier_result){0};
  // The held-out sequences of each class are its last ones.
  df_class held_real = train_real, held_generated = train_generated;
  held_real.count = (int)(train_real.count * options->held_out);
  held_generated.count = (int)(train_generated.count * options->held_out);
  train_real.count -= held_real.count;
  train_generated.count -= held_generated.count;
  held_real.begin += train_real.count;
  held_generated.begin += train_generated.count;
  if (held_real.count < 1 || held_generated.count < 1 || train_real.count < 1 ||
      train_generated.count < 1 || test_real.count < 1 || test_generated.count < 1)
    return df_fail(error, DF_BAD_ARGUMENT, "too few sequences for the classifier");

  layout features = layout_of(config, options->fine);
  examples train = {0}, held = {0}, test = {0};
  learner l = {0};
  double right[2];
  df_status status = examples_make(&train, &features, train_real, train_generated, error);
  if (!status) status = examples_make(&held, &features, held_real, held_generated, error);
  if (!status) status = examples_make(&test, &features, test_real, test_generated, error);
  if (!status) {
    int longest = longest_of(&train), most = held.count > test.count ? held.count : test.count;
    if (longest_of(&held) > longest) longest = longest_of(&held);
    if (longest_of(&test) > longest) longest = longest_of(&test);
    status = learner_make(&l, options, &train, longest, most, error);
  }
  if (!status) status = learn(&l, &held, r, error);
  if (!status) status = look(&l, &test, &r->loss, right, error);
  if (!status) {
    r->real = right[0];
    r->generated = right[1];
    r->accuracy = (right[0] + right[1]) / 2;
    // Each class is a binomial share; their mean has a quarter of the summed variances.
    r->standard_error = sqrt(right[0] * (1 - right[0]) / test_real.count +
                             right[1] * (1 - right[1]) / test_generated.count) /
                        2;
  }
  learner_free(&l);
  examples_free(&train);
  examples_free(&held);
  examples_free(&test);
  return status;
}
