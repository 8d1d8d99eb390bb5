/*
 * reader: rows of attributes from NDJSON, CSV or TSV, one after the other, in bounded memory.
 *
 * A row that cannot be used is returned like any other, with the reason instead of a dict, and the
 * caller rejects it. Reading ends with ROW_FAILED only when continuing would be pointless: the
 * input cannot be read, its header is wrong, or it is not in the given format (it is compressed, an
 * NDJSON file begins like an array or like an object of several lines, or none of the first
 * ROW_TRIAL rows is well-formed). No row of such an input was returned before.
 */
#ifndef ROW_READER_H
#define ROW_READER_H

#include <sys/types.h>

#include "hypervault.h"
#include "rows/format.h"

/* A longer row is malformed; it is skipped, up to its first line end, without being held in memory.
 * Up to this length, a quote that opens in a row may span lines. */
#define ROW_MAX_BYTES ((size_t) 64 << 20)
/* If this many rows at the start, and no others, are malformed, the format is wrong. */
#define ROW_TRIAL 20

/* ---- Formats --------------------------------------------------------------------------------- */

/* By its name, "ndjson", "csv" or "tsv"; NULL if there is none. */
const row_format *row_format_named(const char *name);
/* By the ending of a file's name; NULL if it is unknown. */
const row_format *row_format_of_file(const char *path);
const char *row_format_name(const row_format *format);

/* ---- Reading --------------------------------------------------------------------------------- */

typedef struct row {
    int64_t number; /* 1, 2, …: rows, not counting header and empty lines */
    int64_t line;   /* the line at which it starts, from 1 */
    int64_t bytes; /* its size in the input, with its line end and whatever was skipped before it */
    char *text;    /* as it was read, without the line end; any bytes; part of the row's memory */
    size_t text_len;
    bool truncated;   /* longer than the longest row allowed: `text` is only its beginning */
    hv_dict *dict;    /* NULL if it is malformed */
    row_fault *fault; /* why it cannot be used, or NULL */
    bool bare;        /* the watched attribute is written without quotes, in NDJSON */
} row;

void row_free(row *row);

/* Reads up to `size` bytes; returns how many, 0 at the end, or -1 with errno set. ECANCELED makes
 * row_reader_next() return ROW_CANCELED. */
typedef ssize_t (*row_input)(void *context, char *data, size_t size);

typedef struct row_reader row_reader;

/* Nothing is read yet. `format` NULL: NDJSON if the first character is a brace, else ROW_FAILED.
 * NULL is returned if memory is short. */
row_reader *row_reader_new(const row_format *format, size_t max_bytes, row_input input,
                           void *context);
void row_reader_free(row_reader *reader);

/* The format, once it is known: given, or found by the first row_reader_next(). */
const row_format *row_reader_format(const row_reader *reader);

typedef enum row_result {
    ROW_READ,     /* *row is the next row: row_free() it */
    ROW_END,      /* there are no more */
    ROW_CANCELED, /* the input returned ECANCELED */
    ROW_FAILED,   /* *fault says why; fault->line is 0 if it concerns no line */
} row_result;

/* Anything but ROW_READ is final: the next call returns ROW_END. */
row_result row_reader_next(row_reader *reader, row **next, row_fault *fault);

/* Set row->bare for this attribute. `name` must outlive the reader. */
void row_reader_watch(row_reader *reader, const char *name);

/* Skip the next `count` rows without parsing them: ROW_READ if they were skipped, ROW_END if there
 * are fewer; *skipped receives how many. */
row_result row_reader_skip(row_reader *reader, int64_t count, int64_t *skipped, row_fault *fault);

#endif
