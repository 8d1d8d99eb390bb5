/*
 * exchange: send what was handed to libpq and receive the whole answer.
 *
 * The states, and what a failure in each means for a write:
 *
 *     FLUSHING ──► RECEIVING ──► ANSWERED
 *        │             │            an ERROR from the server: nothing written (HV_REFUSED);
 *        │             │            a FATAL: as LOST
 *        │             ├──► ASTRAY    the answer does not fit what was sent: a write's outcome is
 *        └──────┬──────┘              unknown
 *               ▼
 *             LOST    not `sent`: the server did not get the whole message, so nothing is written
 *                     (HV_UNAVAILABLE, HV_TIMEOUT); otherwise the outcome is unknown
 *
 * The server commits an implicit transaction after it has sent the statement's result and before it
 * sends "ready for query": a result alone proves nothing. So a statement is answered when the
 * connection is at rest, and a part of a pipeline when the answer to its Sync has come.
 */
#include "wire/exchange.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/interrupt.h"
#include "value/generator.h"
#include "wire/refusal.h"

/* ---- errors ---- */

static const char unknown_hint[] =
    "The write may or may not have happened: check before you repeat it.";

hv_status hvi_fail_lost(const char *server, int shard, hv_error **error) {
    hvi_fail(error, HV_UNAVAILABLE, "connection to server \"%s\" lost", server);
    hvi_error_where(error, server, shard);
    return HV_UNAVAILABLE;
}

/* `last_word`: the server's, if it said something before it went; may be NULL. */
static hv_status fail_lost(const hvi_exchange *x, const PGresult *last_word, hv_error **error) {
    const char *why = PQresultErrorField(last_word, PG_DIAG_MESSAGE_PRIMARY);
    hv_status status;
    if (why == NULL)
        why = PQerrorMessage(x->conn);
    if (x->is_write && x->sent) {
        status = hvi_fail(error, HV_OUTCOME_UNKNOWN,
                          "connection to server \"%s\" lost during a write", x->server);
        hvi_error_hint(error, "%s", unknown_hint);
    } else {
        status = hvi_fail_lost(x->server, x->shard, error);
    }
    int len = (int) strcspn(why, "\n");
    if (len > 0)
        hvi_error_detail(error, "%.*s", len, why);
    hvi_error_sqlstate(error, PQresultErrorField(last_word, PG_DIAG_SQLSTATE));
    hvi_error_where(error, x->server, x->shard);
    return status;
}

hv_status hvi_fail_late(const char *server, int shard, bool is_unknown, hv_error **error) {
    hv_status status = is_unknown ? HV_OUTCOME_UNKNOWN : HV_TIMEOUT;
    if (hvi_interrupted())
        hvi_fail(error, status, "interrupted before server \"%s\" answered%s", server,
                 is_unknown ? " to a write" : "");
    else
        hvi_fail(error, status, "no answer from server \"%s\"%s in time", server,
                 is_unknown ? " to a write" : "");
    if (is_unknown)
        hvi_error_hint(error, "%s", unknown_hint);
    else if (!hvi_interrupted())
        hvi_error_hint(error, "The option \"operation_timeout\" says how long to wait.");
    hvi_error_where(error, server, shard);
    return status;
}

/* The error for an answer that does not fit what was sent: the connection cannot be used. */
static hv_status fail_astray(const hvi_exchange *x, const char *sent, hv_error **error) {
    bool is_unknown = x->is_write && x->sent;
    hvi_fail(error, is_unknown ? HV_OUTCOME_UNKNOWN : HV_CORRUPT,
             "unexpected answer from server \"%s\"%s", x->server, is_unknown ? " to a write" : "");
    hvi_error_detail(error, "It sent %s.", sent);
    if (is_unknown)
        hvi_error_hint(error, "%s", unknown_hint);
    hvi_error_where(error, x->server, x->shard);
    return is_unknown ? HV_OUTCOME_UNKNOWN : HV_CORRUPT;
}

/* "COPY entities, line 7" in the server's language: the number after the comma, or 0. */
static int64_t copy_row(const PGresult *result) {
    const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
    const char *place = context != NULL ? strstr(context, "COPY entities, ") : NULL;
    return place != NULL ? strtoll(place + strcspn(place, "0123456789"), NULL, 10) : 0;
}

/* The character of the SQL that the error is about, from 1, or 0. */
static int position(const PGresult *result) {
    const char *text = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    return text != NULL ? (int) strtol(text, NULL, 10) : 0;
}

hv_status hvi_fail_refused(const char *server, int shard, const PGresult *result,
                           hv_error **error) {
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (message == NULL)
        message = PQresultErrorMessage(result);
    if (hint == NULL && sqlstate != NULL && strcmp(sqlstate, "25006") == 0)
        hint = "If the server is a standby, name its primary, or several hosts and "
               "target_session_attrs = read-write.";
    if (hvi_generator_lacks_extension(sqlstate, message))
        hint = hvi_generator_extension_hint;
    hv_status status = hvi_fail(error, HV_REFUSED, "%.*s", (int) strcspn(message, "\n"), message);
    if (detail != NULL)
        hvi_error_detail(error, "%s", detail);
    if (hint != NULL)
        hvi_error_hint(error, "%s", hint);
    hvi_error_sqlstate(error, sqlstate);
    hvi_error_constraint(error, PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME));
    hvi_error_refusal(error, hvi_refusal_of(sqlstate, message,
                                            PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION)));
    hvi_error_copy_row(error, copy_row(result));
    hvi_error_position(error, position(result));
    hvi_error_where(error, server, shard);
    return status;
}

/* ---- results ---- */

bool hvi_result_is_good(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY ||
           status == PGRES_COPY_IN || status == PGRES_COPY_OUT;
}

/* Is this an error with which the server ends the connection? */
static bool is_fatal(const PGresult *result) {
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity == NULL || strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

static void keep_first_error(hvi_exchange *x, PGresult *result) {
    if (x->first_error == NULL)
        x->first_error = result;
    else
        PQclear(result);
}

/* A part of a pipeline with several Syncs has one message. Its commit may be refused after its
 * result has come. */
static void keep_of_part(hvi_exchange *x, PGresult *result) {
    size_t place = (size_t) x->answered;
    if (place >= x->room || (x->all[place] != NULL && !hvi_result_is_good(x->all[place]))) {
        PQclear(result);
        return;
    }
    PQclear(x->all[place]);
    x->all[place] = result;
}

/* In a pipeline each message has one result; one that the server has skipped after an error, up to
 * the next Sync, has PGRES_PIPELINE_ABORTED. If its commit is refused, that is one more result. */
static void keep_in_pipeline(hvi_exchange *x, PGresult *result) {
    size_t place = x->received;
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        x->answered++;
        PQclear(result);
        return;
    }
    x->received++;
    bool is_skipped = PQresultStatus(result) == PGRES_PIPELINE_ABORTED;
    bool is_good = hvi_result_is_good(result);
    if (!is_skipped && x->syncs > 1 && (is_good || !is_fatal(result)))
        keep_of_part(x, result);
    else if (!is_skipped && !is_good)
        keep_first_error(x, result);
    else if (!is_skipped && place < x->room)
        x->all[place] = result;
    else
        PQclear(result);
}

static void keep_result(hvi_exchange *x, PGresult *result) {
    if (x->syncs > 0) {
        keep_in_pipeline(x, result);
    } else if (hvi_result_is_good(result)) {
        bool is_kept = x->wanted == 0 || x->completed < x->wanted;
        PQclear(is_kept ? x->last : result);
        if (is_kept)
            x->last = result;
        x->completed++;
    } else {
        keep_first_error(x, result);
    }
}

/* ---- the steps ---- */

void hvi_exchange_start(hvi_exchange *x, PGconn *conn, const char *server, bool is_sent) {
    *x = (hvi_exchange){.conn = conn, .server = server, .shard = -1};
    /* Otherwise nothing usable was sent: out of memory, or the connection is lost. */
    x->state = is_sent ? HVI_FLUSHING : HVI_LOST;
}

void hvi_exchange_start_pipeline(hvi_exchange *x, PGconn *conn, const char *server, bool is_sent,
                                 int syncs, PGresult **all, size_t room) {
    hvi_exchange_start(x, conn, server, is_sent);
    x->syncs = syncs;
    x->sent = syncs > 1; /* a first part may be committed before the last is sent */
    x->all = all;
    x->room = room;
}

/* Has the other side ended the connection, so that nothing can be sent any more? */
static bool has_ended(const PGconn *conn) {
    int fd = PQsocket(conn);
    return fd < 0 || (hvi_events_now(fd, 0) & (POLLERR | POLLHUP)) != 0;
}

static hvi_wants lose(hvi_exchange *x, bool sent) {
    x->state = HVI_LOST;
    x->sent = x->sent || sent;
    return HVI_WANTS_NOTHING;
}

static hvi_wants wait_for(hvi_exchange *x, hvi_wants wants) {
    x->waited = true;
    return wants;
}

/* Send everything that libpq has buffered. */
static hvi_wants flush(hvi_exchange *x) {
    PGconn *conn = x->conn;
    if (x->waited) {
        if (has_ended(conn))
            return lose(x, false);
        /* The server may be stuck until its own messages are read. This also sends, so if it fails,
         * the last byte may have been sent. */
        if (!PQconsumeInput(conn))
            return lose(x, true);
    }
    int left = PQflush(conn); /* for a closed connection, libpq reports that all is sent */
    if (left < 0)
        return lose(x, false);
    if (left > 0)
        return wait_for(x, HVI_WANTS_WRITE);
    x->state = HVI_RECEIVING;
    x->sent = true;
    return HVI_WANTS_NOTHING;
}

/* Does this result begin a COPY? libpq then returns such results without end. */
static bool begins_copy(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static hvi_wants end_receiving(hvi_exchange *x, bool is_astray) {
    x->state = is_astray ? HVI_ASTRAY : HVI_ANSWERED;
    return HVI_WANTS_NOTHING;
}

/* Take all results until the server is ready for the next statement, or for a COPY. */
static hvi_wants receive(hvi_exchange *x) {
    PGconn *conn = x->conn;
    for (;;) {
        if (PQisBusy(conn)) {
            if (!x->waited)
                return wait_for(x, HVI_WANTS_READ);
            x->waited = false;
            /* If the connection is lost, PQisBusy() is false and PQgetResult() returns the server's
             * last error. After a failure that leaves it busy, PQgetResult() would block forever.
             */
            if (!PQconsumeInput(conn) && PQisBusy(conn))
                return lose(x, true);
            continue;
        }
        PGresult *result = PQgetResult(conn);
        bool is_copy = begins_copy(result);
        if (result != NULL)
            keep_result(x, result);
        bool is_over = x->syncs > 0 ? x->answered == x->syncs ||
                                          (result == NULL && PQstatus(conn) == CONNECTION_BAD)
                                    : result == NULL || is_copy;
        if (is_copy && (x->syncs > 0 || !x->may_copy))
            return end_receiving(x, true);
        if (is_over)
            return end_receiving(x, false);
    }
}

hvi_wants hvi_exchange_advance(hvi_exchange *x) {
    if (x->state == HVI_FLUSHING) {
        hvi_wants wants = flush(x);
        if (wants != HVI_WANTS_NOTHING)
            return wants;
    }
    return x->state == HVI_RECEIVING ? receive(x) : HVI_WANTS_NOTHING;
}

/* ---- the end ---- */

static hv_status conclude(const hvi_exchange *x, bool *broken, hv_error **error) {
    *broken = x->state != HVI_ANSWERED || PQstatus(x->conn) == CONNECTION_BAD;
    if (x->state == HVI_LOST)
        return fail_lost(x, NULL, error);
    if (x->state == HVI_ASTRAY)
        return fail_astray(x, "a COPY", error);
    if (x->state != HVI_ANSWERED)
        return hvi_fail_late(x->server, x->shard, x->is_write && x->sent, error);
    if (x->first_error != NULL && !is_fatal(x->first_error))
        return hvi_fail_refused(x->server, x->shard, x->first_error, error);
    if (x->first_error != NULL || *broken) {
        *broken = true;
        return fail_lost(x, x->first_error, error);
    }
    if (x->syncs > 0 && x->received < x->room) {
        *broken = true;
        return fail_astray(x, "fewer answers than there were messages", error);
    }
    if (x->last != NULL || x->syncs > 0)
        return HV_OK;
    if (PQerrorMessage(x->conn)[0] != '\0') /* libpq had no memory for the result */
        return hvi_no_memory(error);
    *broken = true;
    return fail_astray(x, "no result", error);
}

hv_status hvi_exchange_finish(hvi_exchange *x, bool *broken, hv_error **error) {
    hv_status status = conclude(x, broken, error);
    if (*broken)
        return status;
    if (x->syncs > 0 && !PQexitPipelineMode(x->conn)) {
        *broken = true;
        return status == HV_OK ? fail_astray(x, "more answers than there were messages", error)
                               : status;
    }
    /* A write after which a transaction is still open is not committed, and will not be. libpq does
     * not show in which part of a pipeline it was begun. */
    if (status == HV_OK && x->is_write && PQtransactionStatus(x->conn) != PQTRANS_IDLE) {
        *broken = true;
        x->answered = 0;
        return fail_astray(x, "its answer within a transaction that is still open", error);
    }
    /* Makes libpq drop unsolicited data, which the next statement would take for its answer. */
    PQisBusy(x->conn);
    return status;
}

void hvi_exchange_fini(hvi_exchange *x) {
    PQclear(x->last);
    PQclear(x->first_error);
    *x = (hvi_exchange){0};
}
