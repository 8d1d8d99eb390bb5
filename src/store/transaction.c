/*
 * transaction: the public functions of transactions: their steps, and the function that begins them
 * again.
 *
 *     hv_transaction():
 *                            ┌── a reason that may pass: pause; or the shard ◄──┐
 *                            │   has moved: turn to the server that has it      │
 *                            ▼                                                  │
 *         enter the store ─► begin ─► work ─► commit, or roll back ─────────────┴─► leave, result
 *
 * What counts as the result when `work` has failed in one way and the transaction in another is
 * decided in end_call().
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/hash.h"
#include "value/limits.h"
#include "entity/change.h"
#include "entity/get.h"
#include "entity/lane.h"
#include "entity/locate.h"
#include "entity/put.h"
#include "entity/transaction.h"
#include "store/store.h"

/* The pauses before a transaction is begun again: up to the first one, then up to twice as much
 * each time, ms. */
#define PAUSE_MIN_MS 2
#define PAUSE_MAX_MS 100

struct hv_tx {
    hv_store *store;
    hvi_transaction transaction;
    hv_isolation isolation;
    unsigned generation; /* hvi_fork_generation() when it was made */
    int call;            /* of `work`, from 1 */
};

/* Of a thread: the stores in whose hv_transaction() it is. */
typedef struct frame {
    const hv_store *store;
    unsigned generation; /* hvi_fork_generation(): a forked child is in none of its parent's */
    struct frame *outer;
} frame;

static _Thread_local frame *running;

/* ---- setting up ---- */

/* The thread would wait for itself if the inner transaction needed what the outer one has locked,
 * and the inner one's changes would stay if the outer one was rolled back. */
static hv_status check_not_nested(const hv_store *store, hv_error **error) {
    for (const frame *at = running; at != NULL; at = at->outer)
        if (at->store == store && at->generation == hvi_fork_generation()) {
            hvi_fail(error, HV_INVALID, "a transaction cannot begin within another one");
            hvi_error_hint(error, "Use the one that is running: pass it on. For a part that can be "
                                  "undone alone, send SAVEPOINT on its connection.");
            return HV_INVALID;
        }
    return HV_OK;
}

static hv_status init_tx(hv_tx *tx, hv_store *store, int shard, hv_isolation isolation,
                         int64_t timeout, int64_t *deadline, hv_error **error) {
    *tx = (hv_tx){.store = store, .isolation = isolation, .generation = hvi_fork_generation()};
    hv_status status = hvi_transaction_init(&tx->transaction, &store->router, shard, error);
    if (status == HV_OK && timeout < 0)
        status = hvi_fail(error, HV_INVALID, "the timeout of a transaction is negative");
    if (status == HV_OK)
        status = check_not_nested(store, error);
    *deadline =
        timeout > 0 ? hvi_deadline_after(timeout) : hvi_router_operation_deadline(&store->router);
    return status;
}

static bool is_foreign(const hv_tx *tx) {
    return hvi_store_is_foreign(tx->generation);
}

static hv_status fail_foreign(hv_error **error) {
    return hvi_fail(error, HV_INVALID, "the transaction is another process's");
}

/* ---- in steps ---- */

/* Begin; once more if the connection, which may have been idle for long, proves lost. *lost: so did
 * the second one. */
static hv_status begin(hv_tx *tx, int64_t deadline, bool *lost, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = HV_UNAVAILABLE;
    *lost = true;
    for (int try = 0; try < 2 && *lost; try++) {
        status = hvi_transaction_begin(&tx->transaction, tx->isolation, deadline, lost, &cause);
        *lost = *lost && status == HV_UNAVAILABLE;
    }
    tx->call = 1;
    if (status == HV_OK)
        hv_error_free(cause);
    else
        hvi_error_move(error, &cause);
    return status;
}

static hv_status make_tx(hv_store *store, int shard, hv_isolation isolation, int64_t timeout,
                         hv_tx **tx, hv_error **error) {
    bool lost;
    int64_t deadline;
    hv_tx *made = malloc(sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    hv_status status = init_tx(made, store, shard, isolation, timeout, &deadline, error);
    if (status == HV_OK)
        status = begin(made, deadline, &lost, error);
    if (status != HV_OK) {
        hvi_transaction_fini(&made->transaction);
        free(made);
        return status;
    }
    *tx = made;
    return HV_OK;
}

hv_status hv_begin(hv_store *store, int shard, hv_isolation isolation, int64_t timeout, hv_tx **tx,
                   hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave_object(&visit, make_tx(store, shard, isolation, timeout, tx, error));
}

/* The last use of a transaction that hv_begin() has made. */
static void free_tx(hv_tx *tx) {
    hv_store *store = tx->store;
    bool foreign = is_foreign(tx);
    if (foreign)
        hvi_transaction_forget(&tx->transaction);
    hvi_transaction_fini(&tx->transaction);
    free(tx);
    if (!foreign)
        hvi_store_drop_object(store);
}

static hv_status fail_doomed(const hvi_transaction *tx, hv_error **error) {
    const hv_error *failure = tx->failure;
    hvi_fail(error, HV_INVALID,
             "the transaction cannot be committed: an operation in it has failed");
    hvi_error_detail(error, "It failed with: %s", hv_error_message(failure));
    hvi_error_hint(error, "Let the function of the transaction return the status of an operation "
                          "that fails.");
    hvi_error_sqlstate(error, hv_error_sqlstate(failure));
    hvi_error_where(error, tx->target.server->name, tx->target.shard);
    return HV_INVALID;
}

/* The failure itself, since the caller may begin again because of it. */
static hv_status fail_again(const hvi_transaction *tx, hv_error **error) {
    hv_error *failure = hvi_error_copy(tx->failure);
    return hvi_error_move(error, &failure);
}

hv_status hv_commit(hv_tx *tx, hv_error **error) {
    hv_status status;
    hvi_interruptible operation;
    if (is_foreign(tx)) {
        free_tx(tx);
        return fail_foreign(error);
    }
    hvi_interrupt_begin(&operation, hvi_router_interrupt(&tx->store->router));
    if (tx->transaction.failure == NULL || hvi_transaction_was_ended(&tx->transaction))
        status = hvi_transaction_commit(&tx->transaction, error);
    else if (tx->transaction.passes)
        status = fail_again(&tx->transaction, error);
    else
        status = fail_doomed(&tx->transaction, error);
    hvi_interrupt_end(&operation);
    free_tx(tx);
    return status;
}

void hv_rollback(hv_tx *tx) {
    if (tx != NULL)
        free_tx(tx);
}

/* ---- with a function ---- */

/* How one call of `work` has ended. */
typedef struct outcome {
    hv_status status;
    hv_error *error; /* owned; may be NULL */
    bool again;      /* the transaction may begin again */
} outcome;

/* `work` has returned a failure: what it has set as the error, or one that says what is known. */
static void complete_error(const hvi_transaction *tx, outcome *end) {
    hv_status status = end->status;
    if (status == HV_NOT_FOUND || status == HV_CHANGED) {
        hv_error_free(end->error);
        end->error = NULL;
        return;
    }
    if (end->error == NULL && (int) status > 0 && status <= HV_MOVED) {
        hvi_fail(&end->error, status, "the transaction's function returned %s, without an error",
                 hv_status_name(status));
    } else if (end->error == NULL) {
        end->status =
            hvi_fail(&end->error, HV_INVALID,
                     "the transaction's function returned %d, which is no status", (int) status);
    }
    if (tx->failure != NULL && hv_error_detail(end->error) == NULL)
        hvi_error_detail(&end->error, "An operation in it has failed with: %s",
                         hv_error_message(tx->failure));
    if (hvi_transaction_is_aborted(tx) && hv_error_hint(end->error) == NULL)
        hvi_error_hint(&end->error, "A statement on the transaction's connection has failed. Pass "
                                    "the results of your own statements to hv_tx_check(): then the "
                                    "transaction begins again if the reason may pass.");
}

/* `work` has returned: commit or roll back. */
static void end_call(hvi_transaction *tx, outcome *end) {
    if (end->status == HV_OK) {
        hv_error_free(end->error);
        end->error = NULL;
    }
    if (hvi_transaction_was_ended(tx) || (end->status == HV_OK && tx->failure == NULL)) {
        end->status = hvi_transaction_commit(tx, &end->error);
        bool is_settled = end->status == HV_OK || end->status == HV_OUTCOME_UNKNOWN;
        end->again = !is_settled && tx->passes;
        return;
    }
    /* What `work` has not seen, the connection may have. */
    if (tx->failure == NULL && hvi_transaction_is_lost(tx))
        hvi_transaction_check_state(tx, NULL);
    end->again = tx->failure != NULL && tx->passes;
    if (end->again) {
        end->status = fail_again(tx, &end->error);
    } else if (end->status == HV_OK) {
        end->status = fail_doomed(tx, &end->error);
    } else {
        complete_error(tx, end);
    }
    hvi_transaction_rollback(tx);
}

/* A time that differs between transactions that have run into each other, up to a limit. */
static int64_t draw_pause(const hv_tx *tx) {
    int64_t most = PAUSE_MIN_MS;
    for (int i = 1; i < tx->call && most < PAUSE_MAX_MS; i++)
        most *= 2;
    if (most > PAUSE_MAX_MS)
        most = PAUSE_MAX_MS;
    const int64_t drawn_from[] = {hvi_clock_us(), (intptr_t) tx, tx->call};
    return (int64_t) (hvi_hash(drawn_from, sizeof drawn_from) % (uint64_t) most) + 1;
}

/* The time or the calls are used up. */
static void explain_again(const hv_tx *tx, outcome *end) {
    const char *detail = hv_error_detail(end->error);
    if (tx->call < 2)
        return;
    if (detail != NULL)
        hvi_error_detail(&end->error, "%s (the transaction was tried %d times)", detail, tx->call);
    else
        hvi_error_detail(&end->error, "The transaction was tried %d times.", tx->call);
}

/* Turn to the server that has the shard now; false, with an error, if there is none. If it has just
 * been missing, that is looked into. */
static bool turn(hv_tx *tx, int64_t deadline, outcome *end) {
    hvi_operation op;
    hvi_router *router = &tx->store->router;
    int shard = tx->transaction.target.shard;
    bool is_missing = end->status == HV_MOVED;
    end->status = hvi_where_init(&op, router, shard, &end->error);
    if (end->status == HV_OK && is_missing) {
        op.deadline = deadline;
        hvi_lanes_run(&op);
        end->status = op.status;
        if (op.error != NULL)
            hvi_error_move(&end->error, &op.error);
    }
    if (end->status == HV_OK)
        hvi_transaction_turn_to(&tx->transaction, op.target.server);
    hvi_operation_fini(&op);
    return end->status == HV_OK;
}

/* Begin, after a connection was lost, a call has failed or the shard has moved, as soon as there is
 * a connection. */
static void begin_again(hv_tx *tx, int64_t deadline, outcome *end) {
    bool had_session;
    hv_error *cause = NULL;
    if (!turn(tx, deadline, end))
        return;
    for (;;) {
        end->status =
            hvi_transaction_begin(&tx->transaction, tx->isolation, deadline, &had_session, &cause);
        end->again = end->status != HV_OK && hv_error_retriable(cause);
        if (!end->again || hvi_is_late(deadline) || !hvi_pause(draw_pause(tx)))
            break;
    }
    if (end->status == HV_OK) {
        hv_error_free(end->error);
        end->error = NULL;
        hv_error_free(cause);
    } else {
        hvi_error_move(&end->error, &cause);
    }
}

/* Run `work` until it is committed, or has failed for good. */
static void run_calls(hv_tx *tx, int64_t deadline, hv_transaction_fn work, void *context,
                      outcome *end) {
    bool lost;
    end->status = begin(tx, deadline, &lost, &end->error);
    if (lost)
        begin_again(tx, deadline, end);
    while (end->status == HV_OK) {
        end->again = false;
        end->status = work(tx, context, &end->error);
        if (is_foreign(tx)) {
            hvi_transaction_forget(&tx->transaction);
            end->status = fail_foreign(&end->error);
            return;
        }
        end_call(&tx->transaction, end);
        if (!end->again)
            return;
        int64_t pause = end->status == HV_MOVED ? 0 : draw_pause(tx);
        if (tx->call == HV_TRANSACTION_CALLS || hvi_is_late(deadline - 1000 * pause) ||
            (pause > 0 && !hvi_pause(pause)))
            break;
        tx->call++;
        begin_again(tx, deadline, end);
    }
    if (end->error != NULL)
        explain_again(tx, end);
}

hv_status hv_transaction(hv_store *store, int shard, hv_isolation isolation, int64_t timeout,
                         hv_transaction_fn work, void *context, hv_error **error) {
    hv_tx tx;
    hvi_visit visit;
    int64_t deadline;
    outcome end = {HV_OK, NULL, false};
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = init_tx(&tx, store, shard, isolation, timeout, &deadline, error);
    if (status != HV_OK)
        return hvi_store_leave(&visit, status);
    frame own = {.store = store, .generation = tx.generation, .outer = running};
    running = &own;
    run_calls(&tx, deadline, work, context, &end);
    running = own.outer;
    hvi_transaction_fini(&tx.transaction);
    if (end.error != NULL)
        hvi_error_move(error, &end.error);
    if (is_foreign(&tx)) {
        hvi_interrupt_end(&visit.operation);
        return end.status;
    }
    return hvi_store_leave(&visit, end.status);
}

/* ---- what is known of one ---- */

int hv_tx_call(const hv_tx *tx) {
    return tx->call;
}

PGconn *hv_tx_connection(hv_tx *tx) {
    return is_foreign(tx) ? NULL : hvi_transaction_lend(&tx->transaction);
}

/* Both may ask the server whether the shard has moved. */
hv_status hv_tx_check(hv_tx *tx, const PGresult *result, hv_error **error) {
    if (is_foreign(tx))
        return fail_foreign(error);
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(&tx->store->router));
    hv_status status = hvi_transaction_check(&tx->transaction, result, error);
    hvi_interrupt_end(&operation);
    return status;
}

hv_status hv_tx_failed(hv_tx *tx, const char *sqlstate, const char *message, hv_error **error) {
    if (is_foreign(tx))
        return fail_foreign(error);
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(&tx->store->router));
    hv_status status = hvi_transaction_failed(&tx->transaction, sqlstate, message, error);
    hvi_interrupt_end(&operation);
    return status;
}

/* ---- operations ---- */

static hvi_router *router_of(const hv_tx *tx) {
    return &tx->store->router;
}

/* The transaction fails with an error that was found before anything was sent. */
static hv_status fail(hv_tx *tx, hv_error **cause, hv_error **error) {
    hvi_transaction_fail(&tx->transaction, cause);
    return hvi_error_move(error, cause);
}

/* Before an operation is set up: can the transaction go on? */
static hv_status enter(hv_tx *tx, hv_error **error) {
    return is_foreign(tx) ? fail_foreign(error)
                          : hvi_transaction_check_state(&tx->transaction, error);
}

static hv_status enter_key(hv_tx *tx, int64_t key, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = enter(tx, error);
    if (status != HV_OK)
        return status;
    status = hvi_transaction_check_key(&tx->transaction, key, &cause);
    return status == HV_OK ? HV_OK : fail(tx, &cause, error);
}

/* Run an operation that was set up with `status`, and *cause if that is a failure. If it has an
 * entity as a result, that goes to *entity. */
static hv_status run(hv_tx *tx, hvi_operation *op, hv_status status, hv_error **cause,
                     hv_entity **entity, hv_error **error) {
    hvi_interruptible operation;
    if (status == HV_OK)
        status = hvi_target_settle(&op->target, op->verb->is_write, cause);
    if (status == HV_OK) {
        hvi_interrupt_begin(&operation, hvi_router_interrupt(router_of(tx)));
        hvi_transaction_run(&tx->transaction, op);
        hvi_interrupt_end(&operation);
        status = op->status;
        if (op->error != NULL)
            hvi_error_move(error, &op->error);
    } else {
        fail(tx, cause, error);
    }
    if (op->entity != NULL && entity != NULL) {
        *entity = op->entity;
        op->entity = NULL;
    }
    hvi_operation_fini(op);
    return status;
}

hv_status hv_tx_put(hv_tx *tx, int shard, int kind, const hv_dict *dict, int64_t *key,
                    hv_error **error) {
    hvi_operation op;
    hv_error *cause = NULL;
    hv_status status = enter(tx, error);
    if (status != HV_OK)
        return status;
    status = hvi_transaction_check_shard(&tx->transaction, shard, &cause);
    if (status != HV_OK)
        return fail(tx, &cause, error);
    status = hvi_put_init(&op, router_of(tx), NULL, shard, kind, dict, &cause);
    status = run(tx, &op, status, &cause, NULL, error);
    if (status == HV_OK)
        *key = op.key;
    return status;
}

hv_status hv_tx_put_key(hv_tx *tx, int64_t key, int kind, const hv_dict *dict, hv_error **error) {
    hvi_operation op;
    hv_error *cause = NULL;
    hv_status status = enter_key(tx, key, error);
    if (status != HV_OK)
        return status;
    status = hvi_put_key_init(&op, router_of(tx), key, kind, dict, &cause);
    return run(tx, &op, status, &cause, NULL, error);
}

/* An operation that needs only a key. */
static hv_status run_key(hv_tx *tx, const hvi_verb *verb, int64_t key, hv_entity **entity,
                         hv_error **error) {
    hvi_operation op;
    hv_error *cause = NULL;
    hv_status status = enter_key(tx, key, error);
    if (status != HV_OK)
        return status;
    status = hvi_operation_init_key(&op, verb, router_of(tx), key, &cause);
    return run(tx, &op, status, &cause, entity, error);
}

hv_status hv_tx_get(hv_tx *tx, int64_t key, hv_entity **entity, hv_error **error) {
    return run_key(tx, &hvi_get, key, entity, error);
}

hv_status hv_tx_get_only(hv_tx *tx, int64_t key, const char *const *names, hv_entity **entity,
                         hv_error **error) {
    hvi_operation op;
    hv_error *cause = NULL;
    hv_status status = enter_key(tx, key, error);
    if (status != HV_OK)
        return status;
    status = hvi_get_only_init(&op, router_of(tx), key, names, &cause);
    return run(tx, &op, status, &cause, entity, error);
}

hv_status hv_tx_exists(hv_tx *tx, int64_t key, hv_error **error) {
    return run_key(tx, &hvi_exists, key, NULL, error);
}

static hv_status run_change(hv_tx *tx, const hv_change *change, hv_entity **entity,
                            hv_error **error) {
    hvi_operation op;
    hv_error *cause = NULL;
    if (entity != NULL)
        *entity = NULL;
    hv_status status = enter_key(tx, change->key, error);
    if (status != HV_OK)
        return status;
    status = hvi_change_init(&op, router_of(tx), change, false, &cause);
    return run(tx, &op, status, &cause, entity, error);
}

hv_status hv_tx_replace(hv_tx *tx, int64_t key, int kind, const hv_dict *dict,
                        const hv_condition *condition, hv_entity **present, hv_error **error) {
    const hv_change change = {
        .type = HV_REPLACE, .key = key, .kind = kind, .dict = dict, .condition = condition};
    return run_change(tx, &change, present, error);
}

hv_status hv_tx_merge(hv_tx *tx, int64_t key, const hv_dict *set, const char *const *remove,
                      const hv_condition *condition, hv_entity **present, hv_error **error) {
    const hv_change change = {
        .type = HV_MERGE, .key = key, .dict = set, .remove = remove, .condition = condition};
    return run_change(tx, &change, present, error);
}

hv_status hv_tx_increment(hv_tx *tx, int64_t key, const char *attribute, const char *amount,
                          const hv_condition *condition, hv_entity **entity, hv_error **error) {
    const hv_change change = {.type = HV_INCREMENT,
                              .key = key,
                              .attribute = attribute,
                              .amount = amount,
                              .condition = condition};
    return run_change(tx, &change, entity, error);
}

hv_status hv_tx_delete(hv_tx *tx, int64_t key, const hv_condition *condition, hv_entity **present,
                       hv_error **error) {
    const hv_change change = {.type = HV_DELETE, .key = key, .condition = condition};
    return run_change(tx, &change, present, error);
}
