/*
 * hv init: make the shards that the configuration names, on all servers at the same time.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "commands.h"
#include "init.h"
#include "keys_view.h"
#include "memory.h"
#include "servers.h"
#include "ui.h"

enum { OPTION_KEYS = 1 };

static const command_option options[] = {
    {"keys", 'k', "HOW", OPTION_KEYS,
     "auto, strict or portable; default: what the configuration says"},
    {NULL, 0, NULL, 0, NULL},
};

/* One server's part; its thread's own until on_all_servers() returns. */
typedef struct server_init {
    ui_progress *progress;
    int shards; /* that the configuration gives it */
    int created;
    keys_count keys; /* what makes them, when all is done */
    hv_status status;
    hv_error *error;
} server_init;

static void tell_progress(void *context, int server, int done, int total) {
    ui_progress_total(context, server, total);
    ui_progress_set(context, server, done);
}

/* See what makes the keys of the server's shards now. */
static hv_status look(hv_store *store, int server, server_init *part) {
    hv_report *report = NULL;
    hv_status status = hv_inspect(store, server, &report, &part->error);
    if (status == HV_OK)
        part->keys = keys_count_report(report);
    hv_report_free(report);
    return status;
}

static void create(hv_store *store, int server, void *item) {
    server_init *part = item;
    part->shards = count_shards(store, server);
    ui_progress_total(part->progress, server, part->shards);
    part->status = hv_create_shards(store, server, tell_progress, part->progress, &part->created,
                                    &part->error);
    if (part->status == HV_OK)
        part->status = look(store, server, part);
    ui_progress_end(part->progress, server, part->status == HV_OK ? UI_DONE : UI_FAILED);
    if (part->status != HV_OK && !globals.json)
        ui_error(part->error);
}

static void print_table(const hv_store *store, const server_init *parts) {
    static const ui_column columns[] = {
        {"server", false},      {"shards", true}, {"created", true},
        {"there before", true}, {"keys", false},  {"state", false},
    };
    char number[UI_NUMBER_SIZE];
    ui_table *table = ui_table_new(columns, 6);
    for (int i = 0; i < hv_server_count(store); i++) {
        const server_init *part = &parts[i];
        bool ok = part->status == HV_OK;
        char *keys = keys_count_text(&part->keys);
        ui_cell(table, UI_NAME, "%s", hv_server_name(store, i));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, part->shards));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, part->created));
        ui_cell(table, UI_PLAIN, "%s", ok ? ui_number(number, part->shards - part->created) : "?");
        ui_cell(table, ok ? UI_PLAIN : UI_DIM, "%s", keys);
        free(keys);
        ui_cell(table, ok ? UI_GOOD : UI_BAD, "%s", ok ? "ready" : "failed");
    }
    ui_table_print(table);
    ui_table_free(table);
}

static json_t *as_json(const hv_store *store, const server_init *parts) {
    json_t *list = json_array();
    for (int i = 0; i < hv_server_count(store); i++) {
        const server_init *part = &parts[i];
        json_t *error = part->status != HV_OK ? ui_error_json(part->error) : NULL;
        json_t *keys = part->status == HV_OK ? keys_count_json(&part->keys) : NULL;
        json_array_append_new(
            list, json_pack("{s:s, s:b, s:i, s:i, s:o*, s:o*}", "server", hv_server_name(store, i),
                            "ready", part->status == HV_OK, "shards", part->shards, "created",
                            part->created, "keys", keys, "error", error));
    }
    return list;
}

int init_servers(hv_store *store, json_t **result) {
    int count = hv_server_count(store);
    const char **names = new_memory((size_t) count * sizeof *names);
    server_init *parts = new_memory((size_t) count * sizeof *parts);
    for (int i = 0; i < count; i++)
        names[i] = hv_server_name(store, i);
    ui_progress *progress = ui_progress_new(count, names, "shards");
    for (int i = 0; i < count; i++)
        parts[i].progress = progress;

    on_all_servers(store, create, parts, sizeof *parts);

    ui_progress_free(progress, false); /* the table says the same, and more */
    int code = EXIT_DONE;
    for (int i = 0; i < count; i++)
        if (parts[i].status != HV_OK)
            code = EXIT_FAILED;
    if (globals.json)
        *result = as_json(store, parts);
    else
        print_table(store, parts);
    for (int i = 0; i < count; i++)
        hv_error_free(parts[i].error);
    free(parts);
    free(names);
    return code;
}

/* Open the store, with the option `keys` set to this; NULL: as it is configured. */
static int open_with_keys(const char *keys, hv_store **store) {
    hv_options *loaded = NULL;
    hv_error *error = NULL;
    int code = load_options(&loaded, NULL);
    if (code != EXIT_DONE)
        return code;
    hv_status status = keys != NULL ? hv_options_set(loaded, "keys", keys, &error) : HV_OK;
    if (status == HV_OK)
        status = hv_open(loaded, store, &error);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    hv_options_free(loaded);
    return exit_code(status);
}

static int run(arguments *args) {
    const char *keys = NULL;
    while (arguments_next(args) != 0) {
        keys = args->value;
        if (strcmp(keys, "auto") != 0 && strcmp(keys, "strict") != 0 &&
            strcmp(keys, "portable") != 0)
            usage_error(args, "It is auto, strict or portable.", "invalid value for --keys: \"%s\"",
                        keys);
    }
    arguments_expect(args, 0, 0);
    hv_store *store = NULL;
    json_t *result = NULL;
    int code = open_with_keys(keys, &store);
    if (code == EXIT_DONE)
        code = init_servers(store, &result);
    if (result != NULL)
        print_json(result);
    hv_close(store, 0, NULL);
    return code;
}

const command command_init = {
    .name = "init",
    .synopsis = "[--keys auto|strict|portable]",
    .summary = "make the shards that the configuration names",
    .help =
        "Creates on every server what is missing: the extension hstore, and for each shard its\n"
        "schema, table, sequence and function. What is there is not touched, so it can be run\n"
        "again, and after adding shards to the configuration. A server that fails does not\n"
        "stop the others; the exit code is then 1.\n"
        "\n"
        "With --keys strict or --keys portable, shards whose keys are made in another way are\n"
        "changed, while they are in use. Strict keys need the extension hypervault, and are\n"
        "unique and ascending whatever the clock does; portable ones need nothing.",
    .options = options,
    .examples = "hv init\n"
                "hv init --keys strict\n"
                "hv init --config production.conf",
    .run = run,
};
