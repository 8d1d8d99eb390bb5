/*
 * reserve: unused keys of a shard, to put entities under.
 */
#ifndef HVI_RESERVE_H
#define HVI_RESERVE_H

#include "entity/operation.h"

/* See hv_reserve(). `keys` has room for `count`, and is filled on HV_OK. Errors: HV_INVALID,
 * HV_NO_SERVER. */
hv_status hvi_reserve_init(hvi_operation *operation, hvi_router *router, int shard, int count,
                           int64_t *keys, hv_error **error);

/* Copy the keys that the operation's item was given to `keys`. Errors: HV_CORRUPT. */
hv_status hvi_reserve_take(const hvi_operation *operation, int64_t *keys, hv_error **error);

/* ---- for the table ---- */

bool hvi_reserve_read(hvi_item *const *items, size_t count, const PGresult *result);
hvi_next hvi_reserve_answered(hvi_operation *operation);
hvi_next hvi_reserve_refused(hvi_operation *operation, hv_error **cause);

#endif
