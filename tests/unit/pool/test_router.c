/*
 * Tests of where shards are.
 */
#include <stdio.h>

#include "pool/router.h"
#include "unit.h"

static hvi_router router;
static int reports;
static char last[200];

static void on_log(void *context, const hv_log_event *event) {
    (void) context;
    reports++;
    assert_int_equal(hv_log_status(event), HV_MOVED);
    assert_string_equal(hv_log_server(event), "two");
    snprintf(last, sizeof last, "%s", hv_log_statement(event));
}

static int set_up(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    reports = 0;
    hv_options_add_server(options, "one", NULL);
    hv_options_set_server(options, "one", "shards", "0-10", NULL);
    hv_options_add_server(options, "two", NULL);
    hv_options_set_server(options, "two", "shards", "20", NULL);
    hv_options_set_log(options, on_log, NULL);
    hv_status status = hvi_router_init(&router, options, NULL, NULL, NULL);
    hv_options_free(options);
    return status == HV_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void) state;
    hvi_router_fini(&router);
    return 0;
}

static void test_shards_are_first_where_the_configuration_says(void **state) {
    (void) state;
    assert_int_equal(hvi_router_holder(&router, 9), 0);
    assert_int_equal(hvi_router_holder(&router, 20), 1);
    assert_int_equal(hvi_router_holder(&router, 10), -1);
    assert_int_equal(hvi_router_holder(&router, -1), -1);
    assert_int_equal(hvi_router_holder(&router, HV_SHARDS), -1);
    assert_int_equal(hvi_router_generation(&router, 9), 0);
    assert_int_equal(hvi_router_count(&router, 0), 10);
    assert_int_equal(hvi_router_count(&router, -1), 11);
    assert_int_equal(hvi_router_next(&router, 1, -1), 20);
    assert_int_equal(hvi_router_next(&router, 1, 20), -1);
}

static void test_the_highest_generation_counts(void **state) {
    (void) state;
    hvi_server *server = NULL;
    assert_true(hvi_router_move(&router, 9, 1, 3));
    assert_int_equal(hvi_router_find(&router, 9, &server, NULL), HV_OK);
    assert_string_equal(server->name, "two");
    assert_false(hvi_router_move(&router, 9, 0, 2));
    assert_false(hvi_router_move(&router, 9, 0, 3));
    assert_int_equal(hvi_router_holder(&router, 9), 1);
    assert_int_equal(hvi_router_generation(&router, 9), 3);
    assert_int_equal(hvi_router_count(&router, 0), 9);
    assert_int_equal(hvi_router_next(&router, 1, -1), 9);
}

static void test_only_news_is_reported(void **state) {
    (void) state;
    hvi_router_move(&router, 9, 1, 3);
    hvi_router_move(&router, 9, 1, 3);
    hvi_router_move(&router, 9, 1, 4); /* it was there and back */
    assert_int_equal(hvi_router_generation(&router, 9), 4);
    assert_int_equal(reports, 1);
    assert_string_equal(last, "-- shard 9 has moved from server \"one\" to server \"two\""
                              " (generation 3)");
}

static void test_a_shard_that_had_no_server_may_get_one(void **state) {
    (void) state;
    assert_true(hvi_router_move(&router, 4000, 1, 0));
    assert_int_equal(hvi_router_next(&router, -1, 20), 4000);
    assert_false(hvi_router_move(&router, 4000, 0, 0));
    assert_int_equal(reports, 0);
}

static void test_what_cannot_be_is_ignored(void **state) {
    (void) state;
    assert_false(hvi_router_move(&router, 9, 2, 1));
    assert_false(hvi_router_move(&router, 9, -1, 1));
    assert_false(hvi_router_move(&router, HV_SHARDS, 1, 1));
    assert_int_equal(hvi_router_holder(&router, 9), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shards_are_first_where_the_configuration_says, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_highest_generation_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_news_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_shard_that_had_no_server_may_get_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_is_ignored, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
