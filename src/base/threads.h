// A small pool of threads for training and evaluation. Without threads (wasm) everything runs in the caller.
#ifndef DF_BASE_THREADS_H
#define DF_BASE_THREADS_H

#include "base/status.h"

typedef struct df_threads df_threads;

int df_threads_cores(void); // cores of this machine, at least 1

// A pool of `count` threads, the caller's included (0: all cores). df_threads_free(NULL) is fine.
df_status df_threads_create(df_threads **pool, int count, df_error *error);
void df_threads_free(df_threads *pool);
int df_threads_count(const df_threads *pool); // NULL: 1

// Calls task(context, i, thread) for i = 0..tasks-1, spread over the pool, and returns when all are done.
// thread is 0..count-1 and no two tasks run at once on the same thread. pool NULL: all in the caller.
// Not to be called from inside a task.
void df_threads_run(df_threads *pool, int tasks, void (*task)(void *context, int i, int thread),
                    void *context);

#endif
