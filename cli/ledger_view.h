/*
 * ledger_view: which migrations have run on which shards, on one screen.
 */
#ifndef LEDGER_VIEW_H
#define LEDGER_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "hypervault.h"

/* Show it, as a table or with --json as an object. `migrations` may be NULL. Returns an exit code:
 * EXIT_FAILED unless all shards have all files. */
int ledger_show(const hv_ledger *ledger, const hv_migrations *migrations);

/* How much is not in order: files that are not done, were changed or are lacking on a shard that
 * should have them, shards with such a file, and shards whose ledger could not be read. */
typedef struct ledger_counts {
    size_t files;
    size_t shards;
    bool is_worse; /* one of them is more than pending */
    size_t unread;
} ledger_counts;

void ledger_count(const hv_ledger *ledger, ledger_counts *counts);

#endif
