/*
 * shard_list: some shards as a text, "1-9,12", as the configuration and --shards take it.
 */
#ifndef SHARD_LIST_H
#define SHARD_LIST_H

#include "base/shard_ranges.h"

/* Add shards in ascending order to an empty one (all zero), and take the text at last. */
typedef struct shard_list {
    hvi_buffer text;
    hvi_shard_range open;
    size_t count;
} shard_list;

void shard_list_add(shard_list *list, int shard);

/* The text: free() it. The list is empty then. */
char *shard_list_take(shard_list *list);

/* A list of ranges for people: at most some columns of it, "1-9,12,…": free() it. */
char *shard_list_short(const char *ranges);

#endif
