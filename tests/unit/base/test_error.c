/*
 * Tests of errors: for every status, and with NULL for the error.
 */
#include "base/error.h"
#include "unit.h"

static const hv_status failures[] = {
    HV_INVALID,   HV_BAD_CONFIG,      HV_NO_SERVER,  HV_TIMEOUT, HV_UNAVAILABLE, HV_OUTCOME_UNKNOWN,
    HV_REFUSED,   HV_NOT_INITIALIZED, HV_MISMATCH,   HV_CORRUPT, HV_CLOSED,      HV_BUSY,
    HV_NO_MEMORY, HV_CONFLICT,        HV_NOT_STORED, HV_MOVED,
};

static void test_every_status_has_a_name(void **state) {
    (void) state;
    for (int status = HV_OK; status <= HV_MOVED; status++)
        assert_memory_equal(hv_status_name((hv_status) status), "HV_", 3);
    assert_string_equal(hv_status_name(HV_OK), "HV_OK");
    assert_string_equal(hv_status_name(HV_NO_MEMORY), "HV_NO_MEMORY");
    assert_string_equal(hv_status_name(HV_MOVED), "HV_MOVED");
    assert_string_equal(hv_status_name((hv_status) (HV_MOVED + 1)), "HV_?");
    assert_string_equal(hv_status_name((hv_status) -1), "HV_?");
}

static void test_a_new_error_has_a_status_and_a_message_only(void **state) {
    (void) state;
    for (size_t i = 0; i < LENGTH(failures); i++) {
        hv_error *error = NULL;
        assert_int_equal(hvi_fail(&error, failures[i], "shard %d: %s", 5, "text"), failures[i]);
        assert_int_equal(hv_error_status(error), failures[i]);
        assert_string_equal(hv_error_message(error), "shard 5: text");
        assert_null(hv_error_detail(error));
        assert_null(hv_error_hint(error));
        assert_null(hv_error_sqlstate(error));
        assert_null(hv_error_server(error));
        assert_int_equal(hv_error_shard(error), -1);
        hv_error_free(error);
    }
    hv_error_free(NULL);
}

static void test_more_can_be_added(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_fail(&error, HV_REFUSED, "message");
    hvi_error_detail(&error, "detail %d", 1);
    hvi_error_hint(&error, "hint %d", 2);
    hvi_error_where(&error, "left", 12);
    hvi_error_sqlstate(&error, "23505");
    assert_string_equal(hv_error_detail(error), "detail 1");
    assert_string_equal(hv_error_hint(error), "hint 2");
    assert_string_equal(hv_error_server(error), "left");
    assert_int_equal(hv_error_shard(error), 12);
    assert_string_equal(hv_error_sqlstate(error), "23505");
    hvi_error_where(&error, NULL, -1);
    assert_string_equal(hv_error_server(error), "left");
    assert_int_equal(hv_error_shard(error), 12);
    hvi_error_where(&error, NULL, 0);
    assert_int_equal(hv_error_shard(error), 0);
    hv_error_free(error);
}

static void test_what_an_error_has_may_be_part_of_what_replaces_it(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_fail(&error, HV_REFUSED, "inner");
    hvi_error_detail(&error, "one");
    hvi_error_detail(&error, "%s, two", hv_error_detail(error));
    hvi_error_hint(&error, "do");
    hvi_error_hint(&error, "%s it", hv_error_hint(error));
    hvi_error_where(&error, "left", 1);
    hvi_error_where(&error, hv_error_server(error), 1);
    assert_string_equal(hv_error_detail(error), "one, two");
    assert_string_equal(hv_error_hint(error), "do it");
    assert_string_equal(hv_error_server(error), "left");
    hvi_fail(&error, HV_MISMATCH, "outer: %s", hv_error_message(error));
    assert_null(hv_error_detail(error));
    assert_error(&error, HV_MISMATCH, "outer: inner");
}

static void test_without_an_error_only_the_status_passes_on(void **state) {
    (void) state;
    assert_int_equal(hvi_fail(NULL, HV_TIMEOUT, "%d", 1), HV_TIMEOUT);
    assert_int_equal(hvi_no_memory(NULL), HV_NO_MEMORY);
    hvi_error_detail(NULL, "x");
    hvi_error_hint(NULL, "x");
    hvi_error_where(NULL, "x", 1);
    hvi_error_sqlstate(NULL, "40001");
    hvi_error_retriable(NULL, true);
}

static void test_out_of_memory_is_an_error_like_any_other(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_fail(&error, HV_INVALID, "replaced");
    assert_int_equal(hvi_no_memory(&error), HV_NO_MEMORY);
    hvi_error_detail(&error, "not taken");
    hvi_error_where(&error, "left", 3);
    hvi_error_retriable(&error, true);
    assert_null(hv_error_detail(error));
    assert_null(hv_error_server(error));
    assert_false(hv_error_retriable(error));
    hv_error *copy = hvi_error_copy(error);
    assert_error(&copy, HV_NO_MEMORY, "out of memory");
    assert_error(&error, HV_NO_MEMORY, "out of memory");
}

static void test_timeouts_unreachable_servers_and_moves_are_worth_another_try(void **state) {
    (void) state;
    for (size_t i = 0; i < LENGTH(failures); i++) {
        hv_error *error = NULL;
        hvi_fail(&error, failures[i], "x");
        assert_int_equal(hv_error_retriable(error), failures[i] == HV_TIMEOUT ||
                                                        failures[i] == HV_UNAVAILABLE ||
                                                        failures[i] == HV_MOVED);
        assert_int_equal(hv_error_outcome_unknown(error), failures[i] == HV_OUTCOME_UNKNOWN);
        hvi_error_retriable(&error, true);
        assert_true(hv_error_retriable(error));
        hv_error_free(error);
    }
}

static void test_some_sqlstates_are_worth_another_try(void **state) {
    (void) state;
    static const struct {
        const char *sqlstate;
        bool retriable;
    } cases[] = {
        {"40001", true},  {"40P01", true},  {"53300", true},  {"55P03", true},  {"57P01", true},
        {"23505", false}, {"42P01", false}, {"57014", false}, {"55006", false}, {"XX000", false},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hv_error *error = NULL;
        hvi_fail(&error, HV_REFUSED, "x");
        hvi_error_sqlstate(&error, cases[i].sqlstate);
        assert_int_equal(hv_error_retriable(error), cases[i].retriable);
        hv_error_free(error);
        /* A lost write is never worth another try by itself, whatever the server said. */
        error = NULL;
        hvi_fail(&error, HV_OUTCOME_UNKNOWN, "x");
        hvi_error_sqlstate(&error, cases[i].sqlstate);
        assert_false(hv_error_retriable(error));
        hv_error_free(error);
    }
}

static void test_a_copy_has_all_and_lives_on_its_own(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_fail(&error, HV_REFUSED, "message");
    hvi_error_detail(&error, "detail");
    hvi_error_hint(&error, "hint");
    hvi_error_where(&error, "left", 12);
    hvi_error_sqlstate(&error, "40001");
    hv_error *copy = hvi_error_copy(error);
    hv_error_free(error);
    assert_string_equal(hv_error_detail(copy), "detail");
    assert_string_equal(hv_error_hint(copy), "hint");
    assert_string_equal(hv_error_server(copy), "left");
    assert_string_equal(hv_error_sqlstate(copy), "40001");
    assert_int_equal(hv_error_shard(copy), 12);
    assert_true(hv_error_retriable(copy));
    assert_error(&copy, HV_REFUSED, "message");
    assert_null(hvi_error_copy(NULL));
}

static void test_moving_hands_an_error_over(void **state) {
    (void) state;
    hv_error *from = NULL, *to = NULL;
    hvi_fail(&from, HV_BUSY, "first");
    assert_int_equal(hvi_error_move(&to, &from), HV_BUSY);
    assert_null(from);
    assert_string_equal(hv_error_message(to), "first");
    hvi_fail(&from, HV_CLOSED, "second");
    assert_int_equal(hvi_error_move(&to, &from), HV_CLOSED);
    assert_error(&to, HV_CLOSED, "second");
    hvi_fail(&from, HV_INVALID, "nobody wants it");
    assert_int_equal(hvi_error_move(NULL, &from), HV_INVALID);
    assert_null(from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_a_name),
        cmocka_unit_test(test_a_new_error_has_a_status_and_a_message_only),
        cmocka_unit_test(test_more_can_be_added),
        cmocka_unit_test(test_what_an_error_has_may_be_part_of_what_replaces_it),
        cmocka_unit_test(test_without_an_error_only_the_status_passes_on),
        cmocka_unit_test(test_out_of_memory_is_an_error_like_any_other),
        cmocka_unit_test(test_timeouts_unreachable_servers_and_moves_are_worth_another_try),
        cmocka_unit_test(test_some_sqlstates_are_worth_another_try),
        cmocka_unit_test(test_a_copy_has_all_and_lives_on_its_own),
        cmocka_unit_test(test_moving_hands_an_error_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
