/*
 * crew_jobs: the jobs of a crew: which may begin, and what has become of them.
 */
#include "schema/crew_jobs.h"

#include <stdlib.h>

/* ---- before they begin ---- */

/* Room for the outcome of one more job. */
static bool make_entry(hvi_crew *crew, hvi_job *job) {
    if (crew->count == crew->room) {
        size_t room = crew->room > 0 ? 2 * crew->room : 64;
        hvi_summary_entry *more = realloc(crew->entries, room * sizeof *more);
        if (more == NULL)
            return false;
        crew->entries = more;
        crew->room = room;
    }
    job->number = crew->count;
    crew->entries[crew->count++] = (hvi_summary_entry){.server = job->server, .shard = job->shard};
    return true;
}

void hvi_crew_add_job(hvi_crew *crew, hvi_job *job) {
    hvi_team *t = &crew->teams[job->server];
    job->crew = crew;
    job->rollout = crew->rollout;
    job->tries = 0;
    if (job->is_companion) {
        hvi_list_push_back(&t->companions, &job->link);
    } else if (make_entry(crew, job)) {
        hvi_list_push_back(&t->waiting, &job->link);
    } else {
        crew->no_memory = true;
        hvi_job_free(job);
    }
}

int hvi_team_busy(const hvi_team *t) {
    int count = 0;
    for (int i = 0; i < t->worker_count; i++)
        count += hvi_worker_has_job(&t->workers[i]);
    return count;
}

int hvi_crew_busy(const hvi_crew *crew) {
    int count = 0;
    for (int i = 0; i < crew->router->server_count; i++)
        count += hvi_team_busy(&crew->teams[i]);
    return count;
}

bool hvi_team_is_busy(const hvi_crew *crew, const hvi_team *t) {
    return hvi_team_busy(t) > 0 || (!crew->stopped && !hvi_list_empty(&t->waiting));
}

/* The job that comes first of all, or NULL. */
static hvi_job *first_of_all(hvi_crew *crew) {
    hvi_job *first = NULL;
    for (int i = 0; i < crew->router->server_count; i++) {
        hvi_list *waiting = &crew->teams[i].waiting;
        if (!hvi_list_empty(waiting) &&
            (first == NULL || hvi_job_of(waiting->next)->number < first->number))
            first = hvi_job_of(waiting->next);
    }
    return first;
}

/* Answers that nobody has taken yet count as jobs, so that few are held in memory. */
hvi_job *hvi_crew_next_job(hvi_crew *crew, hvi_team *t) {
    if (crew->stopped || t->recovering > 0 || hvi_list_empty(&t->waiting))
        return NULL;
    int busy = hvi_crew_busy(crew);
    hvi_job *job = hvi_job_of(t->waiting.next);
    if (!crew->proven)
        return busy == 0 && job == first_of_all(crew) ? job : NULL;
    return busy + crew->finished_count < crew->rollout->parallel_total ? job : NULL;
}

/* ---- their end ---- */

hvi_job *hvi_worker_take_job(hvi_team *t, hvi_worker *worker) {
    hvi_job *job = worker->job;
    if (!worker->has_begun && job->tries > 0)
        t->recovering--;
    worker->job = NULL;
    worker->pause_end = 0;
    worker->has_begun = worker->is_cancelled = false;
    return job;
}

/* What the end of a job means for the others. */
static void judge(hvi_crew *crew, const hvi_job *job) {
    if (job->work == HV_WORK_FAILED) {
        if (crew->failures++ == 0)
            crew->first_failure = hvi_error_copy(job->error);
        if (!crew->proven || crew->failures > crew->rollout->max_failures)
            crew->stopped = true;
    } else if (job->work == HV_WORK_DONE) {
        crew->proven = true;
    } /* otherwise the job that comes next is the canary */
}

void hvi_crew_end_job(hvi_crew *crew, hvi_job *job) {
    if (job->is_companion) {
        hvi_job_free(job);
        return;
    }
    if (job->work == HV_WORK_FAILED && job->error == NULL)
        hvi_fail(&job->error, HV_NO_MEMORY, "out of memory");
    hvi_error_where(&job->error, crew->teams[job->server].server->name, job->shard);
    hvi_summary_entry *entry = &crew->entries[job->number];
    entry->work = job->work;
    entry->error = hvi_error_copy(job->error);
    judge(crew, job);
    hvi_job_observe(job, job->work);
    hvi_list_push_back(&crew->finished, &job->link);
    crew->finished_count++;
}

void hvi_crew_fail_job(hvi_crew *crew, hvi_job *job, hv_error **cause) {
    job->work = HV_WORK_FAILED;
    if (job->error == NULL) {
        job->error = *cause;
        *cause = NULL;
    }
    hv_error_free(*cause);
    *cause = NULL;
    hvi_crew_end_job(crew, job);
}

void hvi_crew_fail_interrupted(hvi_crew *crew, hvi_job *job) {
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_TIMEOUT, "interrupted");
    hvi_crew_fail_job(crew, job, &cause);
}
