/*
 * sql: run a statement on a borrowed connection, and wait for its answer for a limited time.
 */
#ifndef SQL_H
#define SQL_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "hypervault.h"

/* Why an operation failed. All zero: it has not failed. */
typedef struct sql_failure {
    hv_status status;
    hv_error *error; /* owned; NULL if it did not come from the library */
    char *message;   /* owned; the message in that case, if there is one */
} sql_failure;

/* Set a failure that is not the library's, and return its status. */
hv_status sql_fail(sql_failure *failure, hv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Report it on stderr. */
void sql_failure_say(const sql_failure *failure);
void sql_failure_clear(sql_failure *failure);

/* How long to wait for the answer to one operation. */
#define SQL_PATIENCE_MS 30000

/*
 * Wait for the answer to the statement just sent; `sent` is what the PQsend… function returned. On
 * HV_OK the caller clears the result with PQclear(). After any failure but HV_REFUSED the
 * connection cannot be used any more: release it.
 */
hv_status sql_answer(PGconn *conn, int sent, bool is_write, int64_t patience_ms, PGresult **result,
                     sql_failure *failure);

/*
 * Check the form of a result in text: `columns` has a letter for each column, n for a whole number,
 * t for text, N and T for the same or NULL; and there are `least` to `most` rows. HV_CORRUPT if it
 * is not so; otherwise its values can be read without further checks.
 */
hv_status sql_check(const PGresult *result, const char *columns, int least, int most,
                    sql_failure *failure);

/* The value in a column of whole numbers; `if_null` for NULL. */
int64_t sql_number(const PGresult *result, int row, int column, int64_t if_null);

#endif
