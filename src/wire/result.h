/*
 * result: check a server's answer, and read its values.
 *
 * A server may not be what the library takes it for, and a proxy in between may mix up answers. So
 * each caller describes the form of the answer that it expects in a table. An answer of another
 * form is an error; the values of one that was checked can be read without further checks.
 */
#ifndef HVI_RESULT_H
#define HVI_RESULT_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "value/dict.h"

/* The values that a column may have; | HVI_OR_NULL if NULL is allowed. */
enum {
    HVI_IS_BOOL = 1,
    HVI_IS_INT2,
    HVI_IS_INT4,
    HVI_IS_INT8,
    HVI_IS_COUNT, /* an int8 that is not negative */
    HVI_IS_SHARD, /* an integer, and the number of a shard */
    HVI_IS_OID,
    HVI_IS_KEYS,  /* an integer, and an hvi_generator */
    HVI_IS_BYTES, /* anything: text, or the binary form of a type that its reader checks */
    HVI_OR_NULL = 0x80,
};

typedef enum hvi_rows { HVI_ONE_ROW, HVI_AT_MOST_ONE_ROW, HVI_ANY_ROWS } hvi_rows;

#define HVI_COLUMNS_MAX 24

/* The form of an answer. */
typedef struct hvi_form {
    const char *asked; /* for the error, after "asked for": "the shards" */
    hvi_rows rows;
    bool binary;                      /* all columns are binary; otherwise all are text */
    uint8_t columns[HVI_COLUMNS_MAX]; /* up to the first 0 */
} hvi_form;

/* Check that the result has this form, in every row. Errors: those of hvi_fail_answer(). `result`
 * may be NULL. */
hv_status hvi_result_check(const PGresult *result, const hvi_form *form, const char *server,
                           int shard, hv_error **error);

/* Check that the result is the answer to a command that returns no rows. *affected (may be NULL) is
 * the number of affected rows that the server reports; -1: none reported. Errors: those of
 * hvi_fail_answer(). */
hv_status hvi_result_check_command(PGresult *result, const char *asked, const char *server,
                                   int shard, int64_t *affected, hv_error **error);

/* HV_CORRUPT: the error for a server that, asked for `asked`, has sent something else. `sent` is a
 * clause without its subject, as in "sent 2 rows, not 1". */
hv_status hvi_fail_answer(const char *server, int shard, const char *asked, hv_error **error,
                          const char *sent, ...) HVI_PRINTF(5, 6);

/* ---- values of a result that was checked ---- */

/* The value of a numeric column; 0 for NULL. */
int64_t hvi_integer_at(const PGresult *result, int row, int column);

/* The value of a boolean column; false for NULL. */
bool hvi_bool_at(const PGresult *result, int row, int column);

/*
 * An entity's body: an hstore in binary or text form, depending on the column's type. Errors:
 * HV_CORRUPT if it is malformed, HV_NO_MEMORY.
 */
hv_status hvi_body_at(const PGresult *result, int row, int column, hv_dict **dict,
                      hv_error **error);

/* Is there an array of bigint in this column of the only row, in binary form? *count is how many it
 * has. */
bool hvi_array_check(const PGresult *result, int column, size_t *count);

/* One of them. */
int64_t hvi_array_at(const PGresult *result, int column, size_t place);

/* The text of a value, which lives as long as the result; NULL for NULL. */
const char *hvi_text_at(const PGresult *result, int row, int column);

#endif
