/*
 * get: fetch one entity; and the public functions on an entity.
 */
#include "entity/get.h"

#include <stdlib.h>

#include "entity/group.h"

struct hv_entity {
    int64_t key;
    int kind;
    hv_dict *dict; /* owned */
};

void hv_entity_free(hv_entity *entity) {
    if (entity == NULL)
        return;
    hv_dict_free(entity->dict);
    free(entity);
}

int64_t hv_entity_key(const hv_entity *entity) {
    return entity->key;
}

int hv_entity_kind(const hv_entity *entity) {
    return entity->kind;
}

const hv_dict *hv_entity_dict(const hv_entity *entity) {
    return entity->dict;
}

hv_status hvi_get_take(const hvi_operation *op, hv_entity **entity, hv_error **error) {
    const PGresult *result = op->item.result;
    int row = op->item.row;
    if (PQgetisnull(result, row, 1) || PQgetisnull(result, row, 2))
        return hvi_target_fail_null(&op->target, op->item.key, PQgetisnull(result, row, 1), error);
    hv_entity *made = malloc(sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    *made = (hv_entity){.key = op->item.key, .kind = (int) hvi_integer_at(result, row, 1)};
    hv_status status = hvi_body_at(result, row, 2, &made->dict, error);
    if (status != HV_OK) {
        hvi_error_where(error, op->target.server->name, op->target.shard);
        hv_entity_free(made);
        return status;
    }
    *entity = made;
    return HV_OK;
}

/* A row with a key that was not asked for belongs to another statement's answer. A key that comes
 * twice takes the place of another: the answer is limited to as many rows as there are keys. */
bool hvi_get_read(hvi_item *const *items, size_t count, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t key = hvi_integer_at(result, row, 0);
        size_t at = hvi_items_find(items, count, key);
        if (at == count || items[at]->key != key || items[at]->answered)
            return false;
        for (; at < count && items[at]->key == key; at++) {
            items[at]->answered = true;
            items[at]->result = result;
            items[at]->row = row;
        }
    }
    return true;
}

hvi_next hvi_get_answered(hvi_operation *op) {
    if (!op->item.answered)
        return hvi_operation_done(op, HV_NOT_FOUND);
    return hvi_operation_done(op, hvi_get_take(op, &op->entity, &op->error));
}
