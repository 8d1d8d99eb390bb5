/*
 * parked: the operations of a queue on shards that must be asked for first.
 */
#include "store/parked.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"

/* How often to see whether another caller has its answers. */
#define LOOK_US 2000

static hvi_queued *queued_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_queued, link);
}

static bool is_settled(const hvi_parked *parked, const hvi_operation *operation) {
    return hvi_locator_is_settled(parked->locator->router, operation->target.shard,
                                  operation->verb->is_write);
}

void hvi_parked_init(hvi_parked *parked, hvi_locator *locator, int epoll) {
    *parked = (hvi_parked){.locator = locator, .epoll = epoll, .look_at = HVI_NEVER};
    hvi_list_init(&parked->list);
}

static void free_list(hvi_parked *parked) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(&parked->list)) != NULL) {
        hvi_operation_fini(&queued_of(node)->operation);
        free(queued_of(node));
    }
}

static void stop_asking(hvi_parked *parked) {
    epoll_ctl(parked->epoll, EPOLL_CTL_DEL, hvi_locating_fd(parked->locating), NULL);
    hvi_locator_end(parked->locator, parked->locating);
    parked->locating = NULL;
}

void hvi_parked_fini(hvi_parked *parked) {
    if (parked->locating != NULL)
        stop_asking(parked);
    free_list(parked);
}

void hvi_parked_forget(hvi_parked *parked) {
    hvi_locating_forget(parked->locating);
    parked->locating = NULL;
    free_list(parked);
}

bool hvi_parked_wants(const hvi_parked *parked, const hvi_operation *operation) {
    int shard = operation->target.shard;
    if (shard < 0)
        return false;
    hvi_list_foreach (node, &parked->list)
        if (queued_of(node)->operation.target.shard == shard)
            return true;
    return operation->target.server == NULL || !is_settled(parked, operation);
}

void hvi_parked_add(hvi_parked *parked, hvi_queued *queued) {
    hvi_list_insert_after(parked->list.prev, &queued->link);
}

/* Ask, if nobody does, and see whether there are answers. True: those that there will be are
 * there. */
static bool ask(hvi_parked *parked) {
    parked->look_at = HVI_NEVER;
    if (parked->locating == NULL) {
        hvi_locator_turn turn = hvi_locator_begin(parked->locator, &parked->locating);
        if (turn == HVI_LOCATOR_WAIT)
            parked->look_at = hvi_clock_us() + LOOK_US;
        if (turn != HVI_LOCATOR_ASKS)
            return turn == HVI_LOCATOR_SETTLED;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = parked};
        if (epoll_ctl(parked->epoll, EPOLL_CTL_ADD, hvi_locating_fd(parked->locating), &event) != 0)
            parked->look_at = hvi_clock_us() + LOOK_US;
    }
    if (!hvi_locating_advance(parked->locating))
        return false;
    stop_asking(parked);
    return true;
}

static void fail(hvi_operation *operation, hv_status status, hv_error **cause) {
    operation->status = status;
    hv_error_free(operation->error);
    operation->error = *cause;
    *cause = NULL;
}

/* Its time is over before the servers have answered. */
static void fail_late(hvi_operation *operation) {
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_TIMEOUT, "the servers have not said in time which of them holds shard %d",
             operation->target.shard);
    hvi_error_where(&cause, NULL, operation->target.shard);
    fail(operation, HV_TIMEOUT, &cause);
}

/* What has become of it; false if it waits on. */
static bool goes_on(hvi_parked *parked, hvi_operation *operation, bool has_answers) {
    hv_error *cause = NULL;
    hvi_router *router = parked->locator->router;
    int shard = operation->target.shard;
    operation->status = HV_OK;
    int holder = hvi_router_holder(router, shard);
    if (holder >= 0 && is_settled(parked, operation)) {
        if (operation->target.server == NULL)
            operation->target.server = &router->servers[holder];
        return true;
    }
    if (has_answers)
        fail(operation, hvi_locator_fail(parked->locator, shard, &cause), &cause);
    else if (operation->deadline <= hvi_clock_us() || hvi_interrupted())
        fail_late(operation);
    return operation->status != HV_OK;
}

hvi_queued *hvi_parked_take(hvi_parked *parked) {
    if (hvi_parked_is_empty(parked))
        return NULL;
    bool needs_answers = parked->locating != NULL;
    hvi_list_foreach (node, &parked->list)
        needs_answers = needs_answers || !is_settled(parked, &queued_of(node)->operation);
    bool has_answers = needs_answers && ask(parked);
    hvi_list_foreach (node, &parked->list) {
        if (!goes_on(parked, &queued_of(node)->operation, has_answers))
            continue;
        hvi_list_remove(node);
        return queued_of(node);
    }
    return NULL;
}

int64_t hvi_parked_next(const hvi_parked *parked) {
    int64_t moment = parked->look_at;
    if (hvi_list_empty(&parked->list))
        return HVI_NEVER;
    if (parked->locating != NULL && hvi_locating_next(parked->locating) < moment)
        moment = hvi_locating_next(parked->locating);
    hvi_list_foreach (node, &parked->list)
        if (queued_of(node)->operation.deadline < moment)
            moment = queued_of(node)->operation.deadline;
    return moment;
}

void hvi_parked_postpone(hvi_parked *parked, int64_t us) {
    hvi_list_foreach (node, &parked->list) {
        int64_t *deadline = &queued_of(node)->operation.deadline;
        if (*deadline < HVI_NEVER - us)
            *deadline += us;
    }
}

void hvi_parked_expire(hvi_parked *parked) {
    hvi_list_foreach (node, &parked->list)
        queued_of(node)->operation.deadline = 0;
}
