/*
 * characters: UTF-8, and which of its characters do something to a terminal.
 */
#ifndef CHARACTERS_H
#define CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character at the start of `left` bytes, and its code point; 0 if there is no
 * valid one (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
size_t utf8_decode(const char *text, size_t left, uint32_t *code);

/* The length of the longest prefix that is valid UTF-8: `len` if all of it is. NUL bytes count as
 * valid. */
size_t utf8_prefix(const char *text, size_t len);

/*
 * Does the character do something to a terminal, or to the order of the characters around it? These
 * are the control characters of ASCII, DEL, those of ISO 6429 (U+0080 to U+009F: U+009B begins an
 * escape sequence as ESC and [ do), the separators of lines and paragraphs, and what changes the
 * direction of writing. All of them are below U+10000.
 *
 * Whatever comes from a database, a file, a server or the command line has them only as escapes
 * when it is printed for people, and in JSON too, which may be printed by anything.
 */
bool acts_on_terminal(uint32_t code);

#endif
