/*
 * Tests of lists of shards as text, as far as those of shard maps do not cover them: writing.
 */
#include "base/shard_ranges.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

static void assert_written(const int *shards, size_t count, const char *expected) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &text};
    for (size_t i = 0; i < count; i++)
        hvi_shard_writer_add(&writer, shards[i]);
    hvi_shard_writer_end(&writer);
    hvi_shard_writer_end(&writer); /* there is none any more */
    char *written = hvi_buffer_take(&text);
    assert_string_equal(written, expected);
    free(written);
}
#define assert_ranges(expected, ...) \
    assert_written((const int[]){__VA_ARGS__}, LENGTH(((const int[]){__VA_ARGS__})), expected)

static void test_neighbours_become_a_range(void **state) {
    (void) state;
    assert_written(NULL, 0, "");
    assert_ranges("0", 0);
    assert_ranges("0-2", 0, 1);
    assert_ranges("5", 5);
    assert_ranges("5-8", 5, 6, 7);
    assert_ranges("0,2,4-6,8191", 0, 2, 4, 5, 8191);
    assert_ranges("8190-8192", 8190, 8191);
}

static void test_what_was_written_is_read_as_the_same(void **state) {
    (void) state;
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &text};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (shard % 7 < 3)
            hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    hvi_shard_reader reader = hvi_shard_reader_of(text.data, "place", "name");
    int next = 0;
    do {
        hvi_shard_range range = {0};
        assert_int_equal(hvi_shard_reader_next(&reader, &range, NULL), HV_OK);
        for (int shard = range.begin; shard < range.end; shard++, next++) {
            while (next % 7 >= 3)
                next++;
            assert_int_equal(shard, next);
        }
    } while (hvi_shard_reader_goes_on(&reader));
    assert_true(next >= HV_SHARDS - 4);
    hvi_buffer_fini(&text);
}

static void assert_setting(const char *ranges, const char *expected) {
    hvi_buffer line = HVI_BUFFER_EMPTY;
    hvi_shard_ranges_setting(&line, "spread", ranges);
    assert_string_equal(line.data, expected);
    hvi_buffer_fini(&line);
}

static void test_a_long_list_is_in_quotes_in_the_configuration(void **state) {
    (void) state;
    assert_setting("0-16", "spread = 0-16");
    char ranges[302] = "", expected[320];
    for (int i = 0; i < 150; i++)
        strcat(ranges, i == 0 ? "0" : ",2");
    snprintf(expected, sizeof expected, "spread = \"%s\"", ranges);
    assert_setting(ranges, expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbours_become_a_range),
        cmocka_unit_test(test_what_was_written_is_read_as_the_same),
        cmocka_unit_test(test_a_long_list_is_in_quotes_in_the_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
