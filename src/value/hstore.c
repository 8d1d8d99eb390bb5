/*
 * hstore: PostgreSQL's hstore type in binary form, both ways.
 *
 * Holds always: every length and count that the server sent is checked against the bytes that are
 * there before it is used; what was decoded is as valid as if it had been set by hv_dict_set().
 */
#include "value/hstore.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define NULL_LEN UINT32_MAX

size_t hvi_hstore_size(const hv_dict *dict) {
    size_t size = 4;
    for (size_t i = 0; dict != NULL && i < dict->count; i++)
        size += (size_t) 8 + dict->items[i].key_len + dict->items[i].value_len;
    return size;
}

static char *put_be32(char *to, uint32_t value) {
    uint32_t wire = htobe32(value);
    memcpy(to, &wire, sizeof wire);
    return to + sizeof wire;
}

static char *put_text(char *to, const hv_dict *dict, size_t offset, uint32_t len) {
    to = put_be32(to, len);
    memcpy(to, dict->bytes + offset, len);
    return to + len;
}

static void put_dict(char *to, const hv_dict *dict) {
    to = put_be32(to, dict != NULL ? (uint32_t) dict->count : 0);
    for (size_t i = 0; dict != NULL && i < dict->count; i++) {
        const hvi_attribute *item = &dict->items[i];
        to = put_text(to, dict, item->key, item->key_len);
        if (item->is_null)
            to = put_be32(to, NULL_LEN);
        else
            to = put_text(to, dict, item->value, item->value_len);
    }
}

void hvi_hstore_encode(const hv_dict *dict, hvi_buffer *out) {
    size_t size = hvi_hstore_size(dict);
    if (!hvi_buffer_reserve(out, size))
        return;
    put_dict(out->data + out->len, dict);
    out->len += size;
    out->data[out->len] = '\0';
}

hv_status hv_dict_binary(const hv_dict *dict, char **bytes, size_t *len, hv_error **error) {
    size_t size = hvi_hstore_size(dict);
    char *made = malloc(size);
    if (made == NULL)
        return hvi_no_memory(error);
    put_dict(made, dict);
    *bytes = made;
    *len = size;
    return HV_OK;
}

/* A position in a binary form, which is read from left to right. */
typedef struct reader {
    const char *data;
    size_t len;
    size_t at;
    hv_error **error;
} reader;

/* Make the error for a fault at the reader's position. */
#define fail_decode(r, format, ...)                                                            \
    (hvi_fail((r)->error, HV_CORRUPT, "server sent a malformed hstore"),                       \
     hvi_error_detail((r)->error, "At byte offset %zu of %zu: " format ".", (r)->at, (r)->len, \
                      __VA_ARGS__),                                                            \
     HV_CORRUPT)

static hv_status read_length(reader *r, const char *what, uint32_t *length) {
    uint32_t wire;
    if (r->len - r->at < sizeof wire)
        return fail_decode(r, "the %s is cut off", what);
    memcpy(&wire, r->data + r->at, sizeof wire);
    *length = be32toh(wire);
    r->at += sizeof wire;
    return HV_OK;
}

static hv_status read_text(reader *r, const char *what, uint32_t len, const char **text) {
    if (len > r->len - r->at)
        return fail_decode(r, "a %s of %u bytes, but only %zu bytes are left", what, (unsigned) len,
                           r->len - r->at);
    if (len > HVI_DICT_MAX_LEN)
        return fail_decode(r, "a %s of %u bytes, but hstore's limit is %zu", what, (unsigned) len,
                           HVI_DICT_MAX_LEN);
    *text = r->data + r->at;
    size_t good = hvi_utf8_prefix(*text, len);
    if (good < len) {
        r->at += good;
        return fail_decode(r, "a %s with \"%s\", which is not text in UTF-8", what,
                           hvi_utf8_excerpt(*text + good, len - good).text);
    }
    r->at += len;
    return HV_OK;
}

static hv_status decode_pair(reader *r, hv_dict *dict) {
    uint32_t key_len, value_len;
    const char *key, *value = NULL;
    hv_status status = read_length(r, "length of a key", &key_len);
    if (status == HV_OK)
        status = read_text(r, "key", key_len, &key);
    if (status == HV_OK)
        status = read_length(r, "length of a value", &value_len);
    if (status == HV_OK && value_len != NULL_LEN)
        status = read_text(r, "value", value_len, &value);
    if (status != HV_OK)
        return status;
    status = hvi_dict_append(dict, key, key_len, value, value_len);
    if (status == HV_INVALID)
        return fail_decode(r, "the key \"%s\" comes twice", hvi_utf8_excerpt(key, key_len).text);
    return status == HV_OK ? HV_OK : hvi_no_memory(r->error);
}

hv_status hvi_hstore_decode(const void *data, size_t len, hv_dict **dict, hv_error **error) {
    reader r = {.data = data, .len = len, .error = error};
    uint32_t count;
    hv_status status = read_length(&r, "number of attributes", &count);
    if (status != HV_OK)
        return status;
    /* A pair takes at least eight bytes, so a count that is too high is found before memory is
     * allocated for it. */
    if (count > (len - r.at) / 8 || count > HVI_DICT_MAX_COUNT)
        return fail_decode(&r, "%u attributes cannot be in the %zu bytes left", (unsigned) count,
                           len - r.at);

    /* For each pair, the dict omits eight bytes of lengths and adds two NUL bytes, so it never has
     * more text than was read. */
    hv_dict *made = hvi_dict_new(count, len - r.at);
    if (made == NULL)
        return hvi_no_memory(error);
    for (uint32_t i = 0; status == HV_OK && i < count; i++)
        status = decode_pair(&r, made);
    if (status == HV_OK && r.at < len)
        status = fail_decode(&r, "%zu bytes are left over", len - r.at);
    if (status != HV_OK) {
        hv_dict_free(made);
        return status;
    }
    *dict = made;
    return HV_OK;
}
