/*
 * Tests of definitions of indexes. What a server prints for them: tests/system/test_index.py.
 */
#include "schema/index.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static hv_error *error;

static void assert_sql(hv_index *index, const char *expected) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_index_create_sql(&sql, index, "shard0012", "h");
    assert_true(hvi_buffer_ok(&sql));
    assert_string_equal(sql.data, expected);
    hvi_buffer_fini(&sql);
}

static void assert_definition(const hv_index *index, const char *expected) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_index_definition(&text, index, "\"N\"", "shard0012", "h");
    assert_true(hvi_buffer_ok(&text));
    assert_string_equal(text.data, expected);
    hvi_buffer_fini(&text);
}

static hv_index *index_on(const char *name, const char *type) {
    hv_index *index = hv_index_new();
    assert_int_equal(hv_index_attribute(index, name, type, &error), HV_OK);
    return index;
}

static void test_an_attribute_and_the_key(void **state) {
    (void) state;
    hv_index *index = index_on("user", NULL);
    assert_sql(index, "CREATE INDEX CONCURRENTLY \"entities_user_idx\" ON shard0012.entities"
                      " USING btree ((body OPERATOR(h.->) 'user'::pg_catalog.text), id)");
    assert_definition(index, "CREATE INDEX \"N\" ON shard0012.entities"
                             " USING btree (((body OPERATOR(h.->) 'user'::text)), id)");
    hv_index_kind(index, -2);
    hv_index_unique(index);
    assert_sql(index, "CREATE UNIQUE INDEX CONCURRENTLY \"entities_user_of_minus_2_key\""
                      " ON shard0012.entities"
                      " USING btree ((body OPERATOR(h.->) 'user'::pg_catalog.text))"
                      " WHERE type OPERATOR(pg_catalog.=) '-2'::smallint");
    assert_definition(index, "CREATE UNIQUE INDEX \"N\" ON shard0012.entities"
                             " USING btree (((body OPERATOR(h.->) 'user'::text)))"
                             " WHERE (type = '-2'::smallint)");
    hv_index_free(index);
}

static void test_types_and_quotes(void **state) {
    (void) state;
    hv_index *index = index_on("a'b\\", "bigint");
    hv_index_attribute(index, "at", "timestamptz", &error);
    hv_index_attribute(index, "u", "uuid", &error);
    hv_index_name(index, "we\"ird", &error);
    assert_sql(index, "CREATE INDEX CONCURRENTLY \"we\"\"ird\" ON shard0012.entities USING btree ("
                      "((body OPERATOR(h.->) E'a''b\\\\'::pg_catalog.text)::bigint), "
                      "hypervault.iso_timestamptz((body OPERATOR(h.->) 'at'::pg_catalog.text)), "
                      "((body OPERATOR(h.->) 'u'::pg_catalog.text)::pg_catalog.uuid), id)");
    assert_definition(index, "CREATE INDEX \"N\" ON shard0012.entities USING btree ("
                             "(((body OPERATOR(h.->) 'a''b\\'::text))::bigint), "
                             "hypervault.iso_timestamptz((body OPERATOR(h.->) 'at'::text)), "
                             "(((body OPERATOR(h.->) 'u'::text))::uuid), id)");
    assert_string_equal(hvi_index_function_at(index, 0)->name, "iso_timestamptz");
    assert_null(hvi_index_function_at(index, 1));
    hv_index_free(index);
}

static void test_all_attributes(void **state) {
    (void) state;
    hv_index *index = hv_index_new();
    hv_index_all(index);
    assert_sql(index, "CREATE INDEX CONCURRENTLY \"entities_all_idx\" ON shard0012.entities"
                      " USING gin (body)");
    assert_definition(index, "CREATE INDEX \"N\" ON shard0012.entities USING gin (body)");
    assert_string_equal(hv_index_expression(index, NULL), "body");
    hv_index_free(index);
}

static void test_expressions(void **state) {
    (void) state;
    hv_index *index = index_on("a", "date");
    assert_string_equal(hv_index_expression(index, NULL),
                        "hypervault.iso_date((body OPERATOR(public.->) 'a'::pg_catalog.text))");
    hv_index_attribute(index, "b", "real", &error);
    assert_string_equal(hv_index_expression(index, "\"h\""),
                        "hypervault.iso_date((body OPERATOR(\"h\".->) 'a'::pg_catalog.text)), "
                        "((body OPERATOR(\"h\".->) 'b'::pg_catalog.text)::real)");
    hv_index_free(index);
    index = hv_index_new();
    assert_null(hv_index_expression(index, NULL));
    assert_null(hv_index_chosen_name(index));
    hv_index_free(index);
}

/* Different attributes have different names, of at most 63 bytes. */
static void test_chosen_names(void **state) {
    (void) state;
    static const char *const attributes[] = {
        "a",
        "a_b",
        "a b",
        "a-b",
        "A",
        "\xc3\xa9",
        "\xc3\xa8",
        "",
        "_",
        "a_very_long_name_that_does_not_fit_into_what_postgresql_allows",
        "a_very_long_name_that_does_not_fit_into_what_postgresql_allows_either",
        "forty_nine_letters_of_an_attribute_that_just_fit_",
    };
    char *names[LENGTH(attributes) * 4];
    for (size_t i = 0; i < LENGTH(names); i++) {
        hv_index *index = index_on(attributes[i / 4], i % 2 == 0 ? NULL : "numeric");
        if (i % 4 >= 2)
            hv_index_kind(index, (int16_t) (i % 4));
        names[i] = strdup(hv_index_chosen_name(index));
        assert_in_range(strlen(names[i]), 14, 63);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(names[i], names[j]);
        hv_index_free(index);
    }
    assert_string_equal(names[5], "entities_a_b_numeric_idx");
    for (size_t i = 0; i < LENGTH(names); i++)
        free(names[i]);
}

static void test_what_is_no_definition(void **state) {
    (void) state;
    hv_index *index = hv_index_new();
    assert_int_equal(hvi_index_check(index, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "the index is on nothing: name an attribute");
    hv_index_attribute(index, "a", "bigin", &error);
    assert_string_equal(hv_error_hint(error), "Did you mean \"bigint\"?");
    assert_error(&error, HV_INVALID, "no index is made of values of type \"bigin\"");
    hv_index_attribute(index, "a", "money", &error);
    assert_null(hv_error_hint(error));
    assert_error(&error, HV_INVALID, "no index is made of values of type \"money\"");
    hv_index_attribute(index, "\xff", NULL, &error);
    assert_error(&error, HV_INVALID, "the name of attribute \"\\xff\" is not valid UTF-8");
    assert_int_equal(hv_index_attribute(index, "a", "text", &error), HV_OK);
    assert_int_equal(hv_index_attribute(index, "a", "bigint", &error), HV_OK);
    hv_index_attribute(index, "a", NULL, &error);
    assert_error(&error, HV_INVALID, "the attribute \"a\" is in the index twice");
    assert_int_equal(hvi_index_check(index, &error), HV_OK);
    hv_index_all(index);
    assert_int_equal(hvi_index_check(index, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "an index is on all attributes or on some, not on both");
    hv_index_free(index);
    index = hv_index_new();
    hv_index_all(index);
    hv_index_unique(index);
    assert_int_equal(hvi_index_check(index, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "an index on all attributes cannot be unique");
    hv_index_free(index);
}

static void test_names_that_are_none(void **state) {
    (void) state;
    char name[65];
    memset(name, 'x', 64);
    name[64] = '\0';
    hv_index *index = index_on("a", NULL);
    assert_int_equal(hv_index_name(index, name, &error), HV_INVALID);
    assert_string_equal(hv_error_detail(error), "It has 64 bytes; it must have 1 to 63.");
    hv_error_free(error);
    error = NULL;
    assert_int_equal(hv_index_name(index, name + 1, &error), HV_OK);
    assert_int_equal(hv_index_name(index, "", &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "the name of the index, \"\", is too short");
    hv_index_name(index, "a\xff", &error);
    assert_error(&error, HV_INVALID, "the name of the index, \"a\\xff\", is not valid UTF-8");
    assert_string_equal(hv_index_chosen_name(index), name + 1);
    hv_index_free(index);
}

static void test_as_many_attributes_as_postgresql_allows(void **state) {
    (void) state;
    hv_index *index = hv_index_new();
    for (char name[] = "A"; name[0] < 'A' + 32; name[0]++)
        hv_index_attribute(index, name, NULL, &error);
    assert_int_equal(hvi_index_check(index, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "the index is on 32 attributes, more than 31");
    hv_index_unique(index);
    assert_int_equal(hvi_index_check(index, &error), HV_OK);
    hv_index *copy = hvi_index_copy(index);
    assert_string_equal(hv_index_chosen_name(copy), hv_index_chosen_name(index));
    hv_index_free(copy);
    hv_index_free(index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_attribute_and_the_key),
        cmocka_unit_test(test_types_and_quotes),
        cmocka_unit_test(test_all_attributes),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_chosen_names),
        cmocka_unit_test(test_what_is_no_definition),
        cmocka_unit_test(test_names_that_are_none),
        cmocka_unit_test(test_as_many_attributes_as_postgresql_allows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
