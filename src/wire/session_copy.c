/*
 * session_copy: COPY over a session, both ways.
 *
 * Holds always: a session that is left in the middle of a COPY is `broken`, so that it gets closed.
 */
#include "wire/session_copy.h"

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/connect.h"
#include "wire/result.h"

/* Run the script as far as its COPY. */
static hv_status begin(hvi_session *session, const char *sql, int shard, ExecStatusType expected,
                       int64_t timeout, hv_error **error) {
    PGresult *result = NULL;
    hv_status status =
        hvi_session_script_copy(session, sql, shard, hvi_deadline_after(timeout), &result, error);
    if (status == HV_OK && PQresultStatus(result) != expected) {
        session->broken = true;
        status = hvi_fail(error, HV_CORRUPT, "server \"%s\" did not begin a COPY",
                          session->config->server);
        hvi_error_where(error, session->config->server, shard);
    }
    PQclear(result);
    return status;
}

/* Send a piece, or for NULL the end, and wait until it is sent; after the end, for the result. */
static hv_status put(hvi_session *session, const char *sql, int shard, const char *piece,
                     size_t len, int64_t timeout, int64_t *stored, hv_error **error) {
    hvi_query query = {.sql = sql, .shard = shard, .in_copy = piece != NULL};
    PGresult *result = NULL;
    int sent = piece != NULL ? PQputCopyData(session->conn, piece, (int) len)
                             : PQputCopyEnd(session->conn, NULL);
    hv_status status = hvi_session_exchange(session, &query, sent == 1, hvi_deadline_after(timeout),
                                            &result, error);
    if (status == HV_OK && piece == NULL)
        status = hvi_result_check_command(result, "a COPY", session->config->server, shard, stored,
                                          error);
    PQclear(result);
    return status;
}

hv_status hvi_session_copy_in(hvi_session *session, const char *sql, int shard,
                              hvi_copy_source source, void *context, int64_t timeout,
                              int64_t *stored, hv_error **error) {
    hv_status status = begin(session, sql, shard, PGRES_COPY_IN, timeout, error);
    const char *piece;
    size_t len;
    while (status == HV_OK && source(context, &piece, &len))
        status = put(session, sql, shard, piece, len, timeout, stored, error);
    if (status == HV_OK)
        status = put(session, sql, shard, NULL, 0, timeout, stored, error);
    return status;
}

hv_status hvi_session_copy_out(hvi_session *session, const char *sql, int shard, int64_t timeout,
                               hv_error **error) {
    return begin(session, sql, shard, PGRES_COPY_OUT, timeout, error);
}

hv_status hvi_session_copy_next(hvi_session *session, int shard, int64_t timeout, char **piece,
                                size_t *len, hv_error **error) {
    hvi_query query = {.sql = "COPY", .shard = shard};
    PGresult *result = NULL;
    int64_t deadline = hvi_deadline_after(timeout);
    bool is_late = false;
    int got;
    while ((got = PQgetCopyData(session->conn, piece, 1)) == 0) {
        if (!hvi_wait_socket(session->conn, HVI_WANTS_READ, deadline) || is_late) {
            session->broken = true;
            return hvi_fail_late(session->config->server, shard, false, error);
        }
        is_late = hvi_is_late(deadline); /* then take one more piece, if it is there already */
        if (!PQconsumeInput(session->conn)) {
            got = -2;
            break;
        }
    }
    if (got > 0) {
        *len = (size_t) got;
        return HV_OK;
    }
    /* The end, an error from the server, or a lost connection. */
    hv_status status = hvi_session_exchange(session, &query, got == -1, deadline, &result, error);
    PQclear(result);
    return status == HV_OK ? HV_NOT_FOUND : status;
}
