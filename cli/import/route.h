/*
 * route: which shard a row goes to.
 */
#ifndef IMPORT_ROUTE_H
#define IMPORT_ROUTE_H

#include "hypervault.h"
#include "rows/reader.h"

typedef struct import_route {
    int fixed;      /* every row's shard, or -1 */
    const char *by; /* the attribute that decides, or NULL; not owned */
    const hv_store *store;
    int *shards; /* owned; with neither of the two: in the order of their turns */
    size_t count;
    size_t first; /* the one that begins */
} import_route;

/*
 * `shard` -1: none; `by` NULL: none; not both given. With `by` the shard is hv_shard_of() the
 * value. With neither, shards take turns by the row's number, and `seed` decides which one begins,
 * so that many small imports do not all use the first one. Their order does not depend on where
 * they are; but with `by_server` those of different servers alternate, as in earlier versions.
 */
void import_route_init(import_route *route, const hv_store *store, int shard, const char *by,
                       const char *seed, bool by_server);
void import_route_fini(import_route *route);

/* The row's shard. A row without one (the attribute is missing or NULL) becomes malformed; -1 is
 * returned for malformed rows. */
int import_route_row(import_route *route, row *routed);

#endif
