/*
 * lane_batch: the operations that share one pipeline.
 *
 * They are sorted into groups of one verb and shard. All groups go out under one Sync, so they are
 * one transaction.
 */
#include "lane_batch.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* ---- operations and batches ---- */

hvi_lane_operation *hvi_lane_operation_new(const hvi_lane_request *request) {
    hvi_lane_operation *operation = malloc(sizeof *operation + request->item.body_len);
    if (operation == NULL)
        return NULL;
    *operation = (hvi_lane_operation){.request = *request};
    char *body = (char *) (operation + 1);
    if (request->item.body_len > 0)
        memcpy(body, request->item.body, request->item.body_len);
    operation->request.item.body = body;
    return operation;
}

void hvi_lane_operation_free(hvi_lane_operation *operation) {
    if (operation == NULL)
        return;
    hv_error_free(operation->error);
    free(operation);
}

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

/* ---- answers ---- */

static void answer(hvi_lane_operation *operation) {
    const hvi_item *item = &operation->request.item;
    hvi_lane_answer *to = &operation->answer;
    to->key = item->new_key;
    to->result = item->result;
    to->row = item->row;
    to->status = HV_OK;
    if (!item->answered)
        to->status = item->verb == HVI_GET ? HV_NOT_FOUND
                                           : hvi_fail(&operation->error, HV_CORRUPT,
                                                      "the server returned no key for a put");
}

/* The pipeline failed as a whole: what does that mean for each? */
static void answer_failure(hvi_batch *batch, const char *server, hv_status status,
                           const hv_error *cause) {
    int64_t soon = hvi_clock_us() + HVI_LANE_MAX_EARLIER;
    for (size_t i = 0; i < batch->count; i++) {
        hvi_lane_operation *operation = batch->operations[i];
        bool is_put = operation->request.item.verb == HVI_PUT;
        if (status == HV_OUTCOME_UNKNOWN && is_put) {
            operation->answer.status = status;
            operation->error = hvi_error_copy(cause);
            hvi_error_where(&operation->error, NULL, operation->request.item.shard);
        } else if (status != HV_REFUSED && !is_put && operation->request.deadline <= soon) {
            /* No time to run it again: a connection opened for that could only fail, and would make
             * the pool believe that the server is down. */
            operation->answer.status = hvi_fail(&operation->error, HV_TIMEOUT,
                                                "no answer from server \"%s\" in time", server);
            hvi_error_where(&operation->error, server, operation->request.item.shard);
        } else {
            operation->again = true; /* it has not happened, and only one of all may be to blame */
        }
    }
}

/* ---- running ---- */

static hv_status run_groups(hvi_batch *batch, hvi_pool *pool, hvi_group *groups, size_t count,
                            hvi_query *queries, int64_t deadline, hv_error **error) {
    hvi_session *session = NULL;
    hv_status status = hvi_pool_acquire(pool, deadline, &session, error);
    if (status != HV_OK)
        return status;
    for (size_t i = 0; status == HV_OK && i < count; i++)
        if (!hvi_group_query(&groups[i], session->hstore_type, session->hstore_array_type,
                             &queries[i]))
            status = hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_session_run_all(session, queries, count, deadline, batch->results, error);
    hvi_pool_release(pool, session);
    return status;
}

void hvi_batch_run(hvi_batch *batch, hvi_pool *pool) {
    hv_error *cause = NULL;
    int64_t deadline = atomic_load(&batch->leader)->request.deadline;
    hvi_item **items = calloc(batch->count, sizeof(hvi_item *));
    hvi_group *groups = calloc(batch->count, sizeof *groups);
    hvi_query *queries = calloc(batch->count, sizeof *queries);
    batch->results = calloc(batch->count, sizeof(PGresult *));
    hv_status status = HV_NO_MEMORY;
    size_t count = 0;
    if (items != NULL && groups != NULL && queries != NULL && batch->results != NULL) {
        for (size_t i = 0; i < batch->count; i++)
            items[i] = &batch->operations[i]->request.item;
        count = hvi_groups_make(items, batch->count, groups);
        batch->result_count = count;
        status = run_groups(batch, pool, groups, count, queries, deadline, &cause);
    }
    for (size_t i = 0; status == HV_OK && i < count; i++)
        hvi_group_answer(&groups[i], batch->results[i]);
    if (status != HV_OK)
        answer_failure(batch, pool->config.session.server, status, cause);
    else
        for (size_t i = 0; i < batch->count; i++)
            answer(batch->operations[i]);
    for (size_t i = 0; i < count; i++)
        hvi_group_fini(&groups[i]);
    hv_error_free(cause);
    free(queries);
    free(groups);
    free(items);
}
