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

#endif
