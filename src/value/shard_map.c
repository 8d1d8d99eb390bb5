/*
 * shard_map: which server holds a shard, from ranges as the configuration writes them.
 *
 * Holds always: a text is read to its end before the map changes, so an invalid one changes
 * nothing.
 */
#include "value/shard_map.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void hvi_schema_name(int shard, char name[HVI_SCHEMA_NAME_LEN]) {
    *hvi_shard_digits(shard, stpcpy(name, "shard")) = '\0';
}

char *hvi_shard_digits(int shard, char *to) {
    for (int i = 3; i >= 0; i--, shard /= 10)
        to[i] = (char) ('0' + shard % 10);
    return to + 4;
}

/* A position in one server's text, which is read from left to right. */
typedef struct reader {
    const char *text; /* all of it, for messages */
    const char *at;
    const char *server; /* the server's name */
    hv_error **error;
} reader;

/* A half-open range. */
typedef struct range {
    int begin;
    int end;
} range;

void hvi_shard_map_init(hvi_shard_map *map) {
    for (int shard = 0; shard < HV_SHARDS; shard++)
        map->server[shard] = -1;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void skip_spaces(reader *r) {
    while (is_space(*r->at))
        r->at++;
}

/* Does the text look like shards, though invalid ones? Anything else may be a password on the wrong
 * line, and is not shown. */
static bool looks_like_shards(const char *begin, const char *end) {
    int digits = 0;
    for (const char *at = begin; at < end; at++) {
        digits = is_digit(*at) ? digits + 1 : 0;
        if (digits > 5 || !(is_digit(*at) || is_space(*at) || *at == '-' || *at == ','))
            return false;
    }
    return true;
}

/* Make the error for the part of the text from `begin` to `end`. */
static hv_status fail_at(reader *r, const char *begin, const char *end, const char *message,
                         const char *hint) {
    while (end > begin && is_space(end[-1]))
        end--;
    if (looks_like_shards(r->text, r->text + strlen(r->text))) {
        hvi_fail(r->error, HV_BAD_CONFIG, "%s: \"%s\" in the shards of server \"%s\"", message,
                 hvi_utf8_excerpt(begin, (size_t) (end - begin)).text, r->server);
        hvi_error_detail(r->error, "The shards are given as \"%s\".",
                         hvi_utf8_excerpt(r->text, strlen(r->text)).text);
    } else {
        hvi_fail(r->error, HV_BAD_CONFIG, "%s, at character %td of the shards of server \"%s\"",
                 message, begin - r->text + 1, r->server);
        hvi_error_detail(r->error, "The text is not shown because it does not look like shards.");
    }
    hvi_error_hint(r->error, "%s", hint);
    hvi_error_where(r->error, r->server, -1);
    return HV_BAD_CONFIG;
}

static const char syntax_hint[] =
    "Write half-open ranges and single shards: \"1-5,9\" is shards 1, 2, 3, 4 and 9.";
static const char limit_hint[] = "Shards are 0 to 8191; the end of a range is not part of it, so "
                                 "the last range can end in 8192.";

/* Read a number. One that is too large is read as HV_SHARDS + 1. */
static bool read_number(reader *r, int *number) {
    if (!is_digit(*r->at))
        return false;
    *number = 0;
    for (; is_digit(*r->at); r->at++)
        if (*number <= HV_SHARDS)
            *number = *number * 10 + (*r->at - '0');
    if (*number > HV_SHARDS)
        *number = HV_SHARDS + 1;
    skip_spaces(r);
    return true;
}

/* Read "5" or "1-9", up to the comma or the end of the text. */
static hv_status read_item(reader *r, range *item) {
    skip_spaces(r);
    const char *begin = r->at;
    const char *end = begin + strcspn(begin, ",");
    if (begin == end)
        return fail_at(r, r->text, r->text + strlen(r->text), "empty item", syntax_hint);

    bool is_range = false;
    bool good = read_number(r, &item->begin);
    if (good && *r->at == '-') {
        is_range = true;
        r->at++;
        skip_spaces(r);
        good = read_number(r, &item->end);
    }
    if (!good || r->at != end)
        return fail_at(r, begin, end, "not a shard or a range of shards", syntax_hint);

    if (!is_range)
        item->end = item->begin + 1;
    if (item->begin >= HV_SHARDS || item->end > HV_SHARDS)
        return fail_at(r, begin, end, "shard out of range", limit_hint);
    if (item->begin == item->end)
        return fail_at(r, begin, end, "empty range",
                       "The end of a range is not part of it: \"5-6\", or just \"5\", is shard 5.");
    if (item->begin > item->end)
        return fail_at(r, begin, end, "reversed range", syntax_hint);
    return HV_OK;
}

/* Give a range to a server, unless a shard of it is taken. */
static hv_status take_range(hvi_shard_map *map, range item, int server, const char *const *names,
                            hv_error **error) {
    for (int shard = item.begin; shard < item.end; shard++) {
        int holder = map->server[shard];
        if (holder == server)
            hvi_fail(error, HV_BAD_CONFIG, "shard %d is given to server \"%s\" twice", shard,
                     names[server]);
        else if (holder >= 0)
            hvi_fail(error, HV_BAD_CONFIG,
                     "shard %d is given to both server \"%s\" and server \"%s\"", shard,
                     names[holder], names[server]);
        if (holder >= 0) {
            hvi_error_hint(error, "Give each shard to one server. The end of a range is not part "
                                  "of it: \"1-9\" is shards 1 to 8.");
            hvi_error_where(error, names[server], shard);
            return HV_BAD_CONFIG;
        }
        map->server[shard] = (int16_t) server;
    }
    return HV_OK;
}

hv_status hvi_shard_map_add(hvi_shard_map *map, const char *text, int server,
                            const char *const *names, hv_error **error) {
    reader r = {.text = text, .at = text, .server = names[server], .error = error};
    skip_spaces(&r);
    if (*r.at == '\0') {
        hvi_fail(error, HV_BAD_CONFIG, "no shards given for server \"%s\"", r.server);
        hvi_error_hint(error, "%s", syntax_hint);
        hvi_error_where(error, r.server, -1);
        return HV_BAD_CONFIG;
    }

    hvi_shard_map changed = *map;
    for (;;) {
        range item = {0};
        hv_status status = read_item(&r, &item);
        if (status == HV_OK)
            status = take_range(&changed, item, server, names, error);
        if (status != HV_OK)
            return status;
        if (*r.at == '\0')
            break;
        r.at++; /* the comma */
    }
    *map = changed;
    return HV_OK;
}

int hvi_shard_map_next(const hvi_shard_map *map, int server, int after) {
    if (after >= HV_SHARDS)
        return -1;
    for (int shard = after < 0 ? 0 : after + 1; shard < HV_SHARDS; shard++)
        if (server < 0 ? map->server[shard] >= 0 : map->server[shard] == server)
            return shard;
    return -1;
}

int hvi_shard_map_count(const hvi_shard_map *map, int server) {
    int count = 0;
    for (int shard = -1; (shard = hvi_shard_map_next(map, server, shard)) >= 0;)
        count++;
    return count;
}
