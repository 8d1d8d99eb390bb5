/*
 * put: store one entity: under a new key, under a key that the caller has, or exactly once.
 */
#ifndef HVI_PUT_H
#define HVI_PUT_H

#include "base/buffer.h"
#include "value/dict.h"
#include "entity/key_cache.h"
#include "entity/operation.h"

/* Collisions of made keys that are tried again at once; after that, a pause between tries. */
#define HVI_PUT_QUICK_TRIES 8
#define HVI_PUT_PAUSE_MS    1

/* A key that has an entity, which is gone whenever it is looked for, is tried so often. */
#define HVI_PUT_HIDDEN_TRIES 8

/* The pause between tries over a lost connection. */
#define HVI_PUT_RECONNECT_MS 20

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

/* ---- what those who put in batches need too ---- */

/* Append a body in the form that the statements take. Errors: HV_INVALID for one that is too large,
 * HV_NO_MEMORY. */
hv_status hvi_put_encode(const hv_dict *dict, hvi_buffer *body, hv_error **error);

/* A key that does not lead back to its shard would be an entity that nobody finds again: then
 * HV_CORRUPT. */
hv_status hvi_put_check_made_key(const hvi_operation *operation, int64_t made, hv_error **error);

bool hvi_put_is_unique_violation(const hv_error *cause);

/* Was it the key that an entity has already, and not a value that the user wants unique? */
bool hvi_put_is_key_collision(const hv_error *cause);

/* Is it worth trying a put under a reserved key again, over another connection? */
bool hvi_put_may_pass(hv_status status, const hv_error *cause);

/* No new key was to be had until the deadline. Takes *cause, the last collision. */
hv_status hvi_put_fail_collision(hv_error **cause, hv_error **error);

/* The key has another entity. */
hv_status hvi_put_fail_conflict(const hvi_operation *operation, int64_t key, hv_error **error);

/* The key has an entity that cannot be read. Takes *cause, which says that it is there. */
hv_status hvi_put_fail_hidden(const hvi_operation *operation, int64_t key, hv_error **cause,
                              hv_error **error);

/* No try was confirmed, and one may have succeeded. `cause` is of the last. */
hv_status hvi_put_fail_unknown(const hvi_operation *operation, int64_t key, const hv_error *cause,
                               hv_error **error);

#endif
