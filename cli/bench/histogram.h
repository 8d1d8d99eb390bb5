/*
 * histogram: count durations in buckets, and compute percentiles of them.
 *
 * The width of a bucket is 1/128 of the durations it holds (log-linear, as in HdrHistogram), so a
 * percentile is never too small, and too large by less than 0.8 percent, from a nanosecond to over
 * an hour. Longer durations share the last bucket; the longest of all is known exactly.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_SUB_BITS 7  /* 128 buckets for each power of two */
#define BENCH_MAX_BITS 42 /* durations below 2^42 ns, 73 minutes, have buckets of their own */
#define BENCH_BUCKETS  ((BENCH_MAX_BITS - BENCH_SUB_BITS + 1) << BENCH_SUB_BITS)

/* All zero: empty. */
typedef struct bench_histogram {
    uint64_t count;
    uint64_t sum; /* nanoseconds */
    int64_t min;  /* undefined while count is 0 */
    int64_t max;
    uint64_t buckets[BENCH_BUCKETS];
} bench_histogram;

/* Count a duration in nanoseconds; a negative one as 0. */
void bench_histogram_add(bench_histogram *histogram, int64_t duration);

/* Add everything that `from` has counted. */
void bench_histogram_merge(bench_histogram *histogram, const bench_histogram *from);

/*
 * A percentile: the smallest duration that a share of all durations, in thousandths of a percent,
 * does not exceed; 99900 is the one that 99.9 percent do not exceed. 0 if there are none.
 */
int64_t bench_histogram_percentile(const bench_histogram *histogram, int share);

/* The longest duration that a bucket holds; the last one holds longer ones too. */
int64_t bench_histogram_limit(size_t bucket);

#endif
