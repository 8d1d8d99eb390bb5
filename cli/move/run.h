/*
 * run: move several shards, some at a time, and show how they get on.
 */
#ifndef MOVE_RUN_H
#define MOVE_RUN_H

#include "move/job.h"

/*
 * Do it, until all are over, or interrupt_catch() has caught a signal, and then each has come to
 * the end of its present step. Shows bars on a terminal, lines or JSON otherwise, and at the end a
 * table or JSON, and all errors. Returns the exit code.
 */
int move_run_all(move_run *run);

/* Free what the run has put into the jobs; not the array. */
void move_jobs_fini(move_job *jobs, size_t count);

#endif
