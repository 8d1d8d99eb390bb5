/*
 * migrate: run the files of a directory on each shard that does not have them.
 */
#ifndef HVI_MIGRATE_H
#define HVI_MIGRATE_H

#include "schema/crew.h"
#include "schema/migrations.h"

/* See hv_migrate(). */
hv_status hvi_migrate(hvi_router *router, const hv_migrations *migrations,
                      const hv_rollout *rollout, hv_summary **summary, hv_error **error);

/* The same on those shards of one server that were made for it, and do not have all files yet. */
hv_status hvi_migrate_new(hvi_router *router, int server, const hv_migrations *migrations,
                          hv_error **error);

#endif
