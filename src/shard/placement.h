/*
 * placement: does another server of the store hold a shard already?
 *
 * If a shard is made where the configuration says, while it lies elsewhere, it is an empty copy:
 * its entities are not found any more, and new ones go into the copy. So all servers are asked
 * before anything is made.
 */
#ifndef HVI_PLACEMENT_H
#define HVI_PLACEMENT_H

#include "pool/router.h"

/* A text that identifies the database that a session is connected to, by whatever name, address or
 * user it was reached, until its server is restarted; free() it. */
hv_status hvi_placement_identity(hvi_session *session, int64_t deadline, char **identity,
                                 hv_error **error);

/* Servers that may be left out if they cannot be reached. */
typedef struct hvi_without {
    const int *servers; /* their numbers */
    size_t count;
} hvi_without;

/*
 * Ask all other servers of the store whether they hold one of the `wanted` shards (by number) of
 * this one, to which `session` is connected. A server that is the same database is ignored. Errors:
 * HV_MISMATCH, naming the first that holds some, and which; those of hvi_inspect() if one cannot be
 * asked.
 */
hv_status hvi_placement_check(hvi_router *router, const hvi_server *server, hvi_session *session,
                              const bool wanted[HV_SHARDS], hvi_without without, hv_error **error);

/* HV_MISMATCH: `holder` holds these shards of `server`. */
hv_status hvi_placement_fail(const char *server, const char *holder, const bool held[HV_SHARDS],
                             hv_error **error);

#endif
