/*
 * generator: numbers, texts and dicts that look random and are the same in every run.
 */
#include "generator.h"

#include <stdbool.h>
#include <string.h>

#include "unit.h"

#define MAX_TEXT 40

/* SplitMix64 (Steele, Lea and Flood, 2014). */
uint64_t generate(generator *g) {
    uint64_t z = g->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

size_t generate_below(generator *g, size_t limit) {
    return (size_t) (generate(g) % limit);
}

size_t generate_text(generator *g, char *text, size_t max_len) {
    static const char *const pieces[] = {
        "a",
        "b",
        "A",
        "Z",
        "0",
        "9",
        "null",
        "NULL",
        "\"",
        "\\",
        ",",
        "=>",
        "=",
        " ",
        "\t",
        "\n",
        "\r",
        "\v",
        "\f",
        "\x01",
        "'",
        "{",
        ";",
        "\x7f",
        "\xc2\x80",
        "\xc3\xa9",
        "\xc2\xa0",
        "\xe2\x82\xac",
        "\xef\xbf\xbf",
        "\xed\x9f\xbf",
        "\xf0\x9f\x98\x80",
        "\xf4\x8f\xbf\xbf",
    };
    size_t wanted = generate_below(g, max_len + 1);
    size_t len = 0;
    for (;;) {
        const char *piece = pieces[generate_below(g, LENGTH(pieces))];
        size_t piece_len = strlen(piece);
        if (len + piece_len > wanted)
            return len;
        memcpy(text + len, piece, piece_len);
        len += piece_len;
    }
}

hv_dict *generate_dict(generator *g, size_t max_count) {
    hv_dict *dict = hv_dict_new();
    assert_non_null(dict);
    size_t count = generate_below(g, max_count + 1);
    for (size_t i = 0; i < count; i++) {
        char key[MAX_TEXT], value[MAX_TEXT];
        size_t key_len = generate_text(g, key, MAX_TEXT);
        size_t value_len = generate_text(g, value, MAX_TEXT);
        bool is_null = generate_below(g, 5) == 0;
        assert_int_equal(
            hv_dict_set_bytes(dict, key, key_len, is_null ? NULL : value, value_len, NULL), HV_OK);
    }
    return dict;
}
