/*
 * obstacle: what a job does when a lock is not to be had.
 */
#include "schema/obstacle.h"

#include <string.h>

#include "base/clock.h"
#include "schema/shard_sql.h"
#include "value/shard_map.h"

void hvi_obstacle_fini(hvi_obstacle *obstacle) {
    hvi_buffer_fini(&obstacle->sql);
}

static bool is_busy(const hvi_answer *answer) {
    return answer->error == NULL || hvi_error_has_sqlstate(answer->error, HVI_SQLSTATE_BUSY);
}

bool hvi_obstacle_is(const hvi_answer *answer) {
    return answer->status == HV_REFUSED &&
           (hvi_error_has_sqlstate(answer->error, "55P03") ||
            hvi_error_has_sqlstate(answer->error, "40P01") || is_busy(answer));
}

hvi_job_next hvi_obstacle_meet(hvi_obstacle *obstacle, hvi_job *job, hvi_session *session,
                               const hvi_answer *answer, hvi_request *request) {
    hvi_buffer_reset(&obstacle->sql);
    if (PQtransactionStatus(session->conn) != PQTRANS_IDLE)
        hvi_buffer_append_text(&obstacle->sql, "ROLLBACK;");
    obstacle->is_busy = is_busy(answer);
    if (obstacle->is_busy)
        hvi_shard_sql_holder(&obstacle->sql, job->shard);
    else
        hvi_shard_sql_in_the_way(&obstacle->sql, job->shard);
    if (!hvi_buffer_ok(&obstacle->sql)) {
        job->work = HV_WORK_FAILED;
        hvi_no_memory(&job->error);
        return HVI_JOB_END;
    }
    obstacle->is_asking = true;
    request->sql = obstacle->sql.data;
    return HVI_JOB_RUN;
}

static hvi_job_next fail_waited(const hvi_obstacle *obstacle, hvi_job *job, const char *cause) {
    char schema[HVI_SCHEMA_NAME_LEN] = "the server";
    double waited = (double) (hvi_clock_us() - obstacle->patience.began) / 1e6;
    if (job->shard >= 0)
        hvi_schema_name(job->shard, schema);
    if (obstacle->is_busy)
        hvi_fail(&job->error, HV_TIMEOUT, "another run is working on %s", schema);
    else
        hvi_fail(&job->error, HV_TIMEOUT, "no lock on %s came free in time", schema);
    if (cause != NULL)
        hvi_error_detail(&job->error, "After %.1f s of waiting, %s.", waited, cause);
    else
        hvi_error_detail(&job->error, "It has waited for %.1f s.", waited);
    hvi_error_hint(&job->error, "The option \"max_wait\" says how long to wait.");
    hvi_error_sqlstate(&job->error, obstacle->is_busy ? HVI_SQLSTATE_BUSY : "55P03");
    job->work = HV_WORK_FAILED;
    return HVI_JOB_END;
}

hvi_job_next hvi_obstacle_answered(hvi_obstacle *obstacle, hvi_job *job, const char *step,
                                   int64_t max_wait, hvi_answer *answer, hvi_request *request) {
    obstacle->is_asking = false;
    if (answer->status == HV_REFUSED || answer->status == HV_NO_MEMORY) {
        job->work = HV_WORK_FAILED;
        hvi_error_move(&job->error, &answer->error);
        return HVI_JOB_END;
    }
    if (answer->status != HV_OK)
        return HVI_JOB_AFRESH;
    const char *cause = hvi_shard_sql_answer(answer->result);
    if (!hvi_patience_pause(&obstacle->patience, max_wait, request))
        return fail_waited(obstacle, job, cause);
    hvi_job_report(job, step, cause != NULL ? cause : "a lock was in use", -1);
    return HVI_JOB_PAUSE;
}
