/*
 * ledger: what a shard's table HVI_LEDGER has about migrations.
 */
#include "schema/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "value/shard_map.h"
#include "wire/result.h"
#include "shard/ledger_table.h"
#include "shard/shard_row.h"

void hvi_ledger_rows_fini(hvi_ledger_rows *rows) {
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->rows[i].name);
        free(rows->rows[i].digest);
        free(rows->rows[i].statements);
    }
    free(rows->rows);
    *rows = (hvi_ledger_rows){0};
}

const hvi_ledger_row *hvi_ledger_rows_find(const hvi_ledger_rows *rows, int64_t number) {
    size_t from = 0, to = rows->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (rows->rows[middle].number == number)
            return &rows->rows[middle];
        if (rows->rows[middle].number < number)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

/* ---- reading ---- */

void hvi_ledger_ask(hvi_buffer *sql, int shard) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(sql,
                             "SELECT pg_catalog.to_regnamespace('%s') IS NOT NULL,"
                             " (SELECT c.relkind OPERATOR(pg_catalog.=) 'r'"
                             " AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS a"
                             " WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid"
                             " AND a.attname OPERATOR(pg_catalog.=) ANY ('{id,name,digest,"
                             "applied_at,took_ms,finished,done,begun,statements}')"
                             " AND NOT a.attisdropped) OPERATOR(pg_catalog.=) 9"
                             " FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=)"
                             " pg_catalog.to_regclass('%s." HVI_LEDGER "'))",
                             schema, schema);
}

static const hvi_form asked_form = {
    .asked = "the ledger of migrations",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_BOOL | HVI_OR_NULL},
};

hv_status hvi_ledger_asked(const PGresult *result, const char *server, int shard, bool *is_there,
                           hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hv_status status = hvi_result_check(result, &asked_form, server, shard, error);
    if (status != HV_OK)
        return status;
    if (!hvi_bool_at(result, 0, 0))
        return hvi_fail_not_initialized(server, shard, error);
    *is_there = hvi_text_at(result, 0, 1) != NULL;
    if (!*is_there || hvi_bool_at(result, 0, 1))
        return HV_OK;
    hvi_schema_name(shard, schema);
    hvi_fail(error, HV_MISMATCH, "%s." HVI_LEDGER " is not a ledger of migrations", schema);
    hvi_error_detail(error, "Migrations are recorded in a table of this name, with columns that it "
                            "does not have.");
    hvi_error_hint(error, "Rename the object that has it.");
    return HV_MISMATCH;
}

void hvi_ledger_read(hvi_buffer *sql, int shard) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(
        sql,
        "SELECT id, name, digest, (EXTRACT(epoch FROM applied_at) OPERATOR(pg_catalog.*) 1000)"
        "::bigint, finished, done, begun, statements FROM %s." HVI_LEDGER
        " WHERE NOT pg_catalog.starts_with(id, '" HVI_LEDGER_ONCE "')",
        schema);
}

static const hvi_form read_form = {
    .asked = "the ledger of migrations",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_INT8, HVI_IS_BOOL, HVI_IS_INT4,
                HVI_IS_INT4 | HVI_OR_NULL, HVI_IS_BYTES},
};

static int compare_rows(const void *a, const void *b) {
    const hvi_ledger_row *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* One row of the result. */
static bool take_row(const PGresult *result, int i, hvi_ledger_rows *rows) {
    const char *id = hvi_text_at(result, i, 0);
    if (strcmp(id, HVI_LEDGER_NEW) == 0) {
        rows->is_new = true;
        return true;
    }
    hvi_ledger_row *row = &rows->rows[rows->count++];
    *row = (hvi_ledger_row){
        .number = strtoll(id, NULL, 10),
        .name = strdup(hvi_text_at(result, i, 1)),
        .digest = strdup(hvi_text_at(result, i, 2)),
        .statements = strdup(hvi_text_at(result, i, 7)),
        .applied_at = hvi_integer_at(result, i, 3),
        .finished = hvi_bool_at(result, i, 4),
        .done = (int) hvi_integer_at(result, i, 5),
        .begun = (int) hvi_integer_at(result, i, 6),
    };
    return row->name != NULL && row->digest != NULL && row->statements != NULL;
}

hv_status hvi_ledger_take(const PGresult *result, const char *server, int shard,
                          hvi_ledger_rows *rows, hv_error **error) {
    hvi_ledger_rows_fini(rows);
    hv_status status = hvi_result_check(result, &read_form, server, shard, error);
    if (status != HV_OK)
        return status;
    int count = PQntuples(result);
    rows->rows = calloc((size_t) count + 1, sizeof *rows->rows);
    bool ok = rows->rows != NULL;
    for (int i = 0; ok && i < count; i++)
        ok = take_row(result, i, rows);
    if (!ok)
        return hvi_no_memory(error);
    qsort(rows->rows, rows->count, sizeof *rows->rows, compare_rows);
    return HV_OK;
}

/* ---- comparing ---- */

hv_status hvi_ledger_digest(const hvi_sql *sql, size_t count, char digest[HVI_SHA256_LEN]) {
    hvi_buffer all = HVI_BUFFER_EMPTY;
    for (size_t i = 0; i < count && i < sql->count; i++) {
        const hvi_sql_statement *statement = &sql->statements[i];
        hvi_buffer_append(&all, sql->text + statement->begin, statement->end - statement->begin);
        hvi_buffer_append_byte(&all, '\0');
    }
    hv_status status = hvi_buffer_ok(&all) ? HV_OK : HV_NO_MEMORY;
    hvi_sha256(all.data, all.len, digest);
    hvi_buffer_fini(&all);
    return status;
}

/* The number of statements of an unfinished file that have been begun. */
static size_t begun_of(const hvi_ledger_row *row) {
    int begun = row->begun > row->done ? row->begun : row->done;
    return begun > 0 ? (size_t) begun : 0;
}

hv_status hvi_ledger_compare(const hvi_ledger_row *row, const hvi_migration *file,
                             hv_migration_state *state) {
    char digest[HVI_SHA256_LEN];
    if (row == NULL) {
        *state = HV_MIGRATION_PENDING;
    } else if (file == NULL) {
        *state = HV_MIGRATION_NO_FILE;
    } else if (row->finished) {
        *state = strcmp(row->digest, file->digest) == 0 ? HV_MIGRATION_DONE : HV_MIGRATION_CHANGED;
    } else if (begun_of(row) == 0) {
        *state = HV_MIGRATION_PENDING;
    } else {
        /* The rest of a file may be put right, what has run may not. */
        hv_status status = hvi_ledger_digest(&file->sql, begun_of(row), digest);
        if (status != HV_OK)
            return status;
        bool is_same = file->sql.no_transaction && strcmp(row->statements, digest) == 0;
        *state = is_same ? HV_MIGRATION_INTERRUPTED : HV_MIGRATION_CHANGED;
    }
    return HV_OK;
}

static hv_status fail_changed(const hvi_ledger_row *row, const hvi_migration *file,
                              hv_error **error) {
    const char *name = file->sql.name;
    if (row->finished)
        hvi_fail(error, HV_MISMATCH, "\"%s\" was changed after it ran", name);
    else
        hvi_fail(error, HV_MISMATCH, "\"%s\" was changed where it had been run already", name);
    hvi_error_detail(error, "The recorded digest is %s, that of the file %s.", row->digest,
                     file->digest);
    hvi_error_hint(error, "Restore the file, and put the change into a new one.");
    return HV_MISMATCH;
}

hv_status hvi_ledger_check(const hvi_ledger_rows *rows, const hv_migrations *migrations,
                           hv_error **error) {
    for (size_t i = 0; i < rows->count; i++) {
        const hvi_ledger_row *row = &rows->rows[i];
        const hvi_migration *file = hvi_migrations_find(migrations, row->number);
        hv_migration_state state;
        if (hvi_ledger_compare(row, file, &state) != HV_OK)
            return hvi_no_memory(error);
        if (state == HV_MIGRATION_CHANGED)
            return fail_changed(row, file, error);
        if (state == HV_MIGRATION_NO_FILE) {
            hvi_fail(error, HV_MISMATCH, "\"%s\" has run, but is not in the directory", row->name);
            hvi_error_detail(error, "The directory is \"%s\".", migrations->directory);
            hvi_error_hint(error, "Restore the file, or use the directory that has it.");
            return HV_MISMATCH;
        }
    }
    return HV_OK;
}
