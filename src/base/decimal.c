/*
 * decimal: the form of the numbers that attributes can hold to be added to.
 */
#include "base/decimal.h"

#include <string.h>

bool hvi_is_decimal(const char *text) {
    const char *at = text + (text[0] == '-' || text[0] == '+');
    size_t digits = strspn(at, "0123456789");
    at += digits;
    if (*at == '.') {
        size_t places = strspn(++at, "0123456789");
        digits += places;
        at += places;
    }
    return *at == '\0' && digits > 0;
}
