/*
 * get: fetch one entity; and what an entity is.
 */
#include "entity/get.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/result.h"

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

hv_status hvi_get_take(const PGresult *result, int row, const hvi_operation *operation,
                       hv_entity **entity, hv_error **error) {
    if (PQgetisnull(result, row, 1) || PQgetisnull(result, row, 2))
        return hvi_operation_fail_null(operation, hvi_integer_at(result, row, 0),
                                       PQgetisnull(result, row, 1), error);
    hv_entity *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->key = hvi_integer_at(result, row, 0);
    made->kind = (int) hvi_integer_at(result, row, 1);
    hv_status status = hvi_body_at(result, row, 2, &made->dict, error);
    if (status != HV_OK) {
        hvi_error_where(error, operation->server->name, operation->shard);
        hv_entity_free(made);
        return status;
    }
    *entity = made;
    return HV_OK;
}

/* With the plain statement, on a connection of its own. */
static hv_status get_alone(hvi_operation *operation, int64_t key, int64_t deadline,
                           hv_entity **entity, hv_error **error) {
    char key_text[32];
    uint64_t key_wire = htobe64((uint64_t) key);
    if (operation->wants_parameters)
        snprintf(key_text, sizeof key_text, "%" PRId64, key);
    const char *log_values[] = {key_text};
    const char *values[] = {(const char *) &key_wire};
    const int lengths[] = {sizeof key_wire};
    const int formats[] = {1};
    hvi_query query = {
        .parameter_count = 1,
        .values = values,
        .lengths = lengths,
        .formats = formats,
        .binary_result = true,
        .log_values = operation->wants_parameters ? log_values : NULL,
    };
    PGresult *result = NULL;
    hv_status status =
        hvi_operation_run(operation, HVI_STATEMENT_GET, &query, deadline, &result, error);
    const hvi_form *form = hvi_answer_form(HVI_STATEMENT_GET);
    const char *server = operation->server->name;
    if (status == HV_OK)
        status = hvi_result_check(result, form, server, operation->shard, error);
    if (status == HV_OK && PQntuples(result) == 0)
        status = HV_NOT_FOUND;
    if (status == HV_OK && hvi_integer_at(result, 0, 0) != key)
        status = hvi_fail_answer(server, operation->shard, form->asked, error, "sent another");
    if (status == HV_OK)
        status = hvi_get_take(result, 0, operation, entity, error);
    PQclear(result);
    return status;
}

hv_status hvi_get(hvi_router *router, int64_t key, int64_t deadline, hv_entity **entity,
                  hv_error **error) {
    hvi_operation operation;
    hv_status status = hvi_operation_init_key(&operation, router, key, error);
    if (status != HV_OK)
        return status;

    hvi_lane_request request = {.item = {.verb = HVI_GET, .shard = operation.shard, .key = key},
                                .deadline = deadline};
    hvi_lane_answer answer;
    switch (hvi_operation_share(&operation, &request, &answer, error)) {
    case HVI_LANE_DONE:
        status = answer.status;
        if (status == HV_OK)
            status = hvi_get_take(answer.result, answer.row, &operation, entity, error);
        hvi_lane_answer_fini(&answer);
        return status;
    case HVI_LANE_ALONE:
        status = get_alone(&operation, key, deadline, entity, error);
        hvi_lane_leave(operation.server->lanes, &answer);
        return status;
    default:
        return get_alone(&operation, key, deadline, entity, error);
    }
}
