/*
 * session: one PostgreSQL connection: run statements within a deadline, keep statements prepared,
 * turn the server's messages into errors.
 *
 * This module sends; how the answer comes in, and what it means if it does not, is the exchange's
 * part. Waiting for it is done here, or by callers that use the pipelines' steps.
 */
#include "wire/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/refusal.h"

/* ---- waiting ---- */

void hvi_session_await(const hvi_session *session, int64_t deadline, hvi_advance_fn advance,
                       void *what) {
    hvi_wants wants;
    bool has_waited = false;
    while ((wants = advance(what)) != HVI_WANTS_NOTHING) {
        if ((has_waited && hvi_is_late(deadline)) ||
            !hvi_wait_socket(session->conn, wants, deadline))
            return;
        has_waited = true;
    }
}

static hvi_wants advance_exchange(void *what) {
    return hvi_exchange_advance(what);
}

static hvi_wants advance_pipeline(void *what) {
    return hvi_pipeline_advance(what);
}

/* After PQsend…() of one statement returned `sent`. */
hv_status hvi_session_exchange(hvi_session *session, const hvi_query *query, bool sent,
                               int64_t deadline, PGresult **result, hv_error **error) {
    hvi_exchange x;
    bool broken;
    hvi_exchange_start(&x, session->conn, session->config->server, sent);
    x.shard = query->shard;
    x.is_write = query->is_write;
    x.may_copy = query->in_copy;
    hvi_session_await(session, deadline, advance_exchange, &x);
    hv_status status = hvi_exchange_finish(&x, &broken, error);
    session->broken = session->broken || broken;
    if (status == HV_OK && result != NULL) {
        *result = x.last;
        x.last = NULL;
    }
    hvi_exchange_fini(&x);
    return status;
}

/* ---- statements ---- */

/* How long a connection that knows no arrays is kept, µs. */
#define TYPELESS_US 1000000

bool hvi_session_knows_arrays(hvi_session *session) {
    bool knows = session->hstore_array_type != 0;
    if (!knows && hvi_clock_us() - session->opened_at > TYPELESS_US)
        hvi_session_doubt(session);
    return knows;
}

/* ---- mending ---- */

void hvi_mending_start(hvi_mending *mending, hvi_session *session, const hv_error *cause) {
    char sql[160];
    *mending = (hvi_mending){.session = session, .refusal = hvi_error_refusal_of(cause)};
    hvi_statements_clear(&session->statements);
    snprintf(sql, sizeof sql,
             "DEALLOCATE ALL; SELECT FROM pg_catalog.pg_type"
             " WHERE oid OPERATOR(pg_catalog.=) '%u'::pg_catalog.oid",
             session->hstore_type);
    hvi_exchange_start(&mending->exchange, session->conn, session->config->server,
                       PQsendQuery(session->conn, sql) != 0);
}

hvi_wants hvi_mending_advance(hvi_mending *mending) {
    return hvi_exchange_advance(&mending->exchange);
}

bool hvi_mending_finish(hvi_mending *mending) {
    hvi_session *session = mending->session;
    bool broken;
    bool ok = hvi_exchange_finish(&mending->exchange, &broken, NULL) == HV_OK;
    session->broken = session->broken || broken;
    if (ok && session->hstore_type != 0 && PQntuples(mending->exchange.last) == 0)
        session->age = HVI_SESSION_OUTDATED;
    else if (mending->refusal == HVI_REFUSAL_TYPES)
        hvi_session_doubt(session);
    hvi_exchange_fini(&mending->exchange);
    return ok;
}

static hvi_wants advance_mending(void *what) {
    return hvi_mending_advance(what);
}

bool hvi_session_mend(hvi_session *session, const hv_error *cause, int64_t deadline) {
    hvi_mending mending;
    hvi_mending_start(&mending, session, cause);
    hvi_session_await(session, deadline, advance_mending, &mending);
    return hvi_mending_finish(&mending);
}

/* ---- the log ---- */

/* `sqlstate` may be NULL, or, on HV_OK, that of an attempt before the last. */
static void log_statement(const hvi_session *session, const hvi_query *query, int64_t started,
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

/* ---- pipelines ---- */

static bool is_kept_prepared(const hvi_pipeline *p, const hvi_query *query) {
    return !p->apart && p->session->config->prepare && query->id.verb != NULL;
}

static bool send_prepare(hvi_session *session, const hvi_query *query) {
    char name[HVI_STATEMENT_NAME_LEN];
    hvi_statement_name(query->id, name);
    return PQsendPrepare(session->conn, name, query->sql,
                         query->types != NULL ? query->parameter_count : 0, query->types) != 0;
}

static bool send_run(hvi_pipeline *p, const hvi_query *query) {
    PGconn *conn = p->session->conn;
    char name[HVI_STATEMENT_NAME_LEN];
    if (!is_kept_prepared(p, query))
        return PQsendQueryParams(conn, query->sql, query->parameter_count, query->types,
                                 query->values, query->lengths, query->formats,
                                 query->binary_result) != 0;
    hvi_statement_name(query->id, name);
    return PQsendQueryPrepared(conn, name, query->parameter_count, query->values, query->lengths,
                               query->formats, query->binary_result) != 0;
}

static void note(hvi_pipeline *p, int what, size_t query, hvi_statement_id statement) {
    p->messages[p->message_count++] = (struct hvi_message){what, query, statement};
}

/* Give up the least recently used statement if there is no room for another. */
static bool send_give_up(hvi_pipeline *p, size_t number) {
    hvi_session *session = p->session;
    hvi_statement_id oldest = hvi_statements_oldest(&session->statements);
    if (oldest.verb == NULL)
        return true;
    char sql[HVI_STATEMENT_NAME_LEN + 16] = "DEALLOCATE ";
    hvi_statement_name(oldest, sql + strlen(sql));
    hvi_statements_remove(&session->statements, oldest);
    note(p, HVI_MESSAGE_GIVE_UP, number, oldest);
    return PQsendQueryParams(session->conn, sql, 0, NULL, NULL, NULL, NULL, 0) != 0;
}

/* Can the statement run without being prepared first? */
static bool is_ready_to_run(hvi_pipeline *p, const hvi_query *query) {
    return !is_kept_prepared(p, query) || hvi_statements_use(&p->session->statements, query->id);
}

/* Send one query; false if libpq could not. A statement is prepared and run in one round trip; it
 * is prepared even if running it is refused. If there is no memory to note that, the next use finds
 * the name taken and mends it. */
static bool send_in_pipeline(hvi_pipeline *p, size_t number) {
    hvi_session *session = p->session;
    const hvi_query *query = &p->queries[number];
    bool sent = true;
    if (!is_ready_to_run(p, query)) {
        sent = send_give_up(p, number) && send_prepare(session, query);
        note(p, HVI_MESSAGE_PREPARE, number, query->id);
        hvi_statements_add(&session->statements, query->id);
    }
    sent = sent && send_run(p, query);
    note(p, HVI_MESSAGE_RUN, number, (hvi_statement_id){0});
    return sent && (!p->apart || PQpipelineSync(session->conn));
}

/* False if memory is short. */
static bool make_room(hvi_pipeline *p) {
    if (p->count == 1) {
        p->messages = p->few_messages;
        p->results = p->few_results;
        return true;
    }
    p->messages = calloc(HVI_PIPELINE_MESSAGES * p->count, sizeof *p->messages);
    p->results = calloc(HVI_PIPELINE_MESSAGES * p->count, sizeof(PGresult *));
    return p->messages != NULL && p->results != NULL;
}

void hvi_pipeline_start(hvi_pipeline *p, hvi_session *session, const hvi_query *queries,
                        size_t count, bool apart) {
    *p = (hvi_pipeline){.session = session, .queries = queries, .count = count, .apart = apart};
    p->started = session->config->log.fn != NULL ? hvi_clock_us() : 0;
    p->is_lone = count == 1 && is_ready_to_run(p, queries);
    if (p->is_lone) {
        hvi_exchange_start(&p->exchange, session->conn, session->config->server,
                           send_run(p, queries));
        p->exchange.shard = queries->shard;
        p->exchange.is_write = queries->is_write;
        return;
    }
    if (!make_room(p))
        return; /* hvi_pipeline_finish() reports it */

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
    if (count == 1)
        p->exchange.shard = queries->shard;
}

static bool is_started(const hvi_pipeline *p) {
    return p->exchange.conn != NULL;
}

hvi_wants hvi_pipeline_advance(hvi_pipeline *p) {
    return is_started(p) ? hvi_exchange_advance(&p->exchange) : HVI_WANTS_NOTHING;
}

/* The server has skipped or refused a part: correct the list of prepared statements, the last
 * first, so that there is room for those that were not given up after all. */
static void correct_statements(hvi_pipeline *p) {
    hvi_statements *statements = &p->session->statements;
    for (size_t i = p->message_count; i-- > 0;) {
        const struct hvi_message *message = &p->messages[i];
        if (message->what == HVI_MESSAGE_RUN || hvi_result_is_good(p->results[i]))
            continue;
        if (message->what == HVI_MESSAGE_PREPARE)
            hvi_statements_remove(statements, message->statement);
        else if (hvi_statements_oldest(statements).verb == NULL)
            hvi_statements_add(statements, message->statement);
    }
}

/* A statement's own result: that of the first of its messages that was refused, or of
 * HVI_MESSAGE_RUN. A part whose Sync was not answered has none: it may not have been committed. */
static void take_results(hvi_pipeline *p, bool failed, PGresult **results) {
    size_t settled = p->apart ? (size_t) p->exchange.answered : failed ? 0 : p->count;
    if (p->is_lone && !failed) {
        results[0] = p->exchange.last;
        p->exchange.last = NULL;
    }
    for (size_t i = 0; i < p->message_count; i++) {
        const struct hvi_message *message = &p->messages[i];
        bool counts = message->what == HVI_MESSAGE_RUN || !hvi_result_is_good(p->results[i]);
        if (message->query < settled && counts && results[message->query] == NULL) {
            results[message->query] = p->results[i];
            p->results[i] = NULL;
        }
    }
}

static void log_all(const hvi_pipeline *p, hv_status status, const char *sqlstate,
                    PGresult *const *results) {
    for (size_t i = 0; i < p->count; i++) {
        const PGresult *own = results[i];
        if (own == NULL)
            log_statement(p->session, &p->queries[i], p->started, status, sqlstate);
        else
            log_statement(p->session, &p->queries[i], p->started,
                          hvi_result_is_good(own) ? HV_OK : HV_REFUSED,
                          PQresultErrorField(own, PG_DIAG_SQLSTATE));
    }
}

/* Our list of prepared statements does not match the server's, however often we mend it: the
 * connection may not always lead to the same server process. */
static void hint_at_bouncer(const hvi_pipeline *p, hv_error **error) {
    if (is_kept_prepared(p, p->queries) && hvi_error_refusal_of(*error) == HVI_REFUSAL_STATEMENTS)
        hvi_error_hint(error, "Behind a PgBouncer in transaction mode, set the option \"prepare\" "
                              "to off.");
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
    /* libpq had no memory for the only result. */
    if (status == HV_OK && p->count == 1 && results[0] == NULL)
        status = hvi_no_memory(&cause);
    if (status == HV_REFUSED)
        hint_at_bouncer(p, &cause);
    if (!p->is_mended || p->session->broken || !hvi_refusal_is_stale(cause))
        log_all(p, status, sqlstate_of(cause), results);
    hvi_pipeline_forget(p);
    return status == HV_OK ? HV_OK : hvi_error_move(error, &cause);
}

void hvi_pipeline_forget(hvi_pipeline *p) {
    for (size_t i = 0; i < p->message_count; i++)
        PQclear(p->results[i]);
    if (p->results != p->few_results)
        free(p->results);
    if (p->messages != p->few_messages)
        free(p->messages);
    hvi_exchange_fini(&p->exchange);
    p->message_count = 0;
    p->results = NULL;
    p->messages = NULL;
}

hv_status hvi_session_run(hvi_session *session, const hvi_query *query, int64_t deadline,
                          PGresult **result, hv_error **error) {
    if (hvi_deadline_poll_ms(deadline) == 0)
        return hvi_fail_late(session->config->server, query->shard, false, error);
    hvi_pipeline pipeline;
    *result = NULL;
    hvi_pipeline_start(&pipeline, session, query, 1, false);
    hvi_session_await(session, deadline, advance_pipeline, &pipeline);
    return hvi_pipeline_finish(&pipeline, result, error);
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
    script->completed = script->exchange.completed;
    session->broken = session->broken || broken;
    log_statement(session, &query, script->started, status, sqlstate_of(cause));
    if (status == HV_OK && result != NULL) {
        *result = script->exchange.last;
        script->exchange.last = NULL;
    }
    hvi_exchange_fini(&script->exchange);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

static hv_status run_script(hvi_session *session, const char *sql, int shard, bool is_write,
                            bool may_copy, int64_t deadline, PGresult **result, hv_error **error) {
    hvi_script script;
    hvi_script_start(&script, session, sql, shard, is_write);
    script.exchange.may_copy = may_copy;
    hvi_session_await(session, deadline, advance_exchange, &script.exchange);
    return hvi_script_finish(&script, result, error);
}

hv_status hvi_session_script(hvi_session *session, const char *sql, int shard, bool is_write,
                             int64_t deadline, PGresult **result, hv_error **error) {
    return run_script(session, sql, shard, is_write, false, deadline, result, error);
}

hv_status hvi_session_script_copy(hvi_session *session, const char *sql, int shard,
                                  int64_t deadline, PGresult **result, hv_error **error) {
    return run_script(session, sql, shard, false, true, deadline, result, error);
}
