/*
 * verify_sql: the SQL that counts, hashes and reads the rows of tables that are compared.
 */
#include "move/verify_sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "value/sql_text.h"
#include "wire/result.h"

/* Of the sample, for each part; and how many pages it is taken from, at least. */
#define SAMPLE_KEYS  20
#define SAMPLE_PAGES 100
#define PAGE_BYTES   8192

/* ---- hashing ---- */

/* A row of these values, by the functions that are used for rows. */
void hvi_verify_hashing_ask(hvi_buffer *sql) {
    hvi_buffer_append_text(sql,
                           "SELECT pg_catalog.hash_record_extended(ROW("
                           "12345678901::bigint, 7::smallint, 'hypervault'::pg_catalog.text COLLATE"
                           " pg_catalog.\"C\", NULL::pg_catalog.text,"
                           " '2001-02-03'::pg_catalog.timestamptz), 0::bigint)");
}

static void hash_of(hvi_buffer *sql, const hvi_verify_tables *tables, const char *columns) {
    if (tables->hashing == HVI_HASH_RECORD)
        hvi_buffer_append_format(sql, "pg_catalog.hash_record_extended(ROW(%s), 0::bigint)",
                                 columns);
    else
        hvi_buffer_append_format(sql,
                                 "pg_catalog.concat('x', pg_catalog.substr(pg_catalog.md5("
                                 "ROW(%s)::pg_catalog.text), 1, 16))::bit(64)::bigint",
                                 columns);
}

/* A number that decides in which part, by hash, a row is. */
static void part_hash_of(hvi_buffer *sql, const hvi_verify_tables *tables,
                         const hvi_verify_table *table) {
    hvi_buffer columns = HVI_BUFFER_EMPTY;
    for (size_t i = 0; i < table->key_count; i++)
        hvi_buffer_append_format(&columns, "%st.%s::pg_catalog.text COLLATE pg_catalog.\"C\"",
                                 i > 0 ? ", " : "", table->key[i].name);
    hash_of(sql, tables, table->key_count == 0 ? table->columns : columns.data);
    if (!hvi_buffer_ok(&columns))
        hvi_buffer_break(sql);
    hvi_buffer_fini(&columns);
}

/* The key as text. */
static void key_of(hvi_buffer *sql, const hvi_verify_table *table) {
    bool several = table->key_count > 1;
    hvi_buffer_append_text(sql, several ? "ARRAY[" : "");
    for (size_t i = 0; i < table->key_count; i++)
        hvi_buffer_append_format(sql, "%st.%s::pg_catalog.text", i > 0 ? ", " : "",
                                 table->key[i].name);
    hvi_buffer_append_text(sql, several ? "]::pg_catalog.text" : "");
}

/* ---- statements ---- */

/* So that the same value is the same text on both servers; and plans that do not depend on what the
 * statistics of a new copy say. */
static const char settings_sql[] = "SET LOCAL DateStyle TO 'ISO';"
                                   "SET LOCAL IntervalStyle TO 'postgres';"
                                   "SET LOCAL TimeZone TO 'UTC';"
                                   "SET LOCAL extra_float_digits TO 3;"
                                   "SET LOCAL bytea_output TO 'hex';"
                                   "SET LOCAL lc_monetary TO 'C';"
                                   "SET LOCAL row_security TO off;"
                                   "SET LOCAL jit TO off;"
                                   "SET LOCAL max_parallel_workers_per_gather TO 0;"
                                   "SET LOCAL enable_hashjoin TO off;"
                                   "SET LOCAL enable_mergejoin TO off;";

static void begin(hvi_buffer *sql, bool by_index) {
    hvi_buffer_append_format(sql, "%sSET LOCAL enable_seqscan TO %s;", settings_sql,
                             by_index ? "off" : "on");
}

static void from(hvi_buffer *sql, const hvi_verify_tables *tables, const hvi_verify_table *table,
                 hvi_side side) {
    hvi_buffer_append_format(sql, " FROM ONLY %s.%s AS t", tables->schemas[side], table->name);
}

/* The condition that rows are in this part, if there are several. */
static void where_in_part(hvi_buffer *sql, const hvi_verify_tables *tables,
                          const hvi_verify_table *table, size_t part, int pieces, int piece) {
    const hvi_part *of = &table->parts[part];
    hvi_buffer_append_text(sql, " WHERE true");
    if (table->by_range && of->has_after)
        hvi_buffer_append_format(sql, " AND t.%s OPERATOR(pg_catalog.>) '%" PRId64 "'::bigint",
                                 table->key[0].name, of->after);
    if (table->by_range && of->has_upto)
        hvi_buffer_append_format(sql, " AND t.%s OPERATOR(pg_catalog.<=) '%" PRId64 "'::bigint",
                                 table->key[0].name, of->upto);
    if (!table->by_range && table->part_count > 1) {
        hvi_buffer_append_text(sql, " AND (");
        part_hash_of(sql, tables, table);
        hvi_buffer_append_format(
            sql, " OPERATOR(pg_catalog.&) %llu::bigint) OPERATOR(pg_catalog.=) %llu::bigint",
            (unsigned long long) table->part_count - 1, (unsigned long long) part);
    }
    if (pieces > 1) { /* other bits of the hash than those of the part */
        hvi_buffer_append_text(sql, " AND (");
        part_hash_of(sql, tables, table);
        hvi_buffer_append_format(sql,
                                 " OPERATOR(pg_catalog.>>) 32) OPERATOR(pg_catalog.&) %d::bigint"
                                 " OPERATOR(pg_catalog.=) %d::bigint",
                                 pieces - 1, piece);
    }
}

/* Count the rows of each part, and add up a number of each. A first row has the horizon, also when
 * no part has a row. */
static void sum_up(hvi_buffer *sql, const hvi_verify_tables *tables, const hvi_verify_table *table,
                   hvi_side side, size_t part, const char *number) {
    bool by_hash = !table->by_range && table->part_count > 1;
    begin(sql, table->by_range && table->part_count > 1);
    hvi_buffer_append_text(sql, "SELECT (-1)::bigint, 0::bigint, pg_catalog.txid_snapshot_xmin("
                                "pg_catalog.txid_current_snapshot())::pg_catalog.text"
                                " UNION ALL SELECT p, pg_catalog.count(*),"
                                " pg_catalog.sum(c)::pg_catalog.text FROM (SELECT ");
    if (by_hash) {
        part_hash_of(sql, tables, table);
        hvi_buffer_append_format(sql, " OPERATOR(pg_catalog.&) %llu::bigint",
                                 (unsigned long long) table->part_count - 1);
    } else {
        hvi_buffer_append_text(sql, "0::bigint");
    }
    hvi_buffer_append_format(sql, " AS p, %s AS c", number);
    from(sql, tables, table, side);
    if (table->by_range)
        where_in_part(sql, tables, table, part, 1, 0);
    hvi_buffer_append_text(sql, ") AS q GROUP BY p");
}

void hvi_verify_digest(hvi_buffer *sql, const hvi_verify_tables *tables,
                       const hvi_verify_table *table, hvi_side side, size_t part) {
    hvi_buffer hash = HVI_BUFFER_EMPTY;
    hash_of(&hash, tables, table->columns);
    if (hvi_buffer_ok(&hash))
        sum_up(sql, tables, table, side, part, hash.data);
    else
        hvi_buffer_break(sql);
    hvi_buffer_fini(&hash);
}

/* The older one of two transactions; their numbers wrap around. */
static uint32_t older(uint32_t one, uint32_t other) {
    return (int32_t) (one - other) < 0 ? one : other;
}

void hvi_verify_changes(hvi_buffer *sql, const hvi_verify_tables *tables,
                        const hvi_verify_table *table, hvi_side side, size_t part) {
    uint32_t horizon = table->parts[part].digests[side].horizon;
    char newer[160];
    if (!table->by_range)
        for (size_t i = 0; i < table->part_count; i++)
            horizon = older(horizon, table->parts[i].digests[side].horizon);
    /* age() of a frozen row is the greatest number that there is */
    snprintf(newer, sizeof newer,
             "(pg_catalog.age(t.xmin) OPERATOR(pg_catalog.<=)"
             " pg_catalog.age('%" PRIu32 "'::pg_catalog.xid))::integer",
             horizon);
    sum_up(sql, tables, table, side, part, newer);
}

static const hvi_form digest_form = {
    .asked = "the digest of a table's part",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT8, HVI_IS_COUNT, HVI_IS_BYTES},
};

/* A decimal number of any length, modulo 2^64. */
static uint64_t read_number(const char *text) {
    uint64_t number = 0;
    bool negative = *text == '-';
    for (text += negative; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint64_t) (*text - '0');
    return negative ? 0 - number : number;
}

hv_status hvi_verify_digest_read(const PGresult *result, const hvi_verify_table *table,
                                 const char *server, hvi_part_digest *digests, hv_error **error) {
    hv_status status = hvi_result_check(result, &digest_form, server, -1, error);
    if (status != HV_OK)
        return status;
    size_t count = table->by_range ? 1 : table->part_count;
    uint32_t horizon = 0;
    memset(digests, 0, count * sizeof *digests);
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t part = hvi_integer_at(result, row, 0);
        uint64_t number = read_number(hvi_text_at(result, row, 2));
        if (part < -1 || part >= (int64_t) count)
            return hvi_fail_answer(server, -1, digest_form.asked, error,
                                   "sent one of another part");
        if (part == -1) {
            horizon = (uint32_t) number; /* the rest is how often they have wrapped around */
            continue;
        }
        digests[part].rows = hvi_integer_at(result, row, 1);
        digests[part].content = number;
    }
    for (size_t i = 0; i < count; i++)
        digests[i].horizon = horizon;
    return HV_OK;
}

void hvi_verify_rows(hvi_buffer *sql, const hvi_verify_tables *tables,
                     const hvi_verify_table *table, hvi_side side, size_t part, int pieces,
                     int piece) {
    begin(sql, table->by_range && table->part_count > 1);
    if (table->key_count > 0) {
        hvi_buffer_append_text(sql, "SELECT ");
        key_of(sql, table);
        hvi_buffer_append_text(sql, ", ");
        hash_of(sql, tables, table->columns);
        from(sql, tables, table, side);
        where_in_part(sql, tables, table, part, pieces, piece);
        return;
    }
    hvi_buffer_append_text(sql, "SELECT c::pg_catalog.text, pg_catalog.count(*) FROM (SELECT ");
    hash_of(sql, tables, table->columns);
    hvi_buffer_append_text(sql, " AS c");
    from(sql, tables, table, side);
    where_in_part(sql, tables, table, part, pieces, piece);
    hvi_buffer_append_text(sql, ") AS q GROUP BY c");
}

void hvi_verify_look(hvi_buffer *sql, const hvi_verify_tables *tables,
                     const hvi_verify_table *table, hvi_side side, const char *const *keys,
                     size_t count) {
    hvi_buffer list = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&list, "ARRAY[");
    for (size_t i = 0; i < count; i++) {
        hvi_buffer_append_text(&list, i > 0 ? "," : "");
        hvi_sql_string(&list, keys[i], strlen(keys[i]));
    }
    begin(sql, table->key_count > 0);
    if (!hvi_buffer_ok(&list)) {
        hvi_buffer_break(sql);
    } else if (table->key_count > 0) {
        hvi_buffer_append_text(sql, "SELECT u.key, ");
        hash_of(sql, tables, table->columns);
        hvi_buffer_append_format(sql,
                                 " FROM pg_catalog.unnest(%s]::pg_catalog.text[]) AS u(key)"
                                 " JOIN ONLY %s.%s AS t ON true",
                                 list.data, tables->schemas[side], table->name);
        for (size_t i = 0; i < table->key_count; i++) {
            const hvi_key_column *column = &table->key[i];
            hvi_buffer_append_format(sql, " AND t.%s %s ", column->name, column->operators[side]);
            if (table->key_count == 1)
                hvi_buffer_append_format(sql, "u.key::%s", column->types[side]);
            else
                hvi_buffer_append_format(sql, "(u.key::pg_catalog.text[])[%d]::%s", (int) i + 1,
                                         column->types[side]);
        }
    } else {
        hvi_buffer_append_text(sql, "SELECT c::pg_catalog.text, pg_catalog.count(*) FROM (SELECT ");
        hash_of(sql, tables, table->columns);
        hvi_buffer_append_text(sql, " AS c");
        from(sql, tables, table, side);
        hvi_buffer_append_format(sql,
                                 ") AS q WHERE c OPERATOR(pg_catalog.=) ANY (%s]::bigint[])"
                                 " GROUP BY c",
                                 list.data);
    }
    hvi_buffer_fini(&list);
}

void hvi_verify_lock(hvi_buffer *sql, const hvi_verify_tables *tables,
                     const hvi_verify_table *table) {
    hvi_buffer_append_format(sql,
                             "BEGIN ISOLATION LEVEL READ COMMITTED;"
                             "SET LOCAL lock_timeout TO '50ms';"
                             "SET LOCAL idle_in_transaction_session_timeout TO '2s';"
                             "LOCK TABLE ONLY %s.%s IN SHARE MODE;",
                             tables->schemas[HVI_SOURCE], table->name);
}

void hvi_verify_sample(hvi_buffer *sql, const hvi_verify_tables *tables,
                       const hvi_verify_table *table) {
    int64_t parts = hvi_verify_parts_wanted(table);
    if (!table->by_range || parts == 1)
        return;
    double percent = 100.0 * SAMPLE_KEYS * (double) parts / ((double) table->rows + 1);
    double least = 100.0 * SAMPLE_PAGES * PAGE_BYTES / ((double) table->bytes + 1);
    percent = percent > least ? percent : least;
    char number[32]; /* whatever the locale's decimal point is */
    int64_t millionths = percent < 100 ? (int64_t) (percent * 1e6) + 1 : 100000000;
    snprintf(number, sizeof number, "%" PRId64 ".%06" PRId64, millionths / 1000000,
             millionths % 1000000);
    begin(sql, false);
    hvi_buffer_append_format(sql, "SELECT t.%s::bigint", table->key[0].name);
    from(sql, tables, table, HVI_SOURCE);
    hvi_buffer_append_format(sql, " TABLESAMPLE pg_catalog.system (%s) ORDER BY 1", number);
}
