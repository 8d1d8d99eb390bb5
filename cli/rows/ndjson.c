/*
 * ndjson: NDJSON, a JSON object (RFC 8259) on each line.
 *
 * It has its own scanner instead of a JSON library, to be exact: a number is stored with the digits
 * that it has in the input (1.10, 12345678901234567890, 1e400), and an object or array as it was
 * written, without the white space between its parts. Escapes in strings are resolved; true and
 * false are stored as these words; null is NULL.
 */
#include "rows/format.h"

#include <string.h>

#include "base/utf8.h"

/* Deeper nesting is malformed: the scanner calls itself for each level. */
#define MAX_DEPTH 1000

typedef struct scanner {
    const row_record *record;
    const char *text;
    size_t len;
    size_t at;
    bool alone; /* the object is all there is, in any number of lines */
    row_fault *fault;
} scanner;

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void skip_space(scanner *s) {
    while (s->at < s->len && is_space(s->text[s->at]))
        s->at++;
}

/* The next character, or '\0' at the end: there are no NUL bytes in a row that is parsed. */
static char peek(const scanner *s) {
    return s->at < s->len ? s->text[s->at] : '\0';
}

/* Set the fault that something else is expected here. Returns false. */
static bool expected(scanner *s, const char *what) {
    if (s->at >= s->len)
        return row_fault_at(s->fault, s->record->line, s->text, s->at,
                            "expected %s, but the %s ends", what, s->alone ? "text" : "line");
    size_t len = 1;
    while (s->at + len < s->len && len < 16 && !is_space(s->text[s->at + len]))
        len++;
    len = hvi_utf8_prefix(s->text + s->at, len);
    return row_fault_at(s->fault, s->record->line, s->text, s->at, "expected %s, found \"%s\"",
                        what, hvi_utf8_excerpt(s->text + s->at, len).text);
}

static bool fault_here(scanner *s, const char *message) {
    return row_fault_at(s->fault, s->record->line, s->text, s->at, "%s", message);
}

/* ---- Strings --------------------------------------------------------------------------------- */

/* Four hex digits at text[at]. */
static bool read_hex4(const scanner *s, size_t at, uint32_t *code) {
    *code = 0;
    for (size_t i = at; i < at + 4; i++) {
        if (i >= s->len)
            return false;
        char c = s->text[i];
        int digit = is_digit(c)            ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return false;
        *code = *code << 4 | (uint32_t) digit;
    }
    return true;
}

/* Read the escape \uXXXX at the present position, and the second one of a surrogate pair. */
static bool read_unicode_escape(scanner *s, row_text *out) {
    uint32_t code;
    if (!read_hex4(s, s->at + 2, &code))
        return fault_here(s, "\\u must be followed by four hexadecimal digits");
    size_t len = 6;
    if (code >= 0xD800 && code <= 0xDBFF) {
        uint32_t low;
        bool pair = s->at + 8 <= s->len && s->text[s->at + 6] == '\\' &&
                    s->text[s->at + 7] == 'u' && read_hex4(s, s->at + 8, &low) && low >= 0xDC00 &&
                    low <= 0xDFFF;
        if (!pair)
            return fault_here(s, "half of a surrogate pair is not a character");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        len = 12;
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        return fault_here(s, "half of a surrogate pair is not a character");
    }
    /* In nested JSON (no `out`) it stays an escape, which is harmless. */
    if (code == 0 && out != NULL)
        return fault_here(s, "PostgreSQL's text cannot hold the character \\u0000");
    if (out != NULL)
        row_text_append_character(out, code);
    s->at += len;
    return true;
}

static bool read_escape(scanner *s, row_text *out) {
    static const char names[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    char c = s->at + 1 < s->len ? s->text[s->at + 1] : '\0';
    if (c == 'u')
        return read_unicode_escape(s, out);
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name == NULL)
        return fault_here(s, "a backslash must be followed by one of \"\\/bfnrtu");
    if (out != NULL)
        row_text_append_byte(out, meanings[name - names]);
    s->at += 2;
    return true;
}

/* Read the string at the present position, which is a quote, up to and past its closing one. Its
 * characters are appended to `out`; NULL: it is only checked. */
static bool read_string(scanner *s, row_text *out) {
    size_t opening = s->at++;
    for (;;) {
        size_t from = s->at;
        while (s->at < s->len && s->text[s->at] != '"' && s->text[s->at] != '\\' &&
               (unsigned char) s->text[s->at] >= 0x20)
            s->at++;
        if (out != NULL)
            row_text_append(out, s->text + from, s->at - from);
        if (s->at >= s->len) {
            s->at = opening;
            return fault_here(s, "the string that starts here is not closed");
        }
        if (s->text[s->at] == '"') {
            s->at++;
            return true;
        }
        if (s->text[s->at] != '\\')
            return fault_here(s, "a control character must be written as an escape");
        if (!read_escape(s, out))
            return false;
    }
}

/* ---- Other values ---------------------------------------------------------------------------- */

static bool read_digits(scanner *s) {
    if (!is_digit(peek(s)))
        return expected(s, "a digit");
    while (is_digit(peek(s)))
        s->at++;
    return true;
}

static bool read_number(scanner *s) {
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0') {
        s->at++;
        if (is_digit(peek(s)))
            return fault_here(s, "a number must not have leading zeros");
    } else if (!read_digits(s)) {
        return false;
    }
    if (peek(s) == '.') {
        s->at++;
        if (!read_digits(s))
            return false;
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        if (!read_digits(s))
            return false;
    }
    return true;
}

static bool read_word(scanner *s, const char *word) {
    size_t len = strlen(word);
    if (s->len - s->at < len || memcmp(s->text + s->at, word, len) != 0)
        return expected(s, "a value");
    s->at += len;
    return true;
}

/* A number, true, false or null. */
static bool read_scalar(scanner *s) {
    switch (peek(s)) {
    case 't':
        return read_word(s, "true");
    case 'f':
        return read_word(s, "false");
    case 'n':
        return read_word(s, "null");
    default:
        return peek(s) == '-' || is_digit(peek(s)) ? read_number(s) : expected(s, "a value");
    }
}

/* Append a value of any kind to `out`, as it is written but without white space. */
static bool copy_value(scanner *s, row_text *out, int depth) {
    size_t from = s->at;
    char opening = peek(s);
    if (opening != '{' && opening != '[') {
        if (!(opening == '"' ? read_string(s, NULL) : read_scalar(s)))
            return false;
        row_text_append(out, s->text + from, s->at - from);
        return true;
    }
    if (depth >= MAX_DEPTH)
        return fault_here(s, "nested too deeply");
    bool object = opening == '{';
    char closing = object ? '}' : ']';
    row_text_append_byte(out, opening);
    s->at++;
    skip_space(s);
    for (bool first = true; peek(s) != closing; first = false) {
        if (!first) {
            if (peek(s) != ',')
                return expected(s, object ? "a comma or }" : "a comma or ]");
            row_text_append_byte(out, ',');
            s->at++;
            skip_space(s);
        }
        if (object) {
            from = s->at;
            if (peek(s) != '"')
                return expected(s, "a name in quotes");
            if (!read_string(s, NULL))
                return false;
            row_text_append(out, s->text + from, s->at - from);
            skip_space(s);
            if (peek(s) != ':')
                return expected(s, "a colon");
            row_text_append_byte(out, ':');
            s->at++;
            skip_space(s);
        }
        if (!copy_value(s, out, depth + 1))
            return false;
        skip_space(s);
    }
    row_text_append_byte(out, closing);
    s->at++;
    return true;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* One `"name": value` of the row. */
static bool read_attribute(scanner *s, row_scratch *scratch, hv_dict *dict) {
    row_text *name = &scratch->name;
    row_text *value = &scratch->value;
    row_text_clear(name);
    row_text_clear(value);
    size_t at = s->at;
    if (peek(s) != '"')
        return expected(s, "a name in quotes");
    if (!read_string(s, name))
        return false;
    skip_space(s);
    if (peek(s) != ':')
        return expected(s, "a colon");
    s->at++;
    skip_space(s);
    bool null = peek(s) == 'n';
    bool quoted = peek(s) == '"';
    bool read = null     ? read_word(s, "null")
                : quoted ? read_string(s, value)
                         : copy_value(s, value, 1);
    if (!read)
        return false;
    if (scratch->watched != NULL && name->len == strlen(scratch->watched) &&
        memcmp(name->data, scratch->watched, name->len) == 0)
        scratch->bare = !quoted && !null;
    if (name->failed)
        return fault_here(s, "out of memory");
    const char *name_text = name->data != NULL ? name->data : "";
    if (s->alone && hv_dict_get(dict, name_text, name->len, NULL, NULL))
        return row_fault_at(s->fault, s->record->line, s->text, at,
                            "the name \"%s\" is given twice",
                            hvi_utf8_excerpt(name_text, name->len).text);
    return row_set(dict, s->record, at, name_text, name->len, null ? NULL : value, s->fault);
}

static bool parse_object(const row_record *record, bool alone, row_scratch *scratch, hv_dict *dict,
                         row_fault *fault) {
    scanner s = {
        .record = record, .text = record->text, .len = record->len, .alone = alone, .fault = fault};
    skip_space(&s);
    if (peek(&s) != '{')
        return expected(&s, "an object");
    s.at++;
    skip_space(&s);
    for (bool first = true; peek(&s) != '}'; first = false) {
        if (!first) {
            if (peek(&s) != ',')
                return expected(&s, "a comma or }");
            s.at++;
            skip_space(&s);
        }
        if (!read_attribute(&s, scratch, dict))
            return false;
        skip_space(&s);
    }
    s.at++;
    skip_space(&s);
    if (s.at < s.len)
        return expected(&s, alone ? "the end of the text" : "the end of the line");
    return true;
}

static bool parse(const row_record *record, row_scratch *scratch, hv_dict *dict, row_fault *fault) {
    return parse_object(record, false, scratch, dict, fault);
}

bool row_parse_object(const char *text, size_t len, int64_t line, bool alone, hv_dict *dict,
                      row_fault *fault) {
    row_record record = {.text = text, .len = len, .line = line};
    row_scratch scratch = {0};
    bool parsed = parse_object(&record, alone, &scratch, dict, fault);
    row_text_fini(&scratch.name);
    row_text_fini(&scratch.value);
    return parsed;
}

static bool is_empty(const row_record *record, size_t columns) {
    (void) columns;
    size_t at = 0;
    while (at < record->len && is_space(record->text[at]))
        at++;
    return at == record->len;
}

static const char *const endings[] = {".ndjson", ".jsonl", ".json", NULL};

const row_format row_ndjson = {
    .name = "ndjson",
    .endings = endings,
    .is_empty = is_empty,
    .parse = parse,
};
