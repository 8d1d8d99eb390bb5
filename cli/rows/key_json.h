/*
 * key_json: keys in JSON.
 *
 * A key, or a bound of keys, is written as a string of digits: programs that keep JSON's numbers as
 * doubles, such as JavaScript and jq before 1.7, would round a number above 2^53. Version 0.1 wrote
 * numbers, so both forms are read.
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

/* Read a key from JSON text, a string or a number. Returns its end, or NULL if there is none. */
const char *key_json_scan(const char *text, int64_t *key);

/* Read the contents of a JSON string, or a JSON number: the digits of a key and nothing else. */
bool key_json_read(const char *value, int64_t *key);

/* Does this JSON number have an exponent or a fraction? */
bool key_json_is_fraction(const char *value);

/*
 * Is this key above 2^53, and what a double near it is printed as? That is as many digits as it
 * takes to identify the double, or 17, followed by zeros. (That a double can hold the key exactly
 * proves nothing: keys that end with many zero bits are common.)
 */
bool key_json_is_double(int64_t key);

/* A number above this may have been rounded. */
#define KEY_JSON_EXACT (INT64_C(1) << 53)

#endif
