/*
 * migrate: run the files of a directory on each shard that does not have them.
 *
 * A job on a shard reads the ledger, compares it with the directory, and runs what is missing. A
 * file is one script of one round trip, from BEGIN to COMMIT, so that its locks are held as briefly
 * as possible; a file without a transaction is schema/apart.c's.
 *
 *     ASK ─► READ ─┬─► TRANSACTION ─┬─► CLEAN ─► the next file
 *      ▲           ├─► APART ───────┤
 *      │           │                └─► UNMARK, if the shard is new; else the end
 *      └── a pause ◄── in the way
 */
#include "schema/migrate.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/apart.h"
#include "schema/ledger.h"
#include "schema/obstacle.h"
#include "schema/shard_sql.h"
#include "value/shard_map.h"
#include "shard/ledger_table.h"

#define DEFAULT_MAX_WAIT INT64_C(60000)

typedef struct migration_job {
    hvi_job job;
    const hv_migrations *migrations; /* not owned, as the next */
    const hv_rollout *rollout;
    bool only_new; /* leave other shards alone */

    enum { ASK, READ, TRANSACTION, APART, CLEAN, UNMARK } phase;
    bool is_pausing;
    bool changed; /* it has run something */
    hvi_ledger_rows rows;
    size_t next; /* files before this one are done */
    hvi_buffer sql;
    size_t before;       /* characters in front of the file, … */
    size_t before_count; /* … and statements */
    hvi_obstacle obstacle;
    hvi_apart apart;
} migration_job;

static const hvi_migration *file_of(const migration_job *m) {
    return &m->migrations->files[m->next];
}

static hvi_job_next end(migration_job *m, hv_work work) {
    m->job.work = work;
    return HVI_JOB_END;
}

static hvi_job_next fail_with(migration_job *m, hv_error **cause) {
    hvi_error_move(&m->job.error, cause);
    return end(m, HV_WORK_FAILED);
}

/* Send m->sql. */
static hvi_job_next run(migration_job *m, int phase, bool is_write, hvi_request *request) {
    if (!hvi_buffer_ok(&m->sql)) {
        hvi_no_memory(&m->job.error);
        return end(m, HV_WORK_FAILED);
    }
    m->phase = phase;
    request->sql = m->sql.data;
    request->is_write = is_write;
    return HVI_JOB_RUN;
}

/* ---- the ledger ---- */

static hvi_job_next ask(migration_job *m, const hvi_session *session, hvi_request *request) {
    hvi_buffer_reset(&m->sql);
    if (PQtransactionStatus(session->conn) != PQTRANS_IDLE)
        hvi_buffer_append_text(&m->sql, "ROLLBACK;");
    hvi_buffer_append_format(&m->sql, "SET lock_timeout TO %d;", HVI_LEDGER_LOCK_TIMEOUT);
    hvi_ledger_ask(&m->sql, m->job.shard);
    return run(m, ASK, false, request);
}

static bool is_done(const migration_job *m, const hvi_migration *file) {
    const hvi_ledger_row *row = hvi_ledger_rows_find(&m->rows, file->number);
    return row != NULL && row->finished;
}

/* ---- a file in a transaction ---- */

static hvi_job_next ask_transaction(migration_job *m, const hvi_session *session,
                                    hvi_request *request) {
    const hvi_migration *file = file_of(m);
    hvi_buffer *sql = &m->sql;
    int shard = m->job.shard;
    char schema[HVI_SCHEMA_NAME_LEN], id[24];
    hvi_shard_begin begin = {
        .shard = shard,
        .lock_timeout = m->rollout->lock_timeout,
        .timeout = m->rollout->timeout,
    };
    hvi_schema_name(shard, schema);
    snprintf(id, sizeof id, "%" PRId64, file->number);
    hvi_buffer_reset(sql);
    m->before_count = (size_t) hvi_shard_sql_begin(sql, session, &begin) + 1;
    hvi_buffer_append_text(sql, "DO $hv$ BEGIN ");
    hvi_shard_sql_guard(sql, shard);
    hvi_ledger_table_ensure(sql, shard);
    hvi_ledger_table_refuse_done(sql, shard, id);
    hvi_buffer_append_text(sql, " END $hv$;");
    m->before = hvi_sql_characters(sql);
    hvi_sql_append(&file->sql, 0, file->sql.len, schema, sql);
    /* The file may have changed the role. It may end with a comment. */
    hvi_buffer_append_text(sql, "\n;RESET SESSION AUTHORIZATION;RESET ROLE;");
    hvi_ledger_table_record(sql, shard, id, file->sql.name, file->digest);
    hvi_buffer_append_text(sql, ";COMMIT");
    return run(m, TRANSACTION, true, request);
}

/* The line of the file that an error is about; 0: it is about something else. */
static int line_of(const migration_job *m, const hvi_answer *answer) {
    const hvi_sql *sql = &file_of(m)->sql;
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(m->job.shard, schema);
    if (answer->position > 0 && (size_t) answer->position > m->before) {
        int position = answer->position - (int) m->before;
        return hvi_sql_line(sql, hvi_sql_offset(sql, 0, sql->len, schema, position));
    }
    size_t done = answer->completed;
    bool is_ours = done >= m->before_count && done - m->before_count < sql->count;
    return is_ours ? sql->statements[done - m->before_count].line : 0;
}

/* Put file and line in front of an error, and hint at what helps. */
static void explain(const migration_job *m, hvi_answer *answer) {
    const hvi_sql *sql = &file_of(m)->sql;
    int line = line_of(m, answer);
    hv_error **error = &answer->error;
    if (line > 0)
        hvi_sql_locate(sql, line, error);
    else
        hvi_error_prefix(error, "%s: ", sql->name);
    if (hvi_error_has_sqlstate(*error, "25001"))
        hvi_error_hint(error, "Move it to a file of its own that begins with the line "
                              "\"-- hv: no-transaction\".");
    else if (hvi_error_has_sqlstate(*error, "42809"))
        /* "cannot add column to a partition": a stream has attached the table to another one. */
        hvi_error_hint(
            error,
            "If it is about a partition: columns cannot be changed while the old copy of "
            "a moved shard is kept (see `hv move --list`); `hv move --clean %d` drops it.",
            m->job.shard);
    else if (hvi_error_has_sqlstate(*error, "42501") && line == 0)
        hvi_error_hint(error, "The role needs CREATE on the shard's schema, and all rights on its "
                              "table " HVI_LEDGER ".");
}

/* Put the file in front of the error of a job that has waited too long. */
static hvi_job_next meet(migration_job *m, hvi_session *session, const hvi_answer *answer,
                         hvi_request *request) {
    return hvi_obstacle_meet(&m->obstacle, &m->job, session, answer, request);
}

static hvi_job_next after_obstacle(migration_job *m, hvi_answer *answer, hvi_request *request) {
    const hvi_sql *sql = &file_of(m)->sql;
    int64_t wait = m->rollout->max_wait != 0 ? m->rollout->max_wait : DEFAULT_MAX_WAIT;
    hvi_job_next next =
        hvi_obstacle_answered(&m->obstacle, &m->job, sql->name, wait, answer, request);
    m->is_pausing = next == HVI_JOB_PAUSE;
    if (next == HVI_JOB_END)
        hvi_error_prefix(&m->job.error, "%s: ", sql->name);
    return next;
}

/* ---- one file after another ---- */

static hvi_job_next ask_unmark(migration_job *m, hvi_request *request) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(m->job.shard, schema);
    hvi_buffer_reset(&m->sql);
    hvi_buffer_append_format(&m->sql,
                             "DELETE FROM %s." HVI_LEDGER
                             " WHERE id OPERATOR(pg_catalog.=) '" HVI_LEDGER_NEW "'",
                             schema);
    return run(m, UNMARK, true, request);
}

static hvi_job_next run_file(migration_job *m, hvi_session *session, hvi_request *request) {
    const hvi_migration *file = file_of(m);
    hvi_job_report(&m->job, file->sql.name, NULL, (double) m->next / (double) m->migrations->count);
    if (!file->sql.no_transaction)
        return ask_transaction(m, session, request);
    m->phase = APART;
    m->apart.file = file;
    return hvi_apart_begin(&m->apart, &m->job, session, request);
}

/* Skip files that are done. False: there is none any more. */
static bool find_next(migration_job *m) {
    while (m->next < m->migrations->count && is_done(m, file_of(m)))
        m->next++;
    return m->next < m->migrations->count;
}

static hvi_job_next next_file(migration_job *m, hvi_session *session, hvi_request *request) {
    if (find_next(m))
        return run_file(m, session, request);
    if (m->rows.is_new)
        return ask_unmark(m, request);
    return end(m, m->changed ? HV_WORK_DONE : HV_WORK_UNCHANGED);
}

/* A file is done. What it has set must not matter to the next one. */
static hvi_job_next after_file(migration_job *m, hvi_session *session, hvi_request *request) {
    m->next++;
    m->obstacle.patience = (hvi_patience){0};
    if (!find_next(m) && !m->rows.is_new)
        return next_file(m, session, request);
    hvi_buffer_reset(&m->sql);
    hvi_shard_sql_settings(&m->sql, session);
    hvi_buffer_append_format(&m->sql, ";SET lock_timeout TO %d", HVI_LEDGER_LOCK_TIMEOUT);
    m->apart.locked = false;
    return run(m, CLEAN, false, request);
}

static hvi_job_next begin_files(migration_job *m, hvi_session *session, hvi_request *request) {
    if (m->only_new && !m->rows.is_new)
        return end(m, HV_WORK_UNCHANGED);
    if (hvi_ledger_check(&m->rows, m->migrations, &m->job.error) != HV_OK)
        return end(m, HV_WORK_FAILED);
    m->next = 0;
    return next_file(m, session, request);
}

/* ---- the steps ---- */

static hvi_job_next after_ask(migration_job *m, hvi_session *session, hvi_answer *answer,
                              hvi_request *request) {
    bool is_there = false;
    if (hvi_ledger_asked(answer->result, session->config->server, m->job.shard, &is_there,
                         &m->job.error) != HV_OK)
        return end(m, HV_WORK_FAILED);
    if (!is_there)
        return begin_files(m, session, request);
    hvi_buffer_reset(&m->sql);
    hvi_ledger_read(&m->sql, m->job.shard);
    return run(m, READ, false, request);
}

static hvi_job_next after_read(migration_job *m, hvi_session *session, hvi_answer *answer,
                               hvi_request *request) {
    if (hvi_ledger_take(answer->result, session->config->server, m->job.shard, &m->rows,
                        &m->job.error) != HV_OK)
        return end(m, HV_WORK_FAILED);
    return begin_files(m, session, request);
}

static hvi_job_next after_transaction(migration_job *m, hvi_session *session, hvi_answer *answer,
                                      hvi_request *request) {
    if (answer->status == HV_OK) {
        m->changed = true;
        return after_file(m, session, request);
    }
    if (hvi_error_has_sqlstate(answer->error, HVI_SQLSTATE_DONE)) /* by another run, just now */
        return ask(m, session, request);
    if (hvi_obstacle_is(answer))
        return meet(m, session, answer, request);
    explain(m, answer);
    return fail_with(m, &answer->error);
}

static hvi_job_next after_apart(migration_job *m, hvi_session *session, hvi_answer *answer,
                                hvi_request *request) {
    hvi_job_next next = hvi_apart_step(&m->apart, &m->job, session, answer, request);
    m->is_pausing = next == HVI_JOB_PAUSE;
    m->changed = m->changed || m->apart.changed;
    if (next != HVI_JOB_END || m->job.work == HV_WORK_FAILED)
        return next;
    return after_file(m, session, request);
}

/* An answer from a session that can still be used. */
static hvi_job_next take_answer(migration_job *m, hvi_session *session, hvi_answer *answer,
                                hvi_request *request) {
    if (m->obstacle.is_asking)
        return after_obstacle(m, answer, request);
    if (m->phase == APART)
        return after_apart(m, session, answer, request);
    if (m->phase == TRANSACTION)
        return after_transaction(m, session, answer, request);
    if (answer->status != HV_OK)
        return fail_with(m, &answer->error);
    switch (m->phase) {
    case ASK:
        return after_ask(m, session, answer, request);
    case READ:
        return after_read(m, session, answer, request);
    case CLEAN:
        return next_file(m, session, request);
    default:
        return end(m, HV_WORK_DONE);
    }
}

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    migration_job *m = (migration_job *) job;
    bool was_pausing = m->is_pausing;
    m->is_pausing = false;
    if (answer == NULL) {
        m->apart.locked = m->apart.locked && was_pausing;
        m->obstacle.is_asking = false;
        hvi_ledger_rows_fini(&m->rows);
        return ask(m, session, request);
    }
    if (answer->status == HV_CORRUPT || answer->status == HV_NO_MEMORY)
        return fail_with(m, &answer->error);
    if (answer->status != HV_OK && answer->status != HV_REFUSED)
        return HVI_JOB_AFRESH; /* the ledger knows what is done */
    return take_answer(m, session, answer, request);
}

static void free_job(hvi_job *job) {
    migration_job *m = (migration_job *) job;
    hvi_ledger_rows_fini(&m->rows);
    hvi_buffer_fini(&m->sql);
    hvi_obstacle_fini(&m->obstacle);
    hvi_apart_fini(&m->apart);
    free(m);
}

/* ---- all shards ---- */

static hv_status add_job(hvi_crew *crew, hvi_router *router, const hv_migrations *migrations,
                         const hv_rollout *rollout, int shard, bool only_new, hv_error **error) {
    migration_job *m = calloc(1, sizeof *m);
    if (m == NULL)
        return hvi_no_memory(error);
    m->job = (hvi_job){
        .server = hvi_router_holder(router, shard),
        .shard = shard,
        .step = step,
        .free = free_job,
    };
    m->migrations = m->apart.migrations = migrations;
    m->rollout = m->apart.rollout = rollout;
    m->apart.obstacle = &m->obstacle;
    m->only_new = only_new;
    hvi_crew_add(crew, &m->job);
    return HV_OK;
}

/* `server`: only its shards; -1: those of the rollout. */
static hv_status migrate(hvi_router *router, const hv_migrations *migrations,
                         const hv_rollout *rollout, int server, hv_summary **summary,
                         hv_error **error) {
    hvi_crew *crew = NULL;
    int *shards = NULL, count = 0;
    hv_status status = hvi_rollout_shards_to_change(rollout, router, &shards, &count, error);
    if (status == HV_OK)
        status = hvi_crew_new(router, rollout, &crew, error);
    for (int i = 0; status == HV_OK && i < count; i++)
        if (server < 0 || hvi_router_holder(router, shards[i]) == server)
            status = add_job(crew, router, migrations, rollout, shards[i], server >= 0, error);
    if (status == HV_OK) {
        status = hvi_crew_run(crew, NULL, NULL, error);
        if (summary != NULL && hvi_crew_summary(crew, summary, NULL) != HV_OK && status == HV_OK)
            status = hvi_no_memory(error);
    }
    hvi_crew_free(crew);
    free(shards);
    return status;
}

hv_status hvi_migrate(hvi_router *router, const hv_migrations *migrations,
                      const hv_rollout *rollout, hv_summary **summary, hv_error **error) {
    hv_rollout *copy = hvi_rollout_copy(rollout);
    if (summary != NULL)
        *summary = NULL;
    if (copy == NULL)
        return hvi_no_memory(error);
    hv_status status = hvi_rollout_refuse_each(copy, error);
    if (status == HV_OK)
        status = migrate(router, migrations, copy, -1, summary, error);
    hv_rollout_free(copy);
    return status;
}

hv_status hvi_migrate_new(hvi_router *router, int server, const hv_migrations *migrations,
                          hv_error **error) {
    hv_rollout *rollout = hv_rollout_new();
    if (rollout == NULL)
        return hvi_no_memory(error);
    rollout->canary = false; /* nobody uses these shards yet */
    hv_status status = migrate(router, migrations, rollout, server, NULL, error);
    hv_rollout_free(rollout);
    return status;
}
