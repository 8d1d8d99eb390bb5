/*
 * lane: many callers' operations on few connections.
 *
 * A batch's states, and who changes them:
 *
 *                        ┌──┐ join(), step_out()
 *             join()     ▼  │     start_running()                   lead()
 *     (new) ─────────► WAITING ─────────────────────► RUNNING ─────────────────► DONE
 *                        │        its leader has been    the leader alone touches its
 *                        │        granted a lane         operations, but for `abandoned`
 *                        │ hvi_lanes_close()
 *                        └──────────────────► SENT_AWAY
 *
 * While it is WAITING it is in lanes->waiting and guarded by the lock. Its members sleep: the
 * leader on `granted`, the others on `event`, which also tells them that the leader has stepped out
 * because its deadline passed, and one of them leads now. A batch runs until its leader's deadline;
 * so a leader that has a lane, but less time than another, hands both over. A member whose deadline
 * passes steps out of a WAITING batch; in a RUNNING one it leaves its operation behind, marked
 * abandoned. The batch is freed by whoever drops the last reference, its operations and results
 * with it.
 *
 * Holds always, until it is closed: `busy` lanes are taken, up to `max`, and up to `most` by
 * batches that have waited long; while a batch waits that has not been granted one, at least `max`
 * are.
 */
#include "entity/lane.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/interrupt.h"

/* How long a batch waits for a lane before it takes a connection of the pool that no lane has:
 * whatever holds the lanes up (a lock, a slow trigger) must not hold up everybody. */
#define PATIENCE_MS 100

static hvi_lanes *lanes_of(hvi_fork_member *member) {
    return hvi_list_entry(member, hvi_lanes, fork);
}

static void fork_prepare(hvi_fork_member *member) {
    pthread_mutex_lock(&lanes_of(member)->lock);
}

static void fork_parent(hvi_fork_member *member) {
    pthread_mutex_unlock(&lanes_of(member)->lock);
}

/* Whoever was in a lane or waited for one is not here; their memory is lost with them. */
static void fork_child(hvi_fork_member *member) {
    hvi_lanes *lanes = lanes_of(member);
    pthread_mutex_init(&lanes->lock, NULL);
    lanes->busy = 0;
    hvi_list_init(&lanes->waiting);
}

hv_status hvi_lanes_init(hvi_lanes *lanes, hvi_pool *pool, int max, int64_t wait_ms,
                         hv_error **error) {
    int most = pool->config.max;
    *lanes = (hvi_lanes){.pool = pool,
                         .max = max < most ? max : most,
                         .most = most,
                         .wait_ms = wait_ms,
                         .run = hvi_batch_run};
    hvi_list_init(&lanes->waiting);
    if (pthread_mutex_init(&lanes->lock, NULL) != 0)
        return hvi_no_memory(error);
    lanes->fork.prepare = fork_prepare;
    lanes->fork.parent = fork_parent;
    lanes->fork.child = fork_child;
    hvi_fork_join(&lanes->fork);
    return HV_OK;
}

void hvi_lanes_fini(hvi_lanes *lanes) {
    hvi_fork_leave(&lanes->fork);
    pthread_mutex_destroy(&lanes->lock);
}

hv_status hvi_lanes_make_all(hvi_router *router, hv_error **error) {
    for (int i = 0; i < router->server_count; i++) {
        hvi_server *server = &router->servers[i];
        hvi_lanes *made = malloc(sizeof *made);
        hv_status status =
            made == NULL
                ? hvi_no_memory(error)
                : hvi_lanes_init(made, &server->pool, (int) router->options->values[HVI_LANES],
                                 router->options->values[HVI_POOL_BLOCK_TIMEOUT], error);
        if (status != HV_OK) {
            free(made);
            hvi_lanes_free_all(router);
            return status;
        }
        server->lanes = made;
    }
    return HV_OK;
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

static hvi_batch *batch_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_batch, link);
}

/* ---- taking and giving lanes; under the lock ---- */

/* The oldest batch that waits for a lane; NULL if there is none. */
static hvi_batch *oldest(const hvi_lanes *lanes) {
    hvi_list_foreach (node, &lanes->waiting)
        if (atomic_load(&batch_of(node)->granted) == 0)
            return batch_of(node);
    return NULL;
}

/*
 * A lane has come free that was taken at `since`: the oldest batch gets it. But where there are
 * extra ones, those that were held up come back last; then there are enough again.
 */
static void grant(hvi_lanes *lanes, int64_t since) {
    bool held_up = hvi_clock_us() - since > PATIENCE_MS * 1000;
    hvi_batch *batch = oldest(lanes);
    if (batch == NULL || (lanes->busy > lanes->max && held_up)) {
        lanes->busy--;
        return;
    }
    atomic_store(&batch->granted, 1);
    hvi_futex_wake(&batch->granted, 1);
}

static void leave(hvi_lanes *lanes, int64_t since, bool crowded) {
    pthread_mutex_lock(&lanes->lock);
    lanes->crowded = crowded || !hvi_list_empty(&lanes->waiting);
    grant(lanes, since);
    pthread_mutex_unlock(&lanes->lock);
}

void hvi_lane_leave(hvi_lanes *lanes, const hvi_lane_answer *answer) {
    leave(lanes, answer->since, false);
}

static bool last_has_room(const hvi_lanes *lanes, const hvi_lane_operation *operation) {
    return !hvi_list_empty(&lanes->waiting) &&
           hvi_batch_has_room(batch_of(lanes->waiting.prev), operation);
}

/* The batch that the operation joins; NULL if memory is short. */
static hvi_batch *join(hvi_lanes *lanes, hvi_lane_operation *operation) {
    hvi_batch *batch;
    if (last_has_room(lanes, operation)) {
        batch = batch_of(lanes->waiting.prev);
        hvi_batch_add(batch, operation);
    } else {
        batch = hvi_batch_new(operation);
        if (batch != NULL)
            hvi_list_push_back(&lanes->waiting, &batch->link);
    }
    return batch;
}

/*
 * The operation has waited long enough. If its batch still waits, it is taken out, and somebody
 * else leads. Otherwise false; if its deadline has passed too, it is then marked abandoned, unless
 * it has to lead.
 */
static bool step_out(hvi_lanes *lanes, hvi_batch *batch, hvi_lane_operation *operation) {
    pthread_mutex_lock(&lanes->lock);
    bool must_lead = atomic_load(&batch->leader) == operation && atomic_load(&batch->granted) != 0;
    bool waits = atomic_load(&batch->state) == HVI_BATCH_WAITING && !must_lead;
    if (waits) {
        hvi_batch_remove(batch, operation);
        if (batch->count == 0)
            hvi_list_remove(&batch->link);
        else if (atomic_load(&batch->leader) == NULL) {
            atomic_store(&batch->leader, batch->operations[0]);
            atomic_fetch_add(&batch->event, 1);
            hvi_futex_wake(&batch->event, HVI_FUTEX_ALL);
        }
    } else if (hvi_is_late(operation->request.deadline)) {
        operation->abandoned = atomic_load(&batch->leader) != operation;
    }
    pthread_mutex_unlock(&lanes->lock);
    return waits;
}

static hv_status fail_waiting(const hvi_lanes *lanes, int shard, hv_error **error) {
    const char *server = lanes->pool->config.session.server;
    if (hvi_interrupted()) {
        hvi_fail(error, HV_TIMEOUT, "interrupted while waiting for a lane to server \"%s\"",
                 server);
    } else {
        hvi_fail(error, HV_TIMEOUT, "no lane to server \"%s\" came free in time", server);
        hvi_error_hint(error, "The server is too slow for its load; the option "
                              "\"pool_block_timeout\" says how long to wait.");
    }
    hvi_error_where(error, server, shard);
    return HV_TIMEOUT;
}

void hvi_lanes_close(hvi_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    lanes->closed = true;
    for (hvi_batch *batch; (batch = oldest(lanes)) != NULL;) {
        hvi_list_remove(&batch->link);
        atomic_fetch_add(&batch->references, 1); /* its members may be awake, and leave at once */
        atomic_store(&batch->state, HVI_BATCH_SENT_AWAY);
        atomic_store(&batch->granted, 1);
        atomic_fetch_add(&batch->event, 1);
        hvi_futex_wake(&batch->granted, 1);
        hvi_futex_wake(&batch->event, HVI_FUTEX_ALL);
        hvi_batch_unref(batch);
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* ---- leading and following ---- */

/* The batch has waited long, and its leader looks for a connection that no lane has. */
static void take_extra_lane(hvi_lanes *lanes, hvi_batch *batch) {
    pthread_mutex_lock(&lanes->lock);
    if (lanes->busy < lanes->most && atomic_load(&batch->granted) == 0) {
        lanes->busy++;
        atomic_store(&batch->granted, 1);
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* Wait until a lane is granted; false if the deadline passed first and the leader stepped out. */
static bool await_lane(hvi_lanes *lanes, hvi_batch *batch, hvi_lane_operation *leader) {
    int64_t extra_at = hvi_deadline_after(PATIENCE_MS);
    while (atomic_load(&batch->granted) == 0) {
        bool is_patient = extra_at < leader->wait_until;
        if (hvi_futex_wait(&batch->granted, 0, is_patient ? extra_at : leader->wait_until))
            continue;
        if (is_patient && !hvi_interrupted()) {
            take_extra_lane(lanes, batch);
            extra_at = hvi_deadline_after(PATIENCE_MS);
        } else if (step_out(lanes, batch, leader)) {
            return false;
        }
    }
    return true;
}

/*
 * A lane is granted. But others may be about to come: those whom the last batch has woken. Let them
 * run and join before the batch goes.
 */
static void start_running(hvi_lanes *lanes, hvi_batch *batch) {
    sched_yield();
    pthread_mutex_lock(&lanes->lock);
    if (atomic_load(&batch->state) == HVI_BATCH_WAITING) {
        hvi_list_remove(&batch->link);
        atomic_store(&batch->state, HVI_BATCH_RUNNING);
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* A lane is granted. If another has clearly more time than the leader, it shall lead. */
static bool hand_over(hvi_lanes *lanes, hvi_batch *batch, const hvi_lane_operation *leader) {
    pthread_mutex_lock(&lanes->lock);
    hvi_lane_operation *latest = NULL;
    for (size_t i = 0; i < batch->count; i++) {
        hvi_lane_operation *one = batch->operations[i];
        if (!one->abandoned && (latest == NULL || one->request.deadline > latest->request.deadline))
            latest = one;
    }
    bool handed = latest->request.deadline - leader->request.deadline > HVI_LANE_MAX_EARLIER;
    if (handed) {
        atomic_store(&batch->leader, latest);
        atomic_fetch_add(&batch->event, 1);
        hvi_futex_wake(&batch->event, HVI_FUTEX_ALL);
    }
    pthread_mutex_unlock(&lanes->lock);
    return handed;
}

/* Somebody leads a batch. */
typedef struct leading {
    hvi_lanes *lanes;
    hvi_batch *batch;
} leading;

static bool leads_nobody(hvi_lanes *lanes, const hvi_batch *batch) {
    bool others = false;
    pthread_mutex_lock(&lanes->lock);
    for (size_t i = 0; i < batch->count; i++)
        others = others || (batch->operations[i] != atomic_load(&batch->leader) &&
                            !batch->operations[i]->abandoned);
    pthread_mutex_unlock(&lanes->lock);
    return !others;
}

/* A leader is interrupted only when nobody else waits for the batch any more: the outcome of the
 * others' operations must not become unknown because he is in a hurry. */
static bool may_stop_leading(void *context) {
    const leading *self = context;
    return leads_nobody(self->lanes, self->batch) && hvi_interrupt_ask_outer();
}

static void run(hvi_lanes *lanes, hvi_batch *batch) {
    leading self = {.lanes = lanes, .batch = batch};
    hvi_interrupt hook = {.fn = hvi_is_interruptible() ? may_stop_leading : NULL, .context = &self};
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, &hook);
    lanes->run(batch, lanes->pool, lanes->wait_ms);
    hvi_interrupt_end(&operation);
}

/* Run the batch in the lane that was granted, pass the lane on, and wake the others, who may be
 * about to come again. */
static void lead(hvi_lanes *lanes, hvi_batch *batch) {
    int64_t since = hvi_clock_us();
    run(lanes, batch);
    leave(lanes, since, true);
    atomic_store(&batch->state, HVI_BATCH_DONE);
    atomic_fetch_add(&batch->event, 1);
    hvi_futex_wake(&batch->event, HVI_FUTEX_ALL);
}

typedef enum wake_reason { BATCH_DONE, MUST_LEAD, STEPPED_OUT, ABANDONED, SENT_AWAY } wake_reason;

static wake_reason follow(hvi_lanes *lanes, hvi_batch *batch, hvi_lane_operation *operation) {
    for (;;) {
        uint32_t event = atomic_load(&batch->event);
        if (atomic_load(&batch->state) == HVI_BATCH_DONE)
            return BATCH_DONE;
        if (atomic_load(&batch->state) == HVI_BATCH_SENT_AWAY)
            return SENT_AWAY;
        if (atomic_load(&batch->leader) == operation)
            return MUST_LEAD;
        int64_t until = atomic_load(&batch->state) == HVI_BATCH_WAITING
                            ? operation->wait_until
                            : operation->request.deadline;
        if (hvi_futex_wait(&batch->event, event, until))
            continue;
        if (step_out(lanes, batch, operation))
            return STEPPED_OUT;
        if (operation->abandoned && atomic_load(&batch->state) != HVI_BATCH_DONE)
            return ABANDONED;
    }
}

/* The caller's deadline passed while others' statements ran with its own. */
static void answer_abandoned(const hvi_lanes *lanes, const hvi_lane_operation *operation,
                             hvi_lane_answer *answer, hv_error **error) {
    const char *server = lanes->pool->config.session.server;
    answer->status = hvi_fail_late(server, operation->request.item.shard,
                                   hvi_verb_is_write(operation->request.item.verb), error);
}

/* Hand the operation's own part of a batch that is DONE over to its caller. */
static void take_answer(hvi_batch *batch, hvi_lane_operation *operation, hvi_lane_answer *answer,
                        hv_error **error) {
    *answer = operation->answer;
    answer->batch = batch;
    if (operation->error != NULL)
        hvi_error_move(error, &operation->error);
}

static hvi_lane_outcome wait_in_batch(hvi_lanes *lanes, hvi_batch *batch,
                                      hvi_lane_operation *operation, hvi_lane_answer *answer,
                                      hv_error **error) {
    wake_reason reason = follow(lanes, batch, operation);
    while (reason == MUST_LEAD) {
        if (!await_lane(lanes, batch, operation)) {
            reason = STEPPED_OUT;
        } else if (atomic_load(&batch->state) == HVI_BATCH_SENT_AWAY) {
            reason = SENT_AWAY;
        } else {
            start_running(lanes, batch);
            if (batch->count == 1) { /* nobody has joined: no need for a batch */
                hvi_batch_unref(batch);
                answer->since = hvi_clock_us();
                return HVI_LANE_ALONE;
            }
            if (hand_over(lanes, batch, operation)) {
                reason = follow(lanes, batch, operation);
            } else {
                lead(lanes, batch);
                reason = BATCH_DONE;
            }
        }
    }
    if (reason == BATCH_DONE)
        take_answer(batch, operation, answer, error);
    else if (reason == STEPPED_OUT)
        answer->status = fail_waiting(lanes, operation->request.item.shard, error);
    else if (reason == SENT_AWAY)
        answer->status = hvi_fail(error, HV_CLOSED, "the store is closed");
    else
        answer_abandoned(lanes, operation, answer, error);
    if (reason == STEPPED_OUT)
        hvi_lane_operation_free(operation); /* it is no longer in the batch */
    if (answer->batch == NULL)
        hvi_batch_unref(batch);
    return HVI_LANE_DONE;
}

/* Take a lane, if one is free and there is no batch to join. Under the lock. */
static bool take_lane(hvi_lanes *lanes, const hvi_lane_operation *operation) {
    if (lanes->busy >= lanes->max && !lanes->closed) /* of a closed one, the pool says it */
        return false;
    if (operation != NULL && last_has_room(lanes, operation))
        return false;
    lanes->busy++;
    return true;
}

hvi_lane_outcome hvi_lane_run(hvi_lanes *lanes, const hvi_lane_request *request,
                              hvi_lane_answer *answer, hv_error **error) {
    *answer = (hvi_lane_answer){.since = hvi_clock_us()};
    if (lanes->max == 0 || request->item.body_len > HVI_LANE_MAX_BODY)
        return HVI_LANE_NONE;
    pthread_mutex_lock(&lanes->lock);
    bool has_lane = !lanes->crowded && take_lane(lanes, NULL);
    pthread_mutex_unlock(&lanes->lock);
    if (has_lane)
        return HVI_LANE_ALONE;

    hvi_lane_operation *operation = hvi_lane_operation_new(request);
    if (operation == NULL)
        return HVI_LANE_NONE; /* without a lane it may still work */
    int64_t wait_until = hvi_deadline_after(lanes->wait_ms);
    operation->wait_until = wait_until < request->deadline ? wait_until : request->deadline;
    pthread_mutex_lock(&lanes->lock);
    has_lane = take_lane(lanes, operation);
    hvi_batch *batch = join(lanes, operation);
    if (batch != NULL && has_lane) /* it is a new one */
        atomic_store(&batch->granted, 1);
    pthread_mutex_unlock(&lanes->lock);
    if (batch == NULL) {
        hvi_lane_operation_free(operation);
        return has_lane ? HVI_LANE_ALONE : HVI_LANE_NONE;
    }
    return wait_in_batch(lanes, batch, operation, answer, error);
}

void hvi_lane_answer_fini(hvi_lane_answer *answer) {
    if (answer->batch != NULL)
        hvi_batch_unref(answer->batch);
    answer->batch = NULL;
}
