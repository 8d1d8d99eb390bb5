/*
 * key_cache: reserved keys that are not used yet, by shard.
 *
 * A key is handed out once, and only while it is fresh: the key contains its time, an entity should
 * not look older than it is, and a feed that stays a second behind must not have passed it before
 * it is stored. Thread-safe. A forked child starts empty: the keys belong to its parent.
 */
#ifndef HVI_KEY_CACHE_H
#define HVI_KEY_CACHE_H

#include <pthread.h>

#include "base/error.h"
#include "base/fork.h"

/* How long a key may be used after its reservation was asked for: half of a feed's delay, so that
 * the rest remains for the put itself. */
#define HVI_KEY_FRESH_US 500000

typedef struct hvi_key_cache {
    hvi_fork_member fork;
    pthread_mutex_t lock;
    struct hvi_cached_keys *shards[HV_SHARDS]; /* owned; NULL: none yet */
} hvi_key_cache;

hv_status hvi_key_cache_init(hvi_key_cache *cache, hv_error **error);
void hvi_key_cache_fini(hvi_key_cache *cache);

/* Take the freshest key of a shard; false if none is fresh. `now` is hvi_clock_us(). */
bool hvi_key_cache_take(hvi_key_cache *cache, int shard, int64_t now, int64_t *key);

/* Keep a key that was asked for at `asked_at`. If there is no room or no memory it is forgotten:
 * keys are not scarce. */
void hvi_key_cache_give(hvi_key_cache *cache, int shard, int64_t key, int64_t asked_at);

#endif
