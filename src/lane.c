/*
 * lane: many callers' operations on few connections.
 *
 * A batch's states, and who changes them:
 *
 *             join()                    grant()                     finish()
 *     (new) ─────────► WAITING ─────────────────────► RUNNING ─────────────────► DONE
 *                        │  ▲                            │ the leader alone touches its
 *         join(),        │  │                            │ operations, but for `abandoned`
 *         step_out() ────┼──┘
 *         (the last one  │ hvi_lanes_close()
 *         out frees it)  └────────────────► SENT_AWAY
 *
 * While it is WAITING it is in lanes->waiting and guarded by the lock. Its members sleep: the
 * leader on `granted`, the others on `event`, which also tells them that the leader has stepped out
 * because its deadline passed, and one of them leads now. A batch runs until its leader's deadline;
 * so a leader that has a lane, but less time than another, hands both over. A member whose deadline
 * passes steps out of a WAITING batch; in a RUNNING one it leaves its operation behind, marked
 * abandoned. The batch is freed by whoever drops the last reference, its operations and results
 * with it.
 *
 * Holds always: `busy` lanes are taken, at most `max`; while a batch waits, all are.
 */
#include "lane.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "futex.h"

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
    *lanes = (hvi_lanes){.pool = pool, .max = max, .wait_ms = wait_ms};
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

static hvi_batch *batch_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_batch, link);
}

/* ---- taking and giving lanes; under the lock ---- */

/* A lane has come free: the oldest batch gets it. */
static void grant(hvi_lanes *lanes) {
    hvi_list *node = hvi_list_pop_front(&lanes->waiting);
    if (node == NULL) {
        lanes->busy--;
        return;
    }
    hvi_batch *batch = batch_of(node);
    atomic_store(&batch->state, HVI_BATCH_RUNNING);
    atomic_store(&batch->granted, 1);
    hvi_futex_wake(&batch->granted, 1);
}

void hvi_lane_leave(hvi_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    grant(lanes);
    pthread_mutex_unlock(&lanes->lock);
}

/* The batch that the operation joins; NULL if memory is short. */
static hvi_batch *join(hvi_lanes *lanes, hvi_lane_operation *operation) {
    hvi_batch *batch = hvi_list_empty(&lanes->waiting) ? NULL : batch_of(lanes->waiting.prev);
    if (batch == NULL || !hvi_batch_has_room(batch, operation)) {
        batch = hvi_batch_new(operation);
        if (batch != NULL)
            hvi_list_push_back(&lanes->waiting, &batch->link);
    } else {
        hvi_batch_add(batch, operation);
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
    bool waits = atomic_load(&batch->state) == HVI_BATCH_WAITING;
    if (waits) {
        hvi_batch_remove(batch, operation);
        if (batch->count == 0)
            hvi_list_remove(&batch->link);
        else if (atomic_load(&batch->leader) == NULL) {
            atomic_store(&batch->leader, batch->operations[0]);
            atomic_fetch_add(&batch->event, 1);
            hvi_futex_wake(&batch->event, HVI_FUTEX_ALL);
        }
    } else if (hvi_clock_us() >= operation->request.deadline) {
        operation->abandoned = atomic_load(&batch->leader) != operation;
    }
    pthread_mutex_unlock(&lanes->lock);
    return waits;
}

static hv_status fail_waiting(const hvi_lanes *lanes, int shard, hv_error **error) {
    const char *server = lanes->pool->config.session.server;
    hvi_fail(error, HV_TIMEOUT, "no lane to server \"%s\" came free in time", server);
    hvi_error_hint(error, "The server is too slow for its load; the option \"pool_block_timeout\" "
                          "says how long to wait.");
    hvi_error_where(error, server, shard);
    return HV_TIMEOUT;
}

void hvi_lanes_close(hvi_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    lanes->closed = true;
    for (hvi_list *node; (node = hvi_list_pop_front(&lanes->waiting)) != NULL;) {
        hvi_batch *batch = batch_of(node);
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

/* Wait until a lane is granted; false if the deadline passed first and the leader stepped out. */
static bool await_lane(hvi_lanes *lanes, hvi_batch *batch, hvi_lane_operation *leader) {
    while (atomic_load(&batch->granted) == 0)
        if (!hvi_futex_wait(&batch->granted, 0, leader->wait_until) &&
            step_out(lanes, batch, leader))
            return false;
    return true;
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

/* Run the batch in the lane that was granted, pass the lane on, and wake the others. */
static void lead(hvi_lanes *lanes, hvi_batch *batch) {
    hvi_batch_run(batch, lanes->pool, lanes->wait_ms);
    hvi_lane_leave(lanes);
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
        } else if (batch->count == 1) { /* nobody has joined: no need for a batch */
            hvi_batch_unref(batch);
            return HVI_LANE_ALONE;
        } else if (hand_over(lanes, batch, operation)) {
            reason = follow(lanes, batch, operation);
        } else {
            lead(lanes, batch);
            reason = BATCH_DONE;
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

hvi_lane_outcome hvi_lane_run(hvi_lanes *lanes, const hvi_lane_request *request,
                              hvi_lane_answer *answer, hv_error **error) {
    *answer = (hvi_lane_answer){0};
    if (lanes->max == 0 || request->item.body_len > HVI_LANE_MAX_BODY)
        return HVI_LANE_NONE;
    pthread_mutex_lock(&lanes->lock);
    bool free_lane =
        lanes->busy < lanes->max || lanes->closed; /* the pool says that it is closed */
    if (free_lane)
        lanes->busy++;
    pthread_mutex_unlock(&lanes->lock);
    if (free_lane)
        return HVI_LANE_ALONE;

    hvi_lane_operation *operation = hvi_lane_operation_new(request);
    if (operation == NULL)
        return HVI_LANE_NONE; /* without a lane it may still work */
    int64_t wait_until = hvi_deadline_after(lanes->wait_ms);
    operation->wait_until = wait_until < request->deadline ? wait_until : request->deadline;
    hvi_batch *batch = NULL;
    pthread_mutex_lock(&lanes->lock);
    free_lane = lanes->busy < lanes->max || lanes->closed; /* meanwhile */
    if (free_lane)
        lanes->busy++;
    else
        batch = join(lanes, operation);
    pthread_mutex_unlock(&lanes->lock);
    if (batch != NULL)
        return wait_in_batch(lanes, batch, operation, answer, error);
    hvi_lane_operation_free(operation);
    return free_lane ? HVI_LANE_ALONE : HVI_LANE_NONE;
}

void hvi_lane_answer_fini(hvi_lane_answer *answer) {
    if (answer->batch != NULL)
        hvi_batch_unref(answer->batch);
    answer->batch = NULL;
}
