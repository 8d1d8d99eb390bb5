/*
 * hv init: make the shards that the configuration names, on all servers at the same time.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "init.h"
#include "keys_view.h"
#include "servers/servers.h"
#include "servers/named.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_KEYS = 1, OPTION_WITHOUT };

static const command_option options[] = {
    {"keys", 'k', "HOW", OPTION_KEYS, "auto, strict or portable; default: the configuration's",
     "auto strict portable"},
    {"without", 'w', "SERVER", OPTION_WITHOUT,
     "leave this server out if it cannot be reached; may be repeated"},
    {NULL, 0, NULL, 0, NULL},
};

/* One server's part. Only its thread uses it until on_all_servers() returns. */
typedef struct server_init {
    ui_progress *progress;
    int shards; /* that the configuration gives it */
    int created;
    keys_count keys;   /* what makes them, at the end */
    hv_report *report; /* the state before; NULL: not known */
    const init_without *without;
    bool left_out;
    bool begun;
    hv_status status;
    hv_error *error;
} server_init;

static void show_progress(void *context, int server, int done, int total) {
    ui_progress_total(context, server, total);
    ui_progress_set(context, server, done);
}

static bool is_left_out(const init_without *without, int server) {
    for (size_t i = 0; without != NULL && i < without->count; i++)
        if (without->servers[i] == server)
            return true;
    return false;
}

/* Find out what every server holds before anything is made anywhere. */
static void look_before(hv_store *store, int server, void *item) {
    server_init *part = item;
    part->shards = count_shards(store, server);
    part->left_out = is_left_out(part->without, server);
    part->status = hv_inspect(store, server, &part->report, &part->error);
    if (part->left_out && (part->status == HV_UNAVAILABLE || part->status == HV_TIMEOUT)) {
        hv_error_free(part->error);
        part->error = NULL;
        part->status = HV_OK;
    }
}

/* Can everything be made? */
static bool check_before(hv_store *store, server_init *parts) {
    int count = hv_server_count(store);
    hv_report **reports = new_memory((size_t) count * sizeof(hv_report *));
    on_all_servers(store, look_before, parts, sizeof *parts);
    for (int i = 0; i < count; i++)
        reports[i] = parts[i].report;
    bool ok = true;
    for (int i = 0; i < count; i++) {
        server_init *part = &parts[i];
        if (part->status == HV_OK && !part->left_out)
            part->status = hv_check_reports(reports, (size_t) count, (size_t) i, &part->error);
        ok = ok && part->status == HV_OK;
    }
    free(reports);
    return ok;
}

static void say_why_not(const hv_store *store, const server_init *parts) {
    bool unreachable = false;
    for (int i = 0; i < hv_server_count(store); i++) {
        hv_status status = parts[i].status;
        unreachable = unreachable || status == HV_UNAVAILABLE || status == HV_TIMEOUT;
        if (status != HV_OK)
            ui_error(parts[i].error);
    }
    ui_note("Nothing was made on any server.%s",
            unreachable ? " One that cannot be reached may hold shards of the others; if it does "
                          "not, `hv init --without SERVER` leaves it out."
                        : "");
}

/* Find out what makes the keys of the server's shards now. */
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
    const init_without *without = part->without;
    if (part->left_out)
        return;
    part->begun = true;
    ui_progress_total(part->progress, server, part->shards);
    part->status =
        hv_create_shards_without(store, server, without != NULL ? without->servers : NULL,
                                 without != NULL ? without->count : 0, show_progress,
                                 part->progress, &part->created, &part->error);
    if (part->status == HV_OK)
        part->status = look(store, server, part);
    ui_progress_end(part->progress, server, part->status == HV_OK ? UI_DONE : UI_FAILED);
    if (part->status != HV_OK && !ui_is_json())
        ui_error(part->error);
}

static bool is_ready(const server_init *part) {
    return part->begun && part->status == HV_OK;
}

static const char *state_of(const server_init *part) {
    if (part->status != HV_OK)
        return "failed";
    return part->left_out ? "left out" : part->begun ? "ready" : "not begun";
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
        bool ok = is_ready(part);
        char *keys = keys_count_text(&part->keys);
        ui_cell(table, UI_NAME, "%s", hv_server_name(store, i));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, part->shards));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, part->created));
        ui_cell(table, UI_PLAIN, "%s", ok ? ui_number(number, part->shards - part->created) : "?");
        ui_cell(table, ok ? UI_PLAIN : UI_DIM, "%s", keys);
        free(keys);
        ui_cell(table,
                ok                      ? UI_GOOD
                : part->status != HV_OK ? UI_BAD
                                        : UI_WARN,
                "%s", state_of(part));
    }
    ui_table_print(table);
    ui_table_free(table);
}

static json_t *as_json(const hv_store *store, const server_init *parts) {
    json_t *list = json_array();
    for (int i = 0; i < hv_server_count(store); i++) {
        const server_init *part = &parts[i];
        json_t *error = part->status != HV_OK ? ui_error_json(part->error) : NULL;
        json_t *keys = is_ready(part) ? keys_count_json(&part->keys) : NULL;
        json_array_append_new(list, json_pack("{s:s, s:b, s:i, s:i, s:o*, s:o*, s:o*}", "server",
                                              hv_server_name(store, i), "ready", is_ready(part),
                                              "shards", part->shards, "created", part->created,
                                              "keys", keys, "error", error, "left_out",
                                              part->left_out ? json_true() : NULL));
    }
    return list;
}

/* Make everything that is missing. */
static void make(hv_store *store, server_init *parts) {
    int count = hv_server_count(store);
    const char **names = new_memory((size_t) count * sizeof *names);
    for (int i = 0; i < count; i++)
        names[i] = hv_server_name(store, i);
    ui_progress *progress = ui_progress_new(count, names, "shards");
    for (int i = 0; i < count; i++)
        parts[i].progress = progress;
    on_all_servers(store, create, parts, sizeof *parts);
    ui_progress_free(progress, false); /* the table says the same, and more */
    free(names);
}

int init_servers(hv_store *store, const init_without *without, json_t **result, int *created) {
    int count = hv_server_count(store);
    server_init *parts = new_memory((size_t) count * sizeof *parts);
    for (int i = 0; i < count; i++)
        parts[i].without = without;
    if (check_before(store, parts))
        make(store, parts);
    else if (!ui_is_json())
        say_why_not(store, parts);
    int code = EXIT_DONE;
    for (int i = 0; i < count; i++)
        if (!is_ready(&parts[i]) && !parts[i].left_out)
            code = EXIT_FAILED;
    if (ui_is_json())
        *result = as_json(store, parts);
    else
        print_table(store, parts);
    for (int i = 0; i < count; i++) {
        if (created != NULL)
            *created += parts[i].created;
        hv_error_free(parts[i].error);
        hv_report_free(parts[i].report);
    }
    free(parts);
    return code;
}

/* ---- Migrations of new shards ---------------------------------------------------------------- */

/* How many files were run on each new shard. */
static size_t count_migrations(const char *directory) {
    hv_migrations *migrations = NULL;
    if (hv_migrations_load(directory, &migrations, NULL) != HV_OK)
        return 0; /* then nothing was made, and the reason was reported */
    size_t count = hv_migrations_count(migrations);
    hv_migrations_free(migrations);
    return count;
}

/* The option `migrations` is not set: do other shards have migrations that the new ones lack? */
static void say_what_lacks(hv_store *store) {
    hv_ledger *ledger = NULL;
    if (hv_migrate_status(store, NULL, NULL, &ledger, NULL) == HV_OK && hv_ledger_files(ledger) > 0)
        ui_note("Other shards have migrations, %s and so on, which the new ones lack. Run `hv "
                "migrate DIR`; with the option `migrations` in the configuration, new shards get "
                "them at once.",
                hv_ledger_file(ledger, 0));
    hv_ledger_free(ledger);
}

/* Say what was run on the shards that were made, or add it to the result. */
static void show_migrations(hv_store *store, const char *directory, json_t *result, int created) {
    size_t i, files = directory != NULL && created > 0 ? count_migrations(directory) : 0;
    json_t *server;
    json_array_foreach(result, i, server) {
        if (files > 0 && json_integer_value(json_object_get(server, "created")) > 0)
            json_object_set_new(server, "migrations", json_integer((json_int_t) files));
    }
    if (files > 0)
        ui_note("%zu migration%s of \"%s\" %s run on each new shard.", files, files == 1 ? "" : "s",
                directory, files == 1 ? "was" : "were");
    else if (directory == NULL && created > 0 && !ui_is_json())
        say_what_lacks(store);
}

/* ---- The command ----------------------------------------------------------------------------- */

/* Open the store, with the option `keys` set to this; NULL: as it is configured. `*migrations`: the
 * option; free() it. */
static int open_with_keys(const char *keys, hv_store **store, char **migrations) {
    hv_options *loaded = NULL;
    hv_error *error = NULL;
    int code = load_options(&loaded, NULL);
    if (code != EXIT_DONE)
        return code;
    hv_status status = keys != NULL ? hv_options_set(loaded, "keys", keys, &error) : HV_OK;
    const char *directory = hv_options_get(loaded, "migrations");
    if (directory != NULL && directory[0] != '\0')
        *migrations = copy_text(directory);
    if (status == HV_OK)
        status = hv_open(loaded, store, &error);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    hv_options_free(loaded);
    return exit_code(status);
}

/* Read --without: the numbers of the servers that are left out. */
static bool find_without(const hv_store *store, const char *const *names, size_t count,
                         int *servers) {
    for (size_t i = 0; i < count; i++) {
        servers[i] = server_named(store, names[i], "The configuration names the servers.");
        if (servers[i] < 0)
            return false;
    }
    return true;
}

static int run(arguments *args) {
    const char *keys = NULL;
    const char **names = NULL;
    size_t count = 0;
    int id;
    while ((id = arguments_next(args)) != 0) {
        if (id == OPTION_WITHOUT) {
            names = resize_memory(names, (count + 1) * sizeof *names);
            names[count++] = args->value;
            continue;
        }
        keys = args->value;
        if (strcmp(keys, "auto") != 0 && strcmp(keys, "strict") != 0 &&
            strcmp(keys, "portable") != 0)
            usage_error(args, "It is auto, strict or portable.", "invalid value for --keys: \"%s\"",
                        keys);
    }
    arguments_expect(args, 0, 0);
    hv_store *store = NULL;
    json_t *result = NULL;
    int *servers = new_memory((count + 1) * sizeof *servers);
    init_without without = {.servers = servers, .count = count};
    char *migrations = NULL;
    int created = 0;
    int code = open_with_keys(keys, &store, &migrations);
    if (code == EXIT_DONE)
        code = find_without(store, names, count, servers)
                   ? init_servers(store, &without, &result, &created)
                   : EXIT_FAILED;
    if (store != NULL)
        show_migrations(store, migrations, result, created);
    if (result != NULL)
        print_json(result);
    hv_close(store, 0, NULL);
    free(migrations);
    free(servers);
    free(names);
    return code;
}

const command command_init = {
    .name = "init",
    .synopsis = "[--keys auto|strict|portable] [--without SERVER]...",
    .summary = "make the shards that the configuration names",
    .help = "Creates what is missing on every server: the extension hstore, and for each shard\n"
            "its schema, table, sequence and function. Existing objects are not touched, so it\n"
            "can be run again, and after adding shards to the configuration. A server that\n"
            "fails while it makes them does not stop the others; the exit code is then 1.\n"
            "\n"
            "All servers are asked first. If one of them holds a shard that would be made on\n"
            "another, nothing is made, because the shard would be empty there. Nor is anything\n"
            "made if a server cannot be reached, unless it is named with --without; its own\n"
            "shards are then not made.\n"
            "\n"
            "With --keys strict or --keys portable, shards whose keys are made in another way\n"
            "are changed while they are in use. Strict keys need the extension hypervault, and\n"
            "are unique and ascending whatever the clock does; portable ones need nothing.\n"
            "\n"
            "If the option `migrations` names a directory, all of its files are run on each new\n"
            "shard, and recorded there: see `hv help migrate`.",
    .options = options,
    .examples = "hv init\n"
                "hv init --keys strict\n"
                "hv init --without two\n"
                "hv init --config production.conf",
    .run = run,
};
