/*
 * Tests of selections as SQL. Against a server: tests/system/test_where_against_server.py.
 */
#include "entity/where.h"
#include "unit.h"

#include <string.h>

#define LOWER " AND id OPERATOR(pg_catalog.>=) $1::bigint"

static const hvi_key_range everything = {1, INT64_MAX};

static void assert_sql(const hv_selection *selection, hvi_key_range range, const char *expected,
                       int parameter_count) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_parameters parameters = HVI_PARAMETERS_EMPTY;
    hvi_where_sql(&sql, selection, range, "h");
    hvi_where_parameters(&parameters, selection, range);
    assert_true(hvi_buffer_ok(&sql));
    assert_string_equal(sql.data, expected);
    assert_int_equal(parameters.count, parameter_count);
    assert_int_equal(hvi_where_parameter_count(selection, range), parameter_count);
    hvi_parameters_fini(&parameters);
    hvi_buffer_fini(&sql);
}

static void test_an_end_of_the_range_that_excludes_nothing_is_left_out(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    assert_sql(s, everything, "true", 0);
    assert_sql(s, (hvi_key_range){2, INT64_MAX}, "true" LOWER, 1);
    assert_sql(s, (hvi_key_range){1, 9}, "true AND id OPERATOR(pg_catalog.<=) $1::bigint", 1);
    assert_sql(s, (hvi_key_range){2, 9}, "true" LOWER " AND id OPERATOR(pg_catalog.<=) $2::bigint",
               2);
    hv_selection_free(s);
}

static void test_each_condition_is_written(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hv_dict *dict = hv_dict_new();
    hv_dict_set(dict, "h", "1", NULL);
    hv_selection_kind(s, 4, NULL);
    assert_sql(s, everything, "true AND type OPERATOR(pg_catalog.=) $1::smallint", 1);
    hv_selection_kind(s, 5, NULL);
    hv_selection_equal(s, "a", 1, "1", 1, NULL);
    hv_selection_one_of(s, "b", 1, (const char *[]){"1", "2"}, NULL, 2, NULL);
    hv_selection_equal(s, "n", 1, NULL, 0, NULL);
    hv_selection_one_of(s, "o", 1, (const char *[]){"1", NULL}, NULL, 2, NULL);
    hv_selection_has(s, dict, NULL);
    hv_selection_exists(s, "x", 1, NULL);
    hv_selection_lacks(s, "l", 1, NULL);
    assert_sql(s, (hvi_key_range){2, INT64_MAX},
               "true" LOWER " AND type OPERATOR(pg_catalog.=) ANY ($2::smallint[])"
               " AND (body OPERATOR(h.->) 'a'::pg_catalog.text)"
               " OPERATOR(pg_catalog.=) $3::pg_catalog.text"
               " AND (body OPERATOR(h.->) 'b'::pg_catalog.text)"
               " OPERATOR(pg_catalog.=) ANY ($4::pg_catalog.text[])"
               " AND (body OPERATOR(h.?) 'n'::pg_catalog.text)"
               " AND (body OPERATOR(h.->) 'n'::pg_catalog.text) IS NULL"
               " AND ((body OPERATOR(h.->) 'o'::pg_catalog.text)"
               " OPERATOR(pg_catalog.=) $5::pg_catalog.text"
               " OR (body OPERATOR(h.?) 'o'::pg_catalog.text)"
               " AND (body OPERATOR(h.->) 'o'::pg_catalog.text) IS NULL)"
               " AND body OPERATOR(h.@>) $6::h.hstore"
               " AND (body OPERATOR(h.?) 'x'::pg_catalog.text)"
               " AND (body OPERATOR(h.?) 'l'::pg_catalog.text) IS NOT TRUE",
               6);
    hv_dict_free(dict);
    hv_selection_free(s);
}

/* So that an index of this kind fits. */
static void test_the_only_kind_is_in_the_text_beside_attributes(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hv_selection_kind(s, -7, NULL);
    assert_sql(s, everything, "true AND type OPERATOR(pg_catalog.=) $1::smallint", 1);
    hv_selection_equal(s, "a", 1, "1", 1, NULL);
    assert_sql(s, (hvi_key_range){2, INT64_MAX},
               "true" LOWER " AND type OPERATOR(pg_catalog.=) '-7'::smallint"
               " AND (body OPERATOR(h.->) 'a'::pg_catalog.text)"
               " OPERATOR(pg_catalog.=) $2::pg_catalog.text",
               2);
    hv_selection_kind(s, -8, NULL);
    assert_sql(s, everything,
               "true AND type OPERATOR(pg_catalog.=) ANY ($1::smallint[])"
               " AND (body OPERATOR(h.->) 'a'::pg_catalog.text)"
               " OPERATOR(pg_catalog.=) $2::pg_catalog.text",
               2);
    hv_selection_free(s);
}

static void test_values_are_not_in_the_text(void **state) {
    (void) state;
    hvi_buffer texts[2] = {HVI_BUFFER_EMPTY, HVI_BUFFER_EMPTY};
    static const char *const values[] = {"one", "'; two"};
    for (int i = 0; i < 2; i++) {
        hv_selection *s = hv_selection_new();
        hv_selection_kind(s, i, NULL);
        hv_selection_kind(s, i + 1, NULL);
        hv_selection_equal(s, "a", 1, values[i], HV_STRLEN, NULL);
        hvi_where_sql(&texts[i], s, (hvi_key_range){i + 2, i + 3}, "h");
        hv_selection_free(s);
    }
    assert_string_equal(texts[0].data, texts[1].data);
    hvi_buffer_fini(&texts[0]);
    hvi_buffer_fini(&texts[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_end_of_the_range_that_excludes_nothing_is_left_out),
        cmocka_unit_test(test_each_condition_is_written),
        cmocka_unit_test(test_the_only_kind_is_in_the_text_beside_attributes),
        cmocka_unit_test(test_values_are_not_in_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
