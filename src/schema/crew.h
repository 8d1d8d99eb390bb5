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
#include "schema/job.h"
#include "schema/summary.h"

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

#endif
