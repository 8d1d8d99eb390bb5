/*
 * job: the work on one shard, or on one server, as a small state machine. See crew.h.
 */
#ifndef HVI_JOB_H
#define HVI_JOB_H

#include "base/list.h"
#include "schema/patience.h"
#include "schema/rollout.h"
#include "wire/session.h"

typedef struct hvi_job hvi_job;
typedef struct hvi_crew hvi_crew;

/* What a job asks for. */
typedef enum hvi_job_next {
    HVI_JOB_RUN,    /* a statement: request->sql */
    HVI_JOB_PAUSE,  /* request->pause */
    HVI_JOB_AFRESH, /* its connection was lost: begin again on another one, in a moment. The crew
                       does that a few times only, then the job fails with the last error */
    HVI_JOB_END,    /* job->work says how, and job->error why */
} hvi_job_next;

typedef struct hvi_request {
    const char *sql;     /* the job's, until its next step; several statements if it has no … */
    int parameter_count; /* … parameters, in text form */
    const char *const *parameters;
    size_t wanted; /* of several statements: whose result is the answer's, from 1; 0: the last */
    /* A connection lost after sending leaves the outcome unknown. Such a request ends its
     * transaction: in one that stays open, only what ends it is a write. */
    bool is_write;
    int64_t timeout; /* ms until the answer must be there; -1: no limit; as it comes, the job's */
    int64_t pause;   /* ms */
} hvi_request;

/* The answer to a statement. */
typedef struct hvi_answer {
    hv_status status; /* as of hvi_session_script() */
    PGresult *result; /* of the last statement, in text form; the job may take it: set it to NULL */
    hv_error *error;  /* likewise */
    size_t completed; /* how many of several statements were answered without an error */
    int position;     /* of an error: the character in request->sql, from 1; 0: not known */
} hvi_answer;

struct hvi_job {
    /* Set by its maker. */
    int server;
    int shard;         /* -1: the server as a whole */
    bool is_companion; /* it runs beside the others of its server, is not counted, is in no summary,
                          and should end when hvi_crew_is_busy() is false */
    bool is_reading;   /* it only looks at the catalogue: an answer has as much time as those of a
                          store's operations, or the rollout's timeout, and it soon gives up */
    /*
     * The next step. `answer` is NULL at the beginning, also after HVI_JOB_AFRESH, and after a
     * pause. With a status that leaves the session unusable (anything but HV_OK and HV_REFUSED)
     * only HVI_JOB_AFRESH and HVI_JOB_END are possible. When the rollout is interrupted, a running
     * statement is cancelled, and the answer says so: the job then ends.
     */
    hvi_job_next (*step)(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request);
    void (*free)(hvi_job *job); /* the memory in which the job lies, but not the next two */

    /* Set by the job, at its end. */
    hv_work work;
    hv_error *error; /* owned */

    /* The crew's. */
    hvi_list link;
    hvi_crew *crew;
    const hv_rollout *rollout; /* the crew's */
    size_t number;             /* in the order in which they were added */
    int tries;                 /* how often it has begun afresh */
};

/* For a job in its step: let the observer of the rollout know how far it is. The work is
 * HV_WORK_RUNNING or, with `waits_for`, HV_WORK_WAITING. `share`: 0 to 1, or -1. */
void hvi_job_report(const hvi_job *job, const char *step, const char *waits_for, double share);

/* The same about another shard, for companions. */
void hvi_job_report_shard(const hvi_job *job, int shard, const char *step, const char *waits_for,
                          double share);

/* Make the request a pause. False: it has waited for `max_wait` ms (-1: for ever) already. */
bool hvi_patience_pause(hvi_patience *patience, int64_t max_wait, hvi_request *request);

/* ---- for the crew ---- */

static inline hvi_job *hvi_job_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_job, link);
}

/* Let the observer know that the work on the job's shard has begun, or ended. */
void hvi_job_observe(const hvi_job *job, hv_work work);

void hvi_job_free(hvi_job *job);
void hvi_jobs_free(hvi_list *jobs);

#endif
