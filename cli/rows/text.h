/*
 * text: growable text, and faults in the input.
 *
 * Append any number of times and check `failed` once at the end: after a failed allocation the text
 * is empty, and appending does nothing until row_text_clear().
 */
#ifndef ROW_TEXT_H
#define ROW_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct row_text {
    char *data; /* owned; may be NULL while len is 0; no NUL at the end */
    size_t len;
    size_t cap;
    bool failed; /* memory was short */
} row_text;

void row_text_fini(row_text *text);

/* Empty it, keeping the memory. */
void row_text_clear(row_text *text);

/* Make room for `more` bytes behind the present ones. Returns false if memory is short. */
bool row_text_reserve(row_text *text, size_t more);

void row_text_append(row_text *text, const char *bytes, size_t len);
void row_text_append_byte(row_text *text, char byte);

/* Append the UTF-8 form of a code point: below 0x110000, no surrogate. */
void row_text_append_character(row_text *text, uint32_t code);

/* Append a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, and characters that
 * act on a terminal become escapes. */
void row_text_append_json(row_text *text, const char *bytes, size_t len);

/* The length of the longest prefix that is valid UTF-8. NUL bytes count as valid. */
size_t row_text_prefix(const char *text, size_t len);

/* The number of newlines. */
int64_t count_lines(const char *text, size_t len);

/*
 * What is wrong with an input, and where. Lines and columns count from 1, columns are characters.
 */
typedef struct row_fault {
    int64_t line;
    int64_t column;    /* 0: the line as a whole */
    char message[200]; /* as PostgreSQL writes them: short, lower case; valid UTF-8 */
    char hint[200];    /* what to do, a sentence; "" for none */
} row_fault;

/* A fault at `text[offset]`, where `text` begins at the start of line `line`. Returns false, so
 * that a parser can `return` it. */
bool row_fault_at(row_fault *fault, int64_t line, const char *text, size_t offset,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A fault of the whole line. Returns false. */
bool row_fault_line(row_fault *fault, int64_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Check that text, which begins at the start of line `line`, is UTF-8 without NUL bytes. False:
 * `fault` says where it is not. */
bool row_text_check(const char *text, size_t len, int64_t line, row_fault *fault);

/* Add what to do. */
void row_fault_hint(row_fault *fault, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "line 7, column 12: message", or "line 7: message" */
#define ROW_FAULT_SIZE 280
const char *row_fault_text(char text[ROW_FAULT_SIZE], const row_fault *fault);

#endif
