/*
 * queue: the rows that wait for each worker, and what the workers' threads share under one lock.
 *
 * A row's way:
 *
 *     give --> queue --> batch --> decided (stored, or rejected and written to the file)
 *                 |         `--> undecided (the import has ended)
 *                 `--> dropped (the import has ended)
 *
 * Holds always, under the lock: rows leave a queue in the order of their numbers; no more than
 * IMPORT_TRIAL_ROWS rows have left the queues while none is stored; `stop` changes once, from
 * IMPORT_COMPLETE. After an interrupt all rows up to the last one that any worker has taken are
 * still decided, so that what is decided is the beginning of the input.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>

#include "import/import.h"

typedef struct import_workers import_workers;

/* A row in a transaction. */
typedef struct import_work {
    import_item item;
    size_t index;     /* its number in the load; SIZE_MAX: it is not in it */
    bool written;     /* to the rejects file */
    hv_status status; /* of a row to be rejected that is not in the load: why */
    char *reason;     /* the same in words; owned */
} import_work;

typedef struct import_worker {
    import_workers *workers;
    hv_load *load;
    int server;
    int number;   /* of its record */
    char *shards; /* in its record; owned; NULL: it does not say */
    pthread_t thread;
    bool started;
    int64_t recorded; /* the position when it was opened … */
    uint64_t digest;  /* … and the digest of the rows up to there */
    bool ended;       /* … and whether that was the end */
    int64_t stored;   /* rows, by this run and earlier ones */

    import_work *batch; /* used by the thread alone: rows that were taken and are not decided */
    size_t batch_len;
    bool unknown; /* whether they are stored is not known */

    /* Under the workers' lock. */
    import_item *queue; /* a ring */
    size_t queue_start;
    size_t queue_len;
    int64_t waiting_since; /* the first in the queue was given then; milliseconds */
    int64_t taken;         /* the number of the last row taken */
    int64_t decided;       /* the number of the last row decided */
} import_worker;

struct import_workers {
    import_settings settings;
    import_worker *all;
    int count;
    int *of_shard;     /* HV_SHARDS numbers of workers; -1: none */
    int64_t *passed;   /* by shard, at last of malformed rows: up to there others have decided */
    size_t batch_rows; /* in a transaction */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t room;  /* rows were taken or decided */
    pthread_cond_t work;  /* rows were given, or no more will be, or `stop` has changed */
    size_t held_bytes;    /* of rows in queues or in batches */
    int working;          /* threads that have not ended */
    bool given_all;
    bool tried;        /* one row was stored: the trial is over */
    int64_t last;      /* the number of the last row given … */
    int64_t last_line; /* … and its line */
    int64_t finish_to; /* after an interrupt: rows up to this one are still decided */
    import_totals totals;
};

/* Waits are cut into pieces of this length, to notice an interrupt. */
#define IMPORT_TICK_MS 100

int64_t import_now(void); /* milliseconds, monotonic */

/* What is recorded with a position: free() it. `state` is "running", "complete" or "passed". */
char *import_note(const import_worker *worker, const char *state, uint64_t digest, int64_t stored);

void import_work_free(import_work *work);

/* ---- Under the lock -------------------------------------------------------------------------- */

/* Has the import ended early? */
bool import_has_stopped(const import_workers *workers);

/* End early. Returns false if it had already ended. */
bool import_stop_workers(import_workers *workers, import_stop why);

/* End early if the user has interrupted the command. */
void import_look_for_interrupt(import_workers *workers);

/* Wait some milliseconds, or until the condition is signalled. */
void import_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ms);

/* How many rows a queue holds at most, and the one at a position in it. */
size_t import_queue_room(const import_workers *workers);
import_item *import_queued(const import_worker *worker, size_t position);

/* Is there room for a row of so many bytes? */
bool import_queue_takes(const import_worker *worker, size_t bytes);

/* Put a row at the end of the queue. */
void import_queue_add(import_worker *worker, const import_item *item);

/* ---- Without the lock ------------------------------------------------------------------------ */

/* Has the import ended early? Also checks for an interrupt. */
bool import_workers_stopped(import_workers *workers);

/* Take rows into the worker's empty batch; false: there will be none. */
bool import_take(import_worker *worker);

/* The first `count` rows of the batch are decided, as many of them stored and known as given: free
 * them. */
void import_decided(import_worker *worker, size_t count, int64_t stored, int64_t known,
                    const char *last_reason);

#endif
