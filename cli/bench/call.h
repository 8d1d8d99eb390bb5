/*
 * bench_call: one call, of one operation or many: by the store's functions, or as an application
 * without them would.
 *
 * With BENCH_VIA_POOL a connection is borrowed for each operation, and the statement runs on it as
 * libpq's manual says: prepared when the connection first needs it, values as text.
 */
#ifndef BENCH_CALL_H
#define BENCH_CALL_H

#include "bench/errors.h"
#include "bench/settings.h"
#include "hypervault.h"

/* What one caller works with; by one thread at a time. */
typedef struct bench_call {
    const bench_settings *settings; /* as the store, not owned */
    hv_store *store;
    hv_dict *dict; /* what is put, and must be got again; owned */
    /* As many as operations in a call, if these are many; owned. */
    hv_new_entity *puts;
    hv_entity **gets;
    hv_status *statuses;
    hv_error **errors;
} bench_call;

void bench_call_init(bench_call *call, const bench_settings *settings, hv_store *store);
void bench_call_fini(bench_call *call);

/* Put `count` entities, no more than settings.batch. The failures, all zero before, are the
 * caller's to clear. */
void bench_call_put(bench_call *call, const int *shards, int64_t *keys, int count,
                    sql_failure *failures);

/* Get entities of this run. One that is not as it was put is HV_CORRUPT. */
void bench_call_get(bench_call *call, const int64_t *keys, int count, sql_failure *failures);

#endif
