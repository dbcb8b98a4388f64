// Golden files: numbers computed by the reference code, see golden/README.md.
//
//   golden g = golden_open("rnn_mlp_plan");
//   float *x = golden_floats(&g, "in.x");         // NULL and a failed check if there is none
//   const df_view *v = golden_view(&g, "in.x");   // its shape
//   golden_close(&g);
#ifndef DF_TESTS_GOLDEN_H
#define DF_TESTS_GOLDEN_H

#include "io/file.h"
#include "io/safetensors.h"
#include "tests/test.h"

#ifndef DF_TEST_DATA
#define DF_TEST_DATA "src/tests/golden"
#endif

typedef struct golden {
  df_safetensors file;
  void *bytes;
  df_arena arena;        // everything handed out, until golden_close
  const df_json *config; // the parsed `config` of the metadata
} golden;

__attribute__((unused)) static void golden_close(golden *g) {
  df_safetensors_close(&g->file);
  df_arena_free(&g->arena);
  df_free(g->bytes);
  *g = (golden){0};
}

// If the file cannot be read, a check fails and the result is empty: every lookup in it is NULL.
__attribute__((unused)) static golden golden_open(const char *name) {
  golden g = {0};
  char path[512];
  size_t size = 0;
  snprintf(path, sizeof path, "%s/%s.safetensors", DF_TEST_DATA, name);
  if (!CHECK_OK(df_file_read(&g.bytes, &size, path, &test_error)) ||
      !CHECK_OK(df_safetensors_open(&g.file, g.bytes, size, &test_error))) {
    golden_close(&g);
    return g;
  }
  const char *config = df_safetensors_meta(&g.file, "config");
  if (config) CHECK_OK(df_json_parse(&g.config, &g.arena, config, strlen(config), &test_error));
  return g;
}

__attribute__((unused)) static const df_view *golden_view(golden *g, const char *name) {
  const df_view *view = df_safetensors_find(&g->file, name);
  test_check(view != NULL, __FILE__, __LINE__, name, " is missing in the golden file");
  return view;
}

__attribute__((unused)) static float *golden_floats(golden *g, const char *name) {
  const df_view *view = golden_view(g, name);
  float *out = view ? df_arena_alloc(&g->arena, view->count * sizeof(float)) : NULL;
  if (out) df_view_floats(view, 0, view->count, out);
  return out;
}

__attribute__((unused)) static int64_t *golden_ints(golden *g, const char *name) {
  const df_view *view = golden_view(g, name);
  int64_t *out = view ? df_arena_alloc(&g->arena, view->count * sizeof(int64_t)) : NULL;
  if (out && !CHECK_OK(df_view_ints(view, 0, view->count, out, &test_error))) return NULL;
  return out;
}

#endif
