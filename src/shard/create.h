/*
 * create: make what is missing on a server: extensions, the layout's record, shards.
 */
#ifndef HVI_CREATE_H
#define HVI_CREATE_H

#include "shard/placement.h"

/* See hv_create_shards() and hv_create_shards_without(). */
hv_status hvi_create_shards(hvi_router *router, hvi_server *server, hvi_without without,
                            hv_progress_fn progress, void *context, int *created, hv_error **error);

#endif
