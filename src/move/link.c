/*
 * link: a session of a move's own on one of its servers.
 */
#include "move/link.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/cancel.h"
#include "wire/result.h"
#include "wire/session_open.h"
#include "schema/shard_sql.h"

#define STATEMENT_MS 15000
#define CANCEL_MS    500

/*
 * Two things that the role's own settings must not decide. A journal that is written "on the way to
 * the disk" may be forgotten by a crash, and with it a step that has been made. And a server that
 * does not notice that this machine has gone keeps the shard's advisory lock for two hours, so that
 * nobody can go on with the move. On a socket of the machine itself the latter do nothing.
 */
static const char own_settings_sql[] =
    ";SET application_name TO 'hv move';"
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
    " WHERE pg_catalog.current_setting('synchronous_commit')"
    " OPERATOR(pg_catalog.=) 'off' OR pg_catalog.current_setting('synchronous_commit')"
    " OPERATOR(pg_catalog.=) 'local';"
    "SET tcp_keepalives_idle TO 10;"
    "SET tcp_keepalives_interval TO 5;"
    "SET tcp_keepalives_count TO 3;"
    "SELECT pg_catalog.pg_backend_pid()";

static const hvi_form pid_form = {
    .asked = "its process",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT4},
};

static hv_status set_up(hvi_link *link, int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_shard_sql_settings(&sql, link->session);
    hvi_buffer_append_text(&sql, own_settings_sql);
    hv_status status = hvi_link_say(link, &sql, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &pid_form, link->server->name, -1, error);
    /* What the client was given as the number of its process is what a cancel request needs; a
     * pooler makes up one of its own. */
    if (status == HV_OK) {
        link->pid = (int) hvi_integer_at(result, 0, 0);
        link->is_pooled = link->pid != PQbackendPID(link->session->conn);
    }
    PQclear(result);
    return status;
}

/* A server that does not answer in time is one that cannot be reached, and is waited for. The
 * status of the error is what decides when it is passed on; and no option of the store has to do
 * with it. */
static hv_status as_unreachable(const hvi_link *link, hv_status status, hv_error **error) {
    if (status != HV_TIMEOUT || hvi_interrupted())
        return status;
    if (error != NULL) {
        hv_error_free(*error);
        *error = NULL;
    }
    hvi_fail(error, HV_UNAVAILABLE, "server \"%s\" has not answered in time", link->server->name);
    hvi_error_where(error, link->server->name, -1);
    return HV_UNAVAILABLE;
}

hv_status hvi_link_open(hvi_link *link, hvi_server *server, int64_t deadline, hv_error **error) {
    const hvi_pool_config *config = &server->pool.config;
    hvi_opening opening;
    *link = (hvi_link){.server = server};
    hvi_opening_start(&opening, &config->session, config->check, config->check_context, deadline);
    hvi_opening_await(&opening, deadline);
    hv_status status = hvi_opening_finish(&opening, &link->session, error);
    if (status != HV_OK) {
        link->session = NULL;
        return as_unreachable(link, status, error);
    }
    status = set_up(link, deadline, error);
    if (status != HV_OK)
        hvi_link_close(link);
    return status;
}

static void forget_script(hvi_link *link) {
    if (link->sql == NULL)
        return;
    /* It was given up, so it is not over: this breaks the session. */
    hv_error *ignored = NULL;
    hvi_script_finish(&link->script, NULL, &ignored);
    hv_error_free(ignored);
    free(link->sql);
    link->sql = NULL;
}

void hvi_link_close(hvi_link *link) {
    if (link->session == NULL)
        return;
    if (link->sql != NULL && hvi_cancel_is_heard(link->session, CANCEL_MS))
        hvi_cancel(link->session);
    forget_script(link);
    hvi_session_close(link->session);
    link->session = NULL;
}

void hvi_link_disown(hvi_link *link) {
    if (link->session != NULL)
        hvi_session_disown(link->session);
    link->session = NULL;
    free(link->sql);
    link->sql = NULL;
}

bool hvi_link_is_open(const hvi_link *link) {
    return link->session != NULL && !link->session->broken &&
           PQstatus(link->session->conn) == CONNECTION_OK;
}

bool hvi_link_is_lost(hv_status status) {
    return status == HV_UNAVAILABLE || status == HV_TIMEOUT || status == HV_OUTCOME_UNKNOWN;
}

int64_t hvi_link_deadline(void) {
    return hvi_deadline_after(STATEMENT_MS);
}

static hv_status fail_closed(const hvi_link *link, hv_error **error) {
    hvi_fail(error, HV_UNAVAILABLE, "the connection to the server is closed");
    hvi_error_where(error, link->server->name, -1);
    return HV_UNAVAILABLE;
}

/* After a failure: close what cannot be used any more. */
static hv_status settle(hvi_link *link, hv_status status, hv_error **error) {
    if (status == HV_OK)
        return HV_OK;
    hvi_error_where(error, link->server->name, -1);
    if (!hvi_link_is_open(link) || PQtransactionStatus(link->session->conn) == PQTRANS_ACTIVE)
        hvi_link_close(link);
    return as_unreachable(link, status, error);
}

/* A script that begins a transaction and is refused before its end leaves it open. */
static void end_own_transaction(hvi_link *link) {
    if (hvi_link_is_open(link) && PQtransactionStatus(link->session->conn) != PQTRANS_IDLE &&
        hvi_session_script(link->session, "ROLLBACK", -1, false, hvi_link_deadline(), NULL, NULL) !=
            HV_OK)
        hvi_link_close(link);
}

hv_status hvi_link_run(hvi_link *link, const char *sql, int64_t deadline, PGresult **result,
                       hv_error **error) {
    if (!hvi_link_is_open(link)) {
        hvi_link_close(link);
        return fail_closed(link, error);
    }
    bool was_idle = PQtransactionStatus(link->session->conn) == PQTRANS_IDLE;
    hv_status status = settle(
        link, hvi_session_script(link->session, sql, -1, false, deadline, result, error), error);
    if (status != HV_OK && was_idle)
        end_own_transaction(link);
    return status;
}

hv_status hvi_link_say(hvi_link *link, hvi_buffer *sql, int64_t deadline, PGresult **result,
                       hv_error **error) {
    hv_status status = hvi_buffer_ok(sql) ? hvi_link_run(link, sql->data, deadline, result, error)
                                          : hvi_no_memory(error);
    hvi_buffer_fini(sql);
    return status;
}

/* ---- poolers ---- */

static hv_status ask_pid(hvi_link *link, int64_t deadline, int64_t *pid, hv_error **error) {
    PGresult *result = NULL;
    hv_status status =
        hvi_link_run(link, "SELECT pg_catalog.pg_backend_pid()", deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &pid_form, link->server->name, -1, error);
    if (status == HV_OK)
        *pid = hvi_integer_at(result, 0, 0);
    PQclear(result);
    return status;
}

/* Of two idle sessions both get the connection that is free, or each another one in turn: whichever
 * way a pooler goes, one of these numbers betrays it. */
hv_status hvi_link_check_pooler(hvi_link *link, int64_t deadline, hv_error **error) {
    hvi_link other = {0};
    int64_t pids[4] = {0};
    hv_status status = hvi_link_open(&other, link->server, deadline, error);
    for (int i = 0; status == HV_OK && i < 4; i++)
        status = ask_pid(i == 2 ? &other : link, deadline, &pids[i], error);
    hvi_link_close(&other);
    if (status != HV_OK)
        return status;
    if (pids[1] == pids[0] && pids[3] == pids[0] && pids[2] != pids[0])
        return HV_OK;
    hvi_fail(error, HV_INVALID,
             "it is reached through a connection pooler that shares connections");
    hvi_error_where(error, link->server->name, -1);
    hvi_error_detail(error, "A move needs sessions of its own, whose locks stay with them.");
    hvi_error_hint(error, HVI_LINK_POOLER_HINT);
    return HV_INVALID;
}

/* ---- text ---- */

static const hvi_form encodings_form = {
    .asked = "its encodings",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES},
};

/* No text is converted to this one, or from it. */
static bool is_plain(const char *encoding) {
    return strcmp(encoding, "SQL_ASCII") == 0;
}

static hv_status check_encodings(const hvi_link *link, const char *client, const char *database,
                                 hv_error **error) {
    if (strcmp(client, database) == 0 || is_plain(client) || is_plain(database))
        return HV_OK;
    hvi_fail(error, HV_INVALID, "its client_encoding is %s by default, and the database's is %s",
             client, database);
    hvi_error_where(error, link->server->name, -1);
    hvi_error_detail(error, "Workers that copy rows would garble all text but ASCII.");
    hvi_error_hint(
        error,
        "ALTER ROLE … IN DATABASE … SET client_encoding TO '%s', for the role that moves "
        "shards; or take client_encoding out of postgresql.conf, and out of what ALTER "
        "ROLE and ALTER DATABASE have set.",
        database);
    return HV_INVALID;
}

hv_status hvi_link_check_encoding(hvi_link *link, int64_t deadline, hv_error **error) {
    hvi_session_config config = link->server->pool.config.session;
    hvi_opening opening;
    hvi_session *session = NULL;
    PGresult *result = NULL;
    if (!config.own_connections || getenv("PGCLIENTENCODING") != NULL)
        return HV_OK;
    config.asks_for_no_encoding = true;
    hvi_opening_start(&opening, &config, NULL, NULL, deadline);
    hvi_opening_await(&opening, deadline);
    hv_status status = hvi_opening_finish(&opening, &session, error);
    if (status != HV_OK)
        return status;
    status = hvi_session_script(session,
                                "SELECT s.reset_val, pg_catalog.current_setting('server_encoding')"
                                " FROM pg_catalog.pg_settings AS s WHERE s.name"
                                " OPERATOR(pg_catalog.=) 'client_encoding'",
                                -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &encodings_form, link->server->name, -1, error);
    if (status == HV_OK)
        status = check_encodings(link, hvi_text_at(result, 0, 0), hvi_text_at(result, 0, 1), error);
    PQclear(result);
    hvi_session_close(session);
    return status;
}

/* ---- step by step ---- */

hv_status hvi_link_start(hvi_link *link, hvi_buffer *sql, hv_error **error) {
    link->sql = hvi_buffer_take(sql);
    hvi_buffer_fini(sql);
    if (link->sql == NULL)
        return hvi_no_memory(error);
    if (!hvi_link_is_open(link)) {
        free(link->sql);
        link->sql = NULL;
        return fail_closed(link, error);
    }
    hvi_script_start(&link->script, link->session, link->sql, -1, false);
    return HV_OK;
}

hv_status hvi_link_advance(hvi_link *link, int64_t deadline, bool *done, PGresult **result,
                           hv_error **error) {
    *done = false;
    hvi_wants wants = HVI_WANTS_NOTHING;
    do {
        wants = hvi_script_advance(&link->script);
    } while (wants != HVI_WANTS_NOTHING && hvi_wait_socket(link->session->conn, wants, deadline));
    if (wants != HVI_WANTS_NOTHING)
        return hvi_interrupted() ? hvi_fail(error, HV_TIMEOUT, "interrupted") : HV_OK;
    *done = true;
    hv_status status = hvi_script_finish(&link->script, result, error);
    free(link->sql);
    link->sql = NULL;
    status = settle(link, status, error);
    if (status != HV_OK)
        end_own_transaction(link);
    return status;
}
