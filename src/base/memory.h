// Memory: counted blocks for things that live long, and an arena for things that are built together and die
// together. All memory of the library comes from here, so a test can count it and can make it run out.
#ifndef DF_BASE_MEMORY_H
#define DF_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

enum {
  DF_ALIGNMENT = 64
}; // every block and arena piece starts on such a boundary: a cache line, an AVX-512 vector

// A zeroed block of `size` bytes (size 0 gives a valid block), or NULL when memory is out.
void *df_alloc(size_t size);
// Grows or shrinks a block from df_alloc (NULL: a new one); contents are kept, new bytes are zero.
// NULL when memory is out: the old block is then still valid.
void *df_realloc(void *block, size_t size);
void df_free(void *block); // NULL is fine

// For tests and info: calls of df_alloc/df_realloc so far, and bytes now held, over all threads.
size_t df_alloc_count(void);
size_t df_alloc_bytes(void);
// For tests: the n-th allocation from now on fails (0: the next one), and so does every later one; -1: never.
void df_alloc_fail_after(long n);

// An arena hands out zeroed pieces that are all freed at once. It grows by chunks.
typedef struct df_arena {
  struct df_chunk *chunk; // newest chunk, linked to the older ones
  size_t bytes;           // bytes held by all chunks
} df_arena;

void *df_arena_alloc(df_arena *arena, size_t size); // NULL when memory is out
char *df_arena_print(df_arena *arena, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;
void df_arena_free(df_arena *arena); // frees all pieces; the arena is empty and usable again

#endif
