/*
 * key_json: keys in JSON.
 *
 * A key, and a bound of keys, is written as a string of digits: programs that keep JSON's numbers
 * as doubles, as JavaScript and jq before 1.7 do, would round a number above 2^53. Version 0.1
 * wrote numbers, so both forms are read.
 */
#ifndef KEY_JSON_H
#define KEY_JSON_H

#include <stdbool.h>
#include <stdint.h>

/* The JSON text of a key, with its quotes. Returns `text`. */
#define KEY_JSON_SIZE 24
const char *key_json_text(char text[KEY_JSON_SIZE], int64_t key);

/* The same as a value: a new reference. */
struct json_t *key_json(int64_t key);

/* Read a key from JSON text, a string or a number: where it ends, or NULL if there is none. */
const char *key_json_scan(const char *text, int64_t *key);

/* Read what a JSON string holds, or a JSON number: nothing but the digits of a key. */
bool key_json_read(const char *value, int64_t *key);

/* Is this JSON number no integer: has it an exponent or a fraction? */
bool key_json_is_fraction(const char *value);

/*
 * Is this key above 2^53, and the number that a double near it is printed as? That has as many
 * digits as tell the double from others, or 17, and zeros behind them. (A key that a double can
 * hold is no sign of anything: those that end with many zero bits are common.)
 */
bool key_json_is_double(int64_t key);

/* A greater number may have been rounded. */
#define KEY_JSON_EXACT (INT64_C(1) << 53)

#endif
