/*
 * locating: ask the servers which shards they hold, and let the router know.
 *
 * All servers are asked at once, each over one connection of its pool. It goes step by step and
 * never waits, so a queue can do it too. When to ask is up to the locator.
 *
 * What the answers mean: a shard is where its schema has a table of entities and no row says that
 * it is gone, at the generation of its row (0: none); of several, the highest generation wins. A
 * row that says where a shard has gone counts as a claim of that server at the row's generation. A
 * range in the configuration is only overruled by a generation above 0. Two servers with the same
 * generation dispute: see hvi_router_dispute(). The same database under two names is one claim.
 */
#ifndef HVI_LOCATING_H
#define HVI_LOCATING_H

#include "pool/router.h"

typedef struct hvi_locating hvi_locating;

/* Begin to ask all servers. Errors: HV_NO_MEMORY. */
hv_status hvi_locating_new(hvi_router *router, int64_t deadline, hvi_locating **locating,
                           hv_error **error);

/* Its descriptor is readable when it must be advanced; at the latest at hvi_locating_next(). */
int hvi_locating_fd(const hvi_locating *locating);
int64_t hvi_locating_next(const hvi_locating *locating);

/* Make progress. True: it is over; every server has answered, cannot be asked or was late, and the
 * router knows. */
bool hvi_locating_advance(hvi_locating *locating);

/* Why this server could not be asked; NULL: it was. Valid as long as the object. */
const hv_error *hvi_locating_failure(const hvi_locating *locating, int server);

/* A shard that has gone to a server that the configuration does not name, and that no other server
 * claims; -1: there is none. Operations on it report the name. */
int hvi_locating_lost(const hvi_locating *locating);

/* Give it up if it is not over. */
void hvi_locating_free(hvi_locating *locating);

/* In a forked child, instead. */
void hvi_locating_forget(hvi_locating *locating);

/* Advance it until it is over. It may be interrupted, as if its time were over. */
void hvi_locating_await(hvi_locating *locating);

#endif
