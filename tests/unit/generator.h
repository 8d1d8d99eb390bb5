/*
 * generator: numbers, texts and dicts that look random and are the same in every run.
 */
#ifndef HV_TEST_GENERATOR_H
#define HV_TEST_GENERATOR_H

#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

/* The state; start with any number: {1}. */
typedef struct generator {
    uint64_t state;
} generator;

uint64_t generate(generator *g);

/* A number from 0 to limit-1. */
size_t generate_below(generator *g, size_t limit);

/* Valid text of up to `max_len` bytes, rich in quotes, backslashes, blanks, commas, control
 * characters and characters of two to four bytes. Returns its length; it is not NUL-terminated. */
size_t generate_text(generator *g, char *text, size_t max_len);

/* A dict of up to `max_count` attributes, some of them NULL. free() it with hv_dict_free(). */
hv_dict *generate_dict(generator *g, size_t max_count);

#endif
