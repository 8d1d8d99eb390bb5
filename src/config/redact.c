/*
 * redact: remove values from libpq's messages that may be a password in the wrong place.
 */
#include "config/redact.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config/options.h"

#define INSTEAD "(not shown)"

/* May the value of this parameter be shown? */
static bool is_shown(const char *keyword, const char *value) {
    static const char *const names[] = {"host",   "hostaddr", "user",
                                        "dbname", "database", "service"};
    if (hvi_holds_settings(value))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(keyword, names[i]) == 0)
            return true;
    if (strcasecmp(keyword, "port") == 0)
        return value[strspn(value, "0123456789,")] == '\0';
    return !hvi_is_secret(keyword) && strchr(value, '/') != NULL;
}

/* Replace `len` bytes at `at`, a value with its quotes, as far as there is room. */
static char *replace(char *message, size_t size, char *at, size_t len) {
    size_t rest = strlen(at + len);
    size_t room = size - (size_t) (at - message) - 1;
    size_t put = strlen(INSTEAD) < room ? strlen(INSTEAD) : room;
    rest = rest < room - put ? rest : room - put;
    memmove(at + put, at + len, rest);
    memcpy(at, INSTEAD, put);
    at[put + rest] = '\0';
    return at + put;
}

/* The quotes of all languages that libpq's messages are translated into; « with and without a
 * space. */
static const char *const opening_quotes[] = {"\"", "« ", "«\u00a0", "«", "»"};
static const char *const closing_quotes[] = {"\"", " »", "\u00a0»", "»", "«"};

#define QUOTES (sizeof opening_quotes / sizeof opening_quotes[0])

/* The length of the closing quote at the beginning of the text, or of as much of it as is left
 * where the message was cut off; 0: there is none. */
static size_t closing_quote(const char *text) {
    size_t left = strlen(text);
    for (size_t i = 0; i < QUOTES; i++) {
        size_t len = strlen(closing_quotes[i]) < left ? strlen(closing_quotes[i]) : left;
        if (len > 0 && strncmp(text, closing_quotes[i], len) == 0)
            return len;
    }
    return 0;
}

/* The length of the value in quotes, including these, at this point, also where the message was cut
 * off; 0: it is not here. */
static size_t quoted_len(const char *at, const char *value, size_t len) {
    for (size_t i = 0; i < QUOTES; i++) {
        size_t quote = strlen(opening_quotes[i]);
        if (strncmp(at, opening_quotes[i], quote) != 0)
            continue;
        size_t left = strlen(at + quote);
        bool cut = left <= len;
        if (left == 0 || strncmp(at + quote, value, cut ? left : len) != 0)
            continue;
        if (cut)
            return quote + left;
        size_t closing = closing_quote(at + quote + len);
        if (closing > 0)
            return quote + len + closing;
    }
    return 0;
}

/* Replace a value wherever it is in quotes. */
static void hide(char *message, size_t size, const char *value, size_t len) {
    for (char *at = message; len > 0 && *at != '\0';) {
        size_t quoted = quoted_len(at, value, len);
        at = quoted > 0 ? replace(message, size, at, quoted) : at + 1;
    }
}

/* A parameter for several hosts is a list, and libpq may name one of its elements. */
static void hide_list(char *message, size_t size, const char *value) {
    hide(message, size, value, strlen(value));
    while (*value != '\0') {
        size_t len = strcspn(value, ",");
        hide(message, size, value, len);
        value += len + (value[len] == ',');
    }
}

void hvi_redact(char *message, size_t size, const char *const *keywords,
                const char *const *values) {
    for (size_t i = 0; keywords[i] != NULL; i++)
        if (values[i] != NULL && !is_shown(keywords[i], values[i]))
            hide_list(message, size, values[i]);
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        char name[32];
        size_t len = strcspn(*variable, "=");
        if (strncmp(*variable, "PG", 2) != 0 || len >= sizeof name || (*variable)[len] == '\0')
            continue;
        memcpy(name, *variable + 2, len - 2);
        name[len - 2] = '\0';
        if (!is_shown(name, *variable + len + 1))
            hide_list(message, size, *variable + len + 1);
    }
}
