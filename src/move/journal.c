/*
 * journal: the table hypervault.moves.
 */
#include "move/journal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "value/sql_text.h"
#include "wire/result.h"
#include "schema/shard_sql.h"
#include "shard/extension.h"

/* ---- names ---- */

static const char *const step_names[HVI_STEP_COUNT] = {
    [HVI_STEP_BEGUN] = "begun",         [HVI_STEP_SCHEMA] = "schema",
    [HVI_STEP_STREAMING] = "streaming", [HVI_STEP_COPYING] = "copying",
    [HVI_STEP_INDEXING] = "indexing",   [HVI_STEP_CATCHING_UP] = "catching_up",
    [HVI_STEP_VERIFYING] = "verifying", [HVI_STEP_READY] = "ready",
    [HVI_STEP_SWITCHING] = "switching", [HVI_STEP_SWITCHED] = "switched",
    [HVI_STEP_RETURNING] = "returning", [HVI_STEP_CLEANING] = "cleaning",
    [HVI_STEP_KEPT] = "kept",           [HVI_STEP_ABORTING] = "aborting",
    [HVI_STEP_DONE] = "done",
};

static const char *const kind_names[] = {
    [HVI_MOVE_ONLINE] = "online",
    [HVI_MOVE_OFFLINE] = "offline",
    [HVI_MOVE_UNDO] = "undo",
};

#define KIND_COUNT (sizeof kind_names / sizeof kind_names[0])

const char *hvi_journal_step_name(hvi_move_step step) {
    return step_names[step];
}

const char *hvi_journal_kind_name(hvi_move_kind kind) {
    return kind_names[kind];
}

/* The number of a name in a list; -1: it is not there. */
static int find_name(const char *const *names, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int) i;
    return -1;
}

/* ---- the table ---- */

static const char table_sql[] = HVI_CREATION_LOCK
    "CREATE SCHEMA IF NOT EXISTS hypervault;"
    "CREATE TABLE IF NOT EXISTS hypervault.moves ("
    " id bigint PRIMARY KEY,"
    " shard integer NOT NULL UNIQUE,"
    " is_source boolean NOT NULL,"
    " source pg_catalog.text NOT NULL,"
    " target pg_catalog.text NOT NULL,"
    " generation bigint NOT NULL,"
    " kind pg_catalog.text NOT NULL,"
    " step pg_catalog.text NOT NULL,"
    " is_indexed boolean NOT NULL DEFAULT false,"
    " keep_ms bigint NOT NULL DEFAULT 0,"
    " keep_until pg_catalog.timestamptz,"
    " before_state pg_catalog.text NOT NULL DEFAULT '',"
    " before_server pg_catalog.text NOT NULL DEFAULT '',"
    " before_generation bigint NOT NULL DEFAULT 0,"
    " digest pg_catalog.text NOT NULL DEFAULT '',"
    " system pg_catalog.text NOT NULL DEFAULT '',"
    " rest pg_catalog.text NOT NULL DEFAULT '',"
    " rows bigint NOT NULL DEFAULT 0,"
    " bytes bigint NOT NULL DEFAULT 0,"
    " pause_us bigint NOT NULL DEFAULT 0,"
    " error pg_catalog.text NOT NULL DEFAULT '',"
    " begun pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
    " changed pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());"
    "COMMENT ON TABLE hypervault.moves IS"
    " 'Shards that are on their way to or from this server, and how far they are.';"
    "ALTER TABLE hypervault.moves"
    " ADD COLUMN IF NOT EXISTS late_table pg_catalog.text NOT NULL DEFAULT '',"
    " ADD COLUMN IF NOT EXISTS late_keys pg_catalog.text NOT NULL DEFAULT ''";

/* Run SQL of which no outcome is unknown: what it says is the same when it is said twice. Frees the
 * text. `result` may be NULL. */
static hv_status run(hvi_session *session, hvi_buffer *sql, int shard, int64_t deadline,
                     const hvi_form *form, PGresult **result, hv_error **error) {
    hv_status status = hvi_buffer_ok(sql) ? hvi_session_script(session, sql->data, shard, false,
                                                               deadline, result, error)
                                          : hvi_no_memory(error);
    hvi_buffer_fini(sql);
    if (status == HV_OK && form != NULL)
        status = hvi_result_check(*result, form, session->config->server, shard, error);
    if (status != HV_OK)
        hvi_error_where(error, session->config->server, shard);
    return status;
}

static const hvi_form has_form = {
    .asked = "the table of moves",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

static const char has_table_sql[] = "SELECT pg_catalog.to_regclass('hypervault.moves') IS NOT NULL";

/* Has the table also what was added last? */
static const char has_columns_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attname"
    " OPERATOR(pg_catalog.=) 'late_keys' AND a.attrelid OPERATOR(pg_catalog.=)"
    " pg_catalog.to_regclass('hypervault.moves')::pg_catalog.oid)";

static hv_status ask(hvi_session *session, const char *question, int64_t deadline, bool *has,
                     hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_text(&sql, question);
    hv_status status = run(session, &sql, -1, deadline, &has_form, &result, error);
    *has = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

hv_status hvi_journal_prepare(hvi_session *session, int64_t deadline, hv_error **error) {
    bool has;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status = ask(session, has_columns_sql, deadline, &has, error);
    if (status != HV_OK || has)
        return status;
    hvi_buffer_append_text(&sql, table_sql);
    status = run(session, &sql, -1, deadline, NULL, NULL, error);
    if (status == HV_REFUSED && error != NULL && hvi_error_has_sqlstate(*error, "42501"))
        hvi_error_hint(error, "Shards are moved by the database's owner, or a role that may CREATE "
                              "in the database and in the schema hypervault.");
    return status;
}

/* ---- writing ---- */

/* The server refuses what is not UTF-8, and a text may have been cut within a character. */
static void text(hvi_buffer *sql, const char *value) {
    hvi_sql_text(sql, value, hvi_utf8_prefix(value, strlen(value)));
}

hv_status hvi_journal_write(hvi_session *session, const hvi_journal_row *row, bool is_source,
                            int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &sql,
        "INSERT INTO hypervault.moves AS m (id, shard, is_source, generation, keep_ms,"
        " before_generation, rows, bytes, pause_us, source, target, kind, step, before_state,"
        " before_server, digest, system, error, keep_until)"
        " VALUES (%" PRIu32 ", %d, %s, %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
        ", %" PRId64,
        row->id, row->shard, is_source ? "true" : "false", row->generation, row->keep_ms,
        row->before_generation, row->rows, row->bytes, row->pause_us);
    const char *const texts[] = {
        row->source,
        row->target,
        hvi_journal_kind_name(row->kind),
        hvi_journal_step_name(row->step),
        row->before_state,
        row->before_server,
        row->digest,
        row->system,
        row->error,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        hvi_buffer_append_text(&sql, ", ");
        text(&sql, texts[i]);
    }
    /* The time is that of this server, since only this server's clock will be asked again. */
    if (row->step == HVI_STEP_KEPT)
        hvi_buffer_append_format(&sql,
                                 ", pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
                                 " pg_catalog.make_interval(secs => %" PRId64 ".%03d)",
                                 row->keep_ms / 1000, (int) (row->keep_ms % 1000));
    else
        hvi_buffer_append_text(&sql, ", NULL");
    hvi_buffer_append_text(
        &sql, ") ON CONFLICT (id) DO UPDATE SET generation = EXCLUDED.generation,"
              " keep_ms = EXCLUDED.keep_ms, before_generation = EXCLUDED.before_generation,"
              " rows = EXCLUDED.rows, bytes = EXCLUDED.bytes, pause_us = EXCLUDED.pause_us,"
              " kind = EXCLUDED.kind, step = EXCLUDED.step, before_state = EXCLUDED.before_state,"
              " before_server = EXCLUDED.before_server, digest = EXCLUDED.digest,"
              " system = EXCLUDED.system,"
              " error = EXCLUDED.error, changed = pg_catalog.clock_timestamp(),"
              /* Written once more, a move that is kept already is not kept for longer. */
              " keep_until = CASE WHEN m.step OPERATOR(pg_catalog.=) EXCLUDED.step"
              " THEN m.keep_until ELSE EXCLUDED.keep_until END");
    hvi_buffer_append_format(&sql, ", is_indexed = %s",
                             row->step <= HVI_STEP_STREAMING ? "false" : "m.is_indexed");
    hv_error *cause = NULL;
    hv_status status = run(session, &sql, row->shard, deadline, NULL, NULL, &cause);
    if (status == HV_REFUSED && hvi_error_has_sqlstate(cause, "23505")) {
        hv_error_free(cause);
        hvi_fail(error, HV_BUSY, "shard %d is being moved already", row->shard);
        hvi_error_where(error, session->config->server, row->shard);
        hvi_error_hint(error, "`hv move --list` shows what is under way; --resume and --abort end "
                              "it.");
        return HV_BUSY;
    }
    return status == HV_OK ? HV_OK : hvi_error_move(error, &cause);
}

hv_status hvi_journal_fail(hvi_session *session, int shard, uint32_t id, const char *said,
                           int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, "UPDATE hypervault.moves SET changed ="
                                 " pg_catalog.clock_timestamp(), error = ");
    text(&sql, said);
    hvi_buffer_append_format(&sql, " WHERE id OPERATOR(pg_catalog.=) %" PRIu32, id);
    return run(session, &sql, shard, deadline, NULL, NULL, error);
}

hv_status hvi_journal_remove(hvi_session *session, int shard, uint32_t id, int64_t deadline,
                             hv_error **error) {
    bool has;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status = ask(session, has_table_sql, deadline, &has, error);
    if (status != HV_OK || !has)
        return status;
    hvi_buffer_append_format(
        &sql, "DELETE FROM hypervault.moves WHERE id OPERATOR(pg_catalog.=) %" PRIu32, id);
    return run(session, &sql, shard, deadline, NULL, NULL, error);
}

void hvi_journal_indexed_sql(hvi_buffer *sql, int shard, uint32_t id) {
    hvi_buffer_append_format(sql,
                             "UPDATE hypervault.moves SET is_indexed = true"
                             " WHERE shard OPERATOR(pg_catalog.=) %d"
                             " AND id OPERATOR(pg_catalog.=) %" PRIu32 ";",
                             shard, id);
}

void hvi_journal_keep_sql(hvi_buffer *sql, int shard, uint32_t id, const char *what,
                          const hvi_buffer *kept) {
    hvi_buffer_append_format(sql, "UPDATE hypervault.moves SET %s = ", what);
    hvi_sql_text(sql, kept->len > 0 ? kept->data : "", kept->len);
    hvi_buffer_append_format(sql,
                             " WHERE shard OPERATOR(pg_catalog.=) %d"
                             " AND id OPERATOR(pg_catalog.=) %" PRIu32 ";",
                             shard, id);
}

/* ---- reading ---- */

static const hvi_form kept_form = {
    .asked = "the rest of a move's schema",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES},
};

hv_status hvi_journal_read_kept(hvi_session *session, int shard, uint32_t id, const char *what,
                                int64_t deadline, hvi_buffer *kept, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&sql,
                             "SELECT %s FROM hypervault.moves WHERE id OPERATOR(pg_catalog.=)"
                             " %" PRIu32,
                             what, id);
    hv_status status = run(session, &sql, shard, deadline, &kept_form, &result, error);
    if (status == HV_OK)
        hvi_buffer_append_text(kept, hvi_text_at(result, 0, 0));
    PQclear(result);
    return status;
}

#define MICROSECONDS(column) \
    "pg_catalog.floor(EXTRACT(epoch FROM " column ") OPERATOR(pg_catalog.*) 1000000)::bigint"

static const char read_sql[] =
    "SELECT id, shard, is_source, source, target, generation, kind, step, is_indexed, keep_ms,"
    " " MICROSECONDS(
        "keep_until") ", before_state, before_server, before_generation, digest,"
                      " system, rows,"
                      " bytes, pause_us, " MICROSECONDS("begun") ", " MICROSECONDS(
                          "changed") ", error,"
                                     " COALESCE(keep_until OPERATOR(pg_catalog.<=) "
                                     "pg_catalog.clock_timestamp(), false),"
                                     " EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE "
                                     "l.locktype OPERATOR(pg_catalog.=)"
                                     " 'advisory' AND l.granted AND l.database "
                                     "OPERATOR(pg_catalog.=) (SELECT oid"
                                     " FROM pg_catalog.pg_database WHERE datname "
                                     "OPERATOR(pg_catalog.=)"
                                     " pg_catalog.current_database()) AND l.classid "
                                     "OPERATOR(pg_catalog.=) %d"
                                     " AND l.objid::bigint OPERATOR(pg_catalog.=) m.shard AND "
                                     "l.objsubid"
                                     " OPERATOR(pg_catalog.=) 2 AND l.pid OPERATOR(pg_catalog.<>) "
                                     "pg_catalog.pg_backend_pid())"
                                     " FROM hypervault.moves AS m";

enum {
    ID,
    SHARD,
    IS_SOURCE,
    SOURCE,
    TARGET,
    GENERATION,
    KIND,
    STEP,
    IS_INDEXED,
    KEEP_MS,
    KEEP_UNTIL,
    BEFORE_STATE,
    BEFORE_SERVER,
    BEFORE_GENERATION,
    DIGEST,
    SYSTEM,
    ROWS,
    BYTES,
    PAUSE,
    BEGUN,
    CHANGED,
    ERROR,
    IS_OVER,
    IS_RUNNING
};

static const hvi_form row_form = {
    .asked = "the journal of moves",
    .rows = HVI_ANY_ROWS,
    .columns =
        {
            [ID] = HVI_IS_INT8,
            [SHARD] = HVI_IS_SHARD,
            [IS_SOURCE] = HVI_IS_BOOL,
            [SOURCE] = HVI_IS_BYTES,
            [TARGET] = HVI_IS_BYTES,
            [GENERATION] = HVI_IS_INT8,
            [KIND] = HVI_IS_BYTES,
            [STEP] = HVI_IS_BYTES,
            [IS_INDEXED] = HVI_IS_BOOL,
            [KEEP_MS] = HVI_IS_INT8,
            [KEEP_UNTIL] = HVI_IS_INT8 | HVI_OR_NULL,
            [BEFORE_STATE] = HVI_IS_BYTES,
            [BEFORE_SERVER] = HVI_IS_BYTES,
            [BEFORE_GENERATION] = HVI_IS_INT8,
            [DIGEST] = HVI_IS_BYTES,
            [SYSTEM] = HVI_IS_BYTES,
            [ROWS] = HVI_IS_INT8,
            [BYTES] = HVI_IS_INT8,
            [PAUSE] = HVI_IS_INT8,
            [BEGUN] = HVI_IS_INT8,
            [CHANGED] = HVI_IS_INT8,
            [ERROR] = HVI_IS_BYTES,
            [IS_OVER] = HVI_IS_BOOL,
            [IS_RUNNING] = HVI_IS_BOOL,
        },
};

static void copy_text(char *to, size_t size, const PGresult *result, int row, int column) {
    const char *from = hvi_text_at(result, row, column);
    size_t len = strlen(from) < size ? strlen(from) : size - 1;
    memcpy(to, from, len);
    to[len] = '\0';
}

#define COPY_TEXT(field, column) copy_text(field, sizeof field, result, at, column)

static hv_status take(const PGresult *result, int at, const char *server, hvi_journal_entry *entry,
                      hv_error **error) {
    hvi_journal_row *row = &entry->row;
    const char *step_text = hvi_text_at(result, at, STEP);
    const char *kind_text = hvi_text_at(result, at, KIND);
    int step = find_name(step_names, HVI_STEP_COUNT, step_text);
    int kind = find_name(kind_names, KIND_COUNT, kind_text);
    *entry = (hvi_journal_entry){
        .row = {.shard = (int) hvi_integer_at(result, at, SHARD),
                .id = (uint32_t) hvi_integer_at(result, at, ID),
                .generation = hvi_integer_at(result, at, GENERATION),
                .is_indexed = hvi_bool_at(result, at, IS_INDEXED),
                .keep_ms = hvi_integer_at(result, at, KEEP_MS),
                .keep_until = hvi_integer_at(result, at, KEEP_UNTIL),
                .before_generation = hvi_integer_at(result, at, BEFORE_GENERATION),
                .rows = hvi_integer_at(result, at, ROWS),
                .bytes = hvi_integer_at(result, at, BYTES),
                .pause_us = hvi_integer_at(result, at, PAUSE),
                .begun = hvi_integer_at(result, at, BEGUN),
                .changed = hvi_integer_at(result, at, CHANGED)},
        .is_source = hvi_bool_at(result, at, IS_SOURCE),
        .is_over = hvi_bool_at(result, at, IS_OVER),
        .is_running = hvi_bool_at(result, at, IS_RUNNING),
    };
    COPY_TEXT(row->source, SOURCE);
    COPY_TEXT(row->target, TARGET);
    COPY_TEXT(row->before_state, BEFORE_STATE);
    COPY_TEXT(row->before_server, BEFORE_SERVER);
    COPY_TEXT(row->digest, DIGEST);
    COPY_TEXT(row->system, SYSTEM);
    COPY_TEXT(row->error, ERROR);
    if (step < 0 || kind < 0)
        return hvi_fail_answer(server, row->shard, row_form.asked, error,
                               "has a move of kind \"%s\" at step \"%s\", which this version does "
                               "not know",
                               kind_text, step_text);
    row->step = (hvi_move_step) step;
    row->kind = (hvi_move_kind) kind;
    return HV_OK;
}

/* One shard, or -1: all. */
static hv_status read_entries(hvi_session *session, int shard, int64_t deadline,
                              hvi_journal_entry **entries, size_t *count, hv_error **error) {
    bool has;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    const char *server = session->config->server;
    *entries = NULL;
    *count = 0;
    hv_status status = ask(session, has_table_sql, deadline, &has, error);
    if (status != HV_OK || !has)
        return status;
    hvi_buffer_append_format(&sql, read_sql, HVI_SHARD_LOCK_CLASS);
    if (shard >= 0)
        hvi_buffer_append_format(&sql, " WHERE shard OPERATOR(pg_catalog.=) %d", shard);
    hvi_buffer_append_text(&sql, " ORDER BY shard");
    status = run(session, &sql, shard, deadline, &row_form, &result, error);
    if (status == HV_OK && PQntuples(result) > 0) {
        *entries = calloc((size_t) PQntuples(result), sizeof **entries);
        if (*entries == NULL)
            status = hvi_no_memory(error);
        for (int i = 0; status == HV_OK && i < PQntuples(result); i++) {
            status = take(result, i, server, &(*entries)[i], error);
            (*count)++;
        }
    }
    PQclear(result);
    if (status != HV_OK) {
        free(*entries);
        *entries = NULL;
        *count = 0;
    }
    return status;
}

hv_status hvi_journal_all(hvi_session *session, int64_t deadline, hvi_journal_entry **entries,
                          size_t *count, hv_error **error) {
    return read_entries(session, -1, deadline, entries, count, error);
}

hv_status hvi_journal_read(hvi_session *session, int shard, int64_t deadline, bool *found,
                           hvi_journal_row *row, bool *is_source, hv_error **error) {
    hvi_journal_entry *entries;
    size_t count;
    hv_status status = read_entries(session, shard, deadline, &entries, &count, error);
    *found = count > 0;
    if (*found) {
        *row = entries[0].row;
        if (is_source != NULL)
            *is_source = entries[0].is_source;
    }
    free(entries);
    return status;
}
