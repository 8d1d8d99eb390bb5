/*
 * csv: CSV as in RFC 4180, with NULL as in PostgreSQL's COPY.
 *
 * A header names the attributes. A field may stand in double quotes; inside the quotes, commas and
 * line ends are text, and a quote is written twice. Rows end with LF or CRLF. An empty field is
 * NULL, an empty one in quotes is empty text. Everything else, like a quote in the middle of a
 * field or text after a closing quote, is malformed: then the row ends at the next line end,
 * whatever quotes follow. A quote that is not closed, or that is closed in a later line with more
 * text after it, does not open a field: the row ends with the line that it is in, and the next line
 * is the next row. So a misplaced quote spoils one row and not the rest of the file.
 */
#include "rows/format.h"

#include <string.h>

/* ---- Where a row ends ------------------------------------------------------------------------ */

/*
 *               "                "               "
 *     FIELD ---------> QUOTED <------> QUOTE        (a quote in QUOTED: closing, or first of two)
 *       |  ^                            | |  \ CR
 *  other|  |,                          ,| |   `----> CLOSED (CRLF is to follow)
 *       v  |                            | |            |
 *      PLAIN            FIELD <---------' | other      | other than LF
 *       | "                               v            |
 *       `----------------------------> BROKEN <--------'
 *
 * LF ends the row in every state but QUOTED.
 */
enum { FIELD = 0, PLAIN, QUOTED, QUOTE, CLOSED, BROKEN };

static int next_state(int state, char c) {
    switch (state) {
    case FIELD:
        return c == '"' ? QUOTED : c == ',' ? FIELD : PLAIN;
    case PLAIN:
        return c == '"' ? BROKEN : c == ',' ? FIELD : PLAIN;
    case QUOTED:
        return c == '"' ? QUOTE : QUOTED;
    case QUOTE:
        return c == '"' ? QUOTED : c == ',' ? FIELD : c == '\r' ? CLOSED : BROKEN;
    default:
        return BROKEN;
    }
}

static size_t find_end(row_scan *scan, const char *text, size_t len) {
    while (scan->at < len) {
        int state = scan->state;
        if (state == QUOTED || state == BROKEN) { /* only one character matters */
            const char *found =
                memchr(text + scan->at, state == QUOTED ? '"' : '\n', len - scan->at);
            scan->at = found != NULL ? (size_t) (found - text) : len;
            if (found == NULL)
                return len;
        }
        if (text[scan->at] == '\n' && state != QUOTED)
            return scan->at;
        scan->state = next_state(state, text[scan->at]);
        if ((state == FIELD && scan->state == QUOTED) || (state == PLAIN && scan->state == BROKEN))
            scan->opened = scan->at;
        scan->at++;
    }
    return len;
}

static size_t find_cut(const row_scan *scan, const char *text, size_t len) {
    if (scan->state != QUOTED && scan->state != BROKEN)
        return len;
    const char *found = memchr(text + scan->opened, '\n', len - scan->opened);
    return found != NULL ? (size_t) (found - text) : len;
}

/* An empty line is a row only under a header with one name: there it is a NULL. */
static bool is_empty(const row_record *record, size_t columns) {
    return record->len == 0 && columns != 1;
}

/* ---- Fields ---------------------------------------------------------------------------------- */

static bool fault_at(row_fields *fields, size_t at, row_fault *fault, const char *message) {
    return row_fault_at(fault, fields->record->line, fields->record->text, at, "%s", message);
}

/* Read a field in quotes, from the opening one; *end is set past the closing one. */
static bool read_quoted(row_fields *fields, size_t *end, row_text *value, row_fault *fault) {
    const char *text = fields->record->text;
    size_t len = fields->record->len;
    size_t at = fields->at + 1;
    for (;;) {
        const char *quote = at < len ? memchr(text + at, '"', len - at) : NULL;
        if (quote == NULL)
            return row_fault_at(
                fault, fields->record->line, text, fields->at, "the quote that opens here is %s",
                fields->record->unclosed != NULL ? fields->record->unclosed : "never closed");
        size_t closing = (size_t) (quote - text);
        row_text_append(value, text + at, closing - at);
        at = closing + 1;
        if (at == len || text[at] != '"')
            break;
        row_text_append_byte(value, '"');
        at++;
    }
    if (at < len && text[at] != ',')
        return fault_at(fields, at, fault, "text after a closing quote");
    *end = at;
    return true;
}

static bool read_plain(row_fields *fields, size_t *end, row_text *value, row_fault *fault) {
    const char *text = fields->record->text;
    size_t len = fields->record->len;
    size_t at = fields->at;
    for (; at < len && text[at] != ','; at++) {
        if (text[at] == '"')
            return fault_at(fields, at, fault, "a quote in a field without quotes around it");
        if (text[at] == '\r')
            return fault_at(fields, at, fault, "a carriage return outside quotes");
    }
    row_text_append(value, text + fields->at, at - fields->at);
    *end = at;
    return true;
}

static bool next_field(row_fields *fields, row_field *field, row_text *value, row_fault *fault) {
    const row_record *record = fields->record;
    size_t end = 0;
    field->at = fields->at;
    field->quoted = fields->at < record->len && record->text[fields->at] == '"';
    bool read = field->quoted ? read_quoted(fields, &end, value, fault)
                              : read_plain(fields, &end, value, fault);
    if (!read)
        return false;
    field->null = !field->quoted && value->len == 0;
    fields->ended = end >= record->len;
    fields->at = end + 1;
    return true;
}

static const char *const endings[] = {".csv", NULL};

const row_format row_csv = {
    .name = "csv",
    .endings = endings,
    .find_end = find_end,
    .find_cut = find_cut,
    .is_empty = is_empty,
    .next_field = next_field,
    .other_separators = ";\t|",
};
