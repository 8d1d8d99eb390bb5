/*
 * store_tool_changes: the commands of store_tool that change entities, or read a part of them. The
 * members that a command takes are listed above its function.
 *
 * A condition is {"has": object, "lacks": [name], "kind": number, "version": text}, each member if
 * it is wanted. If the condition itself is refused, that is the command's result, and no change is
 * begun. A change is {"change": "merge", "key": number, …} with the members of the command of that
 * name.
 */
#include <stdlib.h>
#include <string.h>

#include "store_tool.h"

/* ---- from JSON ---- */

/* NULL-terminated, to be freed; its texts belong to the JSON. NULL is no array. */
const char **names_of(json_t *array) {
    if (!json_is_array(array))
        return NULL;
    size_t count = json_array_size(array);
    const char **names = calloc(count + 1, sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = json_string_value(json_array_get(array, i));
    return names;
}

static hv_status condition_of(json_t *object, hv_condition **condition, hv_error **error) {
    size_t number;
    json_t *name;
    hv_status status = HV_OK;
    if (!json_is_object(object))
        return HV_OK;
    hv_condition *made = hv_condition_new();
    hv_dict *has = dict_of(json_object_get(object, "has"));
    if (has != NULL)
        status = hv_condition_has(made, has, error);
    hv_dict_free(has);
    json_array_foreach(json_object_get(object, "lacks"), number, name) if (status == HV_OK) status =
        hv_condition_lacks(made, json_string_value(name), json_string_length(name), error);
    if (status == HV_OK && json_object_get(object, "kind") != NULL)
        status = hv_condition_kind(made, (int) number_of(object, "kind", 0), error);
    if (status == HV_OK && text_of(object, "version") != NULL)
        status = hv_condition_version(made, text_of(object, "version"), error);
    *condition = made;
    return status;
}

hv_status change_of(json_t *operation, hv_change *change, hv_error **error) {
    static const char *const types[] = {
        [HV_REPLACE] = "replace",
        [HV_MERGE] = "merge",
        [HV_INCREMENT] = "increment",
        [HV_DELETE] = "delete",
    };
    const char *wanted = text_of(operation, "change");
    hv_condition *condition = NULL;
    *change = (hv_change){
        .type = (hv_change_type) number_of(operation, "change", 0),
        .key = number_of(operation, "key", 0),
        .kind = (int) number_of(operation, "kind", 0),
        .dict = dict_of(json_object_get(operation, "dict")),
        .remove = names_of(json_object_get(operation, "remove")),
        .attribute = text_of(operation, "attribute"),
        .amount = text_of(operation, "amount"),
    };
    for (int i = HV_REPLACE; i <= HV_DELETE; i++)
        if (wanted != NULL && strcmp(wanted, types[i]) == 0)
            change->type = (hv_change_type) i;
    hv_status status = condition_of(json_object_get(operation, "condition"), &condition, error);
    change->condition = condition;
    return status;
}

void free_change(const hv_change *change) {
    hv_dict_free((hv_dict *) (uintptr_t) change->dict);
    free((void *) (uintptr_t) change->remove);
    hv_condition_free((hv_condition *) (uintptr_t) change->condition);
}

/* ---- one ---- */

static hv_status change_in_transaction(const hv_change *change, hv_entity **entity,
                                       hv_error **error) {
    switch (change->type) {
    case HV_REPLACE:
        return hv_tx_replace(current_tx, change->key, change->kind, change->dict, change->condition,
                             entity, error);
    case HV_MERGE:
        return hv_tx_merge(current_tx, change->key, change->dict, change->remove, change->condition,
                           entity, error);
    case HV_INCREMENT:
        return hv_tx_increment(current_tx, change->key, change->attribute, change->amount,
                               change->condition, entity, error);
    default:
        return hv_tx_delete(current_tx, change->key, change->condition, entity, error);
    }
}

/* Make a change through the function of its name; with "blind": true nothing is asked for but the
 * status. */
static void run_change(json_t *command, json_t *reply) {
    hv_change change;
    hv_error *error = NULL;
    hv_entity *entity = NULL;
    bool is_blind = json_is_true(json_object_get(command, "blind"));
    hv_entity **to = is_blind ? NULL : &entity;
    json_object_set_new(command, "change", json_incref(json_object_get(command, "do")));
    hv_status status = change_of(command, &change, &error);
    if (status != HV_OK)
        json_object_set_new(reply, "condition", json_false());
    else if (current_tx != NULL)
        status = change_in_transaction(&change, to, is_blind ? NULL : &error);
    else if (change.type == HV_REPLACE)
        status = hv_replace(store, change.key, change.kind, change.dict, change.condition, to,
                            is_blind ? NULL : &error);
    else if (change.type == HV_MERGE)
        status = hv_merge(store, change.key, change.dict, change.remove, change.condition, to,
                          is_blind ? NULL : &error);
    else if (change.type == HV_INCREMENT)
        status = hv_increment(store, change.key, change.attribute, change.amount, change.condition,
                              to, is_blind ? NULL : &error);
    else
        status = hv_delete(store, change.key, change.condition, to, is_blind ? NULL : &error);
    bool returns_entity = status == HV_CHANGED || (status == HV_OK && change.type == HV_INCREMENT);
    if (!is_blind && returns_entity != (entity != NULL))
        die("an entity that does not fit its status");
    free_change(&change);
    set_outcome(reply, status, error);
    set_entity(reply, entity);
    hv_entity_free(entity);
}

/* {"key": number, "kind": number, "dict": object or null, "condition": …} */
void do_replace(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    run_change(command, reply);
}

/* {"key": number, "dict": object or null, "remove": [name] or null, "condition": …} */
void do_merge(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    run_change(command, reply);
}

/* {"key": number, "attribute": text, "amount": text, "condition": …} */
void do_increment(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    run_change(command, reply);
}

/* {"key": number, "condition": …} */
void do_delete(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    run_change(command, reply);
}

/* {"key": number, "names": [name]} */
void do_get_only(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    const char **names = names_of(json_object_get(command, "names"));
    int64_t key = number_of(command, "key", 0);
    hv_status status = current_tx != NULL ? hv_tx_get_only(current_tx, key, names, &entity, &error)
                                          : hv_get_only(store, key, names, &entity, &error);
    free(names);
    set_outcome(reply, status, error);
    if ((status == HV_OK) != (entity != NULL))
        die("the entity was touched on failure, or not set on success");
    set_entity(reply, entity);
    hv_entity_free(entity);
}

/* ---- many ---- */

/* {"keys": [number], "names": [name]} */
void do_get_only_many(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    json_t *wanted = json_object_get(command, "keys");
    size_t count = json_array_size(wanted);
    const char **names = names_of(json_object_get(command, "names"));
    int64_t *keys = calloc(count + 1, sizeof *keys);
    hv_entity **entities = calloc(count + 1, sizeof(hv_entity *));
    hv_status *statuses = calloc(count + 1, sizeof *statuses);
    hv_error **errors = calloc(count + 1, sizeof(hv_error *));
    hv_error *error = NULL;
    for (size_t i = 0; i < count; i++)
        keys[i] = json_integer_value(json_array_get(wanted, i));
    hv_status status =
        hv_get_only_many(store, keys, count, names, entities, statuses, errors, &error);
    set_outcome(reply, status, error);
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(items, item_of(statuses[i], keys[i], entities[i], errors[i]));
    json_object_set_new(reply, "items", items);
    free(names);
    free(keys);
    free(entities);
    free(statuses);
    free(errors);
}

/* The changes of a command, to be freed. */
static hv_change *changes_of(json_t *operations) {
    size_t count = json_array_size(operations);
    hv_change *changes = calloc(count + 1, sizeof *changes);
    for (size_t i = 0; i < count; i++)
        if (change_of(json_array_get(operations, i), &changes[i], NULL) != HV_OK)
            die("not a condition");
    return changes;
}

static void free_changes(hv_change *changes, size_t count) {
    for (size_t i = 0; i < count; i++)
        free_change(&changes[i]);
    free(changes);
}

/* {"operations": changes} */
void do_change_many(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    json_t *operations = json_object_get(command, "operations");
    size_t count = json_array_size(operations);
    hv_change *changes = changes_of(operations);
    hv_entity **entities = calloc(count + 1, sizeof(hv_entity *));
    hv_status *statuses = calloc(count + 1, sizeof *statuses);
    hv_error **errors = calloc(count + 1, sizeof(hv_error *));
    hv_error *error = NULL;
    hv_status status = hv_change_many(store, changes, count, entities, statuses, errors, &error);
    set_outcome(reply, status, error);
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(items, item_of(statuses[i], changes[i].key, entities[i], errors[i]));
    json_object_set_new(reply, "items", items);
    free_changes(changes, count);
    free(entities);
    free(statuses);
    free(errors);
}

/* Changes that are streamed, and what has become of them. */
typedef struct streamed {
    hv_change *changes;
    size_t count;
    size_t at;
    json_t *items;
} streamed;

static bool next_change(void *context, hv_change *change, void **tag) {
    streamed *s = context;
    if (s->at == s->count)
        return false;
    *tag = (void *) (intptr_t) s->at;
    *change = s->changes[s->at++];
    return true;
}

static void change_done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                        hv_error *error) {
    streamed *s = context;
    json_t *item = item_of(status, key, entity, error);
    set_number(item, "tag", (int64_t) (intptr_t) tag);
    json_array_append_new(s->items, item);
}

/* {"operations": changes}; the items come in no particular order: their "tag" is the number of the
 * operation. */
void do_change_stream(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    json_t *operations = json_object_get(command, "operations");
    streamed s = {
        .changes = changes_of(operations),
        .count = json_array_size(operations),
        .items = json_array(),
    };
    hv_error *error = NULL;
    hv_status status = hv_change_stream(store, next_change, change_done, &s, &error);
    set_outcome(reply, status, error);
    free_changes(s.changes, s.count);
    json_object_set_new(reply, "items", s.items);
}
