/*
 * result: the one way in which what a server has answered is read.
 *
 * A server can be another than the library takes it for, and what stands between can mix answers
 * up. So each caller states the form of the answer that it expects, in a table; an answer that has
 * another form is an error of its own, and of one that has it each value can be read without
 * another look.
 */
#ifndef HVI_RESULT_H
#define HVI_RESULT_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "value/dict.h"

/* What a column must be. Where NULL is allowed, | HVI_OR_NULL. */
enum {
    HVI_IS_BOOL = 1,
    HVI_IS_INT2,
    HVI_IS_INT4,
    HVI_IS_INT8,
    HVI_IS_COUNT, /* an int8 that is not negative */
    HVI_IS_SHARD, /* an integer, and the number of a shard */
    HVI_IS_OID,
    HVI_IS_KEYS,  /* an integer, and an hvi_generator */
    HVI_IS_BYTES, /* anything: a text, or the binary form of a type that its reader checks */
    HVI_OR_NULL = 0x80,
};

typedef enum hvi_rows { HVI_ONE_ROW, HVI_AT_MOST_ONE_ROW, HVI_ANY_ROWS } hvi_rows;

#define HVI_COLUMNS_MAX 24

/* The form of an answer. */
typedef struct hvi_form {
    const char *asked; /* for the error, after "asked for": "the shards" */
    hvi_rows rows;
    bool binary;                      /* all columns; else all are text */
    uint8_t columns[HVI_COLUMNS_MAX]; /* up to the first 0 */
} hvi_form;

/* Has it this form, in every row? If not, hvi_fail_answer(). `result` may be NULL. */
hv_status hvi_result_check(const PGresult *result, const hvi_form *form, const char *server,
                           int shard, hv_error **error);

/* Is it the answer to a command that gives no rows? *affected, which may be NULL, is how many rows
 * the server says that it has affected; -1: it does not say. If it is none, hvi_fail_answer(). */
hv_status hvi_result_check_command(PGresult *result, const char *asked, const char *server,
                                   int shard, int64_t *affected, hv_error **error);

/* HV_CORRUPT: asked for that, the server has sent this. `sent` is a clause without a subject, as in
 * "sent 2 rows, not 1". */
hv_status hvi_fail_answer(const char *server, int shard, const char *asked, hv_error **error,
                          const char *sent, ...) HVI_PRINTF(5, 6);

/* ---- values of a result that was checked ---- */

/* Of any column of a number; 0 for NULL. */
int64_t hvi_integer_at(const PGresult *result, int row, int column);

/* False for NULL. */
bool hvi_bool_at(const PGresult *result, int row, int column);

/*
 * An entity's body: an hstore in binary form, or a text of its text form, as the column's type
 * says. Errors: HV_CORRUPT if it is none, HV_NO_MEMORY.
 */
hv_status hvi_body_at(const PGresult *result, int row, int column, hv_dict **dict,
                      hv_error **error);

/* Lives as long as the result; NULL for NULL. */
const char *hvi_text_at(const PGresult *result, int row, int column);

#endif
