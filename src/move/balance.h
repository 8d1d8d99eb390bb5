/*
 * balance: which shards should move, so that servers have their shares of the load.
 *
 * Arithmetic only: no server is asked. The load of a shard is a number of anything: bytes, rows. A
 * server's share is proportional to its weight; one that is drained has none, and one of weight 0
 * keeps what it has. The plan makes one move after the other:
 *
 *  1. Shards of drained servers, the largest first, each to the server that has the least load for
 *     its weight.
 *  2. Then that move which brings two servers nearest to their shares, as the sum of the squared
 *     deviations counts it, until no server is off its share by more than a twentieth of the
 *     average share, or no move is worth it.
 *
 * No shard moves twice. Among equals the lowest numbers win, so the same input has the same plan.
 */
#ifndef HVI_BALANCE_H
#define HVI_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hvi_balance_shard {
    int shard;
    int server;   /* where it is; set to where it goes */
    int64_t load; /* 0 or more */
    bool moved;
} hvi_balance_shard;

typedef struct hvi_balance_target {
    double weight; /* 0 or more */
    bool drained;  /* it is to have none, whatever its weight */
    double load;   /* of its shards; kept up to date */
} hvi_balance_target;

/* Make the plan: *order receives the indexes of the shards that move, in the order of the moves,
 * and has room for `most` of them. Returns their number. Servers are numbered from 0. At least one
 * of them has a weight and is not drained. */
size_t hvi_balance(hvi_balance_shard *shards, size_t count, hvi_balance_target *servers,
                   int server_count, size_t most, size_t *order);

#endif
