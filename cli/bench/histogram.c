/*
 * histogram: count durations in buckets, and compute percentiles of them.
 *
 * Durations below 128 ns have a bucket each. Above that, the bucket's number consists of the
 * position of the highest bit and the next seven bits:
 *
 *     duration   1 0110101 ............   2^e <= duration < 2^(e+1)
 *     bucket    (e - 6)    0110101
 */
#include "bench/histogram.h"

#define SUB_BUCKETS (1 << BENCH_SUB_BITS)

static size_t bucket_of(int64_t duration) {
    if (duration < SUB_BUCKETS)
        return (size_t) duration;
    if (duration >= INT64_C(1) << BENCH_MAX_BITS)
        return BENCH_BUCKETS - 1;
    int highest = 63 - __builtin_clzll((unsigned long long) duration);
    int shift = highest - BENCH_SUB_BITS;
    return ((size_t) shift << BENCH_SUB_BITS) + (size_t) (duration >> shift);
}

int64_t bench_histogram_limit(size_t bucket) {
    if (bucket < 2 * SUB_BUCKETS)
        return (int64_t) bucket;
    int shift = (int) (bucket >> BENCH_SUB_BITS) - 1;
    int64_t first = (int64_t) (bucket & (SUB_BUCKETS - 1)) + SUB_BUCKETS;
    return ((first + 1) << shift) - 1;
}

void bench_histogram_add(bench_histogram *histogram, int64_t duration) {
    if (duration < 0)
        duration = 0;
    if (histogram->count == 0 || duration < histogram->min)
        histogram->min = duration;
    if (duration > histogram->max)
        histogram->max = duration;
    histogram->count++;
    histogram->sum += (uint64_t) duration;
    histogram->buckets[bucket_of(duration)]++;
}

void bench_histogram_merge(bench_histogram *histogram, const bench_histogram *from) {
    if (from->count == 0)
        return;
    if (histogram->count == 0 || from->min < histogram->min)
        histogram->min = from->min;
    if (from->max > histogram->max)
        histogram->max = from->max;
    histogram->count += from->count;
    histogram->sum += from->sum;
    for (size_t i = 0; i < BENCH_BUCKETS; i++)
        histogram->buckets[i] += from->buckets[i];
}

int64_t bench_histogram_percentile(const bench_histogram *histogram, int share) {
    if (histogram->count == 0)
        return 0;
    /* In whole numbers, because 99.9 percent of 1,000 must be exactly 999. */
    uint64_t rank = (histogram->count * (uint64_t) share + 99999) / 100000;
    rank = rank == 0 ? 1 : rank;
    uint64_t seen = 0;
    for (size_t i = 0; i < BENCH_BUCKETS - 1; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            int64_t limit = bench_histogram_limit(i);
            return limit < histogram->max ? limit : histogram->max;
        }
    }
    return histogram->max;
}
