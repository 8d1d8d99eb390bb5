/*
 * Tests of the shard that a value belongs to. What they expect holds for ever: values are stored by
 * it. docs/operations.md has the same vectors.
 */
#include "value/spread.h"
#include "unit.h"

#include <stdlib.h>

static hvi_spread spread_of(const char *text) {
    hvi_spread spread;
    assert_int_equal(hvi_spread_read(&spread, text, NULL), HV_OK);
    return spread;
}

/* Bytes with a NUL among them. */
#define BYTES(text) (text), sizeof(text) - 1

static void test_a_value_has_the_shard_that_it_has_always_had(void **state) {
    (void) state;
    static const struct {
        const char *value;
        size_t len;
        int of_16;   /* 0-16 */
        int of_256;  /* 0-256 */
        int of_5;    /* 1-4,9,100 */
        int of_8192; /* 0-8192 */
    } vectors[] = {
        {BYTES(""), 5, 37, 3, 805},
        {BYTES("a"), 12, 140, 2, 3212},
        {BYTES("foobar"), 8, 232, 9, 2024},
        {BYTES("alice"), 7, 7, 9, 6407},
        {BYTES("a@example.org"), 2, 210, 3, 4562},
        {BYTES("Zo\xc3\xab"), 12, 188, 1, 7356},
        {BYTES("a\0b"), 2, 178, 100, 1714},
        {BYTES("\xff\xfe"), 0, 176, 9, 1456},
        {BYTES("\0"), 15, 223, 1, 6111},
    };
    const hvi_spread of_16 = spread_of("0-16"), of_256 = spread_of("0-256"),
                     of_5 = spread_of("100,9,1-4"), of_8192 = spread_of("0-8192");
    for (size_t i = 0; i < LENGTH(vectors); i++) {
        const char *value = vectors[i].value;
        size_t len = vectors[i].len;
        assert_int_equal(hvi_spread_shard(&of_16, value, len), vectors[i].of_16);
        assert_int_equal(hvi_spread_shard(&of_256, value, len), vectors[i].of_256);
        assert_int_equal(hvi_spread_shard(&of_5, value, len), vectors[i].of_5);
        assert_int_equal(hvi_spread_shard(&of_8192, value, len), vectors[i].of_8192);
    }
}

static void test_how_the_set_is_written_does_not_matter(void **state) {
    (void) state;
    const hvi_spread left = spread_of("0-4,9"), right = spread_of(" 9, 3,2,0 - 2");
    assert_int_equal(left.count, right.count);
    assert_memory_equal(left.shards, right.shards, sizeof(int16_t) * (size_t) left.count);
}

static void test_an_empty_set_has_no_shard(void **state) {
    (void) state;
    const hvi_spread spread = spread_of(" \t");
    assert_int_equal(spread.count, 0);
    assert_int_equal(hvi_spread_shard(&spread, "a", 1), -1);
    assert_int_equal(hvi_spread_next(&spread, -1), -1);
}

static void test_the_set_can_be_walked_over(void **state) {
    (void) state;
    const hvi_spread spread = spread_of("1-3,7,8191");
    static const int expected[] = {1, 2, 7, 8191, -1};
    int shard = -1;
    for (size_t i = 0; i < LENGTH(expected); i++) {
        shard = hvi_spread_next(&spread, shard);
        assert_int_equal(shard, expected[i]);
    }
    assert_int_equal(hvi_spread_next(&spread, INT32_MIN), 1);
    assert_int_equal(hvi_spread_next(&spread, 3), 7);
    assert_int_equal(hvi_spread_next(&spread, INT32_MAX), -1);
}

static void test_a_set_that_cannot_be_read_changes_nothing(void **state) {
    (void) state;
    hvi_spread spread = spread_of("1-3");
    const hvi_spread before = spread;
    hv_error *error = NULL;
    assert_int_equal(hvi_spread_read(&spread, "5,5", &error), HV_BAD_CONFIG);
    assert_error(&error, HV_BAD_CONFIG, "shard 5 is given twice in the option \"spread\"");
    assert_int_equal(hvi_spread_read(&spread, "5,", NULL), HV_BAD_CONFIG);
    assert_int_equal(spread.count, before.count);
    assert_int_equal(hvi_spread_shard(&spread, "a", 1), hvi_spread_shard(&before, "a", 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_value_has_the_shard_that_it_has_always_had),
        cmocka_unit_test(test_how_the_set_is_written_does_not_matter),
        cmocka_unit_test(test_an_empty_set_has_no_shard),
        cmocka_unit_test(test_the_set_can_be_walked_over),
        cmocka_unit_test(test_a_set_that_cannot_be_read_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
