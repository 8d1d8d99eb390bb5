/*
 * shard_map: which server holds a shard, from ranges as the configuration writes them.
 *
 * Holds always: a text is read to its end before the map changes, so an invalid one changes
 * nothing.
 */
#include "value/shard_map.h"

#include <string.h>

#include "base/shard_ranges.h"

void hvi_schema_name(int shard, char name[HVI_SCHEMA_NAME_LEN]) {
    *hvi_shard_digits(shard, stpcpy(name, "shard")) = '\0';
}

char *hvi_shard_digits(int shard, char *to) {
    for (int i = 3; i >= 0; i--, shard /= 10)
        to[i] = (char) ('0' + shard % 10);
    return to + 4;
}

void hvi_shard_map_init(hvi_shard_map *map) {
    for (int shard = 0; shard < HV_SHARDS; shard++)
        map->server[shard] = -1;
}

/* Give a range to a server, unless a shard of it is taken. */
static hv_status take_range(hvi_shard_map *map, hvi_shard_range item, int server,
                            const char *const *names, hv_error **error) {
    for (int shard = item.begin; shard < item.end; shard++) {
        int holder = map->server[shard];
        if (holder == server)
            hvi_fail(error, HV_BAD_CONFIG, "shard %d is given to server \"%s\" twice", shard,
                     names[server]);
        else if (holder >= 0)
            hvi_fail(error, HV_BAD_CONFIG,
                     "shard %d is given to both server \"%s\" and server \"%s\"", shard,
                     names[holder], names[server]);
        if (holder >= 0) {
            hvi_error_hint(error, "Give each shard to one server. The end of a range is not part "
                                  "of it: \"1-9\" is shards 1 to 8.");
            hvi_error_where(error, names[server], shard);
            return HV_BAD_CONFIG;
        }
        map->server[shard] = (int16_t) server;
    }
    return HV_OK;
}

hv_status hvi_shard_map_add(hvi_shard_map *map, const char *text, int server,
                            const char *const *names, hv_error **error) {
    if (hvi_shard_ranges_blank(text)) {
        hvi_fail(error, HV_BAD_CONFIG, "no shards given for server \"%s\"", names[server]);
        hvi_error_hint(error, "%s", hvi_shard_ranges_syntax);
        hvi_error_where(error, names[server], -1);
        return HV_BAD_CONFIG;
    }
    hvi_shard_map changed = *map;
    hvi_shard_reader reader = hvi_shard_reader_of(text, "shards of server", names[server]);
    do {
        hvi_shard_range range = {0};
        hv_status status = hvi_shard_reader_next(&reader, &range, error);
        if (status == HV_OK)
            status = take_range(&changed, range, server, names, error);
        if (status != HV_OK) {
            hvi_error_where(error, names[server], -1);
            return status;
        }
    } while (hvi_shard_reader_goes_on(&reader));
    *map = changed;
    return HV_OK;
}

int hvi_shard_map_next(const hvi_shard_map *map, int server, int after) {
    if (after >= HV_SHARDS)
        return -1;
    for (int shard = after < 0 ? 0 : after + 1; shard < HV_SHARDS; shard++)
        if (server < 0 ? map->server[shard] >= 0 : map->server[shard] == server)
            return shard;
    return -1;
}

int hvi_shard_map_count(const hvi_shard_map *map, int server) {
    int count = 0;
    for (int shard = -1; (shard = hvi_shard_map_next(map, server, shard)) >= 0;)
        count++;
    return count;
}
