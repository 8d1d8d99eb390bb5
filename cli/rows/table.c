/*
 * table: formats with a header that names the attributes, and rows with a field for each.
 *
 * A header is valid only if no name is empty or occurs twice. A row is valid only if it has as many
 * fields as the header: which one is missing or too many cannot be guessed.
 */
#include "rows/format.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

bool row_set(hv_dict *dict, const row_record *record, size_t at, const char *name, size_t name_len,
             const row_text *value, row_fault *fault) {
    if (value != NULL && value->failed)
        return row_fault_at(fault, record->line, record->text, at, "out of memory");
    const char *bytes = value == NULL ? NULL : value->data != NULL ? value->data : "";
    hv_error *error = NULL;
    if (hv_dict_set_bytes(dict, name, name_len, bytes, value != NULL ? value->len : 0, &error) ==
        HV_OK)
        return true;
    row_fault_at(fault, record->line, record->text, at, "%s", hv_error_message(error));
    hv_error_free(error);
    return false;
}

/* ---- The header ------------------------------------------------------------------------------ */

void row_header_fini(row_header *header) {
    for (size_t i = 0; i < header->count; i++)
        free(header->names[i]);
    free(header->names);
    free(header->lens);
    *header = (row_header){0};
}

/* Append a name, which is copied. */
static bool add_name(row_header *header, const row_text *name) {
    char **names = realloc(header->names, (header->count + 1) * sizeof *names);
    if (names != NULL)
        header->names = names;
    size_t *lens = realloc(header->lens, (header->count + 1) * sizeof *lens);
    if (lens != NULL)
        header->lens = lens;
    char *copy = malloc(name->len);
    if (names == NULL || lens == NULL || copy == NULL) {
        free(copy);
        return false;
    }
    memcpy(copy, name->data, name->len);
    header->names[header->count] = copy;
    header->lens[header->count] = name->len;
    header->count++;
    return true;
}

/* Is the only name in fact several names, with other separators between them? */
static bool has_other_separators(const row_format *format, const row_text *name) {
    for (const char *c = format->other_separators; *c != '\0'; c++) {
        if (memchr(name->data, *c, name->len) != NULL)
            return true;
    }
    return false;
}

/* `seen` is a dict of the names so far. */
static bool read_header(row_header *header, const row_format *format, const row_record *record,
                        row_text *name, hv_dict *seen, row_fault *fault) {
    row_fields fields = {.record = record};
    row_field field;
    while (!fields.ended) {
        row_text_clear(name);
        if (!format->next_field(&fields, &field, name, fault))
            return false;
        if (record->len == 0) {
            row_fault_line(fault, record->line, "the header is empty");
            row_fault_hint(fault, "The first line must name the attributes.");
            return false;
        }
        if (name->len == 0) {
            row_fault_at(fault, record->line, record->text, field.at, "column %zu has no name",
                         header->count + 1);
            row_fault_hint(fault, "The first line must name the attributes.");
            return false;
        }
        if (!name->failed && hv_dict_get(seen, name->data, name->len, NULL, NULL)) {
            row_fault_at(fault, record->line, record->text, field.at,
                         "the header names \"%s\" twice",
                         hvi_utf8_excerpt(name->data, name->len).text);
            row_fault_hint(fault, "Rename or remove one of the two columns.");
            return false;
        }
        if (!row_set(seen, record, field.at, name->data, name->len, NULL, fault))
            return false;
        if (!add_name(header, name))
            return row_fault_line(fault, record->line, "out of memory");
    }
    if (header->count == 1 && !field.quoted && has_other_separators(format, name)) {
        row_fault_at(fault, record->line, record->text, 0, "the header has one name, \"%s\"",
                     hvi_utf8_excerpt(name->data, name->len).text);
        row_fault_hint(fault,
                       "This does not look like %s. If it is, write the name %s so that "
                       "it is clear.",
                       format->name,
                       format == &row_csv ? "in quotes" : "with a backslash before the separator");
        return false;
    }
    return true;
}

bool row_header_parse(row_header *header, const row_format *format, const row_record *record,
                      row_scratch *scratch, row_fault *fault) {
    hv_dict *seen = hv_dict_new();
    bool good = seen != NULL ? read_header(header, format, record, &scratch->name, seen, fault)
                             : row_fault_line(fault, record->line, "out of memory");
    hv_dict_free(seen);
    if (!good)
        row_header_fini(header);
    return good;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

bool row_table_parse(const row_header *header, const row_format *format, const row_record *record,
                     row_scratch *scratch, hv_dict *dict, row_fault *fault) {
    row_fields fields = {.record = record};
    row_text *value = &scratch->value;
    size_t count = 0;
    for (; !fields.ended; count++) {
        row_field field;
        row_text_clear(value);
        if (!format->next_field(&fields, &field, value, fault))
            return false;
        if (count < header->count &&
            !row_set(dict, record, field.at, header->names[count], header->lens[count],
                     field.null ? NULL : value, fault))
            return false;
    }
    if (count != header->count)
        return row_fault_line(fault, record->line, "%zu %s, but the header names %zu", count,
                              count == 1 ? "field" : "fields", header->count);
    return true;
}
