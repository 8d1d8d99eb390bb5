/*
 * obstacle: what a job does when a lock is not to be had: it asks what is in the way, lets the
 * observer know, pauses, and tries again, until it has waited for as long as it may.
 *
 *     refused ──► meet: asks ──► answered: pauses ──► the job tries again
 *                                    └──► has waited long enough: the job fails
 */
#ifndef HVI_OBSTACLE_H
#define HVI_OBSTACLE_H

#include "schema/crew.h"

/* All zero at first. */
typedef struct hvi_obstacle {
    hvi_patience patience;
    bool is_asking; /* the next answer is for hvi_obstacle_answered() */
    bool is_busy;   /* another run is in the way */
    hvi_buffer sql;
} hvi_obstacle;

void hvi_obstacle_fini(hvi_obstacle *obstacle);

/* Is this a refusal for want of a lock: lock_timeout, a deadlock, HVI_SQLSTATE_BUSY? */
bool hvi_obstacle_is(const hvi_answer *answer);

/* After such a refusal, or when the session form of the shard's lock was not to be had (`answer` is
 * then without an error): the request rolls back what may be open and asks what is in the way. */
hvi_job_next hvi_obstacle_meet(hvi_obstacle *obstacle, hvi_job *job, hvi_session *session,
                               const hvi_answer *answer, hvi_request *request);

/*
 * The answer to that. `step` is for the observer. HVI_JOB_PAUSE: the job tries again after it;
 * HVI_JOB_END: it has waited for `max_wait` ms, or was refused an answer, and has failed;
 * HVI_JOB_AFRESH: the connection is lost.
 */
hvi_job_next hvi_obstacle_answered(hvi_obstacle *obstacle, hvi_job *job, const char *step,
                                   int64_t max_wait, hvi_answer *answer, hvi_request *request);

#endif
