/*
 * index_build: build an index on all shards, and drop one, CONCURRENTLY.
 */
#include "schema/index_build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "schema/crew.h"
#include "schema/index_sql.h"
#include "schema/obstacle.h"
#include "schema/shard_sql.h"
#include "shard/shard_row.h"
#include "value/shard_map.h"
#include "value/sql_text.h"

/* CONCURRENTLY waits for other transactions, and blocks nobody meanwhile. */
#define DEFAULT_MAX_WAIT ((int64_t) 3600 * 1000)

/* How long the removal of what a failed build has left may wait for other transactions. */
#define CLEAN_UP_WAIT "2s"

/* How often the progress of builds is looked at, ms. */
#define PROGRESS_MS 500

/* How often a shard is looked at again, because another process has changed it meanwhile. */
#define MAX_LOOKS 5

/* All jobs of a call have this. */
typedef struct work {
    hv_index *index;  /* to be built; owned; NULL: one is to be dropped */
    const char *name; /* of either */
    const hv_rollout *rollout;
    struct shard_state {
        bool is_running;
        int builder;    /* the server's process that builds the index now; 0: none */
        char *waits;    /* what the build was last seen to wait for; owned */
        int64_t waited; /* for so long altogether, in us … */
        int64_t seen;   /* … and it did at this moment; 0: it did not */
        bool is_late;   /* so it was cancelled */
    } shards[HV_SHARDS];
} work;

typedef enum state { LOCK, LOOK, FUNCTIONS, BUILD, DROP, SEARCH, CALM, CLEAN_UP } state;

typedef struct index_job {
    hvi_job job;
    work *work; /* not owned */
    state state;
    bool is_pausing;
    bool has_functions;
    hv_error *cause; /* of a failure that is being cleaned up after; owned */
    hvi_obstacle obstacle;
    hvi_patience patience; /* while another process builds it */
    int looks;
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_buffer sql;
    const char *parameters[2];
} index_job;

/* ---- ends ---- */

static struct shard_state *shard_of(const index_job *j) {
    return &j->work->shards[j->job.shard];
}

static hvi_job_next end_with(index_job *j, hv_work result) {
    j->job.work = result;
    shard_of(j)->is_running = false;
    return HVI_JOB_END;
}

/* Takes *cause. */
static hvi_job_next fail_with(index_job *j, hv_error **cause) {
    hvi_error_move(&j->job.error, cause);
    return end_with(j, HV_WORK_FAILED);
}

static hvi_job_next fail_no_memory(index_job *j) {
    hvi_no_memory(&j->job.error);
    return end_with(j, HV_WORK_FAILED);
}

/* ---- requests ---- */

static const char *hstore_of(const hvi_session *session) {
    return session->hstore_schema[0] != '\0' ? session->hstore_schema : "public";
}

/* In ms; 0: no limit. */
static int64_t lock_timeout(const index_job *j) {
    return j->work->rollout->max_wait > 0 ? j->work->rollout->max_wait : 0;
}

static void append_drop(index_job *j) {
    hvi_buffer_append_format(&j->sql, "DROP INDEX CONCURRENTLY IF EXISTS %s.", j->schema);
    hvi_sql_name(&j->sql, j->work->name);
}

/* Ask for what the state needs. */
static hvi_job_next enter(index_job *j, state to, const hvi_session *session,
                          hvi_request *request) {
    j->state = to;
    hvi_buffer_reset(&j->sql);
    switch (to) {
    case LOCK:
        hvi_buffer_append_format(&j->sql,
                                 "SET lock_timeout TO %" PRId64 ";"
                                 "SET statement_timeout TO %d;",
                                 lock_timeout(j),
                                 hvi_shard_sql_limit(j->work->rollout->timeout, lock_timeout(j)));
        hvi_shard_sql_try_session_lock(&j->sql, j->job.shard);
        hvi_index_glance_sql(&j->sql, j->schema, j->work->name);
        break;
    case LOOK:
        hvi_buffer_append_text(&j->sql, hvi_index_look_sql);
        j->parameters[0] = j->schema;
        j->parameters[1] = j->work->name;
        request->parameter_count = 2;
        request->parameters = j->parameters;
        break;
    case FUNCTIONS:
        hvi_index_functions_script(&j->sql, j->work->index);
        break;
    case BUILD:
        shard_of(j)->builder = PQbackendPID(session->conn);
        hvi_index_create_sql(&j->sql, j->work->index, j->schema, hstore_of(session));
        break;
    case CALM:
        hvi_buffer_append_text(&j->sql, "SET statement_timeout TO 0;"
                                        "SET lock_timeout TO '" CLEAN_UP_WAIT "'");
        break;
    case DROP:
    case CLEAN_UP:
        append_drop(j);
        break;
    case SEARCH:
        break;
    }
    if (!hvi_buffer_ok(&j->sql))
        return fail_no_memory(j);
    request->sql = j->sql.data;
    return HVI_JOB_RUN;
}

/* ---- failures ---- */

/* It has waited for other transactions as long as it may. Takes *cause. */
static void word_wait(index_job *j, hv_error **cause) {
    const char *waits = shard_of(j)->waits;
    hv_error *refusal = *cause;
    *cause = NULL;
    hvi_fail(cause, HV_TIMEOUT,
             "other transactions have kept the index \"%s\" from being %s for "
             "%.1f s",
             hvi_utf8_excerpt(j->work->name, strlen(j->work->name)).text,
             j->work->index != NULL ? "built" : "dropped", (double) lock_timeout(j) / 1000);
    if (waits != NULL)
        hvi_error_detail(cause, "At last, %s.", waits);
    hvi_error_hint(cause, "The option \"max_wait\" says how long to wait.");
    hvi_error_sqlstate(cause, hv_error_sqlstate(refusal));
    hv_error_free(refusal);
}

/* The build has failed for a reason that will not go away by itself: find out more, and remove what
 * it has left. Takes *cause. */
static hvi_job_next give_up(index_job *j, hv_error **cause, const hvi_session *session,
                            hvi_request *request) {
    const char *sqlstate = hv_error_sqlstate(*cause);
    hv_error_free(j->cause);
    j->cause = *cause;
    *cause = NULL;
    hvi_buffer_reset(&j->sql);
    if (sqlstate == NULL ||
        !hvi_index_search_script(&j->sql, j->work->index, sqlstate, j->schema, hstore_of(session)))
        return enter(j, CALM, session, request);
    if (!hvi_buffer_ok(&j->sql))
        return fail_no_memory(j);
    j->state = SEARCH;
    request->sql = j->sql.data;
    return HVI_JOB_RUN;
}

/* Add what was found to the failure. */
static void word_search(index_job *j, const char *found) {
    const char *detail = hv_error_detail(j->cause);
    char *before = detail != NULL ? strdup(detail) : NULL;
    if (before != NULL)
        hvi_error_detail(&j->cause, "%s %s", before, found);
    else
        hvi_error_detail(&j->cause, "%s", found);
    free(before);
    hvi_error_hint(&j->cause, "`hv get KEY` shows an entity.");
}

static hvi_job_next fail_at_last(index_job *j, bool is_left) {
    if (is_left)
        hvi_error_hint(&j->cause,
                       "An index that is not valid is left in %s, and costs writers time. The next "
                       "run removes it.",
                       j->schema);
    return fail_with(j, &j->cause);
}

/* ---- what a shard has ---- */

static const char *word_of(const char *kind) {
    static const struct {
        char kind;
        const char *word;
    } words[] = {{'i', "an index"},
                 {'r', "a table"},
                 {'S', "a sequence"},
                 {'v', "a view"},
                 {'m', "a materialized view"},
                 {'c', "a type"},
                 {'f', "a foreign table"},
                 {'p', "a table"},
                 {'I', "an index"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].kind == kind[0])
            return words[i].word;
    return "another object";
}

static hvi_excerpt name_of(const index_job *j) {
    return hvi_utf8_excerpt(j->work->name, strlen(j->work->name));
}

static hvi_job_next fail_taken(index_job *j, const hvi_index_found *found) {
    hvi_fail(&j->job.error, HV_MISMATCH, "the name \"%s\" is that of %s%s in %s", name_of(j).text,
             word_of(found->kind), found->kind[0] == 'i' ? " of another table" : "", j->schema);
    hvi_error_hint(&j->job.error, "Choose another name.");
    return end_with(j, HV_WORK_FAILED);
}

/* Is it the index that is wanted? Sets *wanted to its definition, as the server would print it. */
static bool is_as_wanted(const index_job *j, const hvi_index_found *found,
                         const hvi_session *session, hvi_buffer *wanted) {
    hvi_index_definition(wanted, j->work->index, found->name, j->schema, hstore_of(session));
    return hvi_buffer_ok(wanted) && found->definition != NULL &&
           strcmp(wanted->data, found->definition) == 0;
}

static hvi_job_next see_valid(index_job *j, const hvi_index_found *found,
                              const hvi_session *session) {
    hvi_buffer wanted = HVI_BUFFER_EMPTY;
    bool is_same = is_as_wanted(j, found, session, &wanted);
    hvi_job_next next = HVI_JOB_END;
    if (!hvi_buffer_ok(&wanted)) {
        next = fail_no_memory(j);
    } else if (is_same) {
        next = end_with(j, HV_WORK_UNCHANGED);
    } else {
        hvi_fail(&j->job.error, HV_MISMATCH, "%s has another index \"%s\"", j->schema,
                 name_of(j).text);
        hvi_error_detail(&j->job.error, "It is: %s. Wanted is: %s.", found->definition,
                         wanted.data);
        hvi_error_hint(&j->job.error, "Choose another name, or drop that index.");
        end_with(j, HV_WORK_FAILED);
    }
    hvi_buffer_fini(&wanted);
    return next;
}

/* Another process, not a run of ours, builds it just now: wait. */
static hvi_job_next wait_for_builder(index_job *j, const hvi_index_found *found,
                                     hvi_request *request) {
    j->state = LOOK;
    if (!hvi_patience_pause(&j->patience, j->work->rollout->max_wait, request)) {
        hvi_fail(&j->job.error, HV_TIMEOUT, "another process is building the index \"%s\" in %s",
                 name_of(j).text, j->schema);
        hvi_error_detail(&j->job.error, "At last, %s.", found->builder);
        return end_with(j, HV_WORK_FAILED);
    }
    hvi_job_report(&j->job, "building", found->builder, -1);
    j->is_pausing = true;
    return HVI_JOB_PAUSE;
}

static hvi_job_next build(index_job *j, const hvi_session *session, hvi_request *request) {
    bool needs_functions = hvi_index_function_at(j->work->index, 0) != NULL;
    return enter(j, needs_functions && !j->has_functions ? FUNCTIONS : BUILD, session, request);
}

/* The decision about an index that is to be built. */
static hvi_job_next see_for_build(index_job *j, const hvi_index_found *found,
                                  const hvi_session *session, hvi_request *request) {
    if (found->kind == NULL)
        return build(j, session, request);
    if (!found->is_ours)
        return fail_taken(j, found);
    if (found->is_valid)
        return see_valid(j, found, session);
    if (found->builder != NULL)
        return wait_for_builder(j, found, request);
    return enter(j, DROP, session, request);
}

static hvi_job_next see_for_drop(index_job *j, const hvi_index_found *found,
                                 const hvi_session *session, hvi_request *request) {
    if (found->kind == NULL)
        return end_with(j, HV_WORK_UNCHANGED);
    if (!found->is_ours)
        hvi_fail(&j->job.error, HV_INVALID, "\"%s\" is %s%s in %s", name_of(j).text,
                 word_of(found->kind), found->kind[0] == 'i' ? " of another table" : "", j->schema);
    else if (found->is_of_constraint)
        hvi_fail(&j->job.error, HV_INVALID, "a constraint of %s.entities needs the index \"%s\"",
                 j->schema, name_of(j).text);
    else
        return enter(j, DROP, session, request);
    return end_with(j, HV_WORK_FAILED);
}

/* After a failure: is there something to be removed? */
static hvi_job_next see_for_clean_up(index_job *j, const hvi_index_found *found,
                                     const hvi_session *session, hvi_request *request) {
    if (found->kind == NULL || !found->is_ours || found->is_valid || found->builder != NULL)
        return fail_at_last(j, false);
    return enter(j, CLEAN_UP, session, request);
}

static hvi_job_next look_answered(index_job *j, const hvi_session *session, hvi_answer *answer,
                                  hvi_request *request) {
    const char *server = session->config->server;
    hv_status status =
        hvi_result_check(answer->result, &hvi_index_look_form, server, j->job.shard, &j->job.error);
    if (status != HV_OK)
        return end_with(j, HV_WORK_FAILED);
    hvi_index_found found = hvi_index_found_of(answer->result);
    if (j->cause != NULL)
        return see_for_clean_up(j, &found, session, request);
    if (!found.has_table) {
        hvi_fail_not_initialized(server, j->job.shard, &j->job.error);
        return end_with(j, HV_WORK_FAILED);
    }
    if (found.builder == NULL && ++j->looks > MAX_LOOKS) {
        hvi_fail(&j->job.error, HV_REFUSED, "another process changes the index \"%s\" in %s",
                 name_of(j).text, j->schema);
        return end_with(j, HV_WORK_FAILED);
    }
    return j->work->index != NULL ? see_for_build(j, &found, session, request)
                                  : see_for_drop(j, &found, session, request);
}

/* ---- answers ---- */

/* A statement of this state was refused. */
static hvi_job_next refused(index_job *j, hvi_session *session, hvi_answer *answer,
                            hvi_request *request) {
    hv_error **cause = &answer->error;
    if (j->state == CALM || j->state == CLEAN_UP)
        return fail_at_last(j, j->state == CLEAN_UP);
    if (j->state == SEARCH)
        return enter(j, CALM, session, request);
    if (j->cause != NULL)
        return fail_at_last(j, false);
    if (hvi_error_has_sqlstate(*cause, "40P01")) /* what is left is found and removed */
        return hvi_obstacle_meet(&j->obstacle, &j->job, session, answer, request);
    if (j->state == BUILD && hvi_error_has_sqlstate(*cause, "42P07"))
        return enter(j, LOOK, session, request);
    if (hvi_error_has_sqlstate(*cause, "55P03") ||
        (shard_of(j)->is_late && hvi_error_has_sqlstate(*cause, "57014")))
        word_wait(j, cause);
    return j->state == BUILD ? give_up(j, cause, session, request) : fail_with(j, cause);
}

static hvi_job_next functions_answered(index_job *j, const hvi_session *session, hvi_answer *answer,
                                       hvi_request *request) {
    if (hvi_result_check(answer->result, &hvi_index_functions_form, session->config->server,
                         j->job.shard, &j->job.error) != HV_OK)
        return end_with(j, HV_WORK_FAILED);
    const char *name = hvi_text_at(answer->result, 0, 0);
    if (name != NULL) {
        hvi_fail(&j->job.error, HV_MISMATCH,
                 "the function hypervault.%s() is not the one that the index needs", name);
        hvi_error_detail(&j->job.error, "Another role has made it, or it was altered.");
        hvi_error_hint(&j->job.error, "The schema hypervault belongs to hypervault: rename the "
                                      "other one.");
        return end_with(j, HV_WORK_FAILED);
    }
    j->has_functions = true;
    return enter(j, BUILD, session, request);
}

static hvi_job_next search_answered(index_job *j, const hvi_session *session, hvi_answer *answer,
                                    hvi_request *request) {
    if (hvi_result_check(answer->result, &hvi_index_search_form, session->config->server,
                         j->job.shard, NULL) == HV_OK &&
        PQntuples(answer->result) == 1 && hvi_text_at(answer->result, 0, 0) != NULL)
        word_search(j, hvi_text_at(answer->result, 0, 0));
    return enter(j, CALM, session, request);
}

/* The most frequent case needs no closer look: there is nothing of that name. */
static hvi_job_next lock_answered(index_job *j, hvi_session *session, hvi_answer *answer,
                                  hvi_request *request) {
    static const hvi_index_found nothing = {.has_table = true};
    if (hvi_result_check(answer->result, &hvi_index_glance_form, session->config->server,
                         j->job.shard, &j->job.error) != HV_OK)
        return end_with(j, HV_WORK_FAILED);
    bool has_lock = hvi_bool_at(answer->result, 0, 0);
    bool has_table = hvi_bool_at(answer->result, 0, 1);
    bool has_name = hvi_bool_at(answer->result, 0, 2);
    if (!has_lock)
        return hvi_obstacle_meet(&j->obstacle, &j->job, session, answer, request);
    if (!has_table || has_name)
        return enter(j, LOOK, session, request);
    return j->work->index != NULL ? see_for_build(j, &nothing, session, request)
                                  : see_for_drop(j, &nothing, session, request);
}

/* A statement of this state has succeeded. */
static hvi_job_next answered(index_job *j, hvi_session *session, hvi_answer *answer,
                             hvi_request *request) {
    switch (j->state) {
    case LOCK:
        return lock_answered(j, session, answer, request);
    case LOOK:
        return look_answered(j, session, answer, request);
    case FUNCTIONS:
        return functions_answered(j, session, answer, request);
    case BUILD: /* without IF NOT EXISTS: it is this one, and valid */
        return end_with(j, HV_WORK_DONE);
    case DROP:
        return j->work->index != NULL ? build(j, session, request) : end_with(j, HV_WORK_DONE);
    case SEARCH:
        return search_answered(j, session, answer, request);
    case CALM:
        return enter(j, LOOK, session, request);
    case CLEAN_UP:
        break;
    }
    return fail_at_last(j, false);
}

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    index_job *j = (index_job *) job;
    shard_of(j)->is_running = true;
    shard_of(j)->builder = 0;
    if (answer == NULL) {
        state at = j->is_pausing ? j->state : LOCK;
        j->is_pausing = j->obstacle.is_asking = false;
        return enter(j, at, session, request);
    }
    if (j->obstacle.is_asking) {
        hvi_job_next next = hvi_obstacle_answered(&j->obstacle, job, "waiting for its turn",
                                                  j->work->rollout->max_wait, answer, request);
        j->is_pausing = next == HVI_JOB_PAUSE;
        j->state = j->state == LOCK ? LOCK : LOOK;
        j->looks = 0;
        shard_of(j)->is_running = next != HVI_JOB_END;
        return next;
    }
    if (answer->status == HV_OK)
        return answered(j, session, answer, request);
    if (answer->status == HV_REFUSED)
        return refused(j, session, answer, request);
    if (j->cause != NULL) /* nothing is gained by more tries to clean up */
        return fail_at_last(j, j->state == CLEAN_UP);
    return answer->status == HV_NO_MEMORY ? fail_no_memory(j) : HVI_JOB_AFRESH;
}

static void free_index_job(hvi_job *job) {
    index_job *j = (index_job *) job;
    hvi_obstacle_fini(&j->obstacle);
    hvi_buffer_fini(&j->sql);
    hv_error_free(j->cause);
    free(j);
}

/* ---- watching ---- */

typedef struct watch {
    hvi_job job;
    work *work; /* not owned */
    hvi_buffer sql;
} watch;

/* What a build waits for is kept for its error, if that is all it comes to. */
static void note_wait(struct shard_state *shard, const char *waits) {
    int64_t now = hvi_clock_us();
    char *copy = waits != NULL ? strdup(waits) : NULL;
    if (copy != NULL) {
        free(shard->waits);
        shard->waits = copy;
    }
    if (waits != NULL && shard->seen > 0)
        shard->waited += now - shard->seen;
    shard->seen = waits != NULL ? now : 0;
}

/* A build waits for one transaction after the other, and lock_timeout counts for each of them anew:
 * cancel one that has waited for too long altogether. */
static void cancel_late(watch *self, int shard, int pid) {
    struct shard_state *of = &self->work->shards[shard];
    int64_t max_wait = self->work->rollout->max_wait;
    char schema[HVI_SCHEMA_NAME_LEN];
    if (max_wait <= 0 || of->waited < max_wait * 1000 || of->builder != pid)
        return;
    of->is_late = true;
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(&self->sql,
                             "SELECT pg_catalog.pg_cancel_backend(p.pid)"
                             " FROM pg_catalog.pg_stat_progress_create_index p"
                             " WHERE p.pid OPERATOR(pg_catalog.=) %d"
                             " AND p.relid OPERATOR(pg_catalog.=)"
                             " pg_catalog.to_regclass('%s.entities')::pg_catalog.oid"
                             " AND pg_catalog.strpos(p.phase, 'waiting') OPERATOR(pg_catalog.=) 1;",
                             pid, schema);
}

static void note_row(watch *self, const PGresult *result, int row) {
    int shard = (int) hvi_integer_at(result, row, 0);
    const char *waits = hvi_text_at(result, row, 3);
    bool has_share = !PQgetisnull(result, row, 2);
    if (!self->work->shards[shard].is_running)
        return;
    note_wait(&self->work->shards[shard], waits);
    cancel_late(self, shard, (int) hvi_integer_at(result, row, 4));
    hvi_job_report_shard(&self->job, shard, hvi_text_at(result, row, 1), waits,
                         has_share ? (double) hvi_integer_at(result, row, 2) / 1000 : -1);
}

static hvi_job_next watch_step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                               hvi_request *request) {
    watch *self = (watch *) job;
    job->work = HV_WORK_DONE;
    if (!hvi_crew_is_busy(job->crew, job->server))
        return HVI_JOB_END;
    if (answer == NULL) {
        hvi_buffer_append_text(&self->sql, hvi_index_progress_sql);
        request->sql = self->sql.data;
        return hvi_buffer_ok(&self->sql) ? HVI_JOB_RUN : HVI_JOB_END;
    }
    hvi_buffer_reset(&self->sql);
    if (answer->status != HV_OK || hvi_result_check(answer->result, &hvi_index_progress_form,
                                                    session->config->server, -1, NULL) != HV_OK)
        return HVI_JOB_END; /* the jobs will find out */
    for (int row = 0; row < PQntuples(answer->result); row++)
        note_row(self, answer->result, row);
    request->pause = PROGRESS_MS;
    return HVI_JOB_PAUSE;
}

static void free_watch(hvi_job *job) {
    watch *self = (watch *) job;
    hvi_buffer_fini(&self->sql);
    free(self);
}

/* ---- all shards ---- */

static hv_status add_job(hvi_crew *crew, work *w, int server, int shard, hv_error **error) {
    index_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return hvi_no_memory(error);
    j->job = (hvi_job){.server = server, .shard = shard, .step = step, .free = free_index_job};
    j->work = w;
    hvi_schema_name(shard, j->schema);
    hvi_crew_add(crew, &j->job);
    return HV_OK;
}

static hv_status add_watch(hvi_crew *crew, work *w, int server, hv_error **error) {
    watch *self = calloc(1, sizeof *self);
    if (self == NULL)
        return hvi_no_memory(error);
    self->job = (hvi_job){.server = server, .shard = -1, .is_companion = true};
    self->job.step = watch_step;
    self->job.free = free_watch;
    self->work = w;
    hvi_crew_add(crew, &self->job);
    return HV_OK;
}

static hv_status add_jobs(hvi_crew *crew, work *w, hvi_router *router, const int *shards, int count,
                          hv_error **error) {
    hv_status status = HV_OK;
    for (int i = 0; status == HV_OK && i < count; i++)
        status = add_job(crew, w, hvi_router_holder(router, shards[i]), shards[i], error);
    for (int i = 0; status == HV_OK && i < router->server_count; i++)
        if (hvi_crew_is_busy(crew, i)) /* it has jobs */
            status = add_watch(crew, w, i, error);
    return status;
}

static hv_status run(hvi_router *router, work *w, hv_summary **summary, hv_error **error) {
    hvi_crew *crew = NULL;
    int *shards = NULL, count = 0;
    hv_status status = hvi_rollout_refuse_each(w->rollout, error);
    if (status == HV_OK)
        status = hvi_rollout_shards_to_change(w->rollout, router, &shards, &count, error);
    if (status == HV_OK)
        status = hvi_crew_new(router, w->rollout, &crew, error);
    if (status == HV_OK)
        status = add_jobs(crew, w, router, shards, count, error);
    if (status == HV_OK) {
        status = hvi_crew_run(crew, NULL, NULL, error);
        if (summary != NULL && hvi_crew_summary(crew, summary, NULL) != HV_OK && status == HV_OK)
            status = hvi_no_memory(error);
    }
    hvi_crew_free(crew);
    free(shards);
    return status;
}

/* Run with a copy of the rollout, with the defaults of this work. */
static hv_status run_all(hvi_router *router, work *w, const hv_rollout *rollout,
                         hv_summary **summary, hv_error **error) {
    hv_rollout *copy = hvi_rollout_copy(rollout);
    if (copy == NULL)
        return hvi_no_memory(error);
    if (copy->max_wait == 0)
        copy->max_wait = DEFAULT_MAX_WAIT;
    w->rollout = copy;
    hv_status status = run(router, w, summary, error);
    for (int i = 0; i < HV_SHARDS; i++)
        free(w->shards[i].waits);
    hv_rollout_free(copy);
    return status;
}

hv_status hvi_index_create(hvi_router *router, const hv_index *index, const hv_rollout *rollout,
                           hv_summary **summary, hv_error **error) {
    hv_status status = hvi_index_check(index, error);
    if (status != HV_OK)
        return status;
    work *w = calloc(1, sizeof *w);
    if (w != NULL)
        w->index = hvi_index_copy(index);
    if (w != NULL && w->index != NULL)
        w->name = hv_index_chosen_name(w->index);
    if (w == NULL || w->name == NULL)
        status = hvi_no_memory(error);
    else
        status = run_all(router, w, rollout, summary, error);
    if (w != NULL)
        hv_index_free(w->index);
    free(w);
    return status;
}

hv_status hvi_index_drop(hvi_router *router, const char *name, const hv_rollout *rollout,
                         hv_summary **summary, hv_error **error) {
    hv_status status = hvi_index_check_name(name, error);
    if (status != HV_OK)
        return status;
    work *w = calloc(1, sizeof *w);
    if (w == NULL)
        return hvi_no_memory(error);
    w->name = name;
    status = run_all(router, w, rollout, summary, error);
    free(w);
    return status;
}
