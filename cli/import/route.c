/*
 * route: which shard a row goes to.
 */
#include "import/route.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"
#include "ui/memory.h"

/* The first shard of each server, then the second of each, … */
static void add_alternating(import_route *route, const hv_store *store) {
    int servers = hv_server_count(store);
    int *last = new_memory((size_t) servers * sizeof *last);
    for (int i = 0; i < servers; i++)
        last[i] = -1;
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < servers; i++) {
            int shard = hv_next_shard(store, i, last[i]);
            if (shard < 0)
                continue; /* the next call with the same `after` returns the same */
            route->shards[route->count++] = last[i] = shard;
            more = true;
        }
    }
    free(last);
}

/* Sorts neighbours far apart: they are on the same server, mostly. A bijection. */
static uint32_t turn_of(int shard) {
    return (uint32_t) shard * UINT32_C(2654435769);
}

static int compare_turns(const void *left, const void *right) {
    uint32_t one = turn_of(*(const int *) left), other = turn_of(*(const int *) right);
    return one < other ? -1 : one > other;
}

static void add_scattered(import_route *route, const hv_store *store) {
    for (int shard = -1; (shard = hv_next_shard(store, -1, shard)) >= 0;)
        route->shards[route->count++] = shard;
    qsort(route->shards, route->count, sizeof *route->shards, compare_turns);
}

void import_route_init(import_route *route, const hv_store *store, int shard, const char *by,
                       const char *seed, bool by_server) {
    *route = (import_route){.fixed = shard, .by = by, .store = store};
    if (shard >= 0 || by != NULL)
        return;
    route->shards = new_memory(HV_SHARDS * sizeof *route->shards);
    if (by_server)
        add_alternating(route, store);
    else
        add_scattered(route, store);
    if (route->count > 0)
        route->first = hvi_hash_fnv1a(seed, strlen(seed)) % route->count;
}

void import_route_fini(import_route *route) {
    free(route->shards);
    *route = (import_route){.fixed = -1};
}

/* Mark a row as malformed. */
static int refuse(const import_route *route, row *refused, const char *format) {
    refused->fault = new_memory(sizeof *refused->fault);
    row_fault_line(refused->fault, refused->line, format,
                   hvi_utf8_excerpt(route->by, strlen(route->by)).text);
    return -1;
}

int import_route_row(import_route *route, row *routed) {
    if (routed->fault != NULL)
        return -1;
    if (route->fixed >= 0)
        return route->fixed;
    if (route->by == NULL)
        return route->shards[(route->first + (uint64_t) routed->number) % route->count];
    const char *value;
    size_t len;
    if (!hv_dict_get(routed->dict, route->by, strlen(route->by), &value, &len))
        return refuse(route, routed, "no attribute \"%s\", which decides the shard");
    if (value == NULL)
        return refuse(route, routed, "attribute \"%s\", which decides the shard, is NULL");
    int shard = -1;
    hv_shard_of(route->store, value, len, &shard, NULL); /* the store has a set of shards for it */
    return shard;
}
