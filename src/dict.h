/*
 * dict: a dict of attributes in memory; the public hv_dict_* functions but for the text form.
 *
 * All text lies in one run of bytes, keys and values each followed by a NUL byte; an item says
 * where. From HVI_DICT_INDEXED items on, a hash table finds them; below, walking is faster.
 *
 * A dict is made in one block of memory with room for what its maker foresees (so a small one, or
 * one that was decoded, is a single allocation). An array that outgrows its room moves to memory of
 * its own.
 */
#ifndef HVI_DICT_H
#define HVI_DICT_H

#include "error.h"

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
    char *bytes;
    size_t len;   /* bytes used */
    size_t waste; /* of these, what no item refers to: replaced values */
    size_t byte_room;
    uint32_t *slots;   /* item number + 1, 0 is free; NULL below HVI_DICT_INDEXED items */
    size_t slot_count; /* a power of two, at least twice the items; 0 without slots */
    size_t block_size; /* of the dict's own block: arrays inside it are not freed by themselves */
};

/* An empty dict with room for `items` attributes with `bytes` bytes of text, NUL bytes included.
 * NULL if memory is short. */
hv_dict *hvi_dict_new(size_t items, size_t bytes);

/* Append an attribute for which there is room, which is not yet in the dict, and whose bytes are
 * known to be valid text of allowed length. `value` NULL is NULL. */
void hvi_dict_append(hv_dict *dict, const char *key, size_t key_len, const char *value,
                     size_t value_len);

/* The attribute with this key, or NULL. */
const hvi_attribute *hvi_dict_find(const hv_dict *dict, const char *key, size_t key_len);

#endif
