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
    char *message;   /* owned; then this, if there is more to say than the status */
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
 * The answer to what was just sent: `sent` is what the PQsend… function has returned. On HV_OK the
 * result is the caller's to PQclear(). After any failure but HV_REFUSED the connection is of no use
 * to anybody: release it.
 */
hv_status sql_answer(PGconn *conn, int sent, bool is_write, int64_t patience_ms, PGresult **result,
                     sql_failure *failure);

/*
 * Has a result the form that was asked for, in text? A letter for each column: n a whole number, t
 * a text, N and T the same or NULL. And `least` to `most` rows. If not, it is HV_CORRUPT; else its
 * values can be read without another look.
 */
hv_status sql_check(const PGresult *result, const char *columns, int least, int most,
                    sql_failure *failure);

/* Of a column of whole numbers; `if_null` for NULL. */
int64_t sql_number(const PGresult *result, int row, int column, int64_t if_null);

#endif
