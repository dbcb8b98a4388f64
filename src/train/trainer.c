// The trainer: what a step is, and the run from the first step to the last.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/progress.h"
#include "io/file.h"
#include "train/internal.h"

// What one shard of a step works with. Shards run on different threads.
struct df_shard {
  df_trainer *trainer;
  df_loss *loss;
  df_scratch scratch;
  const int32_t *sequences; // rows of them
  int rows, step;
  double token_weight, stop_weight;
  float *gradient; // (P)
  int tokens;      // that counted
  df_status status;
  df_error error;
};

enum { CACHE_BYTES_MB = 2048 };

// ---- Making and freeing ----

static df_status scratch_create(df_scratch *s, const df_trainer *t, df_error *error) {
  const df_config *c = &t->config;
  size_t D = (size_t)c->network.token_size, n = (size_t)t->longest;
  s->frames = df_alloc((size_t)c->frame_stack * (size_t)c->field_count * sizeof(float));
  s->tokens = df_alloc(n * D * sizeof(float));
  s->cond = df_alloc(n * (size_t)c->network.condition_size * sizeof(float));
  s->eps = df_alloc(D * sizeof(float));
  s->levels = df_alloc(n * sizeof(int32_t));
  s->weights = df_alloc(n * sizeof(float));
  if (s->frames && s->tokens && s->cond && s->eps && s->levels && s->weights) return DF_OK;
  return df_fail(error, DF_NO_MEMORY, "no memory for sequences of %d tokens", t->longest);
}

static void scratch_free(df_scratch *s) {
  df_free(s->frames);
  df_free(s->tokens);
  df_free(s->cond);
  df_free(s->eps);
  df_free(s->levels);
  df_free(s->weights);
}

static df_status read_data(df_trainer *t, df_error *error) {
  const df_recipe *r = t->recipe;
  int C = r->config.field_count, fs = r->config.frame_stack;
  int E = r->config.network.condition_size, O = r->config.network.observation_size;
  df_status status;
  if ((status = df_dataset_read(&t->train, &r->train, C, E / fs, O, error)) ||
      (status = df_dataset_read(&t->valid, &r->valid, C, E / fs, O, error)))
    return status;
  if (r->positions) {
    df_dataset_to_positions(&t->train);
    df_dataset_to_positions(&t->valid);
  }
  t->tokens = df_alloc((size_t)t->train.count * sizeof(int32_t));
  t->valid_tokens = df_alloc((size_t)t->valid.count * sizeof(int32_t));
  t->valid_order = df_alloc((size_t)t->valid.count * sizeof(int32_t));
  int32_t *scratch = df_alloc((size_t)t->valid.count * sizeof(int32_t));
  if (!t->tokens || !t->valid_tokens || !t->valid_order || !scratch) {
    df_free(scratch);
    return df_fail(error, DF_NO_MEMORY, "no memory for %d sequences", t->train.count);
  }
  double total = 0;
  for (int i = 0; i < t->train.count; i++) {
    t->tokens[i] = df_dataset_tokens(&t->train, i, fs);
    total += t->tokens[i];
    if (t->tokens[i] > t->longest) t->longest = t->tokens[i];
  }
  for (int i = 0; i < t->valid.count; i++) {
    t->valid_tokens[i] = df_dataset_tokens(&t->valid, i, fs);
    if (t->valid_tokens[i] > t->longest) t->longest = t->valid_tokens[i];
    t->valid_order[i] = i;
  }
  const int window = r->config.network.window;
  if (window && t->longest > window) {
    df_free(scratch);
    return df_fail(
        error, DF_BAD_CONFIG,
        "model.denoiser.window: the longest sequence has %d tokens, found a window of %d",
        t->longest, window);
  }
  df_order_sort(t->valid_order, t->valid.count, t->valid_tokens, scratch);
  df_free(scratch);
  if ((status = df_order_create(&t->order, t->tokens, t->train.count, r->batch, r->seed, error)))
    return status;
  t->tokens_per_batch = total / t->train.count * t->order.batch;
  return DF_OK;
}

static df_status create(df_trainer *t, int threads, df_error *error) {
  const df_recipe *r = t->recipe;
  df_status status;
  if ((status = read_data(t, error))) return status;
  t->mean = df_alloc((size_t)t->train.fields * sizeof(float));
  t->std = df_alloc((size_t)t->train.fields * sizeof(float));
  t->shards = df_alloc((size_t)r->shards * sizeof *t->shards);
  if (!t->mean || !t->std || !t->shards) return df_fail(error, DF_NO_MEMORY, "no memory");
  df_dataset_statistics(&t->train, t->mean, t->std);
  char *text = df_recipe_config(r, t->mean, t->std, NULL, error);
  if (!text) return DF_NO_MEMORY;
  status = df_config_parse(&t->config, text, strlen(text), error);
  df_free(text);
  if (status || (status = df_noise_create(&t->noise, t->config.noise, t->config.K, error)) ||
      (status = df_network_declare(&t->config.network, &t->params, error)) ||
      (status = df_threads_create(&t->threads, threads, error)) ||
      (status = df_optimiser_create(&t->optimiser, r, t->threads, &t->params, error)))
    return status;
  t->best = df_alloc(t->params.size * sizeof(float));
  if (!t->best) return df_fail(error, DF_NO_MEMORY, "no memory for %zu weights", t->params.size);
  df_params_init(&t->params, r->seed);
  memcpy(t->optimiser.ema, t->params.values, t->params.size * sizeof(float));
  t->best_loss = -1;
  t->cache.limit = (size_t)CACHE_BYTES_MB << 20;
  for (int i = 0; i < r->shards; i++) {
    t->shards[i].trainer = t;
    t->shards[i].gradient = t->optimiser.gradients + (size_t)i * t->params.size;
    if ((status = scratch_create(&t->shards[i].scratch, t, error))) return status;
  }
  return DF_OK;
}

df_status df_trainer_create(df_trainer **trainer, const df_recipe *recipe, int threads,
                            df_error *error) {
  *trainer = NULL;
  df_trainer *t = df_alloc(sizeof *t);
  if (!t) return df_fail(error, DF_NO_MEMORY, "no memory for a trainer");
  t->recipe = recipe;
  df_status status = create(t, threads, error);
  if (status) {
    df_trainer_free(t);
    return status;
  }
  *trainer = t;
  return DF_OK;
}

void df_trainer_free(df_trainer *t) {
  if (!t) return;
  for (int i = 0; t->shards && i < t->recipe->shards; i++) scratch_free(&t->shards[i].scratch);
  df_free(t->shards);
  df_loss_cache_free(&t->cache);
  df_optimiser_free(&t->optimiser);
  df_threads_free(t->threads);
  df_params_free(&t->params);
  df_noise_free(&t->noise);
  df_config_free(&t->config);
  df_order_free(&t->order);
  df_dataset_free(&t->train);
  df_dataset_free(&t->valid);
  df_free(t->tokens);
  df_free(t->valid_tokens);
  df_free(t->valid_order);
  df_free(t->mean);
  df_free(t->std);
  df_free(t->best);
  df_free(t);
}

df_scratch *df_trainer_scratch(df_trainer *t, int shard) { return &t->shards[shard].scratch; }

// ---- Examples ----

// Levels 1 .. K of the tokens of a sequence.
static void draw_levels(const df_trainer *t, df_random at, int T, int32_t *levels) {
  at.purpose = DF_RANDOM_LEVEL;
  bool same = t->recipe->mode == DF_MODE_FULL_SEQUENCE;
  for (int i = 0; i < T; i++) {
    uint32_t block[4];
    at.token = same ? 0 : (uint32_t)i;
    df_random_block(&at, 0, block);
    levels[i] = 1 + (int32_t)(((uint64_t)block[0] * (uint64_t)t->config.K) >> 32);
  }
}

// One number in [0, 1) for a sequence in a step.
static double draw(df_random at, df_purpose purpose, uint32_t token) {
  at.purpose = purpose;
  at.token = token;
  return df_random_double(&at);
}

int df_trainer_fill(const df_trainer *t, df_loss *l, int b, int sequence, int step,
                    double token_weight, double stop_weight, df_scratch *s) {
  const df_recipe *r = t->recipe;
  const df_config *c = &t->config;
  const df_dataset *data = step < 0 ? &t->valid : &t->train;
  int D = c->network.token_size, E = c->network.condition_size;
  df_random at = {.seed = r->seed, .sequence = (uint32_t)sequence, .row = (uint32_t)step};
  df_augment augment = {{1, 0, 0, 1}};
  if (step >= 0) augment = df_augment_draw(r, sequence, step / t->order.batches);
  int T = df_encode_sequence(c, data, sequence, &augment, s->frames, s->tokens, E ? s->cond : NULL);

  const int O = data->observation_size;
  if (O) df_config_observe(c, data->observations + (size_t)sequence * O, l->observation + b * O);
  for (int i = 0; l->cond && i < T; i++)
    memcpy(l->cond[i] + b * E, s->cond + i * E, (size_t)E * sizeof(float));
  for (int i = 0; l->clean && i < T; i++)
    if (l->clean[i]) memcpy(l->clean[i] + b * D, s->tokens + i * D, (size_t)D * sizeof(float));
  for (int i = 0; l->stop_weight && i <= T; i++) {
    l->stop_weight[b * (l->T + 1) + i] = (float)stop_weight;
    l->stop_target[b * (l->T + 1) + i] = i == T;
  }
  if (!l->x) return 0;

  // A sequence for the stop head alone: what it reads are the latents of clean tokens.
  bool clean = step >= 0 && r->stop_clean > 0 && r->mode != DF_MODE_TEACHER_FORCING &&
               draw(at, DF_RANDOM_STOP, 0) < r->stop_clean;
  if (clean) {
    for (int i = 0; i < T; i++)
      memcpy(l->x[i] + b * D, s->tokens + i * D, (size_t)D * sizeof(float));
    return 0;
  }

  // Where a token sees all others, what is behind the end is padding: zeros at the highest level.
  if (df_network_sees_all(&c->network))
    for (int i = T; i < l->T; i++) l->level[i][b] = (float)df_network_level(c->K);

  draw_levels(t, at, T, s->levels);
  df_loss_weights(&t->noise, r->loss_weight, c->objective, (float)r->snr_clip,
                  (float)pow(r->cumulative_decay, c->frame_stack), s->levels, T, s->weights);
  bool given = l->given && draw(at, DF_RANDOM_GUESS, 0) < 0.5;
  for (int i = 0; i < T; i++) {
    int level = s->levels[i];
    at.token = (uint32_t)i;
    at.purpose = DF_RANDOM_NOISE;
    df_random_normal(&at, D, s->eps);
    df_noise_token(&t->noise, c, level, s->tokens + i * D, s->eps, l->x[i] + b * D,
                   l->target[i] + b * D);
    l->level[i][b] = (float)df_network_level(level);
    float weight = (float)(token_weight * s->weights[i]);
    for (int j = 0; j < D; j++) l->weight[i][b * D + j] = weight;
    if (!l->given) continue;
    const df_noise *n = &t->noise;
    l->given[i][b] = given;
    l->guess_x[i][b] = c->objective == DF_PREDICT_NOISE ? n->sqrt_recip[level]
                       : c->objective == DF_PREDICT_X0  ? 0
                                                        : n->sqrt_abar[level];
    l->guess_out[i][b] = c->objective == DF_PREDICT_NOISE ? -n->sqrt_recipm1[level]
                         : c->objective == DF_PREDICT_X0  ? 1
                                                          : -n->sqrt_1m[level];
  }
  return T;
}

// ---- A step ----

static void run_shard(void *context, int i, int thread) {
  (void)thread;
  df_shard *s = &((df_shard *)context)[i];
  df_loss_clear(s->loss, &s->trainer->config.network, s->rows);
  s->tokens = 0;
  for (int b = 0; b < s->rows; b++)
    s->tokens += df_trainer_fill(s->trainer, s->loss, b, s->sequences[b], s->step, s->token_weight,
                                 s->stop_weight, &s->scratch);
  s->status = df_loss_run(s->loss, s->rows, s->gradient, &s->error);
}

df_status df_trainer_step(df_trainer *t, double *norm, df_error *error) {
  const df_recipe *r = t->recipe;
  const df_config *c = &t->config;
  df_order *o = &t->order;
  df_order_epoch(o, t->step / o->batches);
  const int32_t *batch = o->sequences + (size_t)(t->step % o->batches) * o->batch;
  int most = (o->batch + r->shards - 1) / r->shards;
  df_status status = DF_OK;
  for (int i = 0; i < r->shards; i++) {
    df_shard *s = &t->shards[i];
    int begin = (int)((int64_t)o->batch * i / r->shards);
    int end = (int)((int64_t)o->batch * (i + 1) / r->shards);
    s->sequences = batch + begin;
    s->rows = end - begin;
    s->step = t->step;
    s->token_weight = 1 / (t->tokens_per_batch * c->network.token_size);
    s->stop_weight = r->stop_weight / o->batch;
    int T = df_network_sees_all(&c->network) ? c->network.window : 0;
    for (int b = 0; b < s->rows; b++)
      if (t->tokens[s->sequences[b]] > T) T = t->tokens[s->sequences[b]];
    s->loss = NULL;
    if (!status && s->rows)
      status =
          df_loss_take(&t->cache, &s->loss, DF_LOSS_TRAIN, r->mode, c, &t->params, T, most, error);
  }
  if (!status) df_threads_run(t->threads, r->shards, run_shard, t->shards);
  double loss = 0, stop = 0, tokens = 0;
  for (int i = 0; i < r->shards; i++) {
    df_shard *s = &t->shards[i];
    if (!s->loss) continue;
    s->loss->busy = 0;
    if (!status && s->status) status = df_fail(error, s->status, "%s", s->error.message);
    if (status) continue;
    loss += s->loss->loss[0];
    if (s->loss->stop) stop += s->loss->stop[0];
    tokens += s->tokens;
  }
  if (status) return status;
  double rate = df_learning_rate(r, t->step);
  *norm = df_optimiser_step(&t->optimiser, t->params.values, t->step, rate);
  if (!isfinite(*norm) || !isfinite(loss) || !isfinite(stop))
    return df_fail(error, DF_BAD_VALUE,
                   "step %d: the loss or its gradient is not a finite number; a lower rate or a "
                   "smaller clip_gradient may help",
                   t->step);
  t->step++;
  t->sum_loss += loss * t->tokens_per_batch;
  t->sum_stop += r->stop_weight > 0 ? stop / r->stop_weight * o->batch : 0;
  t->sum_norm += *norm;
  t->sum_tokens += tokens;
  t->sum_sequences += o->batch;
  t->sum_steps++;
  return DF_OK;
}

// ---- A run ----

static void fill_report(df_trainer *t, df_train_report *report, double norm, double seconds,
                        double speed) {
  *report =
      (df_train_report){.step = t->step,
                        .steps = t->recipe->steps,
                        .loss = t->sum_tokens > 0 ? t->sum_loss / t->sum_tokens : 0,
                        .loss_stop = t->sum_sequences > 0 ? t->sum_stop / t->sum_sequences : 0,
                        .gradient_norm = norm,
                        .rate = df_learning_rate(t->recipe, t->step - 1),
                        .tokens_per_second = speed,
                        .seconds = seconds,
                        .best_loss = t->best_loss,
                        .best_step = t->best_step};
}

static df_status validate(df_trainer *t, const char *folder, df_train_report *report,
                          df_error *error) {
  df_validation v;
  df_status status = df_trainer_validate(t, &v, error);
  if (status) return status;
  report->validated = true;
  report->valid_loss = v.loss;
  report->valid_stop = v.stop;
  report->valid_stop_clean = v.stop_clean;
  memcpy(report->valid_by_level, v.by_level, sizeof v.by_level);
  double all = v.loss + t->recipe->stop_weight * v.stop; // what training lowers
  if (t->best_loss < 0 || all < t->best_loss) {
    report->improved = true;
    t->best_loss = all;
    t->best_valid = v.loss;
    t->best_stop = v.stop;
    t->best_step = t->step;
    memcpy(t->best, t->optimiser.ema, t->params.size * sizeof(float));
    if ((status = df_trainer_export(t, folder, error))) return status;
  }
  report->best_loss = t->best_loss;
  report->best_step = t->best_step;
  return DF_OK;
}

static df_status log_step(df_trainer *t, df_log *log, const df_train_report *report,
                          df_error *error) {
  df_log_line line = {.step = report->step,
                      .seconds = report->seconds,
                      .loss = report->loss,
                      .stop = report->loss_stop,
                      .norm = t->sum_norm / t->sum_steps,
                      .rate = report->rate,
                      .speed = report->tokens_per_second,
                      .validated = report->validated,
                      .valid = report->valid_loss,
                      .valid_stop = report->valid_stop,
                      .valid_stop_clean = report->valid_stop_clean};
  memcpy(line.level, report->valid_by_level, sizeof line.level);
  t->sum_loss = t->sum_stop = t->sum_norm = t->sum_tokens = t->sum_sequences = 0;
  t->sum_steps = 0;
  return df_log_add(log, &line, error);
}

static df_status save(df_trainer *t, const df_log *log, const char *folder, df_error *error) {
  df_status status = df_trainer_save(t, folder, error);
  if (!status && t->best_loss < 0) status = df_trainer_export(t, folder, error);
  if (!status) status = df_log_draw(log, t->recipe->name, error);
  return status;
}

static df_status run(df_trainer *t, df_log *log, const df_train_options *options, df_error *error) {
  const df_recipe *r = t->recipe;
  double earlier = t->seconds, begin = df_seconds(), speed_begin = begin, speed_tokens = 0;
  bool stopped = false;
  df_status status;
  // A run that was finished before: the recipe may say something new about what does not fix the weights.
  if (t->step >= r->steps) return df_trainer_export(t, options->folder, error);
  while (t->step < r->steps && !stopped) {
    double norm = 0, before = t->sum_tokens;
    if ((status = df_trainer_step(t, &norm, error))) return status;
    double now = df_seconds();
    speed_tokens += t->sum_tokens - before;
    t->seconds = earlier + now - begin;
    df_train_report report;
    fill_report(t, &report, norm, t->seconds, speed_tokens / (now - speed_begin + 1e-9));
    bool last = t->step == r->steps;
    stopped = options->stop && *options->stop;
    if ((last || t->step % r->valid_every == 0) &&
        (status = validate(t, options->folder, &report, error)))
      return status;
    report.logged = last || report.validated || t->step % r->log_every == 0;
    if (report.logged) {
      if ((status = log_step(t, log, &report, error))) return status;
      speed_begin = df_seconds(); // validation does not count
      speed_tokens = 0;
    }
    if (options->report && !options->report(options->context, &report)) stopped = true;
    if (last || stopped || t->step % r->save_every == 0)
      if ((status = save(t, log, options->folder, error))) return status;
  }
  if (stopped && t->step < r->steps)
    return df_fail(error, DF_STOPPED, "stopped after step %d of %d; the state is saved", t->step,
                   r->steps);
  return DF_OK;
}

df_status df_train(const df_recipe *recipe, const df_train_options *options, df_error *error) {
  df_trainer *t = NULL;
  df_log log = {0};
  df_status status;
  if (!options->folder) return df_fail(error, DF_BAD_ARGUMENT, "a run needs a folder");
  if ((status = df_file_make_folder(options->folder, error))) return status;
  char path[1024];
  snprintf(path, sizeof path, "%s/state.safetensors", options->folder);
  FILE *old = fopen(path, "rb");
  if (old) fclose(old);
  if (old && !options->resume && !options->restart)
    return df_fail(error, DF_WRONG_STATE,
                   "%s holds a run already: resume it, restart it, or name another folder",
                   options->folder);
  if ((status = df_trainer_create(&t, recipe, options->threads, error))) return status;
  if (!status && options->resume) status = df_trainer_load(t, options->folder, error);
  if (!status) status = df_log_open(&log, options->folder, t->step, error);
  if (!status) status = run(t, &log, options, error);
  df_log_close(&log);
  df_trainer_free(t);
  return status;
}
