/*
 * generator: the SQL of the functions that make a shard's keys.
 *
 * The key's layout is described in hypervault.h. 896 of the 1,024 values of added_id are
 * next_id()'s, the other 128 are reserve_ids()'s: its sequence counts milliseconds × 128, so at
 * most 128 keys bear one millisecond, and more are borrowed from the next.
 */
#include "generator.h"

#include <inttypes.h>

#include "shard_map.h"

#define NOW_MS "floor(date_part('epoch', clock_timestamp()) * 1000)::bigint"

static void create_strict(hvi_buffer *sql, const char *schema, int shard, int64_t epoch) {
    hvi_buffer_append_format(
        sql,
        "CREATE OR REPLACE FUNCTION %s.next_id(OUT result bigint) LANGUAGE sql AS $body$\n"
        "    SELECT hypervault.next_id('%s.table_id_seq'::regclass, %d, %" PRId64 ")\n"
        "$body$;",
        schema, schema, shard, epoch);
    hvi_buffer_append_format(
        sql,
        "CREATE OR REPLACE FUNCTION %s.reserve_ids(how_many integer)"
        " RETURNS SETOF bigint LANGUAGE sql AS $body$\n"
        "    SELECT hypervault.next_ids('%s.table_id_seq'::regclass, %d, how_many, %" PRId64 ")\n"
        "$body$;",
        schema, schema, shard, epoch);
}

/* date_part() and not extract(): numeric arithmetic would cost more than all the rest. */
static void create_portable(hvi_buffer *sql, const char *schema, int shard, int64_t epoch) {
    hvi_buffer_append_format(
        sql,
        "CREATE OR REPLACE FUNCTION %s.next_id(OUT result bigint) LANGUAGE sql AS $body$\n"
        "    /* hypervault: portable */\n"
        "    SELECT ((" NOW_MS " - %" PRId64 ") << 23) | %d"
        " | (nextval('%s.table_id_seq'::regclass) %% 896)\n"
        "$body$;",
        schema, epoch, shard << 10, schema);
    hvi_buffer_append_format(
        sql,
        "CREATE SEQUENCE IF NOT EXISTS %s.reserved_id_seq;"
        "CREATE OR REPLACE FUNCTION %s.reserve_ids(how_many integer)"
        " RETURNS SETOF bigint LANGUAGE plpgsql AS $body$\n"
        "DECLARE\n"
        "    first_value bigint;\n"
        "BEGIN\n"
        "    /* hypervault: portable */\n"
        "    PERFORM pg_catalog.pg_advisory_lock(26743, %d);\n"
        "    SELECT greatest(last_value + 1, (" NOW_MS " - %" PRId64 ") * 128) INTO first_value\n"
        "        FROM %s.reserved_id_seq;\n"
        "    PERFORM pg_catalog.setval('%s.reserved_id_seq', first_value + how_many - 1);\n"
        "    PERFORM pg_catalog.pg_advisory_unlock(26743, %d);\n"
        "    RETURN QUERY SELECT ((v / 128) << 23) | %d | (896 + v %% 128)\n"
        "        FROM generate_series(first_value, first_value + how_many - 1) v;\n"
        "END $body$;",
        schema, schema, shard, epoch, schema, schema, shard, shard << 10);
}

void hvi_generator_create(hvi_buffer *sql, hvi_generator generator, int shard, int64_t epoch) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    if (generator == HVI_GENERATOR_STRICT)
        create_strict(sql, schema, shard, epoch);
    else
        create_portable(sql, schema, shard, epoch);
}

/* An SQL expression for the latest millisecond since the epoch that any key made so far may bear.
 */
static void append_latest(hvi_buffer *sql, hvi_generator from, const char *schema) {
    hvi_buffer_append_format(sql, "greatest((SELECT coalesce(max(id), 0) >> 23 FROM %s.entities)",
                             schema);
    if (from == HVI_GENERATOR_STRICT)
        hvi_buffer_append_format(sql, ", (SELECT last_value >> 10 FROM %s.table_id_seq)", schema);
    if (from == HVI_GENERATOR_PORTABLE)
        hvi_buffer_append_format(sql, ", (SELECT last_value / 128 FROM %s.reserved_id_seq)",
                                 schema);
    hvi_buffer_append_text(sql, ")");
}

void hvi_generator_change(hvi_buffer *sql, hvi_generator from, hvi_generator to, int shard,
                          int64_t epoch) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    /* A lock that is waited for holds up all writers behind it: rather come back later. */
    hvi_buffer_append_format(sql,
                             "SET LOCAL lock_timeout TO '500ms';"
                             "LOCK TABLE %s.entities IN SHARE ROW EXCLUSIVE MODE;",
                             schema);
    if (to == HVI_GENERATOR_STRICT) {
        hvi_buffer_append_format(
            sql,
            "SELECT hypervault.advance('%s.table_id_seq', ((1 + greatest(" NOW_MS " - %" PRId64
            ", ",
            schema, epoch);
        append_latest(sql, from, schema);
        hvi_buffer_append_text(sql, ")) << 23) - 1);");
    } else {
        hvi_buffer_append_text(sql, "DO $do$ DECLARE ahead_ms bigint; BEGIN ahead_ms := ");
        append_latest(sql, from, schema);
        hvi_buffer_append_format(
            sql,
            " - (" NOW_MS " - %" PRId64 ");"
            " IF ahead_ms > 1000 THEN RAISE EXCEPTION"
            " 'the keys of %s are %% ms ahead of the clock', ahead_ms USING ERRCODE = '55000';"
            " END IF;"
            " PERFORM pg_catalog.pg_sleep(greatest(ahead_ms + 2, 0) / 1000.0); END $do$;",
            epoch, schema);
    }
    hvi_generator_create(sql, to, shard, epoch);
}
