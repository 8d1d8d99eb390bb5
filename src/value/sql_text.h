/*
 * sql_text: values and names of the caller's as parts of SQL.
 */
#ifndef HVI_SQL_TEXT_H
#define HVI_SQL_TEXT_H

#include "base/buffer.h"

/* Append the text as a literal, which no setting of the server reads otherwise; the second with the
 * type text. */
void hvi_sql_string(hvi_buffer *sql, const char *text, size_t len);
void hvi_sql_text(hvi_buffer *sql, const char *text, size_t len);

/* Append the name in quotes: "we""ird". */
void hvi_sql_name(hvi_buffer *sql, const char *name);

#endif
