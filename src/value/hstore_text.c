/*
 * hstore_text: PostgreSQL's hstore type in text form, both ways.
 *
 * The grammar is that of the server's hstore_in (contrib/hstore/hstore_io.c): a key, "=>", a value,
 * with commas between pairs, and one allowed after the last. A word in quotes ends at the next
 * quote. One without quotes ends at white space; a key also at "=", and a value also at "," unless
 * it begins with it. In both, a backslash takes the next byte as it is. The word NULL as a value,
 * in upper or lower case and without quotes, is NULL.
 */
#include "value/hstore_text.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

/* ---- Out ------------------------------------------------------------------------------------- */

/* An attribute's key and where to find the rest, to be sorted. */
typedef struct sorted {
    const char *key;
    const hvi_attribute *item;
} sorted;

static int compare_keys(const void *a, const void *b) {
    const sorted *x = a, *y = b;
    return hvi_dict_compare(x->key, x->item->key_len, y->key, y->item->key_len);
}

static void print_quoted(const char *text, size_t len, hvi_buffer *out) {
    hvi_buffer_append_byte(out, '"');
    for (size_t done = 0; done < len;) {
        size_t plain = done;
        while (plain < len && text[plain] != '"' && text[plain] != '\\')
            plain++;
        hvi_buffer_append(out, text + done, plain - done);
        if (plain < len) {
            hvi_buffer_append_byte(out, '\\');
            hvi_buffer_append_byte(out, text[plain]);
            plain++;
        }
        done = plain;
    }
    hvi_buffer_append_byte(out, '"');
}

void hvi_hstore_print(const hv_dict *dict, hvi_buffer *out) {
    if (dict->count == 0)
        return;
    sorted *order = malloc(dict->count * sizeof *order);
    if (order == NULL) {
        hvi_buffer_break(out);
        return;
    }
    for (size_t i = 0; i < dict->count; i++)
        order[i] = (sorted){.key = dict->bytes + dict->items[i].key, .item = &dict->items[i]};
    qsort(order, dict->count, sizeof *order, compare_keys);

    for (size_t i = 0; i < dict->count; i++) {
        const hvi_attribute *item = order[i].item;
        if (i > 0)
            hvi_buffer_append_text(out, ", ");
        print_quoted(order[i].key, item->key_len, out);
        hvi_buffer_append_text(out, "=>");
        if (item->is_null)
            hvi_buffer_append_text(out, "NULL");
        else
            print_quoted(dict->bytes + item->value, item->value_len, out);
    }
    free(order);
}

hv_status hv_dict_text(const hv_dict *dict, char **text, hv_error **error) {
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_hstore_print(dict, &out);
    char *taken = hvi_buffer_take(&out);
    if (taken == NULL) {
        hvi_buffer_fini(&out);
        return hvi_no_memory(error);
    }
    *text = taken;
    return HV_OK;
}

/* ---- In -------------------------------------------------------------------------------------- */

/* A position in a text, which is read from left to right. */
typedef struct reader {
    const char *begin;
    const char *at;
    const char *end;
    hv_error **error;
} reader;

/* A key or a value, without its quotes and backslashes. */
typedef struct word {
    char *text; /* in the parser's scratch memory */
    size_t len;
    bool quoted;
} word;

/* Make the error for a text that lacks `expected` at the reader's position. */
static hv_status fail_parse(const reader *r, const char *expected) {
    hvi_fail(r->error, HV_INVALID, "malformed hstore text at byte offset %zu",
             (size_t) (r->at - r->begin));
    if (r->at == r->end)
        hvi_error_detail(r->error, "Expected %s, but the text ends.", expected);
    else
        hvi_error_detail(r->error, "Expected %s, but found \"%s\".", expected,
                         hvi_utf8_excerpt(r->at, (size_t) (r->end - r->at)).text);
    hvi_error_hint(r->error, "Write \"key\"=>\"value\", \"key\"=>NULL. Inside quotes, put a "
                             "backslash before quotes and backslashes.");
    return HV_INVALID;
}

/* Not the vertical tab: PostgreSQL up to 15 takes it as part of a word, later versions skip it. */
static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void skip_spaces(reader *r) {
    while (r->at < r->end && is_space(*r->at))
        r->at++;
}

/* Copy the next byte to the word, or the one after it if it is a backslash. */
static hv_status take_byte(reader *r, word *w) {
    if (*r->at == '\\' && ++r->at == r->end)
        return fail_parse(r, "a character after the backslash");
    w->text[w->len++] = *r->at++;
    return HV_OK;
}

/* Read a word into `text`, which has room for all that is left. Without quotes, the word ends
 * before `stop` unless that is its first byte. */
static hv_status read_word(reader *r, char stop, char *text, word *w) {
    hv_status status = HV_OK;
    *w = (word){.text = text, .len = 0, .quoted = *r->at == '"'};
    if (w->quoted) {
        r->at++;
        while (status == HV_OK && r->at < r->end && *r->at != '"')
            status = take_byte(r, w);
        if (status == HV_OK && r->at == r->end)
            status = fail_parse(r, "a closing quote");
        if (status == HV_OK)
            r->at++;
        return status;
    }
    do {
        status = take_byte(r, w);
    } while (status == HV_OK && r->at < r->end && *r->at != stop && !is_space(*r->at));
    return status;
}

/* Read a pair, up to the end of its value. */
static hv_status parse_pair(reader *r, char *scratch, hv_dict *dict) {
    word key, value;
    if (*r->at == '=')
        return fail_parse(r, "a key");
    hv_status status = read_word(r, '=', scratch, &key);
    if (status != HV_OK)
        return status;
    skip_spaces(r);
    if (r->end - r->at < 2 || r->at[0] != '=' || r->at[1] != '>')
        return fail_parse(r, "\"=>\" after a key");
    r->at += 2;
    skip_spaces(r);
    if (r->at == r->end)
        return fail_parse(r, "a value");
    status = read_word(r, ',', scratch + key.len, &value);
    if (status != HV_OK)
        return status;
    bool is_null = !value.quoted && value.len == 4 && strncasecmp(value.text, "null", 4) == 0;
    return hv_dict_set_bytes(dict, key.text, key.len, is_null ? NULL : value.text, value.len,
                             r->error);
}

static hv_status parse_pairs(reader *r, char *scratch, hv_dict *dict) {
    for (;;) {
        skip_spaces(r);
        if (r->at == r->end)
            return HV_OK;
        hv_status status = parse_pair(r, scratch, dict);
        if (status != HV_OK)
            return status;
        skip_spaces(r);
        if (r->at == r->end)
            return HV_OK;
        if (*r->at != ',')
            return fail_parse(r, "a comma after a value");
        r->at++;
    }
}

hv_status hv_dict_parse(const char *text, size_t text_len, hv_dict **dict, hv_error **error) {
    if (text_len == HV_STRLEN)
        text_len = strlen(text);
    else if (text_len == 0)
        text = "";
    reader r = {.begin = text, .at = text, .end = text + text_len, .error = error};
    size_t good = hvi_utf8_prefix(text, text_len);
    if (good < text_len) {
        r.at += good;
        return fail_parse(&r, "text in UTF-8 without NUL bytes");
    }

    hv_status status;
    hv_dict *made = hv_dict_new();
    char *scratch = malloc(text_len + 1);
    if (made == NULL || scratch == NULL)
        status = hvi_no_memory(error);
    else
        status = parse_pairs(&r, scratch, made);
    if (status == HV_OK) {
        *dict = made;
        made = NULL;
    }
    free(scratch);
    hv_dict_free(made);
    return status;
}

hv_status hvi_hstore_decode_text(const char *text, size_t len, hv_dict **dict, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = hv_dict_parse(text, len, dict, &cause);
    if (status == HV_INVALID) {
        const char *detail = hv_error_detail(cause);
        status = hvi_fail(error, HV_CORRUPT, "server sent a malformed hstore");
        hvi_error_detail(error, "In %s. %s", hv_error_message(cause), detail != NULL ? detail : "");
        hv_error_free(cause);
        return status;
    }
    return status == HV_OK ? HV_OK : hvi_error_move(error, &cause);
}
