/*
 * sql_text: values and names of the caller's as parts of SQL.
 */
#include "value/sql_text.h"

#include <string.h>

void hvi_sql_string(hvi_buffer *sql, const char *text, size_t len) {
    /* In E'…' a backslash is one whatever standard_conforming_strings says; without any, both forms
     * are the same. The connection's encoding is UTF-8, in which no part of a character is a quote
     * or a backslash. */
    hvi_buffer_append_text(sql, memchr(text, '\\', len) != NULL ? "E'" : "'");
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\'' || text[i] == '\\')
            hvi_buffer_append_byte(sql, text[i]);
        hvi_buffer_append_byte(sql, text[i]);
    }
    hvi_buffer_append_byte(sql, '\'');
}

void hvi_sql_text(hvi_buffer *sql, const char *text, size_t len) {
    hvi_sql_string(sql, text, len);
    hvi_buffer_append_text(sql, "::pg_catalog.text");
}

void hvi_sql_name(hvi_buffer *sql, const char *name) {
    hvi_buffer_append_byte(sql, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            hvi_buffer_append_byte(sql, '"');
        hvi_buffer_append_byte(sql, *name);
    }
    hvi_buffer_append_byte(sql, '"');
}
