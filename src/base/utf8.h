/*
 * utf8: is this text that PostgreSQL takes, and how to show it if not?
 */
#ifndef HVI_UTF8_H
#define HVI_UTF8_H

#include <stddef.h>

/*
 * The length of the longest prefix that is valid UTF-8 without NUL bytes: `len` if all of it is.
 * Valid is what RFC 3629 and PostgreSQL say: no overlong forms, no surrogates, nothing above
 * U+10FFFF.
 */
size_t hvi_utf8_prefix(const char *text, size_t len);

/* How much of a text an error message shows. */
typedef struct hvi_excerpt {
    char text[68];
} hvi_excerpt;

/*
 * The beginning of any bytes, fit for a message: whole characters, at most 60 bytes and then "...",
 * with control characters, what changes the direction of writing and what is not UTF-8 as \xNN.
 */
hvi_excerpt hvi_utf8_excerpt(const char *text, size_t len);

#endif
