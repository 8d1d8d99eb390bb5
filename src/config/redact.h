/*
 * redact: take out of libpq's messages the values that may be a password in the wrong place.
 *
 * libpq repeats what it refuses: invalid sslmode value: "…". Host, user, database and service are
 * shown, since without them such a message helps nobody; of other parameters only what looks like a
 * port or a path.
 */
#ifndef HVI_REDACT_H
#define HVI_REDACT_H

#include <stddef.h>

/* In `message`, which has room for `size` bytes, replace the values in quotes, of whichever
 * language, of these parameters (two NULL-terminated arrays) and of the environment's PGSSLMODE and
 * its like. */
void hvi_redact(char *message, size_t size, const char *const *keywords, const char *const *values);

#endif
