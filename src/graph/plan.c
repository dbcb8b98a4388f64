// From a graph to a list of steps over one block of memory.
//
// 1. Find the tensors that the outputs need.
// 2. Fuse: act(residual + A B + bias) becomes one matrix product where nobody else needs what lies between.
// 3. Give every tensor a storage. Views share that of their source; a result takes over the storage of an operand that
//    dies with it (so sums of gradients accumulate in place).
// 4. Lay the storages out: walk through the steps with a list of free gaps, best fit first. What is needed at the same
//    time never overlaps; inputs and outputs keep their place.
#include <string.h>

#include "graph/internal.h"
#include "graph/packed.h"

// Under AddressSanitizer memory that is not in use at a step is poisoned, so that a wrong lifetime is caught.
#if defined(__SANITIZE_ADDRESS__)
#define DF_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DF_POISON 1
#endif
#endif
#ifdef DF_POISON
#include <sanitizer/asan_interface.h>
#endif

enum { FOREVER = 1 << 30, NONE = -1 };

typedef struct storage {
  size_t floats;  // at the largest batch
  size_t offset;  // in the block, in floats
  int begin, end; // first and last step that uses it; end FOREVER: never recycled
  float *outside; // the caller's or a parameter's memory instead of the block
} storage;

// What one step computes, before addresses are known. Operands are tensors, or packed forms of them.
typedef struct step_plan {
  const df_op *op; // NULL: pack src[0]
  df_tensor *y, *src[DF_MAX_SOURCES];
  int act;
  int packed;         // storage of the packed operand 1, or NONE
  bool transposed;    // of the packed operand
  const float *fixed; // packed once and for all,
  df_weights weights; // in this format
} step_plan;

struct df_plan {
  df_graph *graph;
  const df_kernels *kernels;
  int batch;
  int count;       // tensors of the graph when the plan was made
  int *storage_of; // by tensor index; NONE: not part of this plan
  storage *storages;
  int storage_count, storage_room;
  step_plan *plans;
  df_step *steps;
  int step_count, step_room;
  int border, border_step; // of the second part: its first tensor, its first step
  df_tensor **outputs;
  int *copy_of; // outputs that are views or leaves: the storage of their copy, else NONE
  int output_count;
  float *block;
  size_t floats;
  size_t weight_bytes;
  bool failed;       // no memory while it was made
  step_plan nowhere; // written to after a failure
};

static int storage_new(df_plan *p, size_t floats, int begin) {
  if (p->storage_count == p->storage_room) {
    int room = 2 * p->storage_room;
    storage *grown = df_realloc(p->storages, (size_t)room * sizeof *grown);
    if (!grown) {
      p->failed = true;
      return 0;
    }
    p->storages = grown;
    p->storage_room = room;
  }
  p->storages[p->storage_count] = (storage){.floats = floats, .begin = begin, .end = begin};
  return p->storage_count++;
}

static step_plan *step_new(df_plan *p) {
  if (p->step_count == p->step_room) {
    int room = p->step_room ? 2 * p->step_room : 256;
    step_plan *grown = df_realloc(p->plans, (size_t)room * sizeof *grown);
    if (!grown) {
      p->failed = true;
      return &p->nowhere;
    }
    p->plans = grown;
    p->step_room = room;
  }
  p->plans[p->step_count] = (step_plan){.act = -1, .packed = NONE};
  return &p->plans[p->step_count++];
}

static size_t floats_of(const df_tensor *t, int batch) {
  return (size_t)df_rows(t, batch) * (size_t)t->cols;
}
static df_tensor *root(df_tensor *t) { return t->view ? t->view : t; }

// Uses of every tensor within the plan; an output counts as one more.
static void count_uses(const df_plan *p, bool *needed, int *uses) {
  for (int i = 0; i < p->output_count; i++) {
    needed[p->outputs[i]->index] = true;
    uses[p->outputs[i]->index]++;
  }
  for (int i = p->count - 1; i >= 0; i--) {
    df_tensor *t = p->graph->tensors[i];
    if (!needed[i]) continue;
    for (int j = 0; j < DF_MAX_SOURCES; j++)
      if (t->src[j]) {
        needed[t->src[j]->index] = true;
        uses[t->src[j]->index]++;
      }
  }
}

// If t = act(residual + product) with nothing of it needed elsewhere, returns the product; act and residual are optional.
static df_tensor *fusable(df_tensor *t, const int *uses, int *act, df_tensor **residual) {
  df_tensor *inner = t;
  *act = -1;
  *residual = NULL;
  if (inner->op == &df_op_unary && inner->i[0] != DF_AFFINE && inner->i[0] != DF_CLAMP &&
      uses[inner->src[0]->index] == 1) {
    *act = inner->i[0];
    inner = inner->src[0];
  }
  if (inner->op == &df_op_binary && inner->i[0] == DF_ADD &&
      df_same_shape(inner->src[0], inner->src[1])) {
    // the later one of two products is computed last, so that the other one is there as its residual
    df_tensor *a = inner->src[0], *b = inner->src[1];
    bool a_fits = a->op == &df_op_matmul && uses[a->index] == 1,
         b_fits = b->op == &df_op_matmul && uses[b->index] == 1;
    if (a_fits && b_fits && a->index > b->index) b_fits = false;
    if (b_fits) {
      *residual = a;
      return b;
    }
    if (a_fits) {
      *residual = b;
      return a;
    }
    return NULL;
  }
  return inner->op == &df_op_matmul && (*act >= 0) ? inner : NULL;
}

// Storage of the packed form of b; a step that packs is added when it is first needed.
static int packed_storage(df_plan *p, df_tensor *b, bool transposed) {
  for (int i = p->step_count - 1; i >= 0; i--) {
    const step_plan *s = &p->plans[i];
    if (!s->op && s->src[0] == b && s->transposed == transposed) return s->packed;
  }
  const df_kernels *k = p->kernels;
  int rows = df_rows(b, p->batch);
  size_t floats = transposed ? k->packed_size(rows, b->cols) : k->packed_size(b->cols, rows);
  step_plan *s = step_new(p);
  s->src[0] = b;
  s->transposed = transposed;
  return s->packed = storage_new(p, floats, p->step_count - 1);
}

// 1 and 2: the steps in the order of the graph.
static void make_steps(df_plan *p, const bool *needed, int *uses, const df_plan_options *options) {
  bool *absorbed = df_alloc((size_t)p->count * sizeof *absorbed);
  df_tensor **product_of = df_alloc((size_t)p->count * sizeof *product_of);
  if (!absorbed || !product_of) p->failed = true;
  for (int i = p->count - 1; i >= 0 && !p->failed; i--) { // results before what they absorb
    df_tensor *t = p->graph->tensors[i], *residual;
    int act;
    if (!needed[i] || absorbed[i] || !t->op) continue;
    df_tensor *product = fusable(t, uses, &act, &residual);
    if (!product) continue;
    product_of[i] = product;
    absorbed[product->index] = true;
    if (act >= 0 && residual) absorbed[t->src[0]->index] = true;
  }
  for (int i = 0; i < p->count && !p->failed; i++) {
    df_tensor *t = p->graph->tensors[i];
    if (!needed[i] || absorbed[i] || !t->op || !t->op->run) continue;
    df_tensor *product = t->op == &df_op_matmul ? t : product_of[i], *residual = NULL;
    int act = -1, packed = NONE;
    const float *fixed = NULL;
    df_weights weights = DF_WEIGHTS_F32;
    if (product && product != t) fusable(t, uses, &act, &residual);
    if (product) {
      df_tensor *b = product->src[1];
      if (options->fixed_weights && b->param) {
        if (b->rows * b->cols >= DF_WEIGHTS_LEAST) weights = options->weights;
        fixed = df_packed_get(b->param, product->i[1], p->kernels, weights);
        if (!fixed) p->failed = true;
        p->weight_bytes += df_packed_size(b->param, product->i[1], p->kernels, weights);
      } else {
        packed = packed_storage(p, b, product->i[1]);
      }
    }
    step_plan *s = step_new(p);
    s->op = product ? &df_op_matmul : t->op;
    s->y = t;
    memcpy(s->src, product ? product->src : t->src, sizeof s->src);
    s->act = act;
    s->packed = packed;
    s->fixed = fixed;
    s->weights = weights;
    if (product) {
      s->transposed = product->i[0]; // of A; the packed operand knows its own
      s->src[1] = NULL;
      s->src[3] = residual;
    }
  }
  df_free(absorbed);
  df_free(product_of);
}

static void touch(df_plan *p, int storage, int step) {
  if (storage != NONE && p->storages[storage].end < step) p->storages[storage].end = step;
}

// 3: storages and how long they live.
static void assign_storages(df_plan *p, int *last_use) {
  // last step that reads each root tensor
  for (int i = 0; i < p->count; i++) last_use[i] = NONE;
  for (int s = 0; s < p->step_count; s++)
    for (int j = 0; j < DF_MAX_SOURCES; j++)
      if (p->plans[s].src[j]) last_use[root(p->plans[s].src[j])->index] = s;
  for (int i = 0; i < p->output_count; i++) last_use[root(p->outputs[i])->index] = FOREVER;

  for (int s = 0; s < p->step_count && !p->failed; s++) {
    step_plan *plan = &p->plans[s];
    for (int j = 0; j < DF_MAX_SOURCES && !p->failed; j++) {
      df_tensor *t = plan->src[j] ? root(plan->src[j]) : NULL;
      if (!t) continue;
      if (p->storage_of[t->index] ==
          NONE) { // a leaf: it is there from the start and keeps its place
        int made = storage_new(p, floats_of(t, p->batch), 0);
        p->storages[made].end = FOREVER;
        p->storages[made].outside = t->param ? t->param->value : t->memory;
        p->storage_of[t->index] = made;
      }
      touch(p, p->storage_of[t->index], s);
    }
    touch(p, plan->packed, s);
    if (!plan->y) continue;
    // take over the memory of an operand that dies here
    int taken = NONE;
    unsigned in_place = plan->op == &df_op_matmul ? 8 : plan->op->in_place;
    for (int j = 0; j < DF_MAX_SOURCES && taken == NONE; j++) {
      df_tensor *t = plan->src[j];
      if (!(in_place >> j & 1) || !t || t->view || !t->op || !df_same_shape(t, plan->y) ||
          last_use[t->index] != s)
        continue;
      bool used_twice = false;
      for (int k = 0; k < DF_MAX_SOURCES; k++)
        if (k != j && plan->src[k] && root(plan->src[k]) == t) used_twice = true;
      if (!used_twice) taken = p->storage_of[t->index];
    }
    if (taken == NONE) taken = storage_new(p, floats_of(plan->y, p->batch), s);
    p->storage_of[plan->y->index] = taken;
    touch(p, taken, s);
  }
  for (int i = 0; i < p->output_count && !p->failed; i++) {
    df_tensor *t = root(p->outputs[i]);
    if (p->storage_of[t->index] == NONE) { // an output that is a leaf nothing reads
      int made = storage_new(p, floats_of(t, p->batch), 0);
      if (t->param) p->storages[made].outside = t->param->value;
      p->storage_of[t->index] = made;
    }
    p->storages[p->storage_of[t->index]].end = FOREVER;
    if (p->outputs[i]->view || t->param) { // users get dense memory of their own
      p->copy_of[i] = storage_new(p, floats_of(p->outputs[i], p->batch), 0);
      p->storages[p->copy_of[i]].end = FOREVER;
    }
  }
}

// 4: offsets. Gaps are kept in ascending order.
typedef struct gap {
  size_t begin, end;
} gap;

static void lay_out(df_plan *p) {
  enum { LINE = DF_ALIGNMENT / sizeof(float) };
  int gaps = 0;
  gap *list = df_alloc(((size_t)p->storage_count + 2) * sizeof *list);
  int *begins = df_alloc(((size_t)p->step_count + 2) * sizeof *begins),
      *ends = df_alloc(((size_t)p->step_count + 2) * sizeof *ends);
  int *next_begin = df_alloc(((size_t)p->storage_count + 1) * sizeof *next_begin);
  int *next_end = df_alloc(((size_t)p->storage_count + 1) * sizeof *next_end);
  if (!list || !begins || !ends || !next_begin || !next_end) {
    p->failed = true;
    goto done;
  }
  for (int s = 0; s <= p->step_count; s++) begins[s] = ends[s] = NONE;
  for (int i = p->storage_count - 1; i >= 0; i--) {
    storage *st = &p->storages[i];
    if (st->outside) continue;
    next_begin[i] = begins[st->begin];
    begins[st->begin] = i;
    if (st->end == FOREVER) continue;
    next_end[i] = ends[st->end];
    ends[st->end] = i;
  }
  for (int s = 0; s <= p->step_count; s++) {
    for (int i = begins[s]; i != NONE; i = next_begin[i]) {
      size_t size = (p->storages[i].floats + LINE - 1) / LINE * LINE;
      int best = NONE;
      for (int k = 0; k < gaps; k++) {
        size_t room = list[k].end - list[k].begin;
        if (room >= size && (best == NONE || room < list[best].end - list[best].begin)) best = k;
      }
      if (best == NONE) { // at the end; a gap that touches the end is part of it
        if (gaps && list[gaps - 1].end == p->floats) p->floats = list[--gaps].begin;
        p->storages[i].offset = p->floats;
        p->floats += size;
      } else {
        p->storages[i].offset = list[best].begin;
        list[best].begin += size;
        if (list[best].begin == list[best].end) {
          memmove(list + best, list + best + 1, (size_t)(gaps - best - 1) * sizeof *list);
          gaps--;
        }
      }
    }
    for (int i = ends[s]; i != NONE; i = next_end[i]) {
      size_t begin = p->storages[i].offset,
             end = begin + (p->storages[i].floats + LINE - 1) / LINE * LINE;
      int k = 0;
      while (k < gaps && list[k].begin < begin) k++;
      bool joins_before = k > 0 && list[k - 1].end == begin,
           joins_after = k < gaps && list[k].begin == end;
      if (joins_before && joins_after) {
        list[k - 1].end = list[k].end;
        memmove(list + k, list + k + 1, (size_t)(gaps - k - 1) * sizeof *list);
        gaps--;
      } else if (joins_before) {
        list[k - 1].end = end;
      } else if (joins_after) {
        list[k].begin = begin;
      } else {
        memmove(list + k + 1, list + k, (size_t)(gaps - k) * sizeof *list);
        list[k] = (gap){begin, end};
        gaps++;
      }
    }
  }
done:
  df_free(list);
  df_free(begins);
  df_free(ends);
  df_free(next_begin);
  df_free(next_end);
}

static float *address(const df_plan *p, int i) {
  const storage *s = &p->storages[i];
  return s->outside ? s->outside : p->block + s->offset;
}

// Turns tensors into addresses, at the end of planning and after a bind.
static void resolve(df_plan *p) {
  for (int s = 0; s < p->step_count; s++) {
    const step_plan *from = &p->plans[s];
    df_step *to = &p->steps[s];
    *to = (df_step){.op = from->op,
                    .y = from->y,
                    .act = from->act,
                    .transposed = from->transposed,
                    .weights = from->weights,
                    .kernels = p->kernels};
    for (int j = 0; j < DF_MAX_SOURCES; j++) {
      df_tensor *t = from->src[j];
      if (t)
        to->src[j] =
            (df_operand){t, address(p, p->storage_of[root(t)->index]) + t->view_at, t->row};
    }
    if (from->y)
      to->out = (df_operand){from->y, address(p, p->storage_of[from->y->index]), from->y->cols};
    if (from->packed != NONE) to->src[1].data = address(p, from->packed);
    if (from->fixed) to->src[1].data = (float *)from->fixed;
  }
}

df_status df_plan_create(df_plan **plan, df_graph *g, df_tensor *const *outputs, int count,
                         const df_plan_options *options, df_error *error) {
  *plan = NULL;
  if (g->error.code) return df_fail(error, g->error.code, "%s", g->error.message);
  if (options->batch < 1)
    return df_fail(error, DF_BAD_ARGUMENT, "plan: expected a batch of at least 1, found %d",
                   options->batch);
  for (int i = 0; i < count; i++)
    if (!outputs[i]) return df_fail(error, DF_BAD_ARGUMENT, "plan: output %d was not built", i);
  df_plan *p = df_alloc(sizeof *p);
  if (!p) return df_fail(error, DF_NO_MEMORY, "no memory for a plan");
  p->graph = g;
  p->kernels = options->kernels ? options->kernels : df_kernels_best();
  p->batch = options->batch;
  p->count = g->count;
  p->output_count = count;
  size_t n = (size_t)p->count;
  bool *needed = df_alloc(n * sizeof *needed);
  int *uses = df_alloc(n * sizeof *uses);
  p->storage_of = df_alloc(n * sizeof *p->storage_of);
  p->outputs = df_alloc((size_t)count * sizeof *p->outputs);
  p->copy_of = df_alloc((size_t)count * sizeof *p->copy_of);
  p->storage_room = 256;
  p->storages = df_alloc((size_t)p->storage_room *
                         sizeof *p->storages); // never NULL later, even after a failure
  p->failed = !p->storages || !needed || !uses || !p->storage_of || !p->outputs || !p->copy_of;
  if (!p->failed) {
    memcpy(p->outputs, outputs, (size_t)count * sizeof *outputs);
    for (size_t i = 0; i < n; i++) p->storage_of[i] = NONE;
    for (int i = 0; i < count; i++) p->copy_of[i] = NONE;
    count_uses(p, needed, uses);
    make_steps(p, needed, uses, options);
    if (!p->failed) assign_storages(p, uses);
    if (!p->failed) lay_out(p);
  }
  df_free(needed);
  df_free(uses);
  if (!p->failed) {
    p->block = df_alloc(p->floats * sizeof(float));
    p->steps = df_alloc((size_t)p->step_count * sizeof *p->steps);
    p->failed = !p->block || !p->steps;
  }
  if (p->failed) {
    size_t bytes = p->floats * sizeof(float);
    df_plan_free(p);
    return df_fail(error, DF_NO_MEMORY, "no memory for a plan of %zu bytes", bytes);
  }
  resolve(p);
  p->border = options->border ? options->border->index : p->count;
  for (int i = 0; i < p->step_count; i++)
    if (p->plans[i].y && p->plans[i].y->index < p->border) p->border_step = i + 1;
  for (int i = 0; i < p->count; i++) { // constants
    df_tensor *t = g->tensors[i];
    if (t->op || t->param || t->name || p->storage_of[i] == NONE) continue;
    float *data = address(p, p->storage_of[i]);
    for (int r = 0; r < df_rows(t, p->batch); r++)
      for (int j = 0; j < t->cols; j++) *data++ = t->f[0] + t->f[1] * (float)(r % t->rows);
  }
  *plan = p;
  return DF_OK;
}

void df_plan_free(df_plan *p) {
  if (!p) return;
#ifdef DF_POISON
  if (p->block) ASAN_UNPOISON_MEMORY_REGION(p->block, p->floats * sizeof(float));
#endif
  df_free(p->storage_of);
  df_free(p->storages);
  df_free(p->plans);
  df_free(p->steps);
  df_free(p->outputs);
  df_free(p->copy_of);
  df_free(p->block);
  df_free(p);
}

// Storage of an input or output as the caller sees it, or NONE.
static int visible(const df_plan *p, const df_tensor *t) {
  for (int i = 0; t && i < p->output_count; i++)
    if (p->outputs[i] == t) return p->copy_of[i] != NONE ? p->copy_of[i] : p->storage_of[t->index];
  if (t && !t->op && !t->param && t->name && t->index < p->count) return p->storage_of[t->index];
  return NONE;
}

float *df_plan_data(const df_plan *p, const df_tensor *t) {
  int i = visible(p, t);
  return i == NONE ? NULL : address(p, i);
}

df_status df_plan_bind(df_plan *p, const df_tensor *t, float *memory, df_error *error) {
  int i = visible(p, t);
  if (i == NONE)
    return df_fail(error, DF_BAD_ARGUMENT, "plan: only inputs and outputs can be bound");
  p->storages[i].outside = memory;
  resolve(p);
  return DF_OK;
}

#ifdef DF_POISON
// before: what begins at step s becomes usable; after: what ends at it, no more.
static void poison(const df_plan *p, int s, bool after) {
  for (int i = 0; i < p->storage_count; i++) {
    const storage *st = &p->storages[i];
    if (st->outside) continue;
    if (!after && st->begin == s)
      ASAN_UNPOISON_MEMORY_REGION(p->block + st->offset, st->floats * sizeof(float));
    if (after && st->end == s)
      ASAN_POISON_MEMORY_REGION(p->block + st->offset, st->floats * sizeof(float));
  }
}
#else
static void poison(const df_plan *p, int s, bool after) { (void)p, (void)s, (void)after; }
#endif

static void run_step(const df_plan *p, int s, int batch) {
  const df_step *step = &p->steps[s];
  if (step->op) {
    step->op->run(step, batch);
    return;
  }
  const df_operand *b = &step->src[0];
  int rows = df_rows(b->t, batch);
  if (p->plans[s].transposed)
    p->kernels->pack(rows, b->t->cols, b->data, 1, b->row, step->src[1].data);
  else
    p->kernels->pack(b->t->cols, rows, b->data, b->row, 1, step->src[1].data);
}

// One part of the plan, or both.
static df_status run(df_plan *p, int batch, bool first, bool second, df_error *error) {
  if (batch < 1 || batch > p->batch)
    return df_fail(error, DF_BAD_ARGUMENT, "plan: expected a batch of 1 to %d, found %d", p->batch,
                   batch);
  const int begin = first ? 0 : p->border_step, end = second ? p->step_count : p->border_step;
  for (int s = begin; s < end; s++) {
    poison(p, s, false);
    run_step(p, s, batch);
    poison(p, s, true);
  }
  for (int i = 0; i < p->output_count; i++) {
    df_tensor *t = p->outputs[i];
    if (p->copy_of[i] == NONE || !(t->index < p->border ? first : second)) continue;
    float *to = address(p, p->copy_of[i]),
          *data = address(p, p->storage_of[root(t)->index]) + t->view_at;
    for (int r = 0; r < df_rows(t, batch); r++)
      memcpy(to + (size_t)r * (size_t)t->cols, data + (size_t)r * (size_t)t->row,
             (size_t)t->cols * sizeof *to);
  }
  return DF_OK;
}

df_status df_plan_run(df_plan *p, int batch, df_error *error) {
  return run(p, batch, true, true, error);
}

df_status df_plan_run_part(df_plan *p, int batch, bool second, df_error *error) {
  return run(p, batch, !second, second, error);
}

size_t df_plan_bytes(const df_plan *p) { return p->floats * sizeof(float); }
size_t df_plan_weight_bytes(const df_plan *p) { return p->weight_bytes; }
int df_plan_steps(const df_plan *p) { return p->step_count; }
