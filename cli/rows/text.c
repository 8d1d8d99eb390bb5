/*
 * text: growable text, and faults in the input.
 */
#include "rows/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* ---- Growable text --------------------------------------------------------------------------- */

void row_text_fini(row_text *text) {
    free(text->data);
    *text = (row_text){0};
}

void row_text_clear(row_text *text) {
    text->len = 0;
    text->failed = false;
}

bool row_text_reserve(row_text *text, size_t more) {
    if (text->failed)
        return false;
    if (text->data != NULL && more <= text->cap - text->len)
        return true;
    size_t cap = text->cap > 0 ? text->cap : 256;
    bool fits = more < SIZE_MAX / 4 && text->len < SIZE_MAX / 4;
    while (fits && cap < text->len + more)
        cap *= 2;
    char *data = fits ? realloc(text->data, cap) : NULL;
    if (data == NULL) {
        row_text_fini(text);
        text->failed = true;
        return false;
    }
    text->data = data;
    text->cap = cap;
    return true;
}

void row_text_append(row_text *text, const char *bytes, size_t len) {
    if (len == 0 || !row_text_reserve(text, len))
        return;
    memcpy(text->data + text->len, bytes, len);
    text->len += len;
}

void row_text_append_byte(row_text *text, char byte) {
    if (row_text_reserve(text, 1))
        text->data[text->len++] = byte;
}

void row_text_append_character(row_text *text, uint32_t code) {
    if (code < 0x80) {
        row_text_append_byte(text, (char) code);
        return;
    }
    char bytes[4];
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        bytes[i] = (char) (0x80 | (code & 0x3F));
        code >>= 6;
    }
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    bytes[0] = (char) (lead[len] | code);
    row_text_append(text, bytes, len);
}

/* ---- JSON and lines -------------------------------------------------------------------------- */

size_t row_text_prefix(const char *text, size_t len) {
    size_t at = hvi_utf8_prefix(text, len);
    while (at < len && text[at] == '\0') {
        at++;
        at += hvi_utf8_prefix(text + at, len - at);
    }
    return at;
}

/* Append the escape of a character that needs one. */
static void append_escape(row_text *text, uint32_t code) {
    char escape[8] = {'\\', (char) code, '\0'};
    if (code == '\n' || code == '\t' || code == '\r')
        escape[1] = code == '\n' ? 'n' : code == '\t' ? 't' : 'r';
    else if (code != '"' && code != '\\')
        snprintf(escape, sizeof escape, "\\u%04x", (unsigned) code & 0xFFFF);
    row_text_append(text, escape, strlen(escape));
}

/* May a character that begins with this byte need an escape? Only few may, so the others are
 * skipped quickly: those of ASCII, and the first bytes of the others in hvi_acts_on_terminal(). */
static bool may_need_escape(unsigned char byte) {
    return byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7F || byte == 0xC2 ||
           byte == 0xD8 || byte == 0xE2;
}

void row_text_append_json(row_text *text, const char *bytes, size_t len) {
    row_text_append_byte(text, '"');
    for (size_t at = 0; at < len;) {
        size_t end = at + row_text_prefix(bytes + at, len - at);
        size_t from = at;
        while (at < end) {
            if (!may_need_escape((unsigned char) bytes[at])) {
                at++;
                continue;
            }
            uint32_t code = 0;
            size_t size = hvi_utf8_decode(bytes + at, end - at, &code);
            if (code == '"' || code == '\\' || hvi_acts_on_terminal(code)) {
                row_text_append(text, bytes + from, at - from);
                append_escape(text, code);
                from = at + size;
            }
            at += size;
        }
        row_text_append(text, bytes + from, at - from);
        if (at < len) {
            row_text_append(text, "\xef\xbf\xbd", 3);
            at++;
        }
    }
    row_text_append_byte(text, '"');
}

int64_t count_lines(const char *text, size_t len) {
    int64_t count = 0;
    const char *end = text + len;
    while (len > 0 && (text = memchr(text, '\n', (size_t) (end - text))) != NULL) {
        count++;
        text++;
    }
    return count;
}

/* ---- Faults ---------------------------------------------------------------------------------- */

/* Cut a text that may have been truncated so that it is valid UTF-8 again. */
static void mend(char *text) {
    text[hvi_utf8_prefix(text, strlen(text))] = '\0';
}

bool row_fault_at(row_fault *fault, int64_t line, const char *text, size_t offset,
                  const char *format, ...) {
    size_t start = offset;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    *fault = (row_fault){.line = line + count_lines(text, start), .column = 1};
    for (size_t i = start; i < offset; i++)
        fault->column += ((unsigned char) text[i] & 0xC0) != 0x80; /* not inside a character */
    va_list args;
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    mend(fault->message);
    return false;
}

bool row_fault_line(row_fault *fault, int64_t line, const char *format, ...) {
    *fault = (row_fault){.line = line};
    va_list args;
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    mend(fault->message);
    return false;
}

bool row_text_check(const char *text, size_t len, int64_t line, row_fault *fault) {
    const char *nul = len > 0 ? memchr(text, '\0', len) : NULL;
    if (nul != NULL)
        return row_fault_at(fault, line, text, (size_t) (nul - text), "a NUL byte");
    size_t valid = hvi_utf8_prefix(text, len);
    if (valid < len)
        return row_fault_at(fault, line, text, valid, "the byte 0x%02x is not UTF-8",
                            (unsigned char) text[valid]);
    return true;
}

void row_fault_hint(row_fault *fault, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(fault->hint, sizeof fault->hint, format, args);
    va_end(args);
    mend(fault->hint);
}

const char *row_fault_text(char text[ROW_FAULT_SIZE], const row_fault *fault) {
    if (fault->column > 0)
        snprintf(text, ROW_FAULT_SIZE, "line %lld, column %lld: %s", (long long) fault->line,
                 (long long) fault->column, fault->message);
    else
        snprintf(text, ROW_FAULT_SIZE, "line %lld: %s", (long long) fault->line, fault->message);
    return text;
}
