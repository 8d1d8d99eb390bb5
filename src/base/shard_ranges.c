/*
 * shard_ranges: lists of shards as text, read and written.
 */
#include "base/shard_ranges.h"

#include <string.h>

#include "base/utf8.h"

/* The configuration file takes a value of this length without quotes. */
#define UNQUOTED_MAX 150

hvi_shard_reader hvi_shard_reader_of(const char *text, const char *place, const char *name) {
    return (hvi_shard_reader){
        .text = text, .at = text, .place = place, .name = name, .status = HV_BAD_CONFIG};
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void skip_spaces(hvi_shard_reader *r) {
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
static hv_status fail_at(const hvi_shard_reader *r, const char *begin, const char *end,
                         const char *message, const char *hint, hv_error **error) {
    while (end > begin && is_space(end[-1]))
        end--;
    if (looks_like_shards(r->text, r->text + strlen(r->text))) {
        hvi_fail(error, r->status, "%s: \"%s\" in the %s \"%s\"", message,
                 hvi_utf8_excerpt(begin, (size_t) (end - begin)).text, r->place, r->name);
        hvi_error_detail(error, "The shards are given as \"%s\".",
                         hvi_utf8_excerpt(r->text, strlen(r->text)).text);
    } else {
        hvi_fail(error, r->status, "%s, at character %td of the %s \"%s\"", message,
                 begin - r->text + 1, r->place, r->name);
        hvi_error_detail(error, "The text is not shown because it does not look like shards.");
    }
    hvi_error_hint(error, "%s", hint);
    return r->status;
}

const char hvi_shard_ranges_syntax[] =
    "Write half-open ranges and single shards: \"1-5,9\" is shards 1, 2, 3, 4 and 9.";
static const char limit_hint[] = "Shards are 0 to 8191; the end of a range is not part of it, so "
                                 "the last range can end in 8192.";

/* Read a number. One that is too large is read as HV_SHARDS + 1. */
static bool read_number(hvi_shard_reader *r, int *number) {
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
hv_status hvi_shard_reader_next(hvi_shard_reader *r, hvi_shard_range *item, hv_error **error) {
    skip_spaces(r);
    const char *begin = r->at;
    const char *end = begin + strcspn(begin, ",");
    if (begin == end)
        return fail_at(r, r->text, r->text + strlen(r->text), "empty item", hvi_shard_ranges_syntax,
                       error);

    bool is_range = false;
    bool good = read_number(r, &item->begin);
    if (good && *r->at == '-') {
        is_range = true;
        r->at++;
        skip_spaces(r);
        good = read_number(r, &item->end);
    }
    if (!good || r->at != end)
        return fail_at(r, begin, end, "not a shard or a range of shards", hvi_shard_ranges_syntax,
                       error);

    if (!is_range)
        item->end = item->begin + 1;
    if (item->begin >= HV_SHARDS || item->end > HV_SHARDS)
        return fail_at(r, begin, end, "shard out of range", limit_hint, error);
    if (item->begin == item->end)
        return fail_at(r, begin, end, "empty range",
                       "The end of a range is not part of it: \"5-6\", or just \"5\", is shard 5.",
                       error);
    if (item->begin > item->end)
        return fail_at(r, begin, end, "reversed range", hvi_shard_ranges_syntax, error);
    return HV_OK;
}

bool hvi_shard_reader_goes_on(hvi_shard_reader *r) {
    if (*r->at == '\0')
        return false;
    r->at++; /* the comma */
    return true;
}

bool hvi_shard_ranges_blank(const char *text) {
    while (is_space(*text))
        text++;
    return *text == '\0';
}

void hvi_shard_writer_add(hvi_shard_writer *writer, int shard) {
    if (shard == writer->open.end && writer->open.begin < writer->open.end) {
        writer->open.end++;
        return;
    }
    hvi_shard_writer_end(writer);
    writer->open = (hvi_shard_range){shard, shard + 1};
}

void hvi_shard_writer_end(hvi_shard_writer *writer) {
    hvi_shard_range range = writer->open;
    if (range.begin == range.end)
        return;
    if (writer->text->len > 0)
        hvi_buffer_append_byte(writer->text, ',');
    hvi_buffer_append_format(writer->text, "%d", range.begin);
    if (range.end > range.begin + 1)
        hvi_buffer_append_format(writer->text, "-%d", range.end);
    writer->open = (hvi_shard_range){0};
}

void hvi_shard_ranges_setting(hvi_buffer *line, const char *option, const char *ranges) {
    const char *quote = strlen(ranges) > UNQUOTED_MAX ? "\"" : "";
    hvi_buffer_append_format(line, "%s = %s%s%s", option, quote, ranges, quote);
}
