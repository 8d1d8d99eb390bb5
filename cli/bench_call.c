/*
 * bench_call: one operation, by the store's functions.
 */
#include "bench_call.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench_borrow.h"
#include "memory.h"

static void set(hv_dict *dict, const char *name, const char *value) {
    if (hv_dict_set(dict, name, value, NULL) != HV_OK)
        out_of_memory();
}

/* Letters in no order, so that the server cannot compress them; the same in every run. */
static char *make_value(size_t size) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *value = new_memory(size + 1);
    uint64_t state = 1;
    for (size_t i = 0; i < size; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        value[i] = letters[state >> 58];
    }
    return value;
}

void bench_call_init(bench_call *call, const bench_settings *settings, hv_store *store) {
    *call = (bench_call){.settings = settings, .store = store, .dict = hv_dict_new()};
    if (call->dict == NULL)
        out_of_memory();
    set(call->dict, BENCH_MARK, settings->mark);
    if (settings->value_size >= 0) {
        char *value = make_value((size_t) settings->value_size);
        set(call->dict, "value", value);
        free(value);
    } else {
        set(call->dict, "name", "Ada Lovelace");
        set(call->dict, "email", "ada@analytical.example");
    }
}

void bench_call_fini(bench_call *call) {
    hv_dict_free(call->dict);
}

hv_status bench_call_put(bench_call *call, int shard, int64_t *key, bench_failure *failure) {
    if (call->settings->via_pool)
        return bench_borrow_put(call->store, call->settings, shard, call->dict, key, failure);
    return failure->status =
               hv_put(call->store, shard, call->settings->kind, call->dict, key, &failure->error);
}

hv_status bench_call_get(bench_call *call, int64_t key, bench_failure *failure) {
    bool same = false;
    if (call->settings->via_pool) {
        hv_dict *dict = NULL;
        int kind = 0;
        if (bench_borrow_get(call->store, call->settings, key, &kind, &dict, failure) == HV_OK)
            same = kind == call->settings->kind && hv_dict_equal(dict, call->dict);
        hv_dict_free(dict);
    } else {
        hv_entity *entity = NULL;
        failure->status = hv_get(call->store, key, &entity, &failure->error);
        if (failure->status == HV_OK)
            same = hv_entity_kind(entity) == call->settings->kind &&
                   hv_dict_equal(hv_entity_dict(entity), call->dict);
        hv_entity_free(entity);
    }
    if (failure->status == HV_NOT_FOUND)
        return bench_fail(failure, HV_NOT_FOUND, "no entity has the key %" PRId64, key);
    if (failure->status == HV_OK && !same)
        return bench_fail(failure, HV_CORRUPT,
                          "the entity with the key %" PRId64 " is not as it was put", key);
    return failure->status;
}
