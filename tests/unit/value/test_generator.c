/*
 * Tests of the functions that make keys, as text. What they make: tests/system/test_generators.py.
 */
#include "value/generator.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH INT64_C(1379365531352)

/* The functions of a shard as a description of its schema has them. */
static char *general(hvi_generator generator, int made_for, int shard) {
    hvi_buffer sql = HVI_BUFFER_EMPTY, named = HVI_BUFFER_EMPTY, to = HVI_BUFFER_EMPTY;
    char schema[16];
    hvi_generator_create(&sql, generator, made_for, EPOCH);
    snprintf(schema, sizeof schema, "shard%04d", made_for);
    const char *text = sql.data;
    for (const char *at; (at = strstr(text, schema)) != NULL; text = at + strlen(schema)) {
        hvi_buffer_append(&named, text, (size_t) (at - text));
        hvi_buffer_append_text(&named, "@shard");
    }
    hvi_buffer_append_text(&named, text);
    hvi_generator_generalize(&to, named.data, shard);
    hvi_buffer_fini(&sql);
    hvi_buffer_fini(&named);
    return hvi_buffer_take(&to);
}

/* Low numbers occur in the functions for other reasons, too. */
static const int shards[] = {0, 1, 2, 10, 12, 23, 24, 100, 128, 896, 1000, 1024, 8191};

static void test_functions_of_shards_differ_by_their_numbers_alone(void **state) {
    (void) state;
    static const hvi_generator generators[] = {HVI_GENERATOR_STRICT, HVI_GENERATOR_PORTABLE};
    for (size_t i = 0; i < LENGTH(generators); i++) {
        char *expected = general(generators[i], shards[0], shards[0]);
        assert_contains(expected, "@number");
        for (size_t j = 1; j < LENGTH(shards); j++) {
            char *other = general(generators[i], shards[j], shards[j]);
            assert_string_equal(other, expected);
            free(other);
            other = general(generators[i], shards[j], shards[j - 1]);
            assert_string_not_equal(other, expected);
            free(other);
        }
        free(expected);
    }
}

static void test_the_original_function(void **state) {
    (void) state;
    hvi_buffer to = HVI_BUFFER_EMPTY;
    hvi_generator_generalize(&to, "shard_id int := 5; SELECT 5; shard_id int := 55;", 5);
    assert_string_equal(to.data, "shard_id int := @number; SELECT 5; shard_id int := 55;");
    hvi_buffer_fini(&to);
}

static void test_keys_that_are_ahead_of_the_clock(void **state) {
    (void) state;
#define NOW                                                                        \
    "pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())" \
    " OPERATOR(pg_catalog.*) 1000)::bigint"
    hvi_buffer to = HVI_BUFFER_EMPTY;
    hvi_generator_generalize(&to,
                             "x GREATEST(" NOW ", (" NOW " OPERATOR(pg_catalog.+) '000179000000'"
                             "::bigint) OPERATOR(pg_catalog./) 2 /* moved */) y",
                             5);
    assert_string_equal(to.data, "x " NOW " y");
    hvi_buffer_reset(&to);
    hvi_generator_generalize(&to, "x GREATEST(" NOW ", 1)", 5);
    assert_string_equal(to.data, "x GREATEST(" NOW ", 1)");
    hvi_buffer_fini(&to);
#undef NOW
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions_of_shards_differ_by_their_numbers_alone),
        cmocka_unit_test(test_the_original_function),
        cmocka_unit_test(test_keys_that_are_ahead_of_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
