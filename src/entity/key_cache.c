/*
 * key_cache: reserved keys that are not used yet, by shard.
 *
 * Each shard has a small stack. The key on top is the one that came last, and so most often the
 * freshest.
 */
#include "entity/key_cache.h"

#include <stdlib.h>

/* As many as puts into one shard may travel at the same time (those of a batch), each saving a
 * round trip. Most shards need few. */
#define KEYS_FIRST 16
#define KEYS_MAX   1024

typedef struct hvi_cached_keys {
    int count;
    int room;
    struct {
        int64_t key;
        int64_t asked_at;
    } keys[];
} hvi_cached_keys;

static void fork_child(hvi_fork_member *member) {
    hvi_key_cache *cache = hvi_list_entry(member, hvi_key_cache, fork);
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (cache->shards[shard] != NULL)
            cache->shards[shard]->count = 0;
}

hv_status hvi_key_cache_init(hvi_key_cache *cache, hv_error **error) {
    *cache = (hvi_key_cache){0};
    if (pthread_mutex_init(&cache->lock, NULL) != 0)
        return hvi_no_memory(error);
    cache->fork.lock = &cache->lock;
    cache->fork.child = fork_child;
    hvi_fork_join(&cache->fork);
    return HV_OK;
}

void hvi_key_cache_fini(hvi_key_cache *cache) {
    hvi_fork_leave(&cache->fork);
    for (int shard = 0; shard < HV_SHARDS; shard++)
        free(cache->shards[shard]);
    pthread_mutex_destroy(&cache->lock);
}

bool hvi_key_cache_take(hvi_key_cache *cache, int shard, int64_t now, int64_t *key) {
    bool taken = false;
    pthread_mutex_lock(&cache->lock);
    hvi_cached_keys *kept = cache->shards[shard];
    while (kept != NULL && kept->count > 0 && !taken) {
        kept->count--;
        taken = now - kept->keys[kept->count].asked_at < HVI_KEY_FRESH_US;
        *key = kept->keys[kept->count].key;
    }
    pthread_mutex_unlock(&cache->lock);
    return taken;
}

/* Make room for one more; if that is not possible, all stays as it is. */
static void grow(hvi_cached_keys **place) {
    hvi_cached_keys *kept = *place;
    int room = kept == NULL ? KEYS_FIRST : 2 * kept->room;
    if (room > KEYS_MAX)
        return;
    hvi_cached_keys *grown = realloc(kept, sizeof *kept + (size_t) room * sizeof kept->keys[0]);
    if (grown == NULL)
        return;
    grown->count = kept == NULL ? 0 : grown->count;
    grown->room = room;
    *place = grown;
}

void hvi_key_cache_give(hvi_key_cache *cache, int shard, int64_t key, int64_t asked_at) {
    pthread_mutex_lock(&cache->lock);
    hvi_cached_keys **place = &cache->shards[shard];
    if (*place == NULL || (*place)->count == (*place)->room)
        grow(place);
    hvi_cached_keys *kept = *place;
    if (kept != NULL && kept->count < kept->room) {
        kept->keys[kept->count].key = key;
        kept->keys[kept->count].asked_at = asked_at;
        kept->count++;
    }
    pthread_mutex_unlock(&cache->lock);
}
