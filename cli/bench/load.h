/*
 * load: callers, each a thread, that put, get and change as fast as they can or at a given
 * rate.
 *
 * How time is measured. In a closed loop a caller begins an operation when its last one has ended,
 * and is timed from there: each caller sees a stall of the server once, although many more
 * operations would have come meanwhile, so the percentiles are too low. With a rate (an open loop)
 * each operation has a time at which it is due and is timed from that, so waiting for a caller
 * counts. Every operation that began (or was due) between the warm-up and the end is counted,
 * however long it took; latencies are those of operations that succeeded.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/errors.h"
#include "bench/histogram.h"
#include "bench/settings.h"
#include "hypervault.h"

/* The operations of one second. */
typedef struct bench_second {
    _Atomic int64_t succeeded;
    _Atomic int64_t failed;
} bench_second;

typedef struct bench_result {
    bool measured;    /* false: it was interrupted before there was anything to measure */
    int64_t duration; /* nanoseconds; up to the end of the last operation */
    int64_t succeeded;
    int64_t missed;           /* open loop: due, but not begun before the end */
    bool used_up;             /* it ended early because all entities were deleted */
    bench_histogram *latency; /* by bench_verb; owned, as all here */
    bench_errors errors;
    bench_second *seconds; /* by the end of operations; the last one holds all later ones */
    int second_count;
} bench_result;

typedef struct bench_load bench_load;

bench_load *bench_load_new(const bench_settings *settings, hv_store *store);
void bench_load_free(bench_load *load);

/* Put the entities that will be got or changed. False after an error message, or if interrupted()
 * is true. */
bool bench_load_fill(bench_load *load);

/* Start the callers; returns when the warm-up is over. False after an error message. */
bool bench_load_start(bench_load *load);

/* Wait for the end, or an interrupt. The result belongs to the load. */
const bench_result *bench_load_finish(bench_load *load);

/* Since the load was made: entities that are stored, puts that may be stored, those of the
 * stored ones that were deleted, and the least key (or 0). */
int64_t bench_load_stored(const bench_load *load);
int64_t bench_load_unknown(const bench_load *load);
int64_t bench_load_deleted(const bench_load *load);
int64_t bench_load_least_key(const bench_load *load);

#endif
