/*
 * queue: any number of operations from one thread, over all servers at once, without waiting: the
 * functions hv_queue_… of hypervault.h.
 *
 * No thread of the library: whoever waits for the queue's descriptor and advances it makes it go.
 */
#ifndef HVI_QUEUE_H
#define HVI_QUEUE_H

#include "hypervault.h"

/* The bytes of attributes to be stored that are pending. */
size_t hvi_queue_bytes(const hv_queue *queue);

/* All that is pending has come to its deadline. `done` is told. */
void hvi_queue_expire(hv_queue *queue);

/* The number of servers of its store. */
int hvi_queue_servers(const hv_queue *queue);

#endif
