/*
 * Tests of values and names as parts of SQL.
 */
#include "value/sql_text.h"
#include "unit.h"

#include <string.h>

static void test_literals_are_quoted(void **state) {
    (void) state;
    static const struct {
        const char *text, *literal;
    } cases[] = {
        {"", "''"},         {"a", "'a'"},         {"'", "''''"},  {"\\", "E'\\\\'"},
        {"%s", "'%s'"},     {"\\'", "E'\\\\'''"}, {"$1", "'$1'"}, {"\xc3\xa9", "'\xc3\xa9'"},
        {"a\nb", "'a\nb'"}, {"';--", "''';--'"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hvi_buffer sql = HVI_BUFFER_EMPTY;
        hvi_sql_text(&sql, cases[i].text, strlen(cases[i].text));
        size_t len = strlen(cases[i].literal);
        assert_memory_equal(sql.data, cases[i].literal, len);
        assert_string_equal(sql.data + len, "::pg_catalog.text");
        hvi_buffer_fini(&sql);
    }
}

static void test_names_are_quoted(void **state) {
    (void) state;
    static const struct {
        const char *name, *quoted;
    } cases[] = {
        {"a", "\"a\""},
        {"A b", "\"A b\""},
        {"\"", "\"\"\"\""},
        {"a\\'", "\"a\\'\""},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hvi_buffer sql = HVI_BUFFER_EMPTY;
        hvi_sql_name(&sql, cases[i].name);
        assert_string_equal(sql.data, cases[i].quoted);
        hvi_buffer_fini(&sql);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals_are_quoted),
        cmocka_unit_test(test_names_are_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
