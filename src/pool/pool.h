/*
 * pool: the bounded connections of one server: borrow, return, wait in order, retire.
 *
 * At most `max` sessions exist at once, including those being opened and closed. They are opened
 * when needed, and opened and closed without the lock. The session that was returned last is lent
 * first: it is the warmest, and the others can expire. Callers that find none wait in a queue, each
 * until its own deadline; a returned session goes to the oldest waiter, unless sessions are lent
 * for microseconds and another thread is quicker (see slots). The right to open a new session in
 * place of a closed one always goes to the oldest waiter.
 *
 * A server that could not be reached, or is full, is not flooded: until an attempt succeeds, one
 * caller at a time tries, HVI_SLOTS_RETRY_MS after the last failure. The others meanwhile wait for
 * a session to be returned or, if none is lent, get the last error at once.
 *
 * Expired sessions are closed when the pool is used: the library has no thread that could do it.
 *
 * Thread-safe. A forked child starts empty.
 */
#ifndef HVI_POOL_H
#define HVI_POOL_H

#include "base/fork.h"
#include "wire/session_open.h"
#include "pool/slots.h"

typedef struct hvi_pool_config {
    hvi_session_config session;
    int max;
    int64_t max_lifetime_us;    /* 0: no limit */
    int64_t idle_timeout_us;    /* 0: no limit */
    hvi_session_check_fn check; /* of each new session; NULL: none */
    void *check_context;
} hvi_pool_config;

typedef struct hvi_pool {
    hvi_fork_member fork;
    hvi_pool_config config; /* immutable */

    pthread_mutex_t lock; /* guards everything below */
    hvi_slots slots;
    unsigned generation; /* sessions of an older one are closed when they come back */
    int64_t lost_at;     /* when a session last proved unfit, hvi_clock_us() */
    hvi_list orphans;    /* in a forked child: the parent's idle sessions, to be abandoned */
    hvi_list inherited;  /* … and its lent ones, which may still be returned here */
} hvi_pool;

/* Everything that `config` points to must outlive the pool. */
hv_status hvi_pool_init(hvi_pool *pool, const hvi_pool_config *config, hv_error **error);

/* Nothing may be lent, and no caller may wait. */
void hvi_pool_fini(hvi_pool *pool);

/* Borrow a session. Errors: HV_TIMEOUT, HV_UNAVAILABLE, HV_CLOSED, HV_NO_MEMORY, and those of the
 * check. */
hv_status hvi_pool_acquire(hvi_pool *pool, int64_t deadline, hvi_session **session,
                           hv_error **error);

/* The same for a caller that only reads, and tries again if the connection proves lost: a session
 * that was seen alive a moment ago is not checked, unless another has proved unfit since. */
hv_status hvi_pool_acquire_to_read(hvi_pool *pool, int64_t deadline, hvi_session **session,
                                   hv_error **error);

/*
 * The same without waiting. HVI_TURN_SESSION: *session is lent. HVI_TURN_OPEN, only if `may_open`:
 * the caller opens a session with hvi_pool_start_opening(). HVI_TURN_WAIT: there is none now. The
 * others come with an error.
 */
hvi_turn hvi_pool_try(hvi_pool *pool, bool may_open, hvi_session **session, hv_error **error);

/* A caller that waits in a pool's queue without sleeping. */
typedef struct hvi_pool_waiter {
    hvi_waiter waiter;
    bool is_queued;
    int64_t poll_at; /* call hvi_pool_poll() at this moment, unless notified before */
} hvi_pool_waiter;

/* Join the queue, after HVI_TURN_WAIT. `event`, an eventfd(2), is written to when the caller should
 * poll. `again`: its turn had come already, so it is first. */
void hvi_pool_enqueue(hvi_pool *pool, hvi_pool_waiter *waiter, int event, bool again);

/* See whether the caller's turn has come: as hvi_pool_try() with `may_open`. Unless it returns
 * HVI_TURN_WAIT, the caller has left the queue. */
hvi_turn hvi_pool_poll(hvi_pool *pool, hvi_pool_waiter *waiter, hvi_session **session,
                       hv_error **error);

/* Leave the queue, and return what it has granted meanwhile. Sets the error of a wait whose
 * deadline has passed, and returns its status. */
hv_status hvi_pool_dequeue(hvi_pool *pool, hvi_pool_waiter *waiter, hv_error **error);

/* Opening without waiting, after HVI_TURN_OPEN. */
typedef struct hvi_pool_opening {
    hvi_opening opening;
    unsigned generation;
    int64_t started;
} hvi_pool_opening;

/* Begin; go on with hvi_opening_advance(). */
void hvi_pool_start_opening(hvi_pool *pool, hvi_pool_opening *opening, int64_t deadline);

/*
 * Finish an attempt that is over, or give it up because it takes too long. On HV_OK *session is
 * lent. Otherwise the slot is free again, and *again is set if the server is full but sessions of
 * this pool may come free: try again, first in the queue.
 */
hv_status hvi_pool_finish_opening(hvi_pool *pool, hvi_pool_opening *opening, hvi_session **session,
                                  bool *again, hv_error **error);

/* Give an attempt up without counting it against the server. */
void hvi_pool_cancel_opening(hvi_pool *pool, hvi_pool_opening *opening);

/* Return a session, in any state. */
void hvi_pool_release(hvi_pool *pool, hvi_session *session);

/*
 * The quick way to acquire and lend: the connection of an idle session that was checked a moment
 * ago or, with `may_check`, is checked now. NULL if there is none, or if something must be opened,
 * closed or waited for.
 */
PGconn *hvi_pool_lend_idle(hvi_pool *pool, bool may_check);

/* Lend the connection of an acquired session to a borrower, which returns it by its pointer. */
void hvi_pool_lend(hvi_pool *pool, hvi_session *session);

/*
 * Take a connection back from its borrower: release its session, or close it unless `keep`. False
 * if this pool has not lent this connection, or has it back already. In a forked child, a
 * connection that the parent had lent is forgotten. The pointer is only compared: any value is
 * safe.
 */
bool hvi_pool_take_back(hvi_pool *pool, const PGconn *conn, bool keep);

/* The connector's handle for this connection, which is lent to a borrower or in use; false if it is
 * none of this pool. The pointer is only compared. */
bool hvi_pool_handle(hvi_pool *pool, const PGconn *conn, void **handle);

/* Close idle sessions now and lent ones when they are returned; with `anew` also reset the
 * statistics and forget that the server could not be reached. */
void hvi_pool_disconnect(hvi_pool *pool, bool anew);

/* Fail new and waiting borrowers with HV_CLOSED; close idle sessions. */
void hvi_pool_close(hvi_pool *pool);

/* The number of sessions that are lent or being opened, and of callers that wait. */
int hvi_pool_users(hvi_pool *pool);

int64_t hvi_pool_stat(hvi_pool *pool, hv_stat stat);

/* HV_TIMEOUT: there was none in time, or the wait was interrupted; `what`: "connection". */
hv_status hvi_fail_waiting(const char *server, const char *what, hv_error **error);

#endif
