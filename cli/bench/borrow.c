/*
 * borrow: put and get on borrowed connections, as an application would without the store's
 * functions.
 *
 * The list of statements that a connection has prepared is kept with the connection, by libpq's
 * events: so it is freed with the connection, whoever closes it.
 */
#include "bench/borrow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <libpq-events.h>

#include "servers/sql.h"
#include "ui/memory.h"

/* The statements that a connection has prepared, beginning with the oldest at `oldest`. */
typedef struct prepared {
    int count;
    int oldest;
    int max;
    int ids[]; /* a ring of `max`; -1: none */
} prepared;

typedef struct statement {
    int id;
    char name[32];
    char sql[128];
    bool is_write;
    int value_count;
    const char *const *values; /* text */
} statement;

static statement make_statement(bench_verb verb, int shard, const char *const *values) {
    statement made = {
        .id = (int) verb * HV_SHARDS + shard,
        .is_write = verb == BENCH_PUT,
        .value_count = verb == BENCH_PUT ? 2 : 1,
        .values = values,
    };
    snprintf(made.name, sizeof made.name, "bench_%s_%04d", verb == BENCH_PUT ? "put" : "get",
             shard);
    snprintf(made.sql, sizeof made.sql,
             verb == BENCH_PUT
                 ? "INSERT INTO shard%04d.entities (type, body) VALUES ($1, $2) RETURNING id"
                 : "SELECT type, body FROM shard%04d.entities WHERE id OPERATOR(pg_catalog.=) $1",
             shard);
    return made;
}

/* ---- Which statements are prepared ----------------------------------------------------------- */

static int on_event(PGEventId event, void *info, void *context) {
    (void) context;
    if (event == PGEVT_CONNDESTROY)
        free(PQinstanceData(((PGEventConnDestroy *) info)->conn, on_event));
    return 1;
}

static prepared *prepared_of(PGconn *conn, int max) {
    prepared *known = PQinstanceData(conn, on_event);
    if (known != NULL)
        return known;
    known = new_memory(sizeof *known + (size_t) max * sizeof *known->ids);
    known->max = max;
    if (!PQregisterEventProc(conn, on_event, "hv bench", NULL) ||
        !PQsetInstanceData(conn, on_event, known))
        out_of_memory();
    return known;
}

static bool is_prepared(const prepared *known, int id) {
    for (int i = 0; i < known->count; i++)
        if (known->ids[i] == id)
            return true;
    return false;
}

static hv_status run_simply(PGconn *conn, int sent, sql_failure *failure) {
    PGresult *result = NULL;
    hv_status status = sql_answer(conn, sent, false, SQL_PATIENCE_MS, &result, failure);
    PQclear(result);
    return status;
}

/* Prepare the statement unless it is prepared. If there is no room, the oldest one is removed. */
static hv_status prepare(PGconn *conn, int max, const statement *wanted, sql_failure *failure) {
    prepared *known = prepared_of(conn, max);
    if (is_prepared(known, wanted->id))
        return HV_OK;
    bool is_full = known->count == known->max;
    int place = is_full ? known->oldest : known->count;
    if (is_full && known->ids[place] >= 0) {
        int id = known->ids[place];
        statement old = make_statement((bench_verb) (id / HV_SHARDS), id % HV_SHARDS, NULL);
        char sql[64];
        snprintf(sql, sizeof sql, "DEALLOCATE %s", old.name);
        if (run_simply(conn, PQsendQuery(conn, sql), failure) != HV_OK)
            return failure->status;
        known->ids[place] = -1;
    }
    if (run_simply(conn, PQsendPrepare(conn, wanted->name, wanted->sql, 0, NULL), failure) != HV_OK)
        return failure->status;
    known->ids[place] = wanted->id;
    if (is_full)
        known->oldest = (place + 1) % known->max;
    else
        known->count++;
    return HV_OK;
}

/* ---- One statement --------------------------------------------------------------------------- */

static hv_status run_on(PGconn *conn, const bench_settings *settings, const statement *wanted,
                        PGresult **result, sql_failure *failure) {
    PQsetnonblocking(conn, 1);
    if (settings->prepare && prepare(conn, settings->prepared_max, wanted, failure) != HV_OK)
        return failure->status;
    int sent = settings->prepare ? PQsendQueryPrepared(conn, wanted->name, wanted->value_count,
                                                       wanted->values, NULL, NULL, 0)
                                 : PQsendQueryParams(conn, wanted->sql, wanted->value_count, NULL,
                                                     wanted->values, NULL, NULL, 0);
    return sql_answer(conn, sent, wanted->is_write, SQL_PATIENCE_MS, result, failure);
}

static hv_status run(hv_store *store, const bench_settings *settings, int shard,
                     const statement *wanted, PGresult **result, sql_failure *failure) {
    PGconn *conn = NULL;
    failure->status = hv_acquire(store, shard, &conn, &failure->error);
    if (failure->status != HV_OK)
        return failure->status;
    hv_status status = run_on(conn, settings, wanted, result, failure);
    hv_release(store, conn, NULL);
    return status;
}

hv_status bench_borrow_put(hv_store *store, const bench_settings *settings, int shard,
                           const hv_dict *dict, int64_t *key, sql_failure *failure) {
    char kind[16];
    char *body = NULL;
    snprintf(kind, sizeof kind, "%d", settings->kind);
    failure->status = hv_dict_text(dict, &body, &failure->error);
    if (failure->status != HV_OK)
        return failure->status;
    const char *values[] = {kind, body};
    statement wanted = make_statement(BENCH_PUT, shard, values);
    PGresult *result = NULL;
    if (run(store, settings, shard, &wanted, &result, failure) == HV_OK &&
        sql_check(result, "n", 1, 1, failure) == HV_OK)
        *key = sql_number(result, 0, 0, 0);
    PQclear(result);
    free(body);
    return failure->status;
}

hv_status bench_borrow_get(hv_store *store, const bench_settings *settings, int64_t key, int *kind,
                           hv_dict **dict, sql_failure *failure) {
    char key_text[32];
    int shard = 0;
    failure->status = hv_key_unpack(key, hv_epoch(store), NULL, &shard, NULL, &failure->error);
    if (failure->status != HV_OK)
        return failure->status;
    snprintf(key_text, sizeof key_text, "%" PRId64, key);
    const char *values[] = {key_text};
    statement wanted = make_statement(BENCH_GET, shard, values);
    PGresult *result = NULL;
    if (run(store, settings, shard, &wanted, &result, failure) == HV_OK &&
        sql_check(result, "nt", 0, 1, failure) == HV_OK) {
        if (PQntuples(result) == 0) {
            failure->status = HV_NOT_FOUND;
        } else {
            *kind = (int) sql_number(result, 0, 0, 0);
            failure->status =
                hv_dict_parse(PQgetvalue(result, 0, 1), (size_t) PQgetlength(result, 0, 1), dict,
                              &failure->error);
        }
    }
    PQclear(result);
    return failure->status;
}
