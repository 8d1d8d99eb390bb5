/*
 * alloc_failure_changes: the operations of alloc_failure that change entities.
 */
#include <inttypes.h>
#include <stdio.h>

#include "alloc_failure.h"

#define COUNT 3

static int64_t keys[COUNT]; /* of entities with the label of this run */
static hv_entity *entities[COUNT];
static hv_status statuses[COUNT];

static void open_and_put(void) {
    hv_error *error = NULL;
    hv_dict *dict = NULL;
    open_and_use();
    must(make_dict(label, &dict, &error), &error, "dict");
    for (int i = 0; i < COUNT; i++)
        must(hv_put(store, SHARD, KIND, dict, &keys[i], &error), &error, "put");
    hv_dict_free(dict);
}

/* Is this true of the entity, as `sql` says? */
static bool is_true_of(int number, const char *sql) {
    char query[200];
    snprintf(query, sizeof query,
             "SELECT count(*) FROM shard%04d.entities WHERE id = %" PRId64 " AND %s", SHARD,
             keys[number], sql);
    return observe(query) == 1;
}

static void require(int number, hv_status status, bool done) {
    if (status == HV_CHANGED || status == HV_NOT_FOUND)
        fail("change %d: %s", number, hv_status_name(status));
    if (status != HV_OUTCOME_UNKNOWN && done != (status == HV_OK))
        fail("change %d: %s, but it was %s", number, hv_status_name(status),
             done ? "made" : "not made");
}

/* ---- one, with a condition ---- */

static hv_status make_condition(hv_condition *condition, hv_error **error) {
    hv_dict *has = NULL;
    hv_status status = make_dict(label, &has, error);
    if (status == HV_OK)
        status = hv_condition_has(condition, has, error);
    if (status == HV_OK)
        status = hv_condition_lacks(condition, "other", HV_STRLEN, error);
    hv_dict_free(has);
    return status;
}

static hv_status act_merge(hv_error **error) {
    hv_condition *condition = hv_condition_new();
    hv_dict *set = hv_dict_new();
    hv_status status = condition == NULL || set == NULL ? HV_NO_MEMORY : HV_OK;
    if (status == HV_OK)
        status = make_condition(condition, error);
    if (status == HV_OK)
        status = hv_dict_set(set, "changed", "1", error);
    if (status == HV_OK)
        status = hv_merge(store, keys[0], set, (const char *const[]){"gone", NULL}, condition,
                          &entities[0], error);
    hv_condition_free(condition);
    hv_dict_free(set);
    return status;
}

static void after_merge(hv_status status) {
    require(0, status, is_true_of(0, "body ? 'changed'"));
    if (entities[0] != NULL)
        fail("%s, and an entity", hv_status_name(status));
}

static hv_status act_increment(hv_error **error) {
    return hv_increment(store, keys[1], "n", "1.5", NULL, &entities[1], error);
}

static void after_increment(hv_status status) {
    bool done = is_true_of(1, "body -> 'n' = '1.5'");
    require(1, status, done);
    if ((status == HV_OK) != (entities[1] != NULL))
        fail("%s, but %s entity", hv_status_name(status), entities[1] != NULL ? "an" : "no");
    hv_entity_free(entities[1]);
    entities[1] = NULL;
}

static hv_status act_get_only(hv_error **error) {
    return hv_get_only(store, known_key, (const char *const[]){NAME, "missing", NULL}, &entities[0],
                       error);
}

static void after_get_only(hv_status status) {
    if ((status == HV_OK) != (entities[0] != NULL) || status == HV_OUTCOME_UNKNOWN)
        fail("%s, but %s entity", hv_status_name(status), entities[0] != NULL ? "an" : "no");
    if (entities[0] != NULL && hv_dict_count(hv_entity_dict(entities[0])) != 1)
        fail("other attributes than the chosen ones");
    hv_entity_free(entities[0]);
    entities[0] = NULL;
}

/* ---- many ---- */

static hv_status act_change_many(hv_error **error) {
    hv_error *errors[COUNT] = {NULL};
    hv_dict *set = NULL;
    hv_status status = make_dict(label + 1, &set, error);
    for (int i = 0; i < COUNT; i++)
        statuses[i] = HV_NO_MEMORY;
    const hv_change changes[COUNT] = {
        {.type = HV_REPLACE, .key = keys[0], .kind = KIND + 1, .dict = set},
        {.type = HV_INCREMENT, .key = keys[1], .attribute = "n", .amount = "1.5"},
        {.type = HV_DELETE, .key = keys[2]},
    };
    if (status == HV_OK)
        status = hv_change_many(store, changes, COUNT, entities, statuses, errors, error);
    for (int i = 0; i < COUNT; i++) {
        if (errors[i] != NULL && hv_error_status(errors[i]) != statuses[i])
            fail("change %d: %s and another error", i, hv_status_name(statuses[i]));
        hv_error_free(errors[i]);
    }
    hv_dict_free(set);
    return status;
}

static void after_change_many(hv_status status) {
    (void) status;
    char replaced[32];
    snprintf(replaced, sizeof replaced, "type = %d", KIND + 1);
    require(0, statuses[0], is_true_of(0, replaced));
    after_increment(statuses[1]);
    require(2, statuses[2], !is_true_of(2, "true"));
}

/* ---- in a transaction ---- */

static hv_status work(hv_tx *tx, void *context, hv_error **error) {
    int64_t key;
    hv_dict *dict = NULL;
    (void) context;
    hv_status status = make_dict(label, &dict, error);
    if (status == HV_OK)
        status = hv_tx_put(tx, SHARD, KIND, dict, &key, error);
    if (status == HV_OK) /* the same again */
        status = hv_tx_put_key(tx, key, KIND, dict, error);
    if (status == HV_OK)
        status =
            hv_tx_merge(tx, keys[0], NULL, (const char *const[]){NAME, NULL}, NULL, NULL, error);
    if (status == HV_OK)
        status = hv_tx_increment(tx, keys[1], "n", "1.5", NULL, NULL, error);
    if (status == HV_OK)
        status = hv_tx_delete(tx, keys[2], NULL, NULL, error);
    hv_dict_free(dict);
    return status;
}

static hv_status act_transaction(hv_error **error) {
    return hv_transaction(store, SHARD, HV_SERIALIZABLE, 0, work, NULL, error);
}

static hv_status act_steps(hv_error **error) {
    hv_tx *tx = NULL;
    hv_status status = hv_begin(store, SHARD, HV_READ_COMMITTED, 0, &tx, error);
    if (status != HV_OK)
        return status;
    status = work(tx, NULL, error);
    if (status == HV_OK)
        return hv_commit(tx, error);
    hv_rollback(tx);
    return status;
}

static void after_transaction(hv_status status) {
    bool done = is_true_of(1, "body -> 'n' = '1.5'");
    require(1, status, done);
    int64_t labelled = done ? COUNT - 2 + 1 : COUNT;
    if (is_true_of(2, "true") == done || stored_in_this_run() != labelled)
        fail("%s, and a part of the transaction has happened", hv_status_name(status));
}

const operation_of change_operations[] = {
    {"merge", open_and_put, act_merge, after_merge},
    {"increment", open_and_put, act_increment, after_increment},
    {"get_only", open_and_put, act_get_only, after_get_only},
    {"change_many", open_and_put, act_change_many, after_change_many},
    {"transaction", open_and_put, act_transaction, after_transaction},
    {"transaction_steps", open_and_put, act_steps, after_transaction},
    {NULL, NULL, NULL, NULL, false},
};
