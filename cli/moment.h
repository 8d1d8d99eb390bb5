/*
 * moment: read a point in time as people write it.
 */
#ifndef MOMENT_H
#define MOMENT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * ISO 8601 with a date (2014-11-15) or date and time (2014-11-15T14:11:06.450Z; a space for the T,
 * seconds and fraction may be left out; Z, +01, +0100 or +01:00, without an offset it is UTC), the
 * word "now", or @ and milliseconds since 1970. Digits beyond milliseconds are cut off. False if it
 * is none of these, or does not exist in the calendar (2014-02-30, 25:00).
 */
bool moment_parse(const char *text, int64_t *unix_ms);

#endif
