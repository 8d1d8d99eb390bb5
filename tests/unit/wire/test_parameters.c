/*
 * Tests of parameters: their bytes, and their readable forms.
 */
#include "wire/parameters.h"
#include "unit.h"

#include <string.h>

static void assert_value(const hvi_query *query, int number, const char *bytes, size_t len) {
    assert_int_equal(query->formats[number], 1);
    assert_int_equal(query->lengths[number], len);
    assert_memory_equal(query->values[number], bytes, len);
}

static hv_dict *names(void) {
    hv_dict *dict = hv_dict_new();
    hv_dict_set(dict, "a\"\\", NULL, NULL);
    hv_dict_set(dict, "", NULL, NULL);
    return dict;
}

static void fill(hvi_parameters *parameters) {
    hv_dict *dict = names(), *none = hv_dict_new();
    hvi_parameters_int8(parameters, -2);
    hvi_parameters_int2(parameters, 258);
    hvi_parameters_int2_array(parameters, (int16_t[]){1, -1}, 2);
    hvi_parameters_text(parameters, "", 0);
    hvi_parameters_text(parameters, "x%s", 3);
    hvi_parameters_text_array(parameters, dict);
    hvi_parameters_hstore(parameters, dict);
    hvi_parameters_text_array(parameters, none);
    hv_dict_free(dict);
    hv_dict_free(none);
}

static void test_they_are_in_binary_form(void **state) {
    (void) state;
    hvi_parameters parameters = HVI_PARAMETERS_EMPTY;
    hvi_query query = {0};
    for (int round = 0; round < 2; round++) {
        fill(&parameters);
        assert_true(hvi_parameters_bind(&parameters, &query));
        assert_int_equal(query.parameter_count, 8);
        assert_null(query.types);
        assert_null(query.log_values);
        assert_value(&query, 0, "\xff\xff\xff\xff\xff\xff\xff\xfe", 8);
        assert_value(&query, 1, "\1\2", 2);
        assert_value(&query, 2,
                     "\0\0\0\1\0\0\0\0\0\0\0\25\0\0\0\2\0\0\0\1\0\0\0\2\0\1\0\0\0\2\xff\xff", 32);
        assert_value(&query, 3, "", 0);
        assert_non_null(query.values[3]); /* which would be NULL */
        assert_value(&query, 4, "x%s", 3);
        assert_value(&query, 5, "\0\0\0\1\0\0\0\0\0\0\0\31\0\0\0\2\0\0\0\1\0\0\0\3a\"\\\0\0\0\0",
                     31);
        assert_value(&query, 6, "\0\0\0\2\0\0\0\3a\"\\\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff",
                     23);
        assert_value(&query, 7, "\0\0\0\0\0\0\0\0\0\0\0\31", 12);
        hvi_parameters_reset(&parameters);
        assert_true(hvi_parameters_bind(&parameters, &query));
        assert_int_equal(query.parameter_count, 0);
    }
    hvi_parameters_fini(&parameters);
}

static void test_the_log_gets_readable_ones(void **state) {
    (void) state;
    hvi_parameters parameters = {.log = true};
    hvi_query query = {0};
    fill(&parameters);
    assert_true(hvi_parameters_bind(&parameters, &query));
    static const char *const expected[] = {
        "-2", "258", "{1,-1}", "", "x%s", "{\"a\\\"\\\\\",\"\"}", "\"\"=>NULL, \"a\\\"\\\\\"=>NULL",
        "{}",
    };
    for (size_t i = 0; i < LENGTH(expected); i++)
        assert_string_equal(query.log_values[i], expected[i]);
    hvi_parameters_fini(&parameters);
}

static void test_too_many_are_refused(void **state) {
    (void) state;
    hvi_parameters parameters = HVI_PARAMETERS_EMPTY;
    for (int i = 0; i < 65535; i++)
        hvi_parameters_int2(&parameters, 1);
    assert_true(hvi_parameters_bind(&parameters, &(hvi_query){0}));
    hvi_parameters_int2(&parameters, 1);
    assert_false(hvi_parameters_bind(&parameters, &(hvi_query){0}));
    hvi_parameters_fini(&parameters);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_they_are_in_binary_form),
        cmocka_unit_test(test_the_log_gets_readable_ones),
        cmocka_unit_test(test_too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
