/*
 * call: one call, of one operation or many.
 */
#include "bench/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/borrow.h"
#include "ui/memory.h"

static void set(hv_dict *dict, const char *name, const char *value) {
    if (hv_dict_set(dict, name, value, NULL) != HV_OK)
        out_of_memory();
}

/* Random letters, so that the server cannot compress them; the same in every run. */
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
    *call = (bench_call){
        .settings = settings, .store = store, .dict = hv_dict_new(), .merged = hv_dict_new()};
    if (call->dict == NULL || call->merged == NULL)
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
    if (settings->batch > 1) {
        size_t count = (size_t) settings->batch;
        call->puts = new_memory(count * sizeof *call->puts);
        call->changes = new_memory(count * sizeof *call->changes);
        call->gets = new_memory(count * sizeof *call->gets);
        call->statuses = new_memory(count * sizeof *call->statuses);
        call->errors = new_memory(count * sizeof *call->errors);
    }
}

void bench_call_fini(bench_call *call) {
    hv_dict_free(call->dict);
    hv_dict_free(call->merged);
    free(call->puts);
    free(call->changes);
    free(call->gets);
    free(call->statuses);
    free(call->errors);
}

/* ---- One operation --------------------------------------------------------------------------- */

static void put_one(bench_call *call, int shard, int64_t *key, sql_failure *failure) {
    const bench_settings *settings = call->settings;
    if (settings->way == BENCH_VIA_POOL)
        bench_borrow_put(call->store, settings, shard, call->dict, key, failure);
    else
        failure->status =
            hv_put(call->store, shard, settings->kind, call->dict, key, &failure->error);
}

/* The attributes that were put, with the one that merges set. */
static bool is_merged(const bench_call *call, const hv_dict *dict) {
    const char *name, *value, *found;
    size_t name_len, value_len, found_len;
    if (hv_dict_count(dict) != hv_dict_count(call->dict) + 1)
        return false;
    for (size_t i = 0; hv_dict_at(call->dict, i, &name, &name_len, &value, &value_len); i++)
        if (!hv_dict_get(dict, name, name_len, &found, &found_len) || found == NULL ||
            found_len != value_len || memcmp(found, value, value_len) != 0)
            return false;
    return true;
}

static bool is_same(const bench_call *call, int kind, const hv_dict *dict) {
    bench_verb write = call->settings->write;
    bool may_be_merged = write == BENCH_MERGE || write == BENCH_MODIFY;
    if (kind != call->settings->kind)
        return false;
    if (may_be_merged && hv_dict_get(dict, BENCH_CHANGED, HV_STRLEN, NULL, NULL))
        return is_merged(call, dict);
    return hv_dict_equal(dict, call->dict);
}

/* An entity that was put must be there. */
static void check_found(int64_t key, sql_failure *failure) {
    if (failure->status == HV_NOT_FOUND)
        sql_fail(failure, HV_NOT_FOUND, "no entity has the key %" PRId64, key);
}

/* Check what a get without an error returned. */
static void check(int64_t key, bool same, sql_failure *failure) {
    check_found(key, failure);
    if (failure->status == HV_OK && !same)
        sql_fail(failure, HV_CORRUPT,
                 "the entity with the key %" PRId64 " differs from what was put", key);
}

static bool is_entity(const bench_call *call, const hv_entity *entity, int64_t key) {
    return entity != NULL && hv_entity_key(entity) == key &&
           is_same(call, hv_entity_kind(entity), hv_entity_dict(entity));
}

static void get_one(bench_call *call, int64_t key, sql_failure *failure) {
    bool same;
    if (call->settings->way == BENCH_VIA_POOL) {
        hv_dict *dict = NULL;
        int kind = 0;
        bench_borrow_get(call->store, call->settings, key, &kind, &dict, failure);
        same = failure->status == HV_OK && is_same(call, kind, dict);
        hv_dict_free(dict);
    } else {
        hv_entity *entity = NULL;
        failure->status = hv_get(call->store, key, &entity, &failure->error);
        same = is_entity(call, entity, key);
        hv_entity_free(entity);
    }
    check(key, same, failure);
}

/* ---- Changes --------------------------------------------------------------------------------- */

/* Set what the next merge sets. */
static const hv_dict *next_merge(bench_call *call, int64_t number) {
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, number);
    set(call->merged, BENCH_CHANGED, text);
    return call->merged;
}

/* The number that the last merge set; 0: there was none. */
static int64_t merged_number(const hv_entity *entity) {
    const char *text = NULL;
    hv_dict_get(hv_entity_dict(entity), BENCH_CHANGED, HV_STRLEN, &text, NULL);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

/* Merge what follows from the entity, if it is still as it was read. */
static hv_status merge_after(bench_call *call, const hv_entity *entity, hv_error **error) {
    hv_condition *unchanged = hv_condition_new();
    if (unchanged == NULL)
        out_of_memory();
    hv_status status = hv_condition_version(unchanged, hv_entity_version(entity), error);
    if (status == HV_OK)
        status =
            hv_merge(call->store, hv_entity_key(entity),
                     next_merge(call, merged_number(entity) + 1), NULL, unchanged, NULL, error);
    hv_condition_free(unchanged);
    return status;
}

/* Begin again as long as others change the entity in between. */
static void modify_one(bench_call *call, int64_t key, sql_failure *failure) {
    do {
        hv_entity *entity = NULL;
        failure->status = hv_get_only(call->store, key, NULL, &entity, &failure->error);
        check(key, is_entity(call, entity, key), failure);
        if (failure->status == HV_OK)
            failure->status = merge_after(call, entity, &failure->error);
        check_found(key, failure);
        hv_entity_free(entity);
    } while (failure->status == HV_CHANGED);
}

static void change_one(bench_call *call, bench_verb verb, int64_t key, sql_failure *failure) {
    if (verb == BENCH_MERGE)
        failure->status = hv_merge(call->store, key, next_merge(call, ++call->merges), NULL, NULL,
                                   NULL, &failure->error);
    else
        failure->status = hv_delete(call->store, key, NULL, NULL, &failure->error);
    check_found(key, failure);
}

/* ---- Many ------------------------------------------------------------------------------------ */

static void put_many(bench_call *call, const int *shards, int64_t *keys, int count,
                     sql_failure *failures) {
    for (int i = 0; i < count; i++)
        call->puts[i] =
            (hv_new_entity){.shard = shards[i], .kind = call->settings->kind, .dict = call->dict};
    hv_put_many(call->store, call->puts, (size_t) count, keys, call->statuses, call->errors, NULL);
    for (int i = 0; i < count; i++)
        failures[i] = (sql_failure){.status = call->statuses[i], .error = call->errors[i]};
}

static void get_many(bench_call *call, const int64_t *keys, int count, sql_failure *failures) {
    hv_get_many(call->store, keys, (size_t) count, call->gets, call->statuses, call->errors, NULL);
    for (int i = 0; i < count; i++) {
        failures[i] = (sql_failure){.status = call->statuses[i], .error = call->errors[i]};
        check(keys[i], is_entity(call, call->gets[i], keys[i]), &failures[i]);
        hv_entity_free(call->gets[i]);
    }
}

static void change_many(bench_call *call, bench_verb verb, const int64_t *keys, int count,
                        sql_failure *failures) {
    hv_change change = {.type = HV_DELETE};
    if (verb == BENCH_MERGE)
        change = (hv_change){.type = HV_MERGE, .dict = next_merge(call, ++call->merges)};
    for (int i = 0; i < count; i++) {
        call->changes[i] = change;
        call->changes[i].key = keys[i];
    }
    hv_change_many(call->store, call->changes, (size_t) count, NULL, call->statuses, call->errors,
                   NULL);
    for (int i = 0; i < count; i++) {
        failures[i] = (sql_failure){.status = call->statuses[i], .error = call->errors[i]};
        check_found(keys[i], &failures[i]);
    }
}

/* ---- Public ---------------------------------------------------------------------------------- */

void bench_call_put(bench_call *call, const int *shards, int64_t *keys, int count,
                    sql_failure *failures) {
    if (call->settings->batch == 1)
        put_one(call, shards[0], &keys[0], &failures[0]);
    else
        put_many(call, shards, keys, count, failures);
}

void bench_call_get(bench_call *call, const int64_t *keys, int count, sql_failure *failures) {
    if (call->settings->batch == 1)
        get_one(call, keys[0], &failures[0]);
    else
        get_many(call, keys, count, failures);
}

void bench_call_change(bench_call *call, bench_verb verb, const int64_t *keys, int count,
                       sql_failure *failures) {
    if (verb == BENCH_MODIFY)
        modify_one(call, keys[0], &failures[0]);
    else if (call->settings->batch == 1)
        change_one(call, verb, keys[0], &failures[0]);
    else
        change_many(call, verb, keys, count, failures);
}
