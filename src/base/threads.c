#include "base/threads.h"

#include "base/memory.h"

#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)

// One thread: a pool is nothing, and every task runs in the caller.
struct df_threads {
  int count;
};

int df_threads_cores(void) { return 1; }

df_status df_threads_create(df_threads **pool, int count, df_error *error) {
  *pool = NULL;
  if (count < 0)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 0 or more threads, found %d", count);
  *pool = df_alloc(sizeof **pool);
  if (!*pool) return df_fail(error, DF_NO_MEMORY, "out of memory for threads");
  (*pool)->count = 1;
  return DF_OK;
}

void df_threads_free(df_threads *pool) { df_free(pool); }
int df_threads_count(const df_threads *pool) { return pool ? pool->count : 1; }

void df_threads_run(df_threads *pool, int tasks, void (*task)(void *context, int i, int thread),
                    void *context) {
  (void)pool;
  for (int i = 0; i < tasks; i++) task(context, i, 0);
}

#else

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

enum {
  MOST_THREADS = 256,
  SPINS = 4000, // looks at the ticket before a thread goes to sleep: some ten microseconds
};

typedef struct worker {
  df_threads *pool;
  pthread_t handle;
  int thread;
} worker;

// The ticket is the whole state of a run: its number in the upper half, the tasks nobody has taken
// yet in the lower one. A thread takes a task by counting down. One that wakes up late finds a
// count of 0 or the tasks of a later run, and both are right; so nobody waits for a sleeper that
// has nothing to do.
struct df_threads {
  int count;
  bool pausing; // more threads than cores: spinning would keep the others from working
  _Atomic uint64_t ticket;
  atomic_int unfinished; // tasks of this run

  // What the run does. Written before the ticket, and read only by who has taken a task: until that
  // one is finished the run cannot end.
  int tasks;
  void (*task)(void *context, int i, int thread);
  void *context;

  pthread_mutex_t lock;
  pthread_cond_t wake, done;
  atomic_int sleepers; // threads waiting for `wake`
  atomic_bool waiting; // the caller waits for `done`
  atomic_bool quit;
  worker workers[]; // count - 1, threads 1 ..; the caller is thread 0
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static uint32_t untaken(df_threads *pool) { return (uint32_t)atomic_load(&pool->ticket); }

// Takes and runs tasks until none is left.
static void work(df_threads *pool, int thread) {
  uint64_t ticket = atomic_load(&pool->ticket);
  while ((uint32_t)ticket > 0) {
    if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1)) continue;
    pool->task(pool->context, pool->tasks - (int)(uint32_t)ticket, thread);
    if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->waiting)) {
      pthread_mutex_lock(&pool->lock);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->lock);
    }
    ticket = atomic_load(&pool->ticket);
  }
}

static void *worker_main(void *argument) {
  worker *self = argument;
  df_threads *pool = self->pool;
  while (!atomic_load(&pool->quit)) {
    work(pool, self->thread);
    for (int spin = pool->pausing ? SPINS : 0; spin < SPINS && untaken(pool) == 0; spin++) relax();
    if (untaken(pool)) continue;
    // It counts as a sleeper before it looks once more: either it sees the new ticket, or who wrote
    // the ticket sees the sleeper.
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (untaken(pool) == 0 && !atomic_load(&pool->quit))
      pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
  }
  return NULL;
}

static void wake_sleepers(df_threads *pool) {
  if (atomic_load(&pool->sleepers) == 0) return;
  pthread_mutex_lock(&pool->lock);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
}

int df_threads_cores(void) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores < 1 ? 1 : cores > MOST_THREADS ? MOST_THREADS : (int)cores;
}

df_status df_threads_create(df_threads **pool, int count, df_error *error) {
  *pool = NULL;
  if (count < 0 || count > MOST_THREADS)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 0 to %d threads, found %d", MOST_THREADS,
                   count);
  int cores = df_threads_cores();
  if (count == 0) count = cores;
  df_threads *p = df_alloc(sizeof *p + (size_t)(count - 1) * sizeof p->workers[0]);
  if (!p) return df_fail(error, DF_NO_MEMORY, "out of memory for %d threads", count);
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->wake, NULL);
  pthread_cond_init(&p->done, NULL);
  p->pausing = count > cores;
  for (p->count = 1; p->count < count; p->count++) {
    worker *w = &p->workers[p->count - 1];
    *w = (worker){.pool = p, .thread = p->count};
    if (pthread_create(&w->handle, NULL, worker_main, w)) {
      df_status status =
          df_fail(error, DF_NO_MEMORY, "thread %d of %d cannot be started", p->count + 1, count);
      df_threads_free(p);
      return status;
    }
  }
  *pool = p;
  return DF_OK;
}

void df_threads_free(df_threads *pool) {
  if (!pool) return;
  atomic_store(&pool->quit, true);
  wake_sleepers(pool);
  for (int i = 0; i < pool->count - 1; i++) pthread_join(pool->workers[i].handle, NULL);
  pthread_mutex_destroy(&pool->lock);
  pthread_cond_destroy(&pool->wake);
  pthread_cond_destroy(&pool->done);
  df_free(pool);
}

int df_threads_count(const df_threads *pool) { return pool ? pool->count : 1; }

void df_threads_run(df_threads *pool, int tasks, void (*task)(void *context, int i, int thread),
                    void *context) {
  if (!pool || pool->count == 1 || tasks <= 1) {
    for (int i = 0; i < tasks; i++) task(context, i, 0);
    return;
  }
  pool->tasks = tasks;
  pool->task = task;
  pool->context = context;
  atomic_store(&pool->unfinished, tasks);
  uint64_t run = (atomic_load(&pool->ticket) >> 32) + 1;
  atomic_store(&pool->ticket, run << 32 | (uint32_t)tasks);
  wake_sleepers(pool);
  work(pool, 0);

  for (int spin = 0; spin < SPINS && atomic_load(&pool->unfinished); spin++) relax();
  if (atomic_load(&pool->unfinished) == 0) return;
  pthread_mutex_lock(&pool->lock);
  atomic_store(&pool->waiting, true);
  while (atomic_load(&pool->unfinished)) pthread_cond_wait(&pool->done, &pool->lock);
  atomic_store(&pool->waiting, false);
  pthread_mutex_unlock(&pool->lock);
}

#endif
