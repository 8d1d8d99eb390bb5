/*
 * sql: run a statement on a borrowed connection, and wait for its answer for a limited time.
 */
#include "servers/sql.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ui/memory.h"
#include "ui/ui.h"

hv_status sql_fail(sql_failure *failure, hv_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    if (vasprintf(&failure->message, format, values) < 0)
        out_of_memory();
    va_end(values);
    failure->status = status;
    return status;
}

void sql_failure_say(const sql_failure *failure) {
    if (failure->error != NULL)
        ui_error(failure->error);
    else
        ui_fail_status(failure->status, NULL, NULL, "%s",
                       failure->message != NULL ? failure->message
                                                : hv_status_name(failure->status));
}

void sql_failure_clear(sql_failure *failure) {
    hv_error_free(failure->error);
    free(failure->message);
    *failure = (sql_failure){0};
}

/* Wait until the socket can be read or, with `writes`, written to. */
static bool wait_socket(PGconn *conn, bool writes, int64_t deadline) {
    struct pollfd fd = {.fd = PQsocket(conn), .events = (short) (POLLIN | (writes ? POLLOUT : 0))};
    for (;;) {
        int ready = poll(&fd, 1, hvi_deadline_poll_ms(deadline));
        if (ready >= 0 || errno != EINTR)
            return ready > 0;
    }
}

typedef enum wait_result { ANSWERED, LOST, TIMED_OUT } wait_result;

static wait_result wait_answer(PGconn *conn, int64_t deadline) {
    int unsent;
    while ((unsent = PQflush(conn)) > 0) {
        if (!wait_socket(conn, true, deadline))
            return TIMED_OUT;
        PQconsumeInput(conn);
    }
    while (PQisBusy(conn)) {
        if (!wait_socket(conn, false, deadline))
            return TIMED_OUT;
        /* A server may have sent a reason before the connection was lost: then it is no longer
         * busy. */
        if (!PQconsumeInput(conn) && PQisBusy(conn))
            return LOST;
    }
    return ANSWERED;
}

static bool begins_copy(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/*
 * Read all there is up to the statement's end. The last result counts: an error of the commit comes
 * after the statement's own result. *result may be NULL.
 */
static wait_result read_answer(PGconn *conn, int64_t deadline, PGresult **result) {
    wait_result waited;
    while ((waited = wait_answer(conn, deadline)) == ANSWERED) {
        PGresult *next = PQgetResult(conn);
        if (next == NULL)
            return PQstatus(conn) == CONNECTION_OK ? ANSWERED : LOST;
        PQclear(*result);
        *result = next;
        if (begins_copy(next)) /* it was not asked for, and libpq gives it again and again */
            return LOST;
    }
    return waited;
}

/* The first line of a message, which may have more of them. */
static hv_status fail(sql_failure *failure, hv_status status, const char *message) {
    return sql_fail(failure, status, "%.*s", (int) strcspn(message, "\n"), message);
}

hv_status sql_answer(PGconn *conn, int sent, bool is_write, int64_t patience_ms, PGresult **result,
                     sql_failure *failure) {
    PGresult *last = NULL;
    wait_result waited = sent ? read_answer(conn, hvi_deadline_after(patience_ms), &last) : LOST;
    const char *refusal = PQresultErrorField(last, PG_DIAG_MESSAGE_PRIMARY);
    ExecStatusType state = PQresultStatus(last);
    hv_status status;
    if (PQresultErrorField(last, PG_DIAG_SQLSTATE) != NULL) {
        status = fail(failure, HV_REFUSED, refusal != NULL ? refusal : "no reason given");
    } else if (waited == TIMED_OUT) {
        status = sql_fail(failure, is_write ? HV_OUTCOME_UNKNOWN : HV_TIMEOUT,
                          "no answer within %d s", (int) (patience_ms / 1000));
    } else if (waited == ANSWERED && (state == PGRES_TUPLES_OK || state == PGRES_COMMAND_OK)) {
        *result = last;
        return HV_OK;
    } else {
        status =
            fail(failure, is_write ? HV_OUTCOME_UNKNOWN : HV_UNAVAILABLE, PQerrorMessage(conn));
    }
    PQclear(last);
    return status;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool read_number(const char *text, int64_t *number) {
    char *end;
    bool decimal = text[0] == '-' || (text[0] >= '0' && text[0] <= '9');
    errno = 0;
    *number = strtoll(text, &end, 10);
    return decimal && end > text && *end == '\0' && errno == 0;
}

static bool fits(const PGresult *result, int row, int column, char as) {
    int64_t number;
    if (PQgetisnull(result, row, column))
        return as == 'N' || as == 'T';
    return as == 't' || as == 'T' || read_number(PQgetvalue(result, row, column), &number);
}

hv_status sql_check(const PGresult *result, const char *columns, int least, int most,
                    sql_failure *failure) {
    int rows = PQntuples(result), count = (int) strlen(columns);
    bool is_good = PQresultStatus(result) == PGRES_TUPLES_OK && PQnfields(result) == count &&
                   rows >= least && rows <= most && PQbinaryTuples(result) == 0;
    for (int row = 0; is_good && row < rows; row++)
        for (int column = 0; is_good && column < count; column++)
            is_good = fits(result, row, column, columns[column]);
    if (is_good)
        return HV_OK;
    return sql_fail(failure, HV_CORRUPT, "unexpected answer: %d rows of %d columns, %s", rows,
                    PQnfields(result), PQresStatus(PQresultStatus(result)));
}

int64_t sql_number(const PGresult *result, int row, int column, int64_t if_null) {
    int64_t number = if_null;
    if (!PQgetisnull(result, row, column))
        read_number(PQgetvalue(result, row, column), &number);
    return number;
}
