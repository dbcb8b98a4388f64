// A test file is a list of TESTs and becomes one program; nothing else has to be registered.
//
//   #include "tests/test.h"
//
//   TEST(a_clean_token_stays_clean) {
//     CHECK(level == 0);
//     CHECK_NEAR(mean, 0.5, 1e-6);
//     CHECK_OK(df_model_open(&model, bytes, size, &test_error));
//   }
//
// A check that fails prints file, line and values and the test goes on; REQUIRE leaves it. Every
// check is also a value: `if (!CHECK(p)) continue;`. In a loop over a table of cases, DURING says
// which one it is. A test that leaves memory of df_alloc behind fails. With arguments, the program
// runs only the tests whose names contain one of them. It prints "N passed, N failed" and exits
// with 1 if one failed.
//
// Golden files (numbers of the reference code) are read by tests/golden.h.
#ifndef DF_TESTS_TEST_H
#define DF_TESTS_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

// A test, and its place in the list; constructors append them in the order of the file.
typedef struct test_case {
  const char *name;
  void (*run)(void);
  struct test_case *next;
} test_case;

static struct {
  test_case *first, **end;
  int failures;     // of the running test
  char during[256]; // what it is doing
} test_state;

// For calls that want a df_error; a failing CHECK_STATUS prints its message.
static df_error test_error;

#define TEST(sentence)                                                                             \
  static void sentence(void);                                                                      \
  __attribute__((constructor)) static void add_##sentence(void) {                                  \
    static test_case self = {#sentence, sentence, NULL};                                           \
    test_add(&self);                                                                               \
  }                                                                                                \
  static void sentence(void)

#define CHECK(cond) test_check(cond, __FILE__, __LINE__, #cond, " does not hold")
#define REQUIRE(cond)                                                                              \
  do {                                                                                             \
    if (!CHECK(cond)) return;                                                                      \
  } while (0)
#define CHECK_NEAR(a, b, tol) test_near(a, b, tol, __FILE__, __LINE__, #a " near " #b)
#define CHECK_INT(a, b)       test_int(a, b, __FILE__, __LINE__, #a " == " #b)
#define CHECK_TEXT(a, b)      test_text(a, b, __FILE__, __LINE__, #a " == " #b)
#define CHECK_CONTAINS(text, part)                                                                 \
  test_contains(text, part, __FILE__, __LINE__, #text " contains " #part)
#define CHECK_STATUS(call, want) test_status(call, want, __FILE__, __LINE__, #call)
#define CHECK_OK(call)           CHECK_STATUS(call, DF_OK)
// float a[n] and b[n] differ nowhere by more than tol; says where they differ most.
#define CHECK_FLOATS(a, b, n, tol) test_floats(a, b, n, tol, __FILE__, __LINE__, #a " near " #b)
#define DURING(...)                (void)snprintf(test_state.during, sizeof test_state.during, __VA_ARGS__)

// Makes the call with memory running out at its first allocation, then at its second, and so on
// until it succeeds. Each failure must be NO_MEMORY and leave nothing allocated. What the success
// made is the test's.
#define CHECK_WITHOUT_MEMORY(call)                                                                 \
  for (long left_ = 0;; left_++) {                                                                 \
    size_t held_ = df_alloc_bytes();                                                               \
    df_alloc_fail_after(left_);                                                                    \
    df_status status_ = (call);                                                                    \
    df_alloc_fail_after(-1);                                                                       \
    if (status_ == DF_OK) break;                                                                   \
    DURING("allocation %ld fails", left_);                                                         \
    bool fine_ = CHECK_STATUS(status_, DF_NO_MEMORY);                                              \
    if (!(CHECK_INT(df_alloc_bytes(), held_) && fine_)) break;                                     \
  }

__attribute__((unused)) static void test_add(test_case *test) {
  if (!test_state.end) test_state.end = &test_state.first;
  *test_state.end = test;
  test_state.end = &test->next;
}

__attribute__((unused, format(printf, 5, 6))) static bool
test_check(bool ok, const char *file, int line, const char *what, const char *format, ...) {
  if (ok) return true;
  // A broken loop would say the same thing a million times.
  if (test_state.failures++ >= 20) return false;
  fprintf(stderr, "%s:%d: %s", file, line, what);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (test_state.during[0]) fprintf(stderr, " (%s)", test_state.during);
  fputc('\n', stderr);
  return false;
}

__attribute__((unused)) static bool test_near(double a, double b, double tol, const char *file,
                                              int line, const char *what) {
  bool same = a == b; // infinities
  return test_check(same || fabs(a - b) <= tol, file, line, what,
                    ": %.9g and %.9g differ by %.3g > %.3g", a, b, fabs(a - b), tol);
}

__attribute__((unused)) static bool test_int(long long a, long long b, const char *file, int line,
                                             const char *what) {
  return test_check(a == b, file, line, what, ": %lld and %lld", a, b);
}

__attribute__((unused)) static bool test_text(const char *a, const char *b, const char *file,
                                              int line, const char *what) {
  bool same = a && b ? strcmp(a, b) == 0 : a == b;
  return test_check(same, file, line, what, ": \"%s\" and \"%s\"", a ? a : "(null)",
                    b ? b : "(null)");
}

__attribute__((unused)) static bool test_contains(const char *text, const char *part,
                                                  const char *file, int line, const char *what) {
  return test_check(text && strstr(text, part), file, line, what, ": \"%s\"",
                    text ? text : "(null)");
}

__attribute__((unused)) static bool test_status(df_status got, df_status want, const char *file,
                                                int line, const char *what) {
  return test_check(got == want, file, line, what, ": %s instead of %s: %s", df_status_name(got),
                    df_status_name(want), got == DF_OK ? "" : test_error.message);
}

__attribute__((unused)) static bool test_floats(const float *a, const float *b, long n, double tol,
                                                const char *file, int line, const char *what) {
  long worst = -1;
  double most = tol;
  for (long i = 0; i < n; i++) {
    double difference = a[i] == b[i] ? 0 : fabs((double)a[i] - b[i]);
    if (difference <= most) continue;
    worst = i;
    if (difference != difference) break; // not a number: nothing is worse
    most = difference;
  }
  return test_check(worst < 0, file, line, what, " at %ld of %ld: %.9g and %.9g, tolerance %.3g",
                    worst, n, worst < 0 ? 0 : (double)a[worst], worst < 0 ? 0 : (double)b[worst],
                    tol);
}

int main(int count, char **arguments) {
  int passed = 0, failed = 0;
  for (test_case *test = test_state.first; test; test = test->next) {
    bool chosen = count < 2;
    for (int i = 1; i < count; i++) chosen = chosen || strstr(test->name, arguments[i]);
    if (!chosen) continue;
    size_t held = df_alloc_bytes();
    test_state.failures = 0;
    test_state.during[0] = 0;
    test_error = (df_error){DF_OK, ""};
    test->run();
    df_alloc_fail_after(-1);
    test_check(df_alloc_bytes() == held, __FILE__, __LINE__, test->name,
               " leaves %lld bytes allocated", (long long)df_alloc_bytes() - (long long)held);
    if (test_state.failures) fprintf(stderr, "FAILED %s\n", test->name);
    test_state.failures ? failed++ : passed++;
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}

#endif
