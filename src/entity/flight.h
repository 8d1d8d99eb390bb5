/*
 * flight: tasks on their way to a server and back as one pipeline, on one session of its pool.
 *
 * Together they are one transaction. If the server refuses that, nothing of it has happened, and
 * each has to go apart: in a flight whose statements are transactions of their own, so that only
 * those fail that it refuses.
 */
#ifndef HVI_FLIGHT_H
#define HVI_FLIGHT_H

#include "pool/pool.h"
#include "entity/task.h"

/* A flight takes no more tasks than this, and no more bytes of bodies, but at least one task. */
#define HVI_FLIGHT_MAX_TASKS 1024
#define HVI_FLIGHT_MAX_BYTES (1 << 20)

typedef enum hvi_flight_state {
    HVI_FLIGHT_IDLE,
    HVI_FLIGHT_OPENING, /* its session is being opened; it has no tasks yet */
    HVI_FLIGHT_RUNNING,
} hvi_flight_state;

typedef struct hvi_flight {
    hvi_flight_state state;
    hvi_pool *pool; /* not owned */

    /* Opening. */
    hvi_pool_opening opening;
    int64_t opening_deadline;

    /* Running. */
    hvi_session *session; /* lent by the pool */
    hvi_pipeline pipeline;
    bool apart;
    bool is_sent;     /* else memory was short */
    int64_t deadline; /* the earliest of its tasks' */
    size_t count;
    hvi_task *tasks[HVI_FLIGHT_MAX_TASKS]; /* owned */
    hvi_item *items[HVI_FLIGHT_MAX_TASKS]; /* theirs, sorted into groups */
    hvi_group *groups;                     /* owned, as the next two; one a group */
    hvi_query *queries;
    PGresult **results;
    size_t group_count;

    /* What the queue watches for it. */
    int watched; /* its descriptor, or -1 */
    hvi_wants wants;
} hvi_flight;

/* Told of each task that is down, with what is to be done next; the task is the function's, but one
 * that is still `aloft` must not be freed, only marked as gone. */
typedef void (*hvi_landed_fn)(void *context, hvi_task *task, hvi_next next);

/*
 * Take tasks from the front of `from`, as many as fit, and send them. The session is the flight's
 * until it has landed. If memory is short nothing is sent, but the flight has still to land.
 */
void hvi_flight_start(hvi_flight *flight, hvi_pool *pool, hvi_session *session, hvi_list *from,
                      bool apart);

/* As hvi_pipeline_advance(). */
hvi_wants hvi_flight_advance(hvi_flight *flight);

/* It is over, or given up: return the session, and tell what came of each task. */
void hvi_flight_land(hvi_flight *flight, hvi_landed_fn landed, void *context);

/* All its tasks' deadlines have passed as of now. */
void hvi_flight_make_late(hvi_flight *flight);

/* Tell of the tasks whose deadline has passed. True if there is nothing left to wait for, or
 * nothing has been sent yet: then the flight is to be given up. */
bool hvi_flight_expire(hvi_flight *flight, int64_t now, hvi_landed_fn landed, void *context);

/* In a forked child: free what is the flight's, and leave the session alone. */
void hvi_flight_forget(hvi_flight *flight);

#endif
