/*
 * parked: the operations of a queue on shards that must be asked for first.
 *
 * A shard may have no server yet (`shards = auto`), or two servers that claim it. Then the servers
 * are asked, without waiting; the operation goes to its server's port when the answers are there,
 * or fails. All operations on a shard that has one parked are parked behind it: they keep their
 * order.
 */
#ifndef HVI_PARKED_H
#define HVI_PARKED_H

#include "shard/locator.h"
#include "store/port.h"

typedef struct hvi_parked {
    hvi_locator *locator;
    int epoll;              /* the queue's, where the answers are waited for … */
    hvi_list list;          /* operations, as they were added */
    hvi_locating *locating; /* … while the servers are asked by this queue; owned */
    int64_t look_at;        /* when to see whether another caller has asked them */
} hvi_parked;

void hvi_parked_init(hvi_parked *parked, hvi_locator *locator, int epoll);

/* Abandon everything; operations are freed. */
void hvi_parked_fini(hvi_parked *parked);

/* In a forked child, instead. */
void hvi_parked_forget(hvi_parked *parked);

/* Must an operation be parked? */
bool hvi_parked_wants(const hvi_parked *parked, const hvi_operation *operation);

/* Park it; it goes on when this is next pumped. */
void hvi_parked_add(hvi_parked *parked, hvi_queued *queued);

/*
 * Go on, and take the next operation that may go on, or NULL. Either its status is HV_OK and its
 * target has a server, or it is done and has failed.
 */
hvi_queued *hvi_parked_take(hvi_parked *parked);

static inline bool hvi_parked_is_empty(const hvi_parked *parked) {
    return hvi_list_empty(&parked->list) && parked->locating == NULL;
}

/* The moment when it must be pumped, whatever else happens, or HVI_NEVER. */
int64_t hvi_parked_next(const hvi_parked *parked);

/* As those of a port. */
void hvi_parked_postpone(hvi_parked *parked, int64_t us);
void hvi_parked_expire(hvi_parked *parked);

#endif
