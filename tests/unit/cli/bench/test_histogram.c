/*
 * Tests of cli/bench_histogram: every answer is compared with that of a sorted array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/histogram.h"

#define MAX_DURATIONS 20000
#define HOUR          INT64_C(3600000000000)

static const int shares[] = {0, 1, 1000, 25000, 50000, 90000, 95000, 99000, 99900, 99990, 100000};

/* splitmix64: the same numbers every time */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *) left;
    int64_t b = *(const int64_t *) right;
    return a < b ? -1 : a > b;
}

/* Sorts the durations. */
static void check(const bench_histogram *histogram, int64_t *durations, size_t count) {
    uint64_t sum = 0;
    qsort(durations, count, sizeof *durations, compare);
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t) durations[i];
    assert_int_equal(histogram->count, count);
    assert_int_equal(histogram->sum, sum);
    assert_int_equal(histogram->min, durations[0]);
    assert_int_equal(histogram->max, durations[count - 1]);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        size_t rank = (count * (size_t) shares[i] + 99999) / 100000;
        int64_t exact = durations[rank == 0 ? 0 : rank - 1];
        int64_t reported = bench_histogram_percentile(histogram, shares[i]);
        if (reported < exact || reported > exact + exact / 128)
            fail_msg("share %d of %zu: %lld instead of %lld", shares[i], count,
                     (long long) reported, (long long) exact);
    }
}

/* Durations whose number of bits is spread evenly, up to `bits`. */
static void check_random(size_t count, int bits, uint64_t seed) {
    bench_histogram *histogram = calloc(1, sizeof *histogram);
    int64_t *durations = calloc(count, sizeof *durations);
    assert_non_null(histogram);
    assert_non_null(durations);
    for (size_t i = 0; i < count; i++) {
        int shift = 63 - (int) (next_random(&seed) % (uint64_t) bits);
        durations[i] = (int64_t) (next_random(&seed) >> shift);
        bench_histogram_add(histogram, durations[i]);
    }
    check(histogram, durations, count);
    free(durations);
    free(histogram);
}

static void percentiles_are_those_of_a_sorted_array(void **state) {
    (void) state;
    for (int bits = 1; bits <= 41; bits++)
        check_random(MAX_DURATIONS / 10, bits, (uint64_t) bits);
    check_random(MAX_DURATIONS, 41, 1234);
}

static void percentiles_of_few_durations_are_right_too(void **state) {
    (void) state;
    for (size_t count = 1; count <= 200; count++)
        check_random(count, 35, count);
}

static void every_duration_lies_in_the_bucket_that_should_hold_it(void **state) {
    (void) state;
    for (size_t i = 1; i < BENCH_BUCKETS; i++)
        assert_true(bench_histogram_limit(i - 1) < bench_histogram_limit(i));
    bench_histogram *histogram = calloc(1, sizeof *histogram);
    assert_non_null(histogram);
    for (size_t i = 0; i < BENCH_BUCKETS; i++) {
        int64_t first = i == 0 ? 0 : bench_histogram_limit(i - 1) + 1;
        bench_histogram_add(histogram, first);
        bench_histogram_add(histogram, bench_histogram_limit(i));
        assert_int_equal(histogram->buckets[i], 2);
        assert_true(bench_histogram_limit(i) - first <= first / 128);
    }
    free(histogram);
}

static void a_histogram_without_durations_reports_zero(void **state) {
    (void) state;
    bench_histogram *histogram = calloc(1, sizeof *histogram);
    assert_non_null(histogram);
    assert_int_equal(bench_histogram_percentile(histogram, 50000), 0);
    assert_int_equal(bench_histogram_percentile(histogram, 100000), 0);
    free(histogram);
}

static void extreme_durations_are_counted_and_the_longest_is_exact(void **state) {
    (void) state;
    bench_histogram *histogram = calloc(1, sizeof *histogram);
    assert_non_null(histogram);
    bench_histogram_add(histogram, -5); /* a clock that went back */
    bench_histogram_add(histogram, 40 * HOUR);
    bench_histogram_add(histogram, 50 * HOUR);
    assert_int_equal(histogram->min, 0);
    assert_int_equal(bench_histogram_percentile(histogram, 33000), 0);
    assert_int_equal(bench_histogram_percentile(histogram, 100000), 50 * HOUR);
    assert_int_equal(histogram->buckets[BENCH_BUCKETS - 1], 2);
    free(histogram);
}

static void merged_histograms_are_as_if_one_had_counted_all(void **state) {
    (void) state;
    enum { PARTS = 7, EACH = 500 };
    uint64_t seed = 99;
    int64_t durations[PARTS * EACH];
    bench_histogram *one = calloc(1, sizeof *one);
    bench_histogram *merged = calloc(1, sizeof *merged);
    bench_histogram *part = calloc(1, sizeof *part);
    assert_non_null(one);
    assert_non_null(merged);
    assert_non_null(part);
    bench_histogram_merge(merged, part); /* nothing at all */
    for (size_t i = 0; i < PARTS * EACH; i++) {
        durations[i] = (int64_t) (next_random(&seed) >> (25 + 2 * (i / EACH))) + 5;
        bench_histogram_add(one, durations[i]);
        bench_histogram_add(part, durations[i]);
        if ((i + 1) % EACH == 0) {
            bench_histogram_merge(merged, part);
            memset(part, 0, sizeof *part);
        }
    }
    bench_histogram_merge(merged, part);
    assert_memory_equal(merged, one, sizeof *one);
    check(merged, durations, PARTS * EACH);
    free(part);
    free(merged);
    free(one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_those_of_a_sorted_array),
        cmocka_unit_test(percentiles_of_few_durations_are_right_too),
        cmocka_unit_test(every_duration_lies_in_the_bucket_that_should_hold_it),
        cmocka_unit_test(a_histogram_without_durations_reports_zero),
        cmocka_unit_test(extreme_durations_are_counted_and_the_longest_is_exact),
        cmocka_unit_test(merged_histograms_are_as_if_one_had_counted_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
