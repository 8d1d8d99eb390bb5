/*
 * entities: the public functions on entities: one operation, one in a queue, many.
 */
#include "entity/change.h"
#include "entity/get.h"
#include "entity/lane.h"
#include "entity/locate.h"
#include "entity/put.h"
#include "entity/reserve.h"
#include "store/many.h"

/* The reserved keys for puts under new keys; NULL: puts need not happen exactly once. */
static hvi_key_cache *reserved_of(hv_store *store) {
    return store->router.options->values[HVI_EXACTLY_ONCE] != 0 ? &store->reserved : NULL;
}

/* Run an operation that was set up with `status` until it is done, and leave the store. If it has
 * an entity as a result, that goes to *entity. */
static hv_status run(const hvi_visit *visit, hvi_operation *operation, hv_status status,
                     hv_entity **entity, hv_error **error) {
    if (status == HV_OK)
        status = hvi_target_settle(&operation->target, operation->verb->is_write, error);
    if (status == HV_OK) {
        operation->deadline = hvi_router_operation_deadline(&visit->store->router);
        hvi_lanes_run(operation);
        status = operation->status;
        if (operation->error != NULL)
            hvi_error_move(error, &operation->error);
    }
    if (operation->entity != NULL && entity != NULL) {
        *entity = operation->entity;
        operation->entity = NULL;
    }
    hvi_operation_fini(operation);
    return hvi_store_leave(visit, status);
}

/* ---- one ---- */

hv_status hv_put(hv_store *store, int shard, int kind, const hv_dict *dict, int64_t *key,
                 hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_put_init(&op, &store->router, reserved_of(store), shard, kind, dict, error);
    status = run(&visit, &op, status, NULL, error);
    if (status == HV_OK)
        *key = op.key;
    return status;
}

hv_status hv_put_key(hv_store *store, int64_t key, int kind, const hv_dict *dict,
                     hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_put_key_init(&op, &store->router, key, kind, dict, error);
    return run(&visit, &op, status, NULL, error);
}

/* An operation that needs only a key. */
static hv_status run_key(hv_store *store, const hvi_verb *verb, int64_t key, hv_entity **entity,
                         hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_operation_init_key(&op, verb, &store->router, key, error);
    return run(&visit, &op, status, entity, error);
}

hv_status hv_get(hv_store *store, int64_t key, hv_entity **entity, hv_error **error) {
    return run_key(store, &hvi_get, key, entity, error);
}

hv_status hv_get_only(hv_store *store, int64_t key, const char *const *names, hv_entity **entity,
                      hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_get_only_init(&op, &store->router, key, names, error);
    return run(&visit, &op, status, entity, error);
}

hv_status hv_exists(hv_store *store, int64_t key, hv_error **error) {
    return run_key(store, &hvi_exists, key, NULL, error);
}

hv_status hv_reserve(hv_store *store, int shard, int count, int64_t *keys, hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_reserve_init(&op, &store->router, shard, count, keys, error);
    return run(&visit, &op, status, NULL, error);
}

hv_status hv_where(hv_store *store, int shard, int *server, hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_where_init(&op, &store->router, shard, error);
    status = run(&visit, &op, status, NULL, error);
    if (status == HV_OK)
        *server = op.target.server->number;
    return status;
}

/* ---- one change ---- */

static bool persists(const hv_store *store) {
    return store->router.options->values[HVI_EXACTLY_ONCE] != 0;
}

static hv_status run_change(hv_store *store, const hv_change *change, hv_entity **entity,
                            hv_error **error) {
    hvi_operation op;
    hvi_visit visit;
    if (entity != NULL)
        *entity = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_change_init(&op, &store->router, change, persists(store), error);
    return run(&visit, &op, status, entity, error);
}

hv_status hv_replace(hv_store *store, int64_t key, int kind, const hv_dict *dict,
                     const hv_condition *condition, hv_entity **present, hv_error **error) {
    const hv_change change = {
        .type = HV_REPLACE, .key = key, .kind = kind, .dict = dict, .condition = condition};
    return run_change(store, &change, present, error);
}

hv_status hv_merge(hv_store *store, int64_t key, const hv_dict *set, const char *const *remove,
                   const hv_condition *condition, hv_entity **present, hv_error **error) {
    const hv_change change = {
        .type = HV_MERGE, .key = key, .dict = set, .remove = remove, .condition = condition};
    return run_change(store, &change, present, error);
}

hv_status hv_increment(hv_store *store, int64_t key, const char *attribute, const char *amount,
                       const hv_condition *condition, hv_entity **entity, hv_error **error) {
    const hv_change change = {.type = HV_INCREMENT,
                              .key = key,
                              .attribute = attribute,
                              .amount = amount,
                              .condition = condition};
    return run_change(store, &change, entity, error);
}

hv_status hv_delete(hv_store *store, int64_t key, const hv_condition *condition,
                    hv_entity **present, hv_error **error) {
    const hv_change change = {.type = HV_DELETE, .key = key, .condition = condition};
    return run_change(store, &change, present, error);
}

/* ---- in a queue ---- */

hv_status hv_queue_get(hv_queue *queue, int64_t key, void *tag, hv_error **error) {
    return hvi_queue_add_key(queue, &hvi_get, key, tag, error);
}

hv_status hv_queue_get_only(hv_queue *queue, int64_t key, const char *const *names, void *tag,
                            hv_error **error) {
    hvi_operation op;
    hv_status status = hvi_queue_check(queue, error);
    if (status != HV_OK)
        return status;
    status = hvi_get_only_init(&op, &hvi_queue_store(queue)->router, key, names, error);
    return hvi_queue_add(queue, &op, status, tag, error);
}

hv_status hv_queue_change(hv_queue *queue, const hv_change *change, void *tag, hv_error **error) {
    hvi_operation op;
    hv_store *store = hvi_queue_store(queue);
    hv_status status = hvi_queue_check(queue, error);
    if (status != HV_OK)
        return status;
    status = hvi_change_init(&op, &store->router, change, persists(store), error);
    return hvi_queue_add(queue, &op, status, tag, error);
}

hv_status hv_queue_exists(hv_queue *queue, int64_t key, void *tag, hv_error **error) {
    return hvi_queue_add_key(queue, &hvi_exists, key, tag, error);
}

hv_status hv_queue_put(hv_queue *queue, const hv_new_entity *entity, void *tag, hv_error **error) {
    hvi_operation op;
    hv_store *store = hvi_queue_store(queue);
    hv_status status = hvi_queue_check(queue, error);
    if (status != HV_OK)
        return status;
    if (entity->key != 0)
        status =
            hvi_put_key_init(&op, &store->router, entity->key, entity->kind, entity->dict, error);
    else
        status = hvi_put_init(&op, &store->router, reserved_of(store), entity->shard, entity->kind,
                              entity->dict, error);
    return hvi_queue_add(queue, &op, status, tag, error);
}

/* ---- many ---- */

hv_status hv_put_many(hv_store *store, const hv_new_entity *entities, size_t count, int64_t *keys,
                      hv_status *statuses, hv_error **errors, hv_error **error) {
    hvi_many many = {
        .count = count,
        .entities = entities,
        .keys = keys,
        .statuses = statuses,
        .errors = errors,
    };
    return hvi_many_run(store, &many, error);
}

hv_status hv_put_stream(hv_store *store, hv_next_entity_fn next, hv_done_fn done, void *context,
                        hv_error **error) {
    hvi_many many = {.next_entity = next, .done = done, .context = context};
    return hvi_many_run(store, &many, error);
}

static hv_status run_keys(hv_store *store, const hvi_verb *verb, const int64_t *keys, size_t count,
                          hv_entity **entities, hv_status *statuses, hv_error **errors,
                          hv_error **error) {
    hvi_many many = {
        .verb = verb,
        .count = count,
        .wanted = keys,
        .found = entities,
        .statuses = statuses,
        .errors = errors,
    };
    return hvi_many_run(store, &many, error);
}

static hv_status stream_keys(hv_store *store, const hvi_verb *verb, hv_next_key_fn next,
                             hv_done_fn done, void *context, hv_error **error) {
    hvi_many many = {.verb = verb, .next_key = next, .done = done, .context = context};
    return hvi_many_run(store, &many, error);
}

hv_status hv_get_many(hv_store *store, const int64_t *keys, size_t count, hv_entity **entities,
                      hv_status *statuses, hv_error **errors, hv_error **error) {
    return run_keys(store, &hvi_get, keys, count, entities, statuses, errors, error);
}

hv_status hv_get_stream(hv_store *store, hv_next_key_fn next, hv_done_fn done, void *context,
                        hv_error **error) {
    return stream_keys(store, &hvi_get, next, done, context, error);
}

hv_status hv_get_only_many(hv_store *store, const int64_t *keys, size_t count,
                           const char *const *names, hv_entity **entities, hv_status *statuses,
                           hv_error **errors, hv_error **error) {
    hvi_many many = {
        .verb = &hvi_get_only,
        .names = names,
        .count = count,
        .wanted = keys,
        .found = entities,
        .statuses = statuses,
        .errors = errors,
    };
    return hvi_many_run(store, &many, error);
}

hv_status hv_change_many(hv_store *store, const hv_change *changes, size_t count,
                         hv_entity **entities, hv_status *statuses, hv_error **errors,
                         hv_error **error) {
    hvi_many many = {
        .count = count,
        .changes = changes,
        .found = entities,
        .statuses = statuses,
        .errors = errors,
    };
    return hvi_many_run(store, &many, error);
}

hv_status hv_change_stream(hv_store *store, hv_next_change_fn next, hv_done_fn done, void *context,
                           hv_error **error) {
    hvi_many many = {.next_change = next, .done = done, .context = context};
    return hvi_many_run(store, &many, error);
}

hv_status hv_exists_many(hv_store *store, const int64_t *keys, size_t count, hv_status *statuses,
                         hv_error **errors, hv_error **error) {
    return run_keys(store, &hvi_exists, keys, count, NULL, statuses, errors, error);
}

hv_status hv_exists_stream(hv_store *store, hv_next_key_fn next, hv_done_fn done, void *context,
                           hv_error **error) {
    return stream_keys(store, &hvi_exists, next, done, context, error);
}
