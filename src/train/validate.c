// Held-out loss: the whole validation set once, with the moving averages of the weights, always with the same
// levels and noise.
#include <math.h>
#include <string.h>

#include "train/internal.h"

// Some sequences of similar length, computed together; results in float64.
typedef struct group {
  df_trainer *trainer;
  df_loss *loss, *clean;
  df_scratch *scratch;
  const int32_t *sequences;
  int rows;
  double tokens, sum, stop, stop_clean, level_sum[10], level_count[10];
  df_status status;
  df_error error;
} group;

static void run_group(void *context, int i, int thread) {
  (void)thread;
  group *g = &((group *)context)[i];
  df_trainer *t = g->trainer;
  const df_network *net = &t->config.network;
  df_loss *l = g->loss;
  int D = net->token_size;
  df_loss_clear(l, net, g->rows);
  if (g->clean) df_loss_clear(g->clean, net, g->rows);
  for (int b = 0; b < g->rows; b++) {
    g->tokens += df_trainer_fill(t, l, b, g->sequences[b], DF_VALID_STEP, 1.0 / D, 1, g->scratch);
    if (g->clean)
      df_trainer_fill(t, g->clean, b, g->sequences[b], DF_VALID_STEP, 1.0 / D, 1, g->scratch);
  }
  g->status = df_loss_run(l, g->rows, NULL, &g->error);
  if (!g->status && g->clean) g->status = df_loss_run(g->clean, g->rows, NULL, &g->error);
  if (g->status) return;
  g->sum = l->loss[0];
  if (l->stop) g->stop = l->stop[0];
  if (g->clean) g->stop_clean = g->clean->stop[0];
  for (int b = 0; b < g->rows; b++)
    for (int k = 0; k < t->valid_tokens[g->sequences[b]]; k++) {
      int level = (int)l->level[k][b]; // 0 .. K - 1
      int range = (int)((int64_t)level * 10 / t->config.K);
      double sum = 0;
      for (int j = 0; j < D; j++) {
        double d = (double)l->out[k][b * D + j] - l->target[k][b * D + j];
        sum += d * d;
      }
      g->level_sum[range] += sum / D;
      g->level_count[range]++;
    }
}

static void swap(float *a, float *b, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float x = a[i];
    a[i] = b[i];
    b[i] = x;
  }
}

static df_status run_groups(df_trainer *t, group *groups, int count, df_validation *v,
                            df_error *error) {
  const df_config *c = &t->config;
  const df_recipe *r = t->recipe;
  int size = (t->order.batch + r->shards - 1) / r->shards, at = 0;
  double tokens = 0, level_sum[10] = {0}, level_count[10] = {0};
  while (at < t->valid.count) {
    int used = 0;
    df_status status = DF_OK;
    for (; used < count && at < t->valid.count && !status; used++) {
      group *g = &groups[used];
      int rows = t->valid.count - at < size ? t->valid.count - at : size;
      int T = df_network_sees_all(&c->network) ? c->network.window
                                               : t->valid_tokens[t->valid_order[at]];
      *g = (group){
          .trainer = t, .scratch = g->scratch, .sequences = t->valid_order + at, .rows = rows};
      at += rows;
      status =
          df_loss_take(&t->cache, &g->loss, DF_LOSS_VALUE, r->mode, c, &t->params, T, size, error);
      if (!status && c->network.stop_head)
        status = df_loss_take(&t->cache, &g->clean, DF_LOSS_CLEAN, r->mode, c, &t->params, T, size,
                              error);
    }
    if (!status) df_threads_run(t->threads, used, run_group, groups);
    for (int i = 0; i < used; i++) {
      group *g = &groups[i];
      if (g->loss) g->loss->busy = 0;
      if (g->clean) g->clean->busy = 0;
      if (!status && g->status) status = df_fail(error, g->status, "%s", g->error.message);
      tokens += g->tokens;
      v->loss += g->sum;
      v->stop += g->stop;
      v->stop_clean += g->stop_clean;
      for (int k = 0; k < 10; k++) {
        level_sum[k] += g->level_sum[k];
        level_count[k] += g->level_count[k];
      }
    }
    if (status) return status;
  }
  v->loss /= tokens;
  v->stop /= t->valid.count;
  v->stop_clean /= t->valid.count;
  for (int k = 0; k < 10; k++)
    v->by_level[k] = level_count[k] ? level_sum[k] / level_count[k] : NAN;
  return DF_OK;
}

df_status df_trainer_validate(df_trainer *t, df_validation *v, df_error *error) {
  *v = (df_validation){0};
  int count = df_threads_count(t->threads);
  if (count > t->recipe->shards) count = t->recipe->shards; // each needs a scratch
  group *groups = df_alloc((size_t)count * sizeof *groups);
  if (!groups) return df_fail(error, DF_NO_MEMORY, "no memory for the validation");
  for (int i = 0; i < count; i++) groups[i].scratch = df_trainer_scratch(t, i);
  swap(t->params.values, t->optimiser.ema, t->params.size);
  df_status status = run_groups(t, groups, count, v, error);
  swap(t->params.values, t->optimiser.ema, t->params.size);
  df_free(groups);
  if (!status && !isfinite(v->loss + v->stop))
    status = df_fail(error, DF_BAD_VALUE, "step %d: the validation loss is not a finite number",
                     t->step);
  return status;
}
