/*
 * borrow: put and get on borrowed connections, as an application would without the store's
 * functions.
 *
 * Each function borrows a connection, runs one statement and returns the connection. Statements are
 * prepared when a connection first needs them, at most settings.prepared_max on each connection.
 * They do the same as the store's own statements, with values in text form.
 */
#ifndef BENCH_BORROW_H
#define BENCH_BORROW_H

#include "bench/errors.h"
#include "bench/settings.h"
#include "hypervault.h"

/* Each returns the failure's status, and may be called by many threads at once. */
hv_status bench_borrow_put(hv_store *store, const bench_settings *settings, int shard,
                           const hv_dict *dict, int64_t *key, sql_failure *failure);

/* The dict belongs to the caller. HV_NOT_FOUND comes without a message. */
hv_status bench_borrow_get(hv_store *store, const bench_settings *settings, int64_t key, int *kind,
                           hv_dict **dict, sql_failure *failure);

#endif
