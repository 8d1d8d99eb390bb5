/*
 * dict: a dict of attributes in memory; the public hv_dict_* functions except those for the text
 * and binary forms.
 *
 * All text lies in one array of bytes, keys and values each followed by a NUL byte; items hold
 * offsets into it. As long as items are added in hstore's order, as the server sends them, they are
 * found by binary search. Otherwise, from HVI_DICT_INDEXED items on, by a hash table; below that,
 * by linear search.
 *
 * A dict is allocated as one block with room for an expected number of items and bytes, so a small
 * one, or one that was decoded, is a single allocation. An array that outgrows its room moves to
 * memory of its own.
 */
#ifndef HVI_DICT_H
#define HVI_DICT_H

#include <string.h>

#include "base/error.h"

#define HVI_DICT_INDEXED 16

/* What hstore can hold: HSTORE_MAX_KEY_LEN and HSTORE_MAX_VALUE_LEN in contrib/hstore, and the
 * number of pairs that its hstore_recv() takes on a 64-bit machine. */
#define HVI_DICT_MAX_LEN   ((size_t) 0x3FFFFFFF)
#define HVI_DICT_MAX_COUNT ((size_t) 0x3FFFFFFF / 40)

typedef struct hvi_attribute {
    size_t key; /* offsets into the dict's bytes */
    size_t value;
    uint32_t key_len;
    uint32_t value_len; /* 0 for NULL */
    bool is_null;
} hvi_attribute;

struct hv_dict {
    hvi_attribute *items;
    size_t count;
    size_t item_room;
    bool ordered; /* items are in hstore's order; then there are no slots */
    char *bytes;
    size_t len;   /* bytes used */
    size_t waste; /* those of them that no item refers to: replaced values */
    size_t byte_room;
    uint32_t *slots;   /* item number + 1, 0 is free; or NULL */
    size_t slot_count; /* a power of two, at least twice the items; 0 without slots */
    size_t block_size; /* of the dict's own block; arrays inside it are not freed separately */
};

/* Hstore's order: short keys first, keys of one length by their bytes. */
static inline int hvi_dict_compare(const char *a, size_t a_len, const char *b, size_t b_len) {
    if (a_len != b_len)
        return a_len < b_len ? -1 : 1;
    return memcmp(a, b, a_len);
}

/* An empty dict with room for `items` attributes with `bytes` bytes of text, NUL bytes included.
 * NULL if memory is short. */
hv_dict *hvi_dict_new(size_t items, size_t bytes);

/* A dict of these names, a NULL-terminated array, with NULL as the values; `names` NULL: an empty
 * one. Errors: as hv_dict_set(). */
hv_status hvi_dict_of_names(const char *const *names, hv_dict **dict, hv_error **error);

/* Append an attribute whose bytes are known to be valid text of an allowed length, and for which
 * hvi_dict_new() made room. `value` NULL sets NULL. HV_NO_MEMORY, or HV_INVALID if the key is there
 * already; neither makes an error object. */
hv_status hvi_dict_append(hv_dict *dict, const char *key, size_t key_len, const char *value,
                          size_t value_len);

#endif
