/*
 * crew_jobs: the jobs of a crew: which may begin, and what has become of them.
 *
 * Each server has a team: the jobs that wait for their turn there, and workers, each with one
 * connection. A job is in a team's list, with a worker, in `finished`, or it is `returned`.
 */
#ifndef HVI_CREW_JOBS_H
#define HVI_CREW_JOBS_H

#include "pool/router.h"
#include "schema/summary.h"
#include "schema/worker.h"

/* The part of one server. */
typedef struct hvi_team {
    hvi_server *server;
    hvi_list waiting;     /* jobs */
    hvi_list companions;  /* jobs that have not begun */
    hvi_worker *workers;  /* owned; the last is for companions */
    int worker_count;     /* without that; -1: there are none */
    int64_t borrow_at;    /* no worker tries to borrow before this moment … */
    int64_t companion_at; /* … and not the companions' before this one */
    int recovering;       /* jobs that begin afresh: until they have, no other begins */
    bool is_silent;       /* the server does not answer: it is not asked to cancel … */
    bool is_heard_asked;  /* … and that was found out already */
} hvi_team;

struct hvi_crew {
    hvi_router *router;
    const hv_rollout *rollout;
    unsigned generation; /* hvi_fork_generation() when it was made */
    int epoll;
    int event;
    hvi_team *teams; /* by the server's number; owned */
    int turn;        /* the team that begins first */
    int parallel;
    bool proven;  /* there is no canary, or it has succeeded */
    bool stopped; /* nothing begins any more */
    bool interrupted;
    bool no_memory;
    int failures;
    hv_error *first_failure; /* owned */
    hvi_list finished;       /* jobs, until they are returned */
    int finished_count;
    hvi_job *returned; /* the last one; owned */

    /* What has become of each job, by its number; owned. */
    hvi_summary_entry *entries;
    size_t count;
    size_t room;
};

static inline hvi_team *hvi_team_of(hvi_crew *crew, const hvi_worker *worker) {
    return &crew->teams[worker->server];
}

static inline bool hvi_worker_has_job(const hvi_worker *worker) {
    return worker->job != NULL;
}

/* Add a job, which the crew owns then. */
void hvi_crew_add_job(hvi_crew *crew, hvi_job *job);

/* The number of workers of a team, and of all, that have a job; companions do not count. */
int hvi_team_busy(const hvi_team *t);
int hvi_crew_busy(const hvi_crew *crew);

/* Does a job of this team run or wait for its turn? */
bool hvi_team_is_busy(const hvi_crew *crew, const hvi_team *t);

/* The job of this team that may begin now, or NULL. */
hvi_job *hvi_crew_next_job(hvi_crew *crew, hvi_team *t);

/* Take the job from a worker. */
hvi_job *hvi_worker_take_job(hvi_team *t, hvi_worker *worker);

/* A job, in no list and without a worker, has ended, as it says itself; has failed (*cause is
 * taken, unless the job has an error of its own); or was interrupted. */
void hvi_crew_end_job(hvi_crew *crew, hvi_job *job);
void hvi_crew_fail_job(hvi_crew *crew, hvi_job *job, hv_error **cause);
void hvi_crew_fail_interrupted(hvi_crew *crew, hvi_job *job);

#endif
