/*
 * moment: read a point in time as people write it.
 */
#include "moment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

/* Read exactly `digits` digits at *text, and move it past them. */
static bool take_digits(const char **text, int digits, int *value) {
    *value = 0;
    for (int i = 0; i < digits; i++, (*text)++) {
        if (**text < '0' || **text > '9')
            return false;
        *value = *value * 10 + (**text - '0');
    }
    return true;
}

static bool take(const char **text, char expected) {
    if (**text != expected)
        return false;
    (*text)++;
    return true;
}

static bool take_date(const char **text, struct tm *tm) {
    if (!take_digits(text, 4, &tm->tm_year) || !take(text, '-') ||
        !take_digits(text, 2, &tm->tm_mon) || !take(text, '-') ||
        !take_digits(text, 2, &tm->tm_mday))
        return false;
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    return true;
}

/* HH:MM[:SS[.fraction]] */
static bool take_time(const char **text, struct tm *tm, int *ms) {
    if (!take_digits(text, 2, &tm->tm_hour) || !take(text, ':') ||
        !take_digits(text, 2, &tm->tm_min))
        return false;
    if (!take(text, ':'))
        return true;
    if (!take_digits(text, 2, &tm->tm_sec))
        return false;
    if (!take(text, '.') && !take(text, ','))
        return true;
    int scale = 100, digit = 0;
    if (**text < '0' || **text > '9')
        return false;
    for (; take_digits(text, 1, &digit); scale /= 10)
        *ms += digit * scale;
    return true;
}

/* Z, ±HH, ±HHMM or ±HH:MM; nothing means UTC. */
static bool take_offset(const char **text, int *seconds) {
    if (take(text, 'Z') || take(text, 'z') || **text == '\0')
        return true;
    int sign = **text == '-' ? -1 : 1;
    int hours = 0, minutes = 0;
    if ((!take(text, '+') && !take(text, '-')) || !take_digits(text, 2, &hours))
        return false;
    bool colon = take(text, ':');
    if ((colon || **text != '\0') && !take_digits(text, 2, &minutes))
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return hours <= 23 && minutes <= 59;
}

static bool parse_iso(const char *text, int64_t *unix_ms) {
    struct tm tm = {0};
    int ms = 0, offset = 0;
    if (!take_date(&text, &tm))
        return false;
    if (take(&text, 'T') || take(&text, 't') || take(&text, ' ')) {
        if (!take_time(&text, &tm, &ms))
            return false;
        while (take(&text, ' '))
            ; /* as in PostgreSQL's "2014-11-15 14:11:06 +01" */
        if (!take_offset(&text, &offset))
            return false;
    }
    if (*text != '\0')
        return false;
    /* timegm() turns February 30 into March 2: compare what it made with what was asked for. */
    struct tm normal = tm;
    time_t seconds = timegm(&normal);
    if (normal.tm_mday != tm.tm_mday || normal.tm_mon != tm.tm_mon ||
        normal.tm_hour != tm.tm_hour || normal.tm_min != tm.tm_min || normal.tm_sec != tm.tm_sec)
        return false;
    *unix_ms = ((int64_t) seconds - offset) * 1000 + ms;
    return true;
}

bool moment_parse(const char *text, int64_t *unix_ms) {
    if (strcmp(text, "now") == 0) {
        *unix_ms = hvi_clock_unix_us() / 1000;
        return true;
    }
    if (text[0] == '@') {
        char *end;
        errno = 0;
        *unix_ms = strtoll(text + 1, &end, 10);
        return text[1] >= '0' && text[1] <= '9' && *end == '\0' && errno == 0;
    }
    return parse_iso(text, unix_ms);
}
