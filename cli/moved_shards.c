/*
 * moved_shards: the shards that are not where the configuration says.
 */
#include "moved_shards.h"

#include "shard_list.h"

char *moved_shards(const hv_store *store, size_t *count) {
    shard_list list = {0};
    for (int shard = -1; (shard = hv_next_shard(store, -1, shard)) >= 0;) {
        int configured = hv_configured_server(store, shard);
        if (configured >= 0 && configured != hv_shard_server(store, shard))
            shard_list_add(&list, shard);
    }
    *count = list.count;
    return shard_list_take(&list);
}
