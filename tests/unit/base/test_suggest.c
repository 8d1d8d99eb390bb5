/*
 * Tests of suggest: the known word that is offered for a mistyped one.
 */
#include "base/suggest.h"
#include "unit.h"

static const char *const words[] = {
    "pool_max", "pool_block_timeout", "connect_timeout", "epoch", "host", "port", "user", "dbname",
};

static const char *best_of(const char *word, const char *const *candidates, size_t count) {
    hvi_suggestion suggestion;
    hvi_suggestion_init(&suggestion, word);
    for (size_t i = 0; i < count; i++)
        hvi_suggestion_offer(&suggestion, candidates[i]);
    return suggestion.best;
}

static const char *best(const char *word) {
    return best_of(word, words, LENGTH(words));
}

static size_t distance(const char *word, const char *candidate) {
    hvi_suggestion suggestion;
    hvi_suggestion_init(&suggestion, word);
    hvi_suggestion_offer(&suggestion, candidate);
    assert_ptr_equal(suggestion.best, candidate);
    return suggestion.distance;
}

static void test_a_typing_error_finds_its_word(void **state) {
    (void) state;
    assert_string_equal(best("pool_mx"), "pool_max");   /* left out */
    assert_string_equal(best("pool_maxx"), "pool_max"); /* inserted */
    assert_string_equal(best("pool-max"), "pool_max");  /* replaced */
    assert_string_equal(best("pool_mxa"), "pool_max");  /* swapped */
    assert_string_equal(best("POOL_MAX"), "pool_max");  /* shouted */
    assert_string_equal(best("conect_timout"), "connect_timeout");
    assert_string_equal(best("hots"), "host");
    assert_string_equal(best("db_name"), "dbname");
}

static void test_a_word_far_from_all_finds_none(void **state) {
    (void) state;
    assert_null(best("banana"));
    assert_null(best("sslmode"));
    assert_null(best(""));
    assert_null(best("x"));
}

static void test_each_kind_of_error_counts_one(void **state) {
    (void) state;
    assert_int_equal(distance("abcdef", "abcdef"), 0);
    assert_int_equal(distance("ABCDEF", "abcdef"), 0);
    assert_int_equal(distance("abcdef", "abdef"), 1);
    assert_int_equal(distance("abcdef", "abccdef"), 1);
    assert_int_equal(distance("abcdef", "abxdef"), 1);
    assert_int_equal(distance("abcdef", "abdcef"), 1);
    assert_int_equal(distance("abcdef", "badcef"), 2);
    assert_int_equal(distance("abcdefgh", "xabcdefg"), 2);
}

static void test_the_nearest_wins_and_of_equals_the_first(void **state) {
    (void) state;
    static const char *const near[] = {"pool_min", "pool_mix", "pool_max"};
    assert_string_equal(best_of("pool_mxx", near, 3), "pool_mix");
    assert_string_equal(best_of("pool_may", near, 3), "pool_max");
}

static void test_short_words_need_a_letter_in_common(void **state) {
    (void) state;
    static const char *const shorts[] = {"a", "ab"};
    assert_null(best_of("x", shorts, 2));
    assert_string_equal(best_of("xb", shorts, 2), "ab");
    assert_string_equal(best_of("b", shorts, 2), "ab");
}

static void test_very_long_words_are_left_alone(void **state) {
    (void) state;
    char longest[64], too_long[65];
    memset(longest, 'a', sizeof longest);
    longest[63] = '\0';
    memset(too_long, 'a', sizeof too_long);
    too_long[64] = '\0';
    const char *candidates[] = {too_long, longest};
    assert_null(best_of(too_long, candidates, 2));
    assert_ptr_equal(best_of(longest, candidates, 2), longest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_typing_error_finds_its_word),
        cmocka_unit_test(test_a_word_far_from_all_finds_none),
        cmocka_unit_test(test_each_kind_of_error_counts_one),
        cmocka_unit_test(test_the_nearest_wins_and_of_equals_the_first),
        cmocka_unit_test(test_short_words_need_a_letter_in_common),
        cmocka_unit_test(test_very_long_words_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
