/*
 * Tests of move_options: values of options.
 */
#include "move/move_options.h"
#include "unit.h"

static void set(hv_move_options *options, const char *name, const char *value) {
    hv_error *error = NULL;
    assert_int_equal(hv_move_options_set(options, name, value, &error), HV_OK);
}

static void test_values_are_read(void **state) {
    (void) state;
    hv_move_options *options = hv_move_options_new();
    assert_non_null(options);
    assert_true(options->verify);
    assert_int_equal(options->max_pause, 1000);
    set(options, "keep_undo", "1.5h");
    set(options, "verify", "off");
    set(options, "offline", "on");
    set(options, "max_pause", "250ms");
    set(options, "max_wait", "0");
    set(options, "max_wal", "2 GB");
    assert_int_equal(options->keep_undo, 5400000);
    assert_false(options->verify);
    assert_true(options->offline);
    assert_int_equal(options->max_pause, 250);
    assert_int_equal(options->max_wait, 0);
    assert_int_equal(options->max_wal, INT64_C(2) << 30);
    set(options, "max_wal", "1048576");
    assert_int_equal(options->max_wal, 1 << 20);
    hv_move_options_free(options);
}

static void test_others_are_refused(void **state) {
    (void) state;
    static const char *const values[][2] = {
        {"keep_undo", ""},     {"keep_undo", "-1h"},         {"keep_undo", "soon"},
        {"keep_undo", "400d"}, {"verify", "true"},           {"max_pause", "5ms"},
        {"max_pause", "2min"}, {"max_wal", "1kB"},           {"max_wal", "many"},
        {"max_wal", "-5GB"},   {"max_wal", "99999999999TB"}, {"max_wait", "1 fortnight"},
    };
    hv_move_options *options = hv_move_options_new();
    for (size_t i = 0; i < LENGTH(values); i++) {
        hv_error *error = NULL;
        assert_int_equal(hv_move_options_set(options, values[i][0], values[i][1], &error),
                         HV_INVALID);
        assert_non_null(hv_error_hint(error));
        hv_error_free(error);
    }
    hv_error *error = NULL;
    assert_int_equal(hv_move_options_set(options, "keep_udno", "1h", &error), HV_INVALID);
    assert_string_equal(hv_error_hint(error), "Perhaps \"keep_undo\" is meant.");
    hv_error_free(error);
    hv_move_options_free(options);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_read),
        cmocka_unit_test(test_others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
