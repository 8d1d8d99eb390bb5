/*
 * ledger_view: which migrations have run on which shards, on one screen.
 */
#ifndef LEDGER_VIEW_H
#define LEDGER_VIEW_H

#include "hypervault.h"

/* Show it, as a table or with --json as an object. `migrations` may be NULL. Returns an exit code:
 * EXIT_FAILED unless all shards have all files. */
int ledger_show(const hv_ledger *ledger, const hv_migrations *migrations);

/* Files that are not done on all shards, and the shards that lack one of them. */
void ledger_count_pending(const hv_ledger *ledger, size_t *files, size_t *shards);

#endif
