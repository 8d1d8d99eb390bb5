/*
 * job: the work on one shard, or on one server: what all jobs share.
 */
#include "schema/job.h"

/* ---- the observer ---- */

static void observe(const hvi_job *job, const hv_rollout_event *event) {
    if (job->rollout->observer != NULL)
        job->rollout->observer(job->rollout->context, event);
}

void hvi_job_observe(const hvi_job *job, hv_work work) {
    observe(job, &(hv_rollout_event){
                     .server = job->server,
                     .shard = job->shard,
                     .work = work,
                     .share = work == HV_WORK_RUNNING ? -1 : 1,
                     .error = work == HV_WORK_FAILED ? job->error : NULL,
                 });
}

void hvi_job_report_shard(const hvi_job *job, int shard, const char *step, const char *waits_for,
                          double share) {
    observe(job, &(hv_rollout_event){
                     .server = job->server,
                     .shard = shard,
                     .work = waits_for != NULL ? HV_WORK_WAITING : HV_WORK_RUNNING,
                     .step = step,
                     .waits_for = waits_for,
                     .share = share,
                 });
}

void hvi_job_report(const hvi_job *job, const char *step, const char *waits_for, double share) {
    hvi_job_report_shard(job, job->shard, step, waits_for, share);
}

bool hvi_patience_pause(hvi_patience *patience, int64_t max_wait, hvi_request *request) {
    return hvi_patience_next(patience, max_wait, &request->pause);
}

/* ---- the end ---- */

void hvi_job_free(hvi_job *job) {
    hv_error_free(job->error);
    job->error = NULL;
    job->free(job);
}

void hvi_jobs_free(hvi_list *list) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(list)) != NULL)
        hvi_job_free(hvi_job_of(node));
}
