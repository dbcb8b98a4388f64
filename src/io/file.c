#include "io/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static df_status io_error(df_error *error, const char *what, const char *path) {
  return df_fail(error, DF_IO, "%s: %s (%s)", path, what, strerror(errno));
}

df_status df_file_read(void **bytes, size_t *size, const char *path, df_error *error) {
  *bytes = NULL;
  *size = 0;
  FILE *file = fopen(path, "rb");
  if (!file) return io_error(error, "cannot be opened", path);

  // A pipe does not tell its size, and a file may grow meanwhile: the size is a first guess only.
  struct stat info;
  size_t room = 1 << 16, length = 0;
  if (!fstat(fileno(file), &info) && S_ISREG(info.st_mode)) room = (size_t)info.st_size + 1;
  char *block = NULL;
  df_status status = DF_OK;
  for (;;) {
    char *grown = df_realloc(block, room + 1);
    if (!grown) {
      status = df_fail(error, DF_NO_MEMORY, "out of memory for %zu bytes of %s", room, path);
      break;
    }
    block = grown;
    errno = 0;
    length += fread(block + length, 1, room - length, file);
    if (ferror(file)) status = io_error(error, "cannot be read", path);
    if (length < room) break;
    room *= 2;
  }
  fclose(file);
  if (status) {
    df_free(block);
    return status;
  }
  block[length] = 0;
  *bytes = block;
  *size = length;
  return DF_OK;
}

static bool write_all(FILE *file, const void *bytes, size_t size) {
  bool written = fwrite(bytes, 1, size, file) == size && fflush(file) == 0;
#ifndef __EMSCRIPTEN__
  // Else the new name could be on the disk before the bytes are.
  written = written && fsync(fileno(file)) == 0;
#endif
  return written;
}

df_status df_file_write(const char *path, const void *bytes, size_t size, df_error *error) {
  df_arena arena = {0};
  df_status status = DF_OK;
  char *neighbour = df_arena_print(&arena, "%s.%ld.part", path, (long)getpid());
  if (!neighbour) return df_fail(error, DF_NO_MEMORY, "out of memory while writing %s", path);
  FILE *file = fopen(neighbour, "wb");
  if (!file) {
    status = io_error(error, "cannot be created", neighbour);
  } else {
    if (!write_all(file, bytes, size)) status = io_error(error, "cannot be written", neighbour);
    if (fclose(file) && !status) status = io_error(error, "cannot be written", neighbour);
    if (!status && rename(neighbour, path)) status = io_error(error, "cannot be replaced", path);
    if (status) remove(neighbour);
  }
  df_arena_free(&arena);
  return status;
}

df_status df_file_make_folder(const char *path, df_error *error) {
  df_arena arena = {0};
  df_status status = DF_OK;
  char *part = df_arena_print(&arena, "%s", path);
  if (!part) return df_fail(error, DF_NO_MEMORY, "out of memory while making %s", path);
  // Each folder above it in turn, then itself: the text is cut at one slash after the other.
  for (char *c = part; !status; c++) {
    char end = *c;
    if (end && end != '/') continue;
    *c = 0;
    struct stat info;
    if (c > part && mkdir(part, 0777) && !(stat(part, &info) == 0 && S_ISDIR(info.st_mode)))
      status = io_error(error, "cannot be made", part);
    *c = end;
    if (!end) break;
  }
  df_arena_free(&arena);
  return status;
}
