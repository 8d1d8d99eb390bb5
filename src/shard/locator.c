/*
 * locator: when the servers of a store are asked which shards they hold, and what is known since
 * then.
 */
#include "shard/locator.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"

/* How long answers count. */
#define ANSWER_US INT64_C(1000000)

/* How often a caller looks whether another one has its answers. */
#define LOOK_MS 1

/* ---- life ---- */

/* The thread that asked does not exist in the child. */
static void fork_child(hvi_fork_member *member) {
    hvi_list_entry(member, hvi_locator, fork)->is_asking = false;
}

static hv_status settle(void *context, int shard, bool is_write, hv_error **error) {
    return hvi_locator_settle(context, shard, is_write, error);
}

static hv_status settle_server(void *context, int server, hv_error **error) {
    return hvi_locator_settle_server(context, server, error);
}

static void locate(void *context) {
    hvi_locator_ask(context, hvi_deadline_after(1000), NULL);
}

hv_status hvi_locator_init(hvi_locator *locator, hvi_router *router, hv_error **error) {
    locator->missing = calloc((size_t) router->server_count, sizeof *locator->missing);
    if (locator->missing == NULL)
        return hvi_no_memory(error);
    if (pthread_mutex_init(&locator->lock, NULL) != 0) {
        free(locator->missing);
        return hvi_no_memory(error);
    }
    locator->router = router;
    locator->lost = -1;
    locator->fork.lock = &locator->lock;
    locator->fork.child = fork_child;
    hvi_fork_join(&locator->fork);
    router->settle = settle;
    router->locate = locate;
    if (hvi_options_auto(router->options))
        router->settle_server = settle_server;
    router->settle_context = locator;
    return HV_OK;
}

void hvi_locator_fini(hvi_locator *locator) {
    if (locator->router == NULL)
        return;
    hvi_fork_leave(&locator->fork);
    pthread_mutex_destroy(&locator->lock);
    for (int i = 0; i < locator->router->server_count; i++)
        hv_error_free(locator->missing[i]);
    free(locator->missing);
    *locator = (hvi_locator){0};
}

/* ---- asking ---- */

/* `anew`: whatever is known. */
static hvi_locator_turn take_turn(hvi_locator *locator, bool anew) {
    hvi_locator_turn turn = HVI_LOCATOR_SETTLED;
    pthread_mutex_lock(&locator->lock);
    bool is_due = anew || locator->asked_at == 0 ||
                  hvi_clock_us() - locator->asked_at >= ANSWER_US ||
                  atomic_load(&locator->router->has_moved);
    if (locator->is_asking && hvi_clock_us() < locator->asks_until)
        turn = HVI_LOCATOR_WAIT;
    else if (is_due)
        turn = HVI_LOCATOR_ASKS;
    if (turn == HVI_LOCATOR_ASKS) {
        locator->is_asking = true;
        locator->asks_until = hvi_router_pool_deadline(locator->router);
    }
    pthread_mutex_unlock(&locator->lock);
    return turn;
}

static void end_turn(hvi_locator *locator, const hvi_locating *locating) {
    pthread_mutex_lock(&locator->lock);
    locator->is_asking = false;
    for (int i = 0; locating != NULL && i < locator->router->server_count; i++) {
        const hv_error *cause = hvi_locating_failure(locating, i);
        hv_error_free(locator->missing[i]);
        locator->missing[i] = cause != NULL ? hvi_error_copy(cause) : NULL;
    }
    if (locating != NULL) {
        locator->asked_at = hvi_clock_us();
        locator->lost = hvi_locating_lost(locating);
        atomic_store(&locator->router->has_moved, false);
    }
    pthread_mutex_unlock(&locator->lock);
}

/* The caller's turn has come: ask. */
static hv_status ask(hvi_locator *locator, int64_t deadline, hv_error **error) {
    hvi_locating *locating = NULL;
    hv_status status = hvi_locating_new(locator->router, deadline, &locating, error);
    if (status == HV_OK)
        hvi_locating_await(locating);
    end_turn(locator, locating);
    hvi_locating_free(locating);
    return status;
}

/* Wait while another caller asks. False if time is over. */
static bool await_other(int64_t deadline) {
    return !hvi_is_late(deadline) && hvi_pause(LOOK_MS);
}

static hv_status fail_first(hvi_locator *locator, hv_error **error) {
    hv_error *first = NULL;
    pthread_mutex_lock(&locator->lock);
    for (int i = 0; first == NULL && i < locator->router->server_count; i++)
        if (locator->missing[i] != NULL)
            first = hvi_error_copy(locator->missing[i]);
    pthread_mutex_unlock(&locator->lock);
    return first == NULL ? HV_OK : hvi_error_move(error, &first);
}

hv_status hvi_locator_ask(hvi_locator *locator, int64_t deadline, hv_error **error) {
    hvi_locator_turn turn;
    while ((turn = take_turn(locator, true)) == HVI_LOCATOR_WAIT)
        if (!await_other(deadline))
            return hvi_fail_waiting(locator->router->servers[0].name, "connection", error);
    hv_status status = ask(locator, deadline, error);
    return status == HV_OK ? fail_first(locator, error) : status;
}

hv_status hvi_locator_ask_all(hvi_locator *locator, int64_t deadline, hv_error **error) {
    hv_status status = hvi_locator_ask(locator, deadline, error);
    if (status != HV_OK)
        return status;
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (hvi_router_rival(locator->router, shard) >= 0)
            return hvi_router_fail_disputed(locator->router, shard, error);
    pthread_mutex_lock(&locator->lock);
    int lost = locator->lost;
    pthread_mutex_unlock(&locator->lock);
    if (lost < 0)
        return HV_OK;
    hvi_fail(error, HV_NO_SERVER,
             "shard %d has moved to a server that the configuration does not name", lost);
    hvi_error_hint(error, "Add its section to the configuration.");
    hvi_error_where(error, NULL, lost);
    return HV_NO_SERVER;
}

hvi_locator_turn hvi_locator_begin(hvi_locator *locator, hvi_locating **locating) {
    hvi_locator_turn turn = take_turn(locator, false);
    int64_t deadline = hvi_router_pool_deadline(locator->router);
    if (turn != HVI_LOCATOR_ASKS ||
        hvi_locating_new(locator->router, deadline, locating, NULL) == HV_OK)
        return turn;
    end_turn(locator, NULL); /* memory is short: as if nobody had answered */
    return HVI_LOCATOR_SETTLED;
}

void hvi_locator_end(hvi_locator *locator, hvi_locating *locating) {
    end_turn(locator, locating);
    hvi_locating_free(locating);
}

/* ---- what is known ---- */

/* Append the servers that could not be asked, "a", "b"; and why, of the first. */
static hv_error *append_missing(hvi_locator *locator, hvi_buffer *to) {
    hv_error *first = NULL;
    pthread_mutex_lock(&locator->lock);
    for (int i = 0; i < locator->router->server_count; i++) {
        const hv_error *cause = locator->missing[i];
        if (cause == NULL)
            continue;
        hvi_buffer_append_format(to, "%s\"%s\"", to->len > 0 ? ", " : "",
                                 locator->router->servers[i].name);
        if (first == NULL)
            first = hvi_error_copy(cause);
    }
    pthread_mutex_unlock(&locator->lock);
    return first;
}

static hv_status fail_missing(hvi_locator *locator, int shard, hv_error **error) {
    hvi_buffer names = HVI_BUFFER_EMPTY;
    hv_error *cause = append_missing(locator, &names);
    hv_status status = HV_NO_SERVER;
    if (!hvi_buffer_ok(&names)) {
        status = hvi_no_memory(error);
    } else if (cause == NULL) {
        hvi_fail(error, status, "no server holds shard %d", shard);
        hvi_error_hint(error, hvi_options_auto(locator->router->options)
                                  ? "All servers were asked. `hv init` makes shards, with a range "
                                    "in the configuration."
                                  : "Add it to a server's \"shards\" in the configuration.");
    } else {
        /* What is not retriable, such as a refused login, is not made so. */
        status = hv_error_retriable(cause) ? HV_UNAVAILABLE : hv_error_status(cause);
        hvi_fail(error, status, "shard %d was not found, and server %s could not be asked", shard,
                 names.data);
        hvi_error_detail(error, "%s", hv_error_message(cause));
        if (hv_error_hint(cause) != NULL)
            hvi_error_hint(error, "%s", hv_error_hint(cause));
    }
    hvi_error_where(error, NULL, shard);
    hvi_buffer_fini(&names);
    hv_error_free(cause);
    return status;
}

hv_status hvi_locator_fail(hvi_locator *locator, int shard, hv_error **error) {
    return hvi_router_holder(locator->router, shard) >= 0
               ? hvi_router_fail_disputed(locator->router, shard, error)
               : fail_missing(locator, shard, error);
}

hv_status hvi_locator_settle(hvi_locator *locator, int shard, bool is_write, hv_error **error) {
    hvi_router *router = locator->router;
    int64_t deadline = hvi_router_pool_deadline(router);
    while (!hvi_locator_is_settled(router, shard, is_write)) {
        bool is_known = hvi_router_holder(router, shard) >= 0;
        hvi_locator_turn turn = is_known || hvi_options_auto(router->options)
                                    ? take_turn(locator, false)
                                    : HVI_LOCATOR_SETTLED;
        hv_status status = HV_OK;
        if (turn == HVI_LOCATOR_SETTLED)
            return hvi_locator_fail(locator, shard, error);
        if (turn == HVI_LOCATOR_ASKS)
            status = ask(locator, deadline, error);
        else if (!await_other(deadline))
            status = hvi_fail_waiting(router->servers[0].name, "connection", error);
        if (status != HV_OK)
            return status;
    }
    return HV_OK;
}

/* Why the server has not answered: a copy; NULL: it has. */
static hv_error *missing_of(hvi_locator *locator, int server) {
    pthread_mutex_lock(&locator->lock);
    const hv_error *cause = locator->missing[server];
    hv_error *copy = cause != NULL ? hvi_error_copy(cause) : NULL;
    pthread_mutex_unlock(&locator->lock);
    return copy;
}

hv_status hvi_locator_settle_server(hvi_locator *locator, int server, hv_error **error) {
    int64_t deadline = hvi_router_pool_deadline(locator->router);
    const char *name = locator->router->servers[server].name;
    hv_error *cause;
    while ((cause = missing_of(locator, server)) != NULL) {
        hvi_locator_turn turn = take_turn(locator, false);
        hv_status status = HV_OK;
        if (turn == HVI_LOCATOR_SETTLED) {
            status = hv_error_status(cause);
            hvi_fail(error, status, "could not ask server \"%s\" which shards it holds", name);
            hvi_error_detail(error, "%s", hv_error_message(cause));
            if (hv_error_hint(cause) != NULL)
                hvi_error_hint(error, "%s", hv_error_hint(cause));
            hvi_error_where(error, name, -1);
        } else if (turn == HVI_LOCATOR_ASKS) {
            status = ask(locator, deadline, error);
        } else if (!await_other(deadline)) {
            status = hvi_fail_waiting(name, "connection", error);
        }
        hv_error_free(cause);
        if (status != HV_OK)
            return status;
    }
    return HV_OK;
}
