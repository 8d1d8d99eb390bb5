/*
 * bench_sql: run a statement on a borrowed connection, and never wait for its answer without end.
 */
#ifndef BENCH_SQL_H
#define BENCH_SQL_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "bench_errors.h"

/* How long to wait for the answer to one operation. */
#define BENCH_PATIENCE_MS 30000

/*
 * The answer to what was just sent: `sent` is what the PQsend… function has returned. On HV_OK the
 * result is the caller's to PQclear(). After any failure but HV_REFUSED the connection is of no use
 * to anybody: release it.
 */
hv_status bench_sql_answer(PGconn *conn, int sent, bool is_write, int64_t patience_ms,
                           PGresult **result, bench_failure *failure);

/*
 * Has a result the form that was asked for, in text? A letter for each column: n a whole number, t
 * a text, N and T the same or NULL. And `least` to `most` rows. If not, it is HV_CORRUPT; else its
 * values can be read without another look.
 */
hv_status bench_sql_check(const PGresult *result, const char *columns, int least, int most,
                          bench_failure *failure);

/* Of a column of whole numbers; `if_null` for NULL. */
int64_t bench_sql_number(const PGresult *result, int row, int column, int64_t if_null);

#endif
