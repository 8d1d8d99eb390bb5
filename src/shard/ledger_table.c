/*
 * ledger_table: the table in a shard's schema that records what was run there once. Its SQL.
 */
#include "shard/ledger_table.h"

#include <string.h>

#include "value/shard_map.h"
#include "value/sql_text.h"

void hvi_ledger_table_ensure(hvi_buffer *sql, int shard) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    /* The columns from `done` on are about migrations without a transaction: so many statements are
     * done, this one was begun, and the digest of all of these. */
    hvi_buffer_append_format(sql,
                             "IF pg_catalog.to_regclass('%s." HVI_LEDGER "') IS NULL THEN"
                             " CREATE TABLE %s." HVI_LEDGER " ("
                             " id pg_catalog.text PRIMARY KEY,"
                             " name pg_catalog.text NOT NULL,"
                             " digest pg_catalog.text NOT NULL,"
                             " applied_at pg_catalog.timestamptz NOT NULL"
                             " DEFAULT pg_catalog.clock_timestamp(),"
                             " took_ms bigint NOT NULL DEFAULT 0,"
                             " finished boolean NOT NULL DEFAULT true,"
                             " done integer NOT NULL DEFAULT 0,"
                             " begun integer,"
                             " statements pg_catalog.text NOT NULL DEFAULT '');"
                             " END IF;",
                             schema, schema);
}

void hvi_ledger_table_refuse_done(hvi_buffer *sql, int shard, const char *id) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(sql,
                             "IF EXISTS (SELECT FROM %s." HVI_LEDGER
                             " WHERE finished AND id OPERATOR(pg_catalog.=) ",
                             schema);
    hvi_sql_text(sql, id, strlen(id));
    hvi_buffer_append_text(sql, ") THEN RAISE EXCEPTION USING ERRCODE = '" HVI_SQLSTATE_DONE
                                "', MESSAGE = 'it is recorded as done'; END IF;");
}

void hvi_ledger_table_record(hvi_buffer *sql, int shard, const char *id, const char *name,
                             const char *digest) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(
        sql, "INSERT INTO %s." HVI_LEDGER " (id, name, digest, took_ms) VALUES (", schema);
    hvi_sql_text(sql, id, strlen(id));
    hvi_buffer_append_text(sql, ", ");
    hvi_sql_text(sql, name, strlen(name));
    hvi_buffer_append_text(sql, ", ");
    hvi_sql_text(sql, digest, strlen(digest));
    hvi_buffer_append_text(
        sql, ", (EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)"
             " pg_catalog.now()) OPERATOR(pg_catalog.*) 1000)::bigint)");
    hvi_buffer_append_text(sql, " ON CONFLICT (id) DO ");
    hvi_buffer_append_text(
        sql, "UPDATE SET name = EXCLUDED.name, digest = EXCLUDED.digest,"
             " applied_at = EXCLUDED.applied_at, took_ms = EXCLUDED.took_ms, finished = true,"
             " begun = NULL");
}
