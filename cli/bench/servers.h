/*
 * servers: check the servers before a run, and remove the entities that it has put.
 *
 * Entities of a run are recognised by three things together: their key, which is not older than the
 * run, their kind, and the run's mark in the attribute BENCH_MARK. Nothing else is ever removed.
 */
#ifndef BENCH_SERVERS_H
#define BENCH_SERVERS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/settings.h"
#include "hypervault.h"

typedef struct bench_servers {
    const bench_settings *settings; /* like the store, not owned */
    hv_store *store;
    struct bench_server *each; /* one for each server of the store; owned */
    int *postmasters;          /* as in usage.h; owned */
} bench_servers;

/*
 * Check all servers that hold one of the run's shards: can they be reached, do the shards exist,
 * may entities be removed again (unless settings.keep)? False after an error message.
 */
bool bench_servers_check(bench_servers *servers, const bench_settings *settings, hv_store *store);
void bench_servers_fini(bench_servers *servers);

/*
 * Remove the run's entities from all servers. `stored` is how many there should be, for the
 * progress bar; `least_key` the least key of the run, 0: none. *removed receives how many were
 * removed. False: some may be left, and an error says where.
 */
bool bench_servers_clean(bench_servers *servers, int64_t stored, int64_t least_key,
                         int64_t *removed);

#endif
