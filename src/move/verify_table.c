/*
 * verify_table: the tables that are compared, and their parts.
 */
#include "move/verify_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "value/sql_text.h"
#include "wire/result.h"

#define PARTS_MAX 1000000

/* A part takes some 15 ms, and its rows some MB of memory if they have to be read. */
#define PART_BYTES (16 << 20)
#define PART_ROWS  50000

/* A part by hash costs a look at the whole table if its rows are to be read. */
#define PART_ROWS_BY_HASH 200000

/* ---- which tables there are ---- */

#define EQ " OPERATOR(pg_catalog.=) "

/*
 * Types whose equal values are the same bytes, and are hashed as they are: all others as text,
 * because equal ones may be written differently (numeric, float8, interval, citext), or because
 * their hash is of something that servers do not have in common (the OIDs of an enum's values).
 * Text in another collation is hashed as text, too. hstore has its function since version 1.6.
 */
#define IS_PLAIN                                                                              \
    "(a.atttypid" EQ "ANY ('{16,17,20,21,23,26,2950,1082,1083,1114,1184}'::pg_catalog.oid[])" \
    " OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e"         \
    " ON d.refobjid" EQ "e.oid AND d.refclassid" EQ "e.tableoid"                              \
    " JOIN pg_catalog.pg_type t ON t.oid" EQ "d.objid AND t.tableoid" EQ "d.classid"          \
    " JOIN pg_catalog.pg_opclass o ON o.opcintype" EQ "t.oid AND o.opcdefault"                \
    " JOIN pg_catalog.pg_am m ON m.oid" EQ "o.opcmethod AND m.amname" EQ "'hash'"             \
    " JOIN pg_catalog.pg_amproc p ON p.amprocfamily" EQ "o.opcfamily AND p.amprocnum" EQ      \
    "2::smallint"                                                                             \
    " WHERE t.oid" EQ "a.atttypid AND d.deptype" EQ "'e' AND t.typname" EQ "'hstore'"         \
    " AND e.extname" EQ "'hstore'))"

#define OPERATOR_OF_KEY                                                                         \
    "(SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, r.oprname)"                        \
    " FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_amop w ON w.amopfamily" EQ "o.opcfamily"  \
    " AND w.amoplefttype" EQ "o.opcintype AND w.amoprighttype" EQ                               \
    "o.opcintype AND w.amopstrategy" EQ "3::smallint JOIN pg_catalog.pg_operator r ON r.oid" EQ \
    "w.amopopr"                                                                                 \
    " JOIN pg_catalog.pg_namespace n ON n.oid" EQ "r.oprnamespace"                              \
    " WHERE o.oid" EQ "k.class)"

void hvi_verify_tables_ask(hvi_buffer *sql, const char *schema) {
    hvi_buffer_append_text(
        sql,
        "SELECT pg_catalog.quote_ident(c.relname), c.relname,"
        " c.reltuples::bigint, pg_catalog.pg_table_size(c.oid),"
        " pg_catalog.quote_ident(a.attname), a.atttypid IS NOT NULL AND " IS_PLAIN ","
        " coalesce(k.place, 0)::integer, pg_catalog.format_type(a.atttypid, a.atttypmod),"
        " " OPERATOR_OF_KEY ", a.atttypid" EQ "ANY ('{20,21,23}'::pg_catalog.oid[])"
        " FROM pg_catalog.pg_namespace s JOIN pg_catalog.pg_class c ON c.relnamespace" EQ "s.oid"
        " LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid" EQ "c.oid AND a.attnum"
        " OPERATOR(pg_catalog.>) 0::smallint AND NOT a.attisdropped AND a.attgenerated" EQ "''"
        " LEFT JOIN LATERAL (SELECT x.indkey, x.indclass, x.indnkeyatts FROM pg_catalog.pg_index x"
        " WHERE x.indrelid" EQ "c.oid AND (x.indisprimary OR x.indisreplident) AND x.indisvalid"
        " ORDER BY x.indisprimary DESC LIMIT 1) x ON true"
        " LEFT JOIN LATERAL (SELECT i.place, x.indclass[i.place OPERATOR(pg_catalog.-) 1] AS class"
        " FROM pg_catalog.generate_series(1, x.indnkeyatts::integer) AS i(place)"
        " WHERE x.indkey[i.place OPERATOR(pg_catalog.-) 1]" EQ "a.attnum) k ON true"
        " WHERE c.relkind" EQ "'r' AND c.relpersistence" EQ "'p' AND s.nspname" EQ "");
    hvi_sql_string(sql, schema, strlen(schema));
    hvi_buffer_append_text(sql, " ORDER BY c.relname COLLATE pg_catalog.\"C\", a.attnum");
}

enum { QUOTED, TITLE, ROWS, BYTES, COLUMN, PLAIN, PLACE, TYPE, EQUALITY, IS_INTEGER };

static const hvi_form tables_form = {
    .asked = "the tables of a schema",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_INT8, HVI_IS_INT8, HVI_IS_BYTES | HVI_OR_NULL,
                HVI_IS_BOOL | HVI_OR_NULL, HVI_IS_INT4, HVI_IS_BYTES | HVI_OR_NULL,
                HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BOOL | HVI_OR_NULL},
};

static bool is_at(const PGresult *result, int row, int column, const char *text) {
    const char *its = hvi_text_at(result, row, column);
    return its != NULL && strcmp(its, text) == 0;
}

/* The row of the other side's answer for the same table and, unless it is NULL, column; -1: none.
 */
static int find_row(const PGresult *result, const char *table, const char *column) {
    for (int row = 0; row < PQntuples(result); row++)
        if (is_at(result, row, QUOTED, table) &&
            (column == NULL || is_at(result, row, COLUMN, column)))
            return row;
    return -1;
}

static char *copy(const char *text) {
    return strdup(text != NULL ? text : "");
}

static bool read_key_column(hvi_verify_table *table, PGresult *const answers[2], const int at[2]) {
    size_t place = (size_t) hvi_integer_at(answers[HVI_SOURCE], at[HVI_SOURCE], PLACE);
    if (place > table->key_count) {
        hvi_key_column *grown = realloc(table->key, place * sizeof *grown);
        if (grown == NULL)
            return false;
        memset(grown + table->key_count, 0, (place - table->key_count) * sizeof *grown);
        table->key = grown;
        table->key_count = place;
    }
    hvi_key_column *column = &table->key[place - 1];
    column->name = copy(hvi_text_at(answers[HVI_SOURCE], at[HVI_SOURCE], COLUMN));
    bool ok = column->name != NULL;
    for (int side = 0; side < 2; side++) {
        column->types[side] = copy(hvi_text_at(answers[side], at[side], TYPE));
        column->operators[side] = copy(hvi_text_at(answers[side], at[side], EQUALITY));
        ok = ok && column->types[side] != NULL && column->operators[side] != NULL;
    }
    if (place == 1)
        table->by_range = hvi_bool_at(answers[HVI_SOURCE], at[HVI_SOURCE], IS_INTEGER);
    return ok;
}

static hv_status fail_lacking(const hvi_verify_tables *tables, const hvi_pair *pair,
                              const char *table, const char *column, hv_error **error) {
    const char *server = pair->sessions[HVI_TARGET]->config->server;
    hvi_fail(error, HV_MISMATCH, "the copy of shard %d on server \"%s\" is incomplete", pair->shard,
             server);
    if (column != NULL)
        hvi_error_detail(error, "%s.%s has no column %s, or it is not part of the same key.",
                         tables->schemas[HVI_TARGET], table, column);
    else
        hvi_error_detail(error, "There is no table %s.%s.", tables->schemas[HVI_TARGET], table);
    hvi_error_where(error, server, pair->shard);
    return HV_MISMATCH;
}

/* Read the rows of one table, from `row` on. Returns the row after them; -1 on failure. */
static int read_table(hvi_verify_tables *tables, PGresult *const answers[2], int row,
                      const hvi_pair *pair, hv_error **error) {
    const PGresult *mine = answers[HVI_SOURCE];
    hvi_verify_table *table = &tables->all[tables->count++];
    const char *name = hvi_text_at(mine, row, QUOTED);
    hvi_buffer columns = HVI_BUFFER_EMPTY;
    *table = (hvi_verify_table){.name = copy(name),
                                .title = copy(hvi_text_at(mine, row, TITLE)),
                                .rows = hvi_integer_at(mine, row, ROWS),
                                .bytes = hvi_integer_at(mine, row, BYTES),
                                .parts = calloc(1, sizeof *table->parts),
                                .part_count = 1};
    bool ok = table->name != NULL && table->title != NULL && table->parts != NULL;
    if (find_row(answers[HVI_TARGET], name, NULL) < 0) {
        fail_lacking(tables, pair, name, NULL, error);
        return -1;
    }
    for (; row < PQntuples(mine) && is_at(mine, row, QUOTED, name); row++) {
        const char *column = hvi_text_at(mine, row, COLUMN);
        if (column == NULL)
            continue;
        int at[2] = {row, find_row(answers[HVI_TARGET], name, column)};
        if (at[HVI_TARGET] < 0 || hvi_integer_at(mine, row, PLACE) !=
                                      hvi_integer_at(answers[HVI_TARGET], at[HVI_TARGET], PLACE)) {
            hvi_buffer_fini(&columns);
            fail_lacking(tables, pair, name, column, error);
            return -1;
        }
        bool plain = hvi_bool_at(mine, row, PLAIN) &&
                     hvi_bool_at(answers[HVI_TARGET], at[HVI_TARGET], PLAIN);
        hvi_buffer_append_format(&columns, "%st.%s%s", columns.len > 0 ? ", " : "", column,
                                 plain ? "" : "::pg_catalog.text COLLATE pg_catalog.\"C\"");
        if (hvi_integer_at(mine, row, PLACE) > 0)
            ok = ok && read_key_column(table, answers, at);
    }
    table->columns = columns.len > 0 ? hvi_buffer_take(&columns) : copy("");
    hvi_buffer_fini(&columns);
    if (!ok || table->columns == NULL) {
        hvi_no_memory(error);
        return -1;
    }
    if (table->rows < 0 || (table->rows == 0 && table->bytes > 0))
        table->rows = table->bytes / 100; /* never analysed */
    return row;
}

hv_status hvi_verify_tables_read(hvi_verify_tables *tables, PGresult *const answers[2],
                                 const hvi_pair *pair, hv_error **error) {
    for (int side = 0; side < 2; side++) {
        hv_status status = hvi_result_check(
            answers[side], &tables_form, pair->sessions[side]->config->server, pair->shard, error);
        if (status != HV_OK)
            return status;
    }
    const PGresult *mine = answers[HVI_SOURCE];
    tables->all = calloc((size_t) PQntuples(mine) + 1, sizeof *tables->all);
    if (tables->all == NULL)
        return hvi_no_memory(error);
    for (int row = 0; row < PQntuples(mine);) {
        row = read_table(tables, answers, row, pair, error);
        if (row < 0)
            return error != NULL && *error != NULL ? hv_error_status(*error) : HV_MISMATCH;
    }
    return HV_OK;
}

void hvi_verify_tables_fini(hvi_verify_tables *tables) {
    for (size_t i = 0; i < tables->count; i++) {
        hvi_verify_table *table = &tables->all[i];
        for (size_t k = 0; k < table->key_count; k++) {
            free(table->key[k].name);
            for (int side = 0; side < 2; side++) {
                free(table->key[k].types[side]);
                free(table->key[k].operators[side]);
            }
        }
        free(table->key);
        free(table->name);
        free(table->title);
        free(table->columns);
        free(table->parts);
    }
    free(tables->all);
    tables->all = NULL;
    tables->count = 0;
}

/* ---- parts ---- */

static const hvi_form sample_form = {
    .asked = "a sample of a table's keys",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT8},
};

int64_t hvi_verify_parts_wanted(const hvi_verify_table *table) {
    int64_t by_bytes = table->bytes / PART_BYTES, by_rows = table->rows / PART_ROWS;
    int64_t parts = 1 + (by_bytes > by_rows ? by_bytes : by_rows);
    return parts < PARTS_MAX ? parts : PARTS_MAX;
}

static hv_status divide_by_hash(hvi_verify_table *table, hv_error **error) {
    size_t count = 1;
    while (count < PARTS_MAX && (int64_t) count * PART_ROWS_BY_HASH < table->rows)
        count *= 2;
    hvi_part *parts = calloc(count, sizeof *parts);
    if (parts == NULL)
        return hvi_no_memory(error);
    free(table->parts);
    table->parts = parts;
    table->part_count = count;
    return HV_OK;
}

hv_status hvi_verify_divide(hvi_verify_table *table, const PGresult *sample, const char *server,
                            hv_error **error) {
    if (!table->by_range)
        return divide_by_hash(table, error);
    if (sample == NULL)
        return HV_OK;
    hv_status status = hvi_result_check(sample, &sample_form, server, -1, error);
    if (status != HV_OK)
        return status;
    int rows = PQntuples(sample), step = rows / (int) hvi_verify_parts_wanted(table);
    step = step > 0 ? step : 1;
    size_t room = (size_t) (rows / step) + 1;
    hvi_part *parts = calloc(room, sizeof *parts);
    if (parts == NULL)
        return hvi_no_memory(error);
    size_t count = 1;
    for (int row = step; row < rows && count < room; row += step) {
        int64_t key = hvi_integer_at(sample, row, 0);
        hvi_part *last = &parts[count - 1];
        if (last->has_after && last->after == key)
            continue;
        last->has_upto = true;
        last->upto = key;
        parts[count++] = (hvi_part){.has_after = true, .after = key};
    }
    free(table->parts);
    table->parts = parts;
    table->part_count = count;
    return HV_OK;
}

void hvi_verify_name_part(hvi_buffer *text, const hvi_verify_table *table, size_t part) {
    const hvi_part *of = &table->parts[part];
    if (!table->by_range && table->part_count > 1)
        hvi_buffer_append_format(text, "part %zu of %zu by hash", part + 1, table->part_count);
    else if (of->has_after && of->has_upto)
        hvi_buffer_append_format(text, "keys %" PRId64 " to %" PRId64, of->after + 1, of->upto);
    else if (of->has_after)
        hvi_buffer_append_format(text, "keys from %" PRId64, of->after + 1);
    else if (of->has_upto)
        hvi_buffer_append_format(text, "keys up to %" PRId64, of->upto);
    else
        hvi_buffer_append_text(text, "all keys");
}
