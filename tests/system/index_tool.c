/*
 * index_tool: builds, drops and lists indexes, and compares schemas, in a process of its own, which
 * may be killed.
 *
 * usage: index_tool CONFIG create|drop|list|check [NAME=VALUE...]
 *
 *     attribute=NAME, attribute=NAME:TYPE, all=1, kind=N, unique=1, name=NAME    of the index
 *     events=1        print what the observer is told
 *     interrupt=N     interrupt it at the N-th event
 *     expression=1    print the expression, too
 *     other names     options of the rollout
 *
 * Prints a line of JSON for each event, and one with the outcome.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hypervault.h"

static int argument_count;
static char **arguments;
static int events_left = -1; /* until the interruption */

_Noreturn static void die(const char *message) {
    fprintf(stderr, "index_tool: %s\n", message);
    exit(3);
}

/* The value of "NAME=VALUE", or NULL. */
static const char *value_of(const char *argument, const char *name) {
    size_t len = strlen(name);
    return strncmp(argument, name, len) == 0 && argument[len] == '=' ? argument + len + 1 : NULL;
}

static const char *find(const char *name) {
    const char *value = NULL;
    for (int i = 3; i < argument_count && value == NULL; i++)
        value = value_of(arguments[i], name);
    return value;
}

static json_t *text(const char *value) {
    return value != NULL ? json_string(value) : json_null();
}

static json_t *error_of(const hv_error *error) {
    if (error == NULL)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:i}", "status",
                     hv_status_name(hv_error_status(error)), "message",
                     text(hv_error_message(error)), "detail", text(hv_error_detail(error)), "hint",
                     text(hv_error_hint(error)), "sqlstate", text(hv_error_sqlstate(error)),
                     "server", text(hv_error_server(error)), "shard", hv_error_shard(error));
}

static void print(json_t *line) {
    if (line == NULL)
        die("no line");
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

/* ---- options ---- */

static hv_status add_attribute(hv_index *index, const char *value, hv_error **error) {
    char *name = strdup(value), *type = strchr(name, ':');
    if (type != NULL)
        *type++ = '\0';
    hv_status status = hv_index_attribute(index, name, type, error);
    free(name);
    return status;
}

/* Take what is the index's or our own; false: it is the rollout's. */
static bool take(hv_index *index, const char *argument, hv_status *status, hv_error **error) {
    const char *value;
    if ((value = value_of(argument, "attribute")) != NULL)
        *status = add_attribute(index, value, error);
    else if (value_of(argument, "all") != NULL)
        hv_index_all(index);
    else if (value_of(argument, "unique") != NULL)
        hv_index_unique(index);
    else if ((value = value_of(argument, "kind")) != NULL)
        hv_index_kind(index, (int16_t) atoi(value));
    else if ((value = value_of(argument, "name")) != NULL)
        *status = strcmp(arguments[2], "create") == 0 ? hv_index_name(index, value, error) : HV_OK;
    else
        return value_of(argument, "events") != NULL || value_of(argument, "interrupt") != NULL ||
               value_of(argument, "expression") != NULL;
    return true;
}

static hv_status read_arguments(hv_index *index, hv_rollout *rollout, hv_error **error) {
    hv_status status = HV_OK;
    for (int i = 3; i < argument_count && status == HV_OK; i++) {
        if (take(index, arguments[i], &status, error))
            continue;
        char *name = strdup(arguments[i]), *value = strchr(name, '=');
        if (value == NULL)
            die("an argument without a value");
        *value++ = '\0';
        status = hv_rollout_set(rollout, name, value, error);
        free(name);
    }
    return status;
}

static void note(void *context, const hv_rollout_event *event) {
    (void) context;
    if (events_left > 0)
        events_left--;
    if (find("events") != NULL)
        print(json_pack("{s:i, s:i, s:s, s:o, s:o, s:f, s:o}", "server", event->server, "shard",
                        event->shard, "work", hv_work_name(event->work), "step", text(event->step),
                        "waits_for", text(event->waits_for), "share", event->share, "error",
                        error_of(event->error)));
}

static bool is_interrupted(void *context) {
    (void) context;
    return events_left == 0;
}

/* ---- outcomes ---- */

static json_t *outcome_of(hv_status status, hv_error *error) {
    json_t *outcome =
        json_pack("{s:s, s:o}", "status", hv_status_name(status), "error", error_of(error));
    hv_error_free(error);
    return outcome;
}

static json_t *summary_of(hv_summary *summary) {
    json_t *all = json_array();
    int server, shard;
    hv_work work;
    const hv_error *error;
    for (size_t i = 0; summary != NULL && hv_summary_at(summary, i, &server, &shard, &work, &error);
         i++)
        json_array_append_new(all,
                              json_pack("{s:i, s:i, s:s, s:o}", "server", server, "shard", shard,
                                        "work", hv_work_name(work), "error", error_of(error)));
    hv_summary_free(summary);
    return all;
}

static json_t *indexes_of(hv_indexes *indexes) {
    json_t *all = json_array();
    const hv_index_info *info;
    for (size_t i = 0; indexes != NULL && (info = hv_indexes_at(indexes, i)) != NULL; i++)
        json_array_append_new(
            all,
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "name",
                      info->name, "definition", info->definition, "shards",
                      (json_int_t) info->shards, "missing", (json_int_t) info->missing, "invalid",
                      (json_int_t) info->invalid, "building", (json_int_t) info->building,
                      "different", (json_int_t) info->different, "bytes", (json_int_t) info->bytes,
                      "scans", (json_int_t) info->scans, "missing_in", info->missing_in,
                      "invalid_in", info->invalid_in, "different_in", info->different_in));
    hv_indexes_free(indexes);
    return all;
}

static void set_report(json_t *outcome, hv_schema_report *report) {
    json_t *groups = json_array(), *failures = json_array();
    const hv_schema_group *group;
    int server, shard;
    const hv_error *error;
    for (size_t i = 0; report != NULL && (group = hv_schema_report_group(report, i)) != NULL; i++)
        json_array_append_new(
            groups, json_pack("{s:I, s:s, s:s, s:s, s:s}", "count", (json_int_t) group->count,
                              "shards", group->shards, "digest", group->digest, "description",
                              group->description, "differences", group->differences));
    for (size_t i = 0;
         report != NULL && hv_schema_report_failure(report, i, &server, &shard, &error); i++)
        json_array_append_new(failures, json_pack("{s:i, s:i, s:o}", "server", server, "shard",
                                                  shard, "error", error_of(error)));
    json_object_set_new(outcome, "groups", groups);
    json_object_set_new(outcome, "failures", failures);
    hv_schema_report_free(report);
}

/* ---- the commands ---- */

static json_t *run(hv_store *store, hv_index *index, const hv_rollout *rollout) {
    const char *command = arguments[2];
    hv_error *error = NULL;
    if (strcmp(command, "create") == 0 || strcmp(command, "drop") == 0) {
        hv_summary *summary = NULL;
        const char *name = find("name");
        hv_status status =
            strcmp(command, "create") == 0
                ? hv_index_create(store, index, rollout, &summary, &error)
                : hv_index_drop(store, name != NULL ? name : "", rollout, &summary, &error);
        json_t *outcome = outcome_of(status, error);
        json_object_set_new(outcome, "summary", summary_of(summary));
        return outcome;
    }
    if (strcmp(command, "list") == 0) {
        hv_indexes *indexes = NULL;
        json_t *outcome = outcome_of(hv_index_list(store, rollout, &indexes, &error), error);
        json_object_set_new(outcome, "indexes", indexes_of(indexes));
        return outcome;
    }
    if (strcmp(command, "check") != 0)
        die("unknown command");
    hv_schema_report *report = NULL;
    json_t *outcome = outcome_of(hv_schema_check(store, rollout, &report, &error), error);
    set_report(outcome, report);
    return outcome;
}

static hv_store *open_store(const char *path, hv_error **error) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    if (hv_options_load(options, path, NULL, error) == HV_OK) {
        hv_options_set_interrupt(options, is_interrupted, NULL);
        hv_open(options, &store, error);
    }
    hv_options_free(options);
    return store;
}

int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    if (argc < 3)
        die("usage: index_tool CONFIG create|drop|list|check [NAME=VALUE...]");
    hv_error *error = NULL;
    hv_store *store = open_store(argv[1], &error);
    if (store == NULL)
        die(hv_error_message(error));
    hv_index *index = hv_index_new();
    hv_rollout *rollout = hv_rollout_new();
    hv_rollout_observe(rollout, note, NULL);
    if (find("interrupt") != NULL)
        events_left = atoi(find("interrupt"));
    hv_status status = read_arguments(index, rollout, &error);
    json_t *outcome = status == HV_OK ? run(store, index, rollout) : outcome_of(status, error);
    if (find("expression") != NULL)
        json_object_set_new(outcome, "expression", text(hv_index_expression(index, NULL)));
    if (strcmp(argv[2], "create") == 0)
        json_object_set_new(outcome, "name", text(hv_index_chosen_name(index)));
    print(outcome);
    hv_index_free(index);
    hv_rollout_free(rollout);
    if (hv_close(store, 5000, NULL) != HV_OK)
        die("the store is in use");
    return 0;
}
