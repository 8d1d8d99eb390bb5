/*
 * plan: find out what hv_migrate() would run where, and what each statement locks.
 *
 * In three rounds: the ledgers of all shards say which files are missing where; on the shard that
 * lacks most, the statements are tried (schema/trial.c); and each server is asked how large the
 * tables are.
 */
#include "schema/plan.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "schema/ledger_status.h"
#include "schema/trial.h"
#include "value/shard_map.h"
#include "value/sql_text.h"
#include "wire/result.h"

typedef struct planning {
    hvi_router *router;
    const hv_migrations *migrations;
    hv_rollout *rollout; /* owned, as the next three */
    hv_ledger *ledger;
    hv_plan *plan;
    bool *tried; /* of each file */
    int server;  /* that of the shard on which they are tried, and … */
    int shard;   /* … that shard; -1: nothing is missing anywhere */
} planning;

/* ---- what is missing ---- */

/* The state of a file of the directory in a shard. The ledger's files are in the same order, with
 * those between that the directory lacks. */
static hv_migration_state state_of(const planning *p, size_t shard, size_t file,
                                   const char **digest) {
    const char *name = hv_migrations_name(p->migrations, file);
    size_t i = file;
    while (strcmp(hv_ledger_file(p->ledger, i), name) != 0)
        i++;
    return hv_ledger_state(p->ledger, shard, i, digest, NULL);
}

/* A shard on which hv_migrate() would refuse to do anything. */
static hv_status check_shard(const planning *p, size_t index, hv_error **error) {
    const hv_error *cause = NULL;
    int server = 0, shard = 0;
    hv_ledger_shard(p->ledger, index, &server, &shard, &cause);
    if (cause != NULL) {
        hv_error *copy = hvi_error_copy(cause);
        return hvi_error_move(error, &copy);
    }
    for (size_t i = 0; i < hv_ledger_files(p->ledger); i++) {
        const char *digest = NULL, *name = hv_ledger_file(p->ledger, i);
        hv_migration_state state = hv_ledger_state(p->ledger, index, i, &digest, NULL);
        if (state == HV_MIGRATION_CHANGED)
            hvi_fail(error, HV_MISMATCH, "\"%s\" was changed after it ran", name);
        else if (state == HV_MIGRATION_NO_FILE)
            hvi_fail(error, HV_MISMATCH, "\"%s\" has run, but is not in the directory", name);
        else
            continue;
        hvi_error_detail(error, "The recorded digest is %s.", digest);
        hvi_error_where(error, p->router->servers[server].name, shard);
        return HV_MISMATCH;
    }
    return HV_OK;
}

static bool is_missing(hv_migration_state state) {
    return state == HV_MIGRATION_PENDING || state == HV_MIGRATION_INTERRUPTED;
}

/* How many files a shard lacks. */
static size_t missing_files(const planning *p, size_t index) {
    size_t count = 0;
    for (size_t i = 0; i < p->migrations->count; i++)
        count += is_missing(state_of(p, index, i, NULL));
    return count;
}

static hv_status find_missing(planning *p, hv_error **error) {
    size_t most = 0, chosen = 0, count = 0;
    hv_status status = HV_OK;
    for (; status == HV_OK && hv_ledger_shard(p->ledger, count, NULL, NULL, NULL); count++) {
        status = check_shard(p, count, error);
        size_t missing = status == HV_OK ? missing_files(p, count) : 0;
        if (missing > most) {
            most = missing;
            chosen = count;
        }
    }
    p->shard = -1;
    if (most > 0)
        hv_ledger_shard(p->ledger, chosen, &p->server, &p->shard, NULL);
    for (size_t i = 0; status == HV_OK && i < p->migrations->count; i++) {
        size_t shards = 0;
        for (size_t j = 0; j < count; j++)
            shards += is_missing(state_of(p, j, i, NULL));
        p->tried[i] = most > 0 && is_missing(state_of(p, chosen, i, NULL));
        if (shards > 0)
            status = hvi_plan_steps_add(p->plan, p->migrations, i, shards, error);
    }
    return status;
}

/* ---- trying ---- */

static hv_status try_statements(planning *p, hv_error **error) {
    hvi_crew *crew = NULL;
    hv_status status = hvi_crew_new(p->router, p->rollout, &crew, error);
    hvi_job *job = status == HV_OK
                       ? hvi_trial_new(p->server, p->shard, p->migrations, p->tried, p->plan)
                       : NULL;
    if (status == HV_OK && job == NULL)
        status = hvi_no_memory(error);
    if (status == HV_OK) {
        hvi_crew_add(crew, job);
        status = hvi_crew_run(crew, NULL, NULL, error);
    }
    hvi_crew_free(crew);
    return status;
}

/* ---- how large the tables are ---- */

typedef struct size_job {
    hvi_job job;
    planning *planning;
    hvi_buffer sql;
} size_job;

static const hvi_form size_form = {
    .asked = "the sizes of tables",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_COUNT},
};

/* The largest of the shards' tables of each name in the plan. */
static void append_sizes(const planning *p, int server, hvi_buffer *sql) {
    const char *comma = "";
    hvi_buffer_append_text(sql, "SELECT c.relname, pg_catalog.max(pg_catalog.pg_table_size(c.oid))"
                                " FROM pg_catalog.pg_class AS c"
                                " WHERE c.relkind OPERATOR(pg_catalog.=) 'r'"
                                " AND c.relnamespace::pg_catalog.regnamespace::pg_catalog.text"
                                " OPERATOR(pg_catalog.=) ANY (ARRAY[");
    for (size_t i = 0;; i++) {
        char schema[HVI_SCHEMA_NAME_LEN];
        int owner, shard;
        if (!hv_ledger_shard(p->ledger, i, &owner, &shard, NULL))
            break;
        if (owner != server)
            continue;
        hvi_schema_name(shard, schema);
        hvi_buffer_append_format(sql, "%s'%s'", comma, schema);
        comma = ",";
    }
    hvi_buffer_append_text(sql, "]::pg_catalog.text[]) AND c.relname OPERATOR(pg_catalog.=)"
                                " ANY (ARRAY[");
    comma = "";
    for (size_t i = 0; i < p->plan->count; i++) {
        const char *relation = p->plan->steps[i].relation;
        if (relation == NULL)
            continue;
        hvi_buffer_append_text(sql, comma);
        hvi_sql_string(sql, relation, strlen(relation));
        comma = ",";
    }
    hvi_buffer_append_text(sql, "]::pg_catalog.name[]) GROUP BY c.relname");
}

static void take_sizes(planning *p, const PGresult *result) {
    for (int i = 0; i < PQntuples(result); i++)
        for (size_t j = 0; j < p->plan->count; j++) {
            hv_plan_step *step = &p->plan->steps[j].step;
            int64_t bytes = hvi_integer_at(result, i, 1);
            if (step->relation != NULL && bytes > step->bytes &&
                strcmp(step->relation, hvi_text_at(result, i, 0)) == 0)
                step->bytes = bytes;
        }
}

static hvi_job_next end_size(size_job *s, hv_status status) {
    s->job.work = status == HV_OK ? HV_WORK_DONE : HV_WORK_FAILED;
    return HVI_JOB_END;
}

static hvi_job_next step_size(hvi_job *job, hvi_session *session, hvi_answer *answer,
                              hvi_request *request) {
    size_job *s = (size_job *) job;
    if (answer == NULL) {
        hvi_buffer_reset(&s->sql);
        append_sizes(s->planning, job->server, &s->sql);
        if (!hvi_buffer_ok(&s->sql))
            return end_size(s, hvi_no_memory(&job->error));
        request->sql = s->sql.data;
        return HVI_JOB_RUN;
    }
    if (answer->status == HV_UNAVAILABLE)
        return HVI_JOB_AFRESH;
    if (answer->status != HV_OK)
        return end_size(s, hvi_error_move(&job->error, &answer->error));
    hv_status status =
        hvi_result_check(answer->result, &size_form, session->config->server, -1, &job->error);
    if (status == HV_OK)
        take_sizes(s->planning, answer->result);
    return end_size(s, status);
}

static void free_size(hvi_job *job) {
    hvi_buffer_fini(&((size_job *) job)->sql);
    free(job);
}

static bool holds_shards(const planning *p, int server) {
    int owner;
    for (size_t i = 0; hv_ledger_shard(p->ledger, i, &owner, NULL, NULL); i++)
        if (owner == server)
            return true;
    return false;
}

static hv_status read_sizes(planning *p, hv_error **error) {
    hvi_crew *crew = NULL;
    hv_status status = hvi_crew_new(p->router, p->rollout, &crew, error);
    for (int i = 0; status == HV_OK && i < p->router->server_count; i++) {
        if (!holds_shards(p, i))
            continue;
        size_job *s = calloc(1, sizeof *s);
        if (s == NULL) {
            status = hvi_no_memory(error);
            break;
        }
        s->job = (hvi_job){.server = i, .shard = -1, .step = step_size, .free = free_size};
        s->planning = p;
        hvi_crew_add(crew, &s->job);
    }
    if (status == HV_OK)
        status = hvi_crew_run(crew, NULL, NULL, error);
    hvi_crew_free(crew);
    return status;
}

/* ---- all of it ---- */

static hv_status make_plan(planning *p, hv_error **error) {
    hv_status status = hvi_rollout_refuse_each(p->rollout, error);
    p->rollout->canary = false; /* nothing is changed */
    if (status == HV_OK)
        status = hvi_migrate_status(p->router, p->migrations, p->rollout, &p->ledger, error);
    if (status == HV_OK)
        status = find_missing(p, error);
    if (status == HV_OK && p->shard >= 0)
        status = try_statements(p, error);
    if (status == HV_OK && p->shard >= 0)
        status = read_sizes(p, error);
    return status;
}

hv_status hvi_migrate_plan(hvi_router *router, const hv_migrations *migrations,
                           const hv_rollout *rollout, hv_plan **plan, hv_error **error) {
    planning p = {.router = router, .migrations = migrations};
    p.rollout = hvi_rollout_copy(rollout);
    p.plan = calloc(1, sizeof *p.plan);
    p.tried = calloc(migrations->count + 1, sizeof *p.tried);
    bool ok = p.rollout != NULL && p.plan != NULL && p.tried != NULL;
    hv_status status = ok ? make_plan(&p, error) : hvi_no_memory(error);
    hv_rollout_free(p.rollout);
    hv_ledger_free(p.ledger);
    free(p.tried);
    if (status != HV_OK) {
        hv_plan_free(p.plan);
        p.plan = NULL;
    }
    *plan = p.plan;
    return status;
}
