/*
 * rollout_watch: what people see while work on all shards goes on.
 *
 * On a terminal there is a bar for each server, and below the bars are lines for shards that wait
 * and for long steps. Elsewhere a line says once that a shard has been waiting for a while.
 */
#ifndef ROLLOUT_WATCH_H
#define ROLLOUT_WATCH_H

#include "hypervault.h"

typedef struct rollout_watch rollout_watch;

/* On which shards something is done. */
typedef struct rollout_scope {
    char *shards;         /* as in the configuration; owned; NULL: all of the store */
    const char **skipped; /* names of servers that are left out; the array is owned */
    size_t skipped_count;
    bool per_server; /* each server is one unit of work */
} rollout_scope;

rollout_watch *rollout_watch_new(const hv_store *store, const rollout_scope *scope);

/* An hv_rollout_fn; its context is the rollout_watch. */
void rollout_watch_event(void *context, const hv_rollout_event *event);

/* Wipe it. `watch` may be NULL. */
void rollout_watch_free(rollout_watch *watch);

#endif
