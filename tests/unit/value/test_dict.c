/*
 * Tests of dicts: what they hold, what they refuse, and that they stay small and fast.
 */
#include "value/dict.h"
#include "generator.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

/* The attribute has this value; NULL for NULL. */
static void assert_value(const hv_dict *dict, const char *key, const char *expected) {
    const char *value = "untouched";
    size_t len = 99;
    assert_true(hv_dict_get(dict, key, HV_STRLEN, &value, &len));
    if (expected == NULL) {
        assert_null(value);
        assert_int_equal(len, 0);
    } else {
        assert_string_equal(value, expected);
        assert_int_equal(len, strlen(expected));
    }
}

static void set(hv_dict *dict, const char *key, const char *value) {
    assert_int_equal(hv_dict_set(dict, key, value, NULL), HV_OK);
}

static void test_a_new_dict_is_empty(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    assert_int_equal(hv_dict_count(dict), 0);
    assert_false(hv_dict_get(dict, "", 0, NULL, NULL));
    assert_false(hv_dict_at(dict, 0, NULL, NULL, NULL, NULL));
    hv_dict_free(dict);
    hv_dict_free(NULL);
}

static void test_values_are_found_by_their_keys(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    set(dict, "beep", "boop");
    set(dict, "n", NULL);
    set(dict, "", "empty key");
    set(dict, "empty value", "");
    set(dict, "gr\xc3\xbc\xc3\x9f", "\xf0\x9f\x98\x80");
    assert_int_equal(hv_dict_count(dict), 5);
    assert_value(dict, "beep", "boop");
    assert_value(dict, "n", NULL);
    assert_value(dict, "", "empty key");
    assert_value(dict, "empty value", "");
    assert_value(dict, "gr\xc3\xbc\xc3\x9f", "\xf0\x9f\x98\x80");
    hv_dict_free(dict);
}

static void test_a_key_that_is_not_there_leaves_the_outputs_alone(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    set(dict, "beep", "boop");
    const char *value = "untouched", *key = value;
    size_t len = 7, key_len = 7;
    assert_false(hv_dict_get(dict, "bee", HV_STRLEN, &value, &len));
    assert_false(hv_dict_get(dict, "beep ", HV_STRLEN, &value, &len));
    assert_false(hv_dict_get(dict, "BEEP", HV_STRLEN, &value, &len));
    assert_false(hv_dict_get(dict, "beep\0", 5, &value, &len));
    assert_false(hv_dict_at(dict, 1, &key, &key_len, &value, &len));
    assert_false(hv_dict_at(dict, SIZE_MAX, &key, &key_len, &value, &len));
    assert_string_equal(value, "untouched");
    assert_ptr_equal(key, value);
    assert_int_equal(len, 7);
    assert_int_equal(key_len, 7);
    hv_dict_free(dict);
}

static void test_the_last_value_of_a_key_wins(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    static const char *const values[] = {"one", NULL, "", "a longer one", NULL, "last"};
    for (size_t i = 0; i < LENGTH(values); i++) {
        set(dict, "key", values[i]);
        assert_value(dict, "key", values[i]);
        assert_int_equal(hv_dict_count(dict), 1);
    }
    hv_dict_free(dict);
}

static void test_lengths_say_where_bytes_end(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    assert_int_equal(hv_dict_set_bytes(dict, "keyX", 3, "valueX", 5, NULL), HV_OK);
    assert_int_equal(hv_dict_set_bytes(dict, "", 0, "", 0, NULL), HV_OK);
    assert_value(dict, "key", "value");
    assert_value(dict, "", "");
    const char *value;
    assert_true(hv_dict_get(dict, "keyX", 3, &value, NULL));
    assert_string_equal(value, "value");
    hv_dict_free(dict);
}

static void test_a_null_pointer_of_no_length_is_the_empty_key(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    hv_error *error = NULL;
    assert_int_equal(hv_dict_set_bytes(dict, NULL, 0, "x", 1, NULL), HV_OK);
    assert_value(dict, "", "x");
    assert_true(hv_dict_get(dict, NULL, 0, NULL, NULL));
    assert_false(hv_dict_get(dict, NULL, HV_STRLEN, NULL, NULL));
    assert_int_equal(hv_dict_set_bytes(dict, NULL, 3, "x", 1, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "the key of an attribute is a NULL pointer");
    assert_int_equal(hv_dict_set(dict, NULL, "x", &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "the key of an attribute is a NULL pointer");
    hv_dict_free(dict);
}

static void test_walking_sees_each_attribute_once(void **state) {
    (void) state;
    for (int count = 0; count < 100; count++) {
        hv_dict *dict = hv_dict_new();
        bool seen[100] = {false};
        for (int i = 0; i < count; i++) {
            char text[20];
            snprintf(text, sizeof text, "%d", i);
            set(dict, text, i % 3 == 0 ? NULL : text);
        }
        const char *key, *value;
        size_t key_len, value_len, index = 0;
        for (; hv_dict_at(dict, index, &key, &key_len, &value, &value_len); index++) {
            int i = atoi(key);
            assert_int_equal(key_len, strlen(key));
            assert_false(seen[i]);
            seen[i] = true;
            if (i % 3 == 0) {
                assert_null(value);
                assert_int_equal(value_len, 0);
            } else {
                assert_string_equal(value, key);
                assert_int_equal(value_len, key_len);
            }
        }
        assert_int_equal(index, count);
        assert_int_equal(hv_dict_count(dict), count);
        hv_dict_free(dict);
    }
}

/* Setting this fails with this message and detail, and the dict is as it was. */
static void assert_refused(const char *key, size_t key_len, const char *value, size_t value_len,
                           const char *message, const char *detail) {
    hv_dict *dict = hv_dict_new();
    set(dict, "beep", "boop");
    hv_error *error = NULL;
    assert_int_equal(hv_dict_set_bytes(dict, key, key_len, value, value_len, &error), HV_INVALID);
    assert_non_null(error);
    assert_string_equal(hv_error_detail(error), detail);
    assert_error(&error, HV_INVALID, message);
    assert_int_equal(hv_dict_set_bytes(dict, key, key_len, value, value_len, NULL), HV_INVALID);
    assert_int_equal(hv_dict_count(dict), 1);
    assert_value(dict, "beep", "boop");
    hv_dict_free(dict);
}

static void test_text_that_is_not_utf8_is_refused(void **state) {
    (void) state;
    assert_refused("k\xff", 2, "v", 1, "key of attribute \"k\\xff\" is not valid UTF-8",
                   "The bytes at offset 1 of 2, \"\\xff\", are not a character.");
    assert_refused("beep", 4, "caf\xe9!", 5, "value of attribute \"beep\" is not valid UTF-8",
                   "The bytes at offset 3 of 5, \"\\xe9!\", are not a character.");
    assert_refused("a", 1, "\xed\xa0\x80", 3, "value of attribute \"a\" is not valid UTF-8",
                   "The bytes at offset 0 of 3, \"\\xed\\xa0\\x80\", are not a character.");
}

static void test_nul_bytes_are_refused(void **state) {
    (void) state;
    assert_refused("a\0b", 3, "v", 1, "key of attribute \"a\\x00b\" contains a NUL byte",
                   "The byte at offset 1 of 3 is NUL, which PostgreSQL's text cannot hold.");
    assert_refused("beep", 4, "1234567890\0", 11, "value of attribute \"beep\" contains a NUL byte",
                   "The byte at offset 10 of 11 is NUL, which PostgreSQL's text cannot hold.");
}

static void test_text_longer_than_hstore_takes_is_refused_before_it_is_read(void **state) {
    (void) state;
    assert_refused("beep", 4, "x", HVI_DICT_MAX_LEN + 1, "value of attribute \"beep\" is too long",
                   "It has 1073741824 bytes, hstore takes up to 1073741823.");
    assert_refused("beep", 4, "x", HV_STRLEN - 1, "value of attribute \"beep\" is too long",
                   "It has 18446744073709551614 bytes, hstore takes up to 1073741823.");
}

static void test_a_long_key_is_shortened_in_the_message(void **state) {
    (void) state;
    char *key = malloc(HVI_DICT_MAX_LEN + 1);
    if (key == NULL)
        skip();
    memset(key, 'k', 100); /* the rest is never read */
    assert_refused(key, HVI_DICT_MAX_LEN + 1, "", 0,
                   "key of attribute \"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
                   "...\" is too long",
                   "It has 1073741824 bytes, hstore takes up to 1073741823.");
    free(key);
}

static void test_a_megabyte_is_a_fine_value(void **state) {
    (void) state;
    size_t len = 1 << 20;
    char *megabyte = malloc(len + 1);
    memset(megabyte, 'x', len);
    megabyte[len] = '\0';
    hv_dict *dict = hv_dict_new();
    set(dict, "small", "s");
    set(dict, "big", megabyte);
    set(dict, megabyte, "big key");
    assert_value(dict, "big", megabyte);
    assert_value(dict, "small", "s");
    assert_value(dict, megabyte, "big key");
    hv_dict_free(dict);
    free(megabyte);
}

static void test_hundreds_of_thousands_of_attributes_are_found(void **state) {
    (void) state;
    /* Walking instead of hashing would take minutes: then the test's time limit ends it. */
    const int count = 300000;
    hv_dict *dict = hv_dict_new();
    char text[20];
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "key %d", count - i); /* not in order: that would be too easy */
        set(dict, text, text);
    }
    assert_int_equal(hv_dict_count(dict), count);
    for (int i = 1; i <= count; i++) {
        snprintf(text, sizeof text, "key %d", i);
        set(dict, text, text + 4);
    }
    assert_int_equal(hv_dict_count(dict), count);
    for (int i = 1; i <= count; i++) {
        snprintf(text, sizeof text, "key %d", i);
        assert_value(dict, text, text + 4);
    }
    hv_dict_free(dict);
}

static void test_replaced_values_do_not_pile_up(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    char value[1001];
    for (int i = 0; i < 100000; i++) {
        snprintf(value, sizeof value, "%01000d", i);
        set(dict, i % 2 == 0 ? "even" : "odd", value);
    }
    assert_value(dict, "odd", value);
    assert_true(dict->byte_room < 10000);
    hv_dict_free(dict);
}

static void test_what_a_dict_returned_may_be_set_in_it(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    const char *key, *value;
    set(dict, "0", "a value that shall be copied again and again");
    for (int i = 0; i < 1000; i++) {
        /* The pointers are into memory that setting may move. */
        char name[20];
        snprintf(name, sizeof name, "%d", i);
        assert_true(hv_dict_get(dict, name, HV_STRLEN, &value, NULL));
        snprintf(name, sizeof name, "%d", i + 1);
        set(dict, name, value);
        assert_true(hv_dict_at(dict, 0, &key, NULL, &value, NULL));
        set(dict, key, value);
        assert_true(hv_dict_at(dict, 0, &key, NULL, &value, NULL));
        set(dict, value, key);
    }
    assert_int_equal(hv_dict_count(dict), 1002);
    assert_value(dict, "1000", "a value that shall be copied again and again");
    assert_value(dict, "a value that shall be copied again and again", "0");
    hv_dict_free(dict);
}

static hv_dict *dict_of(const char *text) {
    hv_dict *dict = NULL;
    assert_int_equal(hv_dict_parse(text, HV_STRLEN, &dict, NULL), HV_OK);
    return dict;
}

static void test_dicts_are_equal_if_they_hold_the_same(void **state) {
    (void) state;
    static const struct {
        const char *left, *right;
        bool equal;
    } cases[] = {
        {"", "", true},
        {"a=>1, b=>NULL, \"\"=>\"\"", "\"\"=>\"\", b=>NULL, a=>1", true},
        {"a=>0, a=>1", "a=>1", true}, /* what was replaced does not count */
        {"a=>1", "", false},
        {"a=>1", "a=>1, b=>1", false},
        {"a=>1", "b=>1", false},
        {"a=>1", "a=>2", false},
        {"a=>1", "a=>11", false},
        {"a=>NULL", "a=>\"\"", false},
        {"a=>1, b=>2", "a=>2, b=>1", false},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hv_dict *left = dict_of(cases[i].left), *right = dict_of(cases[i].right);
        assert_int_equal(hv_dict_equal(left, right), cases[i].equal);
        assert_int_equal(hv_dict_equal(right, left), cases[i].equal);
        assert_true(hv_dict_equal(left, left));
        hv_dict_free(left);
        hv_dict_free(right);
    }
}

/* ---- Against a model ------------------------------------------------------------------------- */

#define MODEL_KEYS 60

/* What a dict should hold, kept in the plainest way. */
typedef struct model {
    bool present[MODEL_KEYS];
    bool is_null[MODEL_KEYS];
    char values[MODEL_KEYS][64];
    size_t lens[MODEL_KEYS];
    size_t count;
} model;

static void assert_equals_model(const hv_dict *dict, const model *m) {
    assert_int_equal(hv_dict_count(dict), m->count);
    for (size_t k = 0; k < MODEL_KEYS; k++) {
        char key[20];
        const char *value;
        size_t len;
        snprintf(key, sizeof key, "key%zu", k);
        assert_int_equal(hv_dict_get(dict, key, HV_STRLEN, &value, &len), m->present[k]);
        if (!m->present[k])
            continue;
        if (m->is_null[k]) {
            assert_null(value);
        } else {
            assert_int_equal(len, m->lens[k]);
            assert_memory_equal(value, m->values[k], len);
            assert_int_equal(value[len], 0);
        }
    }
}

static void test_any_order_of_changes_gives_what_was_set_last(void **state) {
    (void) state;
    generator g = {4};
    for (int round = 0; round < 300; round++) {
        hv_dict *dict = hvi_dict_new(generate_below(&g, 40), generate_below(&g, 500));
        model m = {.count = 0};
        size_t keys = 1 + generate_below(&g, MODEL_KEYS);
        for (int step = 0; step < 200; step++) {
            /* Every other round begins with keys in order, as those of a dict that was read are. */
            bool ordered = round % 2 == 0 && step < (int) keys;
            size_t k = ordered ? (size_t) step : generate_below(&g, keys);
            char key[20];
            snprintf(key, sizeof key, "key%zu", k);
            m.count += m.present[k] ? 0 : 1;
            m.present[k] = true;
            m.is_null[k] = generate_below(&g, 4) == 0;
            m.lens[k] = generate_text(&g, m.values[k], sizeof m.values[k]);
            assert_int_equal(hv_dict_set_bytes(dict, key, HV_STRLEN,
                                               m.is_null[k] ? NULL : m.values[k], m.lens[k], NULL),
                             HV_OK);
            if (step % 20 == 0)
                assert_equals_model(dict, &m);
        }
        assert_equals_model(dict, &m);
        hv_dict_free(dict);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_dict_is_empty),
        cmocka_unit_test(test_values_are_found_by_their_keys),
        cmocka_unit_test(test_a_key_that_is_not_there_leaves_the_outputs_alone),
        cmocka_unit_test(test_the_last_value_of_a_key_wins),
        cmocka_unit_test(test_lengths_say_where_bytes_end),
        cmocka_unit_test(test_a_null_pointer_of_no_length_is_the_empty_key),
        cmocka_unit_test(test_walking_sees_each_attribute_once),
        cmocka_unit_test(test_text_that_is_not_utf8_is_refused),
        cmocka_unit_test(test_nul_bytes_are_refused),
        cmocka_unit_test(test_text_longer_than_hstore_takes_is_refused_before_it_is_read),
        cmocka_unit_test(test_a_long_key_is_shortened_in_the_message),
        cmocka_unit_test(test_a_megabyte_is_a_fine_value),
        cmocka_unit_test(test_hundreds_of_thousands_of_attributes_are_found),
        cmocka_unit_test(test_replaced_values_do_not_pile_up),
        cmocka_unit_test(test_what_a_dict_returned_may_be_set_in_it),
        cmocka_unit_test(test_dicts_are_equal_if_they_hold_the_same),
        cmocka_unit_test(test_any_order_of_changes_gives_what_was_set_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
