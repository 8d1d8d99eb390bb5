/*
 * apart: run a file without a transaction, statement by statement, on one shard.
 */
#include "schema/apart.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "schema/shard_sql.h"
#include "value/shard_map.h"
#include "value/sql_text.h"
#include "wire/result.h"
#include "shard/ledger_table.h"

/* How long statements wait that hold nobody up, if the rollout does not say. */
#define DEFAULT_MAX_WAIT INT64_C(3600000)

/* An index that is not valid after so many tries never will be. */
#define MAX_DROPS 5

static hvi_job_next go_on(hvi_apart *apart, hvi_job *job, hvi_session *session,
                          hvi_request *request);

void hvi_apart_fini(hvi_apart *apart) {
    hvi_ledger_rows_fini(&apart->rows);
    hvi_buffer_fini(&apart->text);
    hvi_buffer_fini(&apart->sql);
    hv_error_free(apart->refusal);
    apart->refusal = NULL;
}

static int64_t max_wait(const hvi_apart *apart) {
    return apart->rollout->max_wait != 0 ? apart->rollout->max_wait : DEFAULT_MAX_WAIT;
}

/* ---- what a step returns ---- */

static hvi_job_next fail(hvi_job *job) {
    job->work = HV_WORK_FAILED;
    return HVI_JOB_END;
}

static hvi_job_next fail_with(hvi_job *job, hv_error **cause) {
    hvi_error_move(&job->error, cause);
    return fail(job);
}

/* Send apart->sql. */
static hvi_job_next run(hvi_apart *apart, hvi_job *job, int phase, bool is_write,
                        hvi_request *request) {
    if (!hvi_buffer_ok(&apart->sql)) {
        hvi_no_memory(&job->error);
        return fail(job);
    }
    apart->phase = phase;
    request->sql = apart->sql.data;
    request->is_write = is_write;
    return HVI_JOB_RUN;
}

static hvi_job_next pause_for(hvi_apart *apart, hvi_job *job, const char *cause,
                              hvi_request *request) {
    const hvi_sql *sql = &apart->file->sql;
    if (hvi_patience_pause(&apart->obstacle->patience, max_wait(apart), request)) {
        hvi_job_report(job, sql->name, cause, -1);
        return HVI_JOB_PAUSE;
    }
    hvi_fail(&job->error, HV_TIMEOUT, "it has waited too long");
    hvi_error_detail(&job->error, "At the end, %s.", cause);
    hvi_error_hint(&job->error, "The option \"max_wait\" says how long to wait.");
    hvi_sql_locate(sql, sql->statements[apart->statement - 1].line, &job->error);
    return fail(job);
}

/* ---- the lock, and the ledger ---- */

static hvi_job_next ask_ledger(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    hvi_buffer_reset(&apart->sql);
    hvi_buffer_append_format(&apart->sql, "SET lock_timeout TO %d;", HVI_LEDGER_LOCK_TIMEOUT);
    hvi_ledger_ask(&apart->sql, job->shard);
    return run(apart, job, HVI_APART_ASK, false, request);
}

hvi_job_next hvi_apart_begin(hvi_apart *apart, hvi_job *job, hvi_session *session,
                             hvi_request *request) {
    (void) session;
    hvi_ledger_rows_fini(&apart->rows);
    hv_error_free(apart->refusal);
    apart->refusal = NULL;
    apart->drops = 0;
    if (apart->locked)
        return ask_ledger(apart, job, request);
    hvi_buffer_reset(&apart->sql);
    hvi_shard_sql_try_session_lock(&apart->sql, job->shard);
    return run(apart, job, HVI_APART_LOCK, false, request);
}

static const hvi_form lock_form = {
    .asked = "a lock",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

static hvi_job_next after_lock(hvi_apart *apart, hvi_job *job, hvi_session *session,
                               hvi_answer *answer, hvi_request *request) {
    if (hvi_result_check(answer->result, &lock_form, session->config->server, job->shard,
                         &job->error) != HV_OK)
        return fail(job);
    apart->locked = hvi_bool_at(answer->result, 0, 0);
    if (!apart->locked)
        return hvi_obstacle_meet(apart->obstacle, job, session, answer, request);
    return ask_ledger(apart, job, request);
}

static hvi_job_next after_ask(hvi_apart *apart, hvi_job *job, hvi_session *session,
                              hvi_answer *answer, hvi_request *request) {
    bool is_there = false;
    if (hvi_ledger_asked(answer->result, session->config->server, job->shard, &is_there,
                         &job->error) != HV_OK)
        return fail(job);
    hvi_buffer_reset(&apart->sql);
    if (!is_there)
        return go_on(apart, job, session, request);
    hvi_ledger_read(&apart->sql, job->shard);
    return run(apart, job, HVI_APART_READ, false, request);
}

/* ---- the settings of the session ---- */

/* Statements that later ones of the file depend on. */
static bool is_setting(const hvi_sql *sql, size_t i) {
    return (hvi_sql_begins(sql, i, "set") && !hvi_sql_begins(sql, i, "set local") &&
            !hvi_sql_begins(sql, i, "set constraints") &&
            !hvi_sql_begins(sql, i, "set transaction")) ||
           hvi_sql_begins(sql, i, "reset");
}

/* Does the file choose its own lock_timeout? */
static bool has_lock_timeout(const hvi_sql *sql) {
    for (size_t i = 0; i < sql->count; i++)
        if (hvi_sql_begins(sql, i, "set lock_timeout") ||
            hvi_sql_begins(sql, i, "set session lock_timeout"))
            return true;
    return false;
}

/* Does the statement hold up no reader and no writer while it waits for its lock? */
static bool is_patient(const hvi_apart *apart) {
    const hvi_sql *sql = &apart->file->sql;
    size_t i = (size_t) apart->statement - 1;
    if (apart->concurrently.what != HVI_CONCURRENT_NOT || hvi_sql_begins(sql, i, "analyze"))
        return true;
    if (!hvi_sql_begins(sql, i, "vacuum"))
        return false;
    const char *at = sql->text + sql->statements[i].begin;
    const char *end = sql->text + sql->statements[i].end;
    for (hvi_token token; (token = hvi_token_next(&at, end)).kind != HVI_TOKEN_END;)
        if (hvi_token_is(&token, "full"))
            return false;
    return true;
}

static void append_limits(hvi_apart *apart) {
    const hv_rollout *rollout = apart->rollout;
    int64_t wait = is_patient(apart) ? max_wait(apart) : rollout->lock_timeout;
    if (!has_lock_timeout(&apart->file->sql))
        hvi_buffer_append_format(&apart->sql, "SET lock_timeout TO %" PRId64 ";",
                                 wait > 0 ? wait : 0);
    hvi_buffer_append_format(&apart->sql, "SET statement_timeout TO %d;",
                             hvi_shard_sql_limit(rollout->timeout, wait));
}

/* The search_path, and what the statements that are done have set. */
static hvi_job_next ask_prepare(hvi_apart *apart, hvi_job *job, hvi_session *session,
                                hvi_request *request) {
    const hvi_sql *sql = &apart->file->sql;
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(job->shard, schema);
    hvi_buffer_reset(&apart->sql);
    hvi_buffer_append_text(&apart->sql, "SET search_path TO ");
    hvi_shard_sql_path(&apart->sql, session, job->shard);
    for (size_t i = 0; i + 1 < (size_t) apart->statement; i++) {
        if (!is_setting(sql, i))
            continue;
        hvi_buffer_append_text(&apart->sql, ";");
        hvi_sql_append(sql, sql->statements[i].begin, sql->statements[i].end, schema, &apart->sql);
    }
    return run(apart, job, HVI_APART_PREPARE, false, request);
}

/* ---- the record ---- */

static void append_id(const hvi_apart *apart, hvi_buffer *sql) {
    hvi_buffer_append_format(sql, "'%" PRId64 "'::pg_catalog.text", apart->file->number);
}

/* Write the row: so many statements are done, and this one is begun (0: none). */
static void append_row(hvi_apart *apart, int shard, int done, int begun) {
    char schema[HVI_SCHEMA_NAME_LEN], digest[HVI_SHA256_LEN];
    const hvi_migration *file = apart->file;
    hvi_buffer *sql = &apart->sql;
    bool finished = (size_t) done == file->sql.count;
    hvi_schema_name(shard, schema);
    if (hvi_ledger_digest(&file->sql, (size_t) (begun > 0 ? begun : done), digest) != HV_OK)
        hvi_buffer_break(sql);
    hvi_buffer_append_text(sql, "DO $hv$ BEGIN ");
    hvi_ledger_table_ensure(sql, shard);
    hvi_buffer_append_format(sql,
                             " END $hv$;"
                             "INSERT INTO %s." HVI_LEDGER
                             " (id, name, digest, finished, done, begun, statements) VALUES (",
                             schema);
    append_id(apart, sql);
    hvi_buffer_append_text(sql, ", ");
    hvi_sql_text(sql, file->sql.name, strlen(file->sql.name));
    hvi_buffer_append_format(sql, ", '%s', %s, %d, ", file->digest, finished ? "true" : "false",
                             done);
    if (begun > 0)
        hvi_buffer_append_format(sql, "%d", begun);
    else
        hvi_buffer_append_text(sql, "NULL");
    hvi_buffer_append_format(sql, ", '%s') ON CONFLICT (id) DO ", digest);
    /* Until it is finished, applied_at is when it began. */
    if (finished)
        hvi_buffer_append_text(sql, "UPDATE SET took_ms = (EXTRACT(epoch FROM EXCLUDED.applied_at"
                                    " OPERATOR(pg_catalog.-) " HVI_LEDGER
                                    ".applied_at) OPERATOR(pg_catalog.*) 1000)"
                                    "::bigint, applied_at = EXCLUDED.applied_at, ");
    else
        hvi_buffer_append_text(sql, "UPDATE SET ");
    hvi_buffer_append_text(sql, "name = EXCLUDED.name, digest = EXCLUDED.digest,"
                                " finished = EXCLUDED.finished, done = EXCLUDED.done,"
                                " begun = EXCLUDED.begun, statements = EXCLUDED.statements");
}

/* The statement may be begun. */
static hvi_job_next ask_mark(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    hvi_buffer_reset(&apart->sql);
    append_limits(apart);
    append_row(apart, job->shard, apart->statement - 1, apart->statement);
    return run(apart, job, HVI_APART_MARK, true, request);
}

static hvi_job_next ask_finish(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    hvi_buffer_reset(&apart->sql);
    append_row(apart, job->shard, (int) apart->file->sql.count, 0);
    return run(apart, job, HVI_APART_FINISH, true, request);
}

/* The statement was refused: it is known not to be done. */
static hvi_job_next ask_clear(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    hvi_buffer_reset(&apart->sql);
    append_row(apart, job->shard, apart->statement - 1, 0);
    return run(apart, job, HVI_APART_CLEAR, true, request);
}

/* ---- the statement ---- */

static void read_statement(hvi_apart *apart, int shard) {
    const hvi_sql *sql = &apart->file->sql;
    const hvi_sql_statement *statement = &sql->statements[apart->statement - 1];
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer_reset(&apart->text);
    hvi_sql_append(sql, statement->begin, statement->end, schema, &apart->text);
    if (hvi_buffer_ok(&apart->text))
        apart->concurrently = hvi_concurrently_read(apart->text.data, apart->text.len);
    else
        hvi_buffer_break(&apart->sql);
    apart->drops = 0;
}

static hvi_job_next ask_run(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    const hvi_sql *sql = &apart->file->sql;
    hvi_buffer_reset(&apart->sql);
    hvi_buffer_append(&apart->sql, apart->text.data, apart->text.len);
    hvi_job_report(job, sql->name, NULL, (double) (apart->statement - 1) / (double) sql->count);
    return run(apart, job, HVI_APART_RUN, true, request);
}

static hvi_job_next next_statement(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    apart->is_begun = false;
    if ((size_t) ++apart->statement > apart->file->sql.count)
        return ask_finish(apart, job, request);
    hvi_buffer_reset(&apart->sql);
    read_statement(apart, job->shard);
    return ask_mark(apart, job, request);
}

/* ---- what CONCURRENTLY leaves behind ---- */

/* SELECTs of rows with: is it valid, its name, the process that is building it. */
#define CHECK_COLUMNS                                                                              \
    "SELECT coalesce(i.indisvalid, true), pg_catalog.format('%I.%I', n.nspname, c.relname), p.pid" \
    " FROM pg_catalog.pg_class AS c"                                                               \
    " JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"            \
    " LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid OPERATOR(pg_catalog.=) c.oid"             \
    " LEFT JOIN pg_catalog.pg_stat_progress_create_index AS p"                                     \
    " ON p.index_relid OPERATOR(pg_catalog.=) c.oid"

static const hvi_form check_form = {
    .asked = "an index",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_BYTES, HVI_IS_INT4 | HVI_OR_NULL},
};

static void append_regclass(hvi_buffer *sql, const char *name, size_t len) {
    hvi_buffer_append_text(sql, "pg_catalog.to_regclass(");
    hvi_sql_text(sql, name, len);
    hvi_buffer_append_text(sql, ")");
}

/* An index is in the schema of its table. */
static void append_created(hvi_buffer *sql, const hvi_concurrently *said) {
    hvi_buffer_append_text(sql, " WHERE c.relname OPERATOR(pg_catalog.=) (pg_catalog.parse_ident(");
    hvi_sql_text(sql, said->index, said->index_len);
    hvi_buffer_append_text(sql, "))[1]::pg_catalog.name AND c.relnamespace OPERATOR(pg_catalog.=)"
                                " (SELECT t.relnamespace FROM pg_catalog.pg_class AS t"
                                " WHERE t.oid OPERATOR(pg_catalog.=) ");
    append_regclass(sql, said->table, said->table_len);
    hvi_buffer_append_text(sql, ")");
}

/* Copies of indexes of the table, that of its TOAST table included, or of the schema. */
static void append_rebuilt(hvi_buffer *sql, const hvi_concurrently *said) {
    hvi_buffer_append_text(sql, " JOIN pg_catalog.pg_class AS t ON i.indrelid"
                                " OPERATOR(pg_catalog.=) ANY (ARRAY[t.oid, t.reltoastrelid])"
                                " WHERE NOT i.indisvalid AND c.relname::pg_catalog.text"
                                " OPERATOR(pg_catalog.~) '_cc(new|old)[0-9]*$' AND ");
    if (said->is_schema) {
        hvi_buffer_append_text(sql, "t.relnamespace OPERATOR(pg_catalog.=)"
                                    " pg_catalog.to_regnamespace(");
        hvi_sql_text(sql, said->index, said->index_len);
        hvi_buffer_append_text(sql, ")");
    } else if (said->is_index) {
        hvi_buffer_append_text(sql, "t.oid OPERATOR(pg_catalog.=) (SELECT o.indrelid"
                                    " FROM pg_catalog.pg_index AS o"
                                    " WHERE o.indexrelid OPERATOR(pg_catalog.=) ");
        append_regclass(sql, said->index, said->index_len);
        hvi_buffer_append_text(sql, ")");
    } else {
        hvi_buffer_append_text(sql, "t.oid OPERATOR(pg_catalog.=) ");
        append_regclass(sql, said->index, said->index_len);
    }
    hvi_buffer_append_text(sql, " LIMIT 1");
}

static hvi_job_next ask_check(hvi_apart *apart, hvi_job *job, int purpose, hvi_request *request) {
    const hvi_concurrently *said = &apart->concurrently;
    hvi_buffer_reset(&apart->sql);
    hvi_buffer_append_text(&apart->sql, CHECK_COLUMNS);
    if (said->what == HVI_CONCURRENT_CREATE) {
        append_created(&apart->sql, said);
    } else if (said->what == HVI_CONCURRENT_REINDEX) {
        append_rebuilt(&apart->sql, said);
    } else {
        hvi_buffer_append_text(&apart->sql, " WHERE c.oid OPERATOR(pg_catalog.=) ");
        append_regclass(&apart->sql, said->index, said->index_len);
    }
    apart->purpose = purpose;
    return run(apart, job, HVI_APART_CHECK, false, request);
}

static hvi_job_next ask_drop(hvi_apart *apart, hvi_job *job, const char *index,
                             hvi_request *request) {
    /* What REINDEX leaves are several indexes, each of which goes for good. */
    if (apart->drops++ >= MAX_DROPS && apart->concurrently.what != HVI_CONCURRENT_REINDEX) {
        hvi_fail(&job->error, HV_REFUSED, "the index %s does not become valid", index);
        hvi_sql_locate(&apart->file->sql, apart->file->sql.statements[apart->statement - 1].line,
                       &job->error);
        return fail(job);
    }
    hvi_buffer_reset(&apart->sql);
    hvi_buffer_append_format(&apart->sql, "DROP INDEX CONCURRENTLY IF EXISTS %s", index);
    return run(apart, job, HVI_APART_DROP, true, request);
}

static hvi_job_next pause_for_builder(hvi_apart *apart, hvi_job *job, const PGresult *result,
                                      hvi_request *request) {
    char cause[256];
    snprintf(cause, sizeof cause, "process %s is building %s", hvi_text_at(result, 0, 2),
             hvi_text_at(result, 0, 1));
    return pause_for(apart, job, cause, request);
}

static hvi_job_next after_check(hvi_apart *apart, hvi_job *job, hvi_session *session,
                                hvi_answer *answer, hvi_request *request) {
    const PGresult *result = answer->result;
    hvi_concurrent what = apart->concurrently.what;
    if (hvi_result_check(result, &check_form, session->config->server, job->shard, &job->error) !=
        HV_OK)
        return fail(job);
    bool is_there = PQntuples(result) > 0;
    bool is_invalid = is_there && !hvi_bool_at(result, 0, 0);
    bool is_built = is_invalid && hvi_text_at(result, 0, 2) != NULL;
    if (apart->purpose == HVI_APART_CLEAN_UP) {
        if (!is_invalid || is_built)
            return ask_clear(apart, job, request);
        if (hvi_error_has_sqlstate(apart->refusal, "42P07")) { /* it was in the way */
            hv_error_free(apart->refusal);
            apart->refusal = NULL;
            apart->purpose = HVI_APART_RECOVER;
        }
        return ask_drop(apart, job, hvi_text_at(result, 0, 1), request);
    }
    if (what == HVI_CONCURRENT_DROP)
        return is_there ? ask_mark(apart, job, request) : next_statement(apart, job, request);
    if (is_built)
        return pause_for_builder(apart, job, result, request);
    if (is_invalid) {
        apart->purpose = HVI_APART_RECOVER;
        return ask_drop(apart, job, hvi_text_at(result, 0, 1), request);
    }
    bool is_done = apart->purpose == HVI_APART_VERIFY ||
                   (what == HVI_CONCURRENT_CREATE && is_there && apart->drops == 0);
    return is_done ? next_statement(apart, job, request) : ask_mark(apart, job, request);
}

/* ---- refusals ---- */

/* Put file and line in front of a statement's error, and hint at what helps. */
static void explain(hvi_apart *apart, const char *schema, const hvi_answer *answer) {
    const hvi_sql *sql = &apart->file->sql;
    const hvi_sql_statement *statement = &sql->statements[apart->statement - 1];
    int line = statement->line;
    if (answer->position > 0)
        line = hvi_sql_line(
            sql, hvi_sql_offset(sql, statement->begin, statement->end, schema, answer->position));
    hvi_sql_locate(sql, line, &apart->refusal);
    if (apart->is_begun && hv_error_hint(apart->refusal) == NULL)
        hvi_error_hint(&apart->refusal,
                       "An earlier run was interrupted in this statement. If it is done, say so: "
                       "UPDATE %s." HVI_LEDGER " SET done = %d, begun = NULL WHERE id = '%" PRId64
                       "'.",
                       schema, apart->statement, apart->file->number);
}

/* After CLEAR, or a DROP of what is left that was refused. */
static hvi_job_next after_clear(hvi_apart *apart, hvi_job *job, hvi_session *session,
                                hvi_request *request) {
    hvi_answer refused = {.status = HV_REFUSED, .error = apart->refusal};
    if (hvi_obstacle_is(&refused))
        return hvi_obstacle_meet(apart->obstacle, job, session, &refused, request);
    return fail_with(job, &apart->refusal);
}

static hvi_job_next after_refusal(hvi_apart *apart, hvi_job *job, hvi_session *session,
                                  hvi_answer *answer, hvi_request *request) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_concurrent what = apart->concurrently.what;
    hvi_schema_name(job->shard, schema);
    hv_error_free(apart->refusal);
    apart->refusal = answer->error;
    answer->error = NULL;
    explain(apart, schema, answer);
    if (what == HVI_CONCURRENT_CREATE || what == HVI_CONCURRENT_REINDEX)
        return ask_check(apart, job, HVI_APART_CLEAN_UP, request);
    /* A statement whose fate is unknown stays so. */
    if (apart->is_begun)
        return after_clear(apart, job, session, request);
    return ask_clear(apart, job, request);
}

static hvi_job_next after_refused_drop(hvi_apart *apart, hvi_job *job, hvi_session *session,
                                       hvi_answer *answer, hvi_request *request) {
    if (apart->purpose == HVI_APART_CLEAN_UP) /* it stays begun, so that the next run drops it */
        return after_clear(apart, job, session, request);
    if (hvi_obstacle_is(answer))
        return hvi_obstacle_meet(apart->obstacle, job, session, answer, request);
    return fail_with(job, &answer->error);
}

/* ---- the steps ---- */

/* The ledger is read. */
static hvi_job_next go_on(hvi_apart *apart, hvi_job *job, hvi_session *session,
                          hvi_request *request) {
    const hvi_ledger_row *row = hvi_ledger_rows_find(&apart->rows, apart->file->number);
    if (hvi_ledger_check(&apart->rows, apart->migrations, &job->error) != HV_OK)
        return fail(job);
    if (row != NULL && row->finished) {
        job->work = HV_WORK_DONE;
        return HVI_JOB_END;
    }
    apart->statement = row != NULL ? row->done + 1 : 1;
    apart->is_begun = row != NULL && row->begun == apart->statement;
    if (apart->statement < 1 || (size_t) apart->statement > apart->file->sql.count)
        return ask_finish(apart, job, request);
    return ask_prepare(apart, job, session, request);
}

static hvi_job_next after_prepare(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    hvi_buffer_reset(&apart->sql);
    read_statement(apart, job->shard);
    if (apart->is_begun && apart->concurrently.what != HVI_CONCURRENT_NOT)
        return ask_check(apart, job, HVI_APART_RECOVER, request);
    return ask_mark(apart, job, request);
}

static hvi_job_next after_run(hvi_apart *apart, hvi_job *job, hvi_request *request) {
    apart->changed = true;
    if (apart->concurrently.what == HVI_CONCURRENT_CREATE)
        return ask_check(apart, job, HVI_APART_VERIFY, request);
    return next_statement(apart, job, request);
}

static hvi_job_next after_refused(hvi_apart *apart, hvi_job *job, hvi_session *session,
                                  hvi_answer *answer, hvi_request *request) {
    switch (apart->phase) {
    case HVI_APART_RUN:
        return after_refusal(apart, job, session, answer, request);
    case HVI_APART_DROP:
        return after_refused_drop(apart, job, session, answer, request);
    case HVI_APART_CLEAR:
        return fail_with(job, &apart->refusal);
    default:
        if (hvi_error_has_sqlstate(answer->error, "42501"))
            hvi_error_hint(&answer->error, "The role needs CREATE on the shard's schema, and all "
                                           "rights on its table " HVI_LEDGER ".");
        return fail_with(job, &answer->error);
    }
}

hvi_job_next hvi_apart_step(hvi_apart *apart, hvi_job *job, hvi_session *session,
                            hvi_answer *answer, hvi_request *request) {
    if (answer->status == HV_REFUSED)
        return after_refused(apart, job, session, answer, request);
    switch (apart->phase) {
    case HVI_APART_LOCK:
        return after_lock(apart, job, session, answer, request);
    case HVI_APART_ASK:
        return after_ask(apart, job, session, answer, request);
    case HVI_APART_READ:
        if (hvi_ledger_take(answer->result, session->config->server, job->shard, &apart->rows,
                            &job->error) != HV_OK)
            return fail(job);
        return go_on(apart, job, session, request);
    case HVI_APART_PREPARE:
        return after_prepare(apart, job, request);
    case HVI_APART_CHECK:
        return after_check(apart, job, session, answer, request);
    case HVI_APART_DROP:
        return ask_check(apart, job, apart->purpose, request);
    case HVI_APART_MARK:
        return ask_run(apart, job, request);
    case HVI_APART_RUN:
        return after_run(apart, job, request);
    case HVI_APART_CLEAR:
        return after_clear(apart, job, session, request);
    case HVI_APART_FINISH:
        apart->changed = true;
        break;
    }
    job->work = HV_WORK_DONE;
    return HVI_JOB_END;
}
