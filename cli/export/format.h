/*
 * format: entities as `hv export`, `hv find` and `hv feed` write them, and `hv import --exported`
 * reads them.
 *
 *     {"id":"307821103844175873","shard_id":12,"kind":1,"body":{"beep":"boop","n":null}}
 *
 * or, in CSV with the header id,shard_id,kind,body, the body as hstore's text form:
 *
 *     307821103844175873,12,1,"""beep""=>""boop"", ""n""=>NULL"
 *
 * or the same in TSV, as COPY writes its text format; characters that act on a terminal are escaped
 * byte by byte, as \x1b.
 *
 * Attributes come in the server's order, and the same entity is always the same bytes.
 */
#ifndef EXPORT_FORMAT_H
#define EXPORT_FORMAT_H

#include "rows/reader.h"

/* The beginning of a file; may be "". */
const char *export_header(const row_format *format);

typedef struct export_row {
    int64_t key;
    int shard;
    int kind;
    const hv_dict *body;
} export_row;

/* Append an entity with its line end. Check text->failed afterwards. */
void export_entity(row_text *text, const row_format *format, const export_row *entity);

/* Finds where the whole records at the beginning of a file end. It is fed in pieces. */
typedef struct export_end {
    bool quoted;   /* within quotes, in CSV */
    int64_t at;    /* bytes that were fed */
    int64_t start; /* of the last whole record; -1: there is none */
    int64_t end;   /* the byte after it */
} export_end;

void export_end_feed(export_end *end, const row_format *format, const char *bytes, size_t len);

/* The key and shard of a record. False if it is not a record of an export. */
bool export_parse(const char *record, const row_format *format, int64_t *key, int *shard);

#endif
