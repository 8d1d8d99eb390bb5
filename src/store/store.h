/*
 * store: the struct hv_store, for the files that have its public functions.
 *
 * An operation counts itself in `users` while it runs, so that hv_close() knows when the store is
 * no longer in use. The count is the last thing that an operation touches.
 */
#ifndef HVI_STORE_H
#define HVI_STORE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "wire/statement_texts.h"
#include "pool/router.h"
#include "shard/locator.h"
#include "entity/key_cache.h"

struct hv_store {
    hvi_router router;
    hvi_locator locator;
    int64_t epoch; /* immutable, as is the next */
    hvi_spread spread;
    hvi_key_cache reserved; /* for the option exactly_once */
    hvi_statement_texts texts;
    _Atomic(hv_queue *) spare; /* see hvi_queue_borrow(); it counts as no user */
    atomic_int users;
    atomic_bool closed;
    hvi_fork_member fork;
};

/* A thread's operation on a store, which can be interrupted. */
typedef struct hvi_visit {
    hv_store *store;
    hvi_interruptible operation;
} hvi_visit;

/* Every operation on a store begins and ends with these; it must be ended after HV_OK. */
static inline hv_status hvi_store_enter(hvi_visit *visit, hv_store *store, hv_error **error) {
    atomic_fetch_add(&store->users, 1);
    if (atomic_load(&store->closed)) {
        atomic_fetch_sub(&store->users, 1);
        return hvi_fail(error, HV_CLOSED, "the store is closed");
    }
    visit->store = store;
    hvi_interrupt_begin(&visit->operation, hvi_router_interrupt(&store->router));
    return HV_OK;
}

static inline hv_status hvi_store_leave(const hvi_visit *visit, hv_status status) {
    hvi_interrupt_end(&visit->operation);
    atomic_fetch_sub(&visit->store->users, 1);
    return status;
}

/* Enter for an operation on one server, by its number. */
static inline hv_status hvi_store_enter_server(hvi_visit *visit, hv_store *store, int server,
                                               hvi_server **found, hv_error **error) {
    hv_status status = hvi_store_enter(visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_router_server(&store->router, server, found, error);
    return status == HV_OK ? HV_OK : hvi_store_leave(visit, status);
}

/* Leave; but on HV_OK the object that was made counts as a user of its own, until
 * hvi_store_drop_object(). */
static inline hv_status hvi_store_leave_object(const hvi_visit *visit, hv_status status) {
    if (status == HV_OK)
        atomic_fetch_add(&visit->store->users, 1);
    return hvi_store_leave(visit, status);
}

/* Is this a forked child, and an object with this hvi_fork_generation() its parent's? Then so are
 * its sessions, and even its store may no longer exist. */
static inline bool hvi_store_is_foreign(unsigned generation) {
    return generation != hvi_fork_generation();
}

/* The object is freed. Not for a foreign one: a store counts the users of its own process. */
static inline void hvi_store_drop_object(hv_store *store) {
    atomic_fetch_sub(&store->users, 1);
}

#endif
