/*
 * contender_hv: libhypervault, as an application calls it.
 */
#include <stdlib.h>

#include "contender.h"
#include "hypervault.h"

typedef struct hv_caller {
    hv_store *store;
    hv_dict *dict; /* what is put */
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
    (void) settings;
    hv_caller *mine = malloc(sizeof *mine);
    *mine = (hv_caller){.store = shared, .dict = hv_dict_new()};
    for (int i = 0; i < BENCH_ATTRIBUTES; i++)
        hv_dict_set(mine->dict, bench_attributes[i][0], bench_attributes[i][1], NULL);
    return mine;
}

static void stop(void *own) {
    hv_caller *mine = own;
    hv_dict_free(mine->dict);
    free(mine);
}

static void put(void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    hv_status status =
        hv_put(mine->store, request->shards[0], BENCH_KIND, mine->dict, &request->keys[0], &error);
    if (status != HV_OK)
        die(status, error);
}

static void get(void *own, bench_request *request) {
    hv_caller *mine = own;
    hv_error *error = NULL;
    hv_entity *entity = NULL;
    hv_status status = hv_get(mine->store, request->keys[0], &entity, &error);
    if (status != HV_OK)
        die(status, error);
    if (hv_entity_key(entity) != request->keys[0] || hv_entity_kind(entity) != BENCH_KIND ||
        hv_dict_count(hv_entity_dict(entity)) != BENCH_ATTRIBUTES)
        bench_die("a get brought another entity");
    hv_entity_free(entity);
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
    .call = {[BENCH_PUT] = put, [BENCH_GET] = get, [BENCH_BORROW] = borrow},
};
