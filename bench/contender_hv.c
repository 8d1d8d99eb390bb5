/*
 * contender_hv: libhypervault, as an application calls it.
 */
#include <stdlib.h>

#include "contender.h"
#include "hypervault.h"

typedef struct hv_caller {
    hv_store *store;
    hv_dict *dict;           /* the entity that is put */
    hv_dict *merged;         /* what is merged into one */
    hv_new_entity *entities; /* room for one call's; the next call reuses it */
    hv_change *changes;
    hv_status *statuses;
    hv_entity **found;
} hv_caller;

static _Noreturn void die(hv_status status, const hv_error *error) {
    bench_die("%s: %s", hv_status_name(status),
              error != NULL ? hv_error_message(error) : "no entity has this key");
}

static void *open_store(const bench_settings *settings) {
    hv_error *error = NULL;
    hv_store *store = NULL;
    hv_options *options = hv_options_new();
    hv_status status = hv_options_load(options, settings->config, NULL, &error);
    if (status == HV_OK)
        status = hv_open(options, &store, &error);
    if (status != HV_OK)
        die(status, error);
    hv_options_free(options);
    return store;
}

static void close_store(void *shared) {
    if (hv_close(shared, 1000, NULL) != HV_OK)
        bench_die("the store cannot be closed");
}

static void *start(void *shared, const bench_settings *settings) {
    size_t batch = (size_t) settings->batch;
    hv_caller *mine = malloc(sizeof *mine);
    *mine = (hv_caller){.store = shared, .dict = hv_dict_new(), .merged = hv_dict_new()};
    mine->entities = calloc(batch, sizeof *mine->entities);
    mine->changes = calloc(batch, sizeof *mine->changes);
    mine->statuses = calloc(batch, sizeof *mine->statuses);
    mine->found = calloc(batch, sizeof(hv_entity *));
    for (int i = 0; i < BENCH_ATTRIBUTES; i++)
        hv_dict_set(mine->dict, bench_attributes[i][0], bench_attributes[i][1], NULL);
    for (int i = 0; i < BENCH_MERGED; i++)
        hv_dict_set(mine->merged, bench_merged[i][0], bench_merged[i][1], NULL);
    return mine;
}

static void stop(void *own) {
    hv_caller *mine = own;
    hv_dict_free(mine->dict);
    hv_dict_free(mine->merged);
    free(mine->entities);
    free(mine->changes);
    free(mine->statuses);
    free(mine->found);
    free(mine);
}

static void put(void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    hv_status status;
    if (request->count == 1) {
        status = hv_put(mine->store, request->shards[0], BENCH_KIND, mine->dict, &request->keys[0],
                        &error);
    } else {
        for (int i = 0; i < request->count; i++)
            mine->entities[i] = (hv_new_entity){
                .shard = request->shards[i], .kind = BENCH_KIND, .dict = mine->dict};
        status = hv_put_many(mine->store, mine->entities, (size_t) request->count, request->keys,
                             NULL, NULL, &error);
    }
    if (status != HV_OK)
        die(status, error);
}

static void expect_entity(hv_entity *entity, int64_t key) {
    if (entity == NULL || hv_entity_key(entity) != key || hv_entity_kind(entity) != BENCH_KIND ||
        hv_dict_count(hv_entity_dict(entity)) != BENCH_ATTRIBUTES)
        bench_die("a get brought another entity");
    hv_entity_free(entity);
}

static void get(void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    hv_status status;
    if (request->count == 1)
        status = hv_get(mine->store, request->keys[0], &mine->found[0], &error);
    else
        status = hv_get_many(mine->store, request->keys, (size_t) request->count, mine->found, NULL,
                             NULL, &error);
    if (status != HV_OK)
        die(status, error);
    for (int i = 0; i < request->count; i++)
        expect_entity(mine->found[i], request->keys[i]);
}

static void change_many(hv_caller *mine, const bench_request *request, hv_change change) {
    hv_error *error = NULL;
    for (int i = 0; i < request->count; i++) {
        mine->changes[i] = change;
        mine->changes[i].key = request->keys[i];
    }
    hv_status status = hv_change_many(mine->store, mine->changes, (size_t) request->count, NULL,
                                      mine->statuses, NULL, &error);
    for (int i = 0; i < request->count && status == HV_OK; i++)
        status = mine->statuses[i];
    if (status != HV_OK)
        die(status, error);
}

static void merge(void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    if (request->count > 1) {
        change_many(mine, request, (hv_change){.type = HV_MERGE, .dict = mine->merged});
        return;
    }
    hv_status status =
        hv_merge(mine->store, request->keys[0], mine->merged, NULL, NULL, NULL, &error);
    if (status != HV_OK)
        die(status, error);
}

static void delete (void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    if (request->count > 1) {
        change_many(mine, request, (hv_change){.type = HV_DELETE});
        return;
    }
    hv_status status = hv_delete(mine->store, request->keys[0], NULL, NULL, &error);
    if (status != HV_OK)
        die(status, error);
}

static void borrow(void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    struct pg_conn *conn = NULL;
    hv_status status = hv_acquire(mine->store, request->shards[0], &conn, &error);
    if (status == HV_OK)
        status = hv_release(mine->store, conn, &error);
    if (status != HV_OK)
        die(status, error);
}

const bench_contender bench_hv = {
    .name = "hv",
    .open = open_store,
    .close = close_store,
    .start = start,
    .stop = stop,
    .call = {[BENCH_PUT] = put,
             [BENCH_GET] = get,
             [BENCH_MERGE] = merge,
             [BENCH_DELETE] = delete,
             [BENCH_BORROW] = borrow},
};
