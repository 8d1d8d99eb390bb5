/*
 * Tests of the rows that wait to be stored: their order, and what is left after a commit.
 */
#include "entity/load_batch.h"

#include <string.h>

#include "unit.h"

static void add(hvi_load_batch *batch, int64_t key, int shard, int kind) {
    assert_int_equal(hvi_load_batch_add(batch, key, shard, kind, NULL, NULL), HV_OK);
}

static void check_order(hvi_load_batch *batch, size_t count, const char *kinds) {
    size_t waiting;
    assert_int_equal(hvi_load_batch_sort(batch, count, &waiting, NULL), HV_OK);
    assert_int_equal(waiting, strlen(kinds));
    for (size_t i = 0; i < waiting; i++)
        assert_int_equal(batch->rows[batch->order[i]].kind, kinds[i]);
}

static void test_rows_are_stored_by_shard_and_key_and_else_as_they_came(void **state) {
    (void) state;
    hvi_load_batch batch = {.tuples = HVI_BUFFER_EMPTY};
    add(&batch, 0, 2, 'd');
    add(&batch, 9, 1, 'c');
    add(&batch, 0, 1, 'a');
    add(&batch, 0, 2, 'e');
    add(&batch, 7, 1, 'b');
    check_order(&batch, 5, "abcde");
    check_order(&batch, 3, "acd");
    batch.rows[2].state = HVI_LOAD_REFUSED;
    batch.rows[0].state = HVI_LOAD_STORED;
    check_order(&batch, 5, "bce");
    hvi_load_batch_undo(&batch); /* refused rows stay refused */
    check_order(&batch, 5, "bcde");
    hvi_load_batch_fini(&batch);
}

static void test_what_is_left_after_a_commit_keeps_its_content(void **state) {
    (void) state;
    hvi_load_batch batch = {.tuples = HVI_BUFFER_EMPTY};
    hvi_load_batch_drop(&batch, 0); /* a commit without rows */
    for (int i = 0; i < 1000; i++)
        add(&batch, i % 2 == 0 ? 0 : i, 1, i);
    hvi_load_batch_drop(&batch, 990);
    assert_int_equal(batch.count, 10);
    for (size_t i = 0; i < batch.count; i++) {
        size_t len;
        assert_int_equal(batch.rows[i].kind, 990 + (int) i);
        assert_memory_equal(hvi_load_row_body(&batch, &batch.rows[i], &len), "\0\0\0\0", 4);
        assert_int_equal(len, 4);
    }
    hvi_load_batch_drop(&batch, 10);
    assert_int_equal(batch.count, 0);
    assert_int_equal(batch.tuples.len, 0);
    hvi_load_batch_fini(&batch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_stored_by_shard_and_key_and_else_as_they_came),
        cmocka_unit_test(test_what_is_left_after_a_commit_keeps_its_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
