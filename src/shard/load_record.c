/*
 * load_record: how far a load has come, kept in the database that it loads.
 */
#include "shard/load_record.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "wire/result.h"
#include "shard/extension.h"
#include "shard/shard_row.h"

const char hvi_load_record_table[] = "CREATE TABLE IF NOT EXISTS hypervault.imports ("
                                     " name pg_catalog.text PRIMARY KEY,"
                                     " position bigint NOT NULL DEFAULT 0,"
                                     " note pg_catalog.text,"
                                     " begun pg_catalog.timestamptz NOT NULL"
                                     " DEFAULT pg_catalog.now(),"
                                     " changed pg_catalog.timestamptz NOT NULL"
                                     " DEFAULT pg_catalog.now())";

/* Without the server's time limits, as the transaction may take long; and with constraints checked
 * at once, so that the row that violates one is known. */
static const char begin_sql[] = "BEGIN ISOLATION LEVEL READ COMMITTED;"
                                "SET LOCAL statement_timeout TO 0;"
                                "SET LOCAL idle_in_transaction_session_timeout TO 0;"
                                "SET CONSTRAINTS ALL IMMEDIATE;";

void hvi_load_record_fini(hvi_load_record *record) {
    free(record->name);
    free(record->note);
    *record = (hvi_load_record){0};
}

/* Append a string literal. */
static void append_literal(hvi_buffer *sql, hvi_session *session, const char *text) {
    char *literal = PQescapeLiteral(session->conn, text, strlen(text));
    if (literal == NULL)
        hvi_buffer_break(sql);
    else
        hvi_buffer_append_text(sql, literal);
    PQfreemem(literal);
}

/* Run a script and check that *result has this form; both are NULL if it returns nothing. */
static hv_status run(hvi_session *session, hvi_buffer *sql, bool is_write, int64_t timeout,
                     const hvi_form *form, PGresult **result, hv_error **error) {
    hv_status status = hvi_buffer_ok(sql)
                           ? hvi_session_script(session, sql->data, -1, is_write,
                                                hvi_deadline_after(timeout), result, error)
                           : hvi_no_memory(error);
    hvi_buffer_fini(sql);
    if (status == HV_OK && form != NULL)
        status = hvi_result_check(*result, form, session->config->server, -1, error);
    if (status != HV_OK)
        hvi_error_where(error, session->config->server, -1);
    return status;
}

/* ---- opening ---- */

static const hvi_form look_form = {
    .asked = "the table of imports",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_BOOL},
};

/* Is the table there, and is the database one of a store, with any shard? It queries the catalogue,
 * because a role may have no rights on the shards that it does not load into. */
static hv_status look(hvi_session *session, int shard, int64_t timeout, bool *has_table,
                      hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_text(
        &sql, "SELECT pg_catalog.to_regclass('hypervault.imports') IS NOT NULL,"
              " EXISTS (SELECT FROM pg_catalog.pg_namespace n"
              "   JOIN pg_catalog.pg_class t ON t.relnamespace OPERATOR(pg_catalog.=) n.oid"
              "   WHERE t.relname OPERATOR(pg_catalog.=) 'entities'::pg_catalog.name"
              "   AND n.nspname OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'::pg_catalog.text)");
    hv_status status = run(session, &sql, false, timeout, &look_form, &result, error);
    if (status == HV_OK && !hvi_bool_at(result, 0, 1) && shard >= 0)
        status = hvi_fail_not_initialized(session->config->server, shard, error);
    *has_table = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

/* For a database that was initialised by a version without this table, or not by `hv init`. */
static hv_status create_table(hvi_session *session, int64_t timeout, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, HVI_CREATION_LOCK "CREATE SCHEMA IF NOT EXISTS hypervault;");
    hvi_buffer_append_text(&sql, hvi_load_record_table);
    hv_status status = run(session, &sql, false, timeout, NULL, NULL, error);
    if (status == HV_REFUSED && error != NULL && hvi_error_has_sqlstate(*error, "42501"))
        hvi_error_hint(error, "Run `hv init` once as the database's owner: it makes the table "
                              "hypervault.imports.");
    return status;
}

static const hvi_form record_form = {
    .asked = "the record of an import",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES | HVI_OR_NULL},
};

static hv_status take_record(const PGresult *result, hvi_load_record *record, hv_error **error) {
    const char *text = hvi_text_at(result, 0, 1);
    char *note = text != NULL ? strdup(text) : NULL;
    if (text != NULL && note == NULL)
        return hvi_no_memory(error);
    free(record->note);
    record->note = note;
    record->position = hvi_integer_at(result, 0, 0);
    return HV_OK;
}

hv_status hvi_load_record_open(hvi_session *session, int shard, int64_t timeout,
                               hvi_load_record *record, hv_error **error) {
    bool has_table;
    PGresult *result = NULL;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status = look(session, shard, timeout, &has_table, error);
    if (status == HV_OK && !has_table && shard < 0) {
        hvi_fail(error, HV_NO_SERVER, "server \"%s\" holds no shards", session->config->server);
        hvi_error_where(error, session->config->server, -1);
        return HV_NO_SERVER;
    }
    if (status == HV_OK && !has_table)
        status = create_table(session, timeout, error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_text(&sql, "INSERT INTO hypervault.imports (name) VALUES (");
    append_literal(&sql, session, record->name);
    hvi_buffer_append_text(
        &sql, ") ON CONFLICT (name) DO NOTHING;"
              "SELECT position, note FROM hypervault.imports WHERE name OPERATOR(pg_catalog.=) ");
    append_literal(&sql, session, record->name);
    /* Not marked as a write: running it again is right whatever its outcome. */
    status = run(session, &sql, false, timeout, &record_form, &result, error);
    if (status == HV_OK)
        status = take_record(result, record, error);
    PQclear(result);
    return status;
}

/* ---- transactions ---- */

static const hvi_form begin_form = {
    .asked = "how far an import has come",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES | HVI_OR_NULL},
};

static bool is_note(const char *note, const char *other) {
    return note == NULL || other == NULL ? note == other : strcmp(note, other) == 0;
}

bool hvi_load_record_is(const hvi_load_record *record, int64_t position, const char *note) {
    return record->position == position && is_note(record->note, note);
}

hv_status hvi_load_record_begin(hvi_session *session, const hvi_load_record *record,
                                int64_t timeout, hvi_load_record *found, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_text(&sql, begin_sql);
    hvi_buffer_append_text(
        &sql, "SELECT position, note FROM hypervault.imports WHERE name OPERATOR(pg_catalog.=) ");
    append_literal(&sql, session, record->name);
    hvi_buffer_append_text(&sql, " FOR UPDATE");
    hv_status status = run(session, &sql, false, timeout, &begin_form, &result, error);
    if (status == HV_OK && PQntuples(result) == 0) {
        status = hvi_fail(error, HV_CONFLICT, "the record \"%s\" of an import was removed",
                          record->name);
        hvi_error_where(error, session->config->server, -1);
    }
    if (status == HV_OK)
        status = take_record(result, found, error);
    PQclear(result);
    return status;
}

hv_status hvi_load_record_commit(hvi_session *session, const hvi_load_record *record,
                                 int64_t position, const char *note, int64_t timeout,
                                 hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, "WITH done AS (");
    hvi_buffer_append_format(&sql,
                             "UPDATE hypervault.imports SET position = %" PRId64
                             ", changed = pg_catalog.clock_timestamp()",
                             position);
    if (note != NULL) {
        hvi_buffer_append_text(&sql, ", note = ");
        append_literal(&sql, session, note);
    }
    hvi_buffer_append_text(&sql, " WHERE name OPERATOR(pg_catalog.=) ");
    append_literal(&sql, session, record->name);
    /* Rows must not be committed without their position, which a trigger may have kept. */
    hvi_buffer_append_text(
        &sql, " RETURNING name) SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.=) 1"
              " THEN 1 ELSE pg_catalog.concat('position of the import not stored: rows ',"
              " pg_catalog.count(*))::integer END FROM done; COMMIT");
    return run(session, &sql, true, timeout, NULL, NULL, error);
}

/* ---- listing ---- */

static const hvi_form table_form = {
    .asked = "the table of imports",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

static const hvi_form list_form = {
    .asked = "the records of imports",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_INT8, HVI_IS_BYTES | HVI_OR_NULL},
};

hv_status hvi_load_record_list(hvi_session *session, const char *prefix, int64_t timeout,
                               hv_load_fn each, void *context, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_text(&sql, "SELECT pg_catalog.to_regclass('hypervault.imports') IS NOT NULL");
    hv_status status = run(session, &sql, false, timeout, &table_form, &result, error);
    bool has_table = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    result = NULL;
    if (!has_table)
        return status;
    hvi_buffer_append_text(&sql, "SELECT name, position, note FROM hypervault.imports"
                                 " WHERE pg_catalog.starts_with(name, ");
    append_literal(&sql, session, prefix);
    hvi_buffer_append_text(&sql, ") ORDER BY name COLLATE pg_catalog.\"C\"");
    status = run(session, &sql, false, timeout, &list_form, &result, error);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++)
        each(context, hvi_text_at(result, i, 0), hvi_integer_at(result, i, 1),
             hvi_text_at(result, i, 2));
    PQclear(result);
    return status;
}
