/*
 * utf8: check that text is valid for PostgreSQL, and make any bytes safe to show on a terminal.
 */
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

static bool is_continuation(unsigned char byte) {
    return (byte & 0xC0) == 0x80;
}

/* The length of the character at the start of `left` bytes, or 0 if there is no valid one. */
static size_t character_len(const unsigned char *p, size_t left) {
    if (left == 0)
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

/* The length of the prefix that is ASCII, as most texts are, rounded down to eight bytes. */
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
        /* Eight bytes character by character, then at full speed again. */
        for (size_t stop = at + 8; at < stop && at < len;) {
            size_t character = character_len((const unsigned char *) text + at, len - at);
            if (character == 0 || text[at] == '\0')
                return at;
            at += character;
        }
        at += plain_prefix(text + at, len - at);
    }
    return at;
}

size_t hvi_utf8_decode(const char *text, size_t left, uint32_t *code) {
    const unsigned char *p = (const unsigned char *) text;
    size_t len = character_len(p, left);
    if (len == 0)
        return 0;
    *code = len == 1 ? p[0] : p[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++)
        *code = *code << 6 | (p[i] & 0x3F);
    return len;
}

bool hvi_acts_on_terminal(uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C || code == 0x200E ||
           code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069);
}

const char *hvi_utf8_show(char *shown, size_t size, const char *text, size_t len) {
    const size_t most = size - sizeof "...";
    size_t used = 0;
    size_t at = 0;
    while (at < len) {
        uint32_t code = 0;
        size_t character = hvi_utf8_decode(text + at, len - at, &code);
        bool printable = character > 0 && !hvi_acts_on_terminal(code);
        size_t takes = printable ? character : 4;
        if (used + takes > most)
            break;
        if (printable) {
            memcpy(shown + used, text + at, character);
            at += character;
        } else {
            snprintf(shown + used, 5, "\\x%02x", (unsigned char) text[at]);
            at++;
        }
        used += takes;
    }
    strcpy(shown + used, at < len ? "..." : "");
    return shown;
}

hvi_excerpt hvi_utf8_excerpt(const char *text, size_t len) {
    hvi_excerpt excerpt;
    hvi_utf8_show(excerpt.text, sizeof excerpt.text, text, len);
    return excerpt;
}
