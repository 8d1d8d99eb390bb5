/*
 * move_options: the struct hv_move_options.
 */
#include "move/move_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/suggest.h"
#include "base/utf8.h"
#include "config/option_table.h"

#define GIGABYTE (INT64_C(1) << 30)
#define DAY_MS   (INT64_C(86400) * 1000)

void hvi_move_options_init(struct hv_move_options *options) {
    *options = (struct hv_move_options){
        .verify = true,
        .max_pause = 1000,
        .max_wait = 300000,
        .max_offline = 600000,
        .max_wal = 16 * GIGABYTE,
    };
}

hv_move_options *hv_move_options_new(void) {
    hv_move_options *options = malloc(sizeof *options);
    if (options != NULL)
        hvi_move_options_init(options);
    return options;
}

void hv_move_options_free(hv_move_options *options) {
    free(options);
}

typedef enum kind { SWITCH, DURATION, BYTES } kind;

static const struct option {
    const char *name;
    kind kind;
    int64_t min, max;
    const char *allowed; /* for messages */
    size_t offset;
} table[] = {
    {"keep_undo", DURATION, 0, 366 * DAY_MS, "a duration up to 366d, or 0: not at all",
     offsetof(hv_move_options, keep_undo)},
    {"offline", SWITCH, 0, 1, "on or off", offsetof(hv_move_options, offline)},
    {"verify", SWITCH, 0, 1, "on or off", offsetof(hv_move_options, verify)},
    {"max_pause", DURATION, 10, 60000, "10ms to 60s", offsetof(hv_move_options, max_pause)},
    {"max_offline", DURATION, 100, DAY_MS, "100ms to 1d", offsetof(hv_move_options, max_offline)},
    {"max_wait", DURATION, 0, 366 * DAY_MS, "a duration up to 366d",
     offsetof(hv_move_options, max_wait)},
    {"max_wal", BYTES, 1 << 20, INT64_MAX, "bytes, 1MB or more, with kB, MB, GB or TB",
     offsetof(hv_move_options, max_wal)},
};

#define OPTION_COUNT (sizeof table / sizeof table[0])

static const struct option *find(const char *name, hv_error **error) {
    hvi_suggestion near;
    hvi_suggestion_init(&near, name);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
        hvi_suggestion_offer(&near, table[i].name);
    }
    hvi_fail(error, HV_INVALID, "a move has no option \"%s\"",
             hvi_utf8_excerpt(name, strlen(name)).text);
    if (near.best != NULL)
        hvi_error_hint(error, "Perhaps \"%s\" is meant.", near.best);
    return NULL;
}

static bool read_bytes(const char *text, int64_t *bytes) {
    static const struct {
        const char *unit;
        int shift;
    } units[] = {{"", 0}, {"B", 0}, {"kB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}};
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || errno != 0 || number < 0)
        return false;
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcasecmp(end, units[i].unit) == 0 && number <= INT64_MAX >> units[i].shift) {
            *bytes = (int64_t) number << units[i].shift;
            return true;
        }
    return false;
}

hv_status hv_move_options_set(hv_move_options *options, const char *name, const char *value,
                              hv_error **error) {
    if (name == NULL || value == NULL)
        return hvi_fail(error, HV_INVALID, "an option of a move has a name and a value");
    const struct option *option = find(name, error);
    if (option == NULL)
        return HV_INVALID;
    int64_t number = 0;
    bool ok = false;
    void *field = (char *) options + option->offset;
    switch (option->kind) {
    case SWITCH:
        ok = strcmp(value, "on") == 0 || strcmp(value, "off") == 0;
        number = strcmp(value, "on") == 0;
        break;
    case DURATION:
        ok = hvi_duration_read(value, strlen(value), &number);
        break;
    case BYTES:
        ok = read_bytes(value, &number);
        break;
    }
    if (!ok || number < option->min || number > option->max) {
        hvi_fail(error, HV_INVALID, "invalid value of the move's option \"%s\": \"%s\"",
                 option->name, hvi_utf8_excerpt(value, strlen(value)).text);
        hvi_error_hint(error, "Allowed: %s.", option->allowed);
        return HV_INVALID;
    }
    if (option->kind == SWITCH)
        *(bool *) field = number == 1;
    else
        *(int64_t *) field = number;
    return HV_OK;
}
