/*
 * transaction: operations on one shard, and SQL of the caller's own, in one transaction on one
 * session.
 *
 *                 begin                       fail
 *     (no session) ──► OPEN ──────────────────────────────────► DOOMED
 *                       │ commit, rollback                        │ rollback
 *                       ▼                                         ▼
 *                      OVER: the session is back in its pool ◄────┘
 *
 * An operation takes the steps that it takes alone, but all of them in this transaction, and none
 * is repeated after a failure: the transaction fails with the first one, and is the caller's to
 * begin again as a whole. Whether that is worth it is known where the failure is. If the shard was
 * missing, it is found out at once whether it has moved: then the failure is HV_MOVED.
 */
#ifndef HVI_TRANSACTION_H
#define HVI_TRANSACTION_H

#include "entity/operation.h"

typedef struct hvi_transaction {
    hvi_target target;
    int64_t deadline;     /* of all its statements */
    hvi_session *session; /* acquired; NULL: it has not begun, or is over */
    bool is_lent;         /* the caller has its connection, too */
    hv_error *failure;    /* the first one, which has doomed it; owned; NULL: none */
    bool passes;          /* … but may not come again, if all of it is done again */
    int64_t generation;   /* of the shard, as far as was known when it began */
    int64_t began;        /* µs: see base/clock.h */
} hvi_transaction;

/* Set it up; nothing is sent. Errors: as hvi_target_init(). */
hv_status hvi_transaction_init(hvi_transaction *tx, hvi_router *router, int shard,
                               hv_error **error);

/* Ends it, if it has begun. */
void hvi_transaction_fini(hvi_transaction *tx);

/* Let it begin on this server, which has the shard now. */
void hvi_transaction_turn_to(hvi_transaction *tx, hvi_server *server);

/*
 * Begin, on a session of the pool. *had_session: there was one, and so it is the server that failed
 * or a connection that was lost. Errors: as hvi_pool_acquire() and of a statement that writes
 * nothing; HV_INVALID.
 */
hv_status hvi_transaction_begin(hvi_transaction *tx, hv_isolation isolation, int64_t deadline,
                                bool *had_session, hv_error **error);

/* Is there a key of another shard, or another shard? HV_INVALID. */
hv_status hvi_transaction_check_key(const hvi_transaction *tx, int64_t key, hv_error **error);
hv_status hvi_transaction_check_shard(const hvi_transaction *tx, int shard, hv_error **error);

/* Run an operation that was set up until it is done. If it fails, so does the transaction. */
void hvi_transaction_run(hvi_transaction *tx, hvi_operation *operation);

/* The transaction fails with this error, unless it has failed before. An error that may pass
 * becomes retriable. Returns its status. */
hv_status hvi_transaction_fail(hvi_transaction *tx, hv_error **error);

/* The connection for the caller's own SQL. */
PGconn *hvi_transaction_lend(hvi_transaction *tx);

/* See hv_tx_check() and hv_tx_failed(). */
hv_status hvi_transaction_check(hvi_transaction *tx, const PGresult *result, hv_error **error);
hv_status hvi_transaction_failed(hvi_transaction *tx, const char *sqlstate, const char *message,
                                 hv_error **error);

/*
 * Can it go on? Otherwise it fails: because of an earlier failure, of what the caller has left on
 * the connection, or because it is too late.
 */
hv_status hvi_transaction_check_state(hvi_transaction *tx, hv_error **error);

/* Has a statement of the caller's ended it? Then what was done in it may be committed. */
bool hvi_transaction_was_ended(const hvi_transaction *tx);

/* Is the connection lost? */
bool hvi_transaction_is_lost(const hvi_transaction *tx);

/* Is a statement of the caller's the reason why it cannot go on, of which only the connection
 * knows? */
bool hvi_transaction_is_aborted(const hvi_transaction *tx);

/* Both end it. A commit that fails has committed nothing, unless it is HV_OUTCOME_UNKNOWN, and sets
 * `failure` and `passes`. */
hv_status hvi_transaction_commit(hvi_transaction *tx, hv_error **error);
void hvi_transaction_rollback(hvi_transaction *tx);

/* In a forked child: forget the session, which is the parent's. */
void hvi_transaction_forget(hvi_transaction *tx);

#endif
