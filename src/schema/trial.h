/*
 * trial: run statements on copies of a shard's tables, and see what they lock and rewrite.
 *
 * The copies have no rows. They are temporary tables, so nobody else sees them, and they are gone
 * with the session, however it ends. Each statement has a transaction of its own, whose locks the
 * server lists in pg_locks; a table that is written anew has another file afterwards, and one that
 * is read as a whole has had a sequential scan.
 */
#ifndef HVI_TRIAL_H
#define HVI_TRIAL_H

#include "schema/crew.h"
#include "schema/plan_steps.h"

/* The work on one shard that tries the steps of the plan whose files are among `tried`, a flag for
 * each file; it fills in what they do. All must last until the crew is freed. NULL if memory is
 * short. */
hvi_job *hvi_trial_new(int server, int shard, const hv_migrations *migrations, const bool *tried,
                       hv_plan *plan);

#endif
