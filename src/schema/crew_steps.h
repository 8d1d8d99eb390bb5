/*
 * crew_steps: take the workers of a crew, and so its jobs, as far as they can go.
 *
 * What is running and what may begin is decided in hvi_crew_pump(), which looks at everything:
 * there are some hundred workers at most, and each step of theirs is a round trip to a server.
 *
 * Holds always, after it: a worker that is READY or OFF, and does not pause (pause_end), has no
 * job.
 */
#ifndef HVI_CREW_STEPS_H
#define HVI_CREW_STEPS_H

#include "schema/crew_jobs.h"

void hvi_crew_pump(hvi_crew *crew);

/* Ask the server to end a worker's statement, which then has a few seconds to do so. It is asked
 * again meanwhile: a request that overtakes the statement has no effect. */
void hvi_crew_cancel(hvi_crew *crew, hvi_worker *worker, int64_t now);

/* When this team tries to borrow a session next, for a job or a companion that could begin then;
 * HVI_NEVER: it waits for something else. */
int64_t hvi_team_next_borrow(hvi_crew *crew, hvi_team *t);

#endif
