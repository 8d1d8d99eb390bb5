/*
 * put: store one entity: under a new key, under a key that the caller has, or exactly once.
 */
#ifndef HVI_PUT_H
#define HVI_PUT_H

#include "entity/operation.h"

/*
 * See hv_put(). With `reserved` it happens exactly once: a key is reserved first, or taken from
 * there; each put also reserves the next key, so that in the steady state there is no other round
 * trip. Errors: HV_INVALID, HV_NO_SERVER, HV_NO_MEMORY.
 */
hv_status hvi_put_init(hvi_operation *operation, hvi_router *router, hvi_key_cache *reserved,
                       int shard, int kind, const hv_dict *dict, hv_error **error);

/* See hv_put_key(). Errors: the same. */
hv_status hvi_put_key_init(hvi_operation *operation, hvi_router *router, int64_t key, int kind,
                           const hv_dict *dict, hv_error **error);

/* ---- for the table ---- */

bool hvi_put_read(hvi_item *const *items, size_t count, const PGresult *result);
bool hvi_put_read_many(hvi_item *const *items, size_t count, const PGresult *result);
bool hvi_put_key_read_many(hvi_item *const *items, size_t count, const PGresult *result);
bool hvi_put_once_read_many(hvi_item *const *items, size_t count, const PGresult *result);

hvi_next hvi_put_answered(hvi_operation *operation);
hvi_next hvi_put_refused(hvi_operation *operation, hv_error **cause);
hvi_next hvi_put_key_answered(hvi_operation *operation);
hvi_next hvi_put_key_refused(hvi_operation *operation, hv_error **cause);
void hvi_put_once_prepare(hvi_operation *operation);
hvi_next hvi_put_once_answered(hvi_operation *operation);

#endif
