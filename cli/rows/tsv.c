/*
 * tsv: tab-separated text as PostgreSQL's COPY writes it in its text format, with a header.
 *
 * Each line is a row. A backslash takes away the meaning of what follows: \t, \n, \r, \b, \f, \v,
 * \\, octal \101 and hexadecimal \x41; any other character stands for itself. A field that is just
 * \N is NULL; an empty one is empty text. The line \. that ends COPY's data in a script is ignored.
 */
#include "rows/format.h"

#include <string.h>

static bool is_empty(const row_record *record, size_t columns) {
    if (record->len == 2 && memcmp(record->text, "\\.", 2) == 0)
        return true;
    return record->len == 0 && columns != 1;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int octal_digit(char c) {
    return c >= '0' && c <= '7' ? c - '0' : -1;
}

/* Read up to `most` digits of base 8 or 16 at text[*at]; moves *at past them. */
static char read_code(const char *text, size_t len, size_t *at, size_t most, int base) {
    unsigned code = 0;
    for (size_t i = 0; i < most && *at < len; i++) {
        int digit = base == 8 ? octal_digit(text[*at]) : hex_digit(text[*at]);
        if (digit < 0)
            break;
        code = code * (unsigned) base + (unsigned) digit;
        (*at)++;
    }
    return (char) (code & 0xFF);
}

/* Read the escape after a backslash at text[*at]; moves *at past it. */
static char read_escape(const char *text, size_t len, size_t *at) {
    static const char names[] = "tnrbfv";
    static const char meanings[] = "\t\n\r\b\f\v";
    char c = text[*at];
    const char *name = strchr(names, c);
    if (octal_digit(c) >= 0)
        return read_code(text, len, at, 3, 8);
    (*at)++;
    if (c == 'x' && *at < len && hex_digit(text[*at]) >= 0)
        return read_code(text, len, at, 2, 16);
    return name != NULL ? meanings[name - names] : c;
}

static bool next_field(row_fields *fields, row_field *field, row_text *value, row_fault *fault) {
    const row_record *record = fields->record;
    const char *text = record->text;
    const char *tab =
        fields->at < record->len ? memchr(text + fields->at, '\t', record->len - fields->at) : NULL;
    size_t end = tab != NULL ? (size_t) (tab - text) : record->len;
    size_t at = fields->at;
    *field = (row_field){.at = at};
    field->null = end - at == 2 && memcmp(text + at, "\\N", 2) == 0;
    while (at < end && !field->null) {
        const char *backslash = memchr(text + at, '\\', end - at);
        size_t plain = backslash != NULL ? (size_t) (backslash - text) : end;
        row_text_append(value, text + at, plain - at);
        at = plain;
        if (backslash == NULL)
            break;
        if (++at == end)
            return row_fault_at(fault, record->line, text, plain,
                                "a backslash at the end of the field; write it twice");
        field->quoted = true;
        row_text_append_byte(value, read_escape(text, end, &at));
    }
    fields->ended = tab == NULL;
    fields->at = end + 1;
    return true;
}

static const char *const endings[] = {".tsv", NULL};

const row_format row_tsv = {
    .name = "tsv",
    .endings = endings,
    .is_empty = is_empty,
    .next_field = next_field,
    .other_separators = ",;|",
};
