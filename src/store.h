/*
 * store: put and get: one entity, one statement.
 */
#ifndef HVI_STORE_H
#define HVI_STORE_H

#include "router.h"

/* See hv_put(). */
hv_status hvi_store_put(hvi_router *router, int shard, int kind, const hv_dict *dict, int64_t *key,
                        hv_error **error);

/* See hv_get(). */
hv_status hvi_store_get(hvi_router *router, int64_t key, hv_entity **entity, hv_error **error);

#endif
