/*
 * session: one PostgreSQL connection: run statements within a deadline, keep statements prepared,
 * turn what the server says into errors.
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

#include <poll.h>
#include <stdlib.h>
#include <string.h>

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
    PGresult **all;        /* of a pipeline of several: not `last` but each of them, in order */
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
        place = answer->all != NULL ? &answer->all[answer->successes] : &answer->last;
        PQclear(*place);
        answer->successes++;
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
    return answer->last != NULL || answer->all != NULL ? HV_OK : hvi_no_memory(error);
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
    return PQsendQueryParams(session->conn, query->sql, query->parameter_count, query->types,
                             query->values, query->lengths, query->formats, query->binary_result);
}

static int send_prepared(hvi_session *session, const hvi_query *query, const char *name) {
    return PQsendQueryPrepared(session->conn, name, query->parameter_count, query->values,
                               query->lengths, query->formats, query->binary_result);
}

/* In pipeline mode: give up the least recently used statement if there is no room for another. True
 * in *given_up says that there will be a result of it. */
static int send_give_up(hvi_session *session, bool *given_up) {
    uint32_t oldest = hvi_statements_oldest(&session->statements);
    *given_up = oldest != HVI_NO_STATEMENT;
    if (!*given_up)
        return 1;
    char sql[HVI_STATEMENT_NAME_LEN + 16] = "DEALLOCATE ";
    hvi_statement_name(oldest, sql + strlen(sql));
    hvi_statements_remove(&session->statements, oldest);
    return PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
}

static int send_prepare(hvi_session *session, const hvi_query *query, const char *name) {
    return PQsendPrepare(session->conn, name, query->sql,
                         query->types != NULL ? query->parameter_count : 0, query->types);
}

/* Prepare a statement and run it, all in one round trip. */
static hv_status prepare_and_run(hvi_session *session, const hvi_query *query, const char *name,
                                 int64_t deadline, hvi_answer *answer, hv_error **error) {
    bool given_up = false;
    int sent = PQenterPipelineMode(session->conn) && send_give_up(session, &given_up) &&
               send_prepare(session, query, name) && send_prepared(session, query, name) &&
               PQpipelineSync(session->conn);
    hv_status status = exchange(session, query, true, sent, deadline, answer, error);
    /* It is prepared even if running it was refused. If this fails for want of memory, the next use
     * finds the name taken and mends it. */
    if (answer->successes > (given_up ? 1 : 0))
        hvi_statements_add(&session->statements, query->id);
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

/* ---- several statements at once ---- */

/* What was sent, in order: the results come in the same. */
typedef struct sent_message {
    enum { GIVE_UP, PREPARE, RUN } what;
    size_t query; /* its number */
} sent_message;

/* Send one query of a pipeline; returns false if libpq could not. */
static bool send_in_pipeline(hvi_session *session, const hvi_query *queries, size_t number,
                             sent_message *messages, size_t *count) {
    const hvi_query *query = &queries[number];
    bool sent = true;
    if (!session->config->prepare || query->id == HVI_NO_STATEMENT) {
        sent = send_unprepared(session, query);
    } else {
        char name[HVI_STATEMENT_NAME_LEN];
        hvi_statement_name(query->id, name);
        if (!hvi_statements_use(&session->statements, query->id)) {
            bool given_up;
            sent = send_give_up(session, &given_up);
            if (given_up)
                messages[(*count)++] = (sent_message){GIVE_UP, number};
            sent = sent && send_prepare(session, query, name);
            messages[(*count)++] = (sent_message){PREPARE, number};
            hvi_statements_add(&session->statements, query->id);
        }
        sent = sent && send_prepared(session, query, name);
    }
    messages[(*count)++] = (sent_message){RUN, number};
    return sent;
}

/*
 * The server refused a pipeline. Put our books right: what was to be prepared after the refusal was
 * not. True if the refusal was about prepared statements as such; then all are given up, and it is
 * worth another try.
 */
static bool mend_after_pipeline(hvi_session *session, const hvi_query *queries,
                                const sent_message *messages, size_t count, int successes,
                                const char *sqlstate, int64_t deadline) {
    for (size_t i = (size_t) successes; i < count; i++)
        if (messages[i].what == PREPARE)
            hvi_statements_remove(&session->statements, queries[messages[i].query].id);
    if (sqlstate == NULL || !session->config->prepare ||
        (strcmp(sqlstate, "26000") != 0 && strcmp(sqlstate, "42P05") != 0 &&
         strcmp(sqlstate, "0A000") != 0)) /* see mend_statements() */
        return false;
    hvi_query plain = {.sql = "DEALLOCATE ALL", .shard = -1, .id = HVI_NO_STATEMENT};
    hvi_statements_clear(&session->statements);
    return run_script(session, plain.sql, &plain, deadline, NULL, NULL) == HV_OK;
}

/* One try. `messages` has room for three a query, and so has answer->all, for their results. */
static hv_status run_pipeline(hvi_session *session, const hvi_query *queries, size_t count,
                              int64_t deadline, sent_message *messages, size_t *message_count,
                              hvi_answer *answer, hv_error **error) {
    hvi_query whole = {.shard = -1, .id = HVI_NO_STATEMENT};
    bool sent = PQenterPipelineMode(session->conn);
    *message_count = 0;
    for (size_t i = 0; i < count; i++) {
        whole.is_write = whole.is_write || queries[i].is_write;
        sent = sent && send_in_pipeline(session, queries, i, messages, message_count);
    }
    sent = sent && PQpipelineSync(session->conn);
    return exchange(session, &whole, true, sent, deadline, answer, error);
}

static void clear_pipeline(hvi_answer *answer) {
    for (int i = 0; i < answer->successes; i++) {
        PQclear(answer->all[i]);
        answer->all[i] = NULL;
    }
    PQclear(answer->first_error);
    *answer = (hvi_answer){.all = answer->all};
}

hv_status hvi_session_run_all(hvi_session *session, const hvi_query *queries, size_t count,
                              int64_t deadline, PGresult **results, hv_error **error) {
    int64_t started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    hvi_answer answer = {.all = calloc(3 * count, sizeof(PGresult *))};
    sent_message *messages = calloc(3 * count, sizeof *messages);
    size_t message_count = 0;
    hv_error *cause = NULL;
    hv_status status = answer.all == NULL || messages == NULL ? hvi_no_memory(&cause) : HV_OK;
    for (int try = 0; status == HV_OK && try < MAX_TRIES; try++) {
        status = run_pipeline(session, queries, count, deadline, messages, &message_count, &answer,
                              &cause);
        if (status != HV_REFUSED || session->broken ||
            !mend_after_pipeline(session, queries, messages, message_count, answer.successes,
                                 hv_error_sqlstate(cause), deadline) ||
            try + 1 == MAX_TRIES)
            break;
        clear_pipeline(&answer);
        hv_error_free(cause);
        cause = NULL;
        status = HV_OK;
    }
    for (size_t i = 0; status == HV_OK && i < message_count; i++)
        if (messages[i].what == RUN) {
            results[messages[i].query] = answer.all[i];
            answer.all[i] = NULL;
        }
    for (size_t i = 0; i < count; i++)
        tell(session, &queries[i], started, status, cause);
    clear_pipeline(&answer);
    free(answer.all);
    free(messages);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

void hvi_session_run_each(hvi_session *session, const hvi_query *queries, size_t count,
                          int64_t deadline, hvi_outcome *outcomes) {
    int64_t started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    hvi_query whole = {.shard = -1, .id = HVI_NO_STATEMENT};
    bool sent = PQenterPipelineMode(session->conn);
    for (size_t i = 0; i < count; i++)
        sent = sent && send_unprepared(session, &queries[i]) && PQpipelineSync(session->conn);
    if (!sent)
        session->broken = true;
    /* Of those before the one that could not be sent, anything may have happened. */
    hv_status status = sent ? flush(session, &whole, deadline, NULL) : HV_UNAVAILABLE;
    for (size_t i = 0; i < count; i++) {
        hvi_outcome *outcome = &outcomes[i];
        hvi_answer answer = {0};
        *outcome = (hvi_outcome){0};
        if (status == HV_OK && !session->broken) {
            outcome->status =
                receive(session, &queries[i], true, deadline, &answer, &outcome->error);
            if (session->broken && outcome->status != HV_REFUSED)
                status = hvi_deadline_poll_ms(deadline) == 0 ? HV_TIMEOUT : HV_UNAVAILABLE;
        } else if (status == HV_TIMEOUT) {
            outcome->status = fail_late(session, &queries[i], true, &outcome->error);
        } else {
            outcome->status = fail_lost(session, &queries[i], true, NULL, &outcome->error);
        }
        if (outcome->status == HV_OK) {
            outcome->result = answer.last;
            answer.last = NULL;
        }
        clear_answer(&answer);
        tell(session, &queries[i], started, outcome->status, outcome->error);
    }
    if (!session->broken && !PQexitPipelineMode(session->conn))
        session->broken = true;
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
