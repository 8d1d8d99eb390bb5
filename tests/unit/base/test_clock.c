/*
 * Tests of time and deadlines.
 */
#include "base/clock.h"
#include "unit.h"

#include <limits.h>

static void test_time_never_runs_backwards(void **state) {
    (void) state;
    int64_t before = hvi_clock_us();
    for (int i = 0; i < 10000; i++) {
        int64_t now = hvi_clock_us();
        assert_true(now >= before);
        before = now;
    }
}

static void test_the_clock_counts_microseconds_of_the_monotonic_clock(void **state) {
    (void) state;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int64_t now = hvi_clock_us();
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now >= (int64_t) before.tv_sec * 1000000 + before.tv_nsec / 1000);
    assert_true(now <= (int64_t) after.tv_sec * 1000000 + after.tv_nsec / 1000);
}

static void test_a_deadline_lies_that_many_milliseconds_ahead(void **state) {
    (void) state;
    int64_t before = hvi_clock_us();
    int64_t deadline = hvi_deadline_after(60000);
    int64_t after = hvi_clock_us();
    assert_true(deadline >= before + 60000000);
    assert_true(deadline <= after + 60000000);
    int left = hvi_deadline_poll_ms(deadline);
    assert_true(left > 0 && left <= 60000);
}

static void test_a_negative_or_endless_time_is_never(void **state) {
    (void) state;
    assert_true(hvi_deadline_after(-1) == HVI_NEVER);
    assert_true(hvi_deadline_after(INT64_MIN) == HVI_NEVER);
    assert_true(hvi_deadline_after(INT64_MAX) == HVI_NEVER);
    assert_int_equal(hvi_deadline_poll_ms(HVI_NEVER), -1);
}

static void test_a_deadline_that_has_passed_leaves_nothing(void **state) {
    (void) state;
    assert_int_equal(hvi_deadline_poll_ms(hvi_deadline_after(0)), 0);
    assert_int_equal(hvi_deadline_poll_ms(0), 0);
    assert_int_equal(hvi_deadline_poll_ms(hvi_clock_us() - 1), 0);
}

static void test_waiting_times_are_rounded_up_so_that_nobody_wakes_too_early(void **state) {
    (void) state;
    int64_t deadline = hvi_clock_us() + 5000000;
    int left = hvi_deadline_poll_ms(deadline);
    int64_t now = hvi_clock_us();
    assert_true(now + (int64_t) left * 1000 >= deadline);
}

static void test_a_far_deadline_fits_what_poll_takes(void **state) {
    (void) state;
    assert_int_equal(hvi_deadline_poll_ms(HVI_NEVER - 1), INT_MAX);
    assert_int_equal(hvi_deadline_poll_ms(hvi_deadline_after((int64_t) INT_MAX * 10)), INT_MAX);
}

static void test_a_deadline_as_a_timespec_is_the_same_moment(void **state) {
    (void) state;
    struct timespec spec = hvi_deadline_timespec(INT64_C(12345678901));
    assert_int_equal(spec.tv_sec, 12345);
    assert_int_equal(spec.tv_nsec, 678901000);
    spec = hvi_deadline_timespec(HVI_NEVER);
    assert_true(spec.tv_sec > 0);
    assert_true(spec.tv_nsec >= 0 && spec.tv_nsec < 1000000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_never_runs_backwards),
        cmocka_unit_test(test_the_clock_counts_microseconds_of_the_monotonic_clock),
        cmocka_unit_test(test_a_deadline_lies_that_many_milliseconds_ahead),
        cmocka_unit_test(test_a_negative_or_endless_time_is_never),
        cmocka_unit_test(test_a_deadline_that_has_passed_leaves_nothing),
        cmocka_unit_test(test_waiting_times_are_rounded_up_so_that_nobody_wakes_too_early),
        cmocka_unit_test(test_a_far_deadline_fits_what_poll_takes),
        cmocka_unit_test(test_a_deadline_as_a_timespec_is_the_same_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
