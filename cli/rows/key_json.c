/*
 * key_json: keys in JSON.
 */
#include "rows/key_json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ui/memory.h"

/* ---- Writing --------------------------------------------------------------------------------- */

const char *key_json_text(char text[KEY_JSON_SIZE], int64_t key) {
    snprintf(text, KEY_JSON_SIZE, "\"%" PRId64 "\"", key);
    return text;
}

json_t *key_json(int64_t key) {
    char text[KEY_JSON_SIZE];
    key_json_text(text, key);
    json_t *value = json_stringn(text + 1, strlen(text) - 2);
    if (value == NULL)
        out_of_memory();
    return value;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Read digits as a number; returns their end, or NULL. */
static const char *read_digits(const char *text, int64_t *key) {
    int64_t number = 0;
    const char *end = text;
    for (; *end >= '0' && *end <= '9'; end++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, *end - '0', &number))
            return NULL;
    if (end == text || number == 0)
        return NULL;
    *key = number;
    return end;
}

const char *key_json_scan(const char *text, int64_t *key) {
    if (*text != '"')
        return read_digits(text, key);
    const char *end = read_digits(text + 1, key);
    return end != NULL && *end == '"' ? end + 1 : NULL;
}

bool key_json_read(const char *value, int64_t *key) {
    const char *end = read_digits(value, key);
    return end != NULL && *end == '\0';
}

bool key_json_is_fraction(const char *value) {
    return value[strspn(value, "-0123456789")] != '\0';
}

/* ---- Has it been a double? ------------------------------------------------------------------- */

/* Print a double above 2^53 with so many digits, followed by zeros. */
static uint64_t printed(double value, int digits) {
    char text[40];
    uint64_t number = 0;
    snprintf(text, sizeof text, "%.*e", digits - 1, value);
    const char *c = text;
    for (; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            number = 10 * number + (uint64_t) (*c - '0');
    for (int left = atoi(c + 1) - (digits - 1); left > 0; left--)
        number *= 10;
    return number;
}

bool key_json_is_double(int64_t key) {
    if (key <= KEY_JSON_EXACT)
        return false;
    double value = (double) key;
    int most = value < 1e16 ? 16 : 17; /* more would be digits of a fraction */
    int fewest = 1;
    while (fewest < most && (double) printed(value, fewest) != value)
        fewest++;
    return printed(value, fewest) == (uint64_t) key || printed(value, most) == (uint64_t) key;
}
