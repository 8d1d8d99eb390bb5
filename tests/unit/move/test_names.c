/*
 * Tests of names: what a move makes can be found again by its name, and nothing else is taken for
 * it.
 */
#include "move/names.h"
#include "unit.h"

static void test_a_name_is_read_as_it_was_written(void **state) {
    (void) state;
    static const int shards[] = {0, 12, 8191};
    static const uint32_t ids[] = {0, 1, 0x1a2b3c4d, UINT32_MAX};
    for (size_t i = 0; i < LENGTH(shards); i++)
        for (size_t j = 0; j < LENGTH(ids); j++)
            for (int old = 0; old < 2; old++) {
                char name[HVI_MOVE_NAME_LEN];
                int shard = -1;
                uint32_t id = 7;
                bool is_old = old == 0;
                hvi_move_name(shards[i], ids[j], old == 1, name);
                assert_true(hvi_move_name_read(name, &shard, &id, &is_old));
                assert_int_equal(shard, shards[i]);
                assert_int_equal(id, ids[j]);
                assert_int_equal(is_old, old);
            }
}

static void test_other_names_are_not_taken_for_one(void **state) {
    (void) state;
    static const char *const names[] = {
        "",
        "hypervault",
        "shard0012",
        "hypervault_0012_1a2b3c4",
        "hypervault_0012_1a2b3c4d_",
        "hypervault_0012_1a2b3c4d_older",
        "hypervault_0012_1A2B3C4D",
        "hypervault_12_1a2b3c4d",
        "hypervault_-012_1a2b3c4d",
        "hypervault_9999_1a2b3c4d",
        "hypervault_0012_1a2b3c4d; DROP SCHEMA shard0012",
        " hypervault_0012_1a2b3c4d",
    };
    for (size_t i = 0; i < LENGTH(names); i++)
        assert_false(hvi_move_name_read(names[i], NULL, NULL, NULL));
}

static void test_the_way_back_has_the_names_changed_over(void **state) {
    (void) state;
    hvi_move_names there, back;
    hvi_move_names_of(12, 0x1a2b3c4d, false, &there);
    hvi_move_names_of(12, 0x1a2b3c4d, true, &back);
    assert_string_equal(there.live, "shard0012");
    assert_string_equal(there.stream, "hypervault_0012_1a2b3c4d");
    assert_string_equal(there.retired, "hypervault_0012_1a2b3c4d_old");
    assert_string_equal(back.live, there.live);
    assert_string_equal(back.stream, there.retired);
    assert_string_equal(back.retired, there.stream);
}

static void test_ids_differ(void **state) {
    (void) state;
    assert_int_not_equal(hvi_move_new_id(), hvi_move_new_id());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_is_read_as_it_was_written),
        cmocka_unit_test(test_other_names_are_not_taken_for_one),
        cmocka_unit_test(test_the_way_back_has_the_names_changed_over),
        cmocka_unit_test(test_ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
