/*
 * Tests of patience: how long its pauses are, and when it is at an end.
 */
#include "unit.h"

#include "base/clock.h"
#include "schema/patience.h"

static void test_pauses_grow_and_are_of_random_length(void **state) {
    (void) state;
    static const int64_t longest[] = {50, 100, 200, 400, 800, 1600, 2000, 2000, 2000};
    bool differ = false;
    for (int round = 0; round < 20; round++) {
        hvi_patience one = {0}, other = {0};
        for (size_t i = 0; i < LENGTH(longest); i++) {
            int64_t pause = -1, others = -1;
            assert_true(hvi_patience_next(&one, -1, &pause));
            assert_in_range(pause, longest[i] / 2, longest[i]);
            assert_true(hvi_patience_next(&other, -1, &others));
            differ = differ || pause != others;
        }
    }
    assert_true(differ);
}

static void test_it_ends_after_the_time_it_was_given(void **state) {
    (void) state;
    hvi_patience patience = {0};
    int64_t pause = -1;
    assert_true(hvi_patience_next(&patience, 10000, &pause));
    patience.began = hvi_clock_us() - 9990 * INT64_C(1000);
    assert_true(hvi_patience_next(&patience, 10000, &pause));
    assert_in_range(pause, 1, 10); /* the last one ends with the time */
    patience.began = hvi_clock_us() - 10000 * INT64_C(1000);
    pause = -1;
    assert_false(hvi_patience_next(&patience, 10000, &pause));
    assert_int_equal(pause, -1);
    assert_true(hvi_patience_next(&patience, -1, &pause)); /* for ever */
}

static void test_the_time_begins_with_the_first_pause(void **state) {
    (void) state;
    hvi_patience patience = {0};
    int64_t pause;
    assert_true(hvi_patience_next(&patience, 1000, &pause));
    assert_in_range(patience.began, hvi_clock_us() - 900 * INT64_C(1000), hvi_clock_us());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses_grow_and_are_of_random_length),
        cmocka_unit_test(test_it_ends_after_the_time_it_was_given),
        cmocka_unit_test(test_the_time_begins_with_the_first_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
