/*
 * shard_map: which server holds a shard, from ranges as the configuration writes them.
 *
 * A table of HV_SHARDS entries, so a look-up is one load. See base/shard_ranges.h for the text.
 */
#ifndef HVI_SHARD_MAP_H
#define HVI_SHARD_MAP_H

#include "base/error.h"

#define HVI_SCHEMA_NAME_LEN 16

/* The schema of a shard: "shard0012". */
void hvi_schema_name(int shard, char name[HVI_SCHEMA_NAME_LEN]);

/* Write a shard's number as in its schema's name, "0012"; returns the end, without writing a NUL.
 * These names are made for each operation, and snprintf() would be a tenth of its work. */
char *hvi_shard_digits(int shard, char *to);

typedef struct hvi_shard_map {
    int16_t server[HV_SHARDS]; /* the server's number, or -1 */
} hvi_shard_map;

void hvi_shard_map_init(hvi_shard_map *map);

/*
 * Give the shards in `text` to a server. `names` are the servers' names by number, for messages.
 * On failure the map is as it was. Errors (HV_BAD_CONFIG, naming the server and the text at fault):
 * an empty list or item, an item that is no number, a reversed or empty range, a shard above 8191,
 * a shard that a server, this one included, already has (both are named).
 */
hv_status hvi_shard_map_add(hvi_shard_map *map, const char *text, int server,
                            const char *const *names, hv_error **error);

/* The server of a shard; -1 if none holds it or it is out of range. */
static inline int hvi_shard_map_server(const hvi_shard_map *map, int shard) {
    return shard >= 0 && shard < HV_SHARDS ? map->server[shard] : -1;
}

/* The first shard above `after` that `server` (-1: any) holds, or -1. */
int hvi_shard_map_next(const hvi_shard_map *map, int server, int after);

/* The number of shards that `server` (-1: any) holds. */
int hvi_shard_map_count(const hvi_shard_map *map, int server);

#endif
