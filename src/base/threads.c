#include "base/threads.h"

#include "base/memory.h"

#if defined(__wasm__) && !defined(__wasm_atomics__)

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

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#ifndef __wasm__
#include <pthread.h>
#include <unistd.h>
#endif

enum {
  MOST_THREADS = 256,
// Looks at the ticket before a thread goes to sleep: some ten microseconds. They are quick in wasm,
// which has no instruction for a pause.
#ifdef __wasm__
  SPINS = 40000,
#else
  SPINS = 4000,
#endif
};

// What threads share that work together. The ticket is the whole state of a run: how many of the
// threads may take part in its upper half, the tasks nobody has taken yet in the lower one. A
// thread takes a task by counting down. One that wakes up late finds a count of 0 or the tasks of a
// later run, and both are right; so nobody waits for a sleeper that has nothing to do.
typedef struct crew {
  bool pausing; // more threads than cores: spinning would keep the others from working
  _Atomic uint64_t ticket;
  atomic_int unfinished; // tasks of this run

  // What the run does. Written before the ticket, and read only by who has taken a task: until that
  // one is finished the run cannot end.
  int tasks;
  void (*task)(void *context, int i, int thread);
  void *context;

  atomic_int sleepers; // threads waiting for a ticket
  atomic_bool waiting; // the caller waits for the last task
  atomic_bool quit;
#ifndef __wasm__
  pthread_mutex_t lock;
  pthread_cond_t wake, done;
#endif
} crew;

// How threads sleep, and how they are woken. Who goes to sleep says so first (sleepers, waiting) and
// looks once more after that: either it sees the change, or who made the change sees the sleeper.
static void sleep_for_ticket(crew *c, int thread);
static void wake_sleepers(crew *c);
static void sleep_until_done(crew *c);
static void wake_caller(crew *c);

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Is there a task that this thread may take?
static bool may_take(uint64_t ticket, int thread) {
  return (uint32_t)ticket > 0 && (uint64_t)thread < ticket >> 32;
}

// Takes and runs tasks until none is left.
static void work(crew *c, int thread) {
  uint64_t ticket = atomic_load(&c->ticket);
  while (may_take(ticket, thread)) {
    if (!atomic_compare_exchange_weak(&c->ticket, &ticket, ticket - 1)) continue;
    c->task(c->context, c->tasks - (int)(uint32_t)ticket, thread);
    if (atomic_fetch_sub(&c->unfinished, 1) == 1 && atomic_load(&c->waiting)) wake_caller(c);
    ticket = atomic_load(&c->ticket);
  }
}

// What every thread does but the caller.
static void serve(crew *c, int thread) {
  while (!atomic_load(&c->quit)) {
    work(c, thread);
    int spins = c->pausing ? 0 : SPINS;
    while (spins > 0 && !may_take(atomic_load(&c->ticket), thread)) {
      relax();
      spins--;
    }
    if (spins > 0) continue;
    atomic_fetch_add(&c->sleepers, 1);
    sleep_for_ticket(c, thread);
    atomic_fetch_sub(&c->sleepers, 1);
  }
}

static void run(crew *c, int count, int tasks, void (*task)(void *context, int i, int thread),
                void *context) {
  c->tasks = tasks;
  c->task = task;
  c->context = context;
  atomic_store(&c->unfinished, tasks);
  atomic_store(&c->ticket, (uint64_t)count << 32 | (uint32_t)tasks);
  if (atomic_load(&c->sleepers)) wake_sleepers(c);
  work(c, 0);

  for (int spin = 0; spin < SPINS && atomic_load(&c->unfinished); spin++) relax();
  if (atomic_load(&c->unfinished) == 0) return;
  atomic_store(&c->waiting, true);
  sleep_until_done(c);
  atomic_store(&c->waiting, false);
}

#ifdef __wasm__
// ---- WebAssembly: JavaScript starts the threads of a module, once, and all pools share them ----

struct df_threads {
  int count; // of the module's threads, the first ones
};

static crew everyone;
static int hands = 1; // threads of the module, the caller's included

static void sleep_for_ticket(crew *c, int thread) {
  uint64_t ticket = atomic_load(&c->ticket);
  if (!may_take(ticket, thread))
    __builtin_wasm_memory_atomic_wait64((long long *)&c->ticket, (long long)ticket, -1);
}

static void wake_sleepers(crew *c) {
  __builtin_wasm_memory_atomic_notify((int *)&c->ticket, UINT32_MAX);
}

static void sleep_until_done(crew *c) {
  for (int left; (left = atomic_load(&c->unfinished));)
    __builtin_wasm_memory_atomic_wait32((int *)&c->unfinished, left, -1);
}

static void wake_caller(crew *c) { __builtin_wasm_memory_atomic_notify((int *)&c->unfinished, 1); }

int df_threads_cores(void) { return hands; }

void df_threads_expect(int count) {
  hands = count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : count;
}

void df_threads_join(int thread) { serve(&everyone, thread); }

df_status df_threads_create(df_threads **pool, int count, df_error *error) {
  *pool = NULL;
  if (count < 0 || count > MOST_THREADS)
    return df_fail(error, DF_BAD_ARGUMENT, "expected 0 to %d threads, found %d", MOST_THREADS,
                   count);
  *pool = df_alloc(sizeof **pool);
  if (!*pool) return df_fail(error, DF_NO_MEMORY, "out of memory for threads");
  (*pool)->count = count == 0 || count > hands ? hands : count;
  return DF_OK;
}

void df_threads_free(df_threads *pool) { df_free(pool); }

static crew *crew_of(df_threads *pool) {
  (void)pool;
  return &everyone;
}

#else
// ---- POSIX: every pool has threads of its own ----

typedef struct worker {
  df_threads *pool;
  pthread_t handle;
  int thread;
} worker;

struct df_threads {
  int count;
  crew crew;
  worker workers[]; // count - 1, threads 1 ..; the caller is thread 0
};

static crew *crew_of(df_threads *pool) { return &pool->crew; }

static void sleep_for_ticket(crew *c, int thread) {
  pthread_mutex_lock(&c->lock);
  while (!may_take(atomic_load(&c->ticket), thread) && !atomic_load(&c->quit))
    pthread_cond_wait(&c->wake, &c->lock);
  pthread_mutex_unlock(&c->lock);
}

static void wake_sleepers(crew *c) {
  pthread_mutex_lock(&c->lock);
  pthread_cond_broadcast(&c->wake);
  pthread_mutex_unlock(&c->lock);
}

static void sleep_until_done(crew *c) {
  pthread_mutex_lock(&c->lock);
  while (atomic_load(&c->unfinished)) pthread_cond_wait(&c->done, &c->lock);
  pthread_mutex_unlock(&c->lock);
}

static void wake_caller(crew *c) {
  pthread_mutex_lock(&c->lock);
  pthread_cond_signal(&c->done);
  pthread_mutex_unlock(&c->lock);
}

static void *worker_main(void *argument) {
  worker *self = argument;
  serve(&self->pool->crew, self->thread);
  return NULL;
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
  pthread_mutex_init(&p->crew.lock, NULL);
  pthread_cond_init(&p->crew.wake, NULL);
  pthread_cond_init(&p->crew.done, NULL);
  p->crew.pausing = count > cores;
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
  crew *c = &pool->crew;
  atomic_store(&c->quit, true);
  wake_sleepers(c);
  for (int i = 0; i < pool->count - 1; i++) pthread_join(pool->workers[i].handle, NULL);
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->wake);
  pthread_cond_destroy(&c->done);
  df_free(pool);
}

#endif

int df_threads_count(const df_threads *pool) { return pool ? pool->count : 1; }

void df_threads_run(df_threads *pool, int tasks, void (*task)(void *context, int i, int thread),
                    void *context) {
  if (pool && pool->count > 1 && tasks > 1)
    run(crew_of(pool), pool->count, tasks, task, context);
  else
    for (int i = 0; i < tasks; i++) task(context, i, 0);
}

#endif
