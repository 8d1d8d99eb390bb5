/*
 * task: one operation of a queue: what it is, what each answer or failure means for it, and what
 * came of it.
 *
 * A task may need several statements: a put under a key that has an entity fetches that to compare,
 * one that is to happen exactly once reserves a key first. So its item's verb changes on the way.
 */
#ifndef HVI_TASK_H
#define HVI_TASK_H

#include "entity/group.h"
#include "entity/operation.h"

typedef struct hvi_task {
    hvi_list link; /* where it waits; its owner's */
    hvi_operation operation;
    hvi_item item; /* its body is behind this struct */
    hvi_verb asked;
    bool once;      /* it has its own reserved key: repeat it until it is confirmed */
    bool comparing; /* its item fetches the entity that is there already */
    bool swallowed; /* … and the put was swallowed */
    bool unknown;   /* an earlier try may have succeeded */
    bool patient;   /* its owner's: it waits for a connection that is being opened */
    bool apart;     /* the same: where it goes on after a pause */
    bool aloft;     /* it is in a flight … */
    bool gone;      /* … which only holds its memory any more: its user was told */
    unsigned lost;  /* connections that broke under it */
    unsigned collisions;
    unsigned hidden;  /* times that its key had an entity which was not to be seen */
    hv_error *cause;  /* what was last in the way; owned */
    int64_t deadline; /* hvi_clock_us() */
    void *tag;        /* the user's */

    /* What came of it, once a function says HVI_TASK_DONE. */
    hv_status status;
    hv_entity *entity; /* owned, until it is taken */
    hv_error *error;   /* the same */
} hvi_task;

/* What to do next with a task. */
typedef enum hvi_next {
    HVI_TASK_DONE,
    HVI_TASK_AGAIN, /* run its item */
    HVI_TASK_APART, /* run it in a transaction of its own */
    HVI_TASK_PAUSE, /* as AGAIN, but not at once */
    HVI_TASK_PAUSE_APART,
} hvi_next;

/* Errors: what hv_get() and hv_put() refuse without asking a server, HV_NO_MEMORY. `once`: a put
 * under a new key is to happen exactly once. `scratch` is any buffer, to be reused. */
hv_status hvi_task_new_get(hvi_router *router, int64_t key, hvi_task **task, hv_error **error);
hv_status hvi_task_new_put(hvi_router *router, const hv_new_entity *entity, bool once,
                           hvi_buffer *scratch, hvi_task **task, hv_error **error);
void hvi_task_free(hvi_task *task);

/* Before its item runs (again): forget the answer. */
void hvi_task_prepare(hvi_task *task);

/* Its statement ran and its item has the answer. */
hvi_next hvi_task_answered(hvi_task *task);

/* The server refused its statement; nothing of it has happened. Takes *cause. */
hvi_next hvi_task_refused(hvi_task *task, hv_error **cause);

/* Its statement failed for another reason, which `cause` tells for all that shared the connection:
 * HV_UNAVAILABLE, HV_OUTCOME_UNKNOWN, HV_NO_MEMORY. */
hvi_next hvi_task_lost(hvi_task *task, const hv_error *cause);

/* There is no connection to be had for it. */
hvi_next hvi_task_failed(hvi_task *task, const hv_error *cause);

/* Its deadline has passed; `is_sent`: while its statement was under way. Always HVI_TASK_DONE. */
hvi_next hvi_task_late(hvi_task *task, bool is_sent);

#endif
