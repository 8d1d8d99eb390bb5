/*
 * Tests of the keyed hash.
 */
#include "base/hash.h"
#include "generator.h"
#include "unit.h"

#include <stdlib.h>

static const uint64_t zero_key[2] = {0, 0};

static void test_known_words_have_the_hashes_of_another_implementation(void **state) {
    (void) state;
    /* CPython 3.11: PYTHONHASHSEED=0 python3 -c 'print(hex(hash(b"a") % 2**64))' */
    static const struct {
        const char *word;
        uint64_t hash;
    } known[] = {
        {"a", UINT64_C(0x407448d2b89b1813)},
        {"ab", UINT64_C(0x555508cbc6add439)},
        {"abcdefg", UINT64_C(0x6db12aae9070f506)},
        {"abcdefgh", UINT64_C(0x3f7b849c0b8e35ea)},
        {"abcdefghi", UINT64_C(0xf89b34a3d11eb6e5)},
        {"The quick brown fox jumps over the lazy dog", UINT64_C(0x8df676d3d00c451e)},
    };
    for (size_t i = 0; i < LENGTH(known); i++)
        assert_true(hvi_hash_keyed(zero_key, known[i].word, strlen(known[i].word)) ==
                    known[i].hash);
}

static void test_the_key_changes_the_hash(void **state) {
    (void) state;
    static const uint64_t other_key[2] = {0, 1};
    assert_true(hvi_hash_keyed(zero_key, "abc", 3) != hvi_hash_keyed(other_key, "abc", 3));
    assert_true(hvi_hash("abc", 3) != hvi_hash_keyed(zero_key, "abc", 3));
}

static void test_equal_bytes_hash_alike_wherever_they_are(void **state) {
    (void) state;
    generator g = {9};
    for (size_t len = 0; len < 100; len++) {
        char *one = malloc(len + 8);
        for (size_t i = 0; i < len + 8; i++)
            one[i] = (char) generate(&g);
        for (size_t shift = 1; shift < 8; shift++) {
            char *other = malloc(len + shift);
            memcpy(other + shift, one, len);
            assert_true(hvi_hash(one, len) == hvi_hash(other + shift, len));
            free(other);
        }
        free(one);
    }
}

static void test_fnv1a_has_the_published_values(void **state) {
    (void) state;
    assert_true(hvi_hash_fnv1a("", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(hvi_hash_fnv1a("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(hvi_hash_fnv1a("foobar", 6) == UINT64_C(0x85944171f73967e8));
    assert_true(hvi_hash_fnv1a("\0", 1) == UINT64_C(0xaf63bd4c8601b7df));
    assert_true(hvi_hash_fnv1a("chongo was here!\n", 17) == UINT64_C(0x46810940eff5f915));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_words_have_the_hashes_of_another_implementation),
        cmocka_unit_test(test_the_key_changes_the_hash),
        cmocka_unit_test(test_equal_bytes_hash_alike_wherever_they_are),
        cmocka_unit_test(test_fnv1a_has_the_published_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
