/*
 * utf8: is this text that PostgreSQL takes?
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

#endif
