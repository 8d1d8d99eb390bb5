/*
 * many: a queue that is filled and emptied while the caller waits, with bounded memory: the basis
 * of hv_put_many() and its like in hypervault.h.
 */
#ifndef HVI_MANY_H
#define HVI_MANY_H

#include "store/queue.h"

/* How much may be pending, for each server. */
#define HVI_MANY_OPERATIONS 2048
#define HVI_MANY_BYTES      (4 << 20)

typedef struct hvi_many {
    const hvi_verb *verb;     /* what to do with each key */
    const char *const *names; /* of hvi_get_only; NULL: all */

    /* The operations, in one of these arrays. */
    size_t count;
    const hv_new_entity *entities;
    const int64_t *wanted; /* keys */
    const hv_change *changes;
    /* The results of each; any may be NULL. */
    int64_t *keys;
    hv_entity **found;
    hv_status *statuses;
    hv_error **errors;

    /* Or from one of these streams. */
    hv_next_entity_fn next_entity;
    hv_next_key_fn next_key;
    hv_next_change_fn next_change;
    hv_done_fn done;
    void *context;

    /* Private. */
    hv_queue *queue;
    size_t at; /* in the arrays */
    /* The first that failed: in the order of the arrays, or in which those of a stream ended. */
    size_t failed_at;
    hv_status failed;
    hv_error *failure; /* owned */
} hvi_many;

/* Do all of it. Returns the first status that is a failure, with its error. */
hv_status hvi_many_run(hv_store *store, hvi_many *many, hv_error **error);

#endif
