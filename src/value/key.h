/*
 * key: pack and unpack the 64-bit key.
 *
 * Pure arithmetic: no memory, no libpq, no errors but a bool, so that the PostgreSQL extension can
 * compile the same file. The layout is described in hypervault.h ("Keys"); it is that of
 * "Sharding & IDs at Instagram" (Instagram Engineering, 2012) with the fields' widths 41, 13, 10.
 */
#ifndef HVI_KEY_H
#define HVI_KEY_H

#include <stdbool.h>
#include <stdint.h>

#define HVI_KEY_SHARD_BITS 13
#define HVI_KEY_ADDED_BITS 10
#define HVI_KEY_TIME_SHIFT (HVI_KEY_SHARD_BITS + HVI_KEY_ADDED_BITS)
#define HVI_KEY_MAX_SHARD  ((1 << HVI_KEY_SHARD_BITS) - 1)
#define HVI_KEY_MAX_ADDED  ((1 << HVI_KEY_ADDED_BITS) - 1)
/* The latest time a positive key holds, in milliseconds since the epoch. */
#define HVI_KEY_MAX_TIME ((INT64_C(1) << 40) - 1)

/* Times here are milliseconds since the epoch of the store, not since 1970. */
typedef struct hvi_key_fields {
    int64_t time;
    int shard;
    int added_id;
} hvi_key_fields;

/* False if the key is not positive. */
bool hvi_key_unpack(int64_t key, hvi_key_fields *fields);

/* False if a field is out of range or the key would be 0. */
bool hvi_key_pack(const hvi_key_fields *fields, int64_t *key);

/* The least value that a key of this time can have, 0 at or before the epoch. False after the last
 * time that a key can hold. */
bool hvi_key_bound(int64_t time, int64_t *bound);

#endif
