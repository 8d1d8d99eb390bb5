/*
 * worker: one worker's thread: store batches of rows, exactly once, with retries.
 */
#ifndef WORKER_H
#define WORKER_H

#include "import/queue.h"

/* The thread's function; its argument is the import_worker. */
void *import_worker_run(void *worker);

#endif
