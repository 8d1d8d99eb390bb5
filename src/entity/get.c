/*
 * get: fetch one entity; and the public functions on an entity.
 */
#include "entity/get.h"

#include <stdlib.h>

#include "value/version.h"
#include "entity/group.h"

struct hv_entity {
    int64_t key;
    int kind;
    bool is_versioned;
    hv_dict *dict;  /* owned */
    char version[]; /* if it has one */
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

const char *hv_entity_version(const hv_entity *entity) {
    return entity->is_versioned ? entity->version : NULL;
}

/* A number in network byte order. */
static uint32_t number_at(const char *bytes, size_t len) {
    uint32_t number = 0;
    for (size_t i = 0; i < len; i++)
        number = number << 8 | (unsigned char) bytes[i];
    return number;
}

/* xmin (xidsend) and ctid (tidsend), if they are there: the block's number and the row's in it. */
#define XMIN_COLUMN 3
#define CTID_COLUMN 4
#define XID_LEN     4
#define BLOCK_LEN   4
#define TID_LEN     (BLOCK_LEN + 2)

static bool read_version(const PGresult *result, int row, hvi_version *version) {
    const char *tid = PQgetvalue(result, row, CTID_COLUMN);
    if (PQgetlength(result, row, XMIN_COLUMN) != XID_LEN ||
        PQgetlength(result, row, CTID_COLUMN) != TID_LEN)
        return false;
    version->xmin = number_at(PQgetvalue(result, row, XMIN_COLUMN), XID_LEN);
    version->block = number_at(tid, BLOCK_LEN);
    version->offset = (uint16_t) number_at(tid + BLOCK_LEN, TID_LEN - BLOCK_LEN);
    return true;
}

/* All but its dict. */
static hv_status take_row(const hvi_operation *op, hv_entity **entity, hv_error **error) {
    const PGresult *result = op->item.result;
    int row = op->item.row;
    const char *server = op->target.server->name;
    if (PQgetisnull(result, row, 1))
        return hvi_target_fail_null(&op->target, op->item.key, true, error);
    bool is_versioned = PQnfields(result) > XMIN_COLUMN;
    hvi_version version = {.key = op->item.key};
    if (is_versioned && !read_version(result, row, &version))
        return hvi_fail_answer(server, op->target.shard, "an entity", error,
                               "sent no version of it");
    hv_entity *made = malloc(sizeof *made + (is_versioned ? HVI_VERSION_LEN : 0));
    if (made == NULL)
        return hvi_no_memory(error);
    made->key = op->item.key;
    made->kind = (int) hvi_integer_at(result, row, 1);
    made->is_versioned = is_versioned;
    made->dict = NULL;
    if (is_versioned)
        hvi_version_print(&version, made->version);
    *entity = made;
    return HV_OK;
}

hv_status hvi_get_take(const hvi_operation *op, hv_entity **entity, hv_error **error) {
    hv_entity *made = NULL;
    if (PQgetisnull(op->item.result, op->item.row, 2) &&
        !PQgetisnull(op->item.result, op->item.row, 1))
        return hvi_target_fail_null(&op->target, op->item.key, false, error);
    hv_status status = take_row(op, &made, error);
    if (status == HV_OK)
        status = hvi_body_at(op->item.result, op->item.row, 2, &made->dict, error);
    if (status != HV_OK) {
        hvi_error_where(error, op->target.server->name, op->target.shard);
        hv_entity_free(made);
        return status;
    }
    *entity = made;
    return HV_OK;
}

hv_status hvi_get_take_attribute(const hvi_operation *op, const char *name, size_t name_len,
                                 const char *value, hv_entity **entity, hv_error **error) {
    hv_entity *made = NULL;
    hv_status status = take_row(op, &made, error);
    if (status == HV_OK)
        status = (made->dict = hv_dict_new()) != NULL ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK)
        status = hv_dict_set_bytes(made->dict, name, name_len, value, HV_STRLEN, error);
    if (status != HV_OK) {
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

/* Several items may read other attributes of one entity: an answer has the item's number, from 1.
 */
bool hvi_get_only_read_many(hvi_item *const *items, size_t count, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t number = hvi_integer_at(result, row, 0);
        if (number < 1 || (uint64_t) number > count || items[number - 1]->answered)
            return false;
        items[number - 1]->answered = true;
        items[number - 1]->result = result;
        items[number - 1]->row = row;
    }
    return true;
}

hv_status hvi_get_only_init(hvi_operation *op, hvi_router *router, int64_t key,
                            const char *const *names, hv_error **error) {
    hv_dict *dict = NULL;
    const hvi_verb *verb = names == NULL ? &hvi_get_versioned : &hvi_get_only;
    hv_status status = hvi_operation_init_key(op, verb, router, key, error);
    if (status != HV_OK || names == NULL)
        return status;
    status = hvi_dict_of_names(names, &dict, error);
    if (status == HV_OK)
        status = hvi_operation_add_part(op, dict, error);
    hv_dict_free(dict);
    return status;
}

hvi_next hvi_get_answered(hvi_operation *op) {
    if (!op->item.answered)
        return hvi_operation_done(op, HV_NOT_FOUND);
    return hvi_operation_done(op, hvi_get_take(op, &op->entity, &op->error));
}
