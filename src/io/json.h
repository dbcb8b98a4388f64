// JSON (RFC 8259): a tree in an arena, a strict reader that says where the text is wrong, and a writer.
// Depth is limited to 64, numbers are float64, \u escapes become UTF-8, duplicate keys are an error.
#ifndef DF_IO_JSON_H
#define DF_IO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

typedef enum df_json_kind {
  DF_JSON_NULL,
  DF_JSON_BOOL,
  DF_JSON_NUMBER,
  DF_JSON_STRING,
  DF_JSON_ARRAY,
  DF_JSON_OBJECT
} df_json_kind;

typedef struct df_json {
  df_json_kind kind;
  double number;         // number; bool: 0 or 1
  const char *string;    // string, terminated (may hold NULs: see length)
  int length;            // bytes of the string, entries of the array or object
  const char *key;       // this entry's key, if it stands in an object
  struct df_json *first; // first child
  struct df_json *next;  // next sibling
} df_json;

// Parses text[size] into *root, all memory from arena. An error says line, column and what was expected.
df_status df_json_parse(const df_json **root, df_arena *arena, const char *text, size_t size,
                        df_error *error);

// Lookups. A NULL node or a missing key gives NULL; the df_json_get_* calls write *out only if the key is
// there, so that the caller sets the default first; a value of the wrong kind is an error naming the key
// ("diffusion.levels: expected an integer from 1 to 100000, found \"many\"").
const df_json *df_json_at(const df_json *object, const char *key);
const df_json *df_json_item(const df_json *array, int i);
df_status df_json_get_int(const df_json *object, const char *key, int low, int high, int *out,
                          df_error *error);
df_status df_json_get_number(const df_json *object, const char *key, double *out, df_error *error);
df_status df_json_get_bool(const df_json *object, const char *key, bool *out, df_error *error);
df_status df_json_get_string(const df_json *object, const char *key, const char **out,
                             df_error *error);
// One of names[count] into *out (its index); the error lists them.
df_status df_json_get_enum(const df_json *object, const char *key, const char *const *names,
                           int count, int *out, df_error *error);
// An array of numbers: *values (arena) and *count; NULL and 0 if the key is missing.
df_status df_json_get_floats(const df_json *object, const char *key, df_arena *arena,
                             float **values, int *count, df_error *error);
// Fails if object has a key that is not among keys[count] (typing errors in recipes must not pass silently).
df_status df_json_only(const df_json *object, const char *const *keys, int count, df_error *error);

// The writer appends to a growing text; after any failure (memory) it stays failed and text is NULL.
typedef struct df_json_writer {
  char *text; // terminated; owned by the writer until df_json_writer_free
  size_t size, room;
  int depth, indent; // indent 0: one line
  bool failed, comma;
} df_json_writer;

void df_json_object_begin(df_json_writer *w,
                          const char *key); // key NULL outside objects, here and below
void df_json_object_end(df_json_writer *w);
void df_json_array_begin(df_json_writer *w, const char *key);
void df_json_array_end(df_json_writer *w);
void df_json_put_string(df_json_writer *w, const char *key, const char *value);
void df_json_put_number(df_json_writer *w, const char *key,
                        double value); // shortest text that reads back; not finite: null
void df_json_put_bool(df_json_writer *w, const char *key, bool value);
void df_json_put_floats(df_json_writer *w, const char *key, const float *values,
                        int count); // shortest float32 texts, one line
void df_json_put(df_json_writer *w, const char *key, const df_json *value); // a whole tree
void df_json_writer_free(df_json_writer *w);

#endif
