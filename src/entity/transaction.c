/*
 * transaction: operations on one shard, and SQL of the caller's own, in one transaction on one
 * session.
 */
#include "entity/transaction.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "value/limits.h"
#include "wire/refusal.h"
#include "shard/location.h"
#include "entity/batch.h"
#include "entity/lane.h"
#include "entity/locate.h"

/* How long a rollback may take, and finding out what a connection has cached, ms. After that the
 * connection is closed. */
#define ROLLBACK_MS 1000

/* How long it is looked for a shard that has moved. */
#define FIND_MS 1000

/* A record is of the transaction's time if it is this much older than the transaction: the question
 * is on its way for a while. And how long its schema is looked for. */
#define COME_MS       1000
#define COME_PAUSE_MS 10
#define COME_LOOKS    40

/* ---- life ---- */

hv_status hvi_transaction_init(hvi_transaction *tx, hvi_router *router, int shard,
                               hv_error **error) {
    *tx = (hvi_transaction){0};
    return hvi_target_init(&tx->target, router, shard, error);
}

void hvi_transaction_fini(hvi_transaction *tx) {
    hvi_transaction_rollback(tx);
    hv_error_free(tx->failure);
    tx->failure = NULL;
}

void hvi_transaction_forget(hvi_transaction *tx) {
    tx->session = NULL;
}

static const char *server_of(const hvi_transaction *tx) {
    return tx->target.server->name;
}

static hv_status fail_late(const hvi_transaction *tx, hv_error **error) {
    return hvi_fail_late(server_of(tx), tx->target.shard, false, error);
}

static void release(hvi_transaction *tx) {
    hvi_pool_release(&tx->target.server->pool, tx->session);
    tx->session = NULL;
}

/* ---- beginning ---- */

void hvi_transaction_turn_to(hvi_transaction *tx, hvi_server *server) {
    tx->target.server = server;
}

/* Everything that a role or a database may have another default for. */
static const char *begin_sql(hv_isolation isolation) {
    switch (isolation) {
    case HV_READ_COMMITTED:
        return "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    case HV_REPEATABLE_READ:
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE";
    case HV_SERIALIZABLE:
        return "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE";
    }
    return NULL;
}

/* A session for any operation: a put under a key needs the types of arrays. A session that does not
 * know them is closed, and the next one does. */
static hv_status acquire(hvi_transaction *tx, hv_error **error) {
    hvi_pool *pool = &tx->target.server->pool;
    int64_t deadline = hvi_router_pool_deadline(tx->target.router);
    hv_status status = HV_OK;
    if (deadline > tx->deadline)
        deadline = tx->deadline;
    for (int try = 0; try < 2 && tx->session == NULL && status == HV_OK; try++) {
        status = hvi_pool_acquire(pool, deadline, &tx->session, error);
        bool lacks_types = status == HV_OK && !hvi_session_knows_arrays(tx->session);
        if (lacks_types && tx->session->age != HVI_SESSION_CURRENT && try == 0)
            release(tx);
    }
    return status;
}

hv_status hvi_transaction_begin(hvi_transaction *tx, hv_isolation isolation, int64_t deadline,
                                bool *had_session, hv_error **error) {
    const char *sql = begin_sql(isolation);
    hv_error *cause = NULL;
    *had_session = false;
    if (sql == NULL)
        return hvi_fail(error, HV_INVALID, "%d is not an isolation level", (int) isolation);
    hv_error_free(tx->failure);
    tx->failure = NULL;
    tx->passes = tx->is_lent = false;
    tx->generation = hvi_router_generation(tx->target.router, tx->target.shard);
    tx->began = hvi_clock_us();
    tx->deadline = deadline;
    hv_status status = acquire(tx, &cause);
    *had_session = status == HV_OK;
    if (status == HV_OK && hvi_is_late(deadline))
        status = fail_late(tx, &cause);
    if (status == HV_OK)
        status =
            hvi_session_script(tx->session, sql, tx->target.shard, false, deadline, NULL, &cause);
    if (status == HV_OK)
        return HV_OK;
    if (hvi_error_has_sqlstate(cause, "0A000"))
        hvi_error_hint(&cause,
                       "If the server is a standby, name its primary: a transaction must be "
                       "able to write.");
    if (tx->session != NULL)
        release(tx);
    return hvi_target_explain(&tx->target, &cause, error);
}

/* ---- failing ---- */

/* May it not come again if the whole transaction is done again? Everything that was read and
 * written in it is then read and written anew, on another connection perhaps. */
static bool may_pass(const hv_error *failure) {
    const char *sqlstate = hv_error_sqlstate(failure);
    if (hv_error_status(failure) == HV_UNAVAILABLE || hv_error_status(failure) == HV_MOVED)
        return true; /* the connection is lost, or the shard is elsewhere now */
    return hv_error_status(failure) == HV_REFUSED &&
           (hvi_refusal_is_stale(failure) || (sqlstate != NULL && strncmp(sqlstate, "40", 2) == 0));
}

/* ---- a shard that has moved ---- */

static bool is_missing(const hv_error *failure) {
    hv_status status = hv_error_status(failure);
    return (status == HV_REFUSED || status == HV_NOT_INITIALIZED) &&
           (hvi_error_has_sqlstate(failure, "42P01") || hvi_error_has_sqlstate(failure, "3F000"));
}

/*
 * A session to ask the server: after a failure it accepts nothing on the transaction's own. One of
 * the pool, if there is one at once: others may have them all, and wait for the same. Else one
 * beside it, for a moment.
 */
static hvi_session *borrow(const hvi_transaction *tx, bool *is_of_pool) {
    hvi_pool *pool = &tx->target.server->pool;
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    *is_of_pool = hvi_pool_try(pool, false, &session, &cause) == HVI_TURN_SESSION;
    if (!*is_of_pool)
        hvi_session_open(&pool->config.session, tx->deadline, &session, &cause);
    hv_error_free(cause);
    return session;
}

static void give_back(const hvi_transaction *tx, hvi_session *session, bool is_of_pool) {
    if (is_of_pool)
        hvi_pool_release(&tx->target.server->pool, session);
    else
        hvi_session_close(session);
}

/* Was it published since the transaction began, which had known that it would come? That can be
 * seen a moment later than the record: see locate.c. */
static bool has_come(const hvi_transaction *tx, hvi_session *session, const hvi_location *found,
                     int64_t asked) {
    bool is_there = false;
    if (found->generation != tx->generation || found->generation == 0 ||
        found->age > (asked - tx->began) / 1000 + COME_MS)
        return found->generation > tx->generation;
    for (int i = 0; i < COME_LOOKS && !is_there; i++) {
        if (i > 0 && !hvi_pause(COME_PAUSE_MS))
            return false;
        if (hvi_location_has_schema(session, found->shard, tx->deadline, &is_there, NULL) != HV_OK)
            return false;
    }
    return is_there;
}

/* Has the shard left the server, by its record, or come since the transaction began? One that waits
 * for being published is published: see locate.c. */
static bool ask_whether_moved(const hvi_transaction *tx, hvi_session *session) {
    const hvi_target *target = &tx->target;
    hvi_location found;
    hvi_location_state state;
    int64_t asked = hvi_clock_us();
    if (hvi_location_read(session, target->shard, tx->deadline, &found, NULL) != HV_OK)
        return false;
    hvi_location_apply(&found, 1, target->router, target->server->number);
    if (found.state == HVI_LOCATION_ARRIVING && found.generation == tx->generation)
        hvi_location_publish(session, target->shard, found.generation, tx->deadline, &state, NULL);
    return found.state == HVI_LOCATION_GONE || found.state == HVI_LOCATION_ARRIVING ||
           (found.state == HVI_LOCATION_HERE && has_come(tx, session, &found, asked));
}

static bool is_known_elsewhere(const hvi_transaction *tx) {
    const hvi_target *target = &tx->target;
    return hvi_router_holder(target->router, target->shard) != target->server->number ||
           hvi_router_generation(target->router, target->shard) != tx->generation;
}

/* The server's name for where the shard has gone may mean nothing here: have it found, so that the
 * next transaction begins there. */
static void find_shard(const hvi_transaction *tx) {
    hvi_operation op;
    int64_t deadline = hvi_deadline_after(FIND_MS);
    if (hvi_where_init(&op, tx->target.router, tx->target.shard, NULL) == HV_OK) {
        op.deadline = deadline < tx->deadline ? deadline : tx->deadline;
        hvi_lanes_run(&op);
    }
    hvi_operation_fini(&op);
}

static bool has_moved(const hvi_transaction *tx) {
    bool is_of_pool;
    if (is_known_elsewhere(tx))
        return true;
    hvi_session *session = borrow(tx, &is_of_pool);
    bool moved = session != NULL && ask_whether_moved(tx, session);
    give_back(tx, session, is_of_pool);
    if (moved && !is_known_elsewhere(tx))
        find_shard(tx);
    return moved;
}

/* Replace the error, which is that the shard is missing. */
static void fail_moved(const hvi_transaction *tx, hv_error **error) {
    const hvi_target *target = &tx->target;
    hv_error *cause = *error;
    int holder = hvi_router_holder(target->router, target->shard);
    *error = NULL;
    if (holder >= 0 && holder != target->server->number)
        hvi_fail(error, HV_MOVED, "shard %d has moved to server \"%s\"", target->shard,
                 target->router->servers[holder].name);
    else
        hvi_fail(error, HV_MOVED, "shard %d moves, from server \"%s\" or to it", target->shard,
                 server_of(tx));
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_hint(error, "Begin the transaction again.");
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    hvi_error_where(error, server_of(tx), target->shard);
    hv_error_free(cause);
}

hv_status hvi_transaction_fail(hvi_transaction *tx, hv_error **error) {
    if (tx->failure == NULL) {
        if (is_missing(*error) && has_moved(tx))
            fail_moved(tx, error);
        tx->passes = may_pass(*error);
        if (tx->passes)
            hvi_error_retriable(error, true);
        tx->failure = hvi_error_copy(*error);
    }
    return hv_error_status(*error);
}

/* The same with an error that was just made, and goes to the caller. */
static hv_status fail_with(hvi_transaction *tx, hv_error **cause, hv_error **error) {
    hvi_error_where(cause, server_of(tx), tx->target.shard);
    hvi_transaction_fail(tx, cause);
    return hvi_error_move(error, cause);
}

/* For the caller of a later operation. */
static hv_status fail_again(const hvi_transaction *tx, hv_error **error) {
    const hv_error *failure = tx->failure;
    hv_status status = hvi_fail(error, hv_error_status(failure),
                                "an earlier operation of the transaction has failed");
    hvi_error_detail(error, "It failed with: %s", hv_error_message(failure));
    hvi_error_sqlstate(error, hv_error_sqlstate(failure));
    hvi_error_where(error, server_of(tx), tx->target.shard);
    return status;
}

/* ---- the state of the connection ---- */

bool hvi_transaction_was_ended(const hvi_transaction *tx) {
    return tx->session != NULL && !tx->session->broken &&
           PQtransactionStatus(tx->session->conn) == PQTRANS_IDLE;
}

bool hvi_transaction_is_lost(const hvi_transaction *tx) {
    return tx->session->broken || PQstatus(tx->session->conn) != CONNECTION_OK;
}

bool hvi_transaction_is_aborted(const hvi_transaction *tx) {
    return tx->session != NULL && tx->failure == NULL &&
           PQtransactionStatus(tx->session->conn) == PQTRANS_INERROR;
}

/* What the caller has left on the connection; HV_OK: the transaction, open and at rest. */
static hv_status check_connection(const hvi_transaction *tx, hv_error **error) {
    PGconn *conn = tx->session->conn;
    if (hvi_transaction_is_lost(tx))
        return hvi_fail_lost(server_of(tx), tx->target.shard, error);
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF) {
        hvi_fail(error, HV_INVALID, "the transaction's connection is in pipeline mode");
        hvi_error_hint(error, "End it with PQexitPipelineMode().");
        return HV_INVALID;
    }
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_INTRANS:
        break;
    case PQTRANS_IDLE:
        hvi_fail(error, HV_OUTCOME_UNKNOWN,
                 "the transaction was ended by a statement on its connection");
        hvi_error_hint(error, "It may have been committed, in part or as a whole. Do not send "
                              "COMMIT or ROLLBACK there.");
        return HV_OUTCOME_UNKNOWN;
    case PQTRANS_INERROR:
        hvi_fail(error, HV_INVALID, "a statement on the transaction's connection has failed");
        hvi_error_hint(error, "Pass the results of your own statements to hv_tx_check(): then the "
                              "transaction knows the reason, and begins again if that may pass.");
        return HV_INVALID;
    default:
        hvi_fail(error, HV_INVALID,
                 "a statement or COPY is in progress on the transaction's connection");
        hvi_error_hint(error, "Read all of its results.");
        return HV_INVALID;
    }
    if (PQclientEncoding(conn) != tx->session->config->utf8) {
        hvi_fail(error, HV_INVALID, "the transaction's connection has another client encoding");
        hvi_error_hint(error, "Leave client_encoding at UTF8.");
        return HV_INVALID;
    }
    return HV_OK;
}

hv_status hvi_transaction_check_state(hvi_transaction *tx, hv_error **error) {
    hv_error *cause = NULL;
    if (tx->failure != NULL)
        return fail_again(tx, error);
    hv_status status = check_connection(tx, &cause);
    if (status == HV_OK && hvi_is_late(tx->deadline))
        status = fail_late(tx, &cause);
    return status == HV_OK ? HV_OK : fail_with(tx, &cause, error);
}

hv_status hvi_transaction_check_shard(const hvi_transaction *tx, int shard, hv_error **error) {
    if (shard == tx->target.shard)
        return HV_OK;
    hvi_fail(error, HV_INVALID, "the transaction is in shard %d, not in shard %d", tx->target.shard,
             shard);
    hvi_error_hint(error, "One transaction is in one shard.");
    hvi_error_where(error, server_of(tx), tx->target.shard);
    return HV_INVALID;
}

hv_status hvi_transaction_check_key(const hvi_transaction *tx, int64_t key, hv_error **error) {
    hvi_key_fields fields;
    hv_status status = hvi_check_key(key, &fields, error);
    if (status != HV_OK || fields.shard == tx->target.shard)
        return status;
    hvi_fail(error, HV_INVALID,
             "the transaction is in shard %d, and the key %" PRId64 " is of shard %d",
             tx->target.shard, key, fields.shard);
    hvi_error_hint(error, "One transaction is in one shard.");
    hvi_error_where(error, server_of(tx), tx->target.shard);
    return HV_INVALID;
}

/* ---- operations ---- */

static hvi_next send(hvi_transaction *tx, hvi_operation *op) {
    hvi_batch batch;
    hvi_item *item = &op->item;
    const hvi_log *log = &tx->session->config->log;
    hvi_operation_prepare(op);
    hvi_batch_init(&batch, &item, 1);
    batch.in_transaction = true;
    batch.log = log->fn != NULL && log->parameters;
    hvi_batch_start(&batch, tx->session, op->apart);
    hvi_batch_await(&batch, op->deadline);
    hvi_batch_finish(&batch);
    hvi_next next = hvi_operation_take(op);
    hvi_batch_fini(&batch);
    return next;
}

/* A made key that has an entity: the next transaction makes another. */
static bool is_collision(const hvi_operation *op) {
    return op->verb == &hvi_put && hvi_refusal_is_key_collision(op->error);
}

static bool has_failed(const hvi_operation *op) {
    return op->status != HV_OK && op->status != HV_NOT_FOUND && op->status != HV_CHANGED;
}

void hvi_transaction_run(hvi_transaction *tx, hvi_operation *op) {
    PGconn *conn = tx->session->conn;
    hvi_next next;
    op->in_transaction = true;
    op->deadline = tx->deadline;
    op->target.server = tx->target.server;
    if (tx->is_lent)
        PQsetnonblocking(conn, 1);
    while ((next = send(tx, op)) != HVI_DONE)
        if (next == HVI_PAUSE && !hvi_operation_wait(op))
            break;
    if (tx->is_lent)
        hvi_session_prepare_lending(tx->session);
    if (!has_failed(op))
        return;
    if (is_collision(op))
        hvi_refusal_explain_collision(&op->error);
    op->status = hvi_transaction_fail(tx, &op->error);
    tx->passes = tx->passes || is_collision(op);
}

/* ---- the caller's own statements ---- */

PGconn *hvi_transaction_lend(hvi_transaction *tx) {
    if (!tx->is_lent)
        hvi_session_prepare_lending(tx->session);
    tx->is_lent = true;
    return tx->session->conn;
}

static hv_status fail_lost(hvi_transaction *tx, const char *sqlstate, const char *why,
                           hv_error **error) {
    hv_error *cause = NULL;
    tx->session->broken = true;
    hvi_fail_lost(server_of(tx), tx->target.shard, &cause);
    int len = why != NULL ? (int) strcspn(why, "\n") : 0;
    if (len > 0)
        hvi_error_detail(&cause, "%.*s", len, why);
    hvi_error_sqlstate(&cause, sqlstate);
    return fail_with(tx, &cause, error);
}

hv_status hvi_transaction_check(hvi_transaction *tx, const PGresult *result, hv_error **error) {
    hv_error *cause = NULL;
    if (result != NULL && hvi_result_is_good(result) && !hvi_transaction_is_lost(tx))
        return HV_OK;
    if (hvi_transaction_is_lost(tx))
        return fail_lost(tx, PQresultErrorField(result, PG_DIAG_SQLSTATE),
                         PQerrorMessage(tx->session->conn), error);
    if (result == NULL)
        hvi_no_memory(&cause);
    else
        hvi_fail_refused(server_of(tx), tx->target.shard, result, &cause);
    return fail_with(tx, &cause, error);
}

hv_status hvi_transaction_failed(hvi_transaction *tx, const char *sqlstate, const char *message,
                                 hv_error **error) {
    hv_error *cause = NULL;
    if (message == NULL)
        message = "the statement has failed";
    if (hvi_transaction_is_lost(tx))
        return fail_lost(tx, sqlstate, message, error);
    hvi_fail(&cause, HV_REFUSED, "%.*s", (int) strcspn(message, "\n"), message);
    hvi_error_sqlstate(&cause, sqlstate);
    hvi_error_refusal(&cause, hvi_refusal_of(sqlstate, message, NULL));
    return fail_with(tx, &cause, error);
}

/* ---- the end ---- */

/* The server answers ROLLBACK to the COMMIT of a transaction that has failed. */
static hv_status check_committed(const hvi_transaction *tx, const char *answer, hv_error **error) {
    if (strcmp(answer, "COMMIT") == 0)
        return HV_OK;
    if (strcmp(answer, "ROLLBACK") == 0)
        return hvi_fail(error, HV_REFUSED, "the server has rolled the transaction back");
    tx->session->broken = true;
    return hvi_fail(error, HV_OUTCOME_UNKNOWN, "unexpected answer from server \"%s\" to COMMIT",
                    server_of(tx));
}

hv_status hvi_transaction_commit(hvi_transaction *tx, hv_error **error) {
    PGresult *result = NULL;
    hv_error *cause = NULL;
    hv_status status = hvi_transaction_was_ended(tx) ? check_connection(tx, error)
                                                     : hvi_transaction_check_state(tx, error);
    if (status != HV_OK) {
        hvi_transaction_rollback(tx);
        return status;
    }
    PQsetnonblocking(tx->session->conn, 1);
    status = hvi_session_script(tx->session, "COMMIT", tx->target.shard, true, tx->deadline,
                                &result, &cause);
    if (status == HV_OK)
        status = check_committed(tx, PQcmdStatus(result), &cause);
    PQclear(result);
    if (status == HV_OUTCOME_UNKNOWN)
        hvi_error_hint(&cause, "The transaction may or may not have been committed: check before "
                               "you repeat it.");
    release(tx);
    return status == HV_OK ? HV_OK : fail_with(tx, &cause, error);
}

void hvi_transaction_rollback(hvi_transaction *tx) {
    hvi_session *session = tx->session;
    if (session == NULL)
        return;
    int64_t deadline = hvi_deadline_after(ROLLBACK_MS);
    PGTransactionStatusType state = PQtransactionStatus(session->conn);
    bool is_open = state == PQTRANS_INTRANS || state == PQTRANS_INERROR;
    bool at_rest =
        PQpipelineStatus(session->conn) == PQ_PIPELINE_OFF && (is_open || state == PQTRANS_IDLE);
    if (!at_rest)
        session->broken = true; /* in the middle of something: it is closed */
    if (!session->broken && is_open) {
        PQsetnonblocking(session->conn, 1);
        hvi_session_script(session, "ROLLBACK", tx->target.shard, false, deadline, NULL, NULL);
    }
    if (!session->broken && hvi_refusal_is_stale(tx->failure))
        hvi_session_mend(session, tx->failure, deadline);
    release(tx);
}
