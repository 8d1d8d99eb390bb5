/*
 * Tests of utf8: which bytes are valid text, and how text is shown in a message.
 */
#include "base/utf8.h"
#include "generator.h"
#include "unit.h"

#include <stdlib.h>

/* Decode one character by the definition: its length, or 0. Slow and plain, to compare with. */
static size_t character_by_definition(const unsigned char *p, size_t len) {
    static const uint32_t least[] = {0, 0x1, 0x80, 0x800, 0x10000};
    size_t size = p[0] < 0x80             ? 1
                  : (p[0] & 0xE0) == 0xC0 ? 2
                  : (p[0] & 0xF0) == 0xE0 ? 3
                  : (p[0] & 0xF8) == 0xF0 ? 4
                                          : 0;
    if (size == 0 || size > len)
        return 0;
    uint32_t code = size == 1 ? p[0] : p[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3F);
    }
    bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    return code < least[size] || code > 0x10FFFF || surrogate ? 0 : size;
}

static size_t prefix_by_definition(const unsigned char *text, size_t len) {
    size_t at = 0;
    while (at < len) {
        size_t size = character_by_definition(text + at, len - at);
        if (size == 0)
            break;
        at += size;
    }
    return at;
}

static void assert_as_defined(const unsigned char *bytes, size_t len) {
    size_t expected = prefix_by_definition(bytes, len);
    size_t actual = hvi_utf8_prefix((const char *) bytes, len);
    if (actual != expected)
        fail_msg("%02x %02x %02x %02x: %zu instead of %zu", bytes[0], bytes[1], bytes[2], bytes[3],
                 actual, expected);
}

static void test_all_sequences_of_up_to_three_bytes_are_judged_as_defined(void **state) {
    (void) state;
    for (uint32_t n = 0; n < UINT32_C(1) << 24; n++) {
        const unsigned char bytes[4] = {(unsigned char) (n >> 16), (unsigned char) (n >> 8),
                                        (unsigned char) n, 0};
        assert_as_defined(bytes, 3);
        if ((n & 0xFF) == 0)
            assert_as_defined(bytes, 2);
        if ((n & 0xFFFF) == 0)
            assert_as_defined(bytes, 1);
    }
}

static void test_sequences_of_four_bytes_are_judged_as_defined(void **state) {
    (void) state;
    static const unsigned char lasts[] = {0x00, 0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xFF};
    for (uint32_t n = 0xEF0000; n < UINT32_C(1) << 24; n++)
        for (size_t i = 0; i < LENGTH(lasts); i++) {
            const unsigned char bytes[4] = {(unsigned char) (n >> 16), (unsigned char) (n >> 8),
                                            (unsigned char) n, lasts[i]};
            assert_as_defined(bytes, 4);
        }
}

static void test_the_empty_text_is_text(void **state) {
    (void) state;
    assert_int_equal(hvi_utf8_prefix("", 0), 0);
    assert_int_equal(hvi_utf8_prefix(NULL, 0), 0);
}

static void test_a_bad_byte_is_found_wherever_it_is(void **state) {
    (void) state;
    generator g = {2};
    static const unsigned char bad[] = {0x00, 0x80, 0xC0, 0xE0, 0xF8, 0xFF};
    for (int i = 0; i < 20000; i++) {
        unsigned char text[80];
        size_t len = generate_text(&g, (char *) text, sizeof text - 1) + 1;
        /* At the end of a block, so that a read past the end is seen. */
        unsigned char *copy = malloc(len);
        assert_non_null(copy);
        memcpy(copy, text, len - 1);
        assert_int_equal(hvi_utf8_prefix((const char *) copy, len - 1), len - 1);
        size_t at = generate_below(&g, len);
        copy[len - 1] = 'x';
        copy[at] = bad[generate_below(&g, LENGTH(bad))];
        assert_as_defined(copy, len);
        free(copy);
    }
}

static void test_a_character_that_is_cut_off_is_not_text(void **state) {
    (void) state;
    const char *text = "1234567\xf0\x9f\x98\x80";
    for (size_t len = 8; len < 11; len++)
        assert_int_equal(hvi_utf8_prefix(text, len), 7);
    assert_int_equal(hvi_utf8_prefix(text, 11), 11);
}

static void assert_excerpt(const char *text, size_t len, const char *expected) {
    assert_string_equal(hvi_utf8_excerpt(text, len).text, expected);
}

static void test_an_excerpt_of_short_text_is_the_text(void **state) {
    (void) state;
    assert_excerpt("", 0, "");
    assert_excerpt("h\xc3\xa9llo, \"world\"", 15, "h\xc3\xa9llo, \"world\"");
    assert_excerpt("\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80");
}

static void test_an_excerpt_shows_what_is_not_printable_as_numbers(void **state) {
    (void) state;
    assert_excerpt("a\0b", 3, "a\\x00b");
    assert_excerpt("\n\x1b[31m\x7f", 7, "\\x0a\\x1b[31m\\x7f");
    assert_excerpt("\xff\xc3", 2, "\\xff\\xc3");
    assert_excerpt("\xc2\x9b\xc2\xa0", 4, "\\xc2\\x9b\xc2\xa0");
    assert_excerpt("\xe2\x80\xae", 3, "\\xe2\\x80\\xae");
    assert_excerpt("\xe2\x81\xa6", 3, "\\xe2\\x81\\xa6");
    assert_excerpt("\xd8\x9c", 2, "\\xd8\\x9c");
    assert_excerpt("\xc2\x85", 2, "\\xc2\\x85"); /* a control character of two bytes */
    assert_excerpt("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");
}

static void test_an_excerpt_of_long_text_is_its_beginning(void **state) {
    (void) state;
    const char *sixty = "123456789 123456789 123456789 123456789 123456789 123456789 ";
    char text[100];
    strcpy(text, sixty);
    assert_excerpt(text, 60, sixty);
    strcpy(text + 60, "x");
    char expected[100];
    strcpy(expected, sixty);
    strcpy(expected + 60, "...");
    assert_excerpt(text, 61, expected);
}

static void test_an_excerpt_never_cuts_a_character(void **state) {
    (void) state;
    generator g = {3};
    for (int i = 0; i < 20000; i++) {
        char text[200];
        size_t len = generate_text(&g, text, sizeof text);
        hvi_excerpt excerpt = hvi_utf8_excerpt(text, len);
        size_t shown = strlen(excerpt.text);
        assert_true(shown < sizeof excerpt.text);
        assert_int_equal(hvi_utf8_prefix(excerpt.text, shown), shown);
        for (size_t k = 0; k < shown; k++)
            assert_false((unsigned char) excerpt.text[k] < ' ' || excerpt.text[k] == 0x7F);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_sequences_of_up_to_three_bytes_are_judged_as_defined),
        cmocka_unit_test(test_sequences_of_four_bytes_are_judged_as_defined),
        cmocka_unit_test(test_the_empty_text_is_text),
        cmocka_unit_test(test_a_bad_byte_is_found_wherever_it_is),
        cmocka_unit_test(test_a_character_that_is_cut_off_is_not_text),
        cmocka_unit_test(test_an_excerpt_of_short_text_is_the_text),
        cmocka_unit_test(test_an_excerpt_shows_what_is_not_printable_as_numbers),
        cmocka_unit_test(test_an_excerpt_of_long_text_is_its_beginning),
        cmocka_unit_test(test_an_excerpt_never_cuts_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
