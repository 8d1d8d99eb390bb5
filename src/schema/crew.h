/*
 * crew: jobs on many shards, some of each server's at a time, in the caller's thread.
 *
 * A job is the work on one shard, or on one server. It is a small state machine: the crew gives it
 * a session of its server, it asks for a statement, receives the answer, asks for the next one or
 * for a pause, and says at last what has become of it. The crew knows nothing of the SQL: it knows
 * when a job may begin (the canary first, so many at a time, not after too many failures), waits
 * for all connections in one epoll(7) instance, and keeps the time.
 *
 * Each session is borrowed from the pool of its server, used for one job after another, and closed
 * at the end, since a job may leave settings behind. Before a job, and as soon as it has ended, all
 * that is in the session is discarded, its advisory locks, too, and the settings of
 * hvi_shard_sql_settings() are made. One connection of a pool is left for others, if it has more
 * than one, and if others wait for one, they have their turn between two jobs.
 */
#ifndef HVI_CREW_H
#define HVI_CREW_H

#include "pool/router.h"
#include "schema/patience.h"
#include "schema/rollout.h"
#include "schema/summary.h"

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
    int64_t timeout; /* ms until the answer must be there; -1: no limit */
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
    size_t number; /* in the order in which they were added */
    int tries;     /* how often it has begun afresh */
};

/* `rollout` is borrowed until the crew is freed. The caller has entered the store. */
hv_status hvi_crew_new(hvi_router *router, const hv_rollout *rollout, hvi_crew **crew,
                       hv_error **error);

/* Add a job, which the crew owns then. Jobs of a server begin in the order in which they were
 * added; the first of all is the canary. */
void hvi_crew_add(hvi_crew *crew, hvi_job *job);

/*
 * Go on until a job has ended. *job (borrowed until the next call; never a companion) is that job;
 * NULL: all that will ever begin has ended. Errors: HV_TIMEOUT if it was interrupted: then running
 * statements have been cancelled and their jobs have ended; HV_NO_MEMORY.
 */
hv_status hvi_crew_next(hvi_crew *crew, hvi_job **job, hv_error **error);

/* All of it. `each` (may be NULL) is called for each job that has ended. On HV_OK all jobs are
 * HV_WORK_DONE or HV_WORK_UNCHANGED; otherwise the error is the interruption, or a copy of the
 * first failure's. */
hv_status hvi_crew_run(hvi_crew *crew, void (*each)(void *context, hvi_job *job), void *context,
                       hv_error **error);

/* What has become of the shards so far; jobs without a shard are in it under -1. */
hv_status hvi_crew_summary(const hvi_crew *crew, hv_summary **summary, hv_error **error);

/* Running statements are cancelled. */
void hvi_crew_free(hvi_crew *crew);

/* Is this a forked child, and the crew its parent's? Then only hvi_crew_free() is possible. */
bool hvi_crew_is_foreign(const hvi_crew *crew);

/* Does a job of this server, other than companions, run or wait for its turn? */
bool hvi_crew_is_busy(const hvi_crew *crew, int server);

/* For a job in its step: let the observer of the rollout know how far it is. The work is
 * HV_WORK_RUNNING or, with `waits_for`, HV_WORK_WAITING. `share`: 0 to 1, or -1. */
void hvi_job_report(const hvi_job *job, const char *step, const char *waits_for, double share);

/* The same about another shard, for companions. */
void hvi_job_report_shard(const hvi_job *job, int shard, const char *step, const char *waits_for,
                          double share);

/* Make the request a pause. False: it has waited for `max_wait` ms (-1: for ever) already. */
bool hvi_patience_pause(hvi_patience *patience, int64_t max_wait, hvi_request *request);

#endif
