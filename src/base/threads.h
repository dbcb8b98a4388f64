// A small pool of threads. In a wasm module without threads everything runs in the caller.
#ifndef DF_BASE_THREADS_H
#define DF_BASE_THREADS_H

#include "base/status.h"

typedef struct df_threads df_threads;

// Cores of this machine, at least 1. In a wasm module: the threads that it was given.
int df_threads_cores(void);

// A pool of `count` threads, the caller's included (0: all cores). df_threads_free(NULL) is fine. A
// wasm module has no more threads than it was given, and a pool of more is one of those.
df_status df_threads_create(df_threads **pool, int count, df_error *error);
void df_threads_free(df_threads *pool);
int df_threads_count(const df_threads *pool); // NULL: 1

// Calls task(context, i, thread) for i = 0..tasks-1, spread over the pool, and returns when all are done.
// thread is 0..count-1 and no two tasks run at once on the same thread. pool NULL: all in the caller.
// Not to be called from inside a task.
void df_threads_run(df_threads *pool, int tasks, void (*task)(void *context, int i, int thread),
                    void *context);

#ifdef __wasm_atomics__
// A wasm module cannot start threads: JavaScript does, each with an instance of the module on the same memory and a
// stack of its own. The module is told how many there are, the caller's included, and each of the others, 1..count-1,
// then calls df_threads_join, which does not return. All pools share them, so only one thread may call df_threads_run.
void df_threads_expect(int count);
void df_threads_join(int thread);
#endif

#endif
