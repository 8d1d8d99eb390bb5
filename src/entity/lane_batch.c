/*
 * lane_batch: the operations that share one pipeline.
 *
 * How a batch runs:
 *
 *     run_together()        all groups under one Sync, so as one transaction
 *       │ refused           nothing has happened, and one of them may be to blame
 *       ▼
 *     run_one_by_one()      each operation in a transaction of its own, still in one pipeline
 *
 * If the connection breaks, writes that may have happened are reported as that; the rest goes the
 * same way once more, on another connection.
 */
#include "entity/lane_batch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/refusal.h"

#define MAX_TRIES 2

/* ---- operations ---- */

hvi_lane_operation *hvi_lane_operation_new(const hvi_lane_request *request) {
    size_t body_len = request->item.body_len;
    hvi_lane_operation *operation = malloc(sizeof *operation + body_len);
    if (operation == NULL)
        return NULL;
    *operation = (hvi_lane_operation){.request = *request};
    char *body = (char *) (operation + 1);
    if (body_len > 0)
        memcpy(body, request->item.body, body_len);
    operation->request.item.body = body;
    return operation;
}

void hvi_lane_operation_free(hvi_lane_operation *operation) {
    if (operation == NULL)
        return;
    hv_error_free(operation->error);
    free(operation);
}

static hvi_lane_operation *operation_of(hvi_item *item) {
    return hvi_list_entry(item, hvi_lane_operation, request.item);
}

/* ---- batches ---- */

hvi_batch *hvi_batch_new(hvi_lane_operation *first) {
    hvi_batch *batch = malloc(sizeof *batch);
    if (batch == NULL)
        return NULL;
    /* Not the array of operations: it is large and filled from its beginning. */
    memset(batch, 0, offsetof(hvi_batch, operations));
    hvi_list_init(&batch->link);
    atomic_init(&batch->leader, first);
    hvi_batch_add(batch, first);
    return batch;
}

bool hvi_batch_has_room(const hvi_batch *batch, const hvi_lane_operation *operation) {
    return batch->count < HVI_LANE_MAX_OPERATIONS &&
           batch->bytes + operation->request.item.body_len <= HVI_LANE_MAX_BYTES;
}

void hvi_batch_add(hvi_batch *batch, hvi_lane_operation *operation) {
    batch->operations[batch->count++] = operation;
    batch->bytes += operation->request.item.body_len;
    atomic_fetch_add(&batch->references, 1);
}

void hvi_batch_remove(hvi_batch *batch, const hvi_lane_operation *operation) {
    size_t at = 0;
    while (batch->operations[at] != operation)
        at++;
    batch->operations[at] = batch->operations[--batch->count];
    batch->bytes -= operation->request.item.body_len;
    if (atomic_load(&batch->leader) == operation)
        atomic_store(&batch->leader, NULL);
}

void hvi_batch_unref(hvi_batch *batch) {
    if (atomic_fetch_sub(&batch->references, 1) > 1)
        return;
    for (size_t i = 0; i < batch->count; i++)
        hvi_lane_operation_free(batch->operations[i]);
    for (size_t i = 0; i < batch->result_count; i++)
        PQclear(batch->results[i]);
    free(batch->results);
    free(batch);
}

/* ---- running ---- */

/* A try: some of a batch's operations, on one session. */
typedef struct attempt {
    hvi_batch *batch;
    hvi_pool *pool;
    const char *server;
    int64_t deadline;
    bool is_first;
    size_t count;
    hvi_item **items;
    hvi_group *groups; /* room for one an item; so have the others */
    hvi_query *queries;
    hvi_outcome *outcomes;
} attempt;

static bool is_write(const hvi_lane_operation *operation) {
    return hvi_verb_is_write(operation->request.item.verb);
}

/* What the server says of a single statement whose key has an entity already. If it was swallowed
 * instead, the caller does not find that entity, and has to run the single statement. */
static hv_status refuse(const attempt *a, const hvi_lane_operation *operation, hv_error **error) {
    hvi_fail(error, HV_REFUSED, "duplicate key value violates unique constraint \"%s\"",
             HVI_ENTITIES_KEY);
    hvi_error_detail(error, "Key (id)=(%" PRId64 ") already exists.", operation->request.item.key);
    hvi_error_sqlstate(error, "23505");
    hvi_error_constraint(error, HVI_ENTITIES_KEY);
    hvi_error_where(error, a->server, operation->request.item.shard);
    return HV_REFUSED;
}

static hv_status fail_no_key(const attempt *a, const hvi_lane_operation *operation,
                             hv_error **error) {
    hvi_fail(error, HV_CORRUPT, "the server returned no key");
    hvi_error_where(error, a->server, operation->request.item.shard);
    return HV_CORRUPT;
}

static void answer(const attempt *a, hvi_lane_operation *operation) {
    const hvi_item *item = &operation->request.item;
    hv_status status = HV_OK;
    if (!item->answered && item->verb == HVI_GET)
        status = HV_NOT_FOUND;
    else if (item->swallowed)
        status = hvi_fail_not_stored(NULL, a->server, item->shard, &operation->error);
    else if (!item->answered && (item->verb == HVI_PUT || item->verb == HVI_RESERVE))
        status = fail_no_key(a, operation, &operation->error);
    else if (!item->answered)
        status = refuse(a, operation, &operation->error);
    operation->answered = true;
    operation->answer = (hvi_lane_answer){
        .status = status, .key = item->new_key, .result = item->result, .row = item->row};
}

static void answer_failure(const attempt *a, hvi_lane_operation *operation, hv_status status,
                           const hv_error *cause) {
    operation->answered = true;
    operation->answer.status = status;
    operation->error = hvi_error_copy(cause);
    hvi_error_where(&operation->error, a->server, operation->request.item.shard);
}

/* Answers point into the result, so it is kept with the batch. There is room. */
static void answer_group(const attempt *a, hvi_group *group, PGresult *result) {
    a->batch->results[a->batch->result_count++] = result;
    hvi_group_answer(group, result, a->server);
    for (size_t i = 0; i < group->count; i++) {
        hvi_lane_operation *operation = operation_of(group->items[i]);
        if (group->error != NULL)
            answer_failure(a, operation, hv_error_status(group->error), group->error);
        else
            answer(a, operation);
    }
}

/* The connection broke, or the deadline passed, and nothing of it has happened. */
static void answer_lost(const attempt *a, hvi_lane_operation *operation) {
    int shard = operation->request.item.shard;
    operation->answered = true;
    if (hvi_is_late(a->deadline)) {
        operation->answer.status = hvi_fail_late(a->server, shard, false, &operation->error);
        return;
    }
    operation->answer.status =
        hvi_fail(&operation->error, HV_UNAVAILABLE, "connection to server \"%s\" lost", a->server);
    hvi_error_where(&operation->error, a->server, shard);
}

/* All of the attempt failed in one. What may be done again stays without an answer. */
static void fail_together(const attempt *a, hv_status status, bool is_broken,
                          const hv_error *cause) {
    bool has_time = !hvi_is_late(a->deadline);
    /* One was refused, and then the connection broke: which one is not known. */
    bool is_refused = status == HV_REFUSED && is_broken && a->count > 1;
    for (size_t i = 0; i < a->count; i++) {
        hvi_lane_operation *operation = operation_of(a->items[i]);
        bool is_lost_read = status == HV_OUTCOME_UNKNOWN && !is_write(operation);
        bool has_not_happened =
            is_broken && (is_lost_read || is_refused || status == HV_UNAVAILABLE);
        if (has_not_happened && a->is_first && has_time)
            continue;
        if (is_lost_read || is_refused)
            answer_lost(a, operation);
        else
            answer_failure(a, operation, status, cause);
    }
}

/* The outcome of one that ran by itself. */
static void take_outcome(attempt *a, hvi_session *session, size_t number) {
    hvi_lane_operation *operation = operation_of(a->items[number]);
    hvi_outcome *outcome = &a->outcomes[number];
    bool is_lost_read = outcome->status == HV_UNAVAILABLE && !is_write(operation);
    bool is_stale = outcome->status == HV_REFUSED && hvi_refusal_is_stale(outcome->error);
    if (is_stale)
        hvi_session_doubt(session);
    if (is_stale && a->is_first && !hvi_is_late(a->deadline)) {
        /* Again, on another connection. */
    } else if (outcome->status == HV_OK) {
        answer_group(a, &a->groups[number], outcome->result);
    } else if (!is_lost_read) {
        operation->answered = true;
        operation->answer.status = outcome->status;
        operation->error = outcome->error;
        outcome->error = NULL;
    } else if (!a->is_first || hvi_is_late(a->deadline)) {
        answer_lost(a, operation);
    }
    hv_error_free(outcome->error);
}

static void fini_groups(attempt *a, size_t count) {
    for (size_t i = 0; i < count; i++)
        hvi_group_fini(&a->groups[i]);
}

static bool make_queries(attempt *a, const hvi_session *session, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!hvi_group_query(&a->groups[i], session, &a->queries[i]))
            return false;
    return true;
}

static void run_one_by_one(attempt *a, hvi_session *session) {
    hvi_groups_make_apart(a->items, a->count, a->groups);
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    if (hvi_is_late(a->deadline))
        status = hvi_fail_late(a->server, -1, false, &cause);
    else if (!make_queries(a, session, a->count))
        status = hvi_no_memory(&cause);
    if (status == HV_OK) {
        hvi_session_run_each(session, a->queries, a->count, a->deadline, a->outcomes);
        for (size_t i = 0; i < a->count; i++)
            take_outcome(a, session, i);
    } else {
        fail_together(a, status, false, cause);
        hv_error_free(cause);
    }
    fini_groups(a, a->count);
}

/* False if the server has refused it and nothing has happened. */
static bool run_together(attempt *a, hvi_session *session) {
    size_t count = hvi_groups_make(a->items, a->count, a->groups);
    PGresult **results = a->batch->results + a->batch->result_count;
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    if (hvi_is_late(a->deadline))
        status = hvi_fail_late(a->server, -1, false, &cause);
    else if (!make_queries(a, session, count))
        status = hvi_no_memory(&cause);
    else
        status = hvi_session_run_all(session, a->queries, count, a->deadline, results, &cause);
    for (size_t i = 0; status == HV_OK && i < count; i++)
        answer_group(a, &a->groups[i], results[i]);
    bool is_single = a->count == 1 && !hvi_refusal_is_stale(cause) && !hvi_refusal_is_of_row(cause);
    bool refused = status == HV_REFUSED && !session->broken && !is_single;
    if (status != HV_OK && !refused)
        fail_together(a, status, session->broken, cause);
    hv_error_free(cause);
    fini_groups(a, count);
    return !refused;
}

static void run_attempt(attempt *a, int64_t wait_ms) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    int64_t wait_until = hvi_deadline_after(wait_ms);
    hv_status status = hvi_pool_acquire(
        a->pool, wait_until < a->deadline ? wait_until : a->deadline, &session, &cause);
    if (status != HV_OK) {
        fail_together(a, status, false, cause);
        hv_error_free(cause);
        return;
    }
    /* Without the types there are no arrays. */
    if (!hvi_session_knows_arrays(session) || !run_together(a, session))
        run_one_by_one(a, session);
    hvi_pool_release(a->pool, session);
}

/* The operations that have no answer yet. */
static size_t collect_open(hvi_batch *batch, hvi_item **items) {
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++)
        if (!batch->operations[i]->answered)
            items[count++] = &batch->operations[i]->request.item;
    return count;
}

void hvi_batch_run(hvi_batch *batch, hvi_pool *pool, int64_t wait_ms) {
    attempt a = {
        .batch = batch,
        .pool = pool,
        .server = pool->config.session.server,
        .deadline = atomic_load(&batch->leader)->request.deadline,
        .items = malloc(batch->count * sizeof(hvi_item *)),
        .groups = malloc(batch->count * sizeof(hvi_group)),
        .queries = malloc(batch->count * sizeof(hvi_query)),
        .outcomes = malloc(batch->count * sizeof(hvi_outcome)),
    };
    batch->results = calloc(MAX_TRIES * batch->count, sizeof(PGresult *));
    if (a.items == NULL || a.groups == NULL || a.queries == NULL || a.outcomes == NULL ||
        batch->results == NULL) {
        for (size_t i = 0; i < batch->count; i++)
            batch->operations[i]->answer.status = hvi_no_memory(&batch->operations[i]->error);
    } else {
        for (int try = 0; (a.count = collect_open(batch, a.items)) > 0; try++) {
            a.is_first = try == 0;
            run_attempt(&a, wait_ms);
        }
    }
    free(a.items);
    free(a.groups);
    free(a.queries);
    free(a.outcomes);
}
