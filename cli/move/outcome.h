/*
 * outcome: what has become of shards that were to be moved.
 */
#ifndef MOVE_OUTCOME_H
#define MOVE_OUTCOME_H

#include "move/job.h"

/* Print a line for each, and the errors; returns the exit code. */
int outcome_show(const move_run *run);

#endif
