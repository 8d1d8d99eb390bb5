/*
 * utf8: is this text that PostgreSQL takes, and how to show it if not?
 */
#include "base/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXCERPT_MAX 60

static bool is_continuation(unsigned char byte) {
    return (byte & 0xC0) == 0x80;
}

/* The length of the character at the start of `left` bytes, or 0 if there is no valid one. */
static size_t character_len(const unsigned char *p, size_t left) {
    if (left == 0 || p[0] == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2) /* a continuation byte, or an overlong form of ASCII */
        return 0;
    if (p[0] < 0xE0)
        return left >= 2 && is_continuation(p[1]) ? 2 : 0;
    if (p[0] < 0xF0) {
        if (left < 3 || !is_continuation(p[1]) || !is_continuation(p[2]))
            return 0;
        bool overlong = p[0] == 0xE0 && p[1] < 0xA0;
        bool surrogate = p[0] == 0xED && p[1] >= 0xA0;
        return overlong || surrogate ? 0 : 3;
    }
    if (p[0] < 0xF5) {
        if (left < 4 || !is_continuation(p[1]) || !is_continuation(p[2]) || !is_continuation(p[3]))
            return 0;
        bool overlong = p[0] == 0xF0 && p[1] < 0x90;
        bool too_high = p[0] == 0xF4 && p[1] >= 0x90;
        return overlong || too_high ? 0 : 4;
    }
    return 0;
}

/* Are these eight bytes all ASCII and none of them NUL? */
static bool is_plain(uint64_t word) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    /* Without top bits, subtracting one from each byte sets a top bit only if some byte is 0. */
    return ((word | (word - ones)) & tops) == 0;
}

static uint64_t load8(const char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Up to eight bytes of text, some of them twice, so that there are eight. */
static uint64_t load_short(const char *p, size_t len) {
    if (len >= 4) {
        uint32_t first, last;
        memcpy(&first, p, sizeof first);
        memcpy(&last, p + len - sizeof last, sizeof last);
        return (uint64_t) first << 32 | last;
    }
    uint64_t word = (unsigned char) p[0];
    for (size_t i = 1; i < 8; i++)
        word = word << 8 | (unsigned char) p[i < len ? i : 0];
    return word;
}

/* Most texts are ASCII: where does this one stop to be, rounded down to eight bytes? */
static size_t plain_prefix(const char *text, size_t len) {
    if (len < 8)
        return len == 0 || is_plain(load_short(text, len)) ? len : 0;
    for (size_t at = 0; at < len - 8; at += 8)
        if (!is_plain(load8(text + at)))
            return at;
    /* The last eight bytes, some of which were seen before. */
    return is_plain(load8(text + len - 8)) ? len : (len - 1) / 8 * 8;
}

size_t hvi_utf8_prefix(const char *text, size_t len) {
    size_t at = plain_prefix(text, len);
    while (at < len) {
        /* Through eight bytes character by character, then at full speed again. */
        for (size_t stop = at + 8; at < stop && at < len;) {
            size_t character = character_len((const unsigned char *) text + at, len - at);
            if (character == 0)
                return at;
            at += character;
        }
        at += plain_prefix(text + at, len - at);
    }
    return at;
}

/* Does a character do nothing to a terminal, nor to the order of the characters around it? Not
 * printable are the control characters of ASCII and of ISO 6429 (U+0080 to U+009F), the separators
 * U+2028 and U+2029, and what changes the direction of writing. */
static bool is_printable(const unsigned char *p, size_t len) {
    if (len == 1)
        return p[0] >= 0x20 && p[0] != 0x7F;
    if (len == 2)
        return !(p[0] == 0xC2 && p[1] < 0xA0) && !(p[0] == 0xD8 && p[1] == 0x9C);
    if (len == 3 && p[0] == 0xE2 && p[1] == 0x80)
        return p[2] != 0x8E && p[2] != 0x8F && !(p[2] >= 0xA8 && p[2] <= 0xAE);
    return !(len == 3 && p[0] == 0xE2 && p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9);
}

hvi_excerpt hvi_utf8_excerpt(const char *text, size_t len) {
    hvi_excerpt excerpt;
    size_t used = 0;
    size_t at = 0;
    while (at < len) {
        const unsigned char *p = (const unsigned char *) text + at;
        size_t character = character_len(p, len - at);
        bool printable = character > 0 && is_printable(p, character);
        size_t size = printable ? character : 4;
        if (used + size > EXCERPT_MAX)
            break;
        if (printable) {
            memcpy(excerpt.text + used, p, character);
            at += character;
        } else {
            snprintf(excerpt.text + used, 5, "\\x%02x", p[0]);
            at++;
        }
        used += size;
    }
    strcpy(excerpt.text + used, at < len ? "..." : "");
    return excerpt;
}
