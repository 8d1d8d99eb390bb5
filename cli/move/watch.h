/*
 * watch: what people and programs see while shards move.
 *
 * All functions but the first and the last are called with the run's lock.
 */
#ifndef MOVE_WATCH_H
#define MOVE_WATCH_H

#include "move/job.h"

typedef struct watch watch;

/* Bars on a terminal, for as many shards as move at the same time. */
watch *watch_new(const move_run *run);
void watch_update(watch *seen, const move_run *run);
void watch_free(watch *seen);

/* A job was looked at: if its phase is another one, or what it waits for, say so where there are no
 * bars. */
void watch_phase(const move_run *run, move_job *job);

/* A job has ended. */
void watch_end(const move_run *run, const move_job *job);

#endif
