/*
 * check: compare the schemas of all shards, and group those that are alike.
 *
 * A job reads up to PORTION shards of a server with one statement. Only one description of each
 * group is kept.
 */
#include "schema/check.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/shard_ranges.h"
#include "schema/catalogue.h"
#include "schema/crew.h"
#include "schema/differences.h"
#include "shard/shard_row.h"

#define PORTION 64

/* How often a portion is read again: an object that is dropped meanwhile may make the statement
 * fail. */
#define MAX_TRIES 3

typedef struct group {
    hv_schema_group public; /* its texts are owned */
    char digest[HVI_SHA256_LEN];
    int *shards; /* owned */
    size_t room;
    char *description, *differences, *ranges; /* owned */
} group;

typedef struct failure {
    int server;
    int shard;
    hv_error *error; /* owned */
} failure;

struct hv_schema_report {
    group *groups; /* owned, as the next */
    size_t group_count;
    failure *failures;
    size_t failure_count;
};

/* ---- the report ---- */

void hv_schema_report_free(hv_schema_report *report) {
    if (report == NULL)
        return;
    for (size_t i = 0; i < report->group_count; i++) {
        free(report->groups[i].shards);
        free(report->groups[i].description);
        free(report->groups[i].differences);
        free(report->groups[i].ranges);
    }
    for (size_t i = 0; i < report->failure_count; i++)
        hv_error_free(report->failures[i].error);
    free(report->groups);
    free(report->failures);
    free(report);
}

const hv_schema_group *hv_schema_report_group(const hv_schema_report *report, size_t index) {
    return index < report->group_count ? &report->groups[index].public : NULL;
}

bool hv_schema_report_failure(const hv_schema_report *report, size_t index, int *server, int *shard,
                              const hv_error **error) {
    if (index >= report->failure_count)
        return false;
    if (server != NULL)
        *server = report->failures[index].server;
    if (shard != NULL)
        *shard = report->failures[index].shard;
    if (error != NULL)
        *error = report->failures[index].error;
    return true;
}

static bool add_shard(group *to, int shard) {
    if (to->public.count == to->room) {
        size_t room = to->room > 0 ? 2 * to->room : 16;
        int *shards = realloc(to->shards, room * sizeof *shards);
        if (shards == NULL)
            return false;
        to->shards = shards;
        to->room = room;
    }
    to->shards[to->public.count++] = shard;
    return true;
}

/* Add a shard with this description to its group. */
static bool add_description(hv_schema_report *report, int shard, const hvi_buffer *description) {
    char digest[HVI_SHA256_LEN];
    hvi_sha256(description->data, description->len, digest);
    for (size_t i = 0; i < report->group_count; i++)
        if (strcmp(report->groups[i].digest, digest) == 0)
            return add_shard(&report->groups[i], shard);
    group *more = realloc(report->groups, (report->group_count + 1) * sizeof *more);
    if (more == NULL)
        return false;
    report->groups = more;
    group *made = &more[report->group_count++];
    *made = (group){.description = strdup(description->data)};
    strcpy(made->digest, digest);
    return made->description != NULL && add_shard(made, shard);
}

/* Takes *cause. */
static bool add_failure(hv_schema_report *report, int server, int shard, hv_error **cause) {
    failure *more = realloc(report->failures, (report->failure_count + 1) * sizeof *more);
    if (more == NULL)
        return false;
    report->failures = more;
    more[report->failure_count++] = (failure){server, shard, *cause};
    *cause = NULL;
    return true;
}

static int compare_numbers(const void *left, const void *right) {
    return *(const int *) left - *(const int *) right;
}

/* The largest group first; of several, the one with the lowest shard. */
static int compare_groups(const void *left, const void *right) {
    const group *a = left, *b = right;
    if (a->public.count != b->public.count)
        return a->public.count > b->public.count ? -1 : 1;
    return a->shards[0] - b->shards[0];
}

static int compare_failures(const void *left, const void *right) {
    const failure *a = left, *b = right;
    return a->shard - b->shard;
}

static bool write_texts(group *one, const group *largest) {
    hvi_buffer differences = HVI_BUFFER_EMPTY, ranges = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &ranges};
    for (size_t i = 0; i < one->public.count; i++)
        hvi_shard_writer_add(&writer, one->shards[i]);
    hvi_shard_writer_end(&writer);
    hvi_differences(&differences, largest->description, one->description);
    one->ranges = hvi_buffer_take(&ranges);
    one->differences = hvi_buffer_take(&differences);
    one->public.shards = one->ranges;
    one->public.digest = one->digest;
    one->public.description = one->description;
    one->public.differences = one->differences;
    return one->ranges != NULL && one->differences != NULL;
}

/* Put everything in order, and compare the groups. */
static hv_status finish(hv_schema_report *report, hv_error **error) {
    bool ok = true;
    for (size_t i = 0; i < report->group_count; i++)
        qsort(report->groups[i].shards, report->groups[i].public.count, sizeof(int),
              compare_numbers);
    if (report->group_count > 0)
        qsort(report->groups, report->group_count, sizeof(group), compare_groups);
    if (report->failure_count > 0)
        qsort(report->failures, report->failure_count, sizeof(failure), compare_failures);
    for (size_t i = 0; ok && i < report->group_count; i++)
        ok = write_texts(&report->groups[i], &report->groups[0]);
    return ok ? HV_OK : hvi_no_memory(error);
}

/* ---- the jobs ---- */

typedef struct reading {
    hvi_job job;
    hv_schema_report *report; /* not owned */
    int shards[PORTION];      /* in ascending order */
    size_t count;
    size_t at;  /* the first that is not yet read … */
    size_t now; /* … of so many with one statement; 1 after one for all was refused */
    int tries;
    hvi_buffer parameter;
    const char *parameters[1];
} reading;

static hvi_job_next end_with(reading *r, hv_error **cause) {
    r->job.work = HV_WORK_FAILED;
    r->job.error = *cause;
    *cause = NULL;
    return HVI_JOB_END;
}

static hvi_job_next ask(reading *r, hvi_request *request) {
    hv_error *cause = NULL;
    if (r->at == r->count) {
        r->job.work = HV_WORK_DONE;
        return HVI_JOB_END;
    }
    hvi_buffer_reset(&r->parameter);
    hvi_catalogue_parameter(&r->parameter, r->shards + r->at, r->now);
    if (!hvi_buffer_ok(&r->parameter)) {
        hvi_no_memory(&cause);
        return end_with(r, &cause);
    }
    r->parameters[0] = r->parameter.data;
    request->sql = hvi_catalogue_sql;
    request->parameter_count = 1;
    request->parameters = r->parameters;
    return HVI_JOB_RUN;
}

/* Take what was read. */
static bool take(reading *r, const PGresult *result, const char *server) {
    hvi_buffer description = HVI_BUFFER_EMPTY;
    bool ok = true;
    for (size_t end = r->at + r->now; ok && r->at < end; r->at++) {
        int shard = r->shards[r->at];
        hv_error *cause = NULL;
        hvi_buffer_reset(&description);
        hvi_catalogue_describe(result, shard, &description);
        ok = hvi_buffer_ok(&description);
        if (ok && description.len > 0) {
            ok = add_description(r->report, shard, &description);
        } else if (ok) {
            hvi_fail_not_initialized(server, shard, &cause);
            ok = add_failure(r->report, r->job.server, shard, &cause);
        }
        hv_error_free(cause);
    }
    hvi_buffer_fini(&description);
    r->tries = 0;
    return ok;
}

/* The statement was refused: try again, then shard by shard, then leave the shard out. */
static hvi_job_next retry(reading *r, hv_error **cause, hvi_request *request) {
    if (++r->tries < MAX_TRIES)
        return ask(r, request);
    r->tries = 0;
    if (r->now > 1) {
        r->now = 1;
        return ask(r, request);
    }
    hvi_error_where(cause, NULL, r->shards[r->at]);
    if (!add_failure(r->report, r->job.server, r->shards[r->at], cause))
        return end_with(r, cause);
    r->at++;
    return ask(r, request);
}

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    reading *r = (reading *) job;
    hv_error *cause = NULL;
    if (answer == NULL) {
        if (r->now == 0)
            r->now = r->count;
        return ask(r, request);
    }
    if (answer->status == HV_REFUSED)
        return retry(r, &answer->error, request);
    if (answer->status == HV_UNAVAILABLE)
        return HVI_JOB_AFRESH;
    if (answer->status != HV_OK)
        return end_with(r, &answer->error);
    if (hvi_catalogue_check(answer->result, session->config->server, &cause) != HV_OK)
        return end_with(r, &cause);
    if (!take(r, answer->result, session->config->server)) {
        hvi_no_memory(&cause);
        return end_with(r, &cause);
    }
    return ask(r, request);
}

static void free_reading(hvi_job *job) {
    reading *r = (reading *) job;
    hvi_buffer_fini(&r->parameter);
    free(r);
}

/* ---- all of it ---- */

/* A portion could not be read: its shards that were not read yet are failures, with its error. */
static hv_status note_failure(hv_schema_report *report, const hvi_job *job, hv_error **error) {
    const reading *r = (const reading *) job;
    bool ok = true;
    for (size_t i = r->at; ok && job->work != HV_WORK_DONE && i < r->count; i++) {
        hv_error *cause = hvi_error_copy(job->error);
        hvi_error_where(&cause, NULL, r->shards[i]);
        ok = add_failure(report, job->server, r->shards[i], &cause);
        hv_error_free(cause);
    }
    return ok ? HV_OK : hvi_no_memory(error);
}

static void add_reading(hvi_crew *crew, reading *r, int server, hv_schema_report *report) {
    r->report = report;
    r->job = (hvi_job){
        .server = server, .shard = -1, .is_reading = true, .step = step, .free = free_reading};
    hvi_crew_add(crew, &r->job);
}

/* Add the shards of one server, in portions. */
static hv_status add_server(hvi_crew *crew, const hvi_router *router, int server, const int *shards,
                            int count, hv_schema_report *report, hv_error **error) {
    reading *r = NULL;
    for (int i = 0; i < count; i++) {
        if (hvi_router_holder(router, shards[i]) != server)
            continue;
        if (r == NULL && (r = calloc(1, sizeof *r)) == NULL)
            return hvi_no_memory(error);
        r->shards[r->count++] = shards[i];
        if (r->count == PORTION) {
            add_reading(crew, r, server, report);
            r = NULL;
        }
    }
    if (r != NULL)
        add_reading(crew, r, server, report);
    return HV_OK;
}

/* Failures are in the report, so that the rest is read whatever fails; and there is nothing that a
 * canary would protect. */
static hv_rollout *make_rollout(const hv_rollout *rollout) {
    hv_rollout *copy = hvi_rollout_copy(rollout);
    if (copy != NULL) {
        copy->canary = false;
        copy->max_failures = INT_MAX;
    }
    return copy;
}

static hv_status read_all(hvi_router *router, const hv_rollout *rollout, hv_schema_report *report,
                          hv_error **error) {
    hvi_crew *crew = NULL;
    hvi_job *job;
    int *shards = NULL, count = 0;
    hv_status status = hvi_rollout_shards(rollout, router, &shards, &count, error);
    if (status == HV_OK)
        status = hvi_crew_new(router, rollout, &crew, error);
    for (int i = 0; status == HV_OK && i < router->server_count; i++)
        status = add_server(crew, router, i, shards, count, report, error);
    while (status == HV_OK && (status = hvi_crew_next(crew, &job, error)) == HV_OK && job != NULL)
        status = note_failure(report, job, error);
    hvi_crew_free(crew);
    free(shards);
    return status;
}

hv_status hvi_schema_check(hvi_router *router, const hv_rollout *rollout, hv_schema_report **report,
                           hv_error **error) {
    hv_rollout *copy = make_rollout(rollout);
    hv_schema_report *made = calloc(1, sizeof *made);
    hv_status status = copy != NULL && made != NULL ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_rollout_refuse_each(copy, error);
    if (status == HV_OK)
        status = read_all(router, copy, made, error);
    if (status == HV_OK)
        status = finish(made, error);
    hv_rollout_free(copy);
    if (status != HV_OK) {
        hv_schema_report_free(made);
        return status;
    }
    *report = made;
    return HV_OK;
}
