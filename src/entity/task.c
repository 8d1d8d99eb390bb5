/*
 * task: one operation of a queue.
 *
 * What a task's item runs, and what leads from one to the other:
 *
 *     get:      GET ──► found, or not
 *
 *     put:      PUT ──► stored, or swallowed: HV_NOT_STORED
 *                └─ the made key has an entity: PUT again, apart
 *
 *     put_key:  PUT_KEY ──► stored
 *                │   ▲
 *                ▼   │ there is nothing: again, apart, where the server says why it is not stored;
 *                │   │ but HV_NOT_STORED if it was swallowed
 *               GET ─┴──► the same: as stored; another: HV_CONFLICT
 *
 *     once:     RESERVE ──► PUT_KEY ──► stored; GET as above
 *                  ▲           └─ the key has an entity: `unknown`: it is this put's, so stored
 *                  └──────────────────────────────────── else: an older one, take another key
 *
 * The statuses and texts are those of hv_put(), hv_put_key() and hv_get().
 */
#include "entity/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "value/hstore.h"
#include "value/limits.h"
#include "wire/refusal.h"
#include "entity/get.h"
#include "entity/put.h"
#include "entity/reserve.h"

/* ---- life ---- */

static hvi_task *new_task(const hvi_operation *operation, hvi_verb verb, const hvi_buffer *body) {
    size_t len = body != NULL ? body->len : 0;
    hvi_task *made = malloc(sizeof *made + len);
    if (made == NULL)
        return NULL;
    *made = (hvi_task){.operation = *operation, .asked = verb};
    char *copy = (char *) (made + 1);
    if (len > 0)
        memcpy(copy, body->data, len);
    made->item = (hvi_item){.verb = verb, .shard = operation->shard, .body = copy, .body_len = len};
    hvi_list_init(&made->link);
    return made;
}

hv_status hvi_task_new_get(hvi_router *router, int64_t key, hvi_task **task, hv_error **error) {
    hvi_operation operation;
    hv_status status = hvi_operation_init_key(&operation, router, key, error);
    if (status != HV_OK)
        return status;
    hvi_task *made = new_task(&operation, HVI_GET, NULL);
    if (made == NULL)
        return hvi_no_memory(error);
    made->item.key = key;
    *task = made;
    return HV_OK;
}

hv_status hvi_task_new_put(hvi_router *router, const hv_new_entity *entity, bool once,
                           hvi_buffer *scratch, hvi_task **task, hv_error **error) {
    hvi_operation operation;
    hvi_buffer_reset(scratch);
    hv_status status = hvi_check_kind(entity->kind, error);
    if (status == HV_OK)
        status = entity->key != 0 ? hvi_operation_init_key(&operation, router, entity->key, error)
                                  : hvi_operation_init(&operation, router, entity->shard, error);
    if (status == HV_OK)
        status = hvi_put_encode(entity->dict, scratch, error);
    if (status != HV_OK)
        return status;
    hvi_verb asked = entity->key != 0 ? HVI_PUT_KEY : HVI_PUT;
    hvi_task *made = new_task(&operation, asked, scratch);
    if (made == NULL)
        return hvi_no_memory(error);
    made->once = once && asked == HVI_PUT;
    if (made->once)
        made->item.verb = HVI_RESERVE;
    made->item.key = entity->key;
    made->item.kind = entity->kind;
    *task = made;
    return HV_OK;
}

void hvi_task_free(hvi_task *task) {
    if (task == NULL)
        return;
    hv_error_free(task->cause);
    hv_error_free(task->error);
    hv_entity_free(task->entity);
    free(task);
}

void hvi_task_prepare(hvi_task *task) {
    task->item.answered = false;
    task->item.swallowed = false;
    task->item.result = NULL;
    task->item.error = NULL;
    task->item.new_key = 0;
}

/* ---- ends ---- */

static hvi_next done(hvi_task *task, hv_status status) {
    task->status = status;
    return HVI_TASK_DONE;
}

/* Takes *cause. */
static hvi_next fail(hvi_task *task, hv_error **cause) {
    return done(task, hvi_operation_explain(&task->operation, cause, &task->error));
}

static hvi_next fail_as(hvi_task *task, const hv_error *cause) {
    hv_error *copy = hvi_error_copy(cause);
    return fail(task, &copy);
}

/* Wait, and remember what for. Takes *cause. */
static hvi_next wait_for(hvi_task *task, hv_error **cause, hvi_next next) {
    hvi_error_move(&task->cause, cause);
    return next;
}

/* ---- answers ---- */

/* Is what lies under the key what was to be put there? */
static hv_status compare(hvi_task *task, bool *same) {
    hv_entity *there = NULL;
    hv_dict *dict = NULL;
    const hvi_item *item = &task->item;
    hv_status status =
        hvi_get_take(item->result, item->row, &task->operation, &there, &task->error);
    if (status == HV_OK)
        status = hvi_hstore_decode(item->body, item->body_len, &dict, &task->error);
    if (status == HV_OK)
        *same = hv_entity_kind(there) == item->kind && hv_dict_equal(hv_entity_dict(there), dict);
    hv_entity_free(there);
    hv_dict_free(dict);
    return status;
}

/* Put under the key. */
static hvi_next put_again(hvi_task *task, hvi_next next) {
    task->comparing = false;
    task->item.verb = HVI_PUT_KEY;
    return next;
}

/* The key has an entity: fetch it. */
static hvi_next look(hvi_task *task) {
    task->comparing = true;
    task->item.verb = HVI_GET;
    return HVI_TASK_AGAIN;
}

static hvi_next take_another_key(hvi_task *task) {
    task->comparing = false;
    task->item.verb = HVI_RESERVE;
    return HVI_TASK_AGAIN;
}

/* This try to put it has failed for good; an earlier one may have gone otherwise. Takes *cause. */
static hvi_next fail_put(hvi_task *task, hv_error **cause) {
    if (!task->once || !task->unknown)
        return fail(task, cause);
    return done(task, hvi_put_fail_unknown(&task->operation, task->item.key, *cause, &task->error));
}

/* The server has done without it. */
static hvi_next swallowed(hvi_task *task) {
    hv_error *cause = NULL;
    hvi_operation_fail_not_stored(&task->operation, NULL, &cause);
    hvi_next next = fail_put(task, &cause);
    hv_error_free(cause);
    return next;
}

static hvi_next compared(hvi_task *task) {
    bool same = false;
    if (!task->item.answered && task->swallowed)
        return swallowed(task);
    if (!task->item.answered) {
        /* It was removed between the two statements; or it was never there, and the put was refused
         * for another constraint, or, together with others, swallowed. */
        if (task->cause == NULL)
            return put_again(task, HVI_TASK_APART);
        if (!hvi_put_is_key_collision(task->cause))
            return fail_put(task, &task->cause);
        if (++task->hidden < HVI_PUT_HIDDEN_TRIES)
            return put_again(task, HVI_TASK_PAUSE_APART);
        if (!task->once)
            return done(task, hvi_put_fail_hidden(&task->operation, task->item.key, &task->cause,
                                                  &task->error));
    }
    if (task->once)
        return task->unknown ? done(task, HV_OK) : take_another_key(task);
    hv_status status = compare(task, &same);
    if (status == HV_OK && !same)
        status = hvi_put_fail_conflict(&task->operation, task->item.key, &task->error);
    return done(task, status);
}

static hvi_next got(hvi_task *task) {
    const hvi_item *item = &task->item;
    if (!item->answered)
        return done(task, HV_NOT_FOUND);
    return done(
        task, hvi_get_take(item->result, item->row, &task->operation, &task->entity, &task->error));
}

static hvi_next put(hvi_task *task) {
    if (task->item.swallowed)
        return swallowed(task);
    if (!task->item.answered)
        return done(task, hvi_operation_fail_answer(&task->operation, &task->error));
    task->item.key = task->item.new_key;
    return done(task, hvi_put_check_made_key(&task->operation, task->item.key, &task->error));
}

static hvi_next put_under_key(hvi_task *task) {
    if (task->item.answered)
        return done(task, HV_OK);
    task->swallowed = task->item.swallowed;
    hv_error_free(task->cause);
    task->cause = NULL;
    return look(task);
}

static hvi_next reserved(hvi_task *task) {
    if (!task->item.answered)
        return done(task, hvi_operation_fail_answer(&task->operation, &task->error));
    hv_status status = hvi_reserve_check_key(&task->operation, task->item.new_key, &task->error);
    if (status != HV_OK)
        return done(task, status);
    task->item.key = task->item.new_key;
    return put_again(task, HVI_TASK_AGAIN);
}

hvi_next hvi_task_answered(hvi_task *task) {
    if (task->item.error != NULL)
        return fail_as(task, task->item.error);
    switch (task->item.verb) {
    case HVI_GET:
        return task->comparing ? compared(task) : got(task);
    case HVI_PUT:
        return put(task);
    case HVI_PUT_KEY:
        return put_under_key(task);
    default:
        return reserved(task);
    }
}

/* ---- failures ---- */

hvi_next hvi_task_refused(hvi_task *task, hv_error **cause) {
    hvi_verb verb = task->item.verb;
    if (verb == HVI_PUT && hvi_put_is_key_collision(*cause))
        return wait_for(task, cause,
                        ++task->collisions < HVI_PUT_QUICK_TRIES ? HVI_TASK_APART
                                                                 : HVI_TASK_PAUSE_APART);
    if (verb == HVI_PUT_KEY &&
        (hvi_put_is_unique_violation(*cause) || hvi_refusal_is_of_row(*cause))) {
        hvi_error_move(&task->cause, cause);
        task->swallowed = false;
        return look(task);
    }
    if (task->once && hvi_put_may_pass(hv_error_status(*cause), *cause))
        return wait_for(task, cause, HVI_TASK_PAUSE_APART);
    if (verb == HVI_RESERVE && hv_error_status(*cause) == HV_REFUSED && !task->unknown)
        return done(task, hvi_reserve_fail(&task->operation, cause, &task->error));
    return fail_put(task, cause);
}

/* The connection's end says less about a read: nothing was to be written. */
static hvi_next fail_read(hvi_task *task, const hv_error *cause) {
    const char *server = task->operation.server->name;
    if (hv_error_status(cause) != HV_OUTCOME_UNKNOWN)
        return fail_as(task, cause);
    task->status =
        hvi_fail(&task->error, HV_UNAVAILABLE, "connection to server \"%s\" lost", server);
    if (hv_error_detail(cause) != NULL)
        hvi_error_detail(&task->error, "%s", hv_error_detail(cause));
    hvi_error_sqlstate(&task->error, hv_error_sqlstate(cause));
    hvi_error_where(&task->error, server, task->operation.shard);
    return HVI_TASK_DONE;
}

static bool is_write(const hvi_task *task) {
    return task->item.verb == HVI_PUT || task->item.verb == HVI_PUT_KEY;
}

hvi_next hvi_task_lost(hvi_task *task, const hv_error *cause) {
    hv_status status = hv_error_status(cause);
    if (task->once && status != HV_NO_MEMORY) {
        hv_error *copy = hvi_error_copy(cause);
        task->unknown = task->unknown || (status == HV_OUTCOME_UNKNOWN && is_write(task));
        return wait_for(task, &copy, HVI_TASK_PAUSE);
    }
    if (status == HV_OUTCOME_UNKNOWN && is_write(task))
        return fail_as(task, cause);
    if (status != HV_NO_MEMORY && task->lost++ == 0)
        return HVI_TASK_AGAIN;
    return fail_read(task, cause);
}

hvi_next hvi_task_failed(hvi_task *task, const hv_error *cause) {
    hv_error *copy = hvi_error_copy(cause);
    if (task->once && hvi_put_may_pass(hv_error_status(cause), cause))
        return wait_for(task, &copy, HVI_TASK_PAUSE);
    if (!task->once || !task->unknown)
        return fail(task, &copy);
    hv_error_free(copy);
    return done(task, hvi_put_fail_unknown(&task->operation, task->item.key, cause, &task->error));
}

static hv_status fail_waiting(const hvi_task *task, hv_error **error) {
    const char *server = task->operation.server->name;
    if (hvi_interrupted()) {
        hvi_fail(error, HV_TIMEOUT, "interrupted while waiting for a connection to server \"%s\"",
                 server);
    } else {
        hvi_fail(error, HV_TIMEOUT, "no connection to server \"%s\" came free in time", server);
        hvi_error_hint(error, "The server is too slow for its load: see the option "
                              "\"operation_timeout\".");
    }
    hvi_error_where(error, server, task->operation.shard);
    return HV_TIMEOUT;
}

hvi_next hvi_task_late(hvi_task *task, bool is_sent) {
    const hvi_operation *operation = &task->operation;
    hv_error *cause = task->cause;
    task->cause = NULL;
    if (task->once && (task->unknown || (is_sent && is_write(task)))) {
        if (cause == NULL)
            hvi_fail_late(operation->server->name, operation->shard, true, &cause);
        task->status = hvi_put_fail_unknown(operation, task->item.key, cause, &task->error);
    } else if (is_sent) {
        task->status =
            hvi_fail_late(operation->server->name, operation->shard, is_write(task), &task->error);
    } else if (task->collisions > 0 && cause != NULL) {
        task->status = hvi_put_fail_collision(&cause, &task->error);
    } else if (cause != NULL) {
        task->status = hvi_operation_explain(operation, &cause, &task->error);
    } else {
        task->status = fail_waiting(task, &task->error);
    }
    hv_error_free(cause);
    return HVI_TASK_DONE;
}
