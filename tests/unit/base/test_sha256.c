/*
 * Tests of SHA-256 with the examples of the standard, and lengths around those of its blocks.
 */
#include "base/sha256.h"
#include "unit.h"

#include <stdlib.h>

static void assert_digest(const char *text, size_t len, const char *expected) {
    char digest[HVI_SHA256_LEN];
    hvi_sha256(text, len, digest);
    assert_string_equal(digest, expected);
}

static void test_the_examples_of_the_standard(void **state) {
    (void) state;
    assert_digest("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_digest(two, strlen(two),
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    size_t million = 1000000;
    char *many = malloc(million);
    memset(many, 'a', million);
    assert_digest(many, million,
                  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(many);
}

/* The digest of the digests of "", "a", "aa" … is that of another implementation. */
static void test_every_length_around_a_block(void **state) {
    (void) state;
    char text[200], all[200 * (HVI_SHA256_LEN - 1) + 1];
    memset(text, 'a', sizeof text);
    for (size_t len = 0; len < sizeof text; len++)
        hvi_sha256(text, len, all + len * (HVI_SHA256_LEN - 1));
    assert_digest(all, sizeof all - 1,
                  "019f2b9f1af27a53a1f046da7e98af2c179f431e4b5bebb000e74040917a4123");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_examples_of_the_standard),
        cmocka_unit_test(test_every_length_around_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
