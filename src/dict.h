/*
 * dict: a dict of attributes in memory; the public hv_dict_* functions but for the text form.
 *
 * All bytes lie in one buffer, keys and values each followed by a NUL byte; an item says where.
 * From HVI_DICT_INDEXED items on, a hash table finds them; below, walking is faster. Bytes of
 * replaced values stay in the buffer until more than half of it is waste, then it is packed.
 */
#ifndef HVI_DICT_H
#define HVI_DICT_H

#include "buffer.h"

#define HVI_DICT_INDEXED 16

/* What hstore can hold (HSTORE_MAX_KEY_LEN and HSTORE_MAX_VALUE_LEN in contrib/hstore). */
#define HVI_DICT_MAX_LEN ((size_t) 0x3FFFFFFF)

typedef struct hvi_attribute {
    size_t key; /* offsets into bytes */
    size_t value;
    uint32_t key_len;
    uint32_t value_len;
    bool is_null;
} hvi_attribute;

struct hv_dict {
    hvi_buffer bytes;
    hvi_attribute *items;
    size_t count;
    size_t cap;
    uint32_t *slots;   /* item number + 1, 0 is free; NULL below HVI_DICT_INDEXED items */
    size_t slot_count; /* a power of two */
    size_t waste;      /* bytes of the buffer that no item refers to */
};

/* Set an attribute whose bytes are known to be valid text of allowed length. `value` NULL is NULL.
 * Replaces an earlier value. False if memory is short: the dict is then as it was. */
bool hvi_dict_set(hv_dict *dict, const char *key, size_t key_len, const char *value,
                  size_t value_len);

#endif
