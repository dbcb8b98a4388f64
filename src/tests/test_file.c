// Whole files and folders.
#include <stdlib.h>
#include <unistd.h>

#include "io/file.h"
#include "tests/test.h"

static char folder[256];

static const char *inside(const char *name) {
  static char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static bool make_folder(void) {
  const char *above = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/forcing-XXXXXX", above ? above : "/tmp");
  return mkdtemp(folder) != NULL;
}

TEST(a_file_is_written_and_read) {
  static char big[300000];
  static const size_t sizes[] = {0, 1, 65535, 65536, sizeof big};
  REQUIRE(make_folder());
  for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 31 >> 3);
  for (int c = 0; c < COUNT(sizes); c++) {
    void *bytes = NULL;
    size_t size = 99;
    CHECK_OK(df_file_write(inside("file"), big, sizes[c], &test_error)); // replaces the one before
    CHECK_OK(df_file_read(&bytes, &size, inside("file"), &test_error));
    REQUIRE(bytes);
    CHECK_INT(size, sizes[c]);
    CHECK(memcmp(bytes, big, size) == 0);
    CHECK_INT(((char *)bytes)[size], 0);
    df_free(bytes);
  }
  remove(inside("file"));
  CHECK_INT(rmdir(folder), 0); // nothing else is left in it
}

TEST(a_file_without_known_size_is_read) {
  void *bytes = NULL;
  size_t size;
  FILE *exists = fopen("/proc/self/status", "rb");
  if (!exists) return; // says its size is 0
  fclose(exists);
  CHECK_OK(df_file_read(&bytes, &size, "/proc/self/status", &test_error));
  CHECK(size > 100);
  CHECK_CONTAINS(bytes, "Pid:");
  df_free(bytes);
}

TEST(what_is_missing_is_named) {
  void *bytes = &bytes;
  size_t size;
  REQUIRE(make_folder());
  CHECK_STATUS(df_file_read(&bytes, &size, inside("missing"), &test_error), DF_IO);
  CHECK_CONTAINS(test_error.message, "/missing: cannot be opened");
  CHECK(bytes == NULL && size == 0);
  CHECK_STATUS(df_file_read(&bytes, &size, folder, &test_error), DF_IO); // a folder is no file
  CHECK_STATUS(df_file_write(inside("no/file"), "x", 1, &test_error), DF_IO);
  CHECK_CONTAINS(test_error.message, "cannot be created");
  CHECK_STATUS(df_file_write(folder, "x", 1, &test_error), DF_IO);
  CHECK_INT(rmdir(folder), 0);
}

TEST(folders_are_made_with_those_above_them) {
  REQUIRE(make_folder());
  CHECK_OK(df_file_make_folder(inside("a/b//c/"), &test_error));
  CHECK_OK(df_file_make_folder(inside("a/b/c"), &test_error)); // exists
  CHECK_OK(df_file_make_folder("/", &test_error));
  CHECK_OK(df_file_make_folder(".", &test_error));
  CHECK_OK(df_file_write(inside("a/b/c/file"), "x", 1, &test_error));
  CHECK_STATUS(df_file_make_folder(inside("a/b/c/file"), &test_error), DF_IO);
  CHECK_STATUS(df_file_make_folder(inside("a/b/c/file/d"), &test_error), DF_IO);
  CHECK_CONTAINS(test_error.message, "cannot be made");
  remove(inside("a/b/c/file"));
  rmdir(inside("a/b/c"));
  rmdir(inside("a/b"));
  rmdir(inside("a"));
  CHECK_INT(rmdir(folder), 0);
}

static df_status read_and_free(const char *path) {
  void *bytes;
  size_t size;
  df_status status = df_file_read(&bytes, &size, path, &test_error);
  df_free(bytes);
  return status;
}

TEST(files_survive_running_out_of_memory) {
  REQUIRE(make_folder());
  CHECK_WITHOUT_MEMORY(df_file_write(inside("file"), "text", 4, &test_error));
  CHECK_WITHOUT_MEMORY(read_and_free(inside("file")));
  CHECK_WITHOUT_MEMORY(df_file_make_folder(inside("a"), &test_error));
  remove(inside("file"));
  rmdir(inside("a"));
  CHECK_INT(rmdir(folder), 0);
}
