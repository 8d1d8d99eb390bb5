/*
 * option_table: the one table of options, and how their values are read.
 */
#include "config/option_table.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/suggest.h"
#include "value/spread.h"

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

const hvi_option hvi_option_table[HVI_OPTION_COUNT] = {
    [HVI_POOL_MAX] = {"pool_max", HVI_INTEGER, "10", 1, 10000, "1 to 10000",
                      "Connections that the pool of each server opens at most."},
    [HVI_LANES] = {"lanes", HVI_INTEGER, "2", 0, 64, "0 to 64",
                   "Connections of each server's pool that puts and gets of many threads share in "
                   "batches; 0 turns that off."},
    [HVI_POOL_BLOCK_TIMEOUT] = {"pool_block_timeout", HVI_DURATION, "5s", 1, DAY, "1ms to 1d",
                                "How long a caller waits for a connection, the opening of a new "
                                "one included."},
    [HVI_OPERATION_TIMEOUT] = {"operation_timeout", HVI_DURATION, "30s", 1, DAY, "1ms to 1d",
                               "How long a put or a get may take in all, the wait for a "
                               "connection included."},
    [HVI_EXACTLY_ONCE] = {"exactly_once", HVI_BOOLEAN, "off", 0, 1, "on, off",
                          "Put under reserved keys, and repeat a put over a lost connection until "
                          "it is confirmed."},
    [HVI_MAX_LIFETIME] = {"max_lifetime", HVI_DURATION, "1h", 0, 365 * DAY, "0 (no limit) to 365d",
                          "A connection older than this is closed when it is next returned or "
                          "about to be lent."},
    [HVI_IDLE_TIMEOUT] = {"idle_timeout", HVI_DURATION, "10min", 0, 365 * DAY,
                          "0 (no limit) to 365d",
                          "A connection unused for this long is closed when the pool is next "
                          "used."},
    [HVI_PREPARE] = {"prepare", HVI_BOOLEAN, "on", 0, 1, "on, off",
                     "Use prepared statements; off behind a transaction-mode PgBouncer."},
    [HVI_PREPARED_MAX] = {"prepared_max", HVI_INTEGER, "200", 1, 100000, "1 to 100000",
                          "Statements that one connection keeps prepared; the least recently used "
                          "go first."},
    [HVI_CHECK_SERVERS] = {"check_servers", HVI_BOOLEAN, "off", 0, 1, "on, off",
                           "Connect to every server and check it when a store is opened."},
    [HVI_LOG_PARAMETERS] = {"log_parameters", HVI_BOOLEAN, "off", 0, 1, "on, off",
                            "Hand the parameters of statements to the log callback too."},
    [HVI_EPOCH] = {"epoch", HVI_INTEGER, "1379365531352", 0, INT64_C(4102444800000),
                   "0 to 4102444800000",
                   "The moment keys count from, in milliseconds since 1970-01-01 UTC; fixed once "
                   "shards are made."},
    [HVI_KEYS] = {"keys", HVI_CHOICE, "auto", 0, 2, "auto, strict, portable",
                  "How `hv init` has shards make their keys: strict needs the extension, auto uses "
                  "it for new shards if it can."},
    [HVI_SPREAD] = {"spread", HVI_SHARDS, "", 0, HV_SHARDS, "ranges of shards, or empty",
                    "The fixed set of shards that values are spread over: 0-16. Values belong to "
                    "other shards if it is changed."},
    [HVI_MIGRATIONS] = {"migrations", HVI_DIRECTORY, "", 0, 1, "a path, or empty",
                        "The directory of the SQL files that `hv init` runs on every shard that it "
                        "makes, and `hv migrate` on all shards."},
};

static const char *const type_names[] = {
    [HVI_INTEGER] = "integer", [HVI_DURATION] = "duration", [HVI_BOOLEAN] = "boolean",
    [HVI_CHOICE] = "choice",   [HVI_SHARDS] = "shards",     [HVI_DIRECTORY] = "directory",
};

bool hv_option_at(size_t index, hv_option_info *info) {
    if (index >= HVI_OPTION_COUNT)
        return false;
    const hvi_option *option = &hvi_option_table[index];
    *info = (hv_option_info){
        .name = option->name,
        .type = type_names[option->type],
        .default_value = option->default_text,
        .range = option->range,
        .help = option->help,
    };
    return true;
}

hv_status hvi_option_find(const char *name, hvi_option_id *id, hv_error **error) {
    hvi_suggestion nearest;
    hvi_suggestion_init(&nearest, name);
    for (int i = 0; i < HVI_OPTION_COUNT; i++) {
        if (strcmp(hvi_option_table[i].name, name) == 0) {
            *id = (hvi_option_id) i;
            return HV_OK;
        }
        hvi_suggestion_offer(&nearest, hvi_option_table[i].name);
    }
    hvi_fail(error, HV_BAD_CONFIG, "unknown option \"%s\"", name);
    if (nearest.best != NULL)
        hvi_error_hint(error, "Did you mean \"%s\"?", nearest.best);
    else
        hvi_error_hint(error, "See `hv help options` for the options there are.");
    return HV_BAD_CONFIG;
}

/* These read a value of `len` bytes, without white space around it. */

static bool is_word(const char *text, size_t len, const char *word) {
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

static bool parse_integer(const char *text, size_t len, int64_t *value) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (len == 0 || end != text + len || errno != 0)
        return false;
    *value = number;
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* A number, which may have a fraction, and a unit; without one it is seconds. Not strtod(), which
 * also takes exponents, "inf" and hexadecimal numbers, and in some locales a comma instead of a
 * point. */
bool hvi_duration_read(const char *text, size_t len, int64_t *value) {
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", SECOND}, {"min", MINUTE}, {"h", HOUR}, {"d", DAY}, {"", SECOND}};

    const char *at = text;
    double digits = 0, divisor = 1;
    bool has_digit = false;
    for (; is_digit(*at); at++, has_digit = true)
        digits = digits * 10 + (*at - '0');
    if (*at == '.') {
        for (at++; is_digit(*at); at++, has_digit = true) {
            digits = digits * 10 + (*at - '0');
            divisor *= 10;
        }
    }
    at += strspn(at, " \t");
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!has_digit || !is_word(at, len - (size_t) (at - text), units[i].unit))
            continue;
        double ms = digits / divisor * (double) units[i].ms + 0.5;
        /* 0 may mean "no limit", so a small value must not be rounded to it. */
        if (!(ms < (double) (1000 * 365 * DAY)) || (ms < 1 && digits > 0))
            return false;
        *value = (int64_t) ms;
        return true;
    }
    return false;
}

static bool parse_boolean(const char *text, size_t len, int64_t *value) {
    static const char *const words[2][4] = {{"off", "false", "no", "0"},
                                            {"on", "true", "yes", "1"}};
    for (int which = 0; which < 2; which++)
        for (int i = 0; i < 4; i++)
            if (is_word(text, len, words[which][i])) {
                *value = which;
                return true;
            }
    return false;
}

/* One of the words in `range`, which are separated by ", ". */
static bool parse_choice(const char *text, size_t len, const char *range, int64_t *value) {
    const char *word = range;
    for (int64_t which = 0; *word != '\0'; which++) {
        size_t word_len = strcspn(word, ",");
        if (word_len == len && strncasecmp(word, text, len) == 0) {
            *value = which;
            return true;
        }
        word += word_len;
        word += strspn(word, ", ");
    }
    return false;
}

/* Shards have errors of their own, which say what is wrong with a range. */
static hv_status parse_shards(const char *text, int64_t *value, hv_error **error) {
    hvi_spread spread;
    hv_status status = hvi_spread_read(&spread, text, error);
    if (status == HV_OK)
        *value = spread.count;
    return status;
}

hv_status hvi_option_parse(hvi_option_id id, const char *text, int64_t *value, hv_error **error) {
    const hvi_option *option = &hvi_option_table[id];
    if (option->type == HVI_SHARDS)
        return parse_shards(text, value, error);
    if (option->type == HVI_DIRECTORY) {
        *value = *text != '\0';
        return HV_OK;
    }
    const char *start = text;
    while (isspace((unsigned char) *start))
        start++;
    size_t len = strlen(start);
    while (len > 0 && isspace((unsigned char) start[len - 1]))
        len--;
    int64_t parsed = 0;
    bool ok = false;
    switch (option->type) {
    case HVI_INTEGER:
        ok = parse_integer(start, len, &parsed);
        break;
    case HVI_DURATION:
        ok = hvi_duration_read(start, len, &parsed);
        break;
    case HVI_BOOLEAN:
        ok = parse_boolean(start, len, &parsed);
        break;
    case HVI_CHOICE:
        ok = parse_choice(start, len, option->range, &parsed);
        break;
    case HVI_SHARDS: /* done above, as the next */
    case HVI_DIRECTORY:
        break;
    }
    if (ok && parsed >= option->min && parsed <= option->max) {
        *value = parsed;
        return HV_OK;
    }
    /* The value is not shown: it may be a password on the wrong line. */
    hvi_fail(error, HV_BAD_CONFIG, "invalid value for option \"%s\"", option->name);
    hvi_error_detail(error, "It takes a value of type %s: %s.", type_names[option->type],
                     option->range);
    if (option->type == HVI_DURATION)
        hvi_error_hint(error, "Durations are numbers with one of the units ms, s, min, h, d; "
                              "without a unit they are seconds.");
    return HV_BAD_CONFIG;
}
