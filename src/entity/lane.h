/*
 * lane: many callers' operations on few connections.
 *
 * A server has a few lanes; an operation needs one. Who finds a lane free takes it and runs alone,
 * with the plain prepared statement and its latency. Who finds none joins a batch that waits; when
 * a lane comes free, the batch's leader, one of the callers, runs all of it as one pipeline with
 * one commit, hands out the results, and wakes the others with one call. So batches grow by
 * themselves with the number of callers, and no thread of the library's own is needed. A batch that
 * has waited long takes another connection of the pool.
 *
 * Each operation keeps its own deadline, status and error. If the server refuses anything in a
 * batch, nothing of it has happened, and the leader runs each operation by itself.
 *
 * Thread-safe. A forked child starts with all lanes free.
 */
#ifndef HVI_LANE_H
#define HVI_LANE_H

#include "pool/router.h"
#include "entity/lane_batch.h"

typedef struct hvi_lanes {
    hvi_fork_member fork;
    hvi_pool *pool;  /* not owned; where batches get their sessions */
    int max;         /* lanes; 0: turned off */
    int most;        /* … with those for batches that have waited long */
    int64_t wait_ms; /* how long an operation waits for a lane, and a batch for its session */
    /* hvi_batch_run(), but in tests. */
    void (*run)(hvi_batch *batch, hvi_pool *pool, int64_t wait_ms);

    pthread_mutex_t lock; /* guards the rest */
    int busy;
    bool crowded; /* did operations share the last batch? */
    bool closed;
    hvi_list waiting; /* hvi_batch, oldest first; operations join the last */
} hvi_lanes;

/* What became of it. */
typedef enum hvi_lane_outcome {
    HVI_LANE_DONE,  /* it ran in a batch: see the answer */
    HVI_LANE_ALONE, /* run it with the plain statement, then say hvi_lane_leave() */
    HVI_LANE_NONE,  /* run it with the plain statement; no lane is held */
} hvi_lane_outcome;

hv_status hvi_lanes_init(hvi_lanes *lanes, hvi_pool *pool, int max, int64_t wait_ms,
                         hv_error **error);
void hvi_lanes_fini(hvi_lanes *lanes);

/* The lanes of all servers of a router, as its options want them. Errors: HV_NO_MEMORY. */
hv_status hvi_lanes_make_all(hvi_router *router, hv_error **error);
void hvi_lanes_free_all(hvi_router *router);

/* Send those away who wait, and whoever comes; those who run finish. */
void hvi_lanes_close(hvi_lanes *lanes);

/* Run an operation. The answer is filled on HVI_LANE_DONE. */
hvi_lane_outcome hvi_lane_run(hvi_lanes *lanes, const hvi_lane_request *request,
                              hvi_lane_answer *answer, hv_error **error);

/* After HVI_LANE_ALONE: give the lane back. */
void hvi_lane_leave(hvi_lanes *lanes, const hvi_lane_answer *answer);

void hvi_lane_answer_fini(hvi_lane_answer *answer);

#endif
