/*
 * pool: the bounded connections of one server: borrow, return, wait in order, retire.
 *
 * At most `max` sessions exist at once, those being opened and closed included. They are opened
 * when needed, and opened and closed without the lock. The session that was returned last is lent
 * first: it is the warmest, and the others can grow old and go. Callers that find none wait in
 * line, each until its own deadline; a returned session goes to the one that waits longest, unless
 * sessions are lent for microseconds and somebody is quicker (see slots). So does the right to open
 * a new one in place of one that was closed, in any case.
 *
 * A server that could not be reached, or is full, is not stormed: until an attempt succeeds, one
 * caller at a time tries, HVI_SLOTS_RETRY_MS after the last failure. The others meanwhile wait for
 * a session to be returned, or, if none is lent, are told the last error at once.
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
    hvi_list orphans;    /* in a forked child: the parent's idle sessions, to be abandoned */
    hvi_list inherited;  /* … and its lent ones, which somebody may still return here */
} hvi_pool;

/* What `config` points at must outlive the pool. */
hv_status hvi_pool_init(hvi_pool *pool, const hvi_pool_config *config, hv_error **error);

/* Nothing may be lent, nobody may wait. */
void hvi_pool_fini(hvi_pool *pool);

/* Borrow a session. Errors: HV_TIMEOUT, HV_UNAVAILABLE, HV_CLOSED, HV_NO_MEMORY and what the check
 * gives. */
hv_status hvi_pool_acquire(hvi_pool *pool, int64_t deadline, hvi_session **session,
                           hv_error **error);

/*
 * The same for one who does not wait. HVI_TURN_SESSION: *session is lent to him. HVI_TURN_OPEN: he
 * shall open one, see hvi_pool_start_opening(), for which he must be `willing`. HVI_TURN_WAIT:
 * there is none now. The others come with an error.
 */
hvi_turn hvi_pool_try(hvi_pool *pool, bool willing, hvi_session **session, hv_error **error);

/* Somebody's place in a pool's line, without sleeping: `waiter.event` is told of news. */
typedef struct hvi_place {
    hvi_waiter waiter;
    bool taken;
    int64_t look_at; /* look at this moment, if not told before */
} hvi_place;

/* After HVI_TURN_WAIT. `again`: his turn had come already. */
void hvi_pool_stand_in_line(hvi_pool *pool, hvi_place *place, int event, bool again);

/* Is there news? As hvi_pool_try(); if it is not HVI_TURN_WAIT, the place is given up. */
hvi_turn hvi_pool_look(hvi_pool *pool, hvi_place *place, hvi_session **session, hv_error **error);

/* Give the place up, and what has come meanwhile back. The error is that of a deadline that passed
 * while waiting. */
hv_status hvi_pool_step_out(hvi_pool *pool, hvi_place *place, hv_error **error);

/* Opening without waiting, after HVI_TURN_OPEN. */
typedef struct hvi_pool_opening {
    hvi_opening opening;
    unsigned generation;
    int64_t started;
} hvi_pool_opening;

/* Begin; go on with hvi_opening_advance(). */
void hvi_pool_start_opening(hvi_pool *pool, hvi_pool_opening *opening, int64_t deadline);

/*
 * It is over, or given up for being late. On HV_OK *session is lent. Otherwise the slot is free
 * again; *again says that the server is full, but that sessions of ours may come free: try again,
 * first in line.
 */
hv_status hvi_pool_finish_opening(hvi_pool *pool, hvi_pool_opening *opening, hvi_session **session,
                                  bool *again, hv_error **error);

/* It is given up for no fault of the server. */
void hvi_pool_cancel_opening(hvi_pool *pool, hvi_pool_opening *opening);

/* Return it, whatever state it is in. */
void hvi_pool_release(hvi_pool *pool, hvi_session *session);

/*
 * The quick way to acquire and lend: the connection of an idle session that was seen alive a moment
 * ago or, if the caller `may_look`, now. NULL if there is none, or if there is something to open,
 * to close or to wait for.
 */
PGconn *hvi_pool_lend_idle(hvi_pool *pool, bool may_look);

/* Hand the connection of an acquired session to a borrower, who gives it back by its pointer. */
void hvi_pool_lend(hvi_pool *pool, hvi_session *session);

/*
 * The borrower returns it: release its session, or close it if he says not to `keep` it. False if
 * this pool has not lent this connection, or has it back already. In a forked child, one that the
 * parent had lent is forgotten. The pointer is only compared: any value is safe.
 */
bool hvi_pool_take_back(hvi_pool *pool, const PGconn *conn, bool keep);

/* What the connector gave for this lent connection; false if this pool has not lent it. */
bool hvi_pool_handle(hvi_pool *pool, const PGconn *conn, void **handle);

/* Close idle sessions now and lent ones when they come back; with `anew` also start statistics and
 * what is known about the server again. */
void hvi_pool_disconnect(hvi_pool *pool, bool anew);

/* Refuse new borrowers and send the waiting ones away with HV_CLOSED; close idle sessions. */
void hvi_pool_close(hvi_pool *pool);

/* Sessions that are lent or being opened, and callers that wait. */
int hvi_pool_users(hvi_pool *pool);

int64_t hvi_pool_stat(hvi_pool *pool, hv_stat stat);

#endif
