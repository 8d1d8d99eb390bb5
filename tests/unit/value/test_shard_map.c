/*
 * Tests of the shard map: what ranges mean, and the errors for invalid ones.
 */
#include "value/shard_map.h"
#include "unit.h"

#include <stdio.h>

static const char *const names[] = {"left", "right"};

static hvi_shard_map map_of(const char *left, const char *right) {
    hvi_shard_map map;
    hvi_shard_map_init(&map);
    if (left != NULL)
        assert_int_equal(hvi_shard_map_add(&map, left, 0, names, NULL), HV_OK);
    if (right != NULL)
        assert_int_equal(hvi_shard_map_add(&map, right, 1, names, NULL), HV_OK);
    return map;
}

/* Server 0 ("left") holds exactly these shards. */
static void assert_left_holds(const char *text, const int *shards, size_t count) {
    hvi_shard_map map = map_of(text, NULL);
    int shard = -1;
    for (size_t i = 0; i < count; i++) {
        shard = hvi_shard_map_next(&map, 0, shard);
        assert_int_equal(shard, shards[i]);
        assert_int_equal(hvi_shard_map_server(&map, shard), 0);
    }
    assert_int_equal(hvi_shard_map_next(&map, 0, shard), -1);
    assert_int_equal(hvi_shard_map_count(&map, 0), count);
    assert_int_equal(hvi_shard_map_count(&map, -1), count);
}
#define assert_left(text, ...) \
    assert_left_holds(text, (const int[]){__VA_ARGS__}, LENGTH(((const int[]){__VA_ARGS__})))

/* Adding this to server 1 ("right") fails with this message and changes nothing. */
static void assert_refused(const char *left, const char *right, const char *message) {
    hvi_shard_map map = map_of(left, NULL);
    const hvi_shard_map before = map;
    hv_error *error = NULL;
    assert_int_equal(hvi_shard_map_add(&map, right, 1, names, &error), HV_BAD_CONFIG);
    assert_non_null(error);
    assert_string_equal(hv_error_server(error), "right");
    assert_non_null(hv_error_hint(error));
    assert_error(&error, HV_BAD_CONFIG, message);
    assert_memory_equal(&map, &before, sizeof map);
    assert_int_equal(hvi_shard_map_add(&map, right, 1, names, NULL), HV_BAD_CONFIG);
}

static void test_an_empty_map_holds_nothing(void **state) {
    (void) state;
    hvi_shard_map map = map_of(NULL, NULL);
    assert_int_equal(hvi_shard_map_server(&map, 0), -1);
    assert_int_equal(hvi_shard_map_next(&map, -1, -1), -1);
    assert_int_equal(hvi_shard_map_count(&map, -1), 0);
}

static void test_a_range_ends_before_its_end(void **state) {
    (void) state;
    assert_left("1-9", 1, 2, 3, 4, 5, 6, 7, 8);
    assert_left("5-6", 5);
}

static void test_single_shards_and_lists_are_read(void **state) {
    (void) state;
    assert_left("5", 5);
    assert_left("0", 0);
    assert_left("1-3,9-11", 1, 2, 9, 10);
    assert_left("9,1-3,5", 1, 2, 5, 9);
    assert_left("007-0010", 7, 8, 9);
}

static void test_spaces_may_stand_anywhere_between(void **state) {
    (void) state;
    assert_left("  1 - 3 ,\t9\n-11 ", 1, 2, 9, 10);
}

static void test_all_shards_fit_one_server(void **state) {
    (void) state;
    hvi_shard_map map = map_of("0-8192", NULL);
    assert_int_equal(hvi_shard_map_count(&map, 0), HV_SHARDS);
    assert_left("8191", 8191);
    assert_left("8191-8192", 8191);
}

static void test_shards_out_of_range_belong_to_nobody(void **state) {
    (void) state;
    hvi_shard_map map = map_of("0-8192", NULL);
    static const int bad[] = {-1, HV_SHARDS, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_int_equal(hvi_shard_map_server(&map, bad[i]), -1);
    assert_int_equal(hvi_shard_map_next(&map, 0, INT32_MAX), -1);
    assert_int_equal(hvi_shard_map_next(&map, 0, HV_SHARDS - 1), -1);
    assert_int_equal(hvi_shard_map_next(&map, 0, INT32_MIN), 0);
}

static void test_servers_may_leave_gaps(void **state) {
    (void) state;
    hvi_shard_map map = map_of("1-3", "5-7");
    static const int servers[] = {-1, 0, 0, -1, -1, 1, 1, -1};
    for (int shard = 0; shard < (int) LENGTH(servers); shard++)
        assert_int_equal(hvi_shard_map_server(&map, shard), servers[shard]);
    assert_int_equal(hvi_shard_map_next(&map, -1, 2), 5);
    assert_int_equal(hvi_shard_map_next(&map, 0, 2), -1);
    assert_int_equal(hvi_shard_map_next(&map, 1, -1), 5);
    assert_int_equal(hvi_shard_map_count(&map, 1), 2);
    assert_int_equal(hvi_shard_map_count(&map, -1), 4);
}

static void test_what_is_added_adds_up(void **state) {
    (void) state;
    hvi_shard_map map = map_of("1-3", NULL);
    assert_int_equal(hvi_shard_map_add(&map, "7", 0, names, NULL), HV_OK);
    assert_int_equal(hvi_shard_map_count(&map, 0), 3);
}

static void test_an_overlap_names_both_servers_and_the_shard(void **state) {
    (void) state;
    assert_refused("1-9", "8-17", "shard 8 is given to both server \"left\" and server \"right\"");
    assert_refused("5", "20,1-9", "shard 5 is given to both server \"left\" and server \"right\"");

    hvi_shard_map map = map_of("1-9", NULL);
    hv_error *error = NULL;
    hvi_shard_map_add(&map, "8-17", 1, names, &error);
    assert_int_equal(hv_error_shard(error), 8);
    hv_error_free(error);
}

static void test_a_shard_given_twice_to_one_server_is_refused(void **state) {
    (void) state;
    assert_refused(NULL, "1-9,5", "shard 5 is given to server \"right\" twice");
    assert_refused(NULL, "5,5", "shard 5 is given to server \"right\" twice");
    hvi_shard_map map = map_of("1-9", NULL);
    assert_int_equal(hvi_shard_map_add(&map, "8-10", 0, names, NULL), HV_BAD_CONFIG);
}

static void test_no_shards_at_all_are_refused(void **state) {
    (void) state;
    assert_refused("1", "", "no shards given for server \"right\"");
    assert_refused("1", " \t ", "no shards given for server \"right\"");
}

static void test_empty_items_are_refused(void **state) {
    (void) state;
    static const char *const texts[] = {"1,", ",1", "1,,2", ",", "1, ,2", "1-3, "};
    for (size_t i = 0; i < LENGTH(texts); i++) {
        char message[100];
        size_t len = strlen(texts[i]);
        while (texts[i][len - 1] == ' ')
            len--;
        snprintf(message, sizeof message, "empty item: \"%.*s\" in the shards of server \"right\"",
                 (int) len, texts[i]);
        assert_refused(NULL, texts[i], message);
    }
}

static void test_nonsense_is_refused_and_quoted_if_it_looks_like_shards(void **state) {
    (void) state;
    static const char *const items[] = {
        "x",  "-",    "1-",   "-1",    "+1",  "1--2", "1-2-3", "1 2",  "1.5",  "0x10", "1-x",
        "1a", "1-2b", "1..5", "\"1\"", "1;2", "1:2",  "one",   "1-+2", "-1-5", "1e3",  "\xc2\xb2",
    };
    for (size_t i = 0; i < LENGTH(items); i++) {
        char text[50], message[150];
        snprintf(text, sizeof text, "20, %s ,30", items[i]);
        if (items[i][strspn(items[i], "0123456789 -")] == '\0') {
            snprintf(message, sizeof message,
                     "not a shard or a range of shards: \"%s\" in the shards of server \"right\"",
                     items[i]);
            assert_refused(NULL, text, message);
            assert_refused(NULL, items[i], message);
        } else { /* it may be a password */
            assert_refused(NULL, text,
                           "not a shard or a range of shards, at character 5 of the shards of "
                           "server \"right\"");
            assert_refused(NULL, items[i],
                           "not a shard or a range of shards, at character 1 of the shards of "
                           "server \"right\"");
        }
    }
}

static void test_shards_above_8191_are_refused(void **state) {
    (void) state;
    static const char *const items[] = {
        "8192",
        "8192-8193",
        "0-8193",
        "8193",
        "99999999999999999999999999",
        "1-4294967297",
        "4294967297",
        "18446744073709551617-18446744073709551619",
    };
    for (size_t i = 0; i < LENGTH(items); i++) {
        char message[150];
        snprintf(message, sizeof message,
                 i < 4 ? "shard out of range: \"%s\" in the shards of server \"right\""
                       : "shard out of range, at character 1 of the shards of server \"right\"",
                 items[i]);
        assert_refused("1", items[i], message);
    }
}

static void test_empty_and_reversed_ranges_are_refused(void **state) {
    (void) state;
    assert_refused(NULL, "5-5", "empty range: \"5-5\" in the shards of server \"right\"");
    assert_refused(NULL, "1-3,0-0", "empty range: \"0-0\" in the shards of server \"right\"");
    assert_refused(NULL, "9-1", "reversed range: \"9-1\" in the shards of server \"right\"");
    assert_refused(NULL, "8192-1",
                   "shard out of range: \"8192-1\" in the shards of server \"right\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_map_holds_nothing),
        cmocka_unit_test(test_a_range_ends_before_its_end),
        cmocka_unit_test(test_single_shards_and_lists_are_read),
        cmocka_unit_test(test_spaces_may_stand_anywhere_between),
        cmocka_unit_test(test_all_shards_fit_one_server),
        cmocka_unit_test(test_shards_out_of_range_belong_to_nobody),
        cmocka_unit_test(test_servers_may_leave_gaps),
        cmocka_unit_test(test_what_is_added_adds_up),
        cmocka_unit_test(test_an_overlap_names_both_servers_and_the_shard),
        cmocka_unit_test(test_a_shard_given_twice_to_one_server_is_refused),
        cmocka_unit_test(test_no_shards_at_all_are_refused),
        cmocka_unit_test(test_empty_items_are_refused),
        cmocka_unit_test(test_nonsense_is_refused_and_quoted_if_it_looks_like_shards),
        cmocka_unit_test(test_shards_above_8191_are_refused),
        cmocka_unit_test(test_empty_and_reversed_ranges_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
