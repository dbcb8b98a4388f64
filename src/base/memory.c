#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// With the address sanitizer, what an arena has not handed out is poisoned, and every piece has a
// gap behind it, so that a read past a piece is caught like one past a block.
#if defined(__SANITIZE_ADDRESS__)
#define DF_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DF_POISON 1
#endif
#endif
#ifdef DF_POISON
#include <sanitizer/asan_interface.h>
enum { GAP = DF_ALIGNMENT };
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
enum { GAP = 0 };
#endif

static atomic_size_t calls, bytes_held;
static atomic_long left = -1; // allocations that still succeed; negative: all do

size_t df_alloc_count(void) { return atomic_load(&calls); }
size_t df_alloc_bytes(void) { return atomic_load(&bytes_held); }
void df_alloc_fail_after(long n) { atomic_store(&left, n); }

static bool may_allocate(void) {
  atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
  long n = atomic_load_explicit(&left, memory_order_relaxed);
  while (n > 0 && !atomic_compare_exchange_weak(&left, &n, n - 1)) {}
  return n != 0;
}

// ------------------------------------------------------------------------------------------------
// Blocks: one alignment unit in front of the bytes holds their number.

static size_t *size_of(void *block) { return (size_t *)((char *)block - DF_ALIGNMENT); }

static void *new_block(size_t size) {
  void *raw;
  if (size > PTRDIFF_MAX - DF_ALIGNMENT) return NULL;
  if (posix_memalign(&raw, DF_ALIGNMENT, DF_ALIGNMENT + size)) return NULL;
  void *block = (char *)raw + DF_ALIGNMENT;
  *size_of(block) = size;
  atomic_fetch_add_explicit(&bytes_held, size, memory_order_relaxed);
  return block;
}

void *df_alloc(size_t size) {
  if (!may_allocate()) return NULL;
  void *block = new_block(size);
  return block ? memset(block, 0, size) : NULL;
}

void *df_realloc(void *block, size_t size) {
  if (!may_allocate()) return NULL;
  char *grown = new_block(size);
  if (!grown) return NULL;
  size_t kept = block ? *size_of(block) : 0;
  if (kept > size) kept = size;
  if (kept) memcpy(grown, block, kept);
  memset(grown + kept, 0, size - kept);
  df_free(block);
  return grown;
}

void df_free(void *block) {
  if (!block) return;
  atomic_fetch_sub_explicit(&bytes_held, *size_of(block), memory_order_relaxed);
  free(size_of(block));
}

// ------------------------------------------------------------------------------------------------
// Arenas

enum { SMALLEST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20 }; // a larger piece gets a chunk of its size

typedef struct df_chunk {
  struct df_chunk *older;
  size_t used, room; // bytes behind this head
} df_chunk;

enum { HEAD = (sizeof(df_chunk) + DF_ALIGNMENT - 1) / DF_ALIGNMENT * DF_ALIGNMENT };

static size_t rest_of(const df_chunk *chunk) { return chunk ? chunk->room - chunk->used : 0; }

void *df_arena_alloc(df_arena *arena, size_t size) {
  if (size > PTRDIFF_MAX - 4 * DF_ALIGNMENT) return NULL;
  size_t taken = (size + DF_ALIGNMENT - 1) / DF_ALIGNMENT * DF_ALIGNMENT + GAP;
  if (taken == 0) taken = DF_ALIGNMENT;

  df_chunk *chunk = arena->chunk;
  if (taken > rest_of(chunk)) {
    // Chunks double the arena, so that many small pieces cost few allocations.
    size_t room = arena->bytes;
    if (room < SMALLEST_CHUNK) room = SMALLEST_CHUNK;
    if (room > LARGEST_CHUNK) room = LARGEST_CHUNK;
    if (room < taken) room = taken;
    chunk = df_alloc(HEAD + room);
    if (!chunk) return NULL;
    chunk->room = room;
    arena->bytes += HEAD + room;
    ASAN_POISON_MEMORY_REGION((char *)chunk + HEAD, room);
    // The chunk that will have more room left stays in front.
    if (room - taken >= rest_of(arena->chunk)) {
      chunk->older = arena->chunk;
      arena->chunk = chunk;
    } else {
      chunk->older = arena->chunk->older;
      arena->chunk->older = chunk;
    }
  }
  void *piece = (char *)chunk + HEAD + chunk->used;
  chunk->used += taken;
  ASAN_UNPOISON_MEMORY_REGION(piece, size);
  return piece;
}

char *df_arena_print(df_arena *arena, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  char *text = length < 0 ? NULL : df_arena_alloc(arena, (size_t)length + 1);
  if (!text) return NULL;
  va_start(arguments, format);
  vsnprintf(text, (size_t)length + 1, format, arguments);
  va_end(arguments);
  return text;
}

void df_arena_free(df_arena *arena) {
  for (df_chunk *chunk = arena->chunk, *older; chunk; chunk = older) {
    older = chunk->older;
    ASAN_UNPOISON_MEMORY_REGION((char *)chunk + HEAD, chunk->room);
    df_free(chunk);
  }
  *arena = (df_arena){0};
}
