/*
 * lane: one lane's thread: store batches of rows, exactly once, with retries.
 */
#ifndef LANE_H
#define LANE_H

#include "import/queue.h"

/* The thread's function; its argument is the import_lane. */
void *import_lane_work(void *lane);

#endif
