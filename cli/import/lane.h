/*
 * lane: one lane's thread: store a batch of rows, exactly once, whatever it takes.
 */
#ifndef LANE_H
#define LANE_H

#include "import/queue.h"

/* The thread's function; its argument is the import_lane. */
void *import_lane_work(void *lane);

#endif
