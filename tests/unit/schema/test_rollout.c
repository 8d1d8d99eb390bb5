/*
 * Tests of rollouts: their options, their copies, and the shards that are meant.
 */
#include "unit.h"

#include <limits.h>
#include <stdlib.h>

#include "schema/rollout.h"

static void set(hv_rollout *rollout, const char *name, const char *value) {
    hv_error *error = NULL;
    if (hv_rollout_set(rollout, name, value, &error) != HV_OK)
        fail_msg("%s = %s: %s", name, value, hv_error_message(error));
    assert_null(error);
}

static void test_the_defaults(void **state) {
    (void) state;
    hv_rollout *rollout = hv_rollout_new();
    assert_null(rollout->shards);
    assert_null(rollout->once);
    assert_int_equal(rollout->skipped_count, 0);
    assert_int_equal(rollout->parallel, 0);
    assert_int_equal(rollout->parallel_total, 32);
    assert_int_equal(rollout->max_failures, 0);
    assert_int_equal(rollout->lock_timeout, 100);
    assert_int_equal(rollout->max_wait, 0);
    assert_int_equal(rollout->timeout, 0);
    assert_true(rollout->canary);
    assert_false(rollout->per_server);
    assert_false(rollout->write);
    hv_rollout_free(rollout);
    hv_rollout_free(NULL);
}

static void test_every_option_is_set_and_copied(void **state) {
    (void) state;
    hv_rollout *rollout = hv_rollout_new();
    set(rollout, "shards", "1-9,12");
    set(rollout, "skip", "one");
    set(rollout, "skip", "two");
    set(rollout, "parallel", "64");
    set(rollout, "parallel_total", "1024");
    set(rollout, "canary", "off");
    set(rollout, "max_failures", "3");
    set(rollout, "lock_timeout", "20");
    set(rollout, "max_wait", "-1");
    set(rollout, "timeout", "5000");
    set(rollout, "per_server", "on");
    set(rollout, "write", "on");
    set(rollout, "once", "it's one");
    hv_rollout *copy = hvi_rollout_copy(rollout);
    hv_rollout_free(rollout);
    assert_string_equal(copy->shards, "1-9,12");
    assert_true(hvi_rollout_skips(copy, "one"));
    assert_true(hvi_rollout_skips(copy, "two"));
    assert_false(hvi_rollout_skips(copy, "three"));
    assert_int_equal(copy->parallel, 64);
    assert_int_equal(copy->parallel_total, 1024);
    assert_false(copy->canary);
    assert_int_equal(copy->max_failures, 3);
    assert_int_equal(copy->lock_timeout, 20);
    assert_int_equal(copy->max_wait, HVI_WAIT_FOREVER);
    assert_int_equal(copy->timeout, 5000);
    assert_true(copy->per_server);
    assert_true(copy->write);
    assert_string_equal(copy->once, "it's one");
    set(copy, "max_failures", "all");
    assert_int_equal(copy->max_failures, INT_MAX);
    set(copy, "once", "two");
    assert_string_equal(copy->once, "two");
    hv_rollout_free(copy);
}

static void test_a_copy_of_none_is_an_empty_one(void **state) {
    (void) state;
    hv_rollout *copy = hvi_rollout_copy(NULL);
    assert_int_equal(copy->lock_timeout, 100);
    assert_true(copy->canary);
    hv_rollout_free(copy);
}

static void test_values_that_are_refused(void **state) {
    (void) state;
    static const struct {
        const char *name, *value, *message, *hint;
    } cases[] = {
        {"parallel", "0", "invalid value of the rollout's option \"parallel\": \"0\"",
         "Allowed: 1 to 64."},
        {"parallel", "65", "invalid value of the rollout's option \"parallel\": \"65\"",
         "Allowed: 1 to 64."},
        {"parallel", "4x", "invalid value of the rollout's option \"parallel\": \"4x\"",
         "Allowed: 1 to 64."},
        {"parallel_total", "", "invalid value of the rollout's option \"parallel_total\": \"\"",
         "Allowed: 1 to 1024."},
        {"canary", "ON", "invalid value of the rollout's option \"canary\": \"ON\"",
         "Allowed: on or off."},
        {"max_failures", "-1", "invalid value of the rollout's option \"max_failures\": \"-1\"",
         "Allowed: a number, 0 or more, or all."},
        {"lock_timeout", "0", "invalid value of the rollout's option \"lock_timeout\": \"0\"",
         "Allowed: milliseconds, 1 or more."},
        {"max_wait", "0", "invalid value of the rollout's option \"max_wait\": \"0\"",
         "Allowed: milliseconds, 1 or more, or -1: for ever."},
        {"max_wait", "99999999999999999999",
         "invalid value of the rollout's option \"max_wait\": \"99999999999999999999\"",
         "Allowed: milliseconds, 1 or more, or -1: for ever."},
        {"timeout", "-1", "invalid value of the rollout's option \"timeout\": \"-1\"",
         "Allowed: milliseconds, or 0: no limit."},
        {"skip", "", "invalid value of the rollout's option \"skip\": \"\"",
         "Allowed: the name of a server."},
        {"once", "\xff", "invalid value of the rollout's option \"once\": \"\\xff\"",
         "Allowed: a name of 1 to 200 bytes."},
        {"paralel", "1", "a rollout has no option \"paralel\"", "Perhaps \"parallel\" is meant."},
    };
    hv_rollout *rollout = hv_rollout_new();
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hv_error *error = NULL;
        assert_int_equal(hv_rollout_set(rollout, cases[i].name, cases[i].value, &error),
                         HV_INVALID);
        assert_string_equal(hv_error_hint(error), cases[i].hint);
        assert_error(&error, HV_INVALID, cases[i].message);
        assert_int_equal(hv_rollout_set(rollout, cases[i].name, cases[i].value, NULL), HV_INVALID);
    }
    assert_int_equal(hv_rollout_set(rollout, "shards", "9-3", NULL), HV_INVALID);
    assert_int_equal(hv_rollout_set(rollout, "shards", NULL, NULL), HV_INVALID);
    assert_int_equal(hv_rollout_set(rollout, NULL, "1", NULL), HV_INVALID);
    assert_null(rollout->shards);
    assert_int_equal(rollout->parallel, 0);
    hv_rollout_free(rollout);
}

static void test_options_for_sql_alone(void **state) {
    (void) state;
    static const char *const names[][2] = {{"per_server", "on"}, {"write", "on"}, {"once", "a"}};
    for (size_t i = 0; i < LENGTH(names); i++) {
        hv_rollout *rollout = hv_rollout_new();
        hv_error *error = NULL;
        assert_int_equal(hvi_rollout_refuse_each(rollout, &error), HV_OK);
        set(rollout, names[i][0], names[i][1]);
        assert_int_equal(hvi_rollout_refuse_each(rollout, &error), HV_INVALID);
        assert_contains(hv_error_message(error), names[i][0]);
        hv_error_free(error);
        hv_rollout_free(rollout);
    }
}

/* ---- the shards ---- */

static hvi_router *make_router(void) {
    hvi_router *router = malloc(sizeof *router);
    hv_options *options = hv_options_new();
    assert_int_equal(hv_options_set_server(options, "one", "shards", "1-4", NULL), HV_OK);
    assert_int_equal(hv_options_set_server(options, "two", "shards", "7,9", NULL), HV_OK);
    assert_int_equal(hvi_router_init(router, options, NULL, NULL, NULL), HV_OK);
    hv_options_free(options);
    return router;
}

static void assert_shards(hvi_router *router, const hv_rollout *rollout, const int *expected,
                          int expected_count) {
    hv_error *error = NULL;
    int *shards = NULL;
    int count = 0;
    assert_int_equal(hvi_rollout_shards(rollout, router, &shards, &count, &error), HV_OK);
    assert_int_equal(count, expected_count);
    for (int i = 0; i < count; i++)
        assert_int_equal(shards[i], expected[i]);
    free(shards);
}

static void assert_no_shards(hvi_router *router, const hv_rollout *rollout, const char *message) {
    hv_error *error = NULL;
    int *shards = NULL;
    int count = 0;
    assert_int_equal(hvi_rollout_shards(rollout, router, &shards, &count, &error), HV_INVALID);
    assert_null(shards);
    assert_error(&error, HV_INVALID, message);
}

static void test_the_shards_that_are_meant(void **state) {
    (void) state;
    hvi_router *router = make_router();
    hv_rollout *rollout = hv_rollout_new();
    assert_shards(router, rollout, (const int[]){1, 2, 3, 7, 9}, 5);
    set(rollout, "shards", "9,2-4,2");
    assert_shards(router, rollout, (const int[]){2, 3, 9}, 3);
    set(rollout, "skip", "one");
    assert_shards(router, rollout, (const int[]){9}, 1);
    set(rollout, "skip", "two");
    assert_no_shards(router, rollout, "no shard is left: all servers are skipped");
    set(rollout, "skip", "three");
    assert_no_shards(router, rollout, "there is no server \"three\" to skip");
    hv_rollout_free(rollout);
    rollout = hv_rollout_new();
    set(rollout, "shards", "1-5");
    assert_no_shards(router, rollout, "no server holds shard 4");
    hv_rollout_free(rollout);
    hvi_router_fini(router);
    free(router);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_defaults),
        cmocka_unit_test(test_every_option_is_set_and_copied),
        cmocka_unit_test(test_a_copy_of_none_is_an_empty_one),
        cmocka_unit_test(test_values_that_are_refused),
        cmocka_unit_test(test_options_for_sql_alone),
        cmocka_unit_test(test_the_shards_that_are_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
