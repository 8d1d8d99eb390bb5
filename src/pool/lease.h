/*
 * lease: borrow a session from a pool without ever waiting, and have its socket watched.
 *
 * For a caller that waits for many sockets in one epoll(7) instance, and for news from the queues
 * of pools on one eventfd(2). The states:
 *
 *     NONE ──► QUEUED ──► OPENING ──► LENT ──► NONE
 *
 * from each of which it may come to an end at once.
 */
#ifndef HVI_LEASE_H
#define HVI_LEASE_H

#include "pool/pool.h"

typedef struct hvi_lease {
    hvi_pool *pool;
    int epoll;
    int event;     /* an eventfd(2) that signals news from the pool's queue */
    void *watcher; /* the data of events in `epoll` */
    enum { HVI_LEASE_NONE, HVI_LEASE_QUEUED, HVI_LEASE_OPENING, HVI_LEASE_LENT } state;
    hvi_pool_waiter waiter;
    hvi_pool_opening opening;
    int64_t opening_timeout; /* ms */
    int64_t queue_deadline;
    int64_t opening_deadline;
    hvi_session *session; /* while it is lent */
    int watched;          /* the descriptor that is watched, or -1 */
    hvi_wants wants;
    bool is_polled; /* its socket could not be watched: advance it now and then */
} hvi_lease;

void hvi_lease_init(hvi_lease *lease, hvi_pool *pool, int epoll, int event, void *watcher);

/*
 * Begin to borrow. `queue_timeout` is how long to wait in the pool's queue, in ms (0: not at all;
 * then, if there is no session now, the state stays NONE), `opening_timeout` how long opening a
 * session may take. HV_OK: see the state. Errors: as hvi_pool_acquire(); the state is NONE.
 */
hv_status hvi_lease_start(hvi_lease *lease, int64_t queue_timeout, int64_t opening_timeout,
                          hv_error **error);

/* Go on, when the socket is ready, the eventfd was written to, or the moment has come. As
 * hvi_lease_start(). */
hv_status hvi_lease_advance(hvi_lease *lease, hv_error **error);

/* The moment when it must be advanced whatever else happens, or HVI_NEVER. Not once it is lent. */
int64_t hvi_lease_next(const hvi_lease *lease);

/* Watch the socket of the session for what its user wants; HVI_WANTS_NOTHING: no more. */
void hvi_lease_watch(hvi_lease *lease, hvi_wants wants);

/* Return the session, or give up waiting for one. */
void hvi_lease_end(hvi_lease *lease);

/* In a forked child, instead: leave the parent's connections alone. */
void hvi_lease_forget(hvi_lease *lease);

#endif
