/*
 * placement: does another server of the store hold a shard already?
 *
 * A shard that is made where the configuration says, while it lies elsewhere, is an empty copy: its
 * entities are not found any more, and new ones go into the copy. So all servers are asked before
 * anything is made.
 */
#ifndef HVI_PLACEMENT_H
#define HVI_PLACEMENT_H

#include "pool/router.h"

/* What identifies the database that a session is connected to, whatever name, address or user it
 * was reached by, as long as its server runs: a text; free() it. */
hv_status hvi_placement_identity(hvi_session *session, int64_t deadline, char **identity,
                                 hv_error **error);

/* Servers that need not be asked if they cannot be. */
typedef struct hvi_without {
    const int *servers; /* their numbers */
    size_t count;
} hvi_without;

/*
 * Ask all other servers of the store whether they hold one of the `wanted` shards (by number) of
 * this one, to which `session` is connected. A server that is the same database is not another.
 * Errors: HV_MISMATCH, naming the first that holds some, and which; what hvi_inspect() gives if one
 * cannot be asked.
 */
hv_status hvi_placement_check(hvi_router *router, const hvi_server *server, hvi_session *session,
                              const bool wanted[HV_SHARDS], hvi_without without, hv_error **error);

/* HV_MISMATCH: `holder` holds these shards of `server`. */
hv_status hvi_placement_fail(const char *server, const char *holder, const bool held[HV_SHARDS],
                             hv_error **error);

#endif
