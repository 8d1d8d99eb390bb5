/*
 * many: a queue that is filled and emptied while the caller waits.
 *
 * All forms are one loop: take the next operation from its source, add it to the queue, and advance
 * the queue now and then; when too much is pending, wait until something is done.
 */
#include "store/many.h"

#include <stdint.h>

#include "base/interrupt.h"

/* The queue is advanced after this many operations per server, so that servers need not wait until
 * all are added. Fewer would make more and smaller statements. */
#define STRIDE 512

/* An operation that is to be done: a put, a change, or what its verb does with the key. */
typedef struct wanted {
    int64_t key; /* 0: a put under a new one */
    hv_new_entity put;
    hv_change change;
} wanted;

/* ---- arrays ---- */

static bool next_of_arrays(hvi_many *m, wanted *one, void **tag) {
    if (m->at == m->count)
        return false;
    if (m->entities != NULL)
        one->put = m->entities[m->at];
    else if (m->changes != NULL)
        one->change = m->changes[m->at];
    else
        one->key = m->wanted[m->at];
    *tag = (void *) (uintptr_t) m->at++; /* NOLINT: a number in a tag */
    return true;
}

static void note_failure(hvi_many *m, size_t place, hv_status status, const hv_error *error) {
    bool is_failure = status != HV_OK && status != HV_NOT_FOUND && status != HV_CHANGED;
    if (!is_failure || (m->failed != HV_OK && m->failed_at <= place))
        return;
    m->failed_at = place;
    m->failed = status;
    hv_error_free(m->failure);
    m->failure = hvi_error_copy(error);
}

static void done_in_arrays(hvi_many *m, void *tag, hv_status status, int64_t key, hv_entity *entity,
                           hv_error *error) {
    size_t place = (uintptr_t) tag;
    note_failure(m, place, status, error);
    if (m->statuses != NULL)
        m->statuses[place] = status;
    if (m->keys != NULL)
        m->keys[place] = key;
    if (m->found != NULL)
        m->found[place] = entity;
    if (m->errors != NULL)
        m->errors[place] = error;
    else
        hv_error_free(error);
}

/* ---- the loop ---- */

static void done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                 hv_error *error) {
    hvi_many *m = context;
    if (m->done == NULL) {
        done_in_arrays(m, tag, status, key, entity, error);
        return;
    }
    note_failure(m, 0, status, error);
    m->done(m->context, tag, status, key, entity, error);
}

/* The next operation of its source; false: there is none. */
static bool next(hvi_many *m, wanted *one, void **tag) {
    bool found;
    *one = (wanted){0};
    *tag = NULL;
    if (m->done == NULL)
        found = next_of_arrays(m, one, tag);
    else if (m->next_entity != NULL)
        found = m->next_entity(m->context, &one->put, tag);
    else if (m->next_change != NULL)
        found = m->next_change(m->context, &one->change, tag);
    else
        found = m->next_key(m->context, &one->key, tag);
    one->key |= one->put.key | one->change.key; /* only one of them is set */
    return found;
}

static hv_status add(hvi_many *m, const wanted *one, void *tag, hv_error **error) {
    if (m->changes != NULL || m->next_change != NULL)
        return hv_queue_change(m->queue, &one->change, tag, error);
    if (m->verb == &hvi_get_only)
        return hv_queue_get_only(m->queue, one->key, m->names, tag, error);
    return m->verb != NULL ? hvi_queue_add_key(m->queue, m->verb, one->key, tag, error)
                           : hv_queue_put(m->queue, &one->put, tag, error);
}

static size_t server_count(const hvi_many *m) {
    return (size_t) hvi_queue_store(m->queue)->router.server_count;
}

static bool is_full(const hvi_many *m) {
    size_t servers = server_count(m);
    return hv_queue_pending(m->queue) >= servers * HVI_MANY_OPERATIONS ||
           hvi_queue_bytes(m->queue) >= servers * HVI_MANY_BYTES;
}

/* Nothing more is begun: report that for each operation that was not. */
static void fail_each(hvi_many *m, hv_status status, const hv_error *error) {
    wanted one;
    void *tag;
    while (m->done == NULL && next(m, &one, &tag))
        done(m, tag, status, one.key, NULL, hvi_error_copy(error));
}

/* The caller is interrupted: pending operations end now, and the rest never begin. */
static void give_up(hvi_many *m, bool all_taken) {
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

static void do_all(hvi_many *m) {
    size_t stride = STRIDE * server_count(m);
    wanted one;
    void *tag;
    bool all_taken = false;
    for (size_t taken = 1; !hvi_interrupted(); taken++) {
        all_taken = !next(m, &one, &tag);
        if (all_taken)
            break;
        hv_error *error = NULL;
        hv_status status = add(m, &one, tag, &error);
        if (status != HV_OK)
            done(m, tag, status, one.key, NULL, error);
        if (taken % stride == 0)
            hv_queue_advance(m->queue, 0);
        while (is_full(m) && !hvi_interrupted())
            hv_queue_advance(m->queue, -1);
    }
    while (hv_queue_pending(m->queue) > 0 && !hvi_interrupted())
        hv_queue_advance(m->queue, -1);
    if (hvi_interrupted())
        give_up(m, all_taken);
}

hv_status hvi_many_run(hv_store *store, hvi_many *m, hv_error **error) {
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
