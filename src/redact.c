/*
 * redact: take out of libpq's messages the values that may be a password in the wrong place.
 */
#include "redact.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "options.h"

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

/* Replace `len` bytes at `at`, the quotes around the value included, as far as there is room. */
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

/* Replace a value wherever it stands in quotes, also where the end of the message cuts it off. */
static void hide(char *message, size_t size, const char *value, size_t len) {
    for (char *at = message; len > 0 && (at = strchr(at, '"')) != NULL;) {
        size_t left = strlen(at + 1);
        bool cut = left <= len;
        bool same = left > 0 && strncmp(at + 1, value, cut ? left : len) == 0;
        if (same && (cut || at[1 + len] == '"'))
            at = replace(message, size, at, cut ? 1 + left : len + 2);
        else
            at++;
    }
}

/* A parameter for several hosts is a list, of whose elements libpq may name one. */
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
