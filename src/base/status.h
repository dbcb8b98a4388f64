// What can go wrong, and how a caller learns of it.
//
// Every function that can fail returns a df_status and fills a df_error that the caller owns (NULL: the
// details are dropped). The library never prints, exits or aborts.
#ifndef DF_BASE_STATUS_H
#define DF_BASE_STATUS_H

#include <stdarg.h>

// X(name, what it means). JavaScript asks for these names and texts; no second table exists.
#define DF_STATUS_LIST(X)                                                                          \
  X(OK, "ok")                                                                                      \
  X(NO_MEMORY, "out of memory")                                                                    \
  X(BAD_ARGUMENT, "an argument is out of range or does not fit the others")                        \
  X(BAD_SHAPE, "a tensor has another shape than expected")                                         \
  X(BAD_VALUE, "a value is not a finite number")                                                   \
  X(BAD_FILE, "the file is damaged or not of the expected format")                                 \
  X(BAD_CONFIG, "the model configuration or recipe is not valid")                                  \
  X(BAD_TABLE, "the level table is not valid")                                                     \
  X(NOT_SUPPORTED, "this is valid, but not supported here")                                        \
  X(WRONG_STATE, "the call does not fit the state that the object is in")                          \
  X(IO, "a file could not be read or written")                                                     \
  X(STOPPED, "stopped on request")

typedef enum df_status {
#define X(name, text) DF_##name,
  DF_STATUS_LIST(X)
#undef X
      DF_STATUS_COUNT
} df_status;

typedef struct df_error {
  df_status code;
  char message[512]; // what was expected and what was found; always terminated
} df_error;

// Fills *error (nullable) and returns code, so that `return df_fail(error, DF_BAD_SHAPE, ...)` is one line.
df_status df_fail(df_error *error, df_status code, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

const char *df_status_name(df_status code); // "BAD_SHAPE"; "UNKNOWN" outside the list
const char *df_status_text(df_status code); // the sentence of the list

#endif
