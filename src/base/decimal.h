/*
 * decimal: the form of the numbers that attributes can hold to be added to.
 */
#ifndef HVI_DECIMAL_H
#define HVI_DECIMAL_H

#include <stdbool.h>

/* Is the text an integer or a decimal number: digits with at most one point, and perhaps a sign
 * before them? The pattern in verbs.c is the same in SQL. */
bool hvi_is_decimal(const char *text);

#endif
