/*
 * each: the user's SQL on every shard, or once for each server.
 *
 * Without parameters a shard costs one round trip: BEGIN, the SQL and COMMIT are one script. With
 * parameters the SQL is a message of its own between two scripts:
 *
 *     WHOLE ──────────────────────────► done
 *     OPENING ──► STATEMENT ──► CLOSING ──► done
 *
 * What follows a refusal, a lock that is not to be had, or a lost connection is the same for both.
 * Only the answer to COMMIT decides: until that was sent, nothing of it can have happened. SQL that
 * is run once is recorded in the shard's ledger before COMMIT, so that it can be tried again even
 * if that answer was lost.
 */
#include "schema/each.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/obstacle.h"
#include "schema/shard_sql.h"
#include "shard/ledger_table.h"
#include "shard/shard_row.h"
#include "value/shard_map.h"

#define MAX_WAIT_MS 60000

typedef enum stage { WHOLE, OPENING, STATEMENT, CLOSING } stage;

typedef struct each_job {
    hvi_job job;
    hvi_each *each;
    stage stage;
    hvi_obstacle obstacle;
    hvi_buffer sql;
    size_t characters; /* before the user's SQL */
    size_t statements; /* likewise */
    PGresult *result;  /* owned */
} each_job;

static each_job *job_of(hvi_job *job) {
    return hvi_list_entry(job, each_job, job);
}

static void free_each_job(hvi_job *job) {
    each_job *self = job_of(job);
    PQclear(self->result);
    hvi_obstacle_fini(&self->obstacle);
    hvi_buffer_fini(&self->sql);
    free(self);
}

/* ---- the SQL ---- */

static void schema_of(const each_job *self, char schema[HVI_SCHEMA_NAME_LEN]) {
    strcpy(schema, "@shard"); /* for a server as a whole, as it is: the server refuses it */
    if (self->job.shard >= 0)
        hvi_schema_name(self->job.shard, schema);
}

static void append_users(each_job *self) {
    char schema[HVI_SCHEMA_NAME_LEN];
    schema_of(self, schema);
    hvi_sql_append(&self->each->sql, 0, self->each->sql.len, schema, &self->sql);
}

/* Everything before the user's SQL. */
static void append_opening(each_job *self, const hvi_session *session) {
    const hv_rollout *rollout = self->each->rollout;
    hvi_buffer_reset(&self->sql);
    int count = hvi_shard_sql_begin(&self->sql, session,
                                    &(hvi_shard_begin){
                                        .shard = self->job.shard,
                                        .read_only = !rollout->write,
                                        .lock_timeout = rollout->lock_timeout,
                                        .timeout = rollout->timeout,
                                    });
    if (rollout->write) {
        hvi_buffer_append_text(&self->sql, "DO $hv$ BEGIN ");
        hvi_shard_sql_guard(&self->sql, self->job.shard);
        if (rollout->once != NULL) {
            hvi_ledger_table_ensure(&self->sql, self->job.shard);
            hvi_ledger_table_refuse_done(&self->sql, self->job.shard, self->each->once_id);
        }
        hvi_buffer_append_text(&self->sql, " END $hv$;");
        count++;
    }
    self->statements = (size_t) count;
    self->characters = hvi_sql_characters(&self->sql);
}

/* Everything behind it. The user's SQL may have changed the role, and may end with a comment. */
static void append_closing(each_job *self) {
    const hvi_each *each = self->each;
    if (each->rollout->once != NULL) {
        hvi_buffer_append_text(&self->sql, "\n;RESET SESSION AUTHORIZATION;RESET ROLE;");
        hvi_ledger_table_record(&self->sql, self->job.shard, each->once_id, each->rollout->once,
                                each->digest);
    }
    hvi_buffer_append_text(&self->sql, "\n;COMMIT");
}

static hvi_job_next run(each_job *self, bool is_write, hvi_request *request) {
    if (!hvi_buffer_ok(&self->sql)) {
        self->job.work = HV_WORK_FAILED;
        hvi_no_memory(&self->job.error);
        return HVI_JOB_END;
    }
    request->sql = self->sql.data;
    request->is_write = is_write;
    return HVI_JOB_RUN;
}

static hvi_job_next begin(each_job *self, const hvi_session *session, hvi_request *request) {
    append_opening(self, session);
    if (self->each->parameter_count > 0) {
        self->stage = OPENING;
        return run(self, false, request);
    }
    self->stage = WHOLE;
    append_users(self);
    append_closing(self);
    request->wanted = self->statements + self->each->sql.count;
    return run(self, self->each->rollout->write, request);
}

static hvi_job_next send_statement(each_job *self, hvi_request *request) {
    self->stage = STATEMENT;
    hvi_buffer_reset(&self->sql);
    append_users(self);
    self->characters = self->statements = 0;
    request->parameter_count = self->each->parameter_count;
    request->parameters = (const char *const *) self->each->parameters;
    return run(self, false, request);
}

static hvi_job_next close_transaction(each_job *self, hvi_request *request) {
    self->stage = CLOSING;
    hvi_buffer_reset(&self->sql);
    append_closing(self);
    return run(self, self->each->rollout->write, request);
}

/* ---- errors ---- */

/* Name the line that the error is about, if there are several. */
static void locate(each_job *self, const hvi_answer *answer, hv_error **error) {
    const hvi_sql *sql = &self->each->sql;
    size_t number = answer->completed - self->statements; /* of the statement, from 0 */
    char schema[HVI_SCHEMA_NAME_LEN];
    if (answer->completed < self->statements || number >= sql->count ||
        memchr(sql->text, '\n', sql->len) == NULL)
        return;
    int line = sql->statements[number].line;
    if ((size_t) answer->position > self->characters) {
        schema_of(self, schema);
        line = hvi_sql_line(sql, hvi_sql_offset(sql, 0, sql->len, schema,
                                                answer->position - (int) self->characters));
    }
    hvi_sql_locate(sql, line, error);
}

static void explain(each_job *self, const hvi_answer *answer, hv_error **error) {
    if (hvi_error_has_sqlstate(*error, "25006") && !self->each->rollout->write)
        hvi_error_hint(error, "Without the option \"write\" it may only read.");
    else if (hvi_error_has_sqlstate(*error, "25001"))
        hvi_error_hint(error, "All of it is one transaction. A migration with the line \"-- hv: "
                              "no-transaction\" can run such a statement.");
    locate(self, answer, error);
}

/* Has the opening found no such shard on the server? */
static bool is_missing(const each_job *self, const hvi_answer *answer) {
    return (self->stage == WHOLE || self->stage == OPENING) &&
           answer->completed < self->statements &&
           (hvi_error_has_sqlstate(answer->error, "3F000") ||
            hvi_error_has_sqlstate(answer->error, "42P01"));
}

static void word_missing(const each_job *self, const hvi_session *session, hv_error **error) {
    hv_error_free(*error);
    *error = NULL;
    hvi_fail_not_initialized(session->config->server, self->job.shard, error);
}

static hvi_job_next fail(each_job *self, hvi_answer *answer) {
    self->job.work = HV_WORK_FAILED;
    hvi_error_move(&self->job.error, &answer->error);
    return HVI_JOB_END;
}

/* ---- the job ---- */

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    each_job *self = job_of(job);
    if (answer == NULL) {
        PQclear(self->result); /* of an attempt before */
        self->result = NULL;
        self->obstacle.is_asking = false;
        return begin(self, session, request);
    }
    if (self->obstacle.is_asking)
        return hvi_obstacle_answered(&self->obstacle, job, NULL, self->each->max_wait, answer,
                                     request);
    if (hvi_error_has_sqlstate(answer->error, HVI_SQLSTATE_DONE)) {
        job->work = HV_WORK_UNCHANGED;
        return HVI_JOB_END;
    }
    if (answer->status == HV_UNAVAILABLE ||
        (answer->status == HV_OUTCOME_UNKNOWN && self->each->rollout->once != NULL))
        return HVI_JOB_AFRESH; /* nothing has happened, or the ledger knows */
    if (hvi_obstacle_is(answer))
        return hvi_obstacle_meet(&self->obstacle, job, session, answer, request);
    if (answer->status != HV_OK) {
        if (is_missing(self, answer))
            word_missing(self, session, &answer->error);
        else if (answer->status == HV_REFUSED)
            explain(self, answer, &answer->error);
        return fail(self, answer);
    }
    if (self->stage == OPENING)
        return send_statement(self, request);
    if (self->stage != CLOSING) {
        self->result = answer->result;
        answer->result = NULL;
    }
    if (self->stage == STATEMENT)
        return close_transaction(self, request);
    job->work = HV_WORK_DONE;
    return HVI_JOB_END;
}

/* ---- all of them ---- */

static hv_status add_job(hvi_each *each, int server, int shard, hv_error **error) {
    each_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return hvi_no_memory(error);
    job->job = (hvi_job){.server = server, .shard = shard, .step = step, .free = free_each_job};
    job->each = each;
    hvi_crew_add(each->crew, &job->job);
    return HV_OK;
}

static hv_status add_jobs(hvi_each *each, hvi_router *router, hv_error **error) {
    int *shards = NULL;
    int count = 0;
    bool has_shard[HV_SHARDS] = {false}; /* by the server's number: there are no more */
    hv_status status = hvi_rollout_shards(each->rollout, router, &shards, &count, error);
    if (status == HV_OK)
        status = hvi_crew_new(router, each->rollout, &each->crew, error);
    for (int i = 0; status == HV_OK && i < count; i++) {
        int server = hvi_router_holder(router, shards[i]);
        if (!each->rollout->per_server)
            status = add_job(each, server, shards[i], error);
        has_shard[server] = true;
    }
    for (int i = 0; status == HV_OK && each->rollout->per_server && i < router->server_count; i++)
        if (has_shard[i])
            status = add_job(each, i, -1, error);
    free(shards);
    return status;
}

static hv_status copy_parameters(hvi_each *each, int count, const char *const *parameters,
                                 hv_error **error) {
    if (count < 0)
        return hvi_fail(error, HV_INVALID, "a negative number of parameters");
    if (count == 0)
        return HV_OK;
    each->parameters = calloc((size_t) count, sizeof *each->parameters);
    each->parameter_count = each->parameters != NULL ? count : 0;
    bool ok = each->parameters != NULL;
    for (int i = 0; ok && i < count; i++)
        ok = parameters[i] == NULL || (each->parameters[i] = strdup(parameters[i])) != NULL;
    return ok ? HV_OK : hvi_no_memory(error);
}

static hv_status check(const hvi_each *each, hv_error **error) {
    const hv_rollout *rollout = each->rollout;
    if (each->sql.count == 0)
        return hvi_fail(error, HV_INVALID, "there is no SQL to run");
    if (each->parameter_count > 0 && each->sql.count > 1)
        return hvi_fail(error, HV_INVALID, "SQL with parameters is one statement, not %zu",
                        each->sql.count);
    if (rollout->once != NULL && !rollout->write)
        return hvi_fail(error, HV_INVALID, "\"once\" is for SQL that may write");
    if (rollout->once != NULL && rollout->per_server)
        return hvi_fail(error, HV_INVALID, "\"once\" is for shards: a server has no ledger");
    return HV_OK;
}

static hv_status name_once(hvi_each *each, const char *sql, hv_error **error) {
    size_t size = sizeof HVI_LEDGER_ONCE + strlen(each->rollout->once);
    each->once_id = malloc(size);
    if (each->once_id == NULL)
        return hvi_no_memory(error);
    snprintf(each->once_id, size, "%s%s", HVI_LEDGER_ONCE, each->rollout->once);
    hvi_sha256(sql, strlen(sql), each->digest);
    return HV_OK;
}

hv_status hvi_each_init(hvi_each *each, hvi_router *router, const char *sql, int parameter_count,
                        const char *const *parameters, const hv_rollout *rollout,
                        hv_error **error) {
    *each = (hvi_each){.rollout = hvi_rollout_copy(rollout)};
    if (each->rollout == NULL)
        return hvi_no_memory(error);
    if (!each->rollout->write)
        each->rollout->canary = false;
    each->max_wait = each->rollout->max_wait != 0 ? each->rollout->max_wait : MAX_WAIT_MS;
    hv_status status = hvi_sql_read(&each->sql, NULL, sql, strlen(sql), error);
    if (status == HV_OK)
        status = copy_parameters(each, parameter_count, parameters, error);
    if (status == HV_OK)
        status = check(each, error);
    if (status == HV_OK && each->rollout->once != NULL)
        status = name_once(each, sql, error);
    return status == HV_OK ? add_jobs(each, router, error) : status;
}

hv_status hvi_each_next(hvi_each *each, hv_shard_answer *answer, hv_error **error) {
    hvi_job *job = NULL;
    hv_status status = hvi_crew_next(each->crew, &job, error);
    if (status != HV_OK)
        return status;
    if (job == NULL)
        return HV_NOT_FOUND;
    *answer = (hv_shard_answer){
        .server = job->server,
        .shard = job->shard,
        .work = job->work,
        .error = job->error,
        .result = job_of(job)->result,
    };
    return HV_OK;
}

void hvi_each_fini(hvi_each *each) {
    hvi_crew_free(each->crew); /* its jobs refer to the rest */
    for (int i = 0; i < each->parameter_count; i++)
        free(each->parameters[i]);
    free(each->parameters);
    hvi_sql_fini(&each->sql);
    free(each->once_id);
    hv_rollout_free(each->rollout);
    *each = (hvi_each){0};
}
