#include "io/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_NUMBER = 32 };

// ------------------------------------------------------------------------------------------------
// UTF-8

// Bytes of the character at s (1 to 4), or 0 if s[left] does not start with a valid one.
static int utf8_length(const char *s, size_t left) {
  const unsigned char *u = (const unsigned char *)s;
  if (left == 0) return 0;
  if (u[0] < 0x80) return 1;
  int length = u[0] >= 0xF0 ? 4 : u[0] >= 0xE0 ? 3 : 2;
  if (u[0] < 0xC2 || u[0] > 0xF4 || left < (size_t)length) return 0;
  for (int i = 1; i < length; i++)
    if ((u[i] & 0xC0) != 0x80) return 0;
  if (u[0] == 0xE0 && u[1] < 0xA0) return 0;  // would fit in two bytes
  if (u[0] == 0xF0 && u[1] < 0x90) return 0;  // would fit in three
  if (u[0] == 0xED && u[1] >= 0xA0) return 0; // half of a surrogate pair
  if (u[0] == 0xF4 && u[1] >= 0x90) return 0; // above U+10FFFF
  return length;
}

static int utf8_write(char *out, uint32_t c) {
  if (c < 0x80) return out[0] = (char)c, 1;
  int length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (int i = length - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
  out[0] = (char)((0xF00 >> length & 0xFF) | c);
  return length;
}

// ------------------------------------------------------------------------------------------------
// Numbers. strtod and printf are right to the last bit but follow the locale in their decimal
// point, so the texts they see here have none: 12.5e3 is read as 125e2.

// The number whose text, valid JSON, is text[length]; digits is scratch for length + MAX_NUMBER
// bytes.
static double read_number(const char *text, size_t length, char *digits) {
  size_t n = 0, i = 0;
  long long exponent = 0, written = 0;
  for (bool fraction = false; i < length && (text[i] | 0x20) != 'e'; i++) {
    if (text[i] == '.') {
      fraction = true;
    } else {
      digits[n++] = text[i];
      exponent -= fraction;
    }
  }
  if (i < length) {
    bool negative = text[++i] == '-';
    for (i += negative || text[i] == '+'; i < length; i++)
      if (written < 1000000000000000) written = written * 10 + (text[i] - '0');
    exponent += negative ? -written : written;
  }
  snprintf(digits + n, MAX_NUMBER, "e%lld", exponent);
  return strtod(digits, NULL);
}

static double read_back(const char *digits, int count, int exponent, bool single) {
  char text[MAX_NUMBER];
  snprintf(text, sizeof text, "%.*se%d", count, digits, exponent - count + 1);
  double value = strtod(text, NULL);
  return single ? (double)(float)value : value;
}

// The shortest digits that read back as value (finite, > 0), d.ddd x 10^exponent. Returns their
// count.
static int shortest_digits(double value, bool single, char digits[MAX_NUMBER], int *exponent) {
  for (int count = 1;; count++) {
    char text[MAX_NUMBER];
    snprintf(text, sizeof text, "%.*e", count - 1, value);
    const char *c = text;
    for (int n = 0; *c != 'e'; c++)
      if (*c >= '0' && *c <= '9') digits[n++] = *c;
    *exponent = atoi(c + 1);
    if (count == 17 || read_back(digits, count, *exponent, single) == value) return count;
    // Below a power of two the numbers are closer than above it: there the next digits up may read
    // back although these, which are nearer, do not.
    if (digits[count - 1] == '9') continue;
    digits[count - 1]++;
    if (read_back(digits, count, *exponent, single) == value) return count;
  }
}

// The text that JavaScript gives a number. Returns its length.
static int print_number(char out[MAX_NUMBER], double value, bool single) {
  char digits[MAX_NUMBER];
  int exponent, n = 0;
  if (signbit(value)) out[n++] = '-'; // and -0 stays what it is
  if (value == 0) return out[n++] = '0', out[n] = 0, n;
  int count = shortest_digits(fabs(value), single, digits, &exponent);
  if (exponent < -6 || exponent > 20) {
    n += snprintf(out + n, MAX_NUMBER - (size_t)n, "%c%s%.*se%+d", digits[0], count > 1 ? "." : "",
                  count - 1, digits + 1, exponent);
  } else if (exponent < 0) {
    n += snprintf(out + n, MAX_NUMBER - (size_t)n, "0.%.*s%.*s", -exponent - 1, "00000", count,
                  digits);
  } else {
    for (int i = 0; i < count || i <= exponent; i++) {
      if (i == exponent + 1) out[n++] = '.';
      out[n++] = i < count ? digits[i] : '0';
    }
    out[n] = 0;
  }
  return n;
}

// ------------------------------------------------------------------------------------------------
// Reader

// A key that stands in an object not yet closed.
typedef struct open_key {
  const char *key;
  const char *at; // in the text
} open_key;

typedef struct reader {
  const char *text, *at, *end;
  df_arena *arena;
  char *strings;  // room for the next string; all of them share one piece of the arena
  open_key *keys; // of all open objects, innermost last
  size_t key_count, key_room;
  int depth;
  df_error *error;
} reader;

static df_status wrong(reader *r, const char *at, const char *what) {
  int line = 1, column = 1;
  for (const char *c = r->text; c < at; c++) {
    if (*c == '\n') {
      line++, column = 1;
    } else if ((*c & 0xC0) != 0x80) {
      column++; // characters, not bytes
    }
  }
  return df_fail(r->error, DF_BAD_FILE, "line %d, column %d: %s", line, column, what);
}

static df_status no_memory(reader *r) {
  return df_fail(r->error, DF_NO_MEMORY, "out of memory while reading JSON");
}

// "expected `what`, found ..." at the place where the reader stands.
static df_status expected(reader *r, const char *what) {
  char text[160];
  int length = r->at < r->end ? utf8_length(r->at, (size_t)(r->end - r->at)) : 0;
  if (r->at == r->end)
    snprintf(text, sizeof text, "expected %s, found the end", what);
  else if (length == 0 || (length == 1 && (*r->at < ' ' || *r->at == 127)))
    snprintf(text, sizeof text, "expected %s, found byte 0x%02x", what, (unsigned char)*r->at);
  else
    snprintf(text, sizeof text, "expected %s, found '%.*s'", what, length, r->at);
  return wrong(r, r->at, text);
}

static void skip_space(reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
    r->at++;
}

static bool take(reader *r, char c) { return r->at < r->end && *r->at == c && r->at++; }

// The four hexadecimal digits of a \u escape, or -1.
static int take_hex(reader *r) {
  if (r->end - r->at < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; i++, r->at++) {
    char c = *r->at, letter = c | 0x20;
    if (c >= '0' && c <= '9')
      value = value * 16 + c - '0';
    else if (letter >= 'a' && letter <= 'f')
      value = value * 16 + letter - 'a' + 10;
    else
      return -1;
  }
  return value;
}

static df_status read_escape(reader *r, char **out) {
  static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  const char *start = r->at - 1; // the backslash
  if (r->at == r->end) return expected(r, "an escape");
  const char *found = *r->at ? strchr(names, *r->at) : NULL;
  if (found) {
    r->at++;
    *(*out)++ = meant[found - names];
    return DF_OK;
  }
  if (!take(r, 'u')) return expected(r, "an escape: one of \"\\/bfnrtu");
  int c = take_hex(r);
  if (c < 0) return wrong(r, start, "expected four hexadecimal digits after \\u");
  if (c >= 0xD800 && c < 0xE000) { // a pair of these is one character above U+FFFF
    int low = c < 0xDC00 && take(r, '\\') && take(r, 'u') ? take_hex(r) : -1;
    if (low < 0xDC00 || low >= 0xE000)
      return wrong(r, start, "expected a surrogate pair, found half of one");
    c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
  }
  *out += utf8_write(*out, (uint32_t)c);
  return DF_OK;
}

// The string whose opening quote has been taken. Decoded and terminated it is not longer than in
// the text with its quotes, so r->strings never overflows.
static df_status read_string(reader *r, const char **string, int *length) {
  char *start = r->strings, *out = start;
  while (!take(r, '"')) {
    if (r->at == r->end) return expected(r, "a closing quote");
    if ((unsigned char)*r->at < ' ')
      return expected(r, "no control character in a string (write \\n, \\u0000)");
    if (take(r, '\\')) {
      df_status status = read_escape(r, &out);
      if (status) return status;
      continue;
    }
    int bytes = utf8_length(r->at, (size_t)(r->end - r->at));
    if (bytes == 0) return expected(r, "valid UTF-8");
    memcpy(out, r->at, (size_t)bytes);
    out += bytes;
    r->at += bytes;
  }
  *out++ = 0;
  r->strings = out;
  *string = start;
  *length = (int)(out - start - 1);
  return DF_OK;
}

static bool take_digits(reader *r) {
  const char *start = r->at;
  while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
  return r->at > start;
}

static df_status read_digits(reader *r, df_json *node) {
  const char *start = r->at;
  take(r, '-');
  if (!take(r, '0') && !take_digits(r)) return expected(r, "a digit");
  if (take(r, '.') && !take_digits(r)) return expected(r, "a digit after the point");
  if (take(r, 'e') || take(r, 'E')) {
    if (!take(r, '+')) take(r, '-');
    if (!take_digits(r)) return expected(r, "a digit of the exponent");
  }
  node->kind = DF_JSON_NUMBER;
  node->number = read_number(start, (size_t)(r->at - start), r->strings);
  return isfinite(node->number) ? DF_OK : wrong(r, start, "this number is too large for float64");
}

static int compare_keys(const void *a, const void *b) {
  const open_key *x = a, *y = b;
  int order = strcmp(x->key, y->key);
  return order ? order : (x->at > y->at) - (x->at < y->at);
}

// No two of the keys first .. may be equal. Sorted, so that a huge object takes no quadratic time.
static df_status check_keys(reader *r, size_t first) {
  size_t count = r->key_count - first;
  if (count == 0) return DF_OK;
  open_key *keys = r->keys + first;
  qsort(keys, count, sizeof *keys, compare_keys);
  r->key_count = first;
  for (size_t i = 1; i < count; i++) {
    if (strcmp(keys[i - 1].key, keys[i].key)) continue;
    char text[160];
    snprintf(text, sizeof text, "the key \"%.100s\" stands here for the second time", keys[i].key);
    return wrong(r, keys[i].at, text);
  }
  return DF_OK;
}

static df_status read_key(reader *r, const char **key) {
  const char *at = r->at;
  int length;
  if (!take(r, '"')) return expected(r, "a key");
  df_status status = read_string(r, key, &length);
  if (status) return status;
  if (strlen(*key) != (size_t)length) return wrong(r, at, "expected a key without \\u0000");
  if (r->key_count == r->key_room) {
    size_t room = r->key_room ? 2 * r->key_room : 64;
    open_key *grown = df_realloc(r->keys, room * sizeof *grown);
    if (!grown) return no_memory(r);
    r->keys = grown;
    r->key_room = room;
  }
  r->keys[r->key_count++] = (open_key){*key, at};
  skip_space(r);
  return take(r, ':') ? DF_OK : expected(r, "':' after the key");
}

static df_status read_value(reader *r, df_json *node);

// What stands between brackets; the opening one has been taken.
static df_status read_children(reader *r, df_json *node, char close) {
  bool object = close == '}';
  size_t first_key = r->key_count;
  df_json **next = &node->first;
  node->kind = object ? DF_JSON_OBJECT : DF_JSON_ARRAY;
  if (++r->depth > MAX_DEPTH) return wrong(r, r->at - 1, "nested deeper than 64 levels");
  skip_space(r);
  while (node->length || !take(r, close)) {
    df_json *child = df_arena_alloc(r->arena, sizeof *child);
    if (!child) return no_memory(r);
    df_status status = object ? read_key(r, &child->key) : DF_OK;
    if (!status) status = read_value(r, child);
    if (status) return status;
    *next = child;
    next = &child->next;
    node->length++;
    skip_space(r);
    if (take(r, close)) break;
    if (!take(r, ',')) return expected(r, object ? "',' or '}'" : "',' or ']'");
    skip_space(r);
  }
  r->depth--;
  return check_keys(r, first_key);
}

static df_status read_word(reader *r, df_json *node) {
  static const struct {
    const char *text;
    df_json_kind kind;
    double number;
  } words[] = {{"null", DF_JSON_NULL, 0}, {"false", DF_JSON_BOOL, 0}, {"true", DF_JSON_BOOL, 1}};
  for (int i = 0; i < 3; i++) {
    size_t length = strlen(words[i].text);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, words[i].text, length)) continue;
    r->at += length;
    node->kind = words[i].kind;
    node->number = words[i].number;
    return DF_OK;
  }
  return expected(r, "a value");
}

static df_status read_value(reader *r, df_json *node) {
  skip_space(r);
  if (take(r, '{')) return read_children(r, node, '}');
  if (take(r, '[')) return read_children(r, node, ']');
  if (take(r, '"')) {
    node->kind = DF_JSON_STRING;
    return read_string(r, &node->string, &node->length);
  }
  if (r->at < r->end && (*r->at == '-' || (*r->at >= '0' && *r->at <= '9')))
    return read_digits(r, node);
  return read_word(r, node);
}

df_status df_json_parse(const df_json **root, df_arena *arena, const char *text, size_t size,
                        df_error *error) {
  *root = NULL;
  if (size > INT32_MAX)
    return df_fail(error, DF_NOT_SUPPORTED, "a JSON text of %zu bytes is too long", size);
  reader r = {.text = text, .at = text, .end = text + size, .arena = arena, .error = error};
  df_json *node = df_arena_alloc(arena, sizeof *node);
  r.strings =
      df_arena_alloc(arena, size + MAX_NUMBER); // numbers are rewritten behind the last string
  if (!node || !r.strings) return no_memory(&r);
  df_status status = read_value(&r, node);
  df_free(r.keys);
  if (status) return status;
  skip_space(&r);
  if (r.at < r.end) return expected(&r, "the end");
  *root = node;
  return DF_OK;
}

// ------------------------------------------------------------------------------------------------
// Lookups

const df_json *df_json_at(const df_json *object, const char *key) {
  if (!object || object->kind != DF_JSON_OBJECT) return NULL;
  for (const df_json *child = object->first; child; child = child->next)
    if (!strcmp(child->key, key)) return child;
  return NULL;
}

const df_json *df_json_item(const df_json *array, int i) {
  if (!array || array->kind != DF_JSON_ARRAY || i < 0) return NULL;
  const df_json *child = array->first;
  while (child && i--) child = child->next;
  return child;
}

// A value as an error shows it.
static const char *show(const df_json *value, char text[64]) {
  char number[MAX_NUMBER];
  switch (value->kind) {
  case DF_JSON_NULL: return "null";
  case DF_JSON_BOOL: return value->number != 0 ? "true" : "false";
  case DF_JSON_NUMBER:
    print_number(number, value->number, false);
    snprintf(text, 64, "%s", number);
    return text;
  case DF_JSON_STRING:
    snprintf(text, 64, "\"%.40s%s\"", value->string, value->length > 40 ? "..." : "");
    return text;
  case DF_JSON_ARRAY: return value->length ? "an array" : "an empty array";
  default: return "an object";
  }
}

// "diffusion.levels: expected `what`, found ..."; key NULL: of the object itself.
static df_status mismatch(const df_json *object, const char *key, const df_json *value,
                          df_error *error, const char *what) {
  char text[64];
  const char *outer = object->key ? object->key : "";
  return df_fail(error, DF_BAD_CONFIG, "%s%s%s: expected %s, found %s", outer,
                 *outer && key ? "." : "",
                 key      ? key
                 : *outer ? ""
                          : "the whole",
                 what, show(value, text));
}

// The value of a key, or NULL if there is none; anything but an object is an error.
static df_status find(const df_json *object, const char *key, const df_json **value,
                      df_error *error) {
  *value = df_json_at(object, key);
  if (object && object->kind != DF_JSON_OBJECT)
    return mismatch(object, NULL, object, error, "an object");
  return DF_OK;
}

df_status df_json_get_int(const df_json *object, const char *key, int low, int high, int *out,
                          df_error *error) {
  const df_json *value;
  df_status status = find(object, key, &value, error);
  if (status || !value) return status;
  double number = value->number;
  if (value->kind == DF_JSON_NUMBER && number >= low && number <= high && number == floor(number)) {
    *out = (int)number;
    return DF_OK;
  }
  char what[64];
  snprintf(what, sizeof what, "an integer from %d to %d", low, high);
  return mismatch(object, key, value, error, what);
}

df_status df_json_get_number(const df_json *object, const char *key, double *out, df_error *error) {
  const df_json *value;
  df_status status = find(object, key, &value, error);
  if (status || !value) return status;
  if (value->kind != DF_JSON_NUMBER) return mismatch(object, key, value, error, "a number");
  *out = value->number;
  return DF_OK;
}

df_status df_json_get_bool(const df_json *object, const char *key, bool *out, df_error *error) {
  const df_json *value;
  df_status status = find(object, key, &value, error);
  if (status || !value) return status;
  if (value->kind != DF_JSON_BOOL) return mismatch(object, key, value, error, "true or false");
  *out = value->number != 0;
  return DF_OK;
}

// A text that C can hold: one with a NUL inside would be cut there.
static bool is_text(const df_json *value) {
  return value->kind == DF_JSON_STRING && strlen(value->string) == (size_t)value->length;
}

df_status df_json_get_string(const df_json *object, const char *key, const char **out,
                             df_error *error) {
  const df_json *value;
  df_status status = find(object, key, &value, error);
  if (status || !value) return status;
  if (!is_text(value)) return mismatch(object, key, value, error, "a text without \\u0000");
  *out = value->string;
  return DF_OK;
}

// names as `"a", "b" or "c"`, cut where text[size] ends
static const char *list(const char *const *names, int count, char *text, size_t size) {
  size_t at = 0;
  text[0] = 0;
  for (int i = 0; i < count && at < size; i++)
    at += (size_t)snprintf(text + at, size - at, "%s\"%s\"",
                           i == 0          ? ""
                           : i < count - 1 ? ", "
                                           : " or ",
                           names[i]);
  return text;
}

df_status df_json_get_enum(const df_json *object, const char *key, const char *const *names,
                           int count, int *out, df_error *error) {
  const df_json *value;
  df_status status = find(object, key, &value, error);
  if (status || !value) return status;
  for (int i = 0; i < count && is_text(value); i++) {
    if (strcmp(value->string, names[i])) continue;
    *out = i;
    return DF_OK;
  }
  char text[256];
  return mismatch(object, key, value, error, list(names, count, text, sizeof text));
}

df_status df_json_get_floats(const df_json *object, const char *key, df_arena *arena,
                             float **values, int *count, df_error *error) {
  const df_json *value;
  *values = NULL;
  *count = 0;
  df_status status = find(object, key, &value, error);
  if (status || !value) return status;
  if (value->kind != DF_JSON_ARRAY)
    return mismatch(object, key, value, error, "an array of numbers");
  float *out = df_arena_alloc(arena, (size_t)value->length * sizeof *out);
  if (!out) return df_fail(error, DF_NO_MEMORY, "out of memory while reading \"%s\"", key);
  int i = 0;
  for (const df_json *item = value->first; item; item = item->next, i++) {
    if (item->kind != DF_JSON_NUMBER || fabs(item->number) > 3.4028235e38)
      return mismatch(object, key, item, error, "an array of float32 numbers");
    out[i] = (float)item->number;
  }
  *values = out;
  *count = value->length;
  return DF_OK;
}

df_status df_json_only(const df_json *object, const char *const *keys, int count, df_error *error) {
  if (!object) return DF_OK;
  if (object->kind != DF_JSON_OBJECT) return mismatch(object, NULL, object, error, "an object");
  for (const df_json *child = object->first; child; child = child->next) {
    bool known = false;
    for (int i = 0; i < count && !known; i++) known = !strcmp(child->key, keys[i]);
    if (known) continue;
    char text[256];
    return df_fail(error, DF_BAD_CONFIG, "%s%sunknown key \"%.100s\"; expected %s",
                   object->key ? object->key : "", object->key ? ": " : "", child->key,
                   list(keys, count, text, sizeof text));
  }
  return DF_OK;
}

// ------------------------------------------------------------------------------------------------
// Writer

static void append(df_json_writer *w, const char *text, size_t length) {
  if (w->failed) return;
  if (w->size + length + 1 > w->room) {
    size_t room = 2 * (w->size + length) + 64;
    char *grown = df_realloc(w->text, room);
    if (!grown) {
      df_json_writer_free(w);
      w->failed = true;
      return;
    }
    w->text = grown;
    w->room = room;
  }
  memcpy(w->text + w->size, text, length);
  w->size += length;
  w->text[w->size] = 0;
}

static void append_text(df_json_writer *w, const char *text) { append(w, text, strlen(text)); }

static void append_line(df_json_writer *w) {
  if (w->indent == 0 || w->depth < 0) return;
  append(w, "\n", 1);
  for (int i = 0; i < w->depth * w->indent; i++) append(w, " ", 1);
}

// In quotes; bytes that are not UTF-8 become U+FFFD, so that what is written can be read.
static void append_string(df_json_writer *w, const char *string, size_t length) {
  append(w, "\"", 1);
  for (size_t i = 0; i < length;) {
    unsigned char c = (unsigned char)string[i];
    int bytes = utf8_length(string + i, length - i);
    const char *found = c ? strchr("\"\\\b\f\n\r\t", c) : NULL;
    if (found) {
      append(w, (char[]){'\\', "\"\\bfnrt"[found - "\"\\\b\f\n\r\t"]}, 2);
    } else if (bytes == 0) {
      append_text(w, "\xEF\xBF\xBD");
    } else if (c < ' ') {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", c);
      append_text(w, escape);
    } else {
      append(w, string + i, (size_t)bytes);
    }
    i += bytes ? (size_t)bytes : 1;
  }
  append(w, "\"", 1);
}

// What comes before a value: comma, new line, key. Afterwards a comma is due.
static void begin_value(df_json_writer *w, const char *key) {
  if (w->comma) append(w, ",", 1);
  if (w->depth > 0) append_line(w);
  if (key) {
    append_string(w, key, strlen(key));
    append_text(w, w->indent ? ": " : ":");
  }
  w->comma = true;
}

static void begin_children(df_json_writer *w, const char *key, const char *bracket) {
  begin_value(w, key);
  append_text(w, bracket);
  w->depth++;
  w->comma = false;
}

static void end_children(df_json_writer *w, const char *bracket) {
  w->depth--;
  if (w->comma) append_line(w); // not in an empty one
  append_text(w, bracket);
  w->comma = true;
}

void df_json_object_begin(df_json_writer *w, const char *key) { begin_children(w, key, "{"); }
void df_json_object_end(df_json_writer *w) { end_children(w, "}"); }
void df_json_array_begin(df_json_writer *w, const char *key) { begin_children(w, key, "["); }
void df_json_array_end(df_json_writer *w) { end_children(w, "]"); }

void df_json_put_string(df_json_writer *w, const char *key, const char *value) {
  begin_value(w, key);
  if (value)
    append_string(w, value, strlen(value));
  else
    append_text(w, "null");
}

static void append_number(df_json_writer *w, double value, bool single) {
  char text[MAX_NUMBER];
  if (isfinite(value))
    append(w, text, (size_t)print_number(text, value, single));
  else
    append_text(w, "null");
}

void df_json_put_number(df_json_writer *w, const char *key, double value) {
  begin_value(w, key);
  append_number(w, value, false);
}

void df_json_put_bool(df_json_writer *w, const char *key, bool value) {
  begin_value(w, key);
  append_text(w, value ? "true" : "false");
}

// Between the numbers of a row.
static void append_gap(df_json_writer *w) { append_text(w, w->indent ? ", " : ","); }

void df_json_put_floats(df_json_writer *w, const char *key, const float *values, int count) {
  begin_value(w, key);
  append(w, "[", 1);
  for (int i = 0; i < count; i++) {
    if (i) append_gap(w);
    append_number(w, values[i], true);
  }
  append(w, "]", 1);
}

// A value without children.
static void append_leaf(df_json_writer *w, const df_json *value) {
  switch (value->kind) {
  case DF_JSON_NULL: append_text(w, "null"); break;
  case DF_JSON_BOOL: append_text(w, value->number != 0 ? "true" : "false"); break;
  case DF_JSON_NUMBER: append_number(w, value->number, false); break;
  case DF_JSON_STRING: append_string(w, value->string, (size_t)value->length); break;
  case DF_JSON_ARRAY: append_text(w, "[]"); break;
  case DF_JSON_OBJECT: append_text(w, "{}"); break;
  }
}

static bool is_row(const df_json *value) { // an array without grandchildren
  if (value->kind != DF_JSON_ARRAY) return false;
  for (const df_json *child = value->first; child; child = child->next)
    if (child->first) return false;
  return true;
}

void df_json_put(df_json_writer *w, const char *key, const df_json *value) {
  static const df_json null = {.kind = DF_JSON_NULL};
  if (!value) value = &null;
  if (!value->first) {
    begin_value(w, key);
    append_leaf(w, value);
  } else if (is_row(value)) { // one line, as df_json_put_floats writes it
    begin_value(w, key);
    append_text(w, "[");
    for (const df_json *child = value->first; child; child = child->next) {
      append_leaf(w, child);
      if (child->next) append_gap(w);
    }
    append_text(w, "]");
  } else {
    bool object = value->kind == DF_JSON_OBJECT;
    begin_children(w, key, object ? "{" : "[");
    for (const df_json *child = value->first; child; child = child->next)
      df_json_put(w, child->key, child);
    end_children(w, object ? "}" : "]");
  }
}

void df_json_writer_free(df_json_writer *w) {
  df_free(w->text);
  w->text = NULL;
  w->size = w->room = 0;
}
