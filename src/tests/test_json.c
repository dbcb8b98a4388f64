// JSON: what is read, what is refused and where, lookups, and the writer.
#include <stdint.h>
#include <stdlib.h>

#include "base/progress.h"
#include "base/random.h"
#include "io/json.h"
#include "tests/test.h"

static df_arena arena;

static const df_json *parse(const char *text) {
  const df_json *root;
  CHECK_OK(df_json_parse(&root, &arena, text, strlen(text), &test_error));
  return root;
}

// The one-line text of a tree, in the arena.
static const char *print(const df_json *root) {
  df_json_writer w = {0};
  df_json_put(&w, NULL, root);
  const char *text = df_arena_print(&arena, "%s", w.text ? w.text : "(none)");
  df_json_writer_free(&w);
  return text;
}

// ------------------------------------------------------------------------------------------------
// Reader

TEST(a_tree_is_read) {
  const df_json *root = parse(
      " { \"a\" : [1, -2.5, true, null],\n\t\"b\": {\"c\": \"text\"}, \"\": {}, \"e\": [] } ");
  REQUIRE(root);
  CHECK_INT(root->kind, DF_JSON_OBJECT);
  CHECK_INT(root->length, 4);
  CHECK(root->key == NULL && root->next == NULL);
  const df_json *a = df_json_at(root, "a");
  REQUIRE(a);
  CHECK_TEXT(a->key, "a");
  CHECK_INT(a->kind, DF_JSON_ARRAY);
  CHECK_INT(a->length, 4);
  CHECK_NEAR(df_json_item(a, 1)->number, -2.5, 0);
  CHECK_INT(df_json_item(a, 2)->kind, DF_JSON_BOOL);
  CHECK_NEAR(df_json_item(a, 2)->number, 1, 0);
  CHECK_INT(df_json_item(a, 3)->kind, DF_JSON_NULL);
  CHECK(df_json_item(a, 4) == NULL && df_json_item(a, -1) == NULL && df_json_item(root, 0) == NULL);
  CHECK_TEXT(df_json_at(df_json_at(root, "b"), "c")->string, "text");
  CHECK_INT(df_json_at(root, "")->length, 0);
  CHECK(df_json_at(root, "e")->first == NULL);
  CHECK(df_json_at(root, "f") == NULL && df_json_at(a, "a") == NULL &&
        df_json_at(NULL, "a") == NULL);
  df_arena_free(&arena);
}

TEST(valid_texts_are_read_and_written_again) {
  static const struct {
    const char *text, *again; // NULL: the same
  } cases[] = {
      {"null", NULL},
      {"true", NULL},
      {" false\r\n", "false"},
      {"\"\"", NULL},
      {"[]", NULL},
      {"{}", NULL},
      {"[ ]", "[]"},
      {"{ }", "{}"},
      {"[[[[]],{}]]", NULL},
      {"{\"b\":1,\"a\":2}", NULL}, // the order stays
      {"[1,\"two\",null,{\"three\":[false]}]", NULL},
      {"\"\\u0041\\u00e9\\u4E2D\\ud83D\\uDE00\"", "\"Aé中😀\""},
      {"\"é中😀\x7f\"", NULL},
      {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u001f\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u001f\""},
      {"\"a\\u0000b\"", NULL},
      {"\"\xEF\xBF\xBF\xF4\x8F\xBF\xBF\xC2\x80\xE0\xA0\x80\xF0\x90\x80\x80\xED\x9F\xBF\"",
       NULL}, // the limits
  };
  for (int c = 0; c < COUNT(cases); c++) {
    DURING("case %d", c);
    CHECK_TEXT(print(parse(cases[c].text)), cases[c].again ? cases[c].again : cases[c].text);
  }
  df_arena_free(&arena);
}

TEST(strings_know_their_length) {
  const df_json *root = parse("[\"a\\u0000b\", \"é\"]");
  REQUIRE(root);
  CHECK_INT(df_json_item(root, 0)->length, 3);
  CHECK(memcmp(df_json_item(root, 0)->string, "a\0b", 4) == 0);
  CHECK_INT(df_json_item(root, 1)->length, 2);
  df_arena_free(&arena);
}

TEST(wrong_texts_are_refused_at_the_right_place) {
  static const struct {
    const char *text, *message;
  } cases[] = {
      {"", "line 1, column 1: expected a value, found the end"},
      {"  \n ", "line 2, column 2: expected a value, found the end"},
      {"nul", "line 1, column 1: expected a value, found 'n'"},
      {"True", "line 1, column 1: expected a value, found 'T'"},
      {"NaN", "column 1: expected a value"},
      {"'a'", "column 1: expected a value, found '''"},
      {"\xEF\xBB\xBF{}", "column 1: expected a value"}, // a byte order mark
      {"1 2", "column 3: expected the end, found '2'"},
      {"[1,]", "column 4: expected a value, found ']'"},
      {"[,1]", "column 2: expected a value"},
      {"[1 2]", "column 4: expected ',' or ']', found '2'"},
      {"[1", "column 3: expected ',' or ']', found the end"},
      {"[1}", "column 3: expected ',' or ']', found '}'"},
      {"{\"a\":1,}", "column 8: expected a key, found '}'"},
      {"{a:1}", "column 2: expected a key, found 'a'"},
      {"{\"a\" 1}", "column 6: expected ':' after the key, found '1'"},
      {"{\"a\":}", "column 6: expected a value, found '}'"},
      {"{\"a\":1]", "column 7: expected ',' or '}', found ']'"},
      {"{\n  \"a\": 1,\n  \"b\": x\n}", "line 3, column 8: expected a value, found 'x'"},
      {"[1] // no", "column 5: expected the end, found '/'"},
      {"01", "column 2: expected the end, found '1'"},
      {"-", "column 2: expected a digit, found the end"},
      {"+1", "column 1: expected a value, found '+'"},
      {".5", "column 1: expected a value"},
      {"1.", "column 3: expected a digit after the point"},
      {"1.e3", "column 3: expected a digit after the point, found 'e'"},
      {"1e", "column 3: expected a digit of the exponent"},
      {"1e+", "column 4: expected a digit of the exponent"},
      {"0x10", "column 2: expected the end, found 'x'"},
      {"-Infinity", "column 2: expected a digit, found 'I'"},
      {"[1e999]", "column 2: this number is too large for float64"},
      {"\"abc", "column 5: expected a closing quote, found the end"},
      {"\"a\nb\"",
       "column 3: expected no control character in a string (write \\n, \\u0000), found byte 0x0a"},
      {"\"\\", "column 3: expected an escape, found the end"},
      {"\"\\x\"", "column 3: expected an escape: one of \"\\/bfnrtu, found 'x'"},
      {"\"\\u12g4\"", "column 2: expected four hexadecimal digits after \\u"},
      {"\"\\u12", "column 2: expected four hexadecimal digits"},
      {"\"\\ud800\"", "column 2: expected a surrogate pair, found half of one"},
      {"\"\\ud800\\n\"", "column 2: expected a surrogate pair"},
      {"\"\\ud800\\u0041\"", "column 2: expected a surrogate pair"},
      {"\"é\\udc00\\ud800\"",
       "column 3: expected a surrogate pair"}, // the columns count characters
      {"\"\x80\"", "column 2: expected valid UTF-8, found byte 0x80"},
      {"\"\xC3\"", "column 2: expected valid UTF-8"},
      {"\"\xC0\xAF\"", "column 2: expected valid UTF-8"},         // '/' in two bytes
      {"\"\xE0\x9F\xBF\"", "column 2: expected valid UTF-8"},     // two bytes in three
      {"\"\xF0\x8F\xBF\xBF\"", "column 2: expected valid UTF-8"}, // three in four
      {"\"\xED\xA0\x80\"", "column 2: expected valid UTF-8"},     // a surrogate
      {"\"\xF4\x90\x80\x80\"", "column 2: expected valid UTF-8"}, // above U+10FFFF
      {"\"\xFF\"", "column 2: expected valid UTF-8, found byte 0xff"},
      {"{\"a\":1,\n \"b\":2,\n \"a\":3}",
       "line 3, column 2: the key \"a\" stands here for the second time"},
      {"{\"x\":{\"a\":1},\"a\":2,\"\\u0061\":3}", "column 20: the key \"a\""},
      {"{\"a\\u0000b\":1}", "column 2: expected a key without \\u0000"},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    const df_json *root;
    DURING("%s", cases[c].text);
    CHECK_STATUS(df_json_parse(&root, &arena, cases[c].text, strlen(cases[c].text), &test_error),
                 DF_BAD_FILE);
    CHECK_CONTAINS(test_error.message, cases[c].message);
    CHECK(root == NULL);
  }
  df_arena_free(&arena);
}

TEST(a_text_cut_anywhere_is_refused) {
  const char *text = "{\"a\": [1.5e-3, \"\\ud83d\\ude00\", true], \"b\": {\"c\": null}}";
  for (size_t cut = 0; cut < strlen(text); cut++) {
    // A block of its own, so that the sanitizer sees a read past the end.
    char *copy = df_alloc(cut);
    const df_json *root;
    REQUIRE(copy);
    memcpy(copy, text, cut);
    DURING("cut at %zu", cut);
    CHECK_STATUS(df_json_parse(&root, &arena, copy, cut, &test_error), DF_BAD_FILE);
    df_free(copy);
  }
  df_arena_free(&arena);
}

TEST(nesting_ends_at_64_levels) {
  char text[200];
  for (int depth = 63; depth <= 66; depth++) {
    const df_json *root;
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    DURING("depth %d", depth);
    CHECK_STATUS(df_json_parse(&root, &arena, text, 2 * (size_t)depth, &test_error),
                 depth <= 64 ? DF_OK : DF_BAD_FILE);
  }
  CHECK_CONTAINS(test_error.message, "column 65: nested deeper than 64 levels");
  df_arena_free(&arena);
}

TEST(siblings_do_not_count_as_depth) {
  df_json_writer w = {0};
  const df_json *root;
  df_json_array_begin(&w, NULL);
  for (int i = 0; i < 200; i++) df_json_array_begin(&w, NULL), df_json_array_end(&w);
  df_json_array_end(&w);
  CHECK_OK(df_json_parse(&root, &arena, w.text, w.size, &test_error));
  df_json_writer_free(&w);
  df_arena_free(&arena);
}

TEST(a_huge_object_takes_no_quadratic_time) {
  enum { KEYS = 200000 };
  df_json_writer w = {0};
  const df_json *root;
  df_json_object_begin(&w, NULL);
  for (int i = 0; i < KEYS; i++) {
    char key[64];
    snprintf(key, sizeof key, "model.layer.with.a.long.name.%d", i * 7919 % KEYS);
    df_json_put_number(&w, key, i);
  }
  df_json_object_end(&w);
  double start = df_seconds();
  CHECK_OK(df_json_parse(&root, &arena, w.text, w.size, &test_error));
  CHECK(df_seconds() - start < 30); // quadratic would be minutes
  CHECK_INT(root->length, KEYS);
  // The same with the first key once more at the end.
  w.text[w.size - 1] = ',';
  w.comma = false;
  df_json_put_number(&w, "model.layer.with.a.long.name.0", 1);
  df_json_object_end(&w);
  CHECK_STATUS(df_json_parse(&root, &arena, w.text, w.size, &test_error), DF_BAD_FILE);
  CHECK_CONTAINS(test_error.message,
                 "model.layer.with.a.long.name.0\" stands here for the second time");
  df_json_writer_free(&w);
  df_arena_free(&arena);
}

static df_status parse_and_forget(const char *text) {
  df_arena own = {0};
  const df_json *root;
  df_status status = df_json_parse(&root, &own, text, strlen(text), &test_error);
  df_arena_free(&own);
  return status;
}

TEST(reading_survives_running_out_of_memory) {
  static char text[8000] = "[{\"key\": \"value\"}";
  for (int i = 0; i < 200; i++) strcat(text, ",[{\"key\": [1, 2]}]");
  strcat(text, "]");
  CHECK_WITHOUT_MEMORY(parse_and_forget(text));
}

// ------------------------------------------------------------------------------------------------
// Numbers

TEST(numbers_are_read_to_the_last_bit) {
  static const struct {
    const char *text;
    double value;
  } cases[] = {
      {"0", 0},
      {"-0", -0.0},
      {"1", 1},
      {"-12", -12},
      {"0.1", 0.1},
      {"12.5e3", 12500},
      {"12.5E-3", 0.0125},
      {"1e+2", 100},
      {"0.000001e6", 1},
      {"123456789012345678901234567890", 123456789012345678901234567890.0},
      {"1.7976931348623157e308", 1.7976931348623157e308},
      {"5e-324", 5e-324},
      {"2.2250738585072014e-308", 2.2250738585072014e-308},
      {"2.2250738585072011e-308", 2.2250738585072011e-308},
      {"9007199254740993", 9007199254740992},
      {"9007199254740993.00000000000000000000000000000000001", 9007199254740994},
      {"1e-400", 0},
      {"0e999999999999999999999", 0},
      {"1e-999999999999999999999", 0},
      {"0.3333333333333333148296162562473909929394721984863281250",
       0.3333333333333333148296162562473909929394721984863281250},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    const df_json *root = parse(cases[c].text);
    DURING("%s", cases[c].text);
    CHECK(root && root->kind == DF_JSON_NUMBER && memcmp(&root->number, &cases[c].value, 8) == 0);
  }
  df_arena_free(&arena);
}

TEST(long_numbers_are_numbers) {
  static char text[200100];
  memset(text, '0', 200000);
  text[1] = '.';
  strcpy(text + 150000, "12e150000");
  const df_json *root = parse(text);
  REQUIRE(root);
  CHECK_NEAR(root->number, 12, 0); // 149,998 zeros stand behind the point
  df_arena_free(&arena);
}

static const char *number_text(double value) {
  df_json_writer w = {0};
  df_json_put_number(&w, NULL, value);
  const char *text = df_arena_print(&arena, "%s", w.text);
  df_json_writer_free(&w);
  return text;
}

TEST(numbers_are_written_as_in_javascript) {
  static const struct {
    double value;
    const char *text;
  } cases[] = {
      {0, "0"},
      {-0.0, "-0"},
      {1, "1"},
      {-1, "-1"},
      {10, "10"},
      {0.1, "0.1"},
      {-0.25, "-0.25"},
      {0.1 + 0.2, "0.30000000000000004"},
      {1.0 / 3, "0.3333333333333333"},
      {123456.789, "123456.789"},
      {1000000, "1000000"},
      {9007199254740991, "9007199254740991"},
      {123456789012345680000.0, "123456789012345680000"},
      {1e20, "100000000000000000000"},
      {1e21, "1e+21"},
      {1.5e21, "1.5e+21"},
      {0.000001, "0.000001"},
      {0.00000123, "0.00000123"},
      {1e-7, "1e-7"},
      {1.25e-7, "1.25e-7"},
      {5e-324, "5e-324"},
      {2.2250738585072014e-308, "2.2250738585072014e-308"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {5.684341886080802e-14, "5.684341886080802e-14"}, // 2^-44: the gaps below and above differ
      {9.5367431640625e-7, "9.5367431640625e-7"},
      {INFINITY, "null"},
      {-INFINITY, "null"},
      {NAN, "null"},
  };
  for (int c = 0; c < COUNT(cases); c++) CHECK_TEXT(number_text(cases[c].value), cases[c].text);
  df_arena_free(&arena);
}

TEST(floats_are_written_with_as_few_digits_as_float32_needs) {
  float values[] = {0, 0.1f, -2.5f, 1.0f / 3, 16777216, 3.4028235e38f, 1e-45f, 0.25f, NAN};
  df_json_writer w = {.indent = 2};
  df_json_object_begin(&w, NULL);
  df_json_put_floats(&w, "mean", values, COUNT(values));
  df_json_put_floats(&w, "none", NULL, 0);
  df_json_object_end(&w);
  CHECK_TEXT(
      w.text,
      "{\n  \"mean\": [0, 0.1, -2.5, 0.33333334, 16777216, 3.4028235e+38, 1e-45, 0.25, null],\n"
      "  \"none\": []\n}");
  df_json_writer_free(&w);
}

TEST(any_number_reads_back_the_same) {
  for (uint32_t i = 0; i < 20000; i++) {
    uint32_t word[4];
    double value;
    df_random at = {.seed = 1, .token = i, .purpose = DF_RANDOM_TEST};
    df_random_block(&at, 0, word);
    if (i % 4 == 0) word[0] = 0, word[1] &= 0xFFF00000; // powers of two
    if (i % 4 == 1) word[1] &= 0x800FFFFF;              // subnormals
    memcpy(&value, word, 8);
    if (i % 4 == 2) value = (int32_t)word[0] / 1000.0;
    if (!isfinite(value)) continue;
    const df_json *root = parse(number_text(value));
    CHECK(root && memcmp(&root->number, &value, 8) == 0);

    float single, back = 0, *values = NULL;
    int count = 0;
    memcpy(&single, &word[2], 4);
    if (!isfinite(single)) continue;
    df_json_writer w = {0};
    df_json_object_begin(&w, NULL);
    df_json_put_floats(&w, "x", &single, 1);
    df_json_object_end(&w);
    CHECK_OK(df_json_get_floats(parse(w.text), "x", &arena, &values, &count, &test_error));
    if (CHECK_INT(count, 1)) back = values[0];
    CHECK(memcmp(&back, &single, 4) == 0);
    df_json_writer_free(&w);
    if (i % 256 == 0) df_arena_free(&arena);
  }
  df_arena_free(&arena);
}

// ------------------------------------------------------------------------------------------------
// Lookups

static const char *config =
    "{\"diffusion\": {\"levels\": 1000, \"eta\": 0.5, \"on\": true, \"schedule\": \"cosine\", "
    "\"name\": \"many\", \"null\": null, \"half\": 0.5, \"list\": [1, 2.5], \"empty\": [], "
    "\"words\": [1, \"x\"], \"nul\": \"a\\u0000b\", \"huge\": [1e39]}}";
static const char *schedules[] = {"linear", "cosine", "sigmoid"};

TEST(lookups_find_values) {
  const df_json *d = df_json_at(parse(config), "diffusion");
  int levels = 0, kind = -1, count = -1;
  double eta = 0;
  bool on = false;
  const char *name = NULL;
  float *list = NULL;
  REQUIRE(d);
  CHECK_OK(df_json_get_int(d, "levels", 1, 100000, &levels, &test_error));
  CHECK_INT(levels, 1000);
  CHECK_OK(df_json_get_number(d, "eta", &eta, &test_error));
  CHECK_NEAR(eta, 0.5, 0);
  CHECK_OK(df_json_get_bool(d, "on", &on, &test_error));
  CHECK(on);
  CHECK_OK(df_json_get_string(d, "name", &name, &test_error));
  CHECK_TEXT(name, "many");
  CHECK_OK(df_json_get_enum(d, "schedule", schedules, 3, &kind, &test_error));
  CHECK_INT(kind, 1);
  CHECK_OK(df_json_get_floats(d, "list", &arena, &list, &count, &test_error));
  CHECK(count == 2 && list && list[0] == 1 && list[1] == 2.5f);
  CHECK_OK(df_json_get_floats(d, "empty", &arena, &list, &count, &test_error));
  CHECK_INT(count, 0);
  df_arena_free(&arena);
}

TEST(a_missing_key_leaves_the_default) {
  const df_json *roots[] = {parse("{}"), NULL};
  for (int r = 0; r < 2; r++) {
    int i = 5, count = 7;
    double number = 6;
    bool on = true;
    const char *text = "default";
    float none, *list = &none;
    CHECK_OK(df_json_get_int(roots[r], "x", 0, 9, &i, &test_error));
    CHECK_OK(df_json_get_number(roots[r], "x", &number, &test_error));
    CHECK_OK(df_json_get_bool(roots[r], "x", &on, &test_error));
    CHECK_OK(df_json_get_string(roots[r], "x", &text, &test_error));
    CHECK_OK(df_json_get_enum(roots[r], "x", schedules, 3, &i, &test_error));
    CHECK_OK(df_json_get_floats(roots[r], "x", &arena, &list, &count, &test_error));
    CHECK_OK(df_json_only(roots[r], schedules, 3, &test_error));
    CHECK(i == 5 && number == 6 && on && list == NULL && count == 0);
    CHECK_TEXT(text, "default");
  }
  df_arena_free(&arena);
}

TEST(a_value_of_the_wrong_kind_is_named) {
  const df_json *root = parse(config), *d = df_json_at(root, "diffusion");
  int i = 0;
  double number;
  bool on;
  const char *text;
  float *list;
  REQUIRE(d);
#define REFUSED(call, words)                                                                       \
  do {                                                                                             \
    CHECK_STATUS(call, DF_BAD_CONFIG);                                                             \
    CHECK_TEXT(test_error.message, words);                                                         \
  } while (0)
  REFUSED(df_json_get_int(d, "name", 1, 100000, &i, &test_error),
          "diffusion.name: expected an integer from 1 to 100000, found \"many\"");
  REFUSED(df_json_get_int(d, "levels", 1, 999, &i, &test_error),
          "diffusion.levels: expected an integer from 1 to 999, found 1000");
  REFUSED(df_json_get_int(d, "half", -5, 999, &i, &test_error),
          "diffusion.half: expected an integer from -5 to 999, found 0.5");
  REFUSED(df_json_get_int(root, "diffusion", 1, 2, &i, &test_error),
          "diffusion: expected an integer from 1 to 2, found an object");
  REFUSED(df_json_get_number(d, "null", &number, &test_error),
          "diffusion.null: expected a number, found null");
  REFUSED(df_json_get_bool(d, "levels", &on, &test_error),
          "diffusion.levels: expected true or false, found 1000");
  REFUSED(df_json_get_string(d, "on", &text, &test_error),
          "diffusion.on: expected a text without \\u0000, found true");
  CHECK_STATUS(df_json_get_string(d, "nul", &text, &test_error), DF_BAD_CONFIG);
  REFUSED(df_json_get_enum(d, "name", schedules, 3, &i, &test_error),
          "diffusion.name: expected \"linear\", \"cosine\" or \"sigmoid\", found \"many\"");
  REFUSED(df_json_get_floats(d, "name", &arena, &list, &i, &test_error),
          "diffusion.name: expected an array of numbers, found \"many\"");
  REFUSED(df_json_get_floats(d, "words", &arena, &list, &i, &test_error),
          "diffusion.words: expected an array of float32 numbers, found \"x\"");
  CHECK_STATUS(df_json_get_floats(d, "huge", &arena, &list, &i, &test_error), DF_BAD_CONFIG);
  CHECK(list == NULL);
  REFUSED(df_json_get_int(df_json_at(d, "list"), "x", 1, 2, &i, &test_error),
          "list: expected an object, found an array");
  REFUSED(df_json_only(df_json_at(d, "list"), schedules, 3, &test_error),
          "list: expected an object, found an array");
#undef REFUSED
  df_arena_free(&arena);
}

TEST(an_unknown_key_is_named) {
  const char *keys[] = {"levels", "schedule"};
  const df_json *root = parse("{\"levels\": 1, \"schedule\": 2, \"inner\": {\"levles\": 3}}");
  CHECK_STATUS(df_json_only(root, keys, 2, &test_error), DF_BAD_CONFIG);
  CHECK_TEXT(test_error.message, "unknown key \"inner\"; expected \"levels\" or \"schedule\"");
  CHECK_STATUS(df_json_only(df_json_at(root, "inner"), keys, 2, &test_error), DF_BAD_CONFIG);
  CHECK_TEXT(test_error.message,
             "inner: unknown key \"levles\"; expected \"levels\" or \"schedule\"");
  CHECK_OK(df_json_only(parse("{\"schedule\": 2}"), keys, 2, &test_error));
  df_arena_free(&arena);
}

// ------------------------------------------------------------------------------------------------
// Writer

static void write_sample(df_json_writer *w) {
  df_json_object_begin(w, NULL);
  df_json_put_string(w, "name", "a \"quoted\"\n\x01 é");
  df_json_put_string(w, "nothing", NULL);
  df_json_put_bool(w, "yes", true);
  df_json_array_begin(w, "list");
  df_json_put_number(w, NULL, 1);
  df_json_object_begin(w, NULL);
  df_json_object_end(w);
  df_json_array_end(w);
  df_json_array_begin(w, "empty");
  df_json_array_end(w);
  df_json_put_bool(w, "no", false);
  df_json_object_end(w);
}

TEST(one_line_or_indented) {
  df_json_writer line = {0}, lines = {.indent = 2};
  write_sample(&line);
  write_sample(&lines);
  CHECK_TEXT(line.text, "{\"name\":\"a \\\"quoted\\\"\\n\\u0001 é\",\"nothing\":null,\"yes\":true,"
                        "\"list\":[1,{}],\"empty\":[],\"no\":false}");
  CHECK_TEXT(
      lines.text,
      "{\n  \"name\": \"a \\\"quoted\\\"\\n\\u0001 é\",\n  \"nothing\": null,\n  \"yes\": true,\n"
      "  \"list\": [\n    1,\n    {}\n  ],\n  \"empty\": [],\n  \"no\": false\n}");
  CHECK_INT(line.size, strlen(line.text));
  const df_json *root = parse(lines.text);
  CHECK_TEXT(print(root), line.text);
  df_json_writer_free(&line);
  df_json_writer_free(&lines);
  df_arena_free(&arena);
}

TEST(a_tree_is_written_under_a_key) {
  df_json_writer w = {.indent = 1};
  df_json_object_begin(&w, NULL);
  df_json_put(&w, "copy", parse("{\"rows\": [[1, 2], [3]], \"x\": {\"y\": -0.5}}"));
  df_json_object_end(&w);
  CHECK_TEXT(w.text, "{\n \"copy\": {\n  \"rows\": [\n   [1, 2],\n   [3]\n  ],\n  \"x\": {\n   "
                     "\"y\": -0.5\n  }\n }\n}");
  df_json_writer_free(&w);
  df_arena_free(&arena);
}

TEST(bytes_that_are_no_text_are_replaced) {
  df_json_writer w = {0};
  df_json_put_string(&w, NULL, "a\xFF\xC3");
  CHECK_TEXT(w.text, "\"a\xEF\xBF\xBD\xEF\xBF\xBD\"");
  df_json_writer_free(&w);
}

TEST(a_writer_without_memory_stays_failed) {
  for (long left = 0; left < 2; left++) {
    df_json_writer w = {0};
    df_alloc_fail_after(left);
    write_sample(&w);
    write_sample(&w);
    df_alloc_fail_after(-1);
    DURING("%ld allocations", left);
    CHECK(w.failed && w.text == NULL);
    df_json_put_number(&w, NULL, 1);
    CHECK(w.failed && w.text == NULL);
    df_json_writer_free(&w);
  }
}
