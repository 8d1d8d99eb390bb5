/*
 * Tests of keys: the bits, their limits, and the public functions' errors.
 */
#include "value/key.h"
#include "generator.h"
#include "unit.h"

#define GOLDEN_KEY     INT64_C(307821103844175873)
#define GOLDEN_CREATED INT64_C(1416060666450) /* 2014-11-15T14:11:06.450Z */
#define LAST_CREATED   INT64_C(2478877159127) /* 2048-07-20T16:59:19.127Z */

static void test_the_golden_key_unpacks_to_its_fields(void **state) {
    (void) state;
    int64_t created;
    int shard, added_id;
    assert_int_equal(hv_key_unpack(GOLDEN_KEY, HV_DEFAULT_EPOCH, &created, &shard, &added_id, NULL),
                     HV_OK);
    assert_int_equal(created, GOLDEN_CREATED);
    assert_int_equal(shard, 12);
    assert_int_equal(added_id, 1);
}

static void test_the_golden_fields_pack_to_their_key(void **state) {
    (void) state;
    int64_t key;
    assert_int_equal(hv_key_pack(GOLDEN_CREATED, 12, 1, HV_DEFAULT_EPOCH, &key, NULL), HV_OK);
    assert_int_equal(key, GOLDEN_KEY);
}

static void test_the_largest_key_holds_the_last_of_everything(void **state) {
    (void) state;
    int64_t created, key;
    int shard, added_id;
    assert_int_equal(hv_key_unpack(INT64_MAX, HV_DEFAULT_EPOCH, &created, &shard, &added_id, NULL),
                     HV_OK);
    assert_int_equal(created, LAST_CREATED);
    assert_int_equal(shard, HV_SHARDS - 1);
    assert_int_equal(added_id, HV_ADDED_IDS - 1);
    assert_int_equal(hv_key_pack(created, shard, added_id, HV_DEFAULT_EPOCH, &key, NULL), HV_OK);
    assert_true(key == INT64_MAX);
}

static void test_the_smallest_key_is_1(void **state) {
    (void) state;
    int64_t created, key;
    int shard, added_id;
    assert_int_equal(hv_key_unpack(1, HV_DEFAULT_EPOCH, &created, &shard, &added_id, NULL), HV_OK);
    assert_int_equal(created, HV_DEFAULT_EPOCH);
    assert_int_equal(shard, 0);
    assert_int_equal(added_id, 1);
    assert_int_equal(hv_key_pack(HV_DEFAULT_EPOCH, 0, 1, HV_DEFAULT_EPOCH, &key, NULL), HV_OK);
    assert_int_equal(key, 1);
}

static void test_every_output_of_unpack_may_be_null(void **state) {
    (void) state;
    assert_int_equal(hv_key_unpack(GOLDEN_KEY, HV_DEFAULT_EPOCH, NULL, NULL, NULL, NULL), HV_OK);
}

static void test_zero_and_negative_numbers_are_no_keys(void **state) {
    (void) state;
    hvi_key_fields fields;
    assert_false(hvi_key_unpack(0, &fields));
    assert_false(hvi_key_unpack(-1, &fields));
    assert_false(hvi_key_unpack(INT64_MIN, &fields));

    int shard = -7;
    hv_error *error = NULL;
    assert_int_equal(hv_key_unpack(-5, HV_DEFAULT_EPOCH, NULL, &shard, NULL, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "-5 is not a key");
    assert_int_equal(shard, -7); /* untouched */
}

static void test_fields_out_of_range_do_not_pack(void **state) {
    (void) state;
    static const hvi_key_fields bad[] = {
        {-1, 0, 1},        {HVI_KEY_MAX_TIME + 1, 0, 1},
        {INT64_MAX, 0, 1}, {INT64_MIN, 0, 1},
        {1, -1, 1},        {1, HV_SHARDS, 1},
        {1, 0, -1},        {1, 0, HV_ADDED_IDS},
        {1, 1 << 20, 1},   {0, 0, 0},
    };
    for (size_t i = 0; i < LENGTH(bad); i++) {
        int64_t key = -7;
        assert_false(hvi_key_pack(&bad[i], &key));
        assert_int_equal(key, -7);
    }
}

static void test_an_error_of_pack_names_the_field(void **state) {
    (void) state;
    int64_t key;
    hv_error *error = NULL;
    hv_key_pack(GOLDEN_CREATED, HV_SHARDS, 1, HV_DEFAULT_EPOCH, &key, &error);
    assert_error(&error, HV_INVALID, "shard 8192 is out of range");
    hv_key_pack(GOLDEN_CREATED, 0, HV_ADDED_IDS, HV_DEFAULT_EPOCH, &key, &error);
    assert_error(&error, HV_INVALID, "added_id 1024 is out of range");
    hv_key_pack(HV_DEFAULT_EPOCH, 0, 0, HV_DEFAULT_EPOCH, &key, &error);
    assert_error(&error, HV_INVALID, "the first key of shard 0 at the epoch would be 0");
    hv_key_pack(HV_DEFAULT_EPOCH - 1, 0, 1, HV_DEFAULT_EPOCH, &key, &error);
    assert_error(&error, HV_INVALID, "no key can hold the time 2013-09-16T21:05:31.351Z");
    hv_key_pack(LAST_CREATED + 1, 0, 1, HV_DEFAULT_EPOCH, &key, &error);
    assert_contains(hv_error_detail(error), "2013-09-16T21:05:31.352Z to 2048-07-20T16:59:19.127Z");
    assert_error(&error, HV_INVALID, "no key can hold the time 2048-07-20T16:59:19.128Z");
    hv_key_pack(-1, 0, 1, HV_DEFAULT_EPOCH, &key, &error);
    assert_error(&error, HV_INVALID, "no key can hold the time 1969-12-31T23:59:59.999Z");
}

static void test_times_far_out_do_not_overflow(void **state) {
    (void) state;
    int64_t out;
    hv_error *error = NULL;
    assert_int_equal(hv_key_pack(INT64_MIN, 0, 1, HV_DEFAULT_EPOCH, &out, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "no key can hold the time -292275055-05-16T16:47:04.192Z");
    assert_int_equal(hv_key_pack(INT64_MAX, 0, 1, -5, &out, NULL), HV_INVALID);
    assert_int_equal(hv_key_pack(INT64_MIN, 0, 1, INT64_MAX, &out, NULL), HV_INVALID);
    assert_int_equal(hv_key_unpack(INT64_MAX, INT64_MAX, &out, NULL, NULL, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "no key can be made with the epoch 9223372036854775807");
    assert_int_equal(hv_key_bound(INT64_MAX, -5, &out, NULL), HV_INVALID);
    assert_int_equal(hv_key_bound(INT64_MIN, 5, &out, NULL), HV_OK);
    assert_int_equal(out, 0);
}

static void test_a_bound_parts_earlier_keys_from_later_ones(void **state) {
    (void) state;
    int64_t bound, last_before, first_after;
    assert_int_equal(hv_key_bound(GOLDEN_CREATED, HV_DEFAULT_EPOCH, &bound, NULL), HV_OK);
    hv_key_pack(GOLDEN_CREATED - 1, HV_SHARDS - 1, HV_ADDED_IDS - 1, HV_DEFAULT_EPOCH, &last_before,
                NULL);
    hv_key_pack(GOLDEN_CREATED, 0, 0, HV_DEFAULT_EPOCH, &first_after, NULL);
    assert_int_equal(last_before, bound - 1);
    assert_int_equal(first_after, bound);
}

static void test_the_bound_of_the_epoch_and_before_is_0(void **state) {
    (void) state;
    int64_t bound;
    for (int64_t created = HV_DEFAULT_EPOCH - 1; created <= HV_DEFAULT_EPOCH; created++) {
        bound = -7;
        assert_int_equal(hv_key_bound(created, HV_DEFAULT_EPOCH, &bound, NULL), HV_OK);
        assert_int_equal(bound, 0);
    }
}

static void test_there_is_no_bound_after_the_last_moment(void **state) {
    (void) state;
    int64_t bound = -7;
    hv_error *error = NULL;
    assert_int_equal(hv_key_bound(LAST_CREATED, HV_DEFAULT_EPOCH, &bound, NULL), HV_OK);
    assert_true(bound == HVI_KEY_MAX_TIME << HVI_KEY_TIME_SHIFT);
    assert_int_equal(hv_key_bound(LAST_CREATED + 1, HV_DEFAULT_EPOCH, &bound, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "no key can hold the time 2048-07-20T16:59:19.128Z");
}

static void test_what_was_packed_unpacks_and_keys_sort_by_time(void **state) {
    (void) state;
    generator g = {1};
    int64_t previous_key = 0;
    hvi_key_fields previous = {0};
    for (int i = 0; i < 100000; i++) {
        const hvi_key_fields fields = {
            .time = (int64_t) (generate(&g) & (uint64_t) HVI_KEY_MAX_TIME),
            .shard = (int) generate_below(&g, HV_SHARDS),
            .added_id = (int) generate_below(&g, HV_ADDED_IDS),
        };
        int64_t key;
        hvi_key_fields again;
        assert_true(hvi_key_pack(&fields, &key));
        assert_true(key > 0);
        assert_true(hvi_key_unpack(key, &again));
        assert_int_equal(again.time, fields.time);
        assert_int_equal(again.shard, fields.shard);
        assert_int_equal(again.added_id, fields.added_id);
        if (fields.time != previous.time)
            assert_int_equal(fields.time > previous.time, key > previous_key);
        previous = fields;
        previous_key = key;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_golden_key_unpacks_to_its_fields),
        cmocka_unit_test(test_the_golden_fields_pack_to_their_key),
        cmocka_unit_test(test_the_largest_key_holds_the_last_of_everything),
        cmocka_unit_test(test_the_smallest_key_is_1),
        cmocka_unit_test(test_every_output_of_unpack_may_be_null),
        cmocka_unit_test(test_zero_and_negative_numbers_are_no_keys),
        cmocka_unit_test(test_fields_out_of_range_do_not_pack),
        cmocka_unit_test(test_an_error_of_pack_names_the_field),
        cmocka_unit_test(test_times_far_out_do_not_overflow),
        cmocka_unit_test(test_a_bound_parts_earlier_keys_from_later_ones),
        cmocka_unit_test(test_the_bound_of_the_epoch_and_before_is_0),
        cmocka_unit_test(test_there_is_no_bound_after_the_last_moment),
        cmocka_unit_test(test_what_was_packed_unpacks_and_keys_sort_by_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
