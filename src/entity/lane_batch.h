/*
 * lane_batch: the operations that share one pipeline: their statements and their answers.
 *
 * Who may touch a batch when is said in lane.c.
 */
#ifndef HVI_LANE_BATCH_H
#define HVI_LANE_BATCH_H

#include <stdatomic.h>

#include "pool/pool.h"
#include "entity/group.h"

/* A batch takes no more operations than this, and no more bytes of bodies. */
#define HVI_LANE_MAX_OPERATIONS 256
#define HVI_LANE_MAX_BYTES      (1 << 20)

/* A leader whose deadline is this much earlier than another's hands the batch over, µs. So who has
 * more time left when a batch ends was not meant by its deadline. */
#define HVI_LANE_MAX_EARLIER 100000

/* A body above this runs outside the lanes: it would hold up the others. */
#define HVI_LANE_MAX_BODY (1 << 16)

typedef struct hvi_lane_request {
    hvi_item item; /* its body is copied */
    int64_t deadline;
} hvi_lane_request;

typedef struct hvi_lane_answer {
    hv_status status;       /* with an error object, unless HV_OK or HV_NOT_FOUND */
    int64_t key;            /* the item's new_key; 0: none */
    const PGresult *result; /* get: id, type, body in binary, in … */
    int row;                /* … this row; valid until hvi_lane_answer_fini() */
    struct hvi_batch *batch;
    int64_t since; /* when it was given a lane of its own */
} hvi_lane_answer;

/* One caller's operation. It belongs to its batch. */
typedef struct hvi_lane_operation {
    hvi_lane_request request; /* the item's body is behind this struct */
    hvi_lane_answer answer;   /* without the batch */
    hv_error *error;          /* owned; handed over to the caller */
    bool answered;
    bool abandoned;     /* its caller has left; guarded by the lanes' lock */
    int64_t wait_until; /* when its caller stops waiting for a lane */
} hvi_lane_operation;

typedef enum hvi_batch_state {
    HVI_BATCH_WAITING,
    HVI_BATCH_RUNNING,
    HVI_BATCH_DONE,
    HVI_BATCH_SENT_AWAY,
} hvi_batch_state;

typedef struct hvi_batch {
    hvi_list link; /* in hvi_lanes.waiting */
    _Atomic int state;
    _Atomic uint32_t granted; /* the leader's futex: 1 when there is a lane */
    _Atomic uint32_t event;   /* the others': counts */
    _Atomic(hvi_lane_operation *) leader;
    atomic_int references; /* callers that are not done with it */
    size_t count;
    size_t bytes; /* of bodies */
    size_t result_count;
    PGresult **results;                                      /* owned; what answers point into */
    hvi_lane_operation *operations[HVI_LANE_MAX_OPERATIONS]; /* owned */
} hvi_batch;

/* NULL if memory is short. */
hvi_lane_operation *hvi_lane_operation_new(const hvi_lane_request *request);
void hvi_lane_operation_free(hvi_lane_operation *operation);

/* A batch of one operation, which leads it. NULL if memory is short. */
hvi_batch *hvi_batch_new(hvi_lane_operation *first);
bool hvi_batch_has_room(const hvi_batch *batch, const hvi_lane_operation *operation);
void hvi_batch_add(hvi_batch *batch, hvi_lane_operation *operation);
/* The operation is its caller's again; the reference is still held. Leaves no leader if it led. */
void hvi_batch_remove(hvi_batch *batch, const hvi_lane_operation *operation);
/* Drop one reference; the last one frees batch, operations and results. */
void hvi_batch_unref(hvi_batch *batch);

/*
 * Run all operations on a session of the pool and answer each. `wait_ms` is how long to wait for
 * the session. What the server refuses of one leaves the others alone, and what a connection that
 * breaks has certainly not done is done once more on another.
 */
void hvi_batch_run(hvi_batch *batch, hvi_pool *pool, int64_t wait_ms);

#endif
