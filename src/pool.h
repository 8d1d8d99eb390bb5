/*
 * pool: the bounded connections of one server: borrow, return, wait in order, retire.
 *
 * At most `max` sessions exist at once, those being opened and closed included. They are opened
 * when needed, and opened and closed without the lock. The session that was returned last is lent
 * first: it is the warmest, and the others can grow old and go. Callers that find none wait in
 * line, each until its own deadline; a returned session goes to the one that waits longest, and so
 * does the right to open a new one in place of one that was closed.
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

#include "fork.h"
#include "session_open.h"
#include "slots.h"

/* Called with each new session before it is lent for the first time; on failure it is closed and
 * the borrower gets the error. */
typedef hv_status (*hvi_pool_check_fn)(void *context, hvi_session *session, int64_t deadline,
                                       hv_error **error);

typedef struct hvi_pool_config {
    hvi_session_config session;
    int max;
    int64_t max_lifetime_us; /* 0: no limit */
    int64_t idle_timeout_us; /* 0: no limit */
    hvi_pool_check_fn check; /* NULL: none */
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

/* Return it, whatever state it is in. */
void hvi_pool_release(hvi_pool *pool, hvi_session *session);

/* Hand the connection of an acquired session to a borrower, who gives it back by its pointer. */
void hvi_pool_lend(hvi_pool *pool, hvi_session *session);

/*
 * The borrower returns it: release its session. False if this pool has not lent this connection, or
 * has it back already. In a forked child, one that the parent had lent is forgotten. The pointer is
 * only compared: any value is safe.
 */
bool hvi_pool_take_back(hvi_pool *pool, const PGconn *conn);

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
