/*
 * utf8: text that PostgreSQL takes, and how any bytes are shown on a terminal.
 *
 * Valid is what RFC 3629 and PostgreSQL say: no overlong forms, no surrogates, nothing above
 * U+10FFFF.
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
 * Does the character do something to a terminal, or to the order of the characters around it? These
 * are the control characters of ASCII, DEL, those of ISO 6429 (U+0080 to U+009F: U+009B begins an
 * escape sequence as ESC and [ do), the separators of lines and paragraphs, and what changes the
 * direction of writing. All of them are below U+10000.
 *
 * Whatever comes from a database, a file, a server or the command line is printed for people with
 * escapes in their place, and in JSON too, which may end on a terminal.
 */
bool hvi_acts_on_terminal(uint32_t code);

/*
 * The beginning of any bytes, fit for a message: whole characters as far as they fit into `size`
 * bytes, then "..." if there are more. What acts on a terminal and what is not UTF-8 is shown as
 * \xNN. Returns `shown`.
 */
const char *hvi_utf8_show(char *shown, size_t size, const char *text, size_t len);

/* How much of a text an error message shows: 60 bytes. */
typedef struct hvi_excerpt {
    char text[60 + sizeof "..."];
} hvi_excerpt;

/* The same, for one use: `hvi_utf8_excerpt(text, len).text`. */
hvi_excerpt hvi_utf8_excerpt(const char *text, size_t len);

#endif
