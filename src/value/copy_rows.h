/*
 * copy_rows: entities as rows of PostgreSQL's binary COPY, both ways.
 *
 * The format ("Binary Format" in the manual's page on COPY) is a header; for each row the number of
 * columns in 16 bits, and for each column its length in 32 bits and its bytes; and -1 instead of a
 * number of columns at the end. All numbers are in network byte order. The columns are id, type,
 * body; rows whose key the database makes have no id.
 */
#ifndef HVI_COPY_ROWS_H
#define HVI_COPY_ROWS_H

#include "base/buffer.h"
#include "value/dict.h"

extern const char hvi_copy_header[];
#define HVI_COPY_HEADER_LEN 19
extern const char hvi_copy_trailer[];
#define HVI_COPY_TRAILER_LEN 2

/* Append a row. `key` 0: without one. Check hvi_buffer_ok() afterwards. */
void hvi_copy_append_row(hvi_buffer *out, int64_t key, int kind, const hv_dict *dict);

/* The same with a body that is a binary hstore already. */
void hvi_copy_append_encoded_row(hvi_buffer *out, int64_t key, int kind, const char *body,
                                 size_t body_len);

/* Takes rows out of a stream that comes in pieces of any size. */
typedef struct hvi_copy_reader {
    hvi_buffer pending; /* what was fed and not yet read starts at `at` */
    size_t at;
    bool started; /* the header was read */
    bool ended;   /* the end was read */
} hvi_copy_reader;

typedef struct hvi_copy_row {
    int64_t key;
    int kind;
    bool has_kind;    /* false: NULL */
    const char *body; /* NULL, or an hstore in binary or text form, as requested; points into the
                         reader: valid until that is fed */
    size_t body_len;
} hvi_copy_row;

void hvi_copy_reader_init(hvi_copy_reader *reader);
void hvi_copy_reader_fini(hvi_copy_reader *reader);

/* False if memory is short. */
bool hvi_copy_feed(hvi_copy_reader *reader, const char *piece, size_t len);

/* The next row. HV_NOT_FOUND, without an error, if it is not complete yet or the end was read.
 * Errors: HV_CORRUPT. */
hv_status hvi_copy_read(hvi_copy_reader *reader, hvi_copy_row *row, hv_error **error);

#endif
