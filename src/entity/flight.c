/*
 * flight: tasks on their way to a server and back as one pipeline.
 */
#include "entity/flight.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "wire/refusal.h"

static hvi_task *task_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_task, link);
}

/* ---- taking off ---- */

/* How many tasks from the front of the list fit? */
static size_t count_fitting(const hvi_list *from) {
    size_t count = 0, bytes = 0;
    for (hvi_list *node = from->next; node != from && count < HVI_FLIGHT_MAX_TASKS;
         node = node->next) {
        bytes += task_of(node)->item.body_len;
        if (count > 0 && bytes > HVI_FLIGHT_MAX_BYTES)
            break;
        count++;
    }
    return count;
}

static void take_tasks(hvi_flight *flight, hvi_list *from, size_t count) {
    flight->count = count;
    flight->deadline = HVI_NEVER;
    for (size_t i = 0; i < count; i++) {
        hvi_task *task = task_of(hvi_list_pop_front(from));
        hvi_task_prepare(task);
        task->patient = false;
        task->aloft = true;
        flight->tasks[i] = task;
        flight->items[i] = &task->item;
        if (task->deadline < flight->deadline)
            flight->deadline = task->deadline;
    }
}

/* Make groups and queries of the items. False if memory is short. */
static bool make_queries(hvi_flight *flight) {
    hvi_session *session = flight->session;
    hvi_session_knows_arrays(session);
    size_t count = flight->count;
    flight->groups = malloc(count * sizeof *flight->groups);
    flight->queries = calloc(count, sizeof *flight->queries);
    flight->results = calloc(count, sizeof(PGresult *));
    if (flight->groups == NULL || flight->queries == NULL || flight->results == NULL)
        return false;
    if (flight->apart)
        hvi_groups_make_apart(flight->items, count, flight->groups);
    flight->group_count =
        flight->apart ? count : hvi_groups_make(flight->items, count, flight->groups);
    for (size_t i = 0; i < flight->group_count; i++)
        if (!hvi_group_query(&flight->groups[i], session, &flight->queries[i]))
            return false;
    return true;
}

void hvi_flight_start(hvi_flight *flight, hvi_pool *pool, hvi_session *session, hvi_list *from,
                      bool apart) {
    flight->state = HVI_FLIGHT_RUNNING;
    flight->pool = pool;
    flight->session = session;
    flight->apart = apart;
    flight->group_count = 0;
    flight->is_sent = false;
    take_tasks(flight, from, count_fitting(from));
    if (!make_queries(flight))
        return; /* hvi_flight_land() will say so */
    hvi_pipeline_start(&flight->pipeline, session, flight->queries, flight->group_count, apart);
    flight->is_sent = true;
    for (size_t i = 0; i < flight->group_count; i++)
        hvi_group_forget_parameters(&flight->groups[i]);
}

hvi_wants hvi_flight_advance(hvi_flight *flight) {
    return flight->is_sent ? hvi_pipeline_advance(&flight->pipeline) : HVI_WANTS_NOTHING;
}

/* ---- landing ---- */

/* How often a task goes again over what a session remembers of prepared statements and types. */
#define MAX_STALE 2

/* A task that went apart was refused. */
static hvi_next next_after_own_refusal(hvi_flight *flight, hvi_task *task, const hv_error *cause) {
    if (hvi_refusal_is_stale(cause) && task->lost++ < MAX_STALE) {
        hvi_session_doubt(flight->session);
        return HVI_TASK_APART;
    }
    hv_error *copy = hvi_error_copy(cause);
    hvi_next next = hvi_task_refused(task, &copy);
    hv_error_free(copy);
    return next;
}

/* A refused transaction: nothing has happened, and one of its tasks is to blame. If it was only
 * about prepared statements or their types, none is, and the session has to go. Apart, a task needs
 * neither of them, and has the plain statement, which a rule of the table may let through. */
static hvi_next next_after_refusal(hvi_flight *flight, hvi_task *task, const hv_error *cause) {
    bool is_stale = hvi_refusal_is_stale(cause);
    if (flight->apart)
        return next_after_own_refusal(flight, task, cause);
    if (is_stale && task->lost++ == 0)
        return HVI_TASK_AGAIN;
    if (flight->count > 1 || is_stale || hvi_refusal_is_of_row(cause))
        return HVI_TASK_APART;
    return next_after_own_refusal(flight, task, cause);
}

/* What became of a task whose transaction failed as a whole, or was lost. */
static hvi_next next_after_failure(hvi_flight *flight, hvi_task *task, hv_status status,
                                   const hv_error *cause, int64_t now) {
    if (status == HV_REFUSED)
        return next_after_refusal(flight, task, cause);
    if (status == HV_TIMEOUT) /* given up before it was sent */
        return task->deadline <= now ? hvi_task_failed(task, cause) : HVI_TASK_AGAIN;
    return hvi_task_lost(task, cause);
}

/* What became of a task that went apart and was answered. */
static hvi_next next_apart(hvi_flight *flight, size_t number) {
    const PGresult *result = flight->results[number];
    hvi_task *task = flight->tasks[number];
    if (hvi_result_is_good(result)) {
        hvi_group_answer(&flight->groups[number], result, flight->session->config->server);
        return hvi_task_answered(task);
    }
    hv_error *cause = NULL;
    hvi_session_fail_refused(flight->session, &flight->queries[number], result, &cause);
    hvi_next next = next_after_own_refusal(flight, task, cause);
    hv_error_free(cause);
    return next;
}

static hvi_next next_of(hvi_flight *flight, size_t number, hv_status status, const hv_error *cause,
                        int64_t now) {
    hvi_task *task = flight->tasks[number];
    if (flight->apart && flight->results != NULL && flight->results[number] != NULL)
        return next_apart(flight, number);
    return status == HV_OK ? hvi_task_answered(task)
                           : next_after_failure(flight, task, status, cause, now);
}

/* What the pipeline gave is used up; its memory goes. */
static void clear(hvi_flight *flight) {
    for (size_t i = 0; i < flight->group_count; i++) {
        hvi_group_fini(&flight->groups[i]);
        PQclear(flight->results[i]);
    }
    free(flight->groups);
    free(flight->queries);
    free(flight->results);
    flight->groups = NULL;
    flight->queries = NULL;
    flight->results = NULL;
    flight->group_count = 0;
}

void hvi_flight_land(hvi_flight *flight, hvi_landed_fn landed, void *context) {
    hv_error *cause = NULL;
    hv_status status = flight->is_sent
                           ? hvi_pipeline_finish(&flight->pipeline, flight->results, &cause)
                           : hvi_no_memory(&cause);
    if (hvi_refusal_is_stale(cause))
        hvi_session_doubt(flight->session);
    for (size_t i = 0; status == HV_OK && !flight->apart && i < flight->group_count; i++)
        hvi_group_answer(&flight->groups[i], flight->results[i], flight->session->config->server);
    hvi_next next[HVI_FLIGHT_MAX_TASKS];
    int64_t now = hvi_clock_us();
    for (size_t i = 0; i < flight->count; i++)
        if (!flight->tasks[i]->gone)
            next[i] = next_of(flight, i, status, cause, now);
    hvi_pool_release(flight->pool, flight->session);
    flight->session = NULL;
    clear(flight);
    hv_error_free(cause);
    flight->state = HVI_FLIGHT_IDLE;
    /* What has to go again goes back to the front of its line: the last first. */
    size_t count = flight->count;
    flight->count = 0;
    for (size_t i = count; i-- > 0;) {
        hvi_task *task = flight->tasks[i];
        task->aloft = false;
        if (task->gone)
            next[i] = HVI_TASK_DONE;
        else if (next[i] != HVI_TASK_DONE)
            landed(context, task, next[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (next[i] != HVI_TASK_DONE)
            continue;
        if (flight->tasks[i]->gone)
            hvi_task_free(flight->tasks[i]);
        else
            landed(context, flight->tasks[i], HVI_TASK_DONE);
    }
}

void hvi_flight_make_late(hvi_flight *flight) {
    flight->deadline = 0;
    for (size_t i = 0; i < flight->count; i++)
        flight->tasks[i]->deadline = 0;
}

bool hvi_flight_expire(hvi_flight *flight, int64_t now, hvi_landed_fn landed, void *context) {
    if (flight->deadline > now)
        return false;
    if (!flight->pipeline.exchange.sent) /* then nothing of it will have happened */
        return true;
    size_t left = 0;
    flight->deadline = HVI_NEVER;
    for (size_t i = 0; i < flight->count; i++) {
        hvi_task *task = flight->tasks[i];
        if (task->gone)
            continue;
        if (task->deadline <= now) {
            landed(context, task, hvi_task_late(task, true));
            continue;
        }
        left++;
        if (task->deadline < flight->deadline)
            flight->deadline = task->deadline;
    }
    return left == 0;
}

void hvi_flight_forget(hvi_flight *flight) {
    if (flight->is_sent)
        hvi_pipeline_forget(&flight->pipeline);
    clear(flight);
    for (size_t i = 0; i < flight->count; i++)
        hvi_task_free(flight->tasks[i]);
}
