/*
 * exists: is there an entity under a key?
 */
#include "entity/exists.h"

#include "entity/group.h"

/* The answer has the keys that have an entity. */
bool hvi_exists_read(hvi_item *const *items, size_t count, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t key = hvi_integer_at(result, row, 0);
        size_t at = hvi_items_find(items, count, key);
        if (at == count || items[at]->key != key)
            return false;
        for (; at < count && items[at]->key == key; at++)
            items[at]->answered = true;
    }
    return true;
}

hvi_next hvi_exists_answered(hvi_operation *op) {
    return hvi_operation_done(op, op->item.answered ? HV_OK : HV_NOT_FOUND);
}
