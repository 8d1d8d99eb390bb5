/*
 * store_tool_selection: selections in JSON, and the commands of store_tool that count what they
 * mean, or explain how it would be found.
 *
 * A selection has these members, each if it is wanted; without any it means everything:
 *
 *     {"shards": text, "skip": [name], "kinds": [number], "from": key, "until": key,
 *      "since": ms, "before": ms, "after": key, "equal": {name: value}, "one_of": {name: [value]},
 *      "exists": [name], "lacks": [name], "has": {name: value}, "newest": true, "limit": number,
 *      "only": [name], "timeout": ms, "partial": true}
 *
 * If the selection itself is refused, that is the command's result, with "selection": false.
 */
#include <stdlib.h>
#include <string.h>

#include "store_tool.h"

typedef hv_status (*name_fn)(hv_selection *selection, const char *name, size_t len,
                             hv_error **error);
typedef hv_status (*number_fn)(hv_selection *selection, int64_t number, hv_error **error);

static hv_status set_key(json_t *object, const char *name, number_fn set, hv_selection *selection,
                         hv_status status, hv_error **error) {
    json_t *value = json_object_get(object, name);
    return status == HV_OK && value != NULL ? set(selection, json_integer_value(value), error)
                                            : status;
}

static hv_status add_names(json_t *object, const char *name, name_fn add, hv_selection *selection,
                           hv_status status, hv_error **error) {
    size_t number;
    json_t *value;
    json_array_foreach(json_object_get(object, name), number, value) if (status == HV_OK) status =
        add(selection, json_string_value(value), json_string_length(value), error);
    return status;
}

static hv_status add_values(json_t *object, hv_selection *selection, hv_status status,
                            hv_error **error) {
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(object, "equal"), name, value) if (status == HV_OK) status =
        hv_selection_equal(selection, name, HV_STRLEN, json_string_value(value), HV_STRLEN, error);
    json_object_foreach(json_object_get(object, "one_of"), name, value) {
        const char **values = names_of(value);
        if (status == HV_OK)
            status = hv_selection_one_of(selection, name, HV_STRLEN, values, NULL,
                                         json_array_size(value), error);
        free(values);
    }
    hv_dict *has = dict_of(json_object_get(object, "has"));
    if (status == HV_OK && has != NULL)
        status = hv_selection_has(selection, has, error);
    hv_dict_free(has);
    return status;
}

static hv_status fill(json_t *object, hv_selection *selection, hv_error **error) {
    hv_status status = HV_OK;
    const char *shards = text_of(object, "shards");
    const char **only = names_of(json_object_get(object, "only"));
    size_t number;
    json_t *value;
    if (shards != NULL)
        status = hv_selection_shards(selection, shards, error);
    json_array_foreach(json_object_get(object, "skip"), number, value) if (status == HV_OK) status =
        hv_selection_skip(selection, json_string_value(value), error);
    json_array_foreach(json_object_get(object, "kinds"), number, value) if (status == HV_OK)
        status = hv_selection_kind(selection, (int) json_integer_value(value), error);
    status = set_key(object, "from", hv_selection_from, selection, status, error);
    status = set_key(object, "until", hv_selection_until, selection, status, error);
    status = set_key(object, "since", hv_selection_since, selection, status, error);
    status = set_key(object, "before", hv_selection_before, selection, status, error);
    status = set_key(object, "after", hv_selection_after, selection, status, error);
    status = set_key(object, "limit", hv_selection_limit, selection, status, error);
    status = set_key(object, "timeout", hv_selection_timeout, selection, status, error);
    status = add_values(object, selection, status, error);
    status = add_names(object, "exists", hv_selection_exists, selection, status, error);
    status = add_names(object, "lacks", hv_selection_lacks, selection, status, error);
    if (status == HV_OK && only != NULL)
        status = hv_selection_only(selection, only, error);
    hv_selection_newest(selection, json_is_true(json_object_get(object, "newest")));
    hv_selection_partial(selection, json_is_true(json_object_get(object, "partial")));
    free(only);
    return status;
}

hv_selection *selection_of(json_t *command, json_t *reply) {
    hv_error *error = NULL;
    hv_selection *selection = hv_selection_new();
    hv_status status = fill(json_object_get(command, "selection"), selection, &error);
    if (status == HV_OK)
        return selection;
    hv_selection_free(selection);
    json_object_set_new(reply, "selection", json_false());
    set_outcome(reply, status, error);
    return NULL;
}

json_t *missing_of(const hv_error *(*at)(const void *of, size_t index), const void *of) {
    json_t *missing = json_array();
    const hv_error *error;
    for (size_t i = 0; (error = at(of, i)) != NULL; i++) {
        json_t *one = json_object();
        set_text(one, "status", hv_status_name(hv_error_status(error)));
        set_text(one, "message", hv_error_message(error));
        set_text(one, "detail", hv_error_detail(error));
        set_text(one, "server", hv_error_server(error));
        set_number(one, "shard", hv_error_shard(error));
        json_array_append_new(missing, one);
    }
    return missing;
}

/* ---- counting ---- */

static const hv_error *counts_missing(const void *counts, size_t index) {
    return hv_counts_missing(counts, index);
}

/* {"selection": …, "by": "all", "kind", "shard", "server", "time", "unit": text, "zone": text,
 * "estimate": true}: replies "groups": [[group, count]], "total" and "missing". */
void do_count(const char *thread, json_t *command, json_t *reply) {
    static const char *const ways[] = {"all", "kind", "shard", "server", "time", "nonsense"};
    const char *wanted = text_of(command, "by");
    int by = HV_COUNT_ALL;
    hv_error *error = NULL;
    hv_counts *counts = NULL;
    (void) thread;
    for (int i = 0; wanted != NULL && i < 6; i++)
        if (strcmp(ways[i], wanted) == 0)
            by = i;
    hv_selection *selection = selection_of(command, reply);
    if (selection == NULL)
        return;
    hv_status status = hv_count(
        store, selection, (hv_count_by) by, text_of(command, "unit"), text_of(command, "zone"),
        json_is_true(json_object_get(command, "estimate")), &counts, &error);
    hv_selection_free(selection);
    set_outcome(reply, status, error);
    if (status != HV_OK)
        return;
    json_t *groups = json_array();
    int64_t group, count;
    for (size_t i = 0; hv_counts_at(counts, i, &group, &count); i++)
        json_array_append_new(groups, json_pack("[II]", (json_int_t) group, (json_int_t) count));
    json_object_set_new(reply, "groups", groups);
    set_number(reply, "total", hv_counts_total(counts));
    json_object_set_new(reply, "missing", missing_of(counts_missing, counts));
    hv_counts_free(counts);
}

/* ---- explaining ---- */

static void add_plan(void *context, int shard, const char *plan, const char *warning) {
    json_array_append_new(context, json_pack("[iss?]", shard, plan, warning));
}

/* {"selection": …}: replies "plans": [[shard, plan, warning or null]]. */
void do_explain(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    json_t *plans = json_array();
    hv_selection *selection = selection_of(command, reply);
    if (selection != NULL) {
        hv_status status = hv_explain(store, selection, add_plan, plans, &error);
        set_outcome(reply, status, error);
    }
    hv_selection_free(selection);
    json_object_set_new(reply, "plans", plans);
}
