/*
 * Tests of the growable buffer.
 */
#include "base/buffer.h"
#include "unit.h"

#include <stdlib.h>

static void test_an_empty_buffer_has_no_memory_and_is_ok(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    assert_true(hvi_buffer_ok(&buffer));
    assert_null(buffer.data);
    hvi_buffer_fini(&buffer);
    buffer = (hvi_buffer) HVI_BUFFER_EMPTY;
    assert_int_equal(buffer.len, 0);
}

static void test_what_is_appended_adds_up_and_ends_with_a_nul(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    hvi_buffer_append(&buffer, NULL, 0);
    assert_string_equal(buffer.data, "");
    hvi_buffer_append(&buffer, "a\0b", 3);
    hvi_buffer_append_text(&buffer, "text");
    hvi_buffer_append_byte(&buffer, '!');
    hvi_buffer_append_format(&buffer, "%d-%s", 42, "x");
    hvi_buffer_append_format(&buffer, "%s", "");
    hvi_buffer_append_be32(&buffer, UINT32_C(0x01feff80));
    assert_true(hvi_buffer_ok(&buffer));
    assert_int_equal(buffer.len, 16);
    assert_memory_equal(buffer.data, "a\0btext!42-x\x01\xfe\xff\x80", 17);
    hvi_buffer_fini(&buffer);
    assert_null(buffer.data);
}

static void test_a_buffer_grows_byte_by_byte_to_a_megabyte(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    for (int i = 0; i < 1 << 20; i++) {
        hvi_buffer_append_byte(&buffer, (char) i);
        assert_int_equal(buffer.data[buffer.len], 0);
    }
    assert_int_equal(buffer.len, 1 << 20);
    for (int i = 0; i < 1 << 20; i++)
        if (buffer.data[i] != (char) i)
            fail_msg("byte %d is wrong", i);
    hvi_buffer_fini(&buffer);
}

static void test_reserved_room_is_not_moved_by_appending(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    assert_true(hvi_buffer_reserve(&buffer, 1000));
    assert_int_equal(buffer.len, 0);
    const char *data = buffer.data;
    for (int i = 0; i < 1000; i++)
        hvi_buffer_append_byte(&buffer, 'x');
    assert_ptr_equal(buffer.data, data);
    hvi_buffer_fini(&buffer);
}

static void test_long_formatted_text_fits(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&buffer, "%05000d", 7);
    assert_int_equal(buffer.len, 5000);
    assert_int_equal(buffer.data[4999], '7');
    assert_int_equal(buffer.data[5000], 0);
    hvi_buffer_fini(&buffer);
}

static void test_a_broken_buffer_stays_broken_and_empty(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&buffer, "lost");
    assert_false(hvi_buffer_reserve(&buffer, SIZE_MAX)); /* no machine has that */
    assert_false(hvi_buffer_ok(&buffer));
    hvi_buffer_append_text(&buffer, "more");
    hvi_buffer_append_byte(&buffer, 'x');
    hvi_buffer_append_be32(&buffer, 1);
    hvi_buffer_append_format(&buffer, "%d", 1);
    assert_false(hvi_buffer_reserve(&buffer, 0));
    assert_null(hvi_buffer_take(&buffer));
    assert_false(hvi_buffer_ok(&buffer));
    assert_null(buffer.data);
    assert_int_equal(buffer.len, 0);
    hvi_buffer_fini(&buffer);
    assert_true(hvi_buffer_ok(&buffer));
}

static void test_reset_empties_a_buffer_and_mends_a_broken_one(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&buffer, "one");
    const char *data = buffer.data;
    hvi_buffer_reset(&buffer);
    assert_int_equal(buffer.len, 0);
    assert_string_equal(buffer.data, "");
    hvi_buffer_append_text(&buffer, "two");
    assert_ptr_equal(buffer.data, data);
    hvi_buffer_break(&buffer);
    hvi_buffer_reset(&buffer);
    assert_true(hvi_buffer_ok(&buffer));
    hvi_buffer_append_text(&buffer, "three");
    assert_string_equal(buffer.data, "three");
    hvi_buffer_fini(&buffer);
}

static void test_what_was_taken_is_the_callers_and_the_buffer_is_empty(void **state) {
    (void) state;
    hvi_buffer buffer = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&buffer, "mine");
    char *mine = hvi_buffer_take(&buffer);
    assert_string_equal(mine, "mine");
    assert_null(buffer.data);
    char *nothing = hvi_buffer_take(&buffer);
    assert_string_equal(nothing, "");
    free(mine);
    free(nothing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_buffer_has_no_memory_and_is_ok),
        cmocka_unit_test(test_what_is_appended_adds_up_and_ends_with_a_nul),
        cmocka_unit_test(test_a_buffer_grows_byte_by_byte_to_a_megabyte),
        cmocka_unit_test(test_reserved_room_is_not_moved_by_appending),
        cmocka_unit_test(test_long_formatted_text_fits),
        cmocka_unit_test(test_a_broken_buffer_stays_broken_and_empty),
        cmocka_unit_test(test_reset_empties_a_buffer_and_mends_a_broken_one),
        cmocka_unit_test(test_what_was_taken_is_the_callers_and_the_buffer_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
