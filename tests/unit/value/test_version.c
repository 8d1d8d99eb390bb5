/*
 * Tests of versions: their two forms, and which texts are versions.
 */
#include "value/version.h"
#include "unit.h"

#include <string.h>

static void test_what_is_printed_is_read_again(void **state) {
    (void) state;
    const hvi_version versions[] = {
        {.key = 1},
        {.key = 307821103844175873, .xmin = 739, .block = 0, .offset = 5},
        {.key = INT64_MAX, .xmin = UINT32_MAX, .block = UINT32_MAX, .offset = UINT16_MAX},
    };
    for (size_t i = 0; i < LENGTH(versions); i++) {
        char text[HVI_VERSION_LEN];
        hvi_version read = {0};
        hvi_version_print(&versions[i], text);
        assert_true(strlen(text) < sizeof text);
        assert_true(hvi_version_parse(text, &read));
        assert_int_equal(read.key, versions[i].key);
        assert_int_equal(read.xmin, versions[i].xmin);
        assert_int_equal(read.block, versions[i].block);
        assert_int_equal(read.offset, versions[i].offset);
    }
}

static void test_its_text_is_as_documented(void **state) {
    (void) state;
    char text[HVI_VERSION_LEN], row[HVI_ROW_VERSION_LEN];
    const hvi_version version = {.key = 307821103844175873, .xmin = 739, .offset = 5};
    hvi_version_print(&version, text);
    assert_string_equal(text, "307821103844175873-739-0-5");
    hvi_version_print_row(&version, row);
    assert_string_equal(row, "739(0,5)");
}

static void test_the_longest_as_a_row_has_room(void **state) {
    (void) state;
    char row[HVI_ROW_VERSION_LEN];
    const hvi_version version = {
        .key = 1, .xmin = UINT32_MAX, .block = UINT32_MAX, .offset = UINT16_MAX};
    hvi_version_print_row(&version, row);
    assert_string_equal(row, "4294967295(4294967295,65535)");
}

static void test_no_other_text_is_a_version(void **state) {
    (void) state;
    static const char *const texts[] = {
        "",
        "1",
        "1-2-3",
        "1-2-3-4-5",
        "1-2-3-4 ",
        " 1-2-3-4",
        "1-2-3-4\n",
        "+1-2-3-4",
        "-1-2-3-4",
        "0-2-3-4",
        "01-2-3-4",
        "1-02-3-4",
        "1--2-3-4",
        "1-2-3-65536",
        "1-2-4294967296-4",
        "1-4294967296-3-4",
        "9223372036854775808-2-3-4",
        "18446744073709551617-2-3-4",
        "1-2-3-4x",
        "x1-2-3-4",
        "1-0x2-3-4",
        "307821103844175873-739-0-5-307821103844175873-739-0-5-307821103844175873-739-0-5",
    };
    for (size_t i = 0; i < LENGTH(texts); i++) {
        hvi_version read = {.key = 77};
        if (hvi_version_parse(texts[i], &read))
            fail_msg("\"%s\" is taken for a version", texts[i]);
        assert_int_equal(read.key, 77);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_printed_is_read_again),
        cmocka_unit_test(test_its_text_is_as_documented),
        cmocka_unit_test(test_the_longest_as_a_row_has_room),
        cmocka_unit_test(test_no_other_text_is_a_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
