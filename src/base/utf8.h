/*
 * utf8: check that text is valid for PostgreSQL, and make any bytes safe to show on a terminal.
 *
 * Valid as in RFC 3629 and PostgreSQL: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef HVI_UTF8_H
#define HVI_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the longest prefix that is valid UTF-8 without NUL bytes: `len` if all of it is. */
size_t hvi_utf8_prefix(const char *text, size_t len);

/* The length of the character at the start of `left` bytes, and its code point; 0 if there is no
 * valid one. A NUL byte is a character. */
size_t hvi_utf8_decode(const char *text, size_t left, uint32_t *code);

/*
 * Does the character affect a terminal, or the order of the characters around it? These are the
 * control characters of ASCII, DEL, those of ISO 6429 (U+0080 to U+009F: U+009B begins an escape
 * sequence as ESC and [ do), the separators of lines and paragraphs, and the characters that change
 * the direction of writing. All of them are below U+10000.
 *
 * Text from a database, a file, a server or the command line is printed with escapes in place of
 * them, in JSON too, which may end up on a terminal.
 */
bool hvi_acts_on_terminal(uint32_t code);

/*
 * The beginning of any bytes, fit for a message: whole characters as far as they fit into `size`
 * bytes, then "..." if there are more. Characters that affect a terminal, and bytes that are not
 * UTF-8, are shown as \xNN. Returns `shown`.
 */
const char *hvi_utf8_show(char *shown, size_t size, const char *text, size_t len);

/* The part of a text that an error message shows: up to 60 bytes. */
typedef struct hvi_excerpt {
    char text[60 + sizeof "..."];
} hvi_excerpt;

/* The same, for one use: `hvi_utf8_excerpt(text, len).text`. */
hvi_excerpt hvi_utf8_excerpt(const char *text, size_t len);

#endif
