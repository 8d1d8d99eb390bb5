/*
 * spread: the shard that a value belongs to, among a fixed set of shards.
 *
 * A value's shard is number FNV-1a-64(its bytes) modulo N of the set's N shards in ascending order,
 * from 0. Values are stored by this rule, and programs in other languages have it too
 * (docs/operations.md): it is never changed. The set is given by the user, as the option `spread`,
 * and depends neither on the servers nor on which of them holds a shard.
 */
#ifndef HVI_SPREAD_H
#define HVI_SPREAD_H

#include "base/error.h"

typedef struct hvi_spread {
    int count;                 /* 0: no set was given */
    int16_t shards[HV_SHARDS]; /* ascending */
} hvi_spread;

/* Read the set from ranges; nothing but white space is an empty set. Errors: HV_BAD_CONFIG, as for
 * the shards of a server; a shard that is given twice. */
hv_status hvi_spread_read(hvi_spread *spread, const char *text, hv_error **error);

/* The shard of a value; -1 if the set is empty. */
int hvi_spread_shard(const hvi_spread *spread, const char *value, size_t len);

/* The first shard above `after` that is in the set, or -1. */
int hvi_spread_next(const hvi_spread *spread, int after);

#endif
