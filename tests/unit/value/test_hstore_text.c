/*
 * Tests of hstore's text form: the server's grammar, its order and its quoting.
 */
#include "value/hstore_text.h"
#include "generator.h"
#include "unit.h"

#include <stdlib.h>

/* This text means what the other one says in the server's own form. */
static void assert_means(const char *text, const char *expected) {
    hv_dict *dict = NULL;
    hv_error *error = NULL;
    if (hv_dict_parse(text, HV_STRLEN, &dict, &error) != HV_OK)
        fail_msg("%s: %s: %s", text, hv_error_message(error), hv_error_detail(error));
    char *printed = NULL;
    assert_int_equal(hv_dict_text(dict, &printed, NULL), HV_OK);
    assert_string_equal(printed, expected);
    free(printed);
    hv_dict_free(dict);
}

/* Parsing fails at this offset with this detail. */
static void assert_malformed_bytes(const char *text, size_t len, const char *message,
                                   const char *detail) {
    hv_dict *dict = NULL;
    hv_error *error = NULL;
    assert_int_equal(hv_dict_parse(text, len, &dict, &error), HV_INVALID);
    assert_null(dict);
    assert_non_null(error);
    assert_string_equal(hv_error_detail(error), detail);
    assert_non_null(hv_error_hint(error));
    assert_error(&error, HV_INVALID, message);
}
#define assert_malformed(text, offset, detail) \
    assert_malformed_bytes(text, HV_STRLEN, "malformed hstore text at byte offset " #offset, detail)

static void test_empty_text_is_the_empty_dict(void **state) {
    (void) state;
    assert_means("", "");
    assert_means(" \t\n\f\r", "");
    hv_dict *dict = NULL;
    assert_int_equal(hv_dict_parse(NULL, 0, &dict, NULL), HV_OK);
    assert_int_equal(hv_dict_count(dict), 0);
    hv_dict_free(dict);
}

static void test_plain_words_need_no_quotes(void **state) {
    (void) state;
    assert_means("a=>1", "\"a\"=>\"1\"");
    assert_means("a=>1,b=>2", "\"a\"=>\"1\", \"b\"=>\"2\"");
    assert_means("a>b=>c", "\"a>b\"=>\"c\"");
    assert_means("a,b=>1", "\"a,b\"=>\"1\"");
    assert_means("a=>1;b=>2", "\"a\"=>\"1;b=>2\"");
    assert_means("\xc3\xa9=>\xc2\xa0", "\"\xc3\xa9\"=>\"\xc2\xa0\"");
}

static void test_white_space_may_stand_around_words(void **state) {
    (void) state;
    assert_means(" a => 1 ", "\"a\"=>\"1\"");
    assert_means("\fa\t\n\r=>\f1\f,\n\"b\" =>\"2\" ", "\"a\"=>\"1\", \"b\"=>\"2\"");
    assert_means("\"a b\"=>\" c \"", "\"a b\"=>\" c \"");
}

static void test_other_blanks_are_part_of_words(void **state) {
    (void) state;
    assert_means("a\v=>\v1", "\"a\v\"=>\"\v1\"");
    assert_means("\xc2\xa0=>\xe2\x80\x83", "\"\xc2\xa0\"=>\"\xe2\x80\x83\"");
}

static void test_a_comma_may_stand_behind_the_last_pair(void **state) {
    (void) state;
    assert_means("a=>1,", "\"a\"=>\"1\"");
    assert_means("a=>1 , ", "\"a\"=>\"1\"");
}

static void test_a_comma_where_a_word_begins_is_part_of_it(void **state) {
    (void) state;
    assert_means(",a=>1", "\",a\"=>\"1\"");
    assert_means("a=>1,,b=>2", "\"a\"=>\"1\", \",b\"=>\"2\"");
    assert_means("a=>,b=>c", "\"a\"=>\",b=>c\"");
}

static void test_equal_signs_are_plain_in_values(void **state) {
    (void) state;
    assert_means("a=>b=c", "\"a\"=>\"b=c\"");
    assert_means("a=>b=>c", "\"a\"=>\"b=>c\"");
    assert_means("a=>=>", "\"a\"=>\"=>\"");
}

static void test_quotes_inside_plain_words_are_plain(void **state) {
    (void) state;
    assert_means("a\"b=>c\"d", "\"a\\\"b\"=>\"c\\\"d\"");
    assert_means("\"a\"=>1\"b\"=>2", "\"a\"=>\"1\\\"b\\\"=>2\"");
}

static void test_a_backslash_takes_the_next_byte_as_it_is(void **state) {
    (void) state;
    assert_means("a\\ b=>c\\ d", "\"a b\"=>\"c d\"");
    assert_means("\\=a\\=b=>1", "\"=a=b\"=>\"1\"");
    assert_means("a=>b\\,c", "\"a\"=>\"b,c\"");
    assert_means("\\\"a=>\\\"", "\"\\\"a\"=>\"\\\"\"");
    assert_means("a=>\"\\n\\\\\\\"\"", "\"a\"=>\"n\\\\\\\"\"");
    assert_means("a=>\\\xc3\xa9", "\"a\"=>\"\xc3\xa9\"");
}

static void test_null_is_a_word_without_quotes_in_any_case(void **state) {
    (void) state;
    assert_means("a=>NULL", "\"a\"=>NULL");
    assert_means("a=>nUlL ,b=>null,", "\"a\"=>NULL, \"b\"=>NULL");
    assert_means("a=>N\\ULL", "\"a\"=>NULL"); /* as the server has it */
    assert_means("a=>\"NULL\"", "\"a\"=>\"NULL\"");
    assert_means("a=>NULLx", "\"a\"=>\"NULLx\"");
    assert_means("NULL=>1", "\"NULL\"=>\"1\"");
}

static void test_empty_words_need_quotes(void **state) {
    (void) state;
    assert_means("\"\"=>\"\"", "\"\"=>\"\"");
    assert_malformed("=>1", 0, "Expected a key, but found \"=>1\".");
    assert_malformed("a=>", 3, "Expected a value, but the text ends.");
    assert_malformed("a=> ", 4, "Expected a value, but the text ends.");
}

static void test_the_last_value_of_a_key_wins(void **state) {
    (void) state;
    assert_means("a=>1,b=>2,a=>3", "\"a\"=>\"3\", \"b\"=>\"2\"");
    assert_means("a=>1,a=>NULL", "\"a\"=>NULL");
}

static void test_short_keys_come_first(void **state) {
    (void) state;
    assert_means("bb=>1,c=>2,a=>3,\"\"=>4,aa=>5,\xc3\xa9=>6",
                 "\"\"=>\"4\", \"a\"=>\"3\", \"c\"=>\"2\", \"aa\"=>\"5\", \"bb\"=>\"1\", "
                 "\"\xc3\xa9\"=>\"6\"");
}

static void test_malformed_text_is_reported_with_its_place(void **state) {
    (void) state;
    assert_malformed("=", 0, "Expected a key, but found \"=\".");
    assert_malformed("a", 1, "Expected \"=>\" after a key, but the text ends.");
    assert_malformed(",", 1, "Expected \"=>\" after a key, but the text ends.");
    assert_malformed("a=", 1, "Expected \"=>\" after a key, but found \"=\".");
    assert_malformed("a=b", 1, "Expected \"=>\" after a key, but found \"=b\".");
    assert_malformed("a= >1", 1, "Expected \"=>\" after a key, but found \"= >1\".");
    assert_malformed("a==>b", 1, "Expected \"=>\" after a key, but found \"==>b\".");
    assert_malformed("a b=>1", 2, "Expected \"=>\" after a key, but found \"b=>1\".");
    assert_malformed("\"a\"b=>1", 3, "Expected \"=>\" after a key, but found \"b=>1\".");
    assert_malformed("a=>b c", 5, "Expected a comma after a value, but found \"c\".");
    assert_malformed("a=>\"b\"c", 6, "Expected a comma after a value, but found \"c\".");
    assert_malformed("a=>\"1\"\"2\"", 6, "Expected a comma after a value, but found \"\"2\"\".");
    assert_malformed("a=>\"b", 5, "Expected a closing quote, but the text ends.");
    assert_malformed("\"a", 2, "Expected a closing quote, but the text ends.");
    assert_malformed("a=>b\\", 5, "Expected a character after the backslash, but the text ends.");
    assert_malformed("a=>\"b\\", 6, "Expected a character after the backslash, but the text ends.");
    assert_malformed("\\", 1, "Expected a character after the backslash, but the text ends.");
}

static void test_text_that_is_not_utf8_is_refused(void **state) {
    (void) state;
    assert_malformed("a=>caf\xe9", 6,
                     "Expected text in UTF-8 without NUL bytes, but found \"\\xe9\".");
    assert_malformed_bytes("a=>b\0", 5, "malformed hstore text at byte offset 4",
                           "Expected text in UTF-8 without NUL bytes, but found \"\\x00\".");
}

static void test_the_length_says_where_text_ends(void **state) {
    (void) state;
    hv_dict *dict = NULL;
    const char *value;
    assert_int_equal(hv_dict_parse("a=>123", 4, &dict, NULL), HV_OK);
    assert_true(hv_dict_get(dict, "a", 1, &value, NULL));
    assert_string_equal(value, "1");
    hv_dict_free(dict);
}

static void test_printing_to_a_broken_buffer_prints_nothing(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    hv_dict_set(dict, "a", "1", NULL);
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_buffer_break(&out);
    hvi_hstore_print(dict, &out);
    assert_false(hvi_buffer_ok(&out));
    hv_dict_free(dict);
}

static void test_any_dict_is_parsed_as_it_was_printed(void **state) {
    (void) state;
    generator g = {7};
    for (int i = 0; i < 3000; i++) {
        hv_dict *dict = generate_dict(&g, 20), *again = NULL;
        char *text = NULL, *text_again = NULL;
        assert_int_equal(hv_dict_text(dict, &text, NULL), HV_OK);
        assert_int_equal(hv_dict_parse(text, HV_STRLEN, &again, NULL), HV_OK);
        assert_int_equal(hv_dict_count(again), hv_dict_count(dict));
        assert_int_equal(hv_dict_text(again, &text_again, NULL), HV_OK);
        assert_string_equal(text_again, text);
        const char *key, *value, *value_again;
        size_t key_len, value_len, value_len_again;
        for (size_t k = 0; hv_dict_at(dict, k, &key, &key_len, &value, &value_len); k++) {
            assert_true(hv_dict_get(again, key, key_len, &value_again, &value_len_again));
            assert_int_equal(value_again == NULL, value == NULL);
            assert_int_equal(value_len_again, value_len);
            if (value != NULL)
                assert_memory_equal(value_again, value, value_len);
        }
        free(text);
        free(text_again);
        hv_dict_free(again);
        hv_dict_free(dict);
    }
}

static void test_any_text_is_read_to_its_end_and_not_further(void **state) {
    (void) state;
    generator g = {8};
    int good = 0;
    for (int i = 0; i < 100000; i++) {
        char text[30];
        size_t len = generate_text(&g, text, sizeof text);
        char *copy = malloc(len > 0 ? len : 1); /* so that a read past its end is seen */
        memcpy(copy, text, len);
        hv_dict *dict = NULL;
        hv_error *error = NULL;
        if (hv_dict_parse(copy, len, &dict, &error) == HV_OK) {
            assert_null(error);
            good++;
        } else {
            assert_int_equal(hv_error_status(error), HV_INVALID);
            hv_error_free(error);
        }
        hv_dict_free(dict);
        free(copy);
    }
    assert_true(good > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_text_is_the_empty_dict),
        cmocka_unit_test(test_plain_words_need_no_quotes),
        cmocka_unit_test(test_white_space_may_stand_around_words),
        cmocka_unit_test(test_other_blanks_are_part_of_words),
        cmocka_unit_test(test_a_comma_may_stand_behind_the_last_pair),
        cmocka_unit_test(test_a_comma_where_a_word_begins_is_part_of_it),
        cmocka_unit_test(test_equal_signs_are_plain_in_values),
        cmocka_unit_test(test_quotes_inside_plain_words_are_plain),
        cmocka_unit_test(test_a_backslash_takes_the_next_byte_as_it_is),
        cmocka_unit_test(test_null_is_a_word_without_quotes_in_any_case),
        cmocka_unit_test(test_empty_words_need_quotes),
        cmocka_unit_test(test_the_last_value_of_a_key_wins),
        cmocka_unit_test(test_short_keys_come_first),
        cmocka_unit_test(test_malformed_text_is_reported_with_its_place),
        cmocka_unit_test(test_text_that_is_not_utf8_is_refused),
        cmocka_unit_test(test_the_length_says_where_text_ends),
        cmocka_unit_test(test_printing_to_a_broken_buffer_prints_nothing),
        cmocka_unit_test(test_any_dict_is_parsed_as_it_was_printed),
        cmocka_unit_test(test_any_text_is_read_to_its_end_and_not_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
