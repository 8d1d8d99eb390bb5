/*
 * Tests of the public functions of a store, as far as they need no server.
 */
#include "unit.h"

#include <stdio.h>

static hv_store *open_store(void) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    assert_int_equal(hv_options_set_server(options, "one", "shards", "1-3", NULL), HV_OK);
    assert_int_equal(hv_options_set_server(options, "one", "host", "/nowhere", NULL), HV_OK);
    assert_int_equal(hv_open(options, &store, NULL), HV_OK);
    hv_options_free(options);
    return store;
}

static void test_the_number_of_created_shards_is_set_whatever_fails(void **state) {
    (void) state;
    static const struct {
        int server;
        hv_status status;
    } cases[] = {{-1, HV_INVALID}, {1, HV_INVALID}, {0, HV_UNAVAILABLE}};
    hv_store *store = open_store();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int created = 7;
        assert_int_equal(hv_create_shards(store, cases[i].server, NULL, NULL, &created, NULL),
                         cases[i].status);
        assert_int_equal(created, 0);
    }
    assert_int_equal(hv_close(store, 0, NULL), HV_OK);
}

/* A store with these shards of one server, and these that values are spread over. */
static hv_store *open_spread(const char *shards, const char *spread) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    assert_int_equal(hv_options_set_server(options, "one", "shards", shards, NULL), HV_OK);
    assert_int_equal(hv_options_set(options, "spread", spread, NULL), HV_OK);
    assert_int_equal(hv_open(options, &store, NULL), HV_OK);
    hv_options_free(options);
    return store;
}

static void test_the_shard_of_a_value_is_one_of_the_options(void **state) {
    (void) state;
    hv_store *store = open_spread("0-300", "1-4,9,100");
    int shard = -1;
    assert_int_equal(hv_shard_of(store, "a@example.org", HV_STRLEN, &shard, NULL), HV_OK);
    assert_int_equal(shard, 3);
    assert_int_equal(hv_shard_of(store, "a\0b", 3, &shard, NULL), HV_OK);
    assert_int_equal(shard, 100);
    assert_int_equal(hv_shard_of(store, "a\0b", HV_STRLEN, &shard, NULL), HV_OK);
    assert_int_equal(shard, 2);
    assert_int_equal(hv_shard_of(store, "", 0, &shard, NULL), HV_OK);
    assert_int_equal(shard, 3);
    shard = -1;
    assert_int_equal(hv_shard_of(store, NULL, 0, &shard, NULL), HV_OK);
    assert_int_equal(shard, 3);
    assert_int_equal(hv_next_spread(store, 3), 9);
    hv_stop(store);
    assert_int_equal(hv_shard_of(store, "", 0, &shard, NULL), HV_OK);
    assert_int_equal(hv_close(store, 0, NULL), HV_OK);
}

static void test_a_null_pointer_is_no_value(void **state) {
    (void) state;
    hv_store *store = open_spread("0-4", "0-4");
    static const size_t lengths[] = {1, HV_STRLEN};
    for (size_t i = 0; i < LENGTH(lengths); i++) {
        int shard = 7;
        hv_error *error = NULL;
        assert_int_equal(hv_shard_of(store, NULL, lengths[i], &shard, &error), HV_INVALID);
        assert_error(&error, HV_INVALID, "the value is a NULL pointer");
        assert_int_equal(shard, 7);
    }
    assert_int_equal(hv_close(store, 0, NULL), HV_OK);
}

static void test_without_the_option_the_hint_is_the_line_to_write(void **state) {
    (void) state;
    char odd[800] = "", line[900];
    for (int shard = 1; shard < 200; shard += 2)
        snprintf(odd + strlen(odd), sizeof odd - strlen(odd), shard == 1 ? "%d" : ",%d", shard);
    snprintf(line, sizeof line, "spread = \"%s\"", odd);
    const struct {
        const char *shards;
        const char *line;
    } cases[] = {{"7,0-4,4-6", "spread = 0-6,7"}, {odd, line}};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hv_store *store = open_spread(cases[i].shards, "");
        int shard = 7;
        hv_error *error = NULL;
        assert_int_equal(hv_shard_of(store, "a", 1, &shard, NULL), HV_BAD_CONFIG);
        assert_int_equal(hv_shard_of(store, "a", 1, &shard, &error), HV_BAD_CONFIG);
        assert_contains(hv_error_hint(error), cases[i].line);
        assert_error(&error, HV_BAD_CONFIG, "the option \"spread\" is not set");
        assert_int_equal(shard, 7);
        assert_int_equal(hv_next_spread(store, -1), -1);
        assert_int_equal(hv_close(store, 0, NULL), HV_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_number_of_created_shards_is_set_whatever_fails),
        cmocka_unit_test(test_the_shard_of_a_value_is_one_of_the_options),
        cmocka_unit_test(test_a_null_pointer_is_no_value),
        cmocka_unit_test(test_without_the_option_the_hint_is_the_line_to_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
