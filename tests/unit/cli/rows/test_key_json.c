/*
 * Tests of cli/key_json: how keys are written, which texts are keys, and what doubles look like.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "rows/key_json.h"
#include "ui/memory.h"

void out_of_memory(void) {
    abort();
}

static void test_a_key_is_written_as_a_string(void **state) {
    (void) state;
    char text[KEY_JSON_SIZE];
    assert_string_equal(key_json_text(text, INT64_MAX), "\"9223372036854775807\"");
    json_t *value = key_json(INT64_MAX);
    assert_string_equal(json_string_value(value), "9223372036854775807");
    json_decref(value);
}

static void test_strings_and_numbers_are_read(void **state) {
    (void) state;
    static const char *const good[] = {"307821103844175873,", "\"307821103844175873\","};
    static const char *const bad[] = {
        "", "\"\"", "x", "\"1", "-1", "0", "9223372036854775808", "\" 1\"", "null"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t key = 0;
        const char *end = key_json_scan(good[i], &key);
        assert_non_null(end);
        assert_string_equal(end, ",");
        assert_true(key == 307821103844175873);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_null(key_json_scan(bad[i], &(int64_t){0}));
    assert_true(key_json_read("9223372036854775807", &(int64_t){0}));
    assert_false(key_json_read("1.0", &(int64_t){0}));
    assert_false(key_json_read("12\"", &(int64_t){0}));
}

static void test_fractions_and_exponents_are_reported(void **state) {
    (void) state;
    assert_true(key_json_is_fraction("1.0"));
    assert_true(key_json_is_fraction("3.4e+18"));
    assert_true(key_json_is_fraction("34E17"));
    assert_false(key_json_is_fraction("9223372036854775808"));
    assert_false(key_json_is_fraction("-5"));
}

/* What jq 1.6 and JavaScript print, and the 17 digits that other programs do. */
static void test_what_a_double_is_printed_as_is_distinguished_from_other_keys(void **state) {
    (void) state;
    static const struct {
        int64_t key, shortest, seventeen;
    } keys[] = {
        {307821103844175873, 307821103844175900, 307821103844175870},
        {3441122334455667788, 3441122334455667700, 3441122334455667700},
        {90071992547409931, 90071992547409940, 90071992547409936},
        {9007199254740993, 9007199254740992, 9007199254740992},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_false(key_json_is_double(keys[i].key));
        if (keys[i].shortest > KEY_JSON_EXACT)
            assert_true(key_json_is_double(keys[i].shortest));
        if (keys[i].seventeen > KEY_JSON_EXACT)
            assert_true(key_json_is_double(keys[i].seventeen));
    }
    assert_false(key_json_is_double(KEY_JSON_EXACT));
    assert_true(key_json_is_double(KEY_JSON_EXACT + 2));
    assert_false(key_json_is_double(INT64_MAX));
    /* A double can hold it, but is printed with zeros at its end. */
    assert_false(key_json_is_double(INT64_C(410000000001) << 23));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_written_as_a_string),
        cmocka_unit_test(test_strings_and_numbers_are_read),
        cmocka_unit_test(test_fractions_and_exponents_are_reported),
        cmocka_unit_test(test_what_a_double_is_printed_as_is_distinguished_from_other_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
