// Status codes, memory, random numbers, threads, progress.
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/status.h"
#include "base/threads.h"
#include "tests/test.h"

// ------------------------------------------------------------------------------------------------
// Status

TEST(every_status_has_a_name_and_a_sentence) {
  for (int i = 0; i < DF_STATUS_COUNT; i++) {
    CHECK(strlen(df_status_name((df_status)i)) > 0);
    CHECK(strlen(df_status_text((df_status)i)) > 0);
  }
  CHECK_TEXT(df_status_name(DF_OK), "OK");
  CHECK_TEXT(df_status_name(DF_BAD_SHAPE), "BAD_SHAPE");
  CHECK_TEXT(df_status_text(DF_NO_MEMORY), "out of memory");
  CHECK_TEXT(df_status_name(DF_STATUS_COUNT), "UNKNOWN");
}

TEST(an_error_keeps_its_message_and_its_code) {
  df_error error = {DF_OK, ""};
  CHECK_INT(df_fail(&error, DF_IO, "%s: %d bytes", "a.txt", 3), DF_IO);
  CHECK_INT(error.code, DF_IO);
  CHECK_TEXT(error.message, "a.txt: 3 bytes");
  CHECK_INT(df_fail(NULL, DF_STOPPED, "nobody listens"), DF_STOPPED);
  df_fail(&error, error.code, "reading %s", error.message);
  CHECK_TEXT(error.message, "reading a.txt: 3 bytes");
  df_fail(&error, DF_IO, "%600d", 1);
  CHECK_INT(strlen(error.message), sizeof error.message - 1);
}

// ------------------------------------------------------------------------------------------------
// Memory

static bool is_aligned(const void *p) { return (uintptr_t)p % DF_ALIGNMENT == 0; }

static bool is_filled(const unsigned char *p, size_t size, unsigned char value) {
  for (size_t i = 0; i < size; i++)
    if (p[i] != value) return false;
  return true;
}

TEST(blocks_are_zeroed_aligned_and_counted) {
  static const size_t sizes[] = {0, 1, 7, 63, 64, 65, 1000, 1 << 20};
  size_t held = df_alloc_bytes(), calls = df_alloc_count();
  for (int i = 0; i < COUNT(sizes); i++) {
    unsigned char *block = df_alloc(sizes[i]);
    REQUIRE(block);
    CHECK(is_aligned(block) && is_filled(block, sizes[i], 0));
    CHECK_INT(df_alloc_bytes() - held, sizes[i]);
    memset(block, 1, sizes[i]);
    df_free(block);
    CHECK_INT(df_alloc_bytes(), held);
  }
  CHECK_INT(df_alloc_count() - calls, COUNT(sizes));
  df_free(NULL);
}

TEST(realloc_keeps_the_contents_and_zeroes_the_rest) {
  size_t held = df_alloc_bytes();
  unsigned char *block = df_realloc(NULL, 100);
  REQUIRE(block);
  CHECK(is_aligned(block) && is_filled(block, 100, 0));
  memset(block, 7, 100);
  block = df_realloc(block, 300);
  REQUIRE(block);
  CHECK(is_aligned(block) && is_filled(block, 100, 7) && is_filled(block + 100, 200, 0));
  CHECK_INT(df_alloc_bytes() - held, 300);
  block = df_realloc(block, 10);
  REQUIRE(block);
  CHECK(is_filled(block, 10, 7));
  block = df_realloc(block, 20);
  REQUIRE(block);
  CHECK(is_filled(block, 10, 7) && is_filled(block + 10, 10, 0));
  df_free(block);
}

TEST(impossible_sizes_give_null) {
  df_arena arena = {0};
  CHECK(df_alloc(SIZE_MAX) == NULL);
  CHECK(df_alloc(SIZE_MAX / 2) == NULL);
  CHECK(df_realloc(NULL, SIZE_MAX - 10) == NULL);
  CHECK(df_arena_alloc(&arena, SIZE_MAX) == NULL);
  CHECK(df_arena_alloc(&arena, SIZE_MAX / 2) == NULL);
  df_arena_free(&arena);
}

TEST(memory_runs_out_when_told_to) {
  df_alloc_fail_after(2);
  void *a = df_alloc(8), *b = df_realloc(NULL, 8);
  CHECK(a && b);
  CHECK(df_alloc(8) == NULL);
  CHECK(df_realloc(a, 16) == NULL); // a stays valid
  memset(a, 1, 8);
  df_alloc_fail_after(-1);
  void *c = df_alloc(8);
  CHECK(c != NULL);
  df_free(a);
  df_free(b);
  df_free(c);
}

TEST(arena_pieces_are_zeroed_aligned_and_apart) {
  enum { PIECES = 2000 };
  static unsigned char *pieces[PIECES];
  static size_t sizes[PIECES];
  df_arena arena = {0};
  for (int round = 0; round < 2; round++) { // usable again after df_arena_free
    size_t held = df_alloc_bytes(), calls = df_alloc_count();
    for (int i = 0; i < PIECES; i++) {
      sizes[i] = i % 100 == 50 ? 100000 : (size_t)(i * 7 % 200);
      pieces[i] = df_arena_alloc(&arena, sizes[i]);
      REQUIRE(pieces[i]);
      CHECK(is_aligned(pieces[i]) && is_filled(pieces[i], sizes[i], 0));
      memset(pieces[i], i % 251, sizes[i]);
    }
    for (int i = 0; i < PIECES; i++)
      CHECK(is_filled(pieces[i], sizes[i], (unsigned char)(i % 251)));
    CHECK(df_alloc_count() - calls < 40);
    CHECK_INT(df_alloc_bytes() - held, arena.bytes);
    df_arena_free(&arena);
    CHECK_INT(arena.bytes, 0);
    CHECK_INT(df_alloc_bytes(), held);
  }
}

TEST(arena_survives_running_out) {
  df_arena arena = {0};
  char *first = df_arena_print(&arena, "%s %d", "piece", 1);
  df_alloc_fail_after(0);
  CHECK(df_arena_alloc(&arena, 1 << 20) == NULL);
  CHECK(df_arena_print(&arena, "%5000d", 1) == NULL);
  df_alloc_fail_after(-1);
  CHECK_TEXT(first, "piece 1");
  CHECK(df_arena_alloc(&arena, 1 << 20) != NULL);
  df_arena_free(&arena);
}

// ------------------------------------------------------------------------------------------------
// Random numbers

TEST(philox_gives_the_known_answers) {
  // The vectors of Random123, kat_vectors, philox4x32-10. The first counter word holds i and
  // purpose.
  static const struct {
    df_random at;
    uint32_t i, out[4];
  } cases[] = {
      {{0, 0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, (df_purpose)0xff},
       0xffffff,
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x299f31d0a4093822, 0x03707344, 0x13198a2e, 0x85a308d3, (df_purpose)0x24},
       0x3f6a88,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    uint32_t out[4];
    DURING("case %d", c);
    df_random_block(&cases[c].at, cases[c].i, out);
    for (int k = 0; k < 4; k++) CHECK_INT(out[k], cases[c].out[k]);
  }
}

TEST(numbers_do_not_depend_on_how_many_are_drawn) {
  df_random at = {.seed = 42, .sequence = 1, .token = 2, .row = 3, .purpose = DF_RANDOM_STEP};
  float all[37], few[37];
  for (int kind = 0; kind < 2; kind++) {
    void (*draw)(const df_random *, int, float *) = kind ? df_random_normal : df_random_uniform;
    draw(&at, 37, all);
    for (int n = 0; n <= 37; n++) {
      memset(few, 0, sizeof few);
      draw(&at, n, few);
      CHECK(memcmp(all, few, (size_t)n * sizeof(float)) == 0);
      CHECK(n == 37 || few[n] == 0);
    }
  }
}

TEST(every_part_of_the_place_matters) {
  df_random places[] = {{1, 2, 3, 4, 5},
                        {9, 2, 3, 4, 5},
                        {1, 9, 3, 4, 5},
                        {1, 2, 9, 4, 5},
                        {1, 2, 3, 9, 5},
                        {1, 2, 3, 4, 9},
                        {1ull << 40 | 1, 2, 3, 4, 5}};
  for (int a = 0; a < COUNT(places); a++)
    for (int b = 0; b < a; b++) CHECK(df_random_double(&places[a]) != df_random_double(&places[b]));
}

TEST(uniform_numbers_fill_the_unit_interval_evenly) {
  enum { N = 1 << 18, BINS = 64 };
  float *x = df_alloc(N * sizeof *x);
  REQUIRE(x);
  df_random at = {.seed = 7, .purpose = DF_RANDOM_TEST};
  df_random_uniform(&at, N, x);
  int bins[BINS] = {0};
  for (int j = 0; j < N; j++) {
    REQUIRE(x[j] >= 0 && x[j] < 1);
    bins[(int)(x[j] * BINS)]++;
  }
  double chi = 0;
  for (int b = 0; b < BINS; b++)
    chi += (bins[b] - N / BINS) * (double)(bins[b] - N / BINS) / (N / BINS);
  CHECK_NEAR(chi, BINS - 1, 45); // four standard deviations of chi squared
  df_free(x);

  double sum = 0;
  for (uint32_t i = 0; i < 10000; i++) {
    df_random place = {.seed = 3, .token = i, .purpose = DF_RANDOM_TEST};
    double u = df_random_double(&place);
    CHECK(u >= 0 && u < 1);
    sum += u;
  }
  CHECK_NEAR(sum / 10000, 0.5, 0.012);
}

TEST(normal_numbers_have_the_right_mean_variance_and_tails) {
  enum { N = 1 << 20 };
  float *x = df_alloc(N * sizeof *x);
  REQUIRE(x);
  df_random at = {.seed = 2024, .purpose = DF_RANDOM_TEST};
  df_random_normal(&at, N, x);
  double sum[5] = {0}, lag[4] = {0};
  long beyond[6] = {0};
  for (int j = 0; j < N; j++) {
    for (int p = 1; p <= 4; p++) sum[p] += pow(x[j], p) / N;
    for (int l = 1; l < 4 && j + l < N; l++) lag[l] += (double)x[j] * x[j + l] / N;
    for (int s = 1; s < 6; s++) beyond[s] += fabsf(x[j]) > s;
  }
  double sd = 1 / sqrt(N); // of the mean; tolerances are about four standard deviations
  CHECK_NEAR(sum[1], 0, 4 * sd);
  CHECK_NEAR(sum[2], 1, 4 * sd * sqrt(2));
  CHECK_NEAR(sum[3], 0, 4 * sd * sqrt(15));
  CHECK_NEAR(sum[4], 3, 4 * sd * sqrt(96));
  for (int l = 1; l < 4; l++) CHECK_NEAR(lag[l], 0, 4 * sd);
  for (int s = 1; s < 6; s++) {
    double expected = N * erfc(s / sqrt(2));
    DURING("beyond %d", s);
    CHECK_NEAR(beyond[s], expected, 4 * sqrt(expected) + 3);
  }
  df_free(x);
}

TEST(normal_numbers_are_box_muller_of_the_words) {
  df_random at = {.seed = 5, .purpose = DF_RANDOM_TEST};
  float x[4000];
  df_random_normal(&at, 4000, x);
  for (uint32_t i = 0; i < 1000; i++) {
    uint32_t word[4];
    df_random_block(&at, i, word);
    for (int p = 0; p < 2; p++) {
      double radius = sqrt(-2 * log((word[2 * p] + 0.5) / 4294967296.0));
      double angle = 2 * 3.14159265358979323846 * (word[2 * p + 1] / 4294967296.0);
      CHECK_NEAR(x[4 * i + 2 * p], radius * cos(angle), 4e-7);
      CHECK_NEAR(x[4 * i + 2 * p + 1], radius * sin(angle), 4e-7);
    }
  }
}

TEST(normal_numbers_are_the_same_on_every_machine) {
  // A fingerprint of the bits: native, wasm, gcc and clang must agree.
  df_random at = {.seed = 12345, .sequence = 6, .token = 7, .row = 8, .purpose = DF_RANDOM_START};
  static float x[65536];
  df_random_normal(&at, COUNT(x), x);
  uint32_t hash = 2166136261u;
  for (int j = 0; j < COUNT(x); j++) {
    uint32_t bits;
    memcpy(&bits, &x[j], 4);
    hash = (hash ^ bits) * 16777619u;
  }
  CHECK_INT(hash, 424547943);
}

TEST(a_shuffle_is_a_permutation) {
  static const int sizes[] = {0, 1, 2, 3, 4, 5, 17, 100, 1001};
  for (int c = 0; c < COUNT(sizes); c++) {
    int n = sizes[c];
    int32_t order[1001], seen[1001] = {0};
    for (uint32_t row = 0; row < 20; row++) {
      df_random at = {.seed = 1, .row = row, .purpose = DF_RANDOM_SHUFFLE};
      df_random_shuffle(&at, n, order);
      for (int i = 0; i < n; i++) REQUIRE(order[i] >= 0 && order[i] < n);
      for (int i = 0; i < n; i++) seen[order[i]]++;
      for (int i = 0; i < n; i++) CHECK_INT(seen[i], row + 1);
    }
  }
}

TEST(all_permutations_are_equally_likely) {
  enum { ROUNDS = 24000 };
  int counts[256] = {0}, kinds = 0;
  double chi = 0;
  for (uint32_t row = 0; row < ROUNDS; row++) {
    int32_t order[4];
    df_random at = {.seed = 11, .row = row, .purpose = DF_RANDOM_SHUFFLE};
    df_random_shuffle(&at, 4, order);
    counts[order[0] + 4 * order[1] + 16 * order[2] + 64 * order[3]]++;
  }
  for (int c = 0; c < 256; c++) {
    if (!counts[c]) continue;
    kinds++;
    chi += pow(counts[c] - ROUNDS / 24, 2) / (ROUNDS / 24);
  }
  CHECK_INT(kinds, 24);
  CHECK_NEAR(chi, 23, 28);
}

// ------------------------------------------------------------------------------------------------
// Threads

enum { MOST_TASKS = 3000 };

typedef struct task_log {
  int runs[MOST_TASKS]; // of each task; every task has its own entry, so no lock is needed
  int busy[64];         // is a task running on this thread?
  int clash, threads;
} task_log;

static void log_task(void *context, int i, int thread) {
  task_log *log = context;
  if (thread < 0 || thread >= log->threads || log->busy[thread]) {
    log->clash = 1;
    return;
  }
  log->busy[thread] = 1;
  log->runs[i]++;
  log->busy[thread] = 0;
}

TEST(threads_run_every_task_exactly_once) {
  static const int counts[] = {0, 1, 2, 3, 7}, tasks[] = {0, 1, 2, 3, 8, 100, MOST_TASKS};
  static task_log log;
  for (int c = 0; c < COUNT(counts); c++) {
    df_threads *pool = NULL;
    CHECK_OK(df_threads_create(&pool, counts[c], &test_error));
    REQUIRE(pool);
    int cores = df_threads_cores(), expected = counts[c] ? counts[c] : cores;
#ifdef __EMSCRIPTEN__
    if (expected > cores) expected = cores;
#endif
    CHECK_INT(df_threads_count(pool), expected);
    for (int t = 0; t < COUNT(tasks); t++) {
      DURING("%d threads, %d tasks", counts[c], tasks[t]);
      memset(&log, 0, sizeof log);
      log.threads = df_threads_count(pool);
      df_threads_run(pool, tasks[t], log_task, &log);
      CHECK(!log.clash);
      for (int i = 0; i < MOST_TASKS; i++) CHECK_INT(log.runs[i], i < tasks[t]);
    }
    df_threads_free(pool);
  }
}

TEST(threads_are_called_often) {
  // Runs that follow each other closely, and some after a pause in which the threads fall asleep.
  static task_log log;
  df_threads *pool = NULL;
  CHECK_OK(df_threads_create(&pool, 4, &test_error));
  REQUIRE(pool);
  memset(&log, 0, sizeof log);
  log.threads = df_threads_count(pool);
  int rounds = 3000;
  for (int round = 0; round < rounds; round++) {
    df_threads_run(pool, 5, log_task, &log);
    for (double until = df_seconds() + 0.002; round % 300 == 0 && df_seconds() < until;) {}
  }
  CHECK(!log.clash);
  for (int i = 0; i < 5; i++) CHECK_INT(log.runs[i], rounds);
  df_threads_free(pool);
}

// Waits, but not for ever, until all tasks of the run have begun. (A helper in wasm has no clock.)
static void meet(void *context, int i, int thread) {
  atomic_int *missing = context;
  (void)i, (void)thread;
  atomic_fetch_sub(missing, 1);
  for (long turn = 0; atomic_load(missing) > 0 && turn < 1000000000; turn++) {}
}

TEST(threads_work_at_the_same_time) {
  for (int pause = 0; pause < 2; pause++) {
    df_threads *pool = NULL;
    CHECK_OK(df_threads_create(&pool, 3, &test_error));
    REQUIRE(pool);
    for (double until = df_seconds() + 0.01; pause && df_seconds() < until;) {} // they fall asleep
    int count = df_threads_count(pool);
    atomic_int missing = count;
    df_threads_run(pool, count, meet, &missing);
    CHECK_INT(missing, 0);
    df_threads_free(pool);
  }
}

TEST(no_pool_means_the_caller) {
  static task_log log;
  log.threads = 1;
  df_threads_run(NULL, 10, log_task, &log);
  for (int i = 0; i < 10; i++) CHECK_INT(log.runs[i], 1);
  CHECK_INT(df_threads_count(NULL), 1);
  CHECK(df_threads_cores() >= 1);
  df_threads_free(NULL);
}

TEST(a_pool_that_cannot_be_made_leaves_nothing) {
  df_threads *pool = NULL;
  CHECK_STATUS(df_threads_create(&pool, -1, &test_error), DF_BAD_ARGUMENT);
  CHECK(pool == NULL);
  CHECK_WITHOUT_MEMORY(df_threads_create(&pool, 3, &test_error));
  df_threads_free(pool);
}

// ------------------------------------------------------------------------------------------------
// Progress

TEST(times_are_written_for_people) {
  static const struct {
    double seconds;
    const char *text;
  } cases[] = {
      {0, "0 s"},           {-3, "0 s"},
      {12.4, "12 s"},       {59.7, "1 min 0 s"},
      {254, "4 min 14 s"},  {3599.6, "1 h 00 min"},
      {3720, "1 h 02 min"}, {100 * 3600, "100 h 00 min"},
  };
  for (int c = 0; c < COUNT(cases); c++) {
    char text[32];
    df_progress_time(cases[c].seconds, text, sizeof text);
    CHECK_TEXT(text, cases[c].text);
  }
}

TEST(a_progress_line_tells_how_far_and_how_fast) {
  char text[128];
  df_progress p;
  df_progress_begin(&p, 0);
  p.start -= 152.0; // as if it had begun then
  df_progress_text(&p, 12345, 33000, "steps", text, sizeof text);
  CHECK_TEXT(text, "37 %  12,345/33,000 steps  81.2 steps/s  4 min 14 s left");

  df_progress_begin(&p, 500); // a resumed run
  df_progress_text(&p, 500, 1000, "steps", text, sizeof text);
  CHECK_TEXT(text, "50 %  500/1,000 steps");
  p.start -= 10;
  df_progress_text(&p, 520, 1000, "steps", text, sizeof text);
  CHECK_TEXT(text, "52 %  520/1,000 steps  2 steps/s  4 min 0 s left");
  df_progress_text(&p, 520, 1000, "steps", text, 8);
  CHECK_TEXT(text, "52 %  5");
}

TEST(a_progress_line_is_due_now_and_then_and_at_the_end) {
  df_progress p;
  df_progress_begin(&p, 0);
  CHECK_INT(df_progress_due(&p, 1, 10, 1000), 0);
  CHECK_INT(df_progress_due(&p, 10, 10, 1000), 1);
  p.last -= 1001;
  CHECK_INT(df_progress_due(&p, 2, 10, 1000), 1);
  CHECK_INT(df_progress_due(&p, 3, 10, 1000), 0);
}
