/*
 * contender_many: many operations at once with libpq alone, in its two best forms: one statement
 * with arrays for each shard, or a statement for each operation; both in one pipeline with one
 * Sync.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "statements.h"

/* pg_type.dat */
#define INT2_OID 21
#define INT8_OID 20

/* A binary array that grows. */
typedef struct array {
    char *bytes;
    size_t len;
    size_t size;
    int count;
} array;

typedef struct many_caller {
    PGconn *conn;
    const bench_settings *settings;
    bench_body body;
    bench_body merged;
    uint32_t hstore; /* its OID */
    array *kinds;    /* by shard */
    array *bodies;
    array *keys;
    int **places; /* by shard: the operations of the request that its elements belong to */
} many_caller;

static const int binary[] = {1, 1};

/* ---- arrays ---- */

static void append(array *to, const void *bytes, size_t len) {
    if (to->len + len > to->size) {
        to->size = (to->len + len) * 2;
        to->bytes = realloc(to->bytes, to->size);
        if (to->bytes == NULL)
            bench_die("out of memory");
    }
    memcpy(to->bytes + to->len, bytes, len);
    to->len += len;
}

static void append_int4(array *to, uint32_t value) {
    uint32_t wire = htobe32(value);
    append(to, &wire, sizeof wire);
}

/* Dimensions, no NULLs, the element's type, the number of elements, the first index. */
static void array_begin(array *made, uint32_t type) {
    made->len = 0;
    made->count = 0;
    append_int4(made, 1);
    append_int4(made, 0);
    append_int4(made, type);
    append_int4(made, 0);
    append_int4(made, 1);
}

static void array_add(array *made, const void *bytes, size_t len) {
    append_int4(made, (uint32_t) len);
    append(made, bytes, len);
    made->count++;
}

static void array_end(array *made) {
    uint32_t count = htobe32((uint32_t) made->count);
    memcpy(made->bytes + 12, &count, sizeof count);
}

/* ---- callers ---- */

static void *many_open(const bench_settings *settings) {
    (void) settings;
    return NULL;
}

static void many_close(void *shared) {
    (void) shared;
}

static void *many_start(void *shared, const bench_settings *settings) {
    (void) shared;
    size_t shards = (size_t) settings->shard_count;
    many_caller *mine = calloc(1, sizeof *mine);
    mine->conn = bench_connect(settings);
    mine->settings = settings;
    mine->kinds = calloc(shards, sizeof(array));
    mine->bodies = calloc(shards, sizeof(array));
    mine->keys = calloc(shards, sizeof(array));
    mine->places = calloc(shards, sizeof(int *));
    for (size_t i = 0; i < shards; i++)
        mine->places[i] = calloc((size_t) settings->batch, sizeof(int));
    bench_body_init(&mine->body);
    bench_body_init_merged(&mine->merged);
    bench_prepare(mine->conn, settings, "put_many",
                  "INSERT INTO shard%04d.entities (type, body)"
                  " SELECT * FROM ROWS FROM (pg_catalog.unnest($1::smallint[]),"
                  " pg_catalog.unnest($2::public.hstore[])) AS given RETURNING id");
    bench_prepare(mine->conn, settings, "get_many",
                  "SELECT id, type, body FROM shard%04d.entities"
                  " WHERE id OPERATOR(pg_catalog.=) ANY ($1)");
    bench_prepare(mine->conn, settings, "merge",
                  "UPDATE shard%04d.entities SET body = body OPERATOR(public.||) $2"
                  " WHERE id OPERATOR(pg_catalog.=) $1");
    bench_prepare(mine->conn, settings, "merge_many",
                  "UPDATE shard%04d.entities SET body = body OPERATOR(public.||) merged"
                  " FROM ROWS FROM (pg_catalog.unnest($1::bigint[]),"
                  " pg_catalog.unnest($2::public.hstore[])) AS given (key, merged)"
                  " WHERE id OPERATOR(pg_catalog.=) key");
    bench_prepare(mine->conn, settings, "delete",
                  "DELETE FROM shard%04d.entities WHERE id OPERATOR(pg_catalog.=) $1");
    bench_prepare(mine->conn, settings, "delete_many",
                  "DELETE FROM shard%04d.entities WHERE id OPERATOR(pg_catalog.=) ANY ($1)");
    PGresult *result = PQexec(mine->conn, "SELECT 'public.hstore'::pg_catalog.regtype"
                                          "::pg_catalog.oid");
    bench_expect(mine->conn, result, PGRES_TUPLES_OK);
    mine->hstore = (uint32_t) strtoul(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    if (!PQenterPipelineMode(mine->conn))
        bench_die("%s", PQerrorMessage(mine->conn));
    return mine;
}

static void many_stop(void *own) {
    many_caller *mine = own;
    for (int i = 0; i < mine->settings->shard_count; i++) {
        free(mine->kinds[i].bytes);
        free(mine->bodies[i].bytes);
        free(mine->keys[i].bytes);
        free(mine->places[i]);
    }
    free(mine->kinds);
    free(mine->bodies);
    free(mine->keys);
    free(mine->places);
    PQfinish(mine->conn);
    free(mine);
}

/* ---- the pipeline ---- */

static void send(many_caller *mine, const char *verb, int shard, int count,
                 const char *const *values, const int *lengths) {
    char name[32];
    bench_statement_name(name, verb, shard);
    if (!PQsendQueryPrepared(mine->conn, name, count, values, lengths, binary, 1))
        bench_die("%s", PQerrorMessage(mine->conn));
}

static PGresult *receive_as(many_caller *mine, ExecStatusType expected) {
    PGresult *result = PQgetResult(mine->conn);
    bench_expect(mine->conn, result, expected);
    if (PQgetResult(mine->conn) != NULL)
        bench_die("one result too many");
    return result;
}

/* Read the next statement's rows, and what ends them. */
static PGresult *receive(many_caller *mine) {
    return receive_as(mine, PGRES_TUPLES_OK);
}

/* The same for a statement that changes so many rows and returns none. */
static void receive_changed(many_caller *mine, int count) {
    PGresult *result = receive_as(mine, PGRES_COMMAND_OK);
    if (atoi(PQcmdTuples(result)) != count)
        bench_die("%s of %d entities were changed", PQcmdTuples(result), count);
    PQclear(result);
}

static void send_sync(many_caller *mine) {
    if (!PQpipelineSync(mine->conn))
        bench_die("%s", PQerrorMessage(mine->conn));
}

static void receive_sync(many_caller *mine) {
    PGresult *result = PQgetResult(mine->conn);
    bench_expect(mine->conn, result, PGRES_PIPELINE_SYNC);
    PQclear(result);
}

/* ---- array ---- */

static void array_put(void *own, bench_request *request) {
    many_caller *mine = own;
    const bench_settings *settings = mine->settings;
    uint16_t kind = htobe16(BENCH_KIND);
    for (int i = 0; i < settings->shard_count; i++) {
        array_begin(&mine->kinds[i], INT2_OID);
        array_begin(&mine->bodies[i], mine->hstore);
    }
    for (int i = 0; i < request->count; i++) {
        int at = request->shards[i] - settings->first_shard;
        mine->places[at][mine->kinds[at].count] = i;
        array_add(&mine->kinds[at], &kind, sizeof kind);
        array_add(&mine->bodies[at], mine->body.bytes, (size_t) mine->body.len);
    }
    for (int i = 0; i < settings->shard_count; i++) {
        if (mine->kinds[i].count == 0)
            continue;
        array_end(&mine->kinds[i]);
        array_end(&mine->bodies[i]);
        const char *values[] = {mine->kinds[i].bytes, mine->bodies[i].bytes};
        const int lengths[] = {(int) mine->kinds[i].len, (int) mine->bodies[i].len};
        send(mine, "put_many", settings->first_shard + i, 2, values, lengths);
    }
    send_sync(mine);
    for (int i = 0; i < settings->shard_count; i++) {
        if (mine->kinds[i].count == 0)
            continue;
        PGresult *result = receive(mine);
        if (PQntuples(result) != mine->kinds[i].count)
            bench_die("%d keys for %d entities", PQntuples(result), mine->kinds[i].count);
        for (int row = 0; row < PQntuples(result); row++)
            request->keys[mine->places[i][row]] = bench_read_int8(result, row, 0);
        PQclear(result);
    }
    receive_sync(mine);
}

/* Send, for each shard, a statement with the keys and, unless it is NULL, `body` for each. */
static void send_keys(many_caller *mine, const bench_request *request, const char *verb,
                      const bench_body *body) {
    const bench_settings *settings = mine->settings;
    for (int i = 0; i < settings->shard_count; i++) {
        array_begin(&mine->keys[i], INT8_OID);
        array_begin(&mine->bodies[i], mine->hstore);
    }
    for (int i = 0; i < request->count; i++) {
        int at = request->shards[i] - settings->first_shard;
        uint64_t wire = htobe64((uint64_t) request->keys[i]);
        array_add(&mine->keys[at], &wire, sizeof wire);
        if (body != NULL)
            array_add(&mine->bodies[at], body->bytes, (size_t) body->len);
    }
    for (int i = 0; i < settings->shard_count; i++) {
        if (mine->keys[i].count == 0)
            continue;
        array_end(&mine->keys[i]);
        array_end(&mine->bodies[i]);
        const char *values[] = {mine->keys[i].bytes, mine->bodies[i].bytes};
        const int lengths[] = {(int) mine->keys[i].len, (int) mine->bodies[i].len};
        send(mine, verb, settings->first_shard + i, body != NULL ? 2 : 1, values, lengths);
    }
    send_sync(mine);
}

static void array_get(void *own, bench_request *request) {
    many_caller *mine = own;
    const bench_settings *settings = mine->settings;
    send_keys(mine, request, "get_many", NULL);
    for (int i = 0; i < settings->shard_count; i++) {
        if (mine->keys[i].count == 0)
            continue;
        PGresult *result = receive(mine);
        if (PQntuples(result) < 1 ||
            PQntuples(result) > mine->keys[i].count) /* some keys occur twice */
            bench_die("%d rows for %d keys", PQntuples(result), mine->keys[i].count);
        for (int row = 0; row < PQntuples(result); row++)
            bench_expect_entity(result, row, &mine->body);
        PQclear(result);
    }
    receive_sync(mine);
}

static void array_change(many_caller *mine, const bench_request *request, const char *verb,
                         const bench_body *body) {
    send_keys(mine, request, verb, body);
    for (int i = 0; i < mine->settings->shard_count; i++)
        if (mine->keys[i].count > 0)
            receive_changed(mine, mine->keys[i].count);
    receive_sync(mine);
}

static void array_merge(void *own, bench_request *request) {
    many_caller *mine = own;
    array_change(mine, request, "merge_many", &mine->merged);
}

static void array_delete(void *own, bench_request *request) {
    array_change(own, request, "delete_many", NULL);
}

const bench_contender bench_array = {
    .name = "array",
    .open = many_open,
    .close = many_close,
    .start = many_start,
    .stop = many_stop,
    .call = {[BENCH_PUT] = array_put,
             [BENCH_GET] = array_get,
             [BENCH_MERGE] = array_merge,
             [BENCH_DELETE] = array_delete},
};

/* ---- pipelined ---- */

static void pipelined_put(void *own, bench_request *request) {
    many_caller *mine = own;
    uint16_t kind = htobe16(BENCH_KIND);
    const char *values[] = {(const char *) &kind, mine->body.bytes};
    const int lengths[] = {sizeof kind, mine->body.len};
    for (int i = 0; i < request->count; i++)
        send(mine, "put", request->shards[i], 2, values, lengths);
    send_sync(mine);
    for (int i = 0; i < request->count; i++) {
        PGresult *result = receive(mine);
        request->keys[i] = bench_read_int8(result, 0, 0);
        PQclear(result);
    }
    receive_sync(mine);
}

/* Send, for each key, a statement with it and, unless it is NULL, `body`. */
static void send_each_key(many_caller *mine, const bench_request *request, const char *verb,
                          const bench_body *body) {
    for (int i = 0; i < request->count; i++) {
        uint64_t wire = htobe64((uint64_t) request->keys[i]);
        const char *values[] = {(const char *) &wire, body != NULL ? body->bytes : NULL};
        const int lengths[] = {sizeof wire, body != NULL ? body->len : 0};
        send(mine, verb, request->shards[i], body != NULL ? 2 : 1, values, lengths);
    }
    send_sync(mine);
}

static void pipelined_get(void *own, bench_request *request) {
    many_caller *mine = own;
    send_each_key(mine, request, "get", NULL);
    for (int i = 0; i < request->count; i++) {
        PGresult *result = receive(mine);
        if (PQntuples(result) != 1)
            bench_die("a get brought %d rows", PQntuples(result));
        bench_expect_entity(result, 0, &mine->body);
        PQclear(result);
    }
    receive_sync(mine);
}

static void pipelined_change(many_caller *mine, const bench_request *request, const char *verb,
                             const bench_body *body) {
    send_each_key(mine, request, verb, body);
    for (int i = 0; i < request->count; i++)
        receive_changed(mine, 1);
    receive_sync(mine);
}

static void pipelined_merge(void *own, bench_request *request) {
    many_caller *mine = own;
    pipelined_change(mine, request, "merge", &mine->merged);
}

static void pipelined_delete(void *own, bench_request *request) {
    pipelined_change(own, request, "delete", NULL);
}

const bench_contender bench_pipelined = {
    .name = "pipelined",
    .open = many_open,
    .close = many_close,
    .start = many_start,
    .stop = many_stop,
    .call = {[BENCH_PUT] = pipelined_put,
             [BENCH_GET] = pipelined_get,
             [BENCH_MERGE] = pipelined_merge,
             [BENCH_DELETE] = pipelined_delete},
};
