/*
 * locator: when the servers of a store are asked which shards they hold, and what is known since
 * then.
 *
 * They are asked when the store is opened, if one of them has `shards = auto`; after that when a
 * shard is used that has no server, or when one is written to that two servers claim, but at most
 * once a second, or after a shard has turned out to have moved. One caller at a time asks; the
 * others wait for what it learns.
 *
 * A shard that has moved is followed by itself, at its first use (see entity/locate).
 *
 * hvi_locator_settle() waits. A queue must not, so it holds back the operation, asks by itself with
 * hvi_locator_begin() and hvi_locator_end(), and lets the others go on.
 */
#ifndef HVI_LOCATOR_H
#define HVI_LOCATOR_H

#include "base/fork.h"
#include "shard/locating.h"

typedef struct hvi_locator {
    hvi_router *router;
    pthread_mutex_t lock;
    bool is_asking;     /* guarded by the lock, as all that follows */
    int64_t asks_until; /* then its caller has forgotten it, and another one may ask */
    int64_t asked_at;   /* when the last answers were there; 0: never */
    hv_error **missing; /* by server: why it could not be asked, or NULL; owned */
    int lost;           /* hvi_locating_lost() */
    hvi_fork_member fork;
} hvi_locator;

/* `locator` is all zero bytes before, and the router exists. */
hv_status hvi_locator_init(hvi_locator *locator, hvi_router *router, hv_error **error);
void hvi_locator_fini(hvi_locator *locator); /* also if it was not initialized */

/* Ask all servers now. Errors: the first server's that could not be asked; HV_NO_MEMORY. */
hv_status hvi_locator_ask(hvi_locator *locator, int64_t deadline, hv_error **error);

/* The same, if what the servers hold must be known for certain. Errors: also HV_MISMATCH if two
 * claim a shard, HV_NO_SERVER if one has gone to a server that the configuration does not name. */
hv_status hvi_locator_ask_all(hvi_locator *locator, int64_t deadline, hv_error **error);

/* May a shard be used as it is: has it a server, and, to be written to, only one? */
static inline bool hvi_locator_is_settled(const hvi_router *router, int shard, bool is_write) {
    return hvi_router_holder(router, shard) >= 0 &&
           (!is_write || hvi_router_rival(router, shard) < 0);
}

/*
 * Make sure that a shard can be used, and ask the servers if necessary. Errors: HV_NO_SERVER,
 * HV_UNAVAILABLE (it may be on a server that could not be asked), HV_MISMATCH (two servers claim
 * it).
 */
hv_status hvi_locator_settle(hvi_locator *locator, int shard, bool is_write, hv_error **error);

/* Make sure that all shards of a server are known: that it was asked, at any time. Otherwise it is
 * asked again; the error is that of asking. */
hv_status hvi_locator_settle_server(hvi_locator *locator, int server, hv_error **error);

/* The error of a shard that cannot be used as it is, without asking. */
hv_status hvi_locator_fail(hvi_locator *locator, int shard, hv_error **error);

/* ---- without waiting ---- */

typedef enum hvi_locator_turn {
    HVI_LOCATOR_SETTLED, /* they were asked a moment ago: there is no more to be known */
    HVI_LOCATOR_WAIT,    /* another caller asks: try again in a moment */
    HVI_LOCATOR_ASKS,    /* *locating goes on: advance it, and end it */
} hvi_locator_turn;

/* Begin to ask, if that is due. */
hvi_locator_turn hvi_locator_begin(hvi_locator *locator, hvi_locating **locating);

/* It is over, or given up. Frees it. */
void hvi_locator_end(hvi_locator *locator, hvi_locating *locating);

#endif
