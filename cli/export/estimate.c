/*
 * estimate: about how many entities an export will write.
 *
 * From the tables' present sizes and the server's statistics; no table is read.
 */
#include "export/estimate.h"

#include <limits.h>
#include <stdlib.h>

#include <libpq-fe.h>

#include "servers/sql.h"

/* An estimate is not worth a longer wait. */
#define PATIENCE_MS 2000

/* Only the size is known of a table that was never analysed: its entities are assumed to be
 * small. */
static const char sql[] =
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer,"
    " (pg_catalog.pg_relation_size(c.oid)"
    "  OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::double precision"
    "  OPERATOR(pg_catalog.*) CASE"
    "  WHEN c.reltuples OPERATOR(pg_catalog.>) 0 AND c.relpages OPERATOR(pg_catalog.>) 0"
    "  THEN c.reltuples OPERATOR(pg_catalog./) c.relpages ELSE 60 END)::bigint"
    " FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    " WHERE c.relname OPERATOR(pg_catalog.=) 'entities'"
    " AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'";

bool export_estimate(hv_store *store, int server, const int *shards, int count, int64_t *total) {
    PGconn *conn = NULL;
    PGresult *result = NULL;
    sql_failure failure = {0};
    bool wanted[HV_SHARDS] = {false};
    for (int i = 0; i < count; i++)
        wanted[shards[i]] = hv_shard_server(store, shards[i]) == server;
    if (hv_acquire_server(store, server, &conn, NULL) != HV_OK)
        return false;
    bool known =
        sql_answer(conn, PQsendQuery(conn, sql), false, PATIENCE_MS, &result, &failure) == HV_OK &&
        sql_check(result, "nn", 0, INT_MAX, &failure) == HV_OK;
    for (int i = 0; known && i < PQntuples(result); i++) {
        int64_t shard = sql_number(result, i, 0, 0);
        int64_t entities = sql_number(result, i, 1, 0);
        if (shard >= 0 && shard < HV_SHARDS && wanted[shard] && entities > 0 &&
            entities < INT64_MAX - *total)
            *total += entities;
    }
    sql_failure_clear(&failure);
    PQclear(result);
    hv_release(store, conn, NULL);
    return known;
}
