/*
 * dict: a dict of attributes in memory.
 *
 * Holds always: keys are distinct; every key and value is valid UTF-8 without NUL bytes, of a
 * length that hstore allows; a change that fails leaves the dict as it was.
 *
 * The bytes of a replaced value remain as waste until the bytes need more room: they are compacted
 * when they move. Pointers that the caller got from the dict may be passed back to hv_dict_set():
 * memory is released only after they were read.
 */
#include "value/dict.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"

/* Room that a dict of unknown size starts with. */
#define FIRST_ITEMS 8
#define FIRST_BYTES 192

/* Is this array inside the dict's own block? */
static bool is_inside(const hv_dict *dict, const void *array) {
    return (uintptr_t) array - (uintptr_t) dict < dict->block_size;
}

static void free_array(const hv_dict *dict, void *array) {
    if (!is_inside(dict, array))
        free(array);
}

hv_dict *hvi_dict_new(size_t items, size_t bytes) {
    if (items > HVI_DICT_MAX_COUNT || bytes > SIZE_MAX / 2)
        return NULL;
    size_t items_at = sizeof(hv_dict);
    size_t bytes_at = items_at + items * sizeof(hvi_attribute);
    /* One byte more than needed, so that even an array without room lies inside the block. */
    size_t block_size;
    if (__builtin_add_overflow(bytes_at, bytes + 1, &block_size))
        return NULL;

    char *block = malloc(block_size);
    if (block == NULL)
        return NULL;
    hv_dict *dict = (hv_dict *) (void *) block;
    *dict = (hv_dict){
        .items = (hvi_attribute *) (void *) (block + items_at),
        .item_room = items,
        .ordered = true,
        .bytes = block + bytes_at,
        .byte_room = bytes,
        .block_size = block_size,
    };
    return dict;
}

hv_dict *hv_dict_new(void) {
    return hvi_dict_new(FIRST_ITEMS, FIRST_BYTES);
}

void hv_dict_free(hv_dict *dict) {
    if (dict == NULL)
        return;
    free_array(dict, dict->items);
    free_array(dict, dict->bytes);
    free(dict->slots);
    free(dict);
}

/* ---- Finding --------------------------------------------------------------------------------- */

static bool has_key(const hv_dict *dict, const hvi_attribute *item, const char *key,
                    size_t key_len) {
    return item->key_len == key_len && memcmp(dict->bytes + item->key, key, key_len) == 0;
}

/* The slot of this key, or the free one where it belongs. */
static size_t find_slot(const hv_dict *dict, const char *key, size_t key_len) {
    size_t slot = (size_t) hvi_hash(key, key_len) & (dict->slot_count - 1);
    while (dict->slots[slot] != 0 &&
           !has_key(dict, &dict->items[dict->slots[slot] - 1], key, key_len))
        slot = (slot + 1) & (dict->slot_count - 1);
    return slot;
}

static hvi_attribute *search_ordered(const hv_dict *dict, const char *key, size_t key_len) {
    size_t low = 0, high = dict->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        hvi_attribute *item = &dict->items[middle];
        int order = hvi_dict_compare(key, key_len, dict->bytes + item->key, item->key_len);
        if (order == 0)
            return item;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static hvi_attribute *find(const hv_dict *dict, const char *key, size_t key_len) {
    if (dict->ordered)
        return search_ordered(dict, key, key_len);
    if (dict->slots != NULL) {
        uint32_t number = dict->slots[find_slot(dict, key, key_len)];
        return number != 0 ? &dict->items[number - 1] : NULL;
    }
    for (size_t i = 0; i < dict->count; i++)
        if (has_key(dict, &dict->items[i], key, key_len))
            return &dict->items[i];
    return NULL;
}

/* Are the items in order, and will they still be with this key at the end? */
static bool stays_ordered(const hv_dict *dict, const char *key, size_t key_len) {
    if (!dict->ordered || dict->count == 0)
        return dict->ordered;
    const hvi_attribute *last = &dict->items[dict->count - 1];
    return hvi_dict_compare(dict->bytes + last->key, last->key_len, key, key_len) < 0;
}

/* ---- Room ------------------------------------------------------------------------------------ */

/* Make sure that there are slots for one more item, if there are many items. */
static bool grow_slots(hv_dict *dict) {
    if (dict->count + 1 < HVI_DICT_INDEXED || 2 * (dict->count + 1) <= dict->slot_count)
        return true;
    size_t slot_count = 2 * HVI_DICT_INDEXED;
    while (slot_count < 2 * (dict->count + 1))
        slot_count *= 2;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return false;
    free(dict->slots);
    dict->slots = slots;
    dict->slot_count = slot_count;
    for (size_t i = 0; i < dict->count; i++) {
        const hvi_attribute *item = &dict->items[i];
        slots[find_slot(dict, dict->bytes + item->key, item->key_len)] = (uint32_t) i + 1;
    }
    return true;
}

/* Make room for one more item. */
static bool grow_items(hv_dict *dict) {
    if (dict->count < dict->item_room)
        return true;
    size_t item_room = dict->item_room < FIRST_ITEMS ? FIRST_ITEMS : dict->item_room * 2;
    size_t size;
    if (__builtin_mul_overflow(item_room, sizeof(hvi_attribute), &size))
        return false;
    hvi_attribute *items = malloc(size);
    if (items == NULL)
        return false;
    memcpy(items, dict->items, dict->count * sizeof *items);
    free_array(dict, dict->items);
    dict->items = items;
    dict->item_room = item_room;
    return true;
}

/* Copy one text with its NUL byte to `to` + *len; returns its new offset. */
static size_t move_text(const hv_dict *dict, size_t offset, uint32_t text_len, char *to,
                        size_t *len) {
    size_t moved = *len;
    memcpy(to + moved, dict->bytes + offset, (size_t) text_len + 1);
    *len += (size_t) text_len + 1;
    return moved;
}

/* Make room for `more` bytes, dropping the waste. *old is set to the bytes as they were before, or
 * to NULL if they did not move; the caller frees them when they are no longer read. */
static bool grow_bytes(hv_dict *dict, size_t more, char **old) {
    *old = NULL;
    if (more <= dict->byte_room - dict->len)
        return true;
    size_t used = dict->len - dict->waste;
    if (more > SIZE_MAX / 4 || used > SIZE_MAX / 4)
        return false;
    size_t byte_room = (used + more) * 3 / 2;
    if (byte_room < FIRST_BYTES)
        byte_room = FIRST_BYTES;
    char *bytes = malloc(byte_room);
    if (bytes == NULL)
        return false;

    if (dict->waste == 0) {
        memcpy(bytes, dict->bytes, dict->len);
    } else {
        size_t len = 0;
        for (size_t i = 0; i < dict->count; i++) {
            hvi_attribute *item = &dict->items[i];
            item->key = move_text(dict, item->key, item->key_len, bytes, &len);
            if (!item->is_null)
                item->value = move_text(dict, item->value, item->value_len, bytes, &len);
        }
        dict->len = len;
        dict->waste = 0;
    }
    *old = dict->bytes;
    dict->bytes = bytes;
    dict->byte_room = byte_room;
    return true;
}

/* ---- Changing -------------------------------------------------------------------------------- */

/* Append a text and its NUL byte, for which there is room; returns its offset. */
static size_t append_text(hv_dict *dict, const char *text, size_t len) {
    size_t offset = dict->len;
    if (len > 0)
        memcpy(dict->bytes + offset, text, len);
    dict->bytes[offset + len] = '\0';
    dict->len += len + 1;
    return offset;
}

static void append_value(hv_dict *dict, hvi_attribute *item, const char *value, size_t value_len) {
    item->is_null = value == NULL;
    item->value_len = item->is_null ? 0 : (uint32_t) value_len;
    item->value = item->is_null ? 0 : append_text(dict, value, value_len);
}

/* Append an attribute that is not there, for which there is room. False if memory is short. */
static bool append(hv_dict *dict, const char *key, size_t key_len, const char *value,
                   size_t value_len) {
    if (!stays_ordered(dict, key, key_len)) {
        if (!grow_slots(dict))
            return false;
        dict->ordered = false;
    }
    /* The slot first: find_slot() must not find the new item. */
    if (dict->slots != NULL)
        dict->slots[find_slot(dict, key, key_len)] = (uint32_t) dict->count + 1;
    hvi_attribute *item = &dict->items[dict->count++];
    item->key = append_text(dict, key, key_len);
    item->key_len = (uint32_t) key_len;
    append_value(dict, item, value, value_len);
    return true;
}

static void replace(hv_dict *dict, hvi_attribute *item, const char *value, size_t value_len) {
    if (!item->is_null)
        dict->waste += (size_t) item->value_len + 1;
    append_value(dict, item, value, value_len);
}

hv_status hvi_dict_append(hv_dict *dict, const char *key, size_t key_len, const char *value,
                          size_t value_len) {
    if (!stays_ordered(dict, key, key_len) && find(dict, key, key_len) != NULL)
        return HV_INVALID;
    return append(dict, key, key_len, value, value_len) ? HV_OK : HV_NO_MEMORY;
}

static bool set(hv_dict *dict, const char *key, size_t key_len, const char *value,
                size_t value_len) {
    hvi_attribute *item = find(dict, key, key_len);
    size_t more = (item == NULL ? key_len + 1 : 0) + (value != NULL ? value_len + 1 : 0);
    char *old;
    if ((item == NULL && !grow_items(dict)) || !grow_bytes(dict, more, &old))
        return false;
    bool done = true;
    if (item == NULL)
        done = append(dict, key, key_len, value, value_len);
    else
        replace(dict, item, value, value_len);
    free_array(dict, old);
    return done;
}

/* ---- The public functions -------------------------------------------------------------------- */

/* HV_INVALID unless the text is one that hstore takes. `what` is "key" or "value". */
static hv_status check_text(const char *what, const char *text, size_t len, const char *key,
                            size_t key_len, hv_error **error) {
    if (len > HVI_DICT_MAX_LEN) {
        hvi_fail(error, HV_INVALID, "%s of attribute \"%s\" is too long", what,
                 hvi_utf8_excerpt(key, key_len).text);
        hvi_error_detail(error, "It has %zu bytes, hstore takes up to %zu.", len, HVI_DICT_MAX_LEN);
        return HV_INVALID;
    }
    size_t good = hvi_utf8_prefix(text, len);
    if (good == len)
        return HV_OK;
    if (text[good] == '\0') {
        hvi_fail(error, HV_INVALID, "%s of attribute \"%s\" contains a NUL byte", what,
                 hvi_utf8_excerpt(key, key_len).text);
        hvi_error_detail(error,
                         "The byte at offset %zu of %zu is NUL, which PostgreSQL's text "
                         "cannot hold.",
                         good, len);
    } else {
        hvi_fail(error, HV_INVALID, "%s of attribute \"%s\" is not valid UTF-8", what,
                 hvi_utf8_excerpt(key, key_len).text);
        hvi_error_detail(error, "The bytes at offset %zu of %zu, \"%s\", are not a character.",
                         good, len, hvi_utf8_excerpt(text + good, len - good).text);
    }
    hvi_error_hint(error, "Attributes are text in UTF-8. Convert other encodings, and write bytes "
                          "that are not text in hexadecimal or base64.");
    return HV_INVALID;
}

/* Resolve HV_STRLEN and NULL, which is allowed with the length 0. False for any other NULL. */
static bool read_argument(const char **text, size_t *len) {
    if (*text == NULL) {
        *text = "";
        return *len == 0;
    }
    if (*len == HV_STRLEN)
        *len = strlen(*text);
    return true;
}

hv_status hv_dict_set_bytes(hv_dict *dict, const char *key, size_t key_len, const char *value,
                            size_t value_len, hv_error **error) {
    if (!read_argument(&key, &key_len))
        return hvi_fail(error, HV_INVALID, "the key of an attribute is a NULL pointer");
    if (value != NULL)
        read_argument(&value, &value_len);

    hv_status status = check_text("key", key, key_len, key, key_len, error);
    if (status == HV_OK && value != NULL)
        status = check_text("value", value, value_len, key, key_len, error);
    if (status != HV_OK)
        return status;
    if (dict->count == HVI_DICT_MAX_COUNT && find(dict, key, key_len) == NULL)
        return hvi_fail(error, HV_INVALID, "too many attributes: hstore takes up to %zu",
                        HVI_DICT_MAX_COUNT);
    return set(dict, key, key_len, value, value_len) ? HV_OK : hvi_no_memory(error);
}

hv_status hv_dict_set(hv_dict *dict, const char *key, const char *value, hv_error **error) {
    return hv_dict_set_bytes(dict, key, HV_STRLEN, value, HV_STRLEN, error);
}

hv_status hvi_dict_of_names(const char *const *names, hv_dict **dict, hv_error **error) {
    hv_dict *made = hv_dict_new();
    hv_status status = made != NULL ? HV_OK : hvi_no_memory(error);
    for (size_t i = 0; status == HV_OK && names != NULL && names[i] != NULL; i++)
        status = hv_dict_set(made, names[i], NULL, error);
    if (status == HV_OK)
        *dict = made;
    else
        hv_dict_free(made);
    return status;
}

size_t hv_dict_count(const hv_dict *dict) {
    return dict->count;
}

bool hv_dict_get(const hv_dict *dict, const char *key, size_t key_len, const char **value,
                 size_t *value_len) {
    const hvi_attribute *item = read_argument(&key, &key_len) ? find(dict, key, key_len) : NULL;
    return item != NULL &&
           hv_dict_at(dict, (size_t) (item - dict->items), NULL, NULL, value, value_len);
}

bool hv_dict_at(const hv_dict *dict, size_t index, const char **key, size_t *key_len,
                const char **value, size_t *value_len) {
    if (index >= dict->count)
        return false;
    const hvi_attribute *item = &dict->items[index];
    if (key != NULL)
        *key = dict->bytes + item->key;
    if (key_len != NULL)
        *key_len = item->key_len;
    if (value != NULL)
        *value = item->is_null ? NULL : dict->bytes + item->value;
    if (value_len != NULL)
        *value_len = item->value_len;
    return true;
}

bool hv_dict_equal(const hv_dict *left, const hv_dict *right) {
    if (left->count != right->count)
        return false;
    for (size_t i = 0; i < left->count; i++) {
        const hvi_attribute *mine = &left->items[i];
        const hvi_attribute *other = find(right, left->bytes + mine->key, mine->key_len);
        if (other == NULL || mine->is_null != other->is_null || mine->value_len != other->value_len)
            return false;
        if (!mine->is_null &&
            memcmp(left->bytes + mine->value, right->bytes + other->value, mine->value_len) != 0)
            return false;
    }
    return true;
}
