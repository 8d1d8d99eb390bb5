/*
 * shard_sizes: how large the shards of a server are, and how much it writes.
 */
#ifndef HVI_SHARD_SIZES_H
#define HVI_SHARD_SIZES_H

#include "move/link.h"

/* One shard that is on the server. */
typedef struct hvi_shard_size {
    int shard;
    int64_t bytes;  /* of all tables, with their indexes */
    int64_t rows;   /* of all tables, as the server estimates them */
    int64_t writes; /* rows inserted, updated, deleted since the statistics were reset */
} hvi_shard_size;

/* All of them, in ascending order: free() *sizes. */
hv_status hvi_shard_sizes_read(hvi_link *link, int64_t deadline, hvi_shard_size **sizes,
                               size_t *count, hv_error **error);

/* How far the server's log is, in bytes: the difference of two says how much was written. */
hv_status hvi_shard_sizes_wal(hvi_link *link, int64_t deadline, int64_t *position,
                              hv_error **error);

#endif
