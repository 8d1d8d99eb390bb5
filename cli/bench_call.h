/*
 * bench_call: one operation: by the store's functions, or as an application without them would.
 *
 * With settings.via_pool a connection is borrowed for each operation, and the statement runs on it
 * as libpq's manual says: prepared when the connection first needs it, values as text.
 */
#ifndef BENCH_CALL_H
#define BENCH_CALL_H

#include "bench_errors.h"
#include "bench_settings.h"
#include "hypervault.h"

/* What one caller works with; by one thread at a time. */
typedef struct bench_call {
    const bench_settings *settings; /* as the store, not owned */
    hv_store *store;
    hv_dict *dict; /* what is put, and must be got again; owned */
} bench_call;

void bench_call_init(bench_call *call, const bench_settings *settings, hv_store *store);
void bench_call_fini(bench_call *call);

/* Each returns the failure's status. */
hv_status bench_call_put(bench_call *call, int shard, int64_t *key, bench_failure *failure);

/* Get an entity of this run. One that is not as it was put is HV_CORRUPT. */
hv_status bench_call_get(bench_call *call, int64_t key, bench_failure *failure);

#endif
