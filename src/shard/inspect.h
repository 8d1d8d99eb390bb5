/*
 * inspect: report on a server: versions, connections, the state and size of its shards.
 */
#ifndef HVI_INSPECT_H
#define HVI_INSPECT_H

#include "pool/router.h"

/* See hv_inspect(). */
hv_status hvi_inspect(hvi_router *router, hvi_server *server, hv_report **report, hv_error **error);

/* Check that all shards of a server are there. Errors: HV_NOT_INITIALIZED, naming the first that is
 * not, and those of hvi_inspect(). */
hv_status hvi_inspect_shards_ready(hvi_router *router, hvi_server *server, int64_t deadline,
                                   hv_error **error);

#endif
