/*
 * many: a queue that is filled and emptied while the caller waits.
 *
 * All four forms are one loop: take the next operation from its source, add it to the queue, and
 * let the queue go on now and then; when too much is pending, wait until something is done.
 */
#include "store/many.h"

#include <stdint.h>

#include "base/error.h"
#include "store/queue.h"
#include "store/store.h"

/* After so many operations for each server the queue goes on: servers need not wait until all are
 * taken up. Fewer would make more and smaller statements of them. */
#define STRIDE 512

/* One operation as its source gives it: a put, or a get of put.key. */
typedef struct operation {
    hv_new_entity put;
    void *tag;
} operation;

typedef struct many many;
struct many {
    hv_queue *queue;
    bool (*next)(many *, operation *); /* the source; false: no more */
    bool is_get;

    /* Arrays. */
    size_t at;
    size_t count;
    const hv_new_entity *entities;
    const int64_t *wanted; /* keys */
    int64_t *keys;
    hv_entity **found;
    hv_status *statuses;
    hv_error **errors;

    /* Streams. */
    hv_next_entity_fn next_entity;
    hv_next_key_fn next_key;
    hv_done_fn done;
    void *context;

    /* The first that failed: in the order of the arrays, or of the ends in a stream. */
    size_t failed_at;
    hv_status failed;
    hv_error *failure; /* owned */
};

/* ---- arrays ---- */

static bool next_of_arrays(many *m, operation *next) {
    if (m->at == m->count)
        return false;
    if (m->is_get)
        next->put.key = m->wanted[m->at];
    else
        next->put = m->entities[m->at];
    next->tag = (void *) (uintptr_t) m->at++; /* NOLINT: a number in a tag */
    return true;
}

static bool is_failure(hv_status status) {
    return status != HV_OK && status != HV_NOT_FOUND;
}

static void note_failure(many *m, size_t place, hv_status status, const hv_error *error) {
    if (!is_failure(status) || (m->failed != HV_OK && m->failed_at <= place))
        return;
    m->failed_at = place;
    m->failed = status;
    hv_error_free(m->failure);
    m->failure = hvi_error_copy(error);
}

static void done_in_arrays(many *m, void *tag, hv_status status, int64_t key, hv_entity *entity,
                           hv_error *error) {
    size_t place = (uintptr_t) tag;
    note_failure(m, place, status, error);
    if (m->statuses != NULL)
        m->statuses[place] = status;
    if (m->keys != NULL)
        m->keys[place] = key;
    if (m->is_get)
        m->found[place] = entity;
    if (m->errors != NULL)
        m->errors[place] = error;
    else
        hv_error_free(error);
}

/* ---- streams ---- */

static bool next_of_stream(many *m, operation *next) {
    if (m->is_get)
        return m->next_key(m->context, &next->put.key, &next->tag);
    return m->next_entity(m->context, &next->put, &next->tag);
}

/* ---- the loop ---- */

static void done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                 hv_error *error) {
    many *m = context;
    if (m->done == NULL) {
        done_in_arrays(m, tag, status, key, entity, error);
        return;
    }
    note_failure(m, 0, status, error);
    m->done(m->context, tag, status, key, entity, error);
}

static hv_status add(many *m, const operation *next, hv_error **error) {
    return m->is_get ? hv_queue_get(m->queue, next->put.key, next->tag, error)
                     : hv_queue_put(m->queue, &next->put, next->tag, error);
}

static bool is_full(const many *m) {
    size_t servers = (size_t) hvi_queue_servers(m->queue);
    return hv_queue_pending(m->queue) >= servers * HVI_MANY_OPERATIONS ||
           hvi_queue_bytes(m->queue) >= servers * HVI_MANY_BYTES;
}

/* Nothing more is begun: say so for each that was not. */
static void fail_each(many *m, hv_status status, const hv_error *error) {
    operation next = {0};
    for (; m->done == NULL && m->next(m, &next); next = (operation){0})
        done(m, next.tag, status, next.put.key, NULL, hvi_error_copy(error));
}

/* The caller is interrupted: what is pending ends now, and what was not taken up never begins. */
static void give_up(many *m, bool all_taken) {
    hv_error *error = NULL;
    while (hv_queue_pending(m->queue) > 0)
        hvi_queue_expire(m->queue);
    if (all_taken)
        return;
    hvi_fail(&error, HV_TIMEOUT, "interrupted before all operations were begun");
    fail_each(m, HV_TIMEOUT, error);
    note_failure(m, SIZE_MAX, HV_TIMEOUT, error);
    hv_error_free(error);
}

static void do_all(many *m) {
    size_t stride = STRIDE * (size_t) hvi_queue_servers(m->queue);
    operation next = {0};
    bool all_taken = false;
    for (size_t taken = 1; !hvi_interrupted(); taken++) {
        all_taken = !m->next(m, &next);
        if (all_taken)
            break;
        hv_error *error = NULL;
        hv_status status = add(m, &next, &error);
        if (status != HV_OK)
            done(m, next.tag, status, next.put.key, NULL, error);
        if (taken % stride == 0)
            hv_queue_advance(m->queue, 0);
        while (is_full(m) && !hvi_interrupted())
            hv_queue_advance(m->queue, -1);
        next = (operation){0};
    }
    while (hv_queue_pending(m->queue) > 0 && !hvi_interrupted())
        hv_queue_advance(m->queue, -1);
    if (hvi_interrupted())
        give_up(m, all_taken);
}

static hv_status run(hv_store *store, many *m, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = hv_queue_new(store, done, m, &m->queue, &cause);
    if (status != HV_OK) {
        fail_each(m, status, cause);
        hv_error_free(m->failure);
        return hvi_error_move(error, &cause);
    }
    hvi_interruptible interruptible;
    hvi_interrupt_begin(&interruptible, hvi_router_interrupt(&store->router));
    do_all(m);
    hvi_interrupt_end(&interruptible);
    hv_queue_free(m->queue);
    if (m->failed != HV_OK)
        hvi_error_move(error, &m->failure);
    return m->failed;
}

hv_status hv_put_many(hv_store *store, const hv_new_entity *entities, size_t count, int64_t *keys,
                      hv_status *statuses, hv_error **errors, hv_error **error) {
    many m = {
        .next = next_of_arrays,
        .count = count,
        .entities = entities,
        .keys = keys,
        .statuses = statuses,
        .errors = errors,
    };
    return run(store, &m, error);
}

hv_status hv_get_many(hv_store *store, const int64_t *keys, size_t count, hv_entity **entities,
                      hv_status *statuses, hv_error **errors, hv_error **error) {
    many m = {
        .next = next_of_arrays,
        .is_get = true,
        .count = count,
        .wanted = keys,
        .found = entities,
        .statuses = statuses,
        .errors = errors,
    };
    return run(store, &m, error);
}

hv_status hv_put_stream(hv_store *store, hv_next_entity_fn next, hv_done_fn told, void *context,
                        hv_error **error) {
    many m = {.next = next_of_stream, .next_entity = next, .done = told, .context = context};
    return run(store, &m, error);
}

hv_status hv_get_stream(hv_store *store, hv_next_key_fn next, hv_done_fn told, void *context,
                        hv_error **error) {
    many m = {
        .next = next_of_stream,
        .is_get = true,
        .next_key = next,
        .done = told,
        .context = context,
    };
    return run(store, &m, error);
}
