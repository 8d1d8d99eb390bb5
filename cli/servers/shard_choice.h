/*
 * shard_choice: the shards that --shards names.
 */
#ifndef SHARD_CHOICE_H
#define SHARD_CHOICE_H

#include "hypervault.h"

/* The shards of the store in ascending order, or those of them that `text` names, as in the
 * configuration: free() the array. NULL after an error message: the text is wrong, a shard of it is
 * on no server, or there are no shards. */
int *choose_shards(const hv_store *store, const char *text, int *count);

#endif
