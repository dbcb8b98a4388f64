// Whole files.
#ifndef DF_IO_FILE_H
#define DF_IO_FILE_H

#include <stddef.h>

#include "base/status.h"

// The whole file into one block (*bytes, df_free it); one zero byte stands behind it, not counted in *size.
df_status df_file_read(void **bytes, size_t *size, const char *path, df_error *error);
// Writes to a neighbour and renames, so that a crash or a full disk never leaves half a file.
df_status df_file_write(const char *path, const void *bytes, size_t size, df_error *error);
// Makes a folder and those above it; one that exists is fine.
df_status df_file_make_folder(const char *path, df_error *error);

#endif
