/*
 * call: one call, of one operation or many, by the store's functions or on borrowed connections.
 *
 * With BENCH_VIA_POOL, which is for puts and gets, a connection is borrowed for each operation. The
 * statement is prepared when the connection first needs it, and values are text, as in libpq's
 * manual.
 */
#ifndef BENCH_CALL_H
#define BENCH_CALL_H

#include "bench/errors.h"
#include "bench/settings.h"
#include "hypervault.h"

/* The state of one caller; for one thread at a time. */
typedef struct bench_call {
    const bench_settings *settings; /* like the store, not owned */
    hv_store *store;
    hv_dict *dict;   /* the attributes to put, which gets must return; owned */
    hv_dict *merged; /* the attribute that merges set; owned */
    int64_t merges;  /* so many were begun */
    /* As many as operations in a call, if these are many; owned. */
    hv_new_entity *puts;
    hv_change *changes;
    hv_entity **gets;
    hv_status *statuses;
    hv_error **errors;
} bench_call;

void bench_call_init(bench_call *call, const bench_settings *settings, hv_store *store);
void bench_call_fini(bench_call *call);

/* Put `count` entities, no more than settings.batch. The failures must be all zero before; the
 * caller clears them. */
void bench_call_put(bench_call *call, const int *shards, int64_t *keys, int count,
                    sql_failure *failures);

/* Get entities of this run. An entity that differs from what was put is HV_CORRUPT, except for the
 * attribute that merges set. */
void bench_call_get(bench_call *call, const int64_t *keys, int count, sql_failure *failures);

/* Merge, modify or delete entities of this run. One that is missing is a failure. */
void bench_call_change(bench_call *call, bench_verb verb, const int64_t *keys, int count,
                       sql_failure *failures);

#endif
