#include "graph/params.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "graph/packed.h"

df_param *df_params_find(const df_params *p, const char *name) {
  for (int i = 0; i < p->count; i++)
    if (!strcmp(p->items[i]->name, name)) return p->items[i];
  return NULL;
}

df_param *df_params_declare(df_params *p, const char *name, int rows, int cols, int dims,
                            df_init init, int fan, df_error *error) {
  df_param *found = df_params_find(p, name);
  if (found) {
    if (found->rows == rows && found->cols == cols && found->dims == dims) return found;
    df_fail(error, DF_BAD_SHAPE, "parameter %s: declared as (%d, %d), used as (%d, %d)", name,
            found->rows, found->cols, rows, cols);
    return NULL;
  }
  if (p->sealed) {
    df_fail(error, DF_WRONG_STATE, "parameter %s is not in the list", name);
    return NULL;
  }
  if (p->count == p->room) {
    int room = p->room ? 2 * p->room : 64;
    df_param **grown = df_realloc(p->items, (size_t)room * sizeof *grown);
    if (grown) {
      p->items = grown;
      p->room = room;
    }
  }
  df_param *item = p->count < p->room ? df_arena_alloc(&p->arena, sizeof *item) : NULL;
  char *copy = item ? df_arena_print(&p->arena, "%s", name) : NULL;
  if (!copy) {
    df_fail(error, DF_NO_MEMORY, "no memory for parameter %s", name);
    return NULL;
  }
  *item = (df_param){.name = copy,
                     .rows = rows,
                     .cols = cols,
                     .dims = dims,
                     .init = init,
                     .fan = fan,
                     .offset = p->size};
  p->size += ((size_t)rows * (size_t)cols + 15) / 16 * 16;
  return p->items[p->count++] = item;
}

df_status df_params_seal(df_params *p, df_error *error) {
  p->values = df_alloc(p->size * sizeof(float));
  if (!p->values) return df_fail(error, DF_NO_MEMORY, "no memory for %zu parameters", p->size);
  for (int i = 0; i < p->count; i++) {
    df_param *item = p->items[i];
    item->value = p->values + item->offset;
    item->packed = df_arena_alloc(&p->arena, sizeof *item->packed);
    if (!item->packed)
      return df_fail(error, DF_NO_MEMORY, "no memory for parameter %s", item->name);
  }
  p->sealed = true;
  return DF_OK;
}

void df_params_init(df_params *p, uint64_t seed) {
  for (int i = 0; i < p->count; i++) {
    df_param *item = p->items[i];
    int n = item->rows * item->cols;
    df_random at = {.seed = seed, .sequence = (uint32_t)i, .purpose = DF_RANDOM_INIT};
    if (item->init == DF_INIT_ZERO) {
      memset(item->value, 0, (size_t)n * sizeof(float));
    } else if (item->init == DF_INIT_ONE) {
      for (int j = 0; j < n; j++) item->value[j] = 1;
    } else if (item->init == DF_INIT_NORMAL) {
      df_random_normal(&at, n, item->value);
    } else {
      float bound = 1 / sqrtf((float)item->fan);
      df_random_uniform(&at, n, item->value);
      for (int j = 0; j < n; j++) item->value[j] = bound * (2 * item->value[j] - 1);
    }
  }
}

void df_params_free(df_params *p) {
  for (int i = 0; i < p->count; i++)
    if (p->items[i]->packed) df_packed_free(p->items[i]->packed);
  df_free(p->values);
  df_free(p->items);
  df_arena_free(&p->arena);
  *p = (df_params){0};
}

size_t df_params_count(const df_params *p) {
  size_t n = 0;
  for (int i = 0; i < p->count; i++) n += (size_t)p->items[i]->rows * (size_t)p->items[i]->cols;
  return n;
}
