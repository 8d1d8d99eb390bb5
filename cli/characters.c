/*
 * characters: UTF-8, and which of its characters do something to a terminal.
 */
#include "characters.h"

#include <string.h>

size_t utf8_decode(const char *text, size_t left, uint32_t *code) {
    const unsigned char *p = (const unsigned char *) text;
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (left == 0 || p[0] > 0xF4)
        return 0;
    *code = p[0];
    if (p[0] < 0x80)
        return 1;
    size_t size = p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (size == 0 || size > left)
        return 0;
    *code = p[0] & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3F);
    }
    bool valid = *code >= smallest[size] && *code <= 0x10FFFF && (*code & 0xFFFFF800) != 0xD800;
    return valid ? size : 0;
}

size_t utf8_prefix(const char *text, size_t len) {
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        uint32_t code;
        if (len - at >= sizeof word) { /* eight ASCII bytes at once */
            memcpy(&word, text + at, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof word;
                continue;
            }
        }
        size_t step = utf8_decode(text + at, len - at, &code);
        if (step == 0)
            break;
        at += step;
    }
    return at;
}

bool acts_on_terminal(uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C || code == 0x200E ||
           code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069);
}
