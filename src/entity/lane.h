/*
 * lane: many callers' operations on few connections.
 *
 * A server has a few lanes; an operation needs one. A caller that finds a free lane takes it and
 * runs alone, with the plain prepared statement and its latency. A caller that finds none joins a
 * waiting batch; when a lane comes free, the batch's leader, one of the callers, runs all of it as
 * one pipeline with one commit, and wakes the others with one call. So batches grow with the number
 * of callers, and the library needs no thread of its own. A batch that has waited long takes
 * another connection of the pool.
 *
 * Each operation keeps its own deadline, status and error, and its caller alone decides what is
 * next for it.
 *
 * Thread-safe. A forked child starts with all lanes free.
 */
#ifndef HVI_LANE_H
#define HVI_LANE_H

#include <stdatomic.h>

#include "entity/batch.h"
#include "entity/operation.h"

/* A batch of a lane takes no more operations than this, and no more bytes of bodies. */
#define HVI_LANE_MAX_OPERATIONS 256
#define HVI_LANE_MAX_BYTES      (1 << 20)

/* A leader whose deadline is this much earlier than another's hands the batch over, µs. So a late
 * batch was not ended by the deadline of a member that has more time left. */
#define HVI_LANE_MAX_EARLIER 100000

/* An operation with a larger body runs outside the lanes: it would hold up the others. So does a
 * reservation of more than one key. */
#define HVI_LANE_MAX_BODY (1 << 16)

typedef struct hvi_lanes {
    hvi_fork_member fork;
    hvi_pool *pool;  /* not owned; where batches get their sessions */
    int max;         /* lanes; 0: turned off */
    int most;        /* lanes, with the extra ones of batches that have waited long */
    int64_t wait_ms; /* how long an operation waits for a lane, and a batch for its session */
    /* Run a batch to its end on a session of the pool; another function in tests. */
    void (*run)(struct hvi_lanes *lanes, hvi_batch *batch, bool apart, int64_t deadline);

    pthread_mutex_t lock; /* guards the rest */
    int busy;
    bool crowded; /* did operations share the last batch? */
    bool closed;
    hvi_list waiting; /* hvi_shared, oldest first; operations join the last */
} hvi_lanes;

/* One caller's part of a shared batch, which owns it: the caller may leave earlier. */
typedef struct hvi_member {
    hvi_item item;      /* its body is behind this struct */
    int64_t deadline;   /* its operation's */
    int64_t wait_until; /* when its caller stops waiting for a lane */
    bool abandoned;     /* its caller has left; guarded by the lanes' lock */
} hvi_member;

typedef enum hvi_shared_state {
    HVI_SHARED_WAITING,
    HVI_SHARED_RUNNING,
    HVI_SHARED_DONE,
    HVI_SHARED_CLOSED,
} hvi_shared_state;

/* A batch that callers share. lane.c documents which thread may touch it when. */
typedef struct hvi_shared {
    hvi_list link; /* in hvi_lanes.waiting */
    _Atomic int state;
    _Atomic uint32_t granted; /* the leader's futex: 1 when there is a lane */
    _Atomic uint32_t event;   /* the others': a counter */
    _Atomic(hvi_member *) leader;
    atomic_int references; /* callers that are not done with it */
    size_t count;
    size_t bytes; /* of bodies */
    hvi_batch batch;
    hvi_item *items[HVI_LANE_MAX_OPERATIONS]; /* of members; owned */
} hvi_shared;

hv_status hvi_lanes_init(hvi_lanes *lanes, hvi_pool *pool, int max, int64_t wait_ms,
                         hv_error **error);
void hvi_lanes_fini(hvi_lanes *lanes);

/* Make the lanes of all servers of a router, as its options say. Errors: HV_NO_MEMORY; then some
 * may be there. */
hv_status hvi_lanes_make_all(hvi_router *router, hv_error **error);
void hvi_lanes_free_all(hvi_router *router);

/* Fail the operations that wait for a lane, and all that come later; those that run finish. */
void hvi_lanes_close(hvi_lanes *lanes);

/* Send an operation once; returns what is next for it. */
hvi_next hvi_lanes_send(hvi_lanes *lanes, hvi_operation *operation);

/* Send it until it is done, by its deadline at the latest: each time in the lanes of the server
 * that has its shard then. */
void hvi_lanes_run(hvi_operation *operation);

#endif
