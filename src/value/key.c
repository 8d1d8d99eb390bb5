/*
 * key: pack and unpack the 64-bit key.
 *
 * Holds always: a key that hvi_key_pack() made is positive, and hvi_key_unpack() returns the fields
 * that it was made from.
 */
#include "value/key.h"

bool hvi_key_unpack(int64_t key, hvi_key_fields *fields) {
    if (key <= 0)
        return false;
    fields->time = key >> HVI_KEY_TIME_SHIFT;
    fields->shard = (int) (key >> HVI_KEY_ADDED_BITS) & HVI_KEY_MAX_SHARD;
    fields->added_id = (int) key & HVI_KEY_MAX_ADDED;
    return true;
}

bool hvi_key_pack(const hvi_key_fields *fields, int64_t *key) {
    if (fields->time < 0 || fields->time > HVI_KEY_MAX_TIME || fields->shard < 0 ||
        fields->shard > HVI_KEY_MAX_SHARD || fields->added_id < 0 ||
        fields->added_id > HVI_KEY_MAX_ADDED)
        return false;
    int64_t packed = fields->time << HVI_KEY_TIME_SHIFT |
                     (int64_t) fields->shard << HVI_KEY_ADDED_BITS | fields->added_id;
    if (packed == 0)
        return false;
    *key = packed;
    return true;
}

bool hvi_key_bound(int64_t time, int64_t *bound) {
    if (time > HVI_KEY_MAX_TIME)
        return false;
    *bound = time > 0 ? time << HVI_KEY_TIME_SHIFT : 0;
    return true;
}
