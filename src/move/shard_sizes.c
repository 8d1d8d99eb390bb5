/*
 * shard_sizes: how large the shards of a server are, and how much it writes.
 */
#include "move/shard_sizes.h"

#include <stdlib.h>

#include "wire/result.h"

/* A partitioned table has no rows and no bytes of its own; its partitions are tables. */
static const char sizes_sql[] =
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer,"
    " coalesce(pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint,"
    " coalesce(pg_catalog.sum(CASE WHEN c.reltuples OPERATOR(pg_catalog.>) 0 THEN c.reltuples"
    "  ELSE pg_catalog.pg_stat_get_live_tuples(c.oid) END), 0)::bigint," /* not analysed yet */
    " coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_tuples_inserted(c.oid)"
    "  OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_tuples_updated(c.oid)"
    "  OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_tuples_deleted(c.oid)), 0)::bigint"
    " FROM pg_catalog.pg_namespace AS n"
    " LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    " AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,m}'::pg_catalog.\"char\"[])"
    " WHERE n.nspname OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'"
    " AND EXISTS (SELECT FROM pg_catalog.pg_class AS e"
    "  WHERE e.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "  AND e.relname OPERATOR(pg_catalog.=) 'entities')"
    " GROUP BY 1 ORDER BY 1";

static const hvi_form sizes_form = {
    .asked = "the sizes of shards",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT4, HVI_IS_INT8, HVI_IS_INT8, HVI_IS_INT8},
};

hv_status hvi_shard_sizes_read(hvi_link *link, int64_t deadline, hvi_shard_size **sizes,
                               size_t *count, hv_error **error) {
    PGresult *result = NULL;
    hv_status status = hvi_link_run(link, sizes_sql, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &sizes_form, link->server->name, -1, error);
    size_t rows = status == HV_OK ? (size_t) PQntuples(result) : 0;
    if (status == HV_OK && (*sizes = calloc(rows + 1, sizeof **sizes)) == NULL)
        status = hvi_no_memory(error);
    for (size_t i = 0; status == HV_OK && i < rows; i++)
        (*sizes)[i] = (hvi_shard_size){
            .shard = (int) hvi_integer_at(result, (int) i, 0),
            .bytes = hvi_integer_at(result, (int) i, 1),
            .rows = hvi_integer_at(result, (int) i, 2),
            .writes = hvi_integer_at(result, (int) i, 3),
        };
    if (status == HV_OK)
        *count = rows;
    PQclear(result);
    return status;
}

static const hvi_form wal_form = {
    .asked = "the position in the log",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8},
};

hv_status hvi_shard_sizes_wal(hvi_link *link, int64_t deadline, int64_t *position,
                              hv_error **error) {
    PGresult *result = NULL;
    /* A standby writes no log of its own. */
    hv_status status =
        hvi_link_run(link,
                     "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE"
                     " pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(),"
                     " '0/0'::pg_catalog.pg_lsn)::bigint END",
                     deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &wal_form, link->server->name, -1, error);
    if (status == HV_OK)
        *position = hvi_integer_at(result, 0, 0);
    PQclear(result);
    return status;
}
