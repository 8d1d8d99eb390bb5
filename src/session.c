/*
 * session: one PostgreSQL connection: set up, run statements within a deadline, keep statements
 * prepared, turn what the server says into errors.
 *
 * How one statement goes, and what a failure at each step means for a write:
 *
 *     send ──► flush ──► receive … ──► ready for query ──► done
 *       │        │          │
 *       └────────┴── the server has not got the whole message: nothing written (HV_UNAVAILABLE,
 *                │   HV_TIMEOUT)
 *                └── receive: an ERROR from the server: nothing written (HV_REFUSED); connection
 *                    lost, FATAL or deadline passed: HV_OUTCOME_UNKNOWN
 *
 * The server commits an implicit transaction after it has sent the statement's result and before it
 * says "ready for query": a result alone proves nothing.
 */
#include "session.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <poll.h>

#include "clock.h"
#include "connect.h"

/* How often a statement is tried when the server's prepared statements are not what we thought. */
#define MAX_TRIES 3

/* ---- errors ---- */

/* `last_word`: the server's, if it said something before it went; may be NULL. */
static hv_status fail_lost(const hvi_session *session, const hvi_query *query, bool sent,
                           const PGresult *last_word, hv_error **error) {
    const char *server = session->config->server;
    const char *why = PQresultErrorField(last_word, PG_DIAG_MESSAGE_PRIMARY);
    hv_status status;
    if (why == NULL)
        why = PQerrorMessage(session->conn);
    if (query->is_write && sent) {
        status = hvi_fail(error, HV_OUTCOME_UNKNOWN,
                          "connection to server \"%s\" lost during a write", server);
        hvi_error_hint(error, "The write may or may not have happened: look before you repeat it.");
    } else {
        status = hvi_fail(error, HV_UNAVAILABLE, "connection to server \"%s\" lost", server);
    }
    int len = (int) strcspn(why, "\n");
    if (len > 0)
        hvi_error_detail(error, "%.*s", len, why);
    hvi_error_sqlstate(error, PQresultErrorField(last_word, PG_DIAG_SQLSTATE));
    hvi_error_where(error, server, query->shard);
    return status;
}

static hv_status fail_late(const hvi_session *session, const hvi_query *query, bool sent,
                           hv_error **error) {
    const char *server = session->config->server;
    hv_status status;
    if (query->is_write && sent) {
        status = hvi_fail(error, HV_OUTCOME_UNKNOWN,
                          "no answer from server \"%s\" to a write in time", server);
        hvi_error_hint(error, "The write may or may not have happened: look before you repeat it.");
    } else {
        status = hvi_fail(error, HV_TIMEOUT, "no answer from server \"%s\" in time", server);
        hvi_error_hint(error, "The option \"operation_timeout\" says how long to wait.");
    }
    hvi_error_where(error, server, query->shard);
    return status;
}

static hv_status fail_refused(const hvi_session *session, const hvi_query *query,
                              const PGresult *result, hv_error **error) {
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (message == NULL)
        message = PQresultErrorMessage(result);
    if (hint == NULL && sqlstate != NULL && strcmp(sqlstate, "25006") == 0)
        hint = "If the server is a standby, name its primary, or several hosts and "
               "target_session_attrs = read-write.";
    hv_status status = hvi_fail(error, HV_REFUSED, "%.*s", (int) strcspn(message, "\n"), message);
    if (detail != NULL)
        hvi_error_detail(error, "%s", detail);
    if (hint != NULL)
        hvi_error_hint(error, "%s", hint);
    hvi_error_sqlstate(error, sqlstate);
    hvi_error_constraint(error, PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME));
    hvi_error_where(error, session->config->server, query->shard);
    return status;
}

/* Does this result say that the server ends the connection? */
static bool is_fatal(const PGresult *result) {
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity == NULL || strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

/* ---- one exchange ---- */

/* Has the other side ended the connection, so that nothing can be sent any more? */
static bool has_ended(const PGconn *conn) {
    struct pollfd fd = {.fd = PQsocket(conn)};
    return fd.fd < 0 || (poll(&fd, 1, 0) > 0 && (fd.revents & (POLLERR | POLLHUP)) != 0);
}

/* Get everything out of the door. */
static hv_status flush(hvi_session *session, const hvi_query *query, int64_t deadline,
                       hv_error **error) {
    PGconn *conn = session->conn;
    for (;;) {
        int left = PQflush(conn); /* of a connection that has ended, libpq says that all is sent */
        if (left == 0)
            return HV_OK;
        if (left > 0 && !hvi_wait_socket(conn, true, deadline)) {
            session->broken = true;
            return fail_late(session, query, false, error);
        }
        if (left < 0 || has_ended(conn)) {
            session->broken = true;
            return fail_lost(session, query, false, NULL, error);
        }
        /* The server may be stuck until its own messages are read. This also sends: if it fails,
         * the last byte may have left before. */
        if (!PQconsumeInput(conn)) {
            session->broken = true;
            return fail_lost(session, query, true, NULL, error);
        }
    }
}

typedef struct hvi_answer {
    PGresult *last;        /* of the results that are no errors; owned */
    PGresult *first_error; /* owned */
    int successes;         /* the number of results that are no errors */
} hvi_answer;

static void clear_answer(hvi_answer *answer) {
    PQclear(answer->last);
    PQclear(answer->first_error);
    *answer = (hvi_answer){0};
}

static void keep_result(hvi_answer *answer, PGresult *result) {
    PGresult **place = NULL;
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
        PQclear(answer->last);
        answer->last = NULL;
        answer->successes++;
        place = &answer->last;
        break;
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED:
        break;
    default:
        if (answer->first_error == NULL)
            place = &answer->first_error;
    }
    if (place != NULL)
        *place = result;
    else
        PQclear(result);
}

/* Read all results until the server is ready for the next statement. */
static hv_status receive(hvi_session *session, const hvi_query *query, bool pipeline,
                         int64_t deadline, hvi_answer *answer, hv_error **error) {
    PGconn *conn = session->conn;
    for (bool done = false; !done;) {
        while (PQisBusy(conn)) {
            if (!hvi_wait_socket(conn, false, deadline)) {
                session->broken = true;
                return fail_late(session, query, true, error);
            }
            /* If the connection is gone, PQisBusy() is false and PQgetResult() says what the server
             * said last. A failure that leaves it busy would let PQgetResult() wait without end. */
            if (!PQconsumeInput(conn) && PQisBusy(conn)) {
                session->broken = true;
                return fail_lost(session, query, true, NULL, error);
            }
        }
        PGresult *result = PQgetResult(conn);
        if (result != NULL) {
            done = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
            keep_result(answer, result);
        } else {
            done = !pipeline || PQstatus(conn) == CONNECTION_BAD;
        }
    }
    if (answer->first_error != NULL && !is_fatal(answer->first_error)) {
        session->broken = PQstatus(conn) == CONNECTION_BAD;
        return fail_refused(session, query, answer->first_error, error);
    }
    if (answer->first_error != NULL || PQstatus(conn) == CONNECTION_BAD) {
        session->broken = true;
        return fail_lost(session, query, true, answer->first_error, error);
    }
    return answer->last != NULL ? HV_OK : hvi_no_memory(error);
}

/* After PQsend…() gave `sent`: see it through. The answer, empty before, is the caller's. */
static hv_status exchange(hvi_session *session, const hvi_query *query, bool pipeline, int sent,
                          int64_t deadline, hvi_answer *answer, hv_error **error) {
    hv_status status;
    if (!sent) {
        /* Nothing usable has left: out of memory, or the connection is gone. */
        session->broken = true;
        status = fail_lost(session, query, false, NULL, error);
    } else {
        status = flush(session, query, deadline, error);
        if (status == HV_OK)
            status = receive(session, query, pipeline, deadline, answer, error);
    }
    if (pipeline && !session->broken && !PQexitPipelineMode(session->conn))
        session->broken = true;
    return status;
}

/* ---- statements ---- */

static hv_status run_script(hvi_session *session, const char *sql, const hvi_query *query,
                            int64_t deadline, PGresult **result, hv_error **error) {
    hvi_answer answer = {0};
    hv_status status =
        exchange(session, query, false, PQsendQuery(session->conn, sql), deadline, &answer, error);
    if (status == HV_OK && result != NULL) {
        *result = answer.last;
        answer.last = NULL;
    }
    clear_answer(&answer);
    return status;
}

static int send_unprepared(hvi_session *session, const hvi_query *query) {
    return PQsendQueryParams(session->conn, query->sql, query->parameter_count, NULL, query->values,
                             query->lengths, query->formats, query->binary_result);
}

static int send_prepared(hvi_session *session, const hvi_query *query, const char *name) {
    return PQsendQueryPrepared(session->conn, name, query->parameter_count, query->values,
                               query->lengths, query->formats, query->binary_result);
}

/* Prepare a statement and run it, giving up the least recently used one if there is no room, all in
 * one round trip. */
static hv_status prepare_and_run(hvi_session *session, const hvi_query *query, const char *name,
                                 int64_t deadline, hvi_answer *answer, hv_error **error) {
    hvi_statements *statements = &session->statements;
    uint32_t oldest = hvi_statements_oldest(statements);
    int before = 0; /* results that come before that of Parse */
    int sent = PQenterPipelineMode(session->conn);
    if (sent && oldest != HVI_NO_STATEMENT) {
        char sql[HVI_STATEMENT_NAME_LEN + 16] = "DEALLOCATE ";
        hvi_statement_name(oldest, sql + strlen(sql));
        sent = PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
        hvi_statements_remove(statements, oldest);
        before = 1;
    }
    sent = sent && PQsendPrepare(session->conn, name, query->sql, 0, NULL) &&
           send_prepared(session, query, name) && PQpipelineSync(session->conn);
    hv_status status = exchange(session, query, true, sent, deadline, answer, error);
    /* It is prepared even if running it was refused. If this fails for want of memory, the next use
     * finds the name taken and mends it. */
    if (answer->successes > before)
        hvi_statements_add(statements, query->id);
    return status;
}

static hv_status run_once(hvi_session *session, const hvi_query *query, int64_t deadline,
                          hvi_answer *answer, hv_error **error) {
    if (!session->config->prepare || query->id == HVI_NO_STATEMENT)
        return exchange(session, query, false, send_unprepared(session, query), deadline, answer,
                        error);
    char name[HVI_STATEMENT_NAME_LEN];
    hvi_statement_name(query->id, name);
    if (hvi_statements_use(&session->statements, query->id))
        return exchange(session, query, false, send_prepared(session, query, name), deadline,
                        answer, error);
    return prepare_and_run(session, query, name, deadline, answer, error);
}

/*
 * The server refused a prepared statement as such: a borrower may have said DEALLOCATE ALL or
 * DISCARD ALL, or altered the table. Nothing was executed. Put our books right; true if it is worth
 * another try.
 */
static bool mend_statements(hvi_session *session, const hvi_query *query, const char *sqlstate,
                            int64_t deadline) {
    if (sqlstate == NULL || !session->config->prepare || query->id == HVI_NO_STATEMENT)
        return false;
    if (strcmp(sqlstate, "26000") == 0) { /* does not exist */
        hvi_statements_clear(&session->statements);
        return true;
    }
    bool exists = strcmp(sqlstate, "42P05") == 0;        /* exists already */
    bool plan_is_stale = strcmp(sqlstate, "0A000") == 0; /* cached plan must not change … */
    if (!exists && !plan_is_stale)
        return false;
    char sql[HVI_STATEMENT_NAME_LEN + 16] = "DEALLOCATE ";
    hvi_statement_name(query->id, sql + strlen(sql));
    hvi_statements_remove(&session->statements, query->id);
    hvi_query plain = {.sql = sql, .shard = query->shard, .id = HVI_NO_STATEMENT};
    return run_script(session, sql, &plain, deadline, NULL, NULL) == HV_OK;
}

/* Our books do not agree with the server's, however often we mend them: is it always the same
 * server process that we talk to? */
static void hint_at_bouncer(const hvi_query *query, hv_error **error) {
    const char *sqlstate = hv_error_sqlstate(*error);
    if (query->id != HVI_NO_STATEMENT && sqlstate != NULL &&
        (strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0))
        hvi_error_hint(error, "Behind a PgBouncer in transaction mode, set the option \"prepare\" "
                              "to off.");
}

/* Tell the log. `cause` is NULL, or of an attempt before the one that succeeded, on HV_OK. */
static void tell(const hvi_session *session, const hvi_query *query, int64_t started,
                 hv_status status, const hv_error *cause) {
    const hvi_session_config *config = session->config;
    if (config->log.fn == NULL)
        return;
    hv_log_event event = {
        .statement = query->sql,
        .server = config->server,
        .shard = query->shard,
        .duration_us = hvi_clock_us() - started,
        .status = status,
        .sqlstate = status != HV_OK ? hv_error_sqlstate(cause) : NULL,
        .parameters = query->log_values,
        .parameter_count = query->log_values != NULL ? (size_t) query->parameter_count : 0,
    };
    hvi_log_emit(&config->log, &event);
}

hv_status hvi_session_run(hvi_session *session, const hvi_query *query, int64_t deadline,
                          PGresult **result, hv_error **error) {
    hv_error *cause = NULL;
    hvi_answer answer = {0};
    int64_t started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    hv_status status = HV_OK;
    for (int try = 0; try < MAX_TRIES; try++) {
        if (hvi_deadline_poll_ms(deadline) == 0) {
            status = fail_late(session, query, false, &cause);
            break;
        }
        clear_answer(&answer);
        status = run_once(session, query, deadline, &answer, &cause);
        if (status != HV_REFUSED || session->broken ||
            !mend_statements(session, query, hv_error_sqlstate(cause), deadline))
            break;
    }
    tell(session, query, started, status, cause);
    if (status == HV_OK && result != NULL) {
        *result = answer.last;
        answer.last = NULL;
    }
    if (status == HV_REFUSED)
        hint_at_bouncer(query, &cause);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    hv_error_free(cause);
    clear_answer(&answer);
    return status;
}

hv_status hvi_session_script(hvi_session *session, const char *sql, int shard, bool is_write,
                             int64_t deadline, PGresult **result, hv_error **error) {
    hvi_query query = {.sql = sql, .shard = shard, .is_write = is_write, .id = HVI_NO_STATEMENT};
    hv_error *cause = NULL;
    int64_t started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    hv_status status = run_script(session, sql, &query, deadline, result, &cause);
    tell(session, &query, started, status, cause);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

/* ---- opening and closing ---- */

/* What to do about a server that refuses the login. */
typedef struct hvi_login_hint {
    const char *sqlstate; /* or its beginning */
    bool retriable;       /* does it go by without anybody doing anything? */
    const char *text;
} hvi_login_hint;

static const hvi_login_hint login_hints[] = {
    {"28", false,
     "Check user and password in the configuration, .pgpass or environment, and the server's "
     "pg_hba.conf."},
    {"3D000", false, "Create the database, or correct \"dbname\"."},
    {"53300", true,
     "Raise the server's max_connections, or lower \"pool_max\" in the programs that use it."},
    {"57P03", true, "Try again when the server has started."},
};

static void hint_at_login(const char *sqlstate, hv_error **error) {
    for (size_t i = 0; i < sizeof login_hints / sizeof login_hints[0]; i++) {
        const hvi_login_hint *hint = &login_hints[i];
        if (strncmp(sqlstate, hint->sqlstate, strlen(hint->sqlstate)) == 0) {
            hvi_error_hint(error, "%s", hint->text);
            hvi_error_retriable(error, hint->retriable);
        }
    }
}

static hv_status fail_connect(const hvi_session_config *config, hv_status status,
                              const char *message, const char *sqlstate, hv_error **error) {
    if (status == HV_NO_MEMORY)
        return hvi_no_memory(error);
    hvi_fail(error, status, "could not connect to server \"%s\"%s", config->server,
             status == HV_TIMEOUT ? " in time" : "");
    hvi_error_detail(error, "%s", message);
    hvi_error_where(error, config->server, -1);
    if (sqlstate[0] != '\0') {
        hvi_error_sqlstate(error, sqlstate);
        hint_at_login(sqlstate, error);
    }
    return status;
}

/* The server's parameters with ours around them: of two with the same name the later one counts. */
static hv_status connect_with(const hvi_session_config *config, int64_t deadline, PGconn **conn,
                              void **handle, hv_error **error) {
    size_t count = 0;
    while (config->keywords[count] != NULL)
        count++;
    const char **keywords = calloc(2 * (count + 3), sizeof *keywords);
    if (keywords == NULL)
        return hvi_no_memory(error);
    const char **values = keywords + count + 3;
    keywords[0] = "fallback_application_name";
    values[0] = "hypervault";
    memcpy(keywords + 1, config->keywords, count * sizeof *keywords);
    memcpy(values + 1, config->values, count * sizeof *values);
    keywords[count + 1] = "client_encoding";
    values[count + 1] = "UTF8";

    char message[1024] = "";
    char sqlstate[6] = "";
    int64_t timeout = deadline == HVI_NEVER ? INT64_C(3600000) : hvi_deadline_poll_ms(deadline);
    hv_status status =
        config->connector.connect(config->connector.context, keywords, values, timeout, conn,
                                  handle, message, sizeof message, sqlstate);
    free(keywords);
    if (status != HV_OK)
        fail_connect(config, status, message, sqlstate, error);
    return status;
}

static bool parameter_is(const PGconn *conn, const char *name, const char *value) {
    const char *now = PQparameterStatus(conn, name);
    return now != NULL && strcmp(now, value) == 0;
}

/* Encoding and time zone as promised; without a round trip if they are. */
static hv_status set_up(hvi_session *session, int64_t deadline, hv_error **error) {
    hv_status status = HV_OK;
    if (PQsetnonblocking(session->conn, 1) != 0) {
        hvi_query nothing = {.shard = -1};
        session->broken = true;
        return fail_lost(session, &nothing, false, NULL, error);
    }
    if (!parameter_is(session->conn, "client_encoding", "UTF8") ||
        !parameter_is(session->conn, "TimeZone", "UTC"))
        status = hvi_session_script(session, "SET client_encoding TO 'UTF8'; SET TimeZone TO 'UTC'",
                                    -1, false, deadline, NULL, error);
    return status;
}

hv_status hvi_session_open(const hvi_session_config *config, int64_t deadline,
                           hvi_session **session, hv_error **error) {
    hvi_session *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->config = config;
    hvi_list_init(&made->link);
    hvi_statements_init(&made->statements, config->prepared_max);
    hv_status status = connect_with(config, deadline, &made->conn, &made->handle, error);
    if (status == HV_OK)
        status = set_up(made, deadline, error);
    if (status != HV_OK) {
        hvi_session_close(made);
        return status;
    }
    made->opened_at = hvi_clock_us();
    *session = made;
    return HV_OK;
}

void hvi_session_close(hvi_session *session) {
    if (session == NULL)
        return;
    const hv_connector *connector = &session->config->connector;
    if (session->broken && PQsocket(session->conn) >= 0) {
        /* PQfinish() would first send what is left of a statement that was given up. */
        shutdown(PQsocket(session->conn), SHUT_RDWR);
    }
    if (session->conn != NULL)
        connector->disconnect(connector->context, session->conn, session->handle);
    hvi_statements_fini(&session->statements);
    free(session);
}

/* Point the connection's descriptor at nobody. False: no descriptor to be had. */
static bool detach(const hvi_session *session) {
    int fd = PQsocket(session->conn);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool detached = fd >= 0 && nowhere >= 0 && dup3(nowhere, fd, O_CLOEXEC) == fd;
    if (nowhere >= 0)
        close(nowhere);
    return detached;
}

void hvi_session_abandon(hvi_session *session) {
    /* PQfinish() says goodbye, and must not do so on a socket that the parent uses. If that cannot
     * be had: better to lose the memory than the parent's connection. */
    if (detach(session)) {
        hvi_session_close(session);
    } else {
        hvi_statements_fini(&session->statements);
        free(session);
    }
}

void hvi_session_disown(hvi_session *session) {
    detach(session);
}

/* ---- lending ---- */

bool hvi_session_is_fit(const hvi_session *session) {
    if (session->broken || PQstatus(session->conn) != CONNECTION_OK)
        return false;
    /* An idle server says nothing: whatever can be read means it closed, or is about to. */
    struct pollfd fd = {.fd = PQsocket(session->conn), .events = POLLIN};
    return fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

void hvi_session_prepare_lending(hvi_session *session) {
    PQsetnonblocking(session->conn, 0);
}

/* What a borrower may have left on libpq's side: the trace's file and the notifications are his. */
static void forget_borrower(hvi_session *session) {
    PGconn *conn = session->conn;
    PGnotify *notification;
    PQuntrace(conn);
    while ((notification = PQnotifies(conn)) != NULL)
        PQfreemem(notification);
    if (session->config->own_connections)
        PQsetNoticeReceiver(conn, hvi_discard_notice, NULL);
}

static bool put_right(hvi_session *session, int64_t deadline) {
    PGconn *conn = session->conn;
    if (session->broken || PQstatus(conn) != CONNECTION_OK ||
        PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return false;
    forget_borrower(session);
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_IDLE:
        break;
    case PQTRANS_INTRANS:
    case PQTRANS_INERROR:
        PQsetnonblocking(conn, 1);
        if (hvi_session_script(session, "ROLLBACK", -1, false, deadline, NULL, NULL) != HV_OK)
            return false;
        break;
    default: /* a statement or COPY under way */
        return false;
    }
    return set_up(session, deadline, NULL) == HV_OK;
}

bool hvi_session_reset(hvi_session *session, int64_t deadline) {
    /* A broken connection is closed without a word. Else PQfinish() could wait for a server that
     * does not read, to send it what the borrower has left in libpq's buffer. */
    if (!put_right(session, deadline))
        session->broken = true;
    return !session->broken;
}
