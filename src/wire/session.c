/*
 * session: one PostgreSQL connection: run statements within a deadline, keep statements prepared,
 * turn what the server says into errors.
 *
 * This module sends; how the answer comes in, and what it means if it does not, is the exchange's
 * part. To wait for it is done here, or by those who use the pipelines' steps.
 */
#include "wire/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/refusal.h"

/* How often a statement is tried when the server's prepared statements are not what we thought. */
#define MAX_TRIES 3

/* ---- one exchange ---- */

/*
 * Go on, by `advance`, until it is over or late. What a server sends without end makes its socket
 * ready at any time, so the deadline counts then too; but what came while this process was not
 * running is still read once.
 */
typedef hvi_wants (*hvi_advance_fn)(void *what);

static void see_through(const hvi_session *session, int64_t deadline, hvi_advance_fn advance,
                        void *what) {
    hvi_wants wants;
    bool in_time = true;
    while ((wants = advance(what)) != HVI_WANTS_NOTHING && in_time) {
        if (!hvi_wait_socket(session->conn, wants, deadline))
            return;
        in_time = !hvi_is_late(deadline);
    }
}

static hvi_wants advance_exchange(void *what) {
    return hvi_exchange_advance(what);
}

static hvi_wants advance_pipeline(void *what) {
    return hvi_pipeline_advance(what);
}

static hvi_wants advance_script(void *what) {
    return hvi_script_advance(what);
}

/* See an exchange through that was started. The answer in it is the caller's. */
static hv_status exchange(hvi_session *session, const hvi_query *query, int64_t deadline,
                          hvi_exchange *x, hv_error **error) {
    x->shard = query->shard;
    x->is_write = query->is_write;
    x->may_copy = query->in_copy;
    see_through(session, deadline, advance_exchange, x);
    bool broken;
    hv_status status = hvi_exchange_finish(x, &broken, error);
    session->broken = session->broken || broken;
    return status;
}

/* After PQsend…() of one statement gave `sent`. */
hv_status hvi_session_exchange(hvi_session *session, const hvi_query *query, bool sent,
                               int64_t deadline, PGresult **result, hv_error **error) {
    hvi_exchange x;
    hvi_exchange_start(&x, session->conn, session->config->server, sent);
    hv_status status = exchange(session, query, deadline, &x, error);
    if (status == HV_OK && result != NULL) {
        *result = x.last;
        x.last = NULL;
    }
    hvi_exchange_fini(&x);
    return status;
}

/* ---- statements ---- */

static int send_unprepared(hvi_session *session, const hvi_query *query) {
    return PQsendQueryParams(session->conn, query->sql, query->parameter_count, query->types,
                             query->values, query->lengths, query->formats, query->binary_result);
}

static int send_prepared(hvi_session *session, const hvi_query *query, const char *name) {
    return PQsendQueryPrepared(session->conn, name, query->parameter_count, query->values,
                               query->lengths, query->formats, query->binary_result);
}

/* In pipeline mode: give up the least recently used statement if there is no room for another.
 * *oldest is then its id, and there will be a result of it; else HVI_NO_STATEMENT. */
static int send_give_up(hvi_session *session, uint32_t *oldest) {
    *oldest = hvi_statements_oldest(&session->statements);
    if (*oldest == HVI_NO_STATEMENT)
        return 1;
    char sql[HVI_STATEMENT_NAME_LEN + 16] = "DEALLOCATE ";
    hvi_statement_name(*oldest, sql + strlen(sql));
    hvi_statements_remove(&session->statements, *oldest);
    return PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
}

static int send_prepare(hvi_session *session, const hvi_query *query, const char *name) {
    return PQsendPrepare(session->conn, name, query->sql,
                         query->types != NULL ? query->parameter_count : 0, query->types);
}

/* Prepare a statement and run it, all in one round trip. */
static hv_status prepare_and_run(hvi_session *session, const hvi_query *query, const char *name,
                                 int64_t deadline, PGresult **result, hv_error **error) {
    PGresult *results[3] = {NULL}; /* give up, prepare, run; or the latter two */
    uint32_t given_up = HVI_NO_STATEMENT;
    int sent = PQenterPipelineMode(session->conn) && send_give_up(session, &given_up) &&
               send_prepare(session, query, name) && send_prepared(session, query, name) &&
               PQpipelineSync(session->conn);
    size_t prepare = given_up != HVI_NO_STATEMENT ? 1 : 0, run = prepare + 1;
    hvi_exchange x;
    hvi_exchange_start_pipeline(&x, session->conn, session->config->server, sent != 0, 1, results,
                                run + 1);
    hv_status status = exchange(session, query, deadline, &x, error);
    /* It is prepared even if running it was refused. If this fails for want of memory, the next use
     * finds the name taken and mends it. */
    if (results[prepare] != NULL)
        hvi_statements_add(&session->statements, query->id);
    if (status == HV_OK && results[run] == NULL)
        status = hvi_no_memory(error);
    if (status == HV_OK) {
        *result = results[run];
        results[run] = NULL;
    }
    for (size_t i = 0; i <= run; i++)
        PQclear(results[i]);
    hvi_exchange_fini(&x);
    return status;
}

static hv_status run_once(hvi_session *session, const hvi_query *query, int64_t deadline,
                          bool *was_prepared, PGresult **result, hv_error **error) {
    if (!session->config->prepare || query->id == HVI_NO_STATEMENT)
        return hvi_session_exchange(session, query, send_unprepared(session, query) != 0, deadline,
                                    result, error);
    char name[HVI_STATEMENT_NAME_LEN];
    hvi_statement_name(query->id, name);
    *was_prepared = hvi_statements_use(&session->statements, query->id);
    if (*was_prepared)
        return hvi_session_exchange(session, query, send_prepared(session, query, name) != 0,
                                    deadline, result, error);
    return prepare_and_run(session, query, name, deadline, result, error);
}

/* A connection that knows no arrays is kept so long, microseconds. */
#define TYPELESS_US 1000000

bool hvi_session_knows_arrays(hvi_session *session) {
    bool knows = session->hstore_array_type != 0;
    if (!knows && hvi_clock_us() - session->opened_at > TYPELESS_US)
        hvi_session_doubt(session);
    return knows;
}

/* Does the type that the session knows as hstore exist no more? */
static bool has_lost_types(hvi_session *session, int64_t deadline) {
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT FROM pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) '%u'::pg_catalog.oid",
             session->hstore_type);
    hvi_query plain = {.sql = sql, .shard = -1, .id = HVI_NO_STATEMENT};
    PGresult *found = NULL;
    hv_status status = hvi_session_exchange(session, &plain, PQsendQuery(session->conn, sql),
                                            deadline, &found, NULL);
    bool lost = status == HV_OK && session->hstore_type != 0 && PQntuples(found) == 0;
    PQclear(found);
    return lost;
}

/* After a refusal that is stale: is it because types were made anew, as by `pg_restore --clean`? */
static void judge_age(hvi_session *session, const hv_error *cause, int64_t deadline) {
    hvi_refusal refusal = hvi_error_refusal_of(cause);
    bool is_of_types = refusal == HVI_REFUSAL_TYPES || refusal == HVI_REFUSAL_RESULT;
    if (session->broken || session->age != HVI_SESSION_CURRENT || !is_of_types)
        return;
    if (has_lost_types(session, deadline))
        session->age = HVI_SESSION_OUTDATED;
    else if (refusal == HVI_REFUSAL_TYPES)
        hvi_session_doubt(session);
}

/*
 * The server refused a prepared statement as such: a borrower may have said DEALLOCATE ALL or
 * DISCARD ALL, or somebody has altered the table, or made it and its types anew. Nothing was
 * executed. Put our books right; true if it is worth another try. `was_prepared`: before this try.
 */
static bool mend_statements(hvi_session *session, const hvi_query *query, const hv_error *cause,
                            bool was_prepared, int64_t deadline) {
    if (!session->config->prepare || query->id == HVI_NO_STATEMENT || !hvi_refusal_is_stale(cause))
        return false;
    const char *sqlstate = hv_error_sqlstate(cause);
    if (sqlstate != NULL && strcmp(sqlstate, "26000") == 0) { /* does not exist */
        hvi_statements_clear(&session->statements);
        return true;
    }
    judge_age(session, cause, deadline);
    if (hvi_error_refusal_of(cause) == HVI_REFUSAL_TYPES && !was_prepared)
        return false; /* it is not the statement that has an old type: see hvi_operation_run() */
    char sql[HVI_STATEMENT_NAME_LEN + 16] = "DEALLOCATE ";
    hvi_statement_name(query->id, sql + strlen(sql));
    hvi_statements_remove(&session->statements, query->id);
    hvi_query plain = {.sql = sql, .shard = query->shard, .id = HVI_NO_STATEMENT};
    return hvi_session_exchange(session, &plain, PQsendQuery(session->conn, sql), deadline, NULL,
                                NULL) == HV_OK;
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

/* Tell the log. `sqlstate` may be NULL, or of an attempt before the one that succeeded, on
 * HV_OK. */
static void tell(const hvi_session *session, const hvi_query *query, int64_t started,
                 hv_status status, const char *sqlstate) {
    const hvi_session_config *config = session->config;
    if (config->log.fn == NULL)
        return;
    hv_log_event event = {
        .statement = query->sql,
        .server = config->server,
        .shard = query->shard,
        .duration_us = hvi_clock_us() - started,
        .status = status,
        .sqlstate = status != HV_OK ? sqlstate : NULL,
        .parameters = query->log_values,
        .parameter_count = query->log_values != NULL ? (size_t) query->parameter_count : 0,
    };
    hvi_log_emit(&config->log, &event);
}

static const char *sqlstate_of(const hv_error *cause) {
    return cause != NULL ? hv_error_sqlstate(cause) : NULL;
}

hv_status hvi_session_run(hvi_session *session, const hvi_query *query, int64_t deadline,
                          PGresult **result, hv_error **error) {
    hv_error *cause = NULL;
    PGresult *got = NULL;
    int64_t started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    hv_status status = HV_OK;
    for (int try = 0; try < MAX_TRIES; try++) {
        if (hvi_deadline_poll_ms(deadline) == 0) {
            status = hvi_fail_late(session->config->server, query->shard, false, &cause);
            break;
        }
        bool was_prepared = false;
        status = run_once(session, query, deadline, &was_prepared, &got, &cause);
        if (status != HV_REFUSED || session->broken ||
            !mend_statements(session, query, cause, was_prepared, deadline))
            break;
    }
    tell(session, query, started, status, sqlstate_of(cause));
    if (status == HV_OK && result != NULL) {
        *result = got;
        got = NULL;
    }
    if (status == HV_REFUSED)
        hint_at_bouncer(query, &cause);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    hv_error_free(cause);
    PQclear(got);
    return status;
}

/* ---- several statements at once ---- */

/* What was sent, in order: the results come in the same. */
typedef struct hvi_message {
    enum { GIVE_UP, PREPARE, RUN } what;
    size_t query;       /* its number */
    uint32_t statement; /* not of RUN: its id */
} hvi_message;

/* A query has at most this many messages. */
#define MAX_MESSAGES 3

static void note(hvi_pipeline *p, int what, size_t query, uint32_t statement) {
    p->messages[p->message_count++] = (hvi_message){what, query, statement};
}

/* Send one query; returns false if libpq could not. */
static bool send_in_pipeline(hvi_pipeline *p, size_t number) {
    hvi_session *session = p->session;
    const hvi_query *query = &p->queries[number];
    bool sent = true;
    if (p->apart || !session->config->prepare || query->id == HVI_NO_STATEMENT) {
        sent = send_unprepared(session, query);
    } else {
        char name[HVI_STATEMENT_NAME_LEN];
        hvi_statement_name(query->id, name);
        if (!hvi_statements_use(&session->statements, query->id)) {
            uint32_t given_up;
            sent = send_give_up(session, &given_up);
            if (given_up != HVI_NO_STATEMENT)
                note(p, GIVE_UP, number, given_up);
            sent = sent && send_prepare(session, query, name);
            note(p, PREPARE, number, query->id);
            hvi_statements_add(&session->statements, query->id);
        }
        sent = sent && send_prepared(session, query, name);
    }
    note(p, RUN, number, HVI_NO_STATEMENT);
    return sent && (!p->apart || PQpipelineSync(session->conn));
}

void hvi_pipeline_start(hvi_pipeline *p, hvi_session *session, const hvi_query *queries,
                        size_t count, bool apart) {
    size_t room = MAX_MESSAGES * count;
    *p = (hvi_pipeline){.session = session, .queries = queries, .count = count, .apart = apart};
    p->started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    p->messages = calloc(room, sizeof *p->messages);
    p->results = calloc(room, sizeof *p->results);
    if (p->messages == NULL || p->results == NULL)
        return; /* hvi_pipeline_finish() will say so */

    bool sent = PQenterPipelineMode(session->conn);
    bool is_write = false;
    for (size_t i = 0; i < count && sent; i++) {
        is_write = is_write || queries[i].is_write;
        sent = send_in_pipeline(p, i);
    }
    if (!apart)
        sent = sent && PQpipelineSync(session->conn);
    hvi_exchange_start_pipeline(&p->exchange, session->conn, session->config->server, sent,
                                apart ? (int) count : 1, p->results, p->message_count);
    p->exchange.is_write = is_write;
}

static bool is_started(const hvi_pipeline *p) {
    return p->exchange.conn != NULL;
}

hvi_wants hvi_pipeline_advance(hvi_pipeline *p) {
    return is_started(p) ? hvi_exchange_advance(&p->exchange) : HVI_WANTS_NOTHING;
}

hv_status hvi_session_fail_refused(const hvi_session *session, const hvi_query *query,
                                   const PGresult *result, hv_error **error) {
    hv_status status = hvi_fail_refused(session->config->server, query->shard, result, error);
    if (error != NULL)
        hint_at_bouncer(query, error);
    return status;
}

/* The server has skipped or refused a part: put the books right, the last first, so that there is
 * room for what was not given up after all. */
static void correct_statements(hvi_pipeline *p) {
    hvi_statements *statements = &p->session->statements;
    for (size_t i = p->message_count; i-- > 0;) {
        const hvi_message *message = &p->messages[i];
        if (message->what == RUN || hvi_result_is_good(p->results[i]))
            continue;
        if (message->what == PREPARE)
            hvi_statements_remove(statements, message->statement);
        else if (hvi_statements_oldest(statements) == HVI_NO_STATEMENT)
            hvi_statements_add(statements, message->statement);
    }
}

/* A statement's own result: of the first of its messages that was refused, or that of RUN. A part
 * whose Sync was not answered has none: it may not be committed. */
static void take_results(hvi_pipeline *p, bool failed, PGresult **results) {
    size_t settled = p->apart ? (size_t) p->exchange.answered : failed ? 0 : p->count;
    for (size_t i = 0; i < p->message_count; i++) {
        const hvi_message *message = &p->messages[i];
        bool counts = message->what == RUN || !hvi_result_is_good(p->results[i]);
        if (message->query < settled && counts && results[message->query] == NULL) {
            results[message->query] = p->results[i];
            p->results[i] = NULL;
        }
    }
}

static void tell_all(const hvi_pipeline *p, hv_status status, const char *sqlstate,
                     PGresult *const *results) {
    if (p->session->config->log.fn == NULL)
        return;
    for (size_t i = 0; i < p->count; i++) {
        const PGresult *own = results[i];
        if (own == NULL)
            tell(p->session, &p->queries[i], p->started, status, sqlstate);
        else
            tell(p->session, &p->queries[i], p->started,
                 hvi_result_is_good(own) ? HV_OK : HV_REFUSED,
                 PQresultErrorField(own, PG_DIAG_SQLSTATE));
    }
}

hv_status hvi_pipeline_finish(hvi_pipeline *p, PGresult **results, hv_error **error) {
    hv_error *cause = NULL;
    bool broken = false;
    hv_status status =
        is_started(p) ? hvi_exchange_finish(&p->exchange, &broken, &cause) : hvi_no_memory(&cause);
    if (is_started(p)) {
        p->session->broken = p->session->broken || broken;
        if (status != HV_OK)
            correct_statements(p);
        take_results(p, status != HV_OK, results);
    }
    tell_all(p, status, sqlstate_of(cause), results);
    hvi_pipeline_forget(p);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

void hvi_pipeline_forget(hvi_pipeline *p) {
    for (size_t i = 0; i < p->message_count; i++)
        PQclear(p->results[i]);
    free(p->results);
    free(p->messages);
    hvi_exchange_fini(&p->exchange);
    *p = (hvi_pipeline){0};
}

static hv_status run_pipeline(hvi_session *session, const hvi_query *queries, size_t count,
                              bool apart, int64_t deadline, PGresult **results, hv_error **error) {
    hvi_pipeline pipeline;
    hvi_pipeline_start(&pipeline, session, queries, count, apart);
    see_through(session, deadline, advance_pipeline, &pipeline);
    return hvi_pipeline_finish(&pipeline, results, error);
}

/* After a refusal: was it about prepared statements as such, and are all given up now? Where types
 * are no more, that is not enough: the parameters refer to them as well. */
static bool give_up_all(hvi_session *session, const hv_error *cause, int64_t deadline) {
    hvi_query plain = {.sql = "DEALLOCATE ALL", .shard = -1, .id = HVI_NO_STATEMENT};
    if (session->broken || !hvi_refusal_is_stale(cause))
        return false;
    judge_age(session, cause, deadline);
    if (session->age != HVI_SESSION_CURRENT)
        return false;
    hvi_statements_clear(&session->statements);
    return hvi_session_exchange(session, &plain, PQsendQuery(session->conn, plain.sql), deadline,
                                NULL, NULL) == HV_OK;
}

hv_status hvi_session_run_all(hvi_session *session, const hvi_query *queries, size_t count,
                              int64_t deadline, PGresult **results, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status;
    int try = 0;
    do
        status = run_pipeline(session, queries, count, false, deadline, results, &cause);
    while (status == HV_REFUSED && ++try < MAX_TRIES && give_up_all(session, cause, deadline));
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

/* What the error that ended a pipeline means for one that was not answered: of a read, the outcome
 * is known. */
static void set_lost(const hvi_query *query, hv_status status, const hv_error *cause,
                     hvi_outcome *outcome) {
    outcome->status = status;
    outcome->error = hvi_error_copy(cause);
    if (status == HV_OUTCOME_UNKNOWN && !query->is_write) {
        outcome->status = hvi_fail(&outcome->error, HV_UNAVAILABLE,
                                   "connection to server \"%s\" lost", hv_error_server(cause));
        hvi_error_where(&outcome->error, hv_error_server(cause), -1);
    }
    hvi_error_where(&outcome->error, NULL, query->shard);
}

void hvi_session_run_each(hvi_session *session, const hvi_query *queries, size_t count,
                          int64_t deadline, hvi_outcome *outcomes) {
    hv_error *cause = NULL;
    PGresult **results = calloc(count, sizeof(PGresult *));
    hv_status status = results == NULL
                           ? hvi_no_memory(&cause)
                           : run_pipeline(session, queries, count, true, deadline, results, &cause);
    for (size_t i = 0; i < count; i++) {
        hvi_outcome *outcome = &outcomes[i];
        *outcome = (hvi_outcome){0};
        PGresult *result = results != NULL ? results[i] : NULL;
        if (result == NULL) {
            set_lost(&queries[i], status, cause, outcome);
        } else if (hvi_result_is_good(result)) {
            outcome->result = result;
        } else {
            outcome->status =
                hvi_session_fail_refused(session, &queries[i], result, &outcome->error);
            PQclear(result);
        }
    }
    hv_error_free(cause);
    free(results);
}

/* ---- SQL without parameters ---- */

void hvi_script_start(hvi_script *script, hvi_session *session, const char *sql, int shard,
                      bool is_write) {
    *script = (hvi_script){.session = session, .sql = sql, .started = hvi_clock_us()};
    hvi_exchange_start(&script->exchange, session->conn, session->config->server,
                       PQsendQuery(session->conn, sql) != 0);
    script->exchange.shard = shard;
    script->exchange.is_write = is_write;
}

hvi_wants hvi_script_advance(hvi_script *script) {
    return hvi_exchange_advance(&script->exchange);
}

hv_status hvi_script_finish(hvi_script *script, PGresult **result, hv_error **error) {
    hvi_session *session = script->session;
    hvi_query query = {.sql = script->sql, .shard = script->exchange.shard};
    hv_error *cause = NULL;
    bool broken;
    hv_status status = hvi_exchange_finish(&script->exchange, &broken, &cause);
    session->broken = session->broken || broken;
    tell(session, &query, script->started, status, sqlstate_of(cause));
    if (status == HV_OK && result != NULL) {
        *result = script->exchange.last;
        script->exchange.last = NULL;
    }
    hvi_exchange_fini(&script->exchange);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

hv_status hvi_session_script(hvi_session *session, const char *sql, int shard, bool is_write,
                             int64_t deadline, PGresult **result, hv_error **error) {
    hvi_script script;
    hvi_script_start(&script, session, sql, shard, is_write);
    see_through(session, deadline, advance_script, &script);
    return hvi_script_finish(&script, result, error);
}

hv_status hvi_session_script_copy(hvi_session *session, const char *sql, int shard,
                                  int64_t deadline, PGresult **result, hv_error **error) {
    hvi_script script;
    hvi_script_start(&script, session, sql, shard, false);
    script.exchange.may_copy = true;
    see_through(session, deadline, advance_script, &script);
    return hvi_script_finish(&script, result, error);
}
