/*
 * job: shards that are to be moved, and how far each is.
 */
#ifndef MOVE_JOB_H
#define MOVE_JOB_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

/* What is done with a shard. */
typedef enum move_order {
    MOVE_START,
    MOVE_RESUME,
    MOVE_ABORT,
    MOVE_UNDO,
    MOVE_CLEAN,
} move_order;

typedef enum move_state {
    MOVE_WAITING, /* for its turn; or it never had one, after an interrupt */
    MOVE_RUNNING,
    MOVE_OVER,
    MOVE_FAILED,
    MOVE_STOPPED, /* by an interrupt: it can be resumed or aborted */
} move_state;

/* One shard. Set the first two; the rest is the run's, which keeps its lock while it writes. */
typedef struct move_job {
    int shard;
    int server; /* its number; of MOVE_START */
    move_state state;
    hv_move_status now; /* its texts are owned by `texts` */
    char *texts[6];
    hv_error *error;     /* owned; of MOVE_FAILED */
    hv_move_phase said;  /* the last phase that was reported, */
    bool has_said;       /* … if any was, */
    char *waited_for;    /* … and what it waited for then; owned */
    int64_t waits_since; /* hvi_clock_us(); 0: it does not wait */
} move_job;

typedef struct move_run {
    hv_store *store;
    move_order order;
    const hv_move_options *options; /* may be NULL */
    int threads;                    /* how many shards at a time */
    move_job *jobs;                 /* not owned, but for what the run puts there */
    size_t count;

    /* Its own. */
    pthread_mutex_t lock;
    size_t next;
    size_t running; /* threads */
} move_run;

#endif
