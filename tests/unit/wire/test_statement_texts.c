/*
 * Tests of the names of statements that are made while the program runs.
 */
#include "wire/statement_texts.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

static hvi_statement_texts texts;

static const char *name_of(const char *text) {
    return hvi_statement_texts_name(&texts, "page", text, strlen(text));
}

static int set_up(void **state) {
    (void) state;
    return hvi_statement_texts_init(&texts, NULL) == HV_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void) state;
    hvi_statement_texts_fini(&texts);
    return 0;
}

static void test_a_text_keeps_its_name(void **state) {
    (void) state;
    const char *first = name_of("SELECT 1"), *second = name_of("SELECT 2");
    assert_string_equal(first, "page_1");
    assert_string_equal(second, "page_2");
    assert_ptr_equal(name_of("SELECT 1"), first);
    assert_ptr_equal(name_of("SELECT 2"), second);
    assert_string_equal(hvi_statement_texts_name(&texts, "a_long_name", "", 0), "a_long_n_3");
}

static void test_there_is_room_for_a_limited_number(void **state) {
    (void) state;
    char text[32];
    const char *first = name_of("0");
    for (int i = 1; i < HVI_STATEMENT_TEXTS_MAX; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_non_null(name_of(text));
    }
    assert_null(name_of("one more"));
    assert_ptr_equal(name_of("0"), first);
}

static void test_and_for_a_limited_number_of_bytes(void **state) {
    (void) state;
    size_t len = HVI_STATEMENT_TEXTS_MAX_BYTES / 4;
    char *text = calloc(len + 1, 1);
    memset(text, 'x', len);
    for (char c = '0'; c < '4'; c++) {
        text[0] = c;
        assert_non_null(name_of(text));
    }
    assert_null(name_of("x"));
    assert_non_null(name_of(text));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_text_keeps_its_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_there_is_room_for_a_limited_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_and_for_a_limited_number_of_bytes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
