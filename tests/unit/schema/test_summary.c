/*
 * Tests of summaries: their order, their numbers, and their end.
 */
#include "unit.h"

#include "schema/summary.h"

static hv_summary *make(void) {
    hv_summary *summary = hvi_summary_new(4);
    summary->entries[0] = (hvi_summary_entry){.server = 1, .shard = 9, .work = HV_WORK_DONE};
    summary->entries[1] = (hvi_summary_entry){.server = 1, .shard = -1, .work = HV_WORK_UNCHANGED};
    summary->entries[2] = (hvi_summary_entry){.server = 0, .shard = -1, .work = HV_WORK_DONE};
    summary->entries[3] = (hvi_summary_entry){.server = 0, .shard = 3, .work = HV_WORK_FAILED};
    hvi_fail(&summary->entries[3].error, HV_BUSY, "busy");
    hvi_summary_sort(summary);
    return summary;
}

static void test_shards_come_in_their_order(void **state) {
    (void) state;
    static const int expected[][2] = {{0, -1}, {1, -1}, {0, 3}, {1, 9}};
    hv_summary *summary = make();
    int server, shard;
    for (size_t i = 0; i < LENGTH(expected); i++) {
        assert_true(hv_summary_at(summary, i, &server, &shard, NULL, NULL));
        assert_int_equal(server, expected[i][0]);
        assert_int_equal(shard, expected[i][1]);
    }
    assert_false(hv_summary_at(summary, 4, &server, &shard, NULL, NULL));
    assert_false(hv_summary_at(summary, (size_t) -1, NULL, NULL, NULL, NULL));
    hv_summary_free(summary);
}

static void test_numbers_and_errors(void **state) {
    (void) state;
    hv_summary *summary = make();
    const hv_error *error = NULL;
    hv_work work;
    assert_int_equal(hv_summary_shards(summary), 4);
    assert_int_equal(hv_summary_count(summary, HV_WORK_DONE), 2);
    assert_int_equal(hv_summary_count(summary, HV_WORK_UNCHANGED), 1);
    assert_int_equal(hv_summary_count(summary, HV_WORK_FAILED), 1);
    assert_int_equal(hv_summary_count(summary, HV_WORK_NOT_BEGUN), 0);
    assert_true(hv_summary_at(summary, 2, NULL, NULL, &work, &error));
    assert_int_equal(work, HV_WORK_FAILED);
    assert_string_equal(hv_error_message(error), "busy");
    assert_true(hv_summary_at(summary, 3, NULL, NULL, &work, &error));
    assert_null(error);
    hv_summary_free(summary);
    hv_summary_free(NULL);
}

static void test_an_empty_one(void **state) {
    (void) state;
    hv_summary *summary = hvi_summary_new(0);
    hvi_summary_sort(summary);
    assert_int_equal(hv_summary_shards(summary), 0);
    assert_false(hv_summary_at(summary, 0, NULL, NULL, NULL, NULL));
    hv_summary_free(summary);
}

static void test_names(void **state) {
    (void) state;
    assert_string_equal(hv_work_name(HV_WORK_NOT_BEGUN), "not begun");
    assert_string_equal(hv_work_name(HV_WORK_RUNNING), "running");
    assert_string_equal(hv_work_name(HV_WORK_WAITING), "waiting");
    assert_string_equal(hv_work_name(HV_WORK_DONE), "done");
    assert_string_equal(hv_work_name(HV_WORK_UNCHANGED), "unchanged");
    assert_string_equal(hv_work_name(HV_WORK_FAILED), "failed");
    assert_string_equal(hv_work_name((hv_work) 99), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_come_in_their_order),
        cmocka_unit_test(test_numbers_and_errors),
        cmocka_unit_test(test_an_empty_one),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
