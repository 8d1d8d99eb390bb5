/*
 * moved_shards: the shards that are not where the configuration says.
 */
#ifndef MOVED_SHARDS_H
#define MOVED_SHARDS_H

#include "hypervault.h"

/* The shards that the configuration gives to another server than the one that has them, as far as
 * the store knows, as ranges: free() it. */
char *moved_shards(const hv_store *store, size_t *count);

#endif
