/*
 * worker: one connection of a crew: it is borrowed and set up, carries the statements of one job
 * after another, and is given back.
 *
 *             ┌─────────────────────────────────┐
 *             ▼                                 │
 *     OFF ──► BORROWING ──► SETTING ──► READY ──┼──► RUNNING ──► ANSWERED
 *      ▲                       ▲                │       ▲           │
 *      └── from any state      └── clean up ────┴───────┴───────────┘
 *
 * A worker decides nothing: the crew asks for each of these ways. Its session is closed when it is
 * given back, since a job may leave settings behind.
 */
#ifndef HVI_WORKER_H
#define HVI_WORKER_H

#include "pool/lease.h"
#include "pool/router.h"
#include "schema/job.h"

typedef enum hvi_worker_state {
    HVI_WORKER_OFF,       /* it has no session */
    HVI_WORKER_BORROWING, /* it waits for one, or for one to be opened */
    HVI_WORKER_SETTING,   /* the session is being set up, or cleaned up after a job */
    HVI_WORKER_READY,     /* the session is as new, or keeps what the job has left in it */
    HVI_WORKER_RUNNING,   /* a statement is running */
    HVI_WORKER_ANSWERED,  /* its answer is there */
    HVI_WORKER_FAILED,    /* there was no session to be had: `error` */
} hvi_worker_state;

typedef struct hvi_worker {
    hvi_lease lease;
    int server;
    hvi_worker_state state;
    int64_t deadline;        /* of what is running */
    int64_t setting_timeout; /* ms that setting a session up may take */
    hvi_answer answer;       /* owned, in the state ANSWERED */
    hv_error *error;         /* owned, in the state FAILED */
    bool was_lent;           /* … in which there was a session, but it could not be set up */

    hvi_buffer settings;
    bool is_pipeline;
    hvi_script script;
    hvi_query query;
    hvi_pipeline pipeline;

    /* The crew's. */
    hvi_job *job;
    bool is_companion;
    bool has_begun;     /* the job has had its first step on this session */
    bool is_cancelled;  /* its statement, which then has a few seconds to end */
    int64_t give_up_at; /* … at the end of which it is given up */
    int64_t pause_end;  /* 0: it does not pause */
} hvi_worker;

void hvi_worker_init(hvi_worker *worker, hvi_server *server, int64_t setting_timeout, int epoll,
                     int event);

/* Give everything back. */
void hvi_worker_end(hvi_worker *worker);

/* In a forked child, instead. */
void hvi_worker_forget(hvi_worker *worker);

/* Begin to borrow and to set up a session; the times are as for hvi_lease_start(). It stays OFF if
 * it may not wait and there is none. */
void hvi_worker_borrow(hvi_worker *worker, int64_t queue_timeout, int64_t opening_timeout);

/* Discard what a job has left in the session, its locks, too. */
void hvi_worker_clean(hvi_worker *worker);

/* Send a statement. The request's texts last until it is answered. */
void hvi_worker_send(hvi_worker *worker, int shard, const hvi_request *request);

/* Go on, when its socket is ready, its pool has news, or its moment has come. */
void hvi_worker_advance(hvi_worker *worker);

/* It has taken too long: the state becomes FAILED or ANSWERED. */
void hvi_worker_give_up(hvi_worker *worker);

/* Has the deadline of what is running passed? */
bool hvi_worker_is_late(const hvi_worker *worker, int64_t now);

/* The moment when it must be advanced (or, if its deadline has come, be cancelled or given up), or
 * HVI_NEVER. */
int64_t hvi_worker_next(const hvi_worker *worker);

/* Give the session back, or give up waiting for one: OFF. */
void hvi_worker_release(hvi_worker *worker);

/* Free what the job has left in the answer. */
void hvi_worker_drop_answer(hvi_worker *worker);

#endif
