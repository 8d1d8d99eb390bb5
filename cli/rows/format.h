/*
 * format: what the reader needs to know about a format.
 *
 * A row is read in two steps. find_end() looks for its end only, and continues when more of the row
 * was read, so that each byte is looked at once. Then the whole row is parsed: by parse() in a
 * format whose rows name their attributes, by next_field() in one with a header.
 */
#ifndef ROW_FORMAT_H
#define ROW_FORMAT_H

#include "hypervault.h"
#include "rows/text.h"

typedef struct row_format row_format;

/* A row as a whole. */
typedef struct row_record {
    const char *text; /* without the line end */
    size_t len;
    int64_t line;
    const char *unclosed; /* why a quote in it is taken as not closed; NULL: none is */
} row_record;

/* How far the search for the end of a row has come. */
typedef struct row_scan {
    size_t at;     /* bytes of the row that were searched */
    int state;     /* for the format; 0 at the start of a row */
    size_t opened; /* where in the row the last quote opened, or the row became malformed */
} row_scan;

/* Memory that is used again for each row. */
typedef struct row_scratch {
    row_text name;
    row_text value;
    const char *watched; /* the name of an attribute, or NULL */
    bool bare;           /* … which is no JSON string in the present row */
} row_scratch;

/* The position among the fields of a record. */
typedef struct row_fields {
    const row_record *record;
    size_t at;  /* where the next field starts */
    bool ended; /* there is none */
} row_fields;

typedef struct row_field {
    size_t at;   /* where it starts in the record */
    bool null;   /* it is NULL */
    bool quoted; /* it was written with quotes or escapes, so it is meant literally */
} row_field;

struct row_format {
    const char *name;
    const char *const *endings; /* ".csv", … NULL */

    /* The offset of the newline that ends the row, or `len` if it is not among the first `len`
     * bytes of the row: then it is called again with more bytes. NULL: the first newline. */
    size_t (*find_end)(row_scan *scan, const char *text, size_t len);

    /* Where to cut a row whose quotes turned out to be wrong within its first `len` bytes: at the
     * end of the line where the wrong one opens. `len` if they are right. NULL: the format has no
     * quotes. */
    size_t (*find_cut)(const row_scan *scan, const char *text, size_t len);

    /* Is the record no row at all, such as an empty line? */
    bool (*is_empty)(const row_record *record, size_t columns);

    /* Add its attributes to the dict. False: `fault` says what is wrong. */
    bool (*parse)(const row_record *record, row_scratch *scratch, hv_dict *dict, row_fault *fault);

    /* For a format with a header, instead of parse(): the next field, its text in `value`; sets
     * fields->ended after the last. False: `fault` says what is wrong. */
    bool (*next_field)(row_fields *fields, row_field *field, row_text *value, row_fault *fault);

    /* Characters in the only name of a header which show that the format is a different one. */
    const char *other_separators;
};

extern const row_format row_ndjson;
extern const row_format row_csv;
extern const row_format row_tsv;

/* A list of keys: each row has the attribute KEY_LINE_NAME. See key_lines.c. */
#define KEY_LINE_NAME "id"
extern const row_format row_key_lines;

/* Read one JSON object like a row of NDJSON, into an empty dict. False: `fault` says what is wrong,
 * with the column counted from the beginning of the object. `alone`: the object is no part of a
 * row: it may have any number of lines, and a name that is given twice is wrong. */
bool row_parse_object(const char *text, size_t len, int64_t line, bool alone, hv_dict *dict,
                      row_fault *fault);

/* ---- table.c: what CSV and TSV have in common -------------------------------------------- */

typedef struct row_header {
    char **names; /* owned, with their lengths; valid UTF-8 without NUL bytes */
    size_t *lens;
    size_t count;
} row_header;

/* Read the header. On failure `fault` says what is wrong with it. */
bool row_header_parse(row_header *header, const row_format *format, const row_record *record,
                      row_scratch *scratch, row_fault *fault);
void row_header_fini(row_header *header);

/* Add a row's attributes to the dict. */
bool row_table_parse(const row_header *header, const row_format *format, const row_record *record,
                     row_scratch *scratch, hv_dict *dict, row_fault *fault);

/* Set an attribute; `value` NULL is NULL. On failure (text too long, not UTF-8 after escapes were
 * resolved, memory) sets a fault at `at`, its place in the record. */
bool row_set(hv_dict *dict, const row_record *record, size_t at, const char *name, size_t name_len,
             const row_text *value, row_fault *fault);

#endif
