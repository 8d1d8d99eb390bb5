/*
 * row_text: growable text, and where in it something is wrong.
 */
#include "row_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

static bool is_continuation(unsigned char byte) {
    return (byte & 0xC0) == 0x80;
}

/* The length of the character at the start of `left` > 0 bytes; 0 if it is not valid (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF). */
static size_t character_len(const unsigned char *p, size_t left) {
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    size_t len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (left < len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (!is_continuation(p[i]))
            return 0;
    }
    /* What the second byte may be after these first bytes is narrower. */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return len;
}

size_t utf8_prefix(const char *text, size_t len) {
    const unsigned char *p = (const unsigned char *) text;
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        if (len - at >= sizeof word) { /* eight ASCII bytes at once */
            memcpy(&word, p + at, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof word;
                continue;
            }
        }
        size_t step = character_len(p + at, len - at);
        if (step == 0)
            break;
        at += step;
    }
    return at;
}

/* A character that must be written as an escape, or a quote or backslash. */
static void append_escape(row_text *text, unsigned char c) {
    char escape[8] = {'\\', (char) c, '\0'};
    if (c == '\n' || c == '\t' || c == '\r')
        escape[1] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
    else if (c != '"' && c != '\\')
        snprintf(escape, sizeof escape, "\\u%04x", c);
    row_text_append(text, escape, strlen(escape));
}

void row_text_append_json(row_text *text, const char *bytes, size_t len) {
    row_text_append_byte(text, '"');
    for (size_t at = 0; at < len;) {
        size_t end = at + utf8_prefix(bytes + at, len - at);
        while (at < end) {
            size_t from = at;
            while (at < end && (unsigned char) bytes[at] >= 0x20 && bytes[at] != '"' &&
                   bytes[at] != '\\' && bytes[at] != 0x7F)
                at++;
            row_text_append(text, bytes + from, at - from);
            if (at < end)
                append_escape(text, (unsigned char) bytes[at++]);
        }
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

row_excerpt_text row_excerpt(const char *text, size_t len) {
    row_excerpt_text excerpt;
    const size_t most = sizeof excerpt.text - sizeof "...";
    size_t used = 0;
    size_t at = 0;
    while (at < len) {
        const unsigned char *p = (const unsigned char *) text + at;
        size_t step = character_len(p, len - at);
        bool control = p[0] < 0x20 || p[0] == 0x7F || (p[0] == 0xC2 && step == 2 && p[1] < 0xA0);
        size_t size = step == 0 || control ? 4 : step;
        if (used + size > most)
            break;
        if (size == step) {
            memcpy(excerpt.text + used, p, step);
            at += step;
        } else {
            snprintf(excerpt.text + used, 5, "\\x%02x", p[0]);
            at++;
        }
        used += size;
    }
    strcpy(excerpt.text + used, at < len ? "..." : "");
    return excerpt;
}

/* ---- Faults ---------------------------------------------------------------------------------- */

/* Cut a text that may have been truncated so that it is valid UTF-8 again. */
static void mend(char *text) {
    text[utf8_prefix(text, strlen(text))] = '\0';
}

bool row_fault_at(row_fault *fault, int64_t line, const char *text, size_t offset,
                  const char *format, ...) {
    size_t start = offset;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    *fault = (row_fault){.line = line + count_lines(text, start), .column = 1};
    for (size_t i = start; i < offset; i++)
        fault->column += !is_continuation((unsigned char) text[i]);
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
