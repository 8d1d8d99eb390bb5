/*
 * Tests of the differences of two texts.
 */
#include "schema/differences.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static void assert_differences(const char *first, const char *second, const char *expected) {
    hvi_buffer to = HVI_BUFFER_EMPTY;
    hvi_differences(&to, first, second);
    assert_true(hvi_buffer_ok(&to));
    assert_string_equal(to.len > 0 ? to.data : "", expected);
    hvi_buffer_fini(&to);
}

static void test_few_lines(void **state) {
    (void) state;
    assert_differences("", "", "");
    assert_differences("a\nb\n", "a\nb\n", "");
    assert_differences("", "a\n", "+a\n");
    assert_differences("a\n", "", "-a\n");
    assert_differences("a\nb\nc\n", "a\nx\nc\n", "-b\n+x\n");
    assert_differences("a\nb\nc\n", "b\nc\nd\n", "-a\n+d\n");
    assert_differences("a\nb\nc\nd\n", "a\nc\nb\nd\n", "-b\n+b\n");
    assert_differences("a\na\n", "a\n", "-a\n");
    assert_differences("x\na\ny\nb\n", "a\nb\nz\n", "-x\n-y\n+z\n");
    assert_differences("ab\n", "a\n", "-ab\n+a\n");
    assert_differences("\n\n", "\n", "-\n");
}

/* Longer than any table: what is alike at both ends is still left out. */
static void test_many_lines(void **state) {
    (void) state;
    hvi_buffer first = HVI_BUFFER_EMPTY, second = HVI_BUFFER_EMPTY, to = HVI_BUFFER_EMPTY;
    for (int i = 0; i < 10000; i++) {
        hvi_buffer_append_format(&first, "%d\n", i);
        hvi_buffer_append_format(&second, "%d\n", i < 9999 ? i + (i > 0) * 20000 : i);
    }
    hvi_differences(&to, first.data, second.data);
    assert_memory_equal(to.data, "-1\n", 3);
    assert_null(strstr(to.data, "9999\n-"));
    hvi_buffer_fini(&first);
    hvi_buffer_fini(&second);
    hvi_buffer_fini(&to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_lines),
        cmocka_unit_test(test_many_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
