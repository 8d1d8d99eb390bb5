/*
 * lane_batch: the operations that share one pipeline: their statements and their answers.
 *
 * The operations are sorted into groups of one verb and shard. A group of one is the plain prepared
 * statement; a larger one is one statement with arrays. All groups go out under one Sync, so they
 * are one transaction.
 *
 * Which answer is whose never depends on the order of rows: entities are found by their keys, and
 * new keys come with the position of the operation that they were made for.
 */
#include "lane_batch.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "clock.h"
#include "result.h"
#include "shard_map.h"

/* pg_type.dat */
#define INT2_OID       21
#define INT8_OID       20
#define INT2_ARRAY_OID 1005
#define INT8_ARRAY_OID 1016

/* ---- operations and batches ---- */

hvi_lane_operation *hvi_lane_operation_new(const hvi_lane_request *request) {
    hvi_lane_operation *operation = malloc(sizeof *operation + request->body_len);
    if (operation == NULL)
        return NULL;
    *operation = (hvi_lane_operation){.request = *request};
    char *body = (char *) (operation + 1);
    if (request->body_len > 0)
        memcpy(body, request->body, request->body_len);
    operation->request.body = body;
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
           batch->bytes + operation->request.body_len <= HVI_LANE_MAX_BYTES;
}

void hvi_batch_add(hvi_batch *batch, hvi_lane_operation *operation) {
    batch->operations[batch->count++] = operation;
    batch->bytes += operation->request.body_len;
    atomic_fetch_add(&batch->references, 1);
}

void hvi_batch_remove(hvi_batch *batch, const hvi_lane_operation *operation) {
    size_t at = 0;
    while (batch->operations[at] != operation)
        at++;
    batch->operations[at] = batch->operations[--batch->count];
    batch->bytes -= operation->request.body_len;
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

/* ---- groups ---- */

/* Operations of one verb and shard, next to each other in the batch. */
typedef struct group {
    hvi_lane_operation **operations;
    size_t count;
    char sql[384];
    /* The parameters, in one buffer. */
    hvi_buffer bytes;
    const char *values[2];
    int lengths[2];
    uint32_t types[2];
} group;

static const int binary_formats[2] = {1, 1};

static int compare_operations(const void *left, const void *right) {
    const hvi_lane_request *a = &(*(hvi_lane_operation *const *) left)->request;
    const hvi_lane_request *b = &(*(hvi_lane_operation *const *) right)->request;
    if (a->verb != b->verb)
        return a->verb < b->verb ? -1 : 1;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    return a->key < b->key ? -1 : a->key > b->key;
}

/* The header of a one-dimensional array in binary form (array_send in arrayfuncs.c). */
static void append_array(hvi_buffer *to, uint32_t element_type, size_t count) {
    hvi_buffer_append_be32(to, 1); /* dimensions */
    hvi_buffer_append_be32(to, 0); /* no NULLs */
    hvi_buffer_append_be32(to, element_type);
    hvi_buffer_append_be32(to, (uint32_t) count);
    hvi_buffer_append_be32(to, 1); /* the first index */
}

static void append_int8(hvi_buffer *to, int64_t value) {
    uint64_t wire = htobe64((uint64_t) value);
    hvi_buffer_append(to, &wire, sizeof wire);
}

static void append_int2(hvi_buffer *to, int value) {
    uint16_t wire = htobe16((uint16_t) value);
    hvi_buffer_append(to, &wire, sizeof wire);
}

/* Parameters of the plain statements. */
static void append_single(group *g, size_t *split) {
    const hvi_lane_request *request = &g->operations[0]->request;
    if (request->verb == HVI_LANE_GET) {
        append_int8(&g->bytes, request->key);
        *split = g->bytes.len;
    } else {
        append_int2(&g->bytes, request->kind);
        *split = g->bytes.len;
        hvi_buffer_append(&g->bytes, request->body, request->body_len);
    }
}

static void append_arrays(group *g, uint32_t hstore, size_t *split) {
    if (g->operations[0]->request.verb == HVI_LANE_GET) {
        append_array(&g->bytes, INT8_OID, g->count);
        for (size_t i = 0; i < g->count; i++) {
            hvi_buffer_append_be32(&g->bytes, 8);
            append_int8(&g->bytes, g->operations[i]->request.key);
        }
        *split = g->bytes.len;
        return;
    }
    append_array(&g->bytes, INT2_OID, g->count);
    for (size_t i = 0; i < g->count; i++) {
        hvi_buffer_append_be32(&g->bytes, 2);
        append_int2(&g->bytes, g->operations[i]->request.kind);
    }
    *split = g->bytes.len;
    append_array(&g->bytes, hstore, g->count);
    for (size_t i = 0; i < g->count; i++) {
        const hvi_lane_request *request = &g->operations[i]->request;
        hvi_buffer_append_be32(&g->bytes, (uint32_t) request->body_len);
        hvi_buffer_append(&g->bytes, request->body, request->body_len);
    }
}

static void write_sql(group *g, const char *schema) {
    bool is_get = g->operations[0]->request.verb == HVI_LANE_GET;
    if (is_get)
        snprintf(g->sql, sizeof g->sql, "SELECT id, type, body FROM %s.entities WHERE id = %s",
                 schema, g->count == 1 ? "$1" : "ANY ($1)");
    else if (g->count == 1)
        snprintf(g->sql, sizeof g->sql,
                 "INSERT INTO %s.entities (type, body) VALUES ($1, $2) RETURNING id", schema);
    else
        /* Each row's key is made beside its position, so that nothing depends on an order that
         * RETURNING does not promise. */
        snprintf(g->sql, sizeof g->sql,
                 "WITH new AS MATERIALIZED (SELECT place, %s.next_id() AS id, type, body"
                 " FROM unnest($1, $2) WITH ORDINALITY AS given (type, body, place)),"
                 " stored AS (INSERT INTO %s.entities (id, type, body)"
                 " SELECT id, type, body FROM new)"
                 " SELECT place, id FROM new",
                 schema, schema);
}

/* Make the group's query; false if memory is short. */
static bool make_query(group *g, uint32_t hstore, uint32_t hstore_array, hvi_query *query) {
    const hvi_lane_request *first = &g->operations[0]->request;
    bool is_get = first->verb == HVI_LANE_GET;
    bool is_single = g->count == 1;
    char schema[HVI_SCHEMA_NAME_LEN];
    size_t split = 0;
    hvi_schema_name(first->shard, schema);
    write_sql(g, schema);
    if (is_single)
        append_single(g, &split);
    else
        append_arrays(g, hstore, &split);
    if (!hvi_buffer_ok(&g->bytes))
        return false;
    g->values[0] = g->bytes.data;
    g->values[1] = g->bytes.data + split;
    g->lengths[0] = (int) split;
    g->lengths[1] = (int) (g->bytes.len - split);
    g->types[0] = is_get ? INT8_ARRAY_OID : INT2_ARRAY_OID;
    g->types[1] = hstore_array;
    hvi_statement_verb verb = is_get ? (is_single ? HVI_STATEMENT_GET : HVI_STATEMENT_GET_MANY)
                                     : (is_single ? HVI_STATEMENT_PUT : HVI_STATEMENT_PUT_MANY);
    *query = (hvi_query){
        .sql = g->sql,
        .shard = first->shard,
        .is_write = !is_get,
        .id = hvi_statement_id(verb, first->shard),
        .parameter_count = is_get ? 1 : 2,
        .values = g->values,
        .lengths = g->lengths,
        .formats = binary_formats,
        .types = is_single ? NULL : g->types,
        .binary_result = true,
    };
    return true;
}

/* ---- answers ---- */

/* Find each operation's entity by its key; both are looked through once a row. */
static void answer_gets(const group *g, const PGresult *result) {
    for (size_t i = 0; i < g->count; i++)
        g->operations[i]->answer.status = HV_NOT_FOUND;
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t key;
        if (!hvi_read_int8(result, row, 0, &key))
            continue;
        /* The group is sorted by key: the first with this one, and all that ask for the same. */
        size_t low = 0, high = g->count;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (g->operations[middle]->request.key < key)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < g->count && g->operations[low]->request.key == key; low++) {
            g->operations[low]->answer.status = HV_OK;
            g->operations[low]->answer.result = result;
            g->operations[low]->answer.row = row;
        }
    }
}

static void answer_puts(const group *g, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t place = 1, key;
        bool is_read = g->count == 1 ? hvi_read_int8(result, row, 0, &key)
                                     : hvi_read_int8(result, row, 0, &place) &&
                                           hvi_read_int8(result, row, 1, &key);
        if (is_read && place >= 1 && (size_t) place <= g->count)
            g->operations[place - 1]->answer.key = key;
    }
    for (size_t i = 0; i < g->count; i++) {
        hvi_lane_operation *operation = g->operations[i];
        operation->answer.status = HV_OK;
        if (operation->answer.key == 0)
            operation->answer.status =
                hvi_fail(&operation->error, HV_CORRUPT, "the server returned no key for a put");
    }
}

/* The pipeline failed as a whole: what does that mean for each? */
static void answer_failure(hvi_batch *batch, const char *server, hv_status status,
                           const hv_error *cause) {
    int64_t soon = hvi_clock_us() + HVI_LANE_MAX_EARLIER;
    for (size_t i = 0; i < batch->count; i++) {
        hvi_lane_operation *operation = batch->operations[i];
        bool is_put = operation->request.verb == HVI_LANE_PUT;
        if (status == HV_OUTCOME_UNKNOWN && is_put) {
            operation->answer.status = status;
            operation->error = hvi_error_copy(cause);
            hvi_error_where(&operation->error, NULL, operation->request.shard);
        } else if (status != HV_REFUSED && !is_put && operation->request.deadline <= soon) {
            /* No time to run it again: a connection opened for that could only fail, and would make
             * the pool believe that the server is down. */
            operation->answer.status = hvi_fail(&operation->error, HV_TIMEOUT,
                                                "no answer from server \"%s\" in time", server);
            hvi_error_where(&operation->error, server, operation->request.shard);
        } else {
            operation->again = true; /* it has not happened, and only one of all may be to blame */
        }
    }
}

/* ---- running ---- */

/* Sort the operations into groups; returns their number. */
static size_t make_groups(hvi_batch *batch, group *groups) {
    size_t count = 0;
    qsort(batch->operations, batch->count, sizeof(hvi_lane_operation *), compare_operations);
    for (size_t i = 0; i < batch->count; i++) {
        const hvi_lane_request *request = &batch->operations[i]->request;
        group *last = count > 0 ? &groups[count - 1] : NULL;
        if (last == NULL || last->operations[0]->request.verb != request->verb ||
            last->operations[0]->request.shard != request->shard)
            groups[count++] = (group){.operations = &batch->operations[i]};
        groups[count - 1].count++;
    }
    return count;
}

static hv_status run_groups(hvi_batch *batch, hvi_pool *pool, group *groups, size_t count,
                            hvi_query *queries, int64_t deadline, hv_error **error) {
    hvi_session *session = NULL;
    hv_status status = hvi_pool_acquire(pool, deadline, &session, error);
    if (status != HV_OK)
        return status;
    for (size_t i = 0; status == HV_OK && i < count; i++)
        if (!make_query(&groups[i], session->hstore_type, session->hstore_array_type, &queries[i]))
            status = hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_session_run_all(session, queries, count, deadline, batch->results, error);
    hvi_pool_release(pool, session);
    return status;
}

void hvi_batch_run(hvi_batch *batch, hvi_pool *pool) {
    hv_error *cause = NULL;
    int64_t deadline = atomic_load(&batch->leader)->request.deadline;
    group *groups = calloc(batch->count, sizeof *groups);
    hvi_query *queries = calloc(batch->count, sizeof *queries);
    batch->results = calloc(batch->count, sizeof(PGresult *));
    hv_status status = HV_NO_MEMORY;
    size_t count = 0;
    if (groups != NULL && queries != NULL && batch->results != NULL) {
        count = make_groups(batch, groups);
        batch->result_count = count;
        status = run_groups(batch, pool, groups, count, queries, deadline, &cause);
    }
    if (status != HV_OK)
        answer_failure(batch, pool->config.session.server, status, cause);
    for (size_t i = 0; status == HV_OK && i < count; i++) {
        if (groups[i].operations[0]->request.verb == HVI_LANE_GET)
            answer_gets(&groups[i], batch->results[i]);
        else
            answer_puts(&groups[i], batch->results[i]);
    }
    for (size_t i = 0; i < count; i++)
        hvi_buffer_fini(&groups[i].bytes);
    hv_error_free(cause);
    free(queries);
    free(groups);
}
