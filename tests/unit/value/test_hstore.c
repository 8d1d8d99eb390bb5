/*
 * Tests of hstore's binary form: writing, reading, and rejecting malformed bytes.
 */
#include "value/hstore.h"
#include "generator.h"
#include "unit.h"

#include <stdlib.h>

/* {"a": "1", "bb": NULL, "": ""} as hstore_send would write it, but for the order. */
static const char sample[] = "\0\0\0\3"
                             "\0\0\0\1a\0\0\0\1"
                             "1"
                             "\0\0\0\2bb\xff\xff\xff\xff"
                             "\0\0\0\0\0\0\0\0";
#define SAMPLE_LEN (sizeof sample - 1)

/* Decode a copy of its own size, so that a read past its end is seen. */
static hv_status decode(const void *bytes, size_t len, hv_dict **dict, hv_error **error) {
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, bytes, len);
    hv_status status = hvi_hstore_decode(copy, len, dict, error);
    free(copy);
    return status;
}

/* Decoding fails with this detail. */
static void assert_corrupt(const char *bytes, size_t len, const char *detail) {
    hv_dict *dict = NULL;
    hv_error *error = NULL;
    assert_int_equal(decode(bytes, len, &dict, &error), HV_CORRUPT);
    assert_null(dict);
    assert_non_null(error);
    assert_string_equal(hv_error_detail(error), detail);
    assert_error(&error, HV_CORRUPT, "server sent a malformed hstore");
}
/* The same for a string literal. */
#define assert_literal_corrupt(literal, detail) assert_corrupt(literal, sizeof(literal) - 1, detail)

static void test_a_dict_is_written_as_the_server_reads_it(void **state) {
    (void) state;
    hv_dict *dict = hv_dict_new();
    hv_dict_set(dict, "a", "1", NULL);
    hv_dict_set(dict, "bb", NULL, NULL);
    hv_dict_set(dict, "", "", NULL);
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&out, "before");
    hvi_hstore_encode(dict, &out);
    assert_true(hvi_buffer_ok(&out));
    assert_int_equal(out.len, 6 + SAMPLE_LEN);
    assert_memory_equal(out.data, "before", 6);
    assert_memory_equal(out.data + 6, sample, SAMPLE_LEN);
    assert_int_equal(hvi_hstore_size(dict), SAMPLE_LEN);
    char *bytes;
    size_t len;
    assert_int_equal(hv_dict_binary(dict, &bytes, &len, NULL), HV_OK);
    assert_int_equal(len, SAMPLE_LEN);
    assert_memory_equal(bytes, sample, SAMPLE_LEN);
    free(bytes);
    hvi_buffer_fini(&out);
    hv_dict_free(dict);
}

static void test_no_dict_is_written_as_an_empty_one(void **state) {
    (void) state;
    hv_dict *empty = hv_dict_new();
    const hv_dict *dicts[] = {NULL, empty};
    for (size_t i = 0; i < LENGTH(dicts); i++) {
        hvi_buffer out = HVI_BUFFER_EMPTY;
        hvi_hstore_encode(dicts[i], &out);
        assert_int_equal(out.len, 4);
        assert_memory_equal(out.data, "\0\0\0\0", 4);
        assert_int_equal(hvi_hstore_size(dicts[i]), 4);
        hvi_buffer_fini(&out);
    }
    hv_dict_free(empty);
}

static void test_nothing_is_written_to_a_broken_buffer(void **state) {
    (void) state;
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_buffer_break(&out);
    hvi_hstore_encode(NULL, &out);
    assert_false(hvi_buffer_ok(&out));
    assert_null(out.data);
}

static void test_the_sample_is_read(void **state) {
    (void) state;
    hv_dict *dict = NULL;
    assert_int_equal(decode(sample, SAMPLE_LEN, &dict, NULL), HV_OK);
    assert_int_equal(hv_dict_count(dict), 3);
    const char *value;
    size_t len;
    assert_true(hv_dict_get(dict, "a", 1, &value, &len));
    assert_string_equal(value, "1");
    assert_true(hv_dict_get(dict, "bb", 2, &value, &len));
    assert_null(value);
    assert_true(hv_dict_get(dict, "", 0, &value, &len));
    assert_string_equal(value, "");
    hv_dict_free(dict);
}

static void test_the_empty_hstore_is_read(void **state) {
    (void) state;
    hv_dict *dict = NULL;
    assert_int_equal(decode("\0\0\0\0", 4, &dict, NULL), HV_OK);
    assert_int_equal(hv_dict_count(dict), 0);
    /* It has no room, but still takes attributes. */
    assert_int_equal(hv_dict_set(dict, "a", "1", NULL), HV_OK);
    assert_int_equal(hv_dict_count(dict), 1);
    hv_dict_free(dict);
}

static void test_a_dict_that_was_read_can_be_changed(void **state) {
    (void) state;
    hv_dict *dict = NULL;
    assert_int_equal(decode(sample, SAMPLE_LEN, &dict, NULL), HV_OK);
    assert_int_equal(hv_dict_set(dict, "a", "a longer value than before", NULL), HV_OK);
    assert_int_equal(hv_dict_set(dict, "bb", "2", NULL), HV_OK);
    assert_int_equal(hv_dict_set(dict, "new", "3", NULL), HV_OK);
    assert_int_equal(hv_dict_count(dict), 4);
    const char *value;
    assert_true(hv_dict_get(dict, "a", 1, &value, NULL));
    assert_string_equal(value, "a longer value than before");
    assert_true(hv_dict_get(dict, "", 0, &value, NULL));
    assert_string_equal(value, "");
    hv_dict_free(dict);
}

static void test_any_dict_is_read_as_it_was_written(void **state) {
    (void) state;
    generator g = {5};
    for (int i = 0; i < 3000; i++) {
        hv_dict *dict = generate_dict(&g, i % 10 == 0 ? 200 : 20);
        hvi_buffer out = HVI_BUFFER_EMPTY;
        hvi_hstore_encode(dict, &out);
        assert_int_equal(out.len, hvi_hstore_size(dict));
        hv_dict *again = NULL;
        assert_int_equal(decode(out.data, out.len, &again, NULL), HV_OK);
        assert_int_equal(hv_dict_count(again), hv_dict_count(dict));
        const char *key, *value, *value_again;
        size_t key_len, value_len, value_len_again;
        for (size_t k = 0; hv_dict_at(dict, k, &key, &key_len, &value, &value_len); k++) {
            assert_true(hv_dict_get(again, key, key_len, &value_again, &value_len_again));
            assert_int_equal(value_len_again, value_len);
            assert_int_equal(value_again == NULL, value == NULL);
            if (value != NULL)
                assert_memory_equal(value_again, value, value_len + 1);
        }
        hv_dict_free(again);
        hvi_buffer_fini(&out);
        hv_dict_free(dict);
    }
}

static void test_a_megabyte_and_characters_of_four_bytes_go_both_ways(void **state) {
    (void) state;
    size_t len = (size_t) 4 << 18;
    char *value = malloc(len);
    for (size_t i = 0; i < len; i += 4)
        memcpy(value + i, "\xf0\x9f\x98\x80", 4);
    hv_dict *dict = hv_dict_new(), *again = NULL;
    assert_int_equal(hv_dict_set_bytes(dict, "big", 3, value, len, NULL), HV_OK);
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_hstore_encode(dict, &out);
    assert_int_equal(decode(out.data, out.len, &again, NULL), HV_OK);
    const char *read;
    size_t read_len;
    assert_true(hv_dict_get(again, "big", 3, &read, &read_len));
    assert_int_equal(read_len, len);
    assert_memory_equal(read, value, len);
    hv_dict_free(again);
    hv_dict_free(dict);
    hvi_buffer_fini(&out);
    free(value);
}

static void test_what_is_cut_off_anywhere_is_corrupt(void **state) {
    (void) state;
    for (size_t len = 0; len < SAMPLE_LEN; len++) {
        hv_dict *dict = NULL;
        assert_int_equal(decode(sample, len, &dict, NULL), HV_CORRUPT);
        assert_null(dict);
    }
    assert_literal_corrupt("", "At byte offset 0 of 0: the number of attributes is cut off.");
    assert_literal_corrupt("\0\0\0", "At byte offset 0 of 3: the number of attributes is cut off.");
    assert_literal_corrupt("\0\0\0\1\0\0\0\3abc\0",
                           "At byte offset 11 of 12: the length of a value is cut off.");
}

static void test_a_length_that_is_one_byte_off_is_corrupt(void **state) {
    (void) state;
    static const size_t last_bytes_of_lengths[] = {3, 7, 12, 17, 23, 27, 31};
    for (size_t i = 0; i < LENGTH(last_bytes_of_lengths); i++)
        for (int by = -1; by <= 1; by += 2) {
            char changed[SAMPLE_LEN];
            memcpy(changed, sample, SAMPLE_LEN);
            changed[last_bytes_of_lengths[i]] += (char) by;
            hv_dict *dict = NULL;
            assert_int_equal(decode(changed, SAMPLE_LEN, &dict, NULL), HV_CORRUPT);
            assert_null(dict);
        }
}

static void test_bytes_left_over_are_corrupt(void **state) {
    (void) state;
    assert_literal_corrupt("\0\0\0\0x", "At byte offset 4 of 5: 1 bytes are left over.");
}

static void test_a_count_without_the_bytes_for_it_asks_for_no_memory(void **state) {
    (void) state;
    assert_literal_corrupt(
        "\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
        "At byte offset 4 of 12: 4294967295 attributes cannot be in the 8 bytes left.");
    assert_literal_corrupt("\0\0\0\2\0\0\0\0\0\0\0\0",
                           "At byte offset 4 of 12: 2 attributes cannot be in the 8 bytes left.");
}

static void test_lengths_beyond_the_end_are_corrupt(void **state) {
    (void) state;
    assert_literal_corrupt("\0\0\0\1\0\0\0\5abcd",
                           "At byte offset 8 of 12: a key of 5 bytes, but only 4 bytes are left.");
    assert_literal_corrupt("\0\0\0\1\0\0\0\2abcd",
                           "At byte offset 10 of 12: the length of a value is cut off.");
    assert_literal_corrupt(
        "\0\0\0\1\0\0\0\1a\0\0\0\2b",
        "At byte offset 13 of 14: a value of 2 bytes, but only 1 bytes are left.");
    assert_literal_corrupt(
        "\0\0\0\1\xff\xff\xff\xff\0\0\0\0",
        "At byte offset 8 of 12: a key of 4294967295 bytes, but only 4 bytes are left.");
    assert_literal_corrupt(
        "\0\0\0\1\0\0\0\0\x80\0\0\0",
        "At byte offset 12 of 12: a value of 2147483648 bytes, but only 0 bytes are left.");
}

static void test_one_pair_that_leaves_nothing_for_the_others_is_corrupt(void **state) {
    (void) state;
    char bytes[4 + 8 + 8 * 100] = "\0\0\0\x64\0\0\x03\x20";
    memset(bytes + 8, 'k', 8 * 100);
    memset(bytes + sizeof bytes - 4, 0xff, 4);
    assert_corrupt(bytes, sizeof bytes,
                   "At byte offset 812 of 812: the length of a key is cut off.");
}

static void test_text_that_is_not_utf8_is_corrupt(void **state) {
    (void) state;
    assert_literal_corrupt(
        "\0\0\0\1\0\0\0\2k\xff\0\0\0\0",
        "At byte offset 9 of 14: a key with \"\\xff\", which is not text in UTF-8.");
    assert_literal_corrupt(
        "\0\0\0\1\0\0\0\1k\0\0\0\3v\0w",
        "At byte offset 14 of 16: a value with \"\\x00w\", which is not text in UTF-8.");
}

static void test_a_key_sent_twice_is_corrupt(void **state) {
    (void) state;
    assert_literal_corrupt("\0\0\0\2\0\0\0\1k\xff\xff\xff\xff\0\0\0\1k\xff\xff\xff\xff",
                           "At byte offset 22 of 22: the key \"k\" comes twice.");
    assert_literal_corrupt("\0\0\0\3"
                           "\0\0\0\1k\xff\xff\xff\xff\0\0\0\1j\xff\xff\xff\xff"
                           "\0\0\0\1k\xff\xff\xff\xff",
                           "At byte offset 31 of 31: the key \"k\" comes twice.");
}

static void test_a_key_sent_twice_among_many_is_corrupt(void **state) {
    (void) state;
    for (size_t count = 1; count < 70; count++) {
        hvi_buffer out = HVI_BUFFER_EMPTY;
        hvi_buffer_append_be32(&out, (uint32_t) count + 1);
        for (size_t i = 0; i <= count; i++) {
            char key = (char) ('0' + (i < count ? i : 0)); /* the last one is the first again */
            hvi_buffer_append_be32(&out, 1);
            hvi_buffer_append_byte(&out, key);
            hvi_buffer_append_be32(&out, UINT32_MAX);
        }
        hv_dict *dict = NULL;
        assert_int_equal(decode(out.data, out.len, &dict, NULL), HV_CORRUPT);
        hvi_buffer_fini(&out);
    }
}

static void test_what_is_read_from_damaged_bytes_is_exactly_these_bytes(void **state) {
    (void) state;
    generator g = {6};
    int good = 0, bad = 0;
    for (int i = 0; i < 30000; i++) {
        hv_dict *dict = generate_dict(&g, 6);
        hvi_buffer bytes = HVI_BUFFER_EMPTY;
        hvi_hstore_encode(dict, &bytes);
        hv_dict_free(dict);
        for (size_t changes = 1 + generate_below(&g, 3); changes > 0; changes--)
            bytes.data[generate_below(&g, bytes.len)] = (char) generate(&g);
        dict = NULL;
        hv_status status = decode(bytes.data, bytes.len, &dict, NULL);
        if (status == HV_OK) {
            hvi_buffer again = HVI_BUFFER_EMPTY;
            hvi_hstore_encode(dict, &again);
            assert_int_equal(again.len, bytes.len);
            assert_memory_equal(again.data, bytes.data, bytes.len);
            hvi_buffer_fini(&again);
            good++;
        } else {
            assert_int_equal(status, HV_CORRUPT);
            assert_null(dict);
            bad++;
        }
        hv_dict_free(dict);
        hvi_buffer_fini(&bytes);
    }
    assert_true(good > 100);
    assert_true(bad > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dict_is_written_as_the_server_reads_it),
        cmocka_unit_test(test_no_dict_is_written_as_an_empty_one),
        cmocka_unit_test(test_nothing_is_written_to_a_broken_buffer),
        cmocka_unit_test(test_the_sample_is_read),
        cmocka_unit_test(test_the_empty_hstore_is_read),
        cmocka_unit_test(test_a_dict_that_was_read_can_be_changed),
        cmocka_unit_test(test_any_dict_is_read_as_it_was_written),
        cmocka_unit_test(test_a_megabyte_and_characters_of_four_bytes_go_both_ways),
        cmocka_unit_test(test_what_is_cut_off_anywhere_is_corrupt),
        cmocka_unit_test(test_a_length_that_is_one_byte_off_is_corrupt),
        cmocka_unit_test(test_bytes_left_over_are_corrupt),
        cmocka_unit_test(test_a_count_without_the_bytes_for_it_asks_for_no_memory),
        cmocka_unit_test(test_lengths_beyond_the_end_are_corrupt),
        cmocka_unit_test(test_one_pair_that_leaves_nothing_for_the_others_is_corrupt),
        cmocka_unit_test(test_text_that_is_not_utf8_is_corrupt),
        cmocka_unit_test(test_a_key_sent_twice_is_corrupt),
        cmocka_unit_test(test_a_key_sent_twice_among_many_is_corrupt),
        cmocka_unit_test(test_what_is_read_from_damaged_bytes_is_exactly_these_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
