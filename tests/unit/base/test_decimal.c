/*
 * Tests of decimal: which texts are numbers that can be added.
 */
#include "base/decimal.h"
#include "unit.h"

static void test_digits_with_a_point_and_a_sign_are_numbers(void **state) {
    (void) state;
    const char *const texts[] = {"0",     "7",  "007", "-1",  "+1",
                                 "-0.25", "1.", ".5",  "-.5", "123456789.987654321"};
    for (size_t i = 0; i < LENGTH(texts); i++)
        assert_true(hvi_is_decimal(texts[i]));
}

static void test_anything_else_is_none(void **state) {
    (void) state;
    const char *const texts[] = {"",         "-",  "+",  ".",   "-.",    "1e3", "0x10", "NaN",
                                 "Infinity", " 1", "1 ", "1,5", "1.2.3", "--1", "1-",   "\xd9\xa1"};
    for (size_t i = 0; i < LENGTH(texts); i++)
        assert_false(hvi_is_decimal(texts[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits_with_a_point_and_a_sign_are_numbers),
        cmocka_unit_test(test_anything_else_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
