#include "base/status.h"

#include <stdio.h>
#include <string.h>

df_status df_fail(df_error *error, df_status code, const char *format, ...) {
  if (!error) return code;
  // By way of a copy, so that a caller can wrap the message that is there already.
  char message[sizeof error->message];
  va_list arguments;
  va_start(arguments, format);
  if (vsnprintf(message, sizeof message, format, arguments) < 0) message[0] = 0;
  va_end(arguments);
  strcpy(error->message, message);
  error->code = code;
  return code;
}

const char *df_status_name(df_status code) {
  switch (code) {
#define X(name, text)                                                                              \
  case DF_##name: return #name;
    DF_STATUS_LIST(X)
#undef X
  default: return "UNKNOWN";
  }
}

const char *df_status_text(df_status code) {
  switch (code) {
#define X(name, text)                                                                              \
  case DF_##name: return text;
    DF_STATUS_LIST(X)
#undef X
  default: return "unknown status";
  }
}
