/*
 * put: store one entity: under a new key, under a key that the caller has, or exactly once.
 */
#ifndef HVI_PUT_H
#define HVI_PUT_H

#include "dict.h"
#include "key_cache.h"
#include "operation.h"

/* See hv_put(), without the option exactly_once. */
hv_status hvi_put(hvi_router *router, int shard, int kind, const hv_dict *dict, int64_t deadline,
                  int64_t *key, hv_error **error);

/* See hv_put_key(). */
hv_status hvi_put_key(hvi_router *router, int64_t key, int kind, const hv_dict *dict,
                      int64_t deadline, hv_error **error);

/*
 * See hv_put(), with the option exactly_once. A key is reserved first, or taken from the cache;
 * each put brings the next key along, so that in the steady state there is no other round trip.
 * Whatever happens to the connection, the put is repeated under the same key until the deadline.
 */
hv_status hvi_put_once(hvi_router *router, hvi_key_cache *cache, int shard, int kind,
                       const hv_dict *dict, int64_t deadline, int64_t *key, hv_error **error);

#endif
