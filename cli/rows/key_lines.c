/*
 * key_lines: a list of keys, one on each line.
 *
 * A line is the digits of a key, in quotes or without, or an object as `hv export` and `hv get
 * --json` write them, whose member "id" is the key. It becomes a row with the attribute "id" and,
 * from an object, its other members.
 *
 * A number in an object that a program may have rounded is refused, although it may be right: it
 * could be the key of another entity.
 */
#include "rows/format.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "rows/key_json.h"

#define MOST_DIGITS ((size_t) 19)

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* A line that is only a key. */
static bool parse_digits(const row_record *record, size_t from, size_t len, row_scratch *scratch,
                         hv_dict *dict, row_fault *fault) {
    char digits[MOST_DIGITS + 1] = "";
    const char *text = record->text + from;
    int64_t key;
    bool quoted = len >= 2 && text[0] == '"' && text[len - 1] == '"';
    size_t count = quoted ? len - 2 : len;
    if (count <= MOST_DIGITS)
        memcpy(digits, quoted ? text + 1 : text, count);
    if (!key_json_read(digits, &key))
        return row_fault_at(fault, record->line, record->text, from, "\"%s\" is not a key",
                            hvi_utf8_excerpt(text, len).text);
    row_text *value = &scratch->value;
    row_text_clear(value);
    row_text_append(value, digits, count);
    return row_set(dict, record, from, KEY_LINE_NAME, strlen(KEY_LINE_NAME), value, fault);
}

/* The member of an object. */
static bool check_member(const row_record *record, const row_scratch *scratch, const hv_dict *dict,
                         row_fault *fault) {
    const char *text = NULL;
    int64_t key;
    if (!hv_dict_get(dict, KEY_LINE_NAME, HV_STRLEN, &text, NULL) || text == NULL)
        return row_fault_line(fault, record->line, "no \"" KEY_LINE_NAME "\" with a key");
    bool is_key = key_json_read(text, &key);
    bool is_number = scratch->bare && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
    if (is_number && (is_key ? key_json_is_double(key) : key_json_is_fraction(text)))
        return row_fault_line(fault, record->line, "the key %s may have been rounded on its way",
                              hvi_utf8_excerpt(text, strlen(text)).text);
    if (!is_key)
        return row_fault_line(fault, record->line, "\"%s\" is not a key",
                              hvi_utf8_excerpt(text, strlen(text)).text);
    return true;
}

static bool parse(const row_record *record, row_scratch *scratch, hv_dict *dict, row_fault *fault) {
    size_t from = 0, end = record->len;
    while (from < end && is_space(record->text[from]))
        from++;
    while (end > from && is_space(record->text[end - 1]))
        end--;
    if (record->text[from] != '{')
        return parse_digits(record, from, end - from, scratch, dict, fault);
    scratch->watched = KEY_LINE_NAME;
    return row_ndjson.parse(record, scratch, dict, fault) &&
           check_member(record, scratch, dict, fault);
}

static bool is_empty(const row_record *record, size_t columns) {
    return row_ndjson.is_empty(record, columns);
}

const row_format row_key_lines = {
    .name = "keys",
    .is_empty = is_empty,
    .parse = parse,
};
