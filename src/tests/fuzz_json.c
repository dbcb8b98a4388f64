// Any bytes are read or refused; what is read, written and read again is the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(int condition) {
  if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  df_arena arena = {0};
  df_error error;
  const df_json *root, *again;
  df_json_writer first = {.indent = size % 3}, second = {.indent = size % 3};
  if (df_json_parse(&root, &arena, (const char *)bytes, size, &error) == DF_OK) {
    df_json_put(&first, NULL, root);
    must(df_json_parse(&again, &arena, first.text, first.size, &error) == DF_OK);
    df_json_put(&second, NULL, again);
    must(first.size == second.size && memcmp(first.text, second.text, first.size) == 0);

    const char *key = root->first && root->first->key ? root->first->key : "key", *text;
    int number;
    double real;
    float *values;
    df_json_get_int(root, key, -5, 1000, &number, &error);
    df_json_get_number(root, key, &real, &error);
    df_json_get_string(root, key, &text, &error);
    df_json_get_enum(root, key, &key, 1, &number, &error);
    df_json_get_floats(root, key, &arena, &values, &number, &error);
    df_json_only(root, &key, 1, &error);
  } else {
    must(error.message[0] && memchr(error.message, 0, sizeof error.message));
  }
  df_json_writer_free(&first);
  df_json_writer_free(&second);
  df_arena_free(&arena);
  must(df_alloc_bytes() == 0);
  return 0;
}
