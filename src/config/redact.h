/*
 * redact: remove values from libpq's messages that may be a password in the wrong place.
 *
 * libpq repeats a value that it refuses: invalid sslmode value: "…". Host, user, database and
 * service are shown, because a message without them is of no use; other parameters only if they
 * look like a port or a path.
 */
#ifndef HVI_REDACT_H
#define HVI_REDACT_H

#include <stddef.h>

/* In `message`, which has room for `size` bytes, replace the quoted values, in any language, of
 * these parameters (two NULL-terminated arrays) and of environment variables such as PGSSLMODE. */
void hvi_redact(char *message, size_t size, const char *const *keywords, const char *const *values);

#endif
