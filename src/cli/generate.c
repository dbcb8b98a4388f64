#include "cli/generate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/progress.h"
#include "io/file.h"
#include "io/npy.h"

// ---- What is known beforehand ----

// Frames for the tokens from `token` on; sequence -1: in all of them.
typedef struct known {
  int sequence, token, frames;
  float *values; // (frames, C)
} known;

typedef struct inputs {
  df_arena arena;
  known *known;
  int known_count;
  float *conditions, *observations; // (sequences, T, E) and (sequences, O), or NULL
  int condition_tokens;
  bool condition_each, observe_each; // one for each sequence, or one for all
} inputs;

static df_status read_json(const df_json **root, df_arena *arena, const char *path,
                           df_error *error) {
  void *bytes;
  size_t size;
  df_status status = df_file_read(&bytes, &size, path, error);
  if (status) return status;
  status = df_json_parse(root, arena, bytes, size, error);
  df_free(bytes);
  if (status && error) {
    df_error inner = *error;
    df_fail(error, status, "%s: %.400s", path, inner.message);
  }
  return status;
}

static df_status read_frames(known *k, df_arena *arena, const df_json *frames, int fields,
                             const char *path, df_error *error) {
  k->frames = frames ? frames->length : 0;
  if (!frames || frames->kind != DF_JSON_ARRAY || !k->frames)
    return df_fail(error, DF_BAD_ARGUMENT, "%s: expected a list of frames", path);
  k->values = df_arena_alloc(arena, sizeof(float) * (size_t)k->frames * (size_t)fields);
  if (!k->values) return df_fail(error, DF_NO_MEMORY, "%s: out of memory", path);
  int i = 0;
  for (const df_json *frame = frames->first; frame; frame = frame->next, i++) {
    bool fits = frame->kind == DF_JSON_ARRAY && frame->length == fields;
    const df_json *value = fits ? frame->first : NULL;
    for (int c = 0; fits && c < fields; c++, value = value->next) {
      fits = value->kind == DF_JSON_NUMBER;
      k->values[i * fields + c] = (float)value->number;
    }
    if (!fits)
      return df_fail(error, DF_BAD_ARGUMENT, "%s: frame %d: expected a list of %d numbers", path, i,
                     fields);
  }
  return DF_OK;
}

static df_status read_keep(inputs *in, const char *path, const df_config *config, int count,
                           df_error *error) {
  const df_json *root;
  df_status status = read_json(&root, &in->arena, path, error);
  if (status) return status;
  if (root->kind != DF_JSON_ARRAY || !root->length)
    return df_fail(error, DF_BAD_ARGUMENT, "%s: expected a list of frames or of objects", path);
  bool plain = root->first->kind == DF_JSON_ARRAY;
  in->known_count = plain ? 1 : root->length;
  in->known = df_arena_alloc(&in->arena, sizeof(known) * (size_t)in->known_count);
  if (!in->known) return df_fail(error, DF_NO_MEMORY, "%s: out of memory", path);
  in->known[0].sequence = -1;
  if (plain) return read_frames(&in->known[0], &in->arena, root, config->field_count, path, error);

  const df_json *item = root->first;
  for (int i = 0; item; item = item->next, i++) {
    static const char *const keys[] = {"sequence", "token", "frames"};
    known *k = &in->known[i];
    k->sequence = -1;
    if ((status = df_json_only(item, keys, 3, error)) ||
        (status = df_json_get_int(item, "token", 0, 1000000, &k->token, error)) ||
        (status = df_json_get_int(item, "sequence", 0, count - 1, &k->sequence, error)) ||
        (status = read_frames(k, &in->arena, df_json_at(item, "frames"), config->field_count, path,
                              error))) {
      df_error inner = error ? *error : (df_error){0};
      return df_fail(error, DF_BAD_ARGUMENT, "%s: entry %d: %.400s", path, i, inner.message);
    }
  }
  return DF_OK;
}

// A .npy of shape `tail`, or of (count, tail): then *each is set. tail[0] = -1: any.
static df_status read_npy(float **out, bool *each, int *first, df_arena *arena, const char *path,
                          int count, int dims, const int *tail, df_error *error) {
  void *bytes;
  size_t size;
  df_view view;
  df_status status = df_file_read(&bytes, &size, path, error);
  if (status) return status;
  status = df_npy_open(&view, bytes, size, error);
  if (!status) {
    *each = view.dims == dims + 1;
    bool fits = *each ? view.shape[0] == count : view.dims == dims;
    for (int i = 0; fits && i < dims; i++)
      fits = tail[i] < 0 ? view.shape[view.dims - dims + i] <= 1000000
                         : view.shape[view.dims - dims + i] == tail[i];
    if (!fits)
      status = df_fail(error, DF_BAD_SHAPE,
                       "%s: expected shape (%s%d), or the same for each of the %d sequences", path,
                       dims > 1 ? "tokens, " : "", tail[dims - 1], count);
    else if (!(*out = df_arena_alloc(arena, view.count * sizeof(float))))
      status = df_fail(error, DF_NO_MEMORY, "%s: out of memory", path);
    else
      df_view_floats(&view, 0, view.count, *out);
    if (!status) *first = (int)view.shape[view.dims - dims];
  }
  df_free(bytes);
  return status;
}

static df_status read_inputs(inputs *in, const generate_options *o, const df_config *config,
                             df_error *error) {
  df_status status = DF_OK;
  int ignored, E = config->network.condition_size, O = config->network.observation_size;
  bool encoded = config->network.initial == DF_INITIAL_ENCODED;
  if (o->keep) status = read_keep(in, o->keep, config, o->count, error);
  if (status) return status;
  if ((E > 0) != (o->condition != NULL))
    return df_fail(error, DF_BAD_ARGUMENT,
                   E ? "the model has conditions: give --condition FILE.npy of shape (tokens, %d)"
                     : "--condition: the model takes none (condition size %d)",
                   E);
  if (encoded != (o->observe != NULL))
    return df_fail(error, DF_BAD_ARGUMENT,
                   encoded ? "the model starts from an observation: give --observe FILE.npy of "
                             "shape (%d)"
                           : "--observe: the model takes none (observation size %d)",
                   O);
  if (o->condition)
    status = read_npy(&in->conditions, &in->condition_each, &in->condition_tokens, &in->arena,
                      o->condition, o->count, 2, (int[]){-1, E}, error);
  if (!status && o->observe)
    status = read_npy(&in->observations, &in->observe_each, &ignored, &in->arena, o->observe,
                      o->count, 1, (int[]){O}, error);
  return status;
}

// Gives a sampler of sequences begin .. begin+n-1 (counted from 0) what is known of them.
static df_status give_inputs(df_sampler *s, const inputs *in, const df_config *config, int begin,
                             int n, df_error *error) {
  df_status status = DF_OK;
  int E = config->network.condition_size, O = config->network.observation_size;
  const df_sampler_info *info = df_sampler_state(s);
  for (int i = 0; i < in->known_count; i++) {
    const known *k = &in->known[i];
    for (int b = 0; b < n; b++) {
      if (k->sequence >= 0 && k->sequence != begin + b) continue;
      for (int frame = 0, t = k->token; frame < k->frames; frame += config->frame_stack, t++) {
        int some =
            k->frames - frame < config->frame_stack ? k->frames - frame : config->frame_stack;
        status = df_sampler_keep(s, b, t, k->values + frame * config->field_count, some, error);
        if (status) return status;
      }
    }
  }
  int tokens = in->condition_tokens < info->tokens ? in->condition_tokens : info->tokens;
  for (int b = 0; in->conditions && b < n; b++)
    for (int t = 0; t < tokens; t++) {
      size_t at = (size_t)(in->condition_each ? begin + b : 0) * (size_t)in->condition_tokens;
      status = df_sampler_condition(s, b, t, in->conditions + (at + (size_t)t) * (size_t)E, error);
      if (status) return status;
    }
  for (int b = 0; in->observations && b < n; b++) {
    size_t at = (size_t)(in->observe_each ? begin + b : 0);
    status = df_sampler_observe(s, b, in->observations + at * (size_t)O, error);
    if (status) return status;
  }
  return DF_OK;
}

// ---- Batches ----

typedef struct batch {
  int32_t *tokens, *frames; // (n) of each sequence
  float *values;            // the frames of all of them, dense
  size_t total;             // frames
} batch;

typedef struct work {
  const open_model *m;
  const generate_options *o;
  const inputs *in;
  batch *batches;
  atomic_bool over;     // an error, or told to stop
  pthread_mutex_t lock; // of everything below
  df_progress progress;
  double done; // sequences, in parts
  bool told_all;
  int64_t cells;
  size_t sampler_bytes;
  df_error error;
} work;

static void progress(work *w, double more) {
  pthread_mutex_lock(&w->lock);
  w->done += more;
  double done = w->done > w->o->count - 1e-6 ? w->o->count : w->done;
  if (!w->told_all && df_progress_due(&w->progress, done, w->o->count, isatty(2) ? 0.2 : 10)) {
    char text[160], line[256];
    df_progress_text(&w->progress, done, w->o->count, "sequences", text, sizeof text);
    snprintf(line, sizeof line, "%s%s", w->o->label ? w->o->label : "", text);
    cli_line(line);
    w->told_all = done == w->o->count;
  }
  pthread_mutex_unlock(&w->lock);
}

// Copies the frames that belong to each sequence out of a sampler that is done.
static df_status take(batch *out, const df_sampler *s, int n, const df_config *config,
                      df_error *error) {
  const df_sampler_info *info = df_sampler_state(s);
  size_t C = (size_t)config->field_count, stack = (size_t)config->frame_stack;
  out->tokens = df_alloc(sizeof(int32_t) * (size_t)n);
  out->frames = df_alloc(sizeof(int32_t) * (size_t)n);
  out->values = df_alloc(sizeof(float) * (size_t)n * (size_t)info->tokens * stack * C);
  if (!out->tokens || !out->frames || !out->values)
    return df_fail(error, DF_NO_MEMORY, "out of memory for %d sequences", n);
  for (int b = 0; b < n; b++) {
    int length = info->lengths[b] >= 0 ? info->lengths[b] : info->tokens;
    out->tokens[b] = length;
    for (int t = 0; t < length; t++) {
      size_t at = (size_t)b * (size_t)info->tokens + (size_t)t;
      size_t frames = (size_t)info->frames[at];
      memcpy(out->values + out->total * C, info->values + at * stack * C,
             frames * C * sizeof(float));
      out->frames[b] += (int32_t)frames;
      out->total += frames;
    }
  }
  return DF_OK;
}

static void run_batch(void *context, int i, int thread) {
  (void)thread;
  work *w = context;
  const df_config *config = &w->m->config;
  df_sampler_options o = w->o->sampler;
  int begin = i * o.batch, left = w->o->count - begin;
  o.first_sequence = (uint32_t)(w->o->first + begin);
  if (o.batch > left) o.batch = left;

  df_error error = {DF_OK, ""};
  df_sampler *s = NULL;
  pthread_mutex_lock(&w->lock);
  df_status status = w->over ? DF_OK : df_sampler_create(&s, w->m->model, &o, &error);
  if (s) w->sampler_bytes = df_sampler_bytes(s);
  pthread_mutex_unlock(&w->lock);
  if (!s && !status) return; // it is over

  double told = 0;
  if (!status) status = give_inputs(s, w->in, config, begin, o.batch, &error);
  while (!status && !w->over && !df_sampler_done(s)) {
    if (w->o->stop && *w->o->stop)
      status = df_fail(&error, DF_STOPPED, "stopped on request");
    else
      status = df_sampler_step(s, &error);
    const df_sampler_info *info = df_sampler_state(s);
    double now = info->rows > 1 ? (double)o.batch * info->row / (info->rows - 1) : told;
    progress(w, now - told);
    told = now;
  }
  if (!status && !w->over) {
    progress(w, o.batch - told); // drawn lengths may end before the last row
    status = take(&w->batches[i], s, o.batch, config, &error);
  }

  pthread_mutex_lock(&w->lock);
  if (s) w->cells += df_sampler_state(s)->cells;
  df_sampler_free(s);
  if (status && !w->over) {
    w->over = true;
    w->error = error;
  }
  pthread_mutex_unlock(&w->lock);
}

// ---- All of them ----

static df_status gather(generated *out, const batch *batches, int count, int size, int fields,
                        df_error *error) {
  size_t total = 0, C = (size_t)fields;
  for (int i = 0; i * size < count; i++) total += batches[i].total;
  df_dataset *d = &out->data;
  d->count = count;
  d->fields = fields;
  d->offsets = df_alloc(sizeof(int32_t) * ((size_t)count + 1));
  d->values = df_alloc(sizeof(float) * total * C);
  out->tokens = df_alloc(sizeof(int32_t) * (size_t)count);
  if (!d->offsets || !d->values || !out->tokens)
    return df_fail(error, DF_NO_MEMORY, "out of memory for %d sequences", count);
  for (int i = 0; i * size < count; i++) {
    const batch *b = &batches[i];
    memcpy(d->values + (size_t)d->offsets[i * size] * C, b->values, b->total * C * sizeof(float));
    for (int j = 0; j < size && i * size + j < count; j++) {
      int n = i * size + j;
      out->tokens[n] = b->tokens[j];
      d->offsets[n + 1] = d->offsets[n] + b->frames[j];
    }
  }
  return DF_OK;
}

df_status generate(generated *out, const open_model *m, const generate_options *options,
                   df_error *error) {
  *out = (generated){0};
  inputs in = {0};
  df_threads *pool = NULL;
  work w = {.m = m, .o = options, .in = &in};
  pthread_mutex_init(&w.lock, NULL);

  // Batches are no larger than needed to keep all cores at work.
  generate_options o = *options;
  int threads = o.threads ? o.threads : df_threads_cores();
  int share = (o.count + threads - 1) / threads;
  if (o.sampler.batch > share) o.sampler.batch = share > 0 ? share : 1;
  w.o = &o;
  int batches = (o.count + o.sampler.batch - 1) / o.sampler.batch;
  // Fewer sequences than cores: the cores that are left share the work on each.
  o.sampler.threads = batches > 0 && batches < threads ? threads / batches : 1;

  df_status status = read_inputs(&in, &o, &m->config, error);
  if (!status) status = df_threads_create(&pool, threads < batches ? threads : batches, error);
  if (!status && !(w.batches = df_alloc(sizeof(batch) * (size_t)batches)))
    status = df_fail(error, DF_NO_MEMORY, "out of memory for %d batches", batches);
  if (!status) {
    df_progress_begin(&w.progress, 0);
    double start = df_seconds();
    df_threads_run(pool, batches, run_batch, &w);
    cli_line_end();
    out->seconds = df_seconds() - start;
    out->cells = w.cells;
    out->sampler_bytes = w.sampler_bytes;
    status = w.over ? w.error.code : DF_OK;
    if (w.over && error) *error = w.error;
  }
  if (!status)
    status = gather(out, w.batches, o.count, o.sampler.batch, m->config.field_count, error);

  for (int i = 0; w.batches && i < batches; i++) {
    df_free(w.batches[i].tokens);
    df_free(w.batches[i].frames);
    df_free(w.batches[i].values);
  }
  df_free(w.batches);
  df_threads_free(pool);
  df_arena_free(&in.arena);
  pthread_mutex_destroy(&w.lock);
  if (status) generated_free(out);
  return status;
}

void generated_free(generated *g) {
  df_dataset_free(&g->data);
  df_free(g->tokens);
  *g = (generated){0};
}

void generated_threshold(generated *g, const df_config *config) {
  int total = g->data.count ? g->data.offsets[g->data.count] : 0;
  for (int i = 0; i < total; i++)
    for (int c = 0; c < config->field_count; c++) {
      float *value = &g->data.values[i * config->field_count + c];
      if (config->fields[c].binary) *value = *value > config->fields[c].threshold;
    }
}
