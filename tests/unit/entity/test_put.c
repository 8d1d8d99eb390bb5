/*
 * Tests of what a put refuses without asking a server.
 */
#include "value/dict.h"
#include "value/hstore.h"
#include "unit.h"

static hv_store *store;

/* A store whose server cannot be reached: an operation that asks it fails with HV_UNAVAILABLE. */
static int start(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    bool ok =
        hv_options_set_server(options, "nowhere", "host", "/nonexistent", NULL) == HV_OK &&
        hv_options_set_server(options, "nowhere", "shards", "0-9", NULL) == HV_OK &&
        hv_options_set(options, "operation_timeout", "50ms", NULL) == HV_OK &&
        hv_options_set(options, "exactly_once", *state != NULL ? "on" : "off", NULL) == HV_OK &&
        hv_open(options, &store, NULL) == HV_OK;
    hv_options_free(options);
    return ok ? 0 : -1;
}

static int stop(void **state) {
    (void) state;
    return hv_close(store, 0, NULL) == HV_OK ? 0 : -1;
}

/* A gigabyte takes long to make, and only lengths are looked at: there are no bytes. */
static void set_size(hv_dict *dict, hvi_attribute items[2], size_t size) {
    size_t left = size - 4 - 2 * 8 - 2; /* the count, two pairs of lengths, the keys "a" and "b" */
    items[0] = (hvi_attribute){.key_len = 1, .value_len = (uint32_t) (left / 2)};
    items[1] = (hvi_attribute){.key_len = 1, .value_len = (uint32_t) (left - left / 2)};
    *dict = (hv_dict){.items = items, .count = 2};
    assert_int_equal(hvi_hstore_size(dict), size);
}

static void
test_attributes_too_large_for_a_message_are_refused_before_anything_is_sent(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_attribute items[2];
    hv_dict dict;
    int64_t key = -1;
    size_t sizes[] = {0x3FFFFF01, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFE};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        set_size(&dict, items, sizes[i]);
        assert_int_equal(hv_put(store, 3, 1, &dict, &key, &error), HV_INVALID);
        assert_contains(hv_error_detail(error), "an entity has room for 1073741568.");
        assert_error(&error, HV_INVALID, "the attributes are too large");
        assert_int_equal(hv_put_key(store, 1 << 23 | 3 << 10, 1, &dict, &error), HV_INVALID);
        assert_error(&error, HV_INVALID, "the attributes are too large");
    }
    assert_int_equal(key, -1);
    assert_int_equal(hv_pool_stat(store, 0, HV_STAT_FAILED), 0);
}

static void
test_kinds_shards_and_keys_that_cannot_be_are_refused_before_anything_is_sent(void **state) {
    (void) state;
    int64_t key = -1, keys[2] = {-1, -1};
    assert_int_equal(hv_put(store, 3, 32768, NULL, &key, NULL), HV_INVALID);
    assert_int_equal(hv_put(store, 3, -32769, NULL, &key, NULL), HV_INVALID);
    assert_int_equal(hv_put(store, -1, 1, NULL, &key, NULL), HV_INVALID);
    assert_int_equal(hv_put(store, 8192, 1, NULL, &key, NULL), HV_INVALID);
    assert_int_equal(hv_put(store, 9, 1, NULL, &key, NULL), HV_NO_SERVER);
    assert_int_equal(hv_put_key(store, 0, 1, NULL, NULL), HV_INVALID);
    assert_int_equal(hv_put_key(store, -1, 1, NULL, NULL), HV_INVALID);
    assert_int_equal(hv_put_key(store, INT64_MIN, 1, NULL, NULL), HV_INVALID);
    assert_int_equal(hv_put_key(store, 1 << 23 | 9 << 10, 1, NULL, NULL), HV_NO_SERVER);
    assert_int_equal(hv_put_key(store, 1 << 23 | 3 << 10, 32768, NULL, NULL), HV_INVALID);
    assert_int_equal(hv_reserve(store, 9, 1, keys, NULL), HV_NO_SERVER);
    assert_int_equal(hv_reserve(store, -1, 1, keys, NULL), HV_INVALID);
    assert_int_equal(hv_reserve(store, 3, 0, keys, NULL), HV_INVALID);
    assert_int_equal(hv_reserve(store, 3, -1, keys, NULL), HV_INVALID);
    assert_int_equal(hv_reserve(store, 3, 100001, keys, NULL), HV_INVALID);
    assert_int_equal(hv_reserve(store, 3, INT32_MIN, keys, NULL), HV_INVALID);
    assert_int_equal(hv_reserve(store, 3, INT32_MAX, keys, NULL), HV_INVALID);
    assert_int_equal(hv_pool_stat(store, 0, HV_STAT_FAILED), 0);

    assert_int_equal(hv_put(store, 3, 1, NULL, &key, NULL), HV_UNAVAILABLE);
    assert_int_equal(hv_put_key(store, 1 << 23 | 3 << 10, 1, NULL, NULL), HV_UNAVAILABLE);
    assert_int_equal(hv_reserve(store, 3, 2, keys, NULL), HV_UNAVAILABLE);
    assert_int_equal(hv_pool_stat(store, 0, HV_STAT_FAILED), 1);
    assert_int_equal(key, -1);
    assert_int_equal(keys[0], -1);
    assert_int_equal(keys[1], -1);
}

#define PLAIN_AND_EXACTLY_ONCE(test)                                   \
    cmocka_unit_test_prestate_setup_teardown(test, start, stop, NULL), \
        cmocka_unit_test_prestate_setup_teardown(test, start, stop, &store)

int main(void) {
    const struct CMUnitTest tests[] = {
        PLAIN_AND_EXACTLY_ONCE(
            test_attributes_too_large_for_a_message_are_refused_before_anything_is_sent),
        PLAIN_AND_EXACTLY_ONCE(
            test_kinds_shards_and_keys_that_cannot_be_are_refused_before_anything_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
