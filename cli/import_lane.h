/*
 * import_lane: what import_lanes.c and import_lane.c share; nobody else includes this.
 */
#ifndef IMPORT_LANE_H
#define IMPORT_LANE_H

#include <pthread.h>

#include "import_lanes.h"

/* A row in a transaction. */
typedef struct import_work {
    import_item item;
    size_t index;     /* its number in the load; SIZE_MAX: it is not in it */
    bool written;     /* to the rejects file */
    hv_status status; /* of a row to be rejected that is not in the load: why */
    char *reason;     /* the same in words; owned */
} import_work;

typedef struct import_lane {
    import_lanes *lanes;
    hv_load *load;
    int server;
    pthread_t thread;
    bool started;
    int64_t recorded; /* the position when it was opened … */
    uint64_t digest;  /* … and the digest of the rows up to there */
    bool ended;       /* … and whether that was the end */
    int64_t stored;   /* rows, by this run and earlier ones */

    import_work *batch; /* the thread's own: rows that were taken and are not decided */
    size_t batch_len;
    bool unknown; /* whether they are stored is not known */

    /* Under the lanes' lock. */
    import_item *queue; /* a ring */
    size_t queue_start;
    size_t queue_len;
    int64_t waiting_since; /* the first in the queue was given then; milliseconds */
    int64_t taken;         /* the number of the last row taken */
    int64_t decided;       /* the number of the last row decided */
} import_lane;

struct import_lanes {
    import_settings settings;
    import_lane *all;
    int count;
    int *of_shard;     /* HV_SHARDS numbers of lanes; -1: none */
    size_t batch_rows; /* in a transaction */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t room;  /* rows were taken or decided */
    pthread_cond_t work;  /* rows were given, or no more will be, or `stop` has changed */
    size_t held_bytes;    /* of rows in queues or under way */
    int working;          /* threads that have not ended */
    bool given_all;
    bool tried;        /* one row was stored: the trial is over */
    int64_t last;      /* the number of the last row given … */
    int64_t last_line; /* … and its line */
    int64_t finish_to; /* after an interrupt: rows up to this one are still decided */
    import_totals totals;
};

/* ---- import_lanes.c ---- */

/* What is recorded with a position: free() it. `state` is "running" or "complete". */
char *import_note(const import_lane *lane, const char *state, uint64_t digest, int64_t stored);

int64_t import_now(void); /* milliseconds, monotonic */

/* Under the lock: end early. Returns false if that was so. */
bool import_stop_lanes(import_lanes *lanes, import_stop why);

/* Under the lock: wait some milliseconds, or until somebody calls for it. */
void import_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ms);

/* Take rows into the lane's empty batch; false: there will be none. */
bool import_take(import_lane *lane);

/* The first `count` rows of the batch are decided, so many of them as told: free them. */
void import_decided(import_lane *lane, size_t count, int64_t stored, int64_t known,
                    const char *last_reason);

/* ---- import_lane.c ---- */

/* The thread. */
void *import_lane_work(void *lane);

#endif
