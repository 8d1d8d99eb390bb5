/*
 * index_build: build an index on all shards, and drop one, CONCURRENTLY.
 *
 * What a shard has is always looked up, not recorded. So a run that was interrupted can be
 * repeated:
 *
 *     lock ──► look ──► valid, as wanted ──────────────────────────────────► done
 *               │  ▲ ├► another one, a table ──────────────────────────────► failed
 *               │  │ └► not valid ──► drop ──► build
 *               ▼  │                             ▲
 *             build┴► refused ──► find the key ──┴► look ──► drop ──► failed
 */
#ifndef HVI_INDEX_BUILD_H
#define HVI_INDEX_BUILD_H

#include "schema/index.h"
#include "schema/rollout.h"

/* See hv_index_create() and hv_index_drop(). The caller has entered the store. */
hv_status hvi_index_create(hvi_router *router, const hv_index *index, const hv_rollout *rollout,
                           hv_summary **summary, hv_error **error);
hv_status hvi_index_drop(hvi_router *router, const char *name, const hv_rollout *rollout,
                         hv_summary **summary, hv_error **error);

#endif
