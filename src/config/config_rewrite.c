/*
 * config_rewrite: change the shards of servers in the text of a configuration file.
 *
 * The text is cut into lines as the reader cuts it (see config_file). Should the two ever differ,
 * nothing is lost, as config_writer reads the new file back.
 */
#include "config/config_rewrite.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A line of shards is about so long. */
#define LIST_MAX 90

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

/* ---- lines ---- */

typedef enum line_kind { OTHER, SECTION, SETTING, CONTINUATION } line_kind;

typedef struct line {
    const char *text;
    size_t len; /* without its end */
    const char *end;
    size_t end_len; /* "\n", "\r\n", or nothing in the last one */
} line;

typedef struct rewriting {
    const hvi_config_change *changes;
    size_t count;
    hvi_buffer *to;
    const hvi_config_change *server; /* whose section this is, if its shards change */
    bool is_done;                    /* they have been written */
    bool has_setting;                /* in this section: an indented line continues it */
    bool in_shards;                  /* that setting is `shards` */
    line ended;                      /* the last line with an end: how lines end in this file */
    size_t after;                    /* in `to`: behind the section's last setting, or its title */
} rewriting;

static bool is_space(char c) {
    return isspace((unsigned char) c);
}

static size_t skip_space(const char *text, size_t len) {
    size_t at = 0;
    while (at < len && is_space(text[at]))
        at++;
    return at;
}

/* The next line; false at the end. */
static bool next_line(const char *text, size_t len, size_t *at, line *next) {
    if (*at >= len)
        return false;
    const char *start = text + *at;
    const char *newline = memchr(start, '\n', len - *at);
    size_t whole = newline != NULL ? (size_t) (newline - start) : len - *at;
    size_t cut = newline != NULL && whole > 0 && start[whole - 1] == '\r' ? whole - 1 : whole;
    *next = (line){.text = start, .len = cut, .end = start + cut};
    next->end_len = whole - cut + (newline != NULL ? 1 : 0);
    *at += cut + next->end_len;
    return true;
}

static line_kind kind_of(const rewriting *r, const line *l, size_t start, size_t mark) {
    if (start == l->len || l->text[start] == '#' || l->text[start] == ';')
        return OTHER;
    if (start > mark && r->has_setting)
        return CONTINUATION;
    if (l->text[start] == '[' && memchr(l->text + start, ']', l->len - start) != NULL)
        return SECTION;
    return SETTING;
}

/* The length of a setting's name, and where its value begins, both from the line's start. */
static size_t name_end(const line *l, size_t start, size_t *value) {
    size_t end = start;
    while (end < l->len && l->text[end] != '=' && l->text[end] != ':')
        end++;
    *value = end < l->len ? end + 1 : end;
    while (end > start && is_space(l->text[end - 1]))
        end--;
    *value += skip_space(l->text + *value, l->len - *value);
    return end;
}

static bool is_shards(const line *l, size_t start) {
    size_t value, end = name_end(l, start, &value);
    return end - start == strlen("shards") && memcmp(l->text + start, "shards", end - start) == 0;
}

/* Where a comment begins in a value, with the white space before it; the line's length: nowhere. */
static size_t comment_of(const line *l, size_t value) {
    size_t at = value;
    bool is_quoted = at < l->len && l->text[at] == '"';
    if (is_quoted) {
        for (at++; at < l->len && l->text[at] != '"'; at++)
            at += l->text[at] == '\\';
        at++;
    }
    for (; at < l->len; at++) {
        if (l->text[at] != ';' || at == 0 || !is_space(l->text[at - 1]))
            continue;
        while (at > value && is_space(l->text[at - 1]))
            at--;
        return at;
    }
    return l->len;
}

/* ---- writing ---- */

static void keep(rewriting *r, const line *l) {
    hvi_buffer_append(r->to, l->text, l->len + l->end_len);
}

static void end_line(rewriting *r, const line *l) {
    if (l != NULL && l->end_len > 0)
        hvi_buffer_append(r->to, l->end, l->end_len);
    else if (r->ended.end_len > 0)
        hvi_buffer_append(r->to, r->ended.end, r->ended.end_len);
    else
        hvi_buffer_append_byte(r->to, '\n');
}

/* The length of the beginning of a list that goes on one line, without the comma at its end. */
static size_t one_line(const char *list) {
    if (strlen(list) <= LIST_MAX)
        return strlen(list);
    size_t len = LIST_MAX;
    while (len > 0 && list[len] != ',')
        len--;
    return len > 0 ? len : strcspn(list, ",");
}

/* Write the shards in lines that begin with `prefix`; the first one ends with the comment. */
static void write_shards(rewriting *r, const char *prefix, size_t prefix_len, const char *comment,
                         size_t comment_len, const line *l) {
    const char *list = r->server->shards;
    bool needs_space = *list != '\0' && !is_space(prefix[prefix_len - 1]);
    r->is_done = true;
    for (bool is_first = true; is_first || *list != '\0'; is_first = false) {
        size_t len = one_line(list);
        if (!is_first)
            end_line(r, l->end_len > 0 ? l : NULL);
        size_t indent = is_first ? 0 : skip_space(prefix, prefix_len); /* it would continue */
        hvi_buffer_append(r->to, prefix + indent, prefix_len - indent);
        if (needs_space)
            hvi_buffer_append_byte(r->to, ' ');
        hvi_buffer_append(r->to, list, len);
        if (is_first)
            hvi_buffer_append(r->to, comment, comment_len);
        list += len;
        list += *list == ',';
    }
    hvi_buffer_append(r->to, l->end, l->end_len);
}

/* A line with shards that change. */
static void change_line(rewriting *r, const line *l, size_t start, bool is_continuation) {
    size_t value = start;
    if (!is_continuation)
        name_end(l, start, &value);
    size_t comment = comment_of(l, value);
    if (!r->is_done) {
        write_shards(r, l->text, value, l->text + comment, l->len - comment, l);
    } else if (comment < l->len) {
        size_t text = comment + skip_space(l->text + comment, l->len - comment);
        hvi_buffer_append(r->to, l->text, start);
        hvi_buffer_append(r->to, l->text + text, l->len - text);
        hvi_buffer_append(r->to, l->end, l->end_len);
    }
}

/* The section has ended, and had no shards: add a line. */
static void finish_section(rewriting *r) {
    if (r->server == NULL || r->is_done || *r->server->shards == '\0')
        return;
    char *rest = NULL;
    size_t rest_len = r->to->len - r->after;
    static const char prefix[] = "shards = ";
    if (!hvi_buffer_ok(r->to) || (rest = malloc(rest_len + 1)) == NULL) {
        hvi_buffer_break(r->to);
        return;
    }
    memcpy(rest, r->to->data + r->after, rest_len);
    r->to->len = r->after;
    if (r->to->len > 0 && r->to->data[r->to->len - 1] != '\n')
        end_line(r, NULL);
    line added = r->ended;
    if (added.end_len == 0)
        added = (line){.end = "\n", .end_len = 1};
    write_shards(r, prefix, strlen(prefix), "", 0, &added);
    hvi_buffer_append(r->to, rest, rest_len);
    free(rest);
}

static const hvi_config_change *change_of(const rewriting *r, const line *l, size_t start) {
    const char *title = l->text + start + 1;
    const char *close = memchr(title, ']', l->len - start - 1);
    size_t len = (size_t) (close - title), word = strlen("server");
    if (len <= word || memcmp(title, "server", word) != 0 || !is_space(title[word]))
        return NULL;
    size_t from = word + skip_space(title + word, len - word);
    while (len > from && is_space(title[len - 1]))
        len--;
    for (size_t i = 0; i < r->count; i++)
        if (strlen(r->changes[i].server) == len - from &&
            memcmp(r->changes[i].server, title + from, len - from) == 0)
            return &r->changes[i];
    return NULL;
}

static void rewrite_line(rewriting *r, const line *l, size_t mark) {
    size_t start = mark + skip_space(l->text + mark, l->len - mark);
    line_kind kind = kind_of(r, l, start, mark);
    if (kind == SECTION) {
        finish_section(r);
        r->server = change_of(r, l, start);
        r->is_done = r->has_setting = r->in_shards = false;
    } else if (kind == SETTING) {
        r->has_setting = true;
        r->in_shards = is_shards(l, start);
    }
    bool is_setting = kind == SETTING || kind == CONTINUATION;
    if (is_setting && r->in_shards && r->server != NULL)
        change_line(r, l, start, kind == CONTINUATION);
    else
        keep(r, l);
    if (kind != OTHER)
        r->after = r->to->len;
    if (l->end_len > 0)
        r->ended = *l;
}

void hvi_config_rewrite(const char *text, size_t len, const hvi_config_change *changes,
                        size_t count, hvi_buffer *to) {
    rewriting r = {.changes = changes, .count = count, .to = to};
    size_t at = 0, mark = strlen(BYTE_ORDER_MARK);
    line l;
    if (len < mark || memcmp(text, BYTE_ORDER_MARK, mark) != 0)
        mark = 0;
    for (bool is_first = true; next_line(text, len, &at, &l); is_first = false)
        rewrite_line(&r, &l, is_first ? mark : 0);
    finish_section(&r);
}
