// The training loss as a graph, planned for a number of tokens, with its gradient.
//
//   independent, full sequence   out_t = network(x_0 .. x_t, at their levels)             one chain of noised tokens
//   teacher forcing              out_t = network(clean_0 .. clean_{t-1}, x_t at level_t)  a chain of clean tokens,
//                                                                                         beside it each token noised
//
//   loss = sum over t, rows, entries of weight (out - target)^2
//   stop = sum over t = 0..T, rows of stop_weight (softplus(l_t) - stop_target l_t)
//          with l_t the logit, from the tokens before t, that the sequence ends before token t
#include <string.h>

#include "train/internal.h"

// The graph's side of a df_loss.
typedef struct tensors {
  df_tensor **x, **level, **target, **weight, **clean, **cond, **guess_x, **guess_out,
      **given; // [T]
  df_tensor *stop_weight, *stop_target, *observation, *latent;
  df_tensor **out, **z; // [T]
  df_tensor **stop;     // [T + 1]
  df_tensor *loss, *stop_loss, *latent_grad;
} tensors;

typedef struct builder {
  df_loss *loss;
  const df_config *config;
  df_nn nn;
  tensors in;
} builder;

static df_tensor **inputs(builder *b, const char *name, int cols) {
  df_tensor **list = df_arena_alloc(&b->loss->arena, (size_t)b->loss->T * sizeof *list);
  for (int t = 0; list && t < b->loss->T; t++) list[t] = df_input(b->nn.graph, name, 1, cols, true);
  return list;
}

static df_tensor **pointers(builder *b, int n) {
  return df_arena_alloc(&b->loss->arena, (size_t)n * sizeof(df_tensor *));
}

// One token on its own; next: its latent, stop: the logits before and behind it.
static void build_token(builder *b, df_tensor *z, int t, df_tensor *guess, df_tensor **out,
                        df_tensor **next, df_tensor **stop) {
  const df_network *net = &b->config->network;
  df_unrolled seq = {.T = 1,
                     .z0 = z,
                     .x = &b->in.x[t],
                     .level = &b->in.level[t],
                     .cond = b->in.cond ? &b->in.cond[t] : NULL,
                     .guess = net->self_condition ? &guess : NULL,
                     .out = out,
                     .z = next,
                     .stop = stop};
  net->denoiser->build(net, &b->nn, &seq);
}

// A noised token. With self-conditioning the guess comes from a pass without one, through which no
// gradient flows, and only where `given` is 1 (Chen et al. 2022, "Analog bits").
static void build_noised(builder *b, df_tensor *z, int t, df_tensor **out, df_tensor **next,
                         df_tensor **stop) {
  tensors *in = &b->in;
  df_tensor *guess = NULL;
  if (b->config->network.self_condition) {
    df_tensor *none = df_constant(b->nn.graph, 1, b->config->network.token_size, true, 0), *o,
              *unused;
    build_token(b, df_stop_gradient(z), t, none, &o, &unused, NULL);
    if (b->config->objective == DF_PREDICT_NOISE)
      o = df_unary_op(DF_CLAMP, -b->config->clip_noise, b->config->clip_noise, o);
    guess = df_add(df_mul(in->x[t], in->guess_x[t]), df_mul(o, in->guess_out[t]));
    guess = df_stop_gradient(df_mul(guess, in->given[t]));
  }
  build_token(b, z, t, guess, out, next, stop);
}

static void build_chains(builder *b, df_tensor *z0, bool noised) {
  const df_network *net = &b->config->network;
  tensors *in = &b->in;
  int T = b->loss->T;
  df_tensor **stop = net->stop_head ? in->stop : NULL;
  if (in->clean && (!noised || net->self_condition)) {
    df_tensor *zero = df_constant(b->nn.graph, 1, 1, true, 0);
    df_tensor *none = df_constant(b->nn.graph, 1, net->token_size, true, 0);
    df_tensor **z = pointers(b, T), **out = pointers(b, T), **level = pointers(b, T),
              **guess = pointers(b, T);
    if (!z || !out || !level || !guess) return;
    for (int t = 0; t < T; t++) {
      level[t] = zero;
      guess[t] = none;
    }
    df_unrolled seq = {.T = T,
                       .z0 = z0,
                       .x = in->clean,
                       .level = level,
                       .cond = in->cond,
                       .guess = net->self_condition ? guess : NULL,
                       .out = out,
                       .z = z,
                       .stop = stop};
    net->denoiser->build(net, &b->nn, &seq);
    for (int t = 0; noised && t < T; t++)
      build_noised(b, t ? z[t - 1] : z0, t, &in->out[t], &in->z[t], NULL);
  } else if (net->self_condition) {
    for (int t = 0; t < T; t++) {
      df_tensor *around[2];
      build_noised(b, t ? in->z[t - 1] : z0, t, &in->out[t], &in->z[t], stop ? around : NULL);
      if (stop) stop[t] = around[0];
      if (stop && t == T - 1) stop[T] = around[1];
    }
  } else {
    df_unrolled seq = {.T = T,
                       .z0 = z0,
                       .x = in->x,
                       .level = in->level,
                       .cond = in->cond,
                       .clean = in->clean,
                       .out = in->out,
                       .z = in->z,
                       .stop = stop};
    net->denoiser->build(net, &b->nn, &seq);
  }
}

static void build_loss(builder *b, bool noised) {
  tensors *in = &b->in;
  int T = b->loss->T;
  for (int t = 0; noised && t < T; t++) {
    df_tensor *d = df_sub(in->out[t], in->target[t]);                                    // (B, D)
    df_tensor *sum = df_sum_all(df_mul(df_unary_op(DF_SQUARE, 0, 0, d), in->weight[t])); // (1, 1)
    in->loss = t ? df_add(in->loss, sum) : sum;
  }
  if (in->stop_weight) {
    df_tensor *l = df_concat(in->stop, T + 1); // (B, T + 1)
    df_tensor *cross = df_sub(df_unary_op(DF_SOFTPLUS, 0, 0, l), df_mul(l, in->stop_target));
    in->stop_loss = df_sum_all(df_mul(cross, in->stop_weight));
  }
}

// Declares the inputs and builds chains, losses and gradients. Fills outputs[*count].
static df_status build(builder *b, bool given_latent, df_tensor **outputs, int *count,
                       df_error *error) {
  df_loss *l = b->loss;
  const df_network *net = &b->config->network;
  tensors *in = &b->in;
  df_graph *g = b->nn.graph;
  int T = l->T, D = net->token_size;
  bool noised = l->kind != DF_LOSS_CLEAN, clean = !noised || l->mode == DF_MODE_TEACHER_FORCING;
  bool gradients = l->kind == DF_LOSS_TRAIN || l->kind == DF_LOSS_TEST, fine = true;
#define LIST(field, size) fine = fine && (in->field = inputs(b, #field, size))
  if (noised) {
    LIST(x, D);
    LIST(level, 1);
    LIST(target, D);
    LIST(weight, D);
  }
  if (clean) LIST(clean, D);
  if (net->condition_size) LIST(cond, net->condition_size);
  if (noised && net->self_condition) {
    LIST(guess_x, 1);
    LIST(guess_out, 1);
    LIST(given, 1);
  }
#undef LIST
  if (net->stop_head) {
    in->stop_weight = df_input(g, "stop_weight", 1, T + 1, true);
    in->stop_target = df_input(g, "stop_target", 1, T + 1, true);
  }
  if (given_latent)
    in->latent = df_input_grad(g, "latent", 1, net->latent_size, true);
  else if (net->initial == DF_INITIAL_ENCODED)
    in->observation = df_input(g, "observation", 1, net->observation_size, true);
  in->out = pointers(b, T);
  in->z = pointers(b, T);
  in->stop = pointers(b, T + 1);
  l->grads = pointers(b, l->params->count + 1);
  df_tensor **wrt = pointers(b, l->params->count + 1);
  if (!fine || !in->out || !in->z || !in->stop || !l->grads || !wrt)
    return df_fail(error, DF_NO_MEMORY, "no memory for the loss of %d tokens", T);

  df_tensor *z0 = given_latent       ? in->latent
                  : net->latent_size ? net->denoiser->initial(net, &b->nn, in->observation)
                                     : NULL;
  build_chains(b, z0, noised);
  build_loss(b, noised);
  df_tensor *total = !in->loss        ? in->stop_loss
                     : !in->stop_loss ? in->loss
                                      : df_add(in->loss, in->stop_loss);
  if (df_graph_error(g)->code)
    return df_fail(error, df_graph_error(g)->code, "%s", df_graph_error(g)->message);
  if (b->nn.error->code) return df_fail(error, b->nn.error->code, "%s", b->nn.error->message);
  if (gradients) {
    int n = l->params->count;
    for (int i = 0; i < n; i++) wrt[i] = df_parameter(g, l->params->items[i]);
    wrt[n] = in->latent;
    df_status status = df_gradient(total, wrt, l->grads, n + given_latent, error);
    if (status) return status;
    if (given_latent) in->latent_grad = l->grads[n];
    for (int i = 0; i < n; i++) // every gradient has memory of its own
      for (int j = 0; j < i; j++)
        if (l->grads[i] && l->grads[i] == l->grads[j]) l->grads[i] = df_scale(l->grads[i], 1);
  }
  int n = 0;
  if (in->loss) outputs[n++] = in->loss;
  if (in->stop_loss) outputs[n++] = in->stop_loss;
  if (l->kind == DF_LOSS_VALUE || l->kind == DF_LOSS_TEST)
    for (int t = 0; t < T; t++) outputs[n++] = in->out[t];
  if (l->kind == DF_LOSS_TEST && net->latent_size)
    for (int t = 0; t < T; t++) outputs[n++] = in->z[t];
  for (int i = 0; gradients && i < l->params->count; i++)
    if (l->grads[i]) outputs[n++] = l->grads[i];
  if (in->latent_grad) outputs[n++] = in->latent_grad;
  *count = n;
  return DF_OK;
}

static float **data_of(df_loss *l, df_tensor **list) {
  if (!list) return NULL;
  float **data = df_arena_alloc(&l->arena, (size_t)l->T * sizeof *data);
  for (int t = 0; data && t < l->T; t++) data[t] = df_plan_data(l->plan, list[t]);
  return data;
}

df_status df_loss_create(df_loss **loss, df_loss_kind kind, df_train_mode mode,
                         const df_config *config, df_params *params, int T, int rows,
                         bool given_latent, df_error *error) {
  *loss = NULL;
  df_error declaration = {0};
  df_loss *l = df_alloc(sizeof *l);
  df_tensor **outputs = df_alloc(((size_t)params->count + 2 * (size_t)T + 4) * sizeof *outputs);
  df_status status = DF_OK;
  int count = 0;
  if (!l || !outputs || !(l->graph = df_graph_create())) {
    status = df_fail(error, DF_NO_MEMORY, "no memory for the loss of %d tokens", T);
    goto out;
  }
  l->kind = kind;
  l->mode = mode;
  l->T = T;
  l->rows = rows;
  l->params = params;
  builder b = {.loss = l, .config = config, .nn = {l->graph, params, &declaration}};
  if ((status = build(&b, given_latent, outputs, &count, error))) goto out;
  df_plan_options options = {.batch = rows};
  if ((status = df_plan_create(&l->plan, l->graph, outputs, count, &options, error))) goto out;
  const tensors *in = &b.in;
  l->x = data_of(l, in->x);
  l->level = data_of(l, in->level);
  l->target = data_of(l, in->target);
  l->weight = data_of(l, in->weight);
  l->clean = data_of(l, in->clean);
  l->cond = data_of(l, in->cond);
  l->guess_x = data_of(l, in->guess_x);
  l->guess_out = data_of(l, in->guess_out);
  l->given = data_of(l, in->given);
  if (kind == DF_LOSS_VALUE || kind == DF_LOSS_TEST) l->out = data_of(l, in->out);
  if (kind == DF_LOSS_TEST && config->network.latent_size) l->z = data_of(l, in->z);
#define ONE(field, tensor) l->field = in->tensor ? df_plan_data(l->plan, in->tensor) : NULL
  ONE(stop_weight, stop_weight);
  ONE(stop_target, stop_target);
  ONE(observation, observation);
  ONE(latent, latent);
  ONE(loss, loss);
  ONE(stop, stop_loss);
  ONE(latent_grad, latent_grad);
#undef ONE
  l->bytes = df_plan_bytes(l->plan);
out:
  df_free(outputs);
  if (status) {
    df_loss_free(l);
    return status;
  }
  *loss = l;
  return DF_OK;
}

void df_loss_free(df_loss *l) {
  if (!l) return;
  df_plan_free(l->plan);
  df_graph_free(l->graph);
  df_arena_free(&l->arena);
  df_free(l);
}

static void clear(float **list, int T, int floats) {
  for (int t = 0; list && t < T; t++)
    if (list[t]) memset(list[t], 0, (size_t)floats * sizeof(float));
}

void df_loss_clear(df_loss *l, const df_network *net, int rows) {
  int T = l->T, D = net->token_size;
  clear(l->x, T, rows * D);
  clear(l->target, T, rows * D);
  clear(l->weight, T, rows * D);
  clear(l->clean, T, rows * D);
  clear(l->level, T, rows);
  clear(l->guess_x, T, rows);
  clear(l->guess_out, T, rows);
  clear(l->given, T, rows);
  clear(l->cond, T, rows * net->condition_size);
  if (l->stop_weight) memset(l->stop_weight, 0, (size_t)rows * (T + 1) * sizeof(float));
  if (l->stop_target) memset(l->stop_target, 0, (size_t)rows * (T + 1) * sizeof(float));
}

df_status df_loss_run(df_loss *l, int rows, float *gradient, df_error *error) {
  df_status status;
  for (int i = 0; gradient && i < l->params->count; i++) {
    const df_param *p = l->params->items[i];
    if (!l->grads[i])
      memset(gradient + p->offset, 0, (size_t)p->rows * p->cols * sizeof(float));
    else if (gradient != l->bound &&
             (status = df_plan_bind(l->plan, l->grads[i], gradient + p->offset, error)))
      return status;
  }
  if (gradient) l->bound = gradient;
  return df_plan_run(l->plan, rows, error);
}

// ---- Plans that wait for their next use ----

// Frees plans that are not in use, the longest unused first, until `more` bytes fit.
static void make_room(df_loss_cache *cache, size_t more) {
  while (cache->bytes + more > cache->limit) {
    int oldest = -1;
    for (int i = 0; i < cache->count; i++)
      if (!cache->items[i]->busy &&
          (oldest < 0 || cache->items[i]->used < cache->items[oldest]->used))
        oldest = i;
    if (oldest < 0) return;
    cache->bytes -= cache->items[oldest]->bytes;
    df_loss_free(cache->items[oldest]);
    cache->items[oldest] = cache->items[--cache->count];
  }
}

df_status df_loss_take(df_loss_cache *cache, df_loss **loss, df_loss_kind kind, df_train_mode mode,
                       const df_config *config, df_params *params, int T, int rows,
                       df_error *error) {
  *loss = NULL;
  for (int i = 0; i < cache->count && !*loss; i++) {
    df_loss *l = cache->items[i];
    if (!l->busy && l->kind == kind && l->mode == mode && l->T == T && l->rows >= rows) *loss = l;
  }
  if (!*loss) {
    if (cache->count == cache->room) {
      int room = cache->room ? 2 * cache->room : 64;
      df_loss **grown = df_realloc(cache->items, (size_t)room * sizeof *grown);
      if (!grown) return df_fail(error, DF_NO_MEMORY, "no memory for a list of %d plans", room);
      cache->items = grown;
      cache->room = room;
    }
    df_status status = df_loss_create(loss, kind, mode, config, params, T, rows, false, error);
    if (status) return status;
    make_room(cache, (*loss)->bytes);
    cache->items[cache->count++] = *loss;
    cache->bytes += (*loss)->bytes;
  }
  (*loss)->busy = 1;
  (*loss)->used = ++cache->clock;
  return DF_OK;
}

void df_loss_cache_free(df_loss_cache *cache) {
  for (int i = 0; i < cache->count; i++) df_loss_free(cache->items[i]);
  df_free(cache->items);
  *cache = (df_loss_cache){0};
}
