/*
 * lane: many callers' operations on few connections.
 *
 * The states of a shared batch, and the functions that change them:
 *
 *                        ┌──┐ join(), withdraw()
 *             join()     ▼  │     start_running()                   lead()
 *     (new) ─────────► WAITING ─────────────────────► RUNNING ─────────────────► DONE
 *                        │        its leader has been    the leader alone touches its
 *                        │        granted a lane         operations, except `abandoned`
 *                        │ hvi_lanes_close()
 *                        └──────────────────► CLOSED
 *
 * While a batch is WAITING, it is in lanes->waiting and guarded by the lock. Its callers sleep: the
 * leader on `granted`, the others on `event`, which is also signalled when the leader has withdrawn
 * because its deadline passed, and one of them leads now. A batch runs until its leader's deadline;
 * so a leader that has a lane, but less time than another, hands both over. A member whose deadline
 * passes withdraws from a WAITING batch; in a RUNNING one it leaves its operation behind, marked
 * abandoned. The caller that drops the last reference frees the batch, with its members and
 * results.
 *
 * Holds always, until the lanes are closed: `busy` lanes are taken, up to `max`, and up to `most`
 * by batches that have waited long; while a batch waits that has not been granted a lane, at least
 * `max` are taken.
 */
#include "entity/lane.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/interrupt.h"

/* How long a batch waits for a lane before it takes a connection of the pool that no lane has:
 * whatever holds up the lanes (a lock, a slow trigger) must not hold up every caller. */
#define EXTRA_LANE_MS 100

/* The threads that were in a lane or waited for one do not exist here; their memory is lost. */
static void fork_child(hvi_fork_member *member) {
    hvi_lanes *lanes = hvi_list_entry(member, hvi_lanes, fork);
    lanes->busy = 0;
    hvi_list_init(&lanes->waiting);
}

static bool wants_parameters(const hvi_lanes *lanes) {
    const hvi_log *log = &lanes->pool->config.session.log;
    return log->fn != NULL && log->parameters;
}

/* When to stop waiting for a lane or a session, if all has to be done by the deadline. */
static int64_t wait_end(const hvi_lanes *lanes, int64_t deadline) {
    int64_t end = hvi_deadline_after(lanes->wait_ms);
    return end < deadline ? end : deadline;
}

/* Borrow a session for the batch. */
static hv_status acquire(const hvi_lanes *lanes, const hvi_batch *batch, int64_t deadline,
                         hvi_session **session, hv_error **error) {
    bool only_reads = true;
    for (size_t i = 0; i < batch->count; i++)
        only_reads = only_reads && !batch->items[i]->verb->is_write;
    int64_t end = wait_end(lanes, deadline);
    return only_reads ? hvi_pool_acquire_to_read(lanes->pool, end, session, error)
                      : hvi_pool_acquire(lanes->pool, end, session, error);
}

/* Wait for a session, and until the batch is over. */
static void run_batch(hvi_lanes *lanes, hvi_batch *batch, bool apart, int64_t deadline) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    if (acquire(lanes, batch, deadline, &session, &cause) != HV_OK) {
        hvi_batch_fail(batch, HVI_FATE_UNSENT, &cause);
        return;
    }
    if (hvi_is_late(deadline)) { /* while it is certain that nothing has happened */
        hvi_fail_late(lanes->pool->config.session.server, -1, false, &cause);
        hvi_batch_fail(batch, HVI_FATE_LOST, &cause);
    } else {
        hvi_batch_start(batch, session, apart);
        hvi_batch_await(batch, deadline);
        hvi_batch_finish(batch);
    }
    hvi_pool_release(lanes->pool, session);
}

hv_status hvi_lanes_init(hvi_lanes *lanes, hvi_pool *pool, int max, int64_t wait_ms,
                         hv_error **error) {
    int most = pool->config.max;
    *lanes = (hvi_lanes){.pool = pool,
                         .max = max < most ? max : most,
                         .most = most,
                         .wait_ms = wait_ms,
                         .run = run_batch};
    hvi_list_init(&lanes->waiting);
    if (pthread_mutex_init(&lanes->lock, NULL) != 0)
        return hvi_no_memory(error);
    lanes->fork.lock = &lanes->lock;
    lanes->fork.child = fork_child;
    hvi_fork_join(&lanes->fork);
    return HV_OK;
}

void hvi_lanes_fini(hvi_lanes *lanes) {
    hvi_fork_leave(&lanes->fork);
    pthread_mutex_destroy(&lanes->lock);
}

hv_status hvi_lanes_make_all(hvi_router *router, hv_error **error) {
    const int64_t *values = router->options->values;
    hv_status status = HV_OK;
    for (int i = 0; status == HV_OK && i < router->server_count; i++) {
        hvi_server *server = &router->servers[i];
        hvi_lanes *made = malloc(sizeof *made);
        status = made == NULL ? hvi_no_memory(error)
                              : hvi_lanes_init(made, &server->pool, (int) values[HVI_LANES],
                                               values[HVI_POOL_BLOCK_TIMEOUT], error);
        if (status == HV_OK)
            server->lanes = made;
        else
            free(made);
    }
    return status;
}

void hvi_lanes_free_all(hvi_router *router) {
    for (int i = 0; i < router->server_count; i++) {
        hvi_server *server = &router->servers[i];
        if (server->lanes != NULL)
            hvi_lanes_fini(server->lanes);
        free(server->lanes);
        server->lanes = NULL;
    }
}

/* ---- batches that are shared ---- */

static hvi_member *member_of(hvi_item *item) {
    return hvi_list_entry(item, hvi_member, item);
}

/* NULL if memory is short. */
static hvi_member *new_member(const hvi_lanes *lanes, const hvi_operation *operation) {
    const hvi_item *item = &operation->item;
    hvi_member *made = malloc(sizeof *made + item->body_len);
    if (made == NULL)
        return NULL;
    *made = (hvi_member){.item = *item,
                         .deadline = operation->deadline,
                         .wait_until = wait_end(lanes, operation->deadline)};
    char *body = (char *) (made + 1);
    if (item->body_len > 0)
        memcpy(body, item->body, item->body_len);
    made->item.body = body;
    return made;
}

static void add_member(hvi_shared *shared, hvi_member *member) {
    shared->items[shared->count++] = &member->item;
    shared->bytes += member->item.body_len;
    atomic_fetch_add(&shared->references, 1);
}

/* The member is its caller's again; the reference is still held. Leaves no leader if it led. */
static void remove_member(hvi_shared *shared, const hvi_member *member) {
    size_t at = 0;
    while (shared->items[at] != &member->item)
        at++;
    memmove(&shared->items[at], &shared->items[at + 1],
            (--shared->count - at) * sizeof(hvi_item *));
    shared->bytes -= member->item.body_len;
    if (atomic_load(&shared->leader) == member)
        atomic_store(&shared->leader, NULL);
}

/* A batch of one member, which leads it. NULL if memory is short. */
static hvi_shared *new_shared(hvi_member *first) {
    hvi_shared *shared = malloc(sizeof *shared);
    if (shared == NULL)
        return NULL;
    /* Not the batch and the array of items: they are large, and filled later. */
    memset(shared, 0, offsetof(hvi_shared, batch));
    hvi_list_init(&shared->link);
    hvi_batch_init(&shared->batch, shared->items, 0);
    atomic_init(&shared->leader, first);
    add_member(shared, first);
    return shared;
}

/* Drop one reference; the last one frees batch, members and results. */
static void unref(hvi_shared *shared) {
    if (atomic_fetch_sub(&shared->references, 1) > 1)
        return;
    hvi_batch_fini(&shared->batch);
    for (size_t i = 0; i < shared->count; i++)
        free(member_of(shared->items[i]));
    free(shared);
}

/* Something has changed for the callers that follow. */
static void wake_followers(hvi_shared *shared) {
    atomic_fetch_add(&shared->event, 1);
    hvi_futex_wake(&shared->event, HVI_FUTEX_ALL);
}

static hvi_shared *shared_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_shared, link);
}

/* ---- granting lanes and joining batches; under the lock ---- */

/* The oldest batch that waits for a lane; NULL if there is none. */
static hvi_shared *oldest(const hvi_lanes *lanes) {
    hvi_list_foreach (node, &lanes->waiting)
        if (atomic_load(&shared_of(node)->granted) == 0)
            return shared_of(node);
    return NULL;
}

/*
 * A lane that was taken at `since` is free again: the oldest batch gets it. But while there are
 * extra lanes, one that was held up is not passed on, so that `max` remain.
 */
static void grant(hvi_lanes *lanes, int64_t since) {
    hvi_shared *shared = oldest(lanes);
    bool is_extra = lanes->busy > lanes->max;
    if (shared == NULL || (is_extra && hvi_clock_us() - since > EXTRA_LANE_MS * 1000)) {
        lanes->busy--;
        return;
    }
    atomic_store(&shared->granted, 1);
    hvi_futex_wake(&shared->granted, 1);
}

static void release_lane(hvi_lanes *lanes, int64_t since, bool crowded) {
    pthread_mutex_lock(&lanes->lock);
    lanes->crowded = crowded || !hvi_list_empty(&lanes->waiting);
    grant(lanes, since);
    pthread_mutex_unlock(&lanes->lock);
}

/* The batch that this item can join, or NULL. */
static hvi_shared *find_room(const hvi_lanes *lanes, const hvi_item *item) {
    hvi_shared *last = hvi_list_empty(&lanes->waiting) ? NULL : shared_of(lanes->waiting.prev);
    bool has_room = last != NULL && last->count < HVI_LANE_MAX_OPERATIONS &&
                    last->bytes + item->body_len <= HVI_LANE_MAX_BYTES;
    return has_room ? last : NULL;
}

/* The batch that the member joins; NULL if memory is short. */
static hvi_shared *join(hvi_lanes *lanes, hvi_member *member) {
    hvi_shared *shared = find_room(lanes, &member->item);
    if (shared != NULL)
        add_member(shared, member);
    else if ((shared = new_shared(member)) != NULL)
        hvi_list_push_back(&lanes->waiting, &shared->link);
    return shared;
}

/*
 * The member's caller has waited long enough. If its batch still waits, the member is taken out; if
 * it led, another leads. Otherwise false; if its deadline has passed too, it is then marked
 * abandoned, unless it has to lead.
 */
static bool withdraw(hvi_lanes *lanes, hvi_shared *shared, hvi_member *member) {
    pthread_mutex_lock(&lanes->lock);
    bool must_lead = atomic_load(&shared->leader) == member && atomic_load(&shared->granted) != 0;
    bool waits = atomic_load(&shared->state) == HVI_SHARED_WAITING && !must_lead;
    if (waits) {
        remove_member(shared, member);
        if (shared->count == 0)
            hvi_list_remove(&shared->link);
        else if (atomic_load(&shared->leader) == NULL) {
            atomic_store(&shared->leader, member_of(shared->items[0]));
            wake_followers(shared);
        }
    } else if (hvi_is_late(member->deadline)) {
        member->abandoned = atomic_load(&shared->leader) != member;
    }
    pthread_mutex_unlock(&lanes->lock);
    return waits;
}

static void fail_waiting(const hvi_lanes *lanes, hv_error **error) {
    hvi_fail_waiting(lanes->pool->config.session.server, "lane", error);
    if (!hvi_interrupted())
        hvi_error_hint(error, "The server is too slow for its load; the option "
                              "\"pool_block_timeout\" says how long to wait.");
}

void hvi_lanes_close(hvi_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    lanes->closed = true;
    for (hvi_shared *shared; (shared = oldest(lanes)) != NULL;) {
        hvi_list_remove(&shared->link);
        atomic_fetch_add(&shared->references, 1); /* its members may be awake, and leave at once */
        atomic_store(&shared->state, HVI_SHARED_CLOSED);
        atomic_store(&shared->granted, 1);
        hvi_futex_wake(&shared->granted, 1);
        wake_followers(shared);
        unref(shared);
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* ---- leading and following ---- */

/* The batch has waited long: take an extra lane for it, if `most` allows. */
static void take_extra_lane(hvi_lanes *lanes, hvi_shared *shared) {
    pthread_mutex_lock(&lanes->lock);
    if (lanes->busy < lanes->most && atomic_load(&shared->granted) == 0) {
        lanes->busy++;
        atomic_store(&shared->granted, 1);
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* Wait until a lane is granted; false if the deadline passed first and the leader withdrew. */
static bool await_lane(hvi_lanes *lanes, hvi_shared *shared, hvi_member *leader) {
    int64_t extra_at = hvi_deadline_after(EXTRA_LANE_MS);
    while (atomic_load(&shared->granted) == 0) {
        bool has_time = extra_at < leader->wait_until;
        if (hvi_futex_wait(&shared->granted, 0, has_time ? extra_at : leader->wait_until))
            continue;
        if (has_time && !hvi_interrupted()) {
            take_extra_lane(lanes, shared);
            extra_at = hvi_deadline_after(EXTRA_LANE_MS);
        } else if (withdraw(lanes, shared, leader)) {
            return false;
        }
    }
    return true;
}

/*
 * A lane is granted. But other callers may be about to come: those that the last batch has woken.
 * Let them run and join before the batch goes.
 */
static void start_running(hvi_lanes *lanes, hvi_shared *shared) {
    sched_yield();
    pthread_mutex_lock(&lanes->lock);
    if (atomic_load(&shared->state) == HVI_SHARED_WAITING) {
        hvi_list_remove(&shared->link);
        atomic_store(&shared->state, HVI_SHARED_RUNNING);
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* A lane is granted. If a member has clearly more time than the leader, it leads from now on. */
static bool hand_over(hvi_lanes *lanes, hvi_shared *shared, const hvi_member *leader) {
    pthread_mutex_lock(&lanes->lock);
    hvi_member *latest = NULL;
    for (size_t i = 0; i < shared->count; i++) {
        hvi_member *one = member_of(shared->items[i]);
        if (!one->abandoned && (latest == NULL || one->deadline > latest->deadline))
            latest = one;
    }
    bool handed = latest->deadline - leader->deadline > HVI_LANE_MAX_EARLIER;
    if (handed) {
        atomic_store(&shared->leader, latest);
        wake_followers(shared);
    }
    pthread_mutex_unlock(&lanes->lock);
    return handed;
}

/* A leader and its batch, for may_stop_leading(). */
typedef struct leading {
    hvi_lanes *lanes;
    hvi_shared *shared;
} leading;

/* A leader is interrupted only when no other caller waits for the batch any more: an interrupt of
 * the leader must not make the outcome of the others' operations unknown. */
static bool may_stop_leading(void *context) {
    const leading *self = context;
    const hvi_shared *shared = self->shared;
    bool has_followers = false;
    pthread_mutex_lock(&self->lanes->lock);
    for (size_t i = 0; i < shared->count; i++) {
        const hvi_member *one = member_of(shared->items[i]);
        has_followers = has_followers || (one != atomic_load(&shared->leader) && !one->abandoned);
    }
    pthread_mutex_unlock(&self->lanes->lock);
    return !has_followers && hvi_interrupt_ask_outer();
}

static void run_shared(hvi_lanes *lanes, hvi_shared *shared) {
    leading self = {.lanes = lanes, .shared = shared};
    hvi_interrupt hook = {.fn = hvi_is_interruptible() ? may_stop_leading : NULL, .context = &self};
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, &hook);
    shared->batch.count = shared->count;
    lanes->run(lanes, &shared->batch, false, atomic_load(&shared->leader)->deadline);
    hvi_interrupt_end(&operation);
}

/* Run the batch in the lane that was granted, pass the lane on, and wake the others, which may be
 * about to come again. */
static void lead(hvi_lanes *lanes, hvi_shared *shared) {
    int64_t since = hvi_clock_us();
    run_shared(lanes, shared);
    release_lane(lanes, since, true);
    atomic_store(&shared->state, HVI_SHARED_DONE);
    wake_followers(shared);
}

typedef enum wake_reason { BATCH_DONE, MUST_LEAD, WITHDRAWN, ABANDONED, CLOSED } wake_reason;

static wake_reason follow(hvi_lanes *lanes, hvi_shared *shared, hvi_member *member) {
    for (;;) {
        uint32_t event = atomic_load(&shared->event);
        if (atomic_load(&shared->state) == HVI_SHARED_DONE)
            return BATCH_DONE;
        if (atomic_load(&shared->state) == HVI_SHARED_CLOSED)
            return CLOSED;
        if (atomic_load(&shared->leader) == member)
            return MUST_LEAD;
        int64_t until = atomic_load(&shared->state) == HVI_SHARED_WAITING ? member->wait_until
                                                                          : member->deadline;
        if (hvi_futex_wait(&shared->event, event, until))
            continue;
        if (withdraw(lanes, shared, member))
            return WITHDRAWN;
        if (member->abandoned && atomic_load(&shared->state) != HVI_SHARED_DONE)
            return ABANDONED;
    }
}

/* Hand over the member's part of a DONE batch to its operation. */
static hvi_next take(hvi_operation *operation, const hvi_member *member) {
    const char *body = operation->item.body;
    operation->item = member->item;
    operation->item.body = body;
    return hvi_operation_take(operation);
}

/* With a statement of its own, in a lane that was taken at `since`, or in none if that is 0. */
static hvi_next send_alone(hvi_lanes *lanes, hvi_operation *operation, int64_t since) {
    hvi_batch batch;
    hvi_item *item = &operation->item;
    hvi_batch_init(&batch, &item, 1);
    batch.log = wants_parameters(lanes);
    lanes->run(lanes, &batch, operation->apart, operation->deadline);
    if (since != 0)
        release_lane(lanes, since, false);
    hvi_next next = hvi_operation_take(operation);
    hvi_batch_fini(&batch);
    return next;
}

static hvi_next send_shared(hvi_lanes *lanes, hvi_shared *shared, hvi_member *member,
                            hvi_operation *operation) {
    hv_error *cause = NULL;
    hvi_next next;
    wake_reason reason = follow(lanes, shared, member);
    while (reason == MUST_LEAD) {
        if (!await_lane(lanes, shared, member)) {
            reason = WITHDRAWN;
        } else if (atomic_load(&shared->state) == HVI_SHARED_CLOSED) {
            reason = CLOSED;
        } else {
            start_running(lanes, shared);
            if (shared->count == 1) { /* no caller has joined: no need for a batch */
                unref(shared);
                return send_alone(lanes, operation, hvi_clock_us());
            }
            if (hand_over(lanes, shared, member)) {
                reason = follow(lanes, shared, member);
            } else {
                lead(lanes, shared);
                reason = BATCH_DONE;
            }
        }
    }
    if (reason == BATCH_DONE) {
        next = take(operation, member);
    } else if (reason == ABANDONED) { /* its statement was sent with others' */
        next = hvi_operation_late(operation, true);
    } else {
        if (reason == WITHDRAWN)
            fail_waiting(lanes, &cause);
        else
            hvi_fail(&cause, HV_CLOSED, "the store is closed");
        operation->item.fate = HVI_FATE_UNSENT;
        operation->item.error = cause;
        next = hvi_operation_take(operation);
        hv_error_free(cause);
    }
    if (reason == WITHDRAWN)
        free(member); /* it is no longer in the batch */
    unref(shared);
    return next;
}

/* ---- sending ---- */

/* Take a lane, if one is free and there is no batch to join. Under the lock. */
static bool take_lane(hvi_lanes *lanes, const hvi_item *item) {
    if (lanes->busy >= lanes->max && !lanes->closed) /* if they are closed, the pool reports it */
        return false;
    if (item != NULL && find_room(lanes, item) != NULL)
        return false;
    lanes->busy++;
    return true;
}

/* May it share a lane with others? Not if the log wants parameters: it gets those of single
 * operations only. */
static bool may_share(const hvi_lanes *lanes, const hvi_operation *operation) {
    return lanes->max > 0 && !operation->apart && !wants_parameters(lanes) &&
           operation->item.body_len <= HVI_LANE_MAX_BODY && operation->item.count <= 1;
}

hvi_next hvi_lanes_send(hvi_lanes *lanes, hvi_operation *operation) {
    hvi_operation_prepare(operation);
    if (!may_share(lanes, operation))
        return send_alone(lanes, operation, 0);
    pthread_mutex_lock(&lanes->lock);
    bool has_lane = !lanes->crowded && take_lane(lanes, NULL);
    pthread_mutex_unlock(&lanes->lock);
    if (has_lane)
        return send_alone(lanes, operation, hvi_clock_us());

    hvi_member *member = new_member(lanes, operation);
    if (member == NULL)
        return send_alone(lanes, operation, 0); /* without a lane it may still work */
    pthread_mutex_lock(&lanes->lock);
    has_lane = take_lane(lanes, &member->item);
    hvi_shared *shared = join(lanes, member);
    if (shared != NULL && has_lane) /* the batch is new */
        atomic_store(&shared->granted, 1);
    pthread_mutex_unlock(&lanes->lock);
    if (shared != NULL)
        return send_shared(lanes, shared, member, operation);
    free(member);
    return send_alone(lanes, operation, has_lane ? hvi_clock_us() : 0);
}

void hvi_lanes_run(hvi_operation *operation) {
    hvi_next next;
    while ((next = hvi_lanes_send(operation->target.server->lanes, operation)) != HVI_DONE)
        if (next == HVI_PAUSE && !hvi_operation_wait(operation))
            return;
}
