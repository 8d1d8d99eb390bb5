/*
 * spread: the shard that a value belongs to, among a fixed set of shards.
 */
#include "value/spread.h"

#include "base/hash.h"
#include "base/shard_ranges.h"

static hv_status take_range(bool taken[HV_SHARDS], hvi_shard_range range, hv_error **error) {
    for (int shard = range.begin; shard < range.end; shard++) {
        if (taken[shard]) {
            hvi_fail(error, HV_BAD_CONFIG, "shard %d is given twice in the option \"spread\"",
                     shard);
            hvi_error_hint(error,
                           "The end of a range is not part of it: \"1-9\" is shards 1 to 8.");
            return HV_BAD_CONFIG;
        }
        taken[shard] = true;
    }
    return HV_OK;
}

hv_status hvi_spread_read(hvi_spread *spread, const char *text, hv_error **error) {
    bool taken[HV_SHARDS] = {false};
    hvi_shard_reader reader = hvi_shard_reader_of(text, "option", "spread");
    if (!hvi_shard_ranges_blank(text)) {
        do {
            hvi_shard_range range = {0};
            hv_status status = hvi_shard_reader_next(&reader, &range, error);
            if (status == HV_OK)
                status = take_range(taken, range, error);
            if (status != HV_OK)
                return status;
        } while (hvi_shard_reader_goes_on(&reader));
    }
    spread->count = 0;
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (taken[shard])
            spread->shards[spread->count++] = (int16_t) shard;
    return HV_OK;
}

int hvi_spread_shard(const hvi_spread *spread, const char *value, size_t len) {
    if (spread->count == 0)
        return -1;
    return spread->shards[hvi_hash_fnv1a(value, len) % (uint64_t) spread->count];
}

int hvi_spread_next(const hvi_spread *spread, int after) {
    int low = 0, high = spread->count; /* the first one above `after` is in low .. high */
    while (low < high) {
        int middle = (low + high) / 2;
        if (spread->shards[middle] > after)
            high = middle;
        else
            low = middle + 1;
    }
    return low < spread->count ? spread->shards[low] : -1;
}
