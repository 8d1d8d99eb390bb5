/*
 * load_keys: rows with given keys: find the entities that the keys have already, and see that the
 * shard never makes the keys again.
 *
 * Why no key is made again: made keys follow the server's clock, and strict ones also the shard's
 * sequence, which is advanced to the greatest key. The transaction first locks the shard's table,
 * which keeps `hv init --keys` from changing the shard's key generator meanwhile; such a change
 * looks at the greatest key itself.
 */
#include "entity/load_keys.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "value/hstore.h"
#include "value/key.h"
#include "wire/result.h"
#include "entity/verb.h"

/* How far keys may be ahead of the server's clock. */
#define PATIENCE_MS INT64_C(2000)
#define STRICT_MS   INT64_C(86400000)

static hvi_load_row *row_at(const hvi_load_keys *keys, size_t position) {
    return &keys->batch->rows[keys->batch->order[position]];
}

/* Keep only the waiting rows of order[from .. *end). */
static void close_gaps(const hvi_load_keys *keys, size_t from, size_t *end) {
    size_t kept = from;
    for (size_t i = from; i < *end; i++)
        if (row_at(keys, i)->state == HVI_LOAD_WAITING)
            keys->batch->order[kept++] = keys->batch->order[i];
    *end = kept;
}

/* ---- entities under the keys ---- */

/* Is the entity under the key the one to be stored? `there` is NULL for a row that is no entity. */
static hv_status compare(const hvi_load_keys *keys, hvi_load_row *row, int kind,
                         const hv_dict *there, hv_error **error) {
    hv_dict *given = NULL;
    size_t len;
    const char *body = hvi_load_row_body(keys->batch, row, &len);
    if (hvi_hstore_decode(body, len, &given, NULL) == HV_NO_MEMORY)
        return hvi_no_memory(error);
    /* A body that the caller gave as a binary hstore but is not one equals nothing. */
    if (there != NULL && given != NULL && kind == row->kind && hv_dict_equal(there, given)) {
        row->state = HVI_LOAD_KNOWN;
    } else {
        row->state = HVI_LOAD_REFUSED;
        hvi_target_fail_conflict(keys->target, row->key, &row->error);
    }
    hv_dict_free(given);
    return HV_OK;
}

/* The first row with this key, or where it would be; the rows are in key order. */
static size_t find(const hvi_load_keys *keys, size_t from, size_t end, int64_t key) {
    while (from < end) {
        size_t middle = from + (end - from) / 2;
        if (row_at(keys, middle)->key < key)
            from = middle + 1;
        else
            end = middle;
    }
    return from;
}

static hv_status take_entity(const hvi_load_keys *keys, const PGresult *result, int number,
                             size_t from, size_t end, hv_error **error) {
    int64_t key = hvi_integer_at(result, number, 0);
    int kind = (int) hvi_integer_at(result, number, 1);
    hv_dict *there = NULL;
    hv_status status = HV_OK;
    if (!PQgetisnull(result, number, 1) && !PQgetisnull(result, number, 2))
        status = hvi_body_at(result, number, 2, &there, error);
    for (size_t i = find(keys, from, end, key);
         status == HV_OK && i < end && row_at(keys, i)->key == key; i++)
        status = compare(keys, row_at(keys, i), kind, there, error);
    hv_dict_free(there);
    return status;
}

hv_status hvi_load_keys_sift(const hvi_load_keys *keys, size_t from, size_t *end,
                             hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&sql,
                             "SELECT id, type, %s FROM %s.entities"
                             " WHERE id OPERATOR(pg_catalog.=) ANY ('{",
                             hvi_body_column(keys->session->reads_text), keys->target->schema);
    for (size_t i = from; i < *end; i++)
        hvi_buffer_append_format(&sql, "%s%" PRId64, i > from ? "," : "", row_at(keys, i)->key);
    hvi_buffer_append_text(&sql, "}'::bigint[])");
    hvi_query query = {.sql = sql.data, .shard = keys->target->shard, .binary_result = true};
    hv_status status = hvi_buffer_ok(&sql)
                           ? hvi_session_run(keys->session, &query,
                                             hvi_deadline_after(keys->timeout), &result, error)
                           : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_result_check(result, &hvi_get.many.answer, keys->target->server->name,
                                  keys->target->shard, error);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++)
        status = take_entity(keys, result, i, from, *end, error);
    if (status == HV_OK)
        close_gaps(keys, from, end);
    PQclear(result);
    hvi_buffer_fini(&sql);
    return status;
}

/* ---- the shard's key generator ---- */

static hv_status run(const hvi_load_keys *keys, hvi_buffer *sql, PGresult **result,
                     hv_error **error) {
    hv_status status =
        hvi_buffer_ok(sql)
            ? hvi_session_script(keys->session, sql->data, keys->target->shard, false,
                                 hvi_deadline_after(keys->timeout), result, error)
            : hvi_no_memory(error);
    hvi_buffer_fini(sql);
    return status;
}

static const hvi_form maker_form = {
    .asked = "what makes the shard's keys",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_KEYS, HVI_IS_INT8, HVI_IS_COUNT, HVI_IS_BOOL},
};

/* Does the table with this oid have triggers that are called for each row to be stored, before it
 * is (1 + 2 + 4) or instead of it (1 + 64 + 4)? See pg_trigger.h. */
#define HAS_TRIGGERS(oid)                                                                     \
    "EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid OPERATOR(pg_catalog.=) " oid \
    " AND g.tgenabled OPERATOR(pg_catalog.<>) 'D'"                                            \
    " AND (g.tgtype OPERATOR(pg_catalog.&) 5) OPERATOR(pg_catalog.=) 5"                       \
    " AND (g.tgtype OPERATOR(pg_catalog.&) 66) OPERATOR(pg_catalog.<>) 0)"

#define TABLE_HAS_TRIGGERS     HAS_TRIGGERS("pg_catalog.to_regclass('%s.entities')")
#define PARTITION_HAS_TRIGGERS HAS_TRIGGERS("p.relid")

/* Takes the schema, the epoch, the schema, HVI_KEY_ADDED_BITS, and the schema three times. */
#define INSPECT                                                                            \
    "LOCK TABLE %s.entities IN ROW EXCLUSIVE MODE;"                                        \
    " SELECT " HVI_GENERATOR_OF_FUNCTION ","                                               \
    " pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"        \
    "  OPERATOR(pg_catalog.*) 1000)::bigint OPERATOR(pg_catalog.-) %" PRId64 ","           \
    " coalesce(pg_catalog.pg_sequence_last_value("                                         \
    "  pg_catalog.to_regclass('%s.table_id_seq')), 0) OPERATOR(pg_catalog.>>) %d,"         \
    " " TABLE_HAS_TRIGGERS " OR EXISTS"                                                    \
    "  (SELECT FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass('%s.entities')) p" \
    "   WHERE " PARTITION_HAS_TRIGGERS ")"                                                 \
    " FROM (SELECT pg_catalog.to_regprocedure('%s.next_id()') AS oid) AS n"                \
    " LEFT JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) n.oid"

/* Lock the table, and look up the generator, the server's clock and how far the sequence is, in
 * milliseconds since the epoch, and whether there are triggers. */
static hv_status inspect(const hvi_load_keys *keys, hvi_generator *generator, int64_t *now,
                         int64_t *latest, bool *has_triggers, hv_error **error) {
    const char *schema = keys->target->schema;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hv_error *cause = NULL;
    hvi_buffer_append_format(&sql, INSPECT, schema, keys->epoch, schema, HVI_KEY_ADDED_BITS, schema,
                             schema, schema);
    hv_status status = run(keys, &sql, &result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &maker_form, keys->target->server->name,
                                  keys->target->shard, &cause);
    if (status == HV_OK) {
        *generator = (hvi_generator) hvi_integer_at(result, 0, 0);
        *now = hvi_integer_at(result, 0, 1);
        *latest = hvi_integer_at(result, 0, 2);
        *has_triggers = hvi_bool_at(result, 0, 3);
    }
    PQclear(result);
    return status == HV_OK ? HV_OK : hvi_target_explain(keys->target, &cause, error);
}

static hv_status advance(const hvi_load_keys *keys, int64_t key, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    hvi_buffer_append_format(&sql,
                             "SELECT hypervault.advance("
                             "'%s.table_id_seq'::pg_catalog.regclass, '%" PRId64 "'::bigint)",
                             keys->target->schema, key);
    hv_status status = run(keys, &sql, NULL, &cause);
    return status == HV_OK ? HV_OK : hvi_target_explain(keys->target, &cause, error);
}

static void refuse_future(const hvi_load_keys *keys, hvi_load_row *row, int64_t ahead,
                          bool strict) {
    row->state = HVI_LOAD_REFUSED;
    hvi_fail(&row->error, HV_INVALID, "the key %" PRId64 " is ahead of the server's clock",
             row->key);
    hvi_error_detail(&row->error, "By %" PRId64 " ms.", ahead);
    if (strict)
        hvi_error_hint(&row->error, "If it is right, call hypervault.advance() for the shard "
                                    "first: its keys will go on from there.");
    else
        hvi_error_hint(&row->error, "The shard would make it again: see that clock and epoch are "
                                    "right, or change it to strict keys.");
    hvi_error_where(&row->error, keys->target->server->name, row->shard);
}

hv_status hvi_load_keys_prepare(const hvi_load_keys *keys, size_t from, size_t *end,
                                bool *has_triggers, hv_error **error) {
    hvi_generator generator = HVI_GENERATOR_NONE;
    int64_t now = 0, latest = 0, greatest = 0;
    hv_status status = inspect(keys, &generator, &now, &latest, has_triggers, error);
    if (status != HV_OK)
        return status;
    bool strict = generator == HVI_GENERATOR_STRICT;
    int64_t last = strict ? (latest > now ? latest : now) + STRICT_MS : now + PATIENCE_MS;
    for (size_t i = from; i < *end; i++) {
        hvi_load_row *row = row_at(keys, i);
        int64_t time = row->key >> HVI_KEY_TIME_SHIFT;
        if (time > last)
            refuse_future(keys, row, time - now, strict);
        else if (row->key > greatest)
            greatest = row->key;
    }
    close_gaps(keys, from, end);
    int64_t ahead = (greatest >> HVI_KEY_TIME_SHIFT) - now;
    if (strict && greatest > 0)
        return advance(keys, greatest, error);
    if (ahead >= 0 && greatest > 0 && !hvi_pause(ahead + 1))
        return hvi_fail_late(keys->target->server->name, keys->target->shard, false, error);
    return HV_OK;
}
