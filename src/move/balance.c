/*
 * balance: which shards should move, so that servers have their shares of the load.
 */
#include "move/balance.h"

/* How far a server may be off its share, as a part of the average share. */
#define TOLERANCE 0.05

/* A move must bring two servers nearer to their shares by this part of the average share at least,
 * or it is not worth copying the shard. */
#define WORTH 0.01

static bool takes_shards(const hvi_balance_target *server) {
    return !server->drained && server->weight > 0;
}

static void go(hvi_balance_shard *shard, hvi_balance_target *servers, int to) {
    servers[shard->server].load -= (double) shard->load;
    servers[to].load += (double) shard->load;
    shard->server = to;
    shard->moved = true;
}

/* ---- draining ---- */

/* The server that has the least load for its weight once it has this shard. */
static int emptiest(const hvi_balance_target *servers, int server_count, double load) {
    int best = -1;
    double least = 0;
    for (int i = 0; i < server_count; i++) {
        if (!takes_shards(&servers[i]))
            continue;
        double with = (servers[i].load + load) / servers[i].weight;
        if (best < 0 || with < least) {
            best = i;
            least = with;
        }
    }
    return best;
}

/* The largest shard of a drained server, or `count`. */
static size_t largest_drained(const hvi_balance_shard *shards, size_t count,
                              const hvi_balance_target *servers) {
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if (servers[shards[i].server].drained &&
            (best == count || shards[i].load > shards[best].load))
            best = i;
    return best;
}

/* ---- evening out ---- */

/* With the weight 0 it keeps what it has, and has no part in this. */
static bool is_bystander(const hvi_balance_target *server) {
    return !server->drained && !takes_shards(server);
}

/* What a server has above its share; below it, negative. */
static double excess(const hvi_balance_target *server, double total, double weights) {
    if (is_bystander(server))
        return 0;
    return server->load - (takes_shards(server) ? total * server->weight / weights : 0);
}

/* By how much moving this load from one server to the other lowers half the sum of the squared
 * deviations. */
static double gain(double load, double from_excess, double to_excess) {
    return load * (from_excess - to_excess - load);
}

typedef struct best_move {
    size_t shard;
    int to;
    double gain;
} best_move;

/* Per server to move to, only the excess counts, so of all servers that take shards the one that is
 * furthest below its share is the best for any shard. */
static int neediest(const hvi_balance_target *servers, int server_count, double total,
                    double weights) {
    int best = -1;
    double least = 0;
    for (int i = 0; i < server_count; i++) {
        double off = excess(&servers[i], total, weights);
        if (takes_shards(&servers[i]) && (best < 0 || off < least)) {
            best = i;
            least = off;
        }
    }
    return best;
}

static best_move find_best(const hvi_balance_shard *shards, size_t count,
                           const hvi_balance_target *servers, int server_count, double total,
                           double weights) {
    best_move best = {.to = neediest(servers, server_count, total, weights)};
    double to_excess = excess(&servers[best.to], total, weights);
    for (size_t i = 0; i < count; i++) {
        const hvi_balance_shard *shard = &shards[i];
        if (shard->moved || shard->server == best.to || is_bystander(&servers[shard->server]))
            continue;
        double by =
            gain((double) shard->load, excess(&servers[shard->server], total, weights), to_excess);
        if (by > best.gain) {
            best.gain = by;
            best.shard = i;
        }
    }
    return best;
}

static bool is_even(const hvi_balance_target *servers, int server_count, double total,
                    double weights, double average) {
    for (int i = 0; i < server_count; i++) {
        double off = excess(&servers[i], total, weights);
        if (servers[i].drained)
            continue;
        if (off > TOLERANCE * average || -off > TOLERANCE * average)
            return false;
    }
    return true;
}

size_t hvi_balance(hvi_balance_shard *shards, size_t count, hvi_balance_target *servers,
                   int server_count, size_t most, size_t *order) {
    size_t made = 0, at;
    double total = 0, weights = 0;
    int takers = 0;
    for (int i = 0; i < server_count; i++) {
        servers[i].load = 0;
        weights += takes_shards(&servers[i]) ? servers[i].weight : 0;
        takers += takes_shards(&servers[i]) ? 1 : 0;
    }
    for (size_t i = 0; i < count; i++) {
        shards[i].moved = false;
        servers[shards[i].server].load += (double) shards[i].load;
        total += is_bystander(&servers[shards[i].server]) ? 0 : (double) shards[i].load;
    }
    while (made < most && (at = largest_drained(shards, count, servers)) < count) {
        go(&shards[at], servers, emptiest(servers, server_count, (double) shards[at].load));
        order[made++] = at;
    }
    double average = total / takers;
    while (made < most && !is_even(servers, server_count, total, weights, average)) {
        best_move best = find_best(shards, count, servers, server_count, total, weights);
        if (best.gain <= WORTH * average * WORTH * average)
            break;
        go(&shards[best.shard], servers, best.to);
        order[made++] = best.shard;
    }
    return made;
}
