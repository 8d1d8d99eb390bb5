/*
 * change: run a change of entities, the same for all keys, and show what came of each.
 *
 * Keys are taken and changed KEYS_AT_ONCE at a time, and their outcomes shown in the same order: so
 * memory is bounded, and nothing is changed whose outcome cannot be shown. An interrupt ends it
 * after those that were begun.
 */
#include "change.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entity_view.h"
#include "rows/key_json.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

typedef struct changing {
    hv_store *store;
    hv_change change; /* without a key */
    const condition *only_if;
    bool is_many;
    /* Of those that are changed at once. */
    int64_t keys[KEYS_AT_ONCE];
    hv_change changes[KEYS_AT_ONCE];
    hv_entity *entities[KEYS_AT_ONCE];
    hv_status statuses[KEYS_AT_ONCE];
    hv_error *errors[KEYS_AT_ONCE];
} changing;

/* ---- Outcomes -------------------------------------------------------------------------------- */

/* The new value of an increment, or NULL. */
static const char *new_value(const changing *run, const hv_entity *entity, size_t *len) {
    const char *name = run->change.attribute, *value = NULL;
    if (run->change.type != HV_INCREMENT || entity == NULL ||
        !hv_dict_get(hv_entity_dict(entity), name, strlen(name), &value, len))
        return NULL;
    return value;
}

static void print_answer(const changing *run, int64_t key, hv_status status,
                         const hv_entity *entity) {
    json_t *answer = json_pack("{s:o, s:s}", "id", key_json(key), "status",
                               status == HV_OK          ? "done"
                               : status == HV_NOT_FOUND ? "not found"
                                                        : "changed");
    size_t len;
    const char *value = status == HV_OK ? new_value(run, entity, &len) : NULL;
    if (value != NULL)
        json_object_set_new(answer, "value", json_stringn(value, len));
    if (status == HV_CHANGED && entity != NULL)
        json_object_set_new(answer, "present", entity_json(entity, hv_epoch(run->store)));
    print_json(answer);
}

static void print_done(const changing *run, int64_t key, const hv_entity *entity) {
    size_t len;
    const char *value = new_value(run, entity, &len);
    if (value == NULL || run->is_many)
        printf("%" PRId64, key);
    if (value != NULL && run->is_many)
        putchar(' ');
    if (value != NULL)
        ui_text(stdout, value, len);
    putchar('\n');
}

static void report_changed(const changing *run, int64_t key, const hv_entity *present) {
    char *difference = present != NULL ? condition_difference(run->only_if, present) : NULL;
    ui_fail_status(HV_CHANGED, difference, NULL,
                   "the entity with the key %" PRId64 " does not meet the condition", key);
    free(difference);
}

/* Show what came of one key. */
static void show(const changing *run, int64_t key, hv_status status, const hv_entity *entity,
                 const hv_error *error) {
    bool is_answer = status == HV_OK || status == HV_NOT_FOUND || status == HV_CHANGED;
    if (is_answer && ui_is_json())
        print_answer(run, key, status, entity);
    else if (status == HV_OK)
        print_done(run, key, entity);
    else if (status == HV_NOT_FOUND)
        ui_no_entity(key);
    else if (status == HV_CHANGED)
        report_changed(run, key, entity);
    else
        ui_key_error(error, key);
}

/* ---- All keys -------------------------------------------------------------------------------- */

/* Change those in run->keys. */
static int change_some(changing *run, size_t count) {
    int code = EXIT_DONE;
    for (size_t i = 0; i < count; i++) {
        run->changes[i] = run->change;
        run->changes[i].key = run->keys[i];
    }
    hv_change_many(run->store, run->changes, count, run->entities, run->statuses, run->errors,
                   NULL);
    for (size_t i = 0; i < count; i++) {
        show(run, run->keys[i], run->statuses[i], run->entities[i], run->errors[i]);
        code = worse_code(code, exit_code_of_one(run->statuses[i]));
        hv_entity_free(run->entities[i]);
        hv_error_free(run->errors[i]);
    }
    output_flush();
    return code;
}

int change_entities(const arguments *args, hv_change change, key_source *keys,
                    const condition *only_if) {
    if (only_if->version != NULL && keys->is_many)
        usage_error(args, NULL, "--if-version is for a single key");
    changing *run = new_memory(sizeof *run);
    *run = (changing){.change = change, .only_if = only_if, .is_many = keys->is_many};
    run->change.condition = only_if->built;
    int code = open_store(&run->store);
    interrupt_catch();
    while (run->store != NULL && output_ok()) {
        size_t count = key_source_take(keys, run->keys, &code);
        if (count == 0 || interrupted())
            break;
        code = worse_code(code, change_some(run, count));
    }
    hv_close(run->store, 0, NULL);
    free(run);
    return code;
}
