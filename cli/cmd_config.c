/*
 * hv config: which server holds which shards, and the same in the configuration file.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "moved_shards.h"
#include "servers/store.h"
#include "shard_list.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_WRITE = 1 };

static const command_option options[] = {
    {"write", 'w', NULL, OPTION_WRITE, "put the shards into the file"},
    {NULL, 0, NULL, 0, NULL},
};

/* ---- What servers have ----------------------------------------------------------------------- */

/* The shards that a server has, or that the configuration gives it: free() it. */
static char *shards_of(const hv_store *store, int server, bool configured) {
    shard_list list = {0};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if ((configured ? hv_configured_server(store, shard) : hv_shard_server(store, shard)) ==
            server)
            shard_list_add(&list, shard);
    return shard_list_take(&list);
}

/* Those that it has and the configuration gives to another one, or the other way round. Where the
 * configuration says nothing, nothing differs. */
static char *differing(const hv_store *store, int server, bool gained, size_t *count) {
    shard_list list = {0};
    for (int shard = 0; shard < HV_SHARDS; shard++) {
        int has = hv_shard_server(store, shard), given = hv_configured_server(store, shard);
        if (given >= 0 && has != given && server == (gained ? has : given))
            shard_list_add(&list, shard);
    }
    *count = list.count;
    return shard_list_take(&list);
}

static char *disputed(const hv_store *store, size_t *count) {
    shard_list list = {0};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (hv_shard_rival(store, shard) >= 0)
            shard_list_add(&list, shard);
    *count = list.count;
    return shard_list_take(&list);
}

/* ---- For people ------------------------------------------------------------------------------ */

static void add_list(ui_table *table, ui_style style, const char *sign, const char *list) {
    if (*list == '\0') {
        ui_cell(table, UI_DIM, "-");
        return;
    }
    char *text = shard_list_short(list);
    ui_cell(table, style, "%s%s", sign, text);
    free(text);
}

static void print_servers(const hv_store *store) {
    static const ui_column columns[] = {
        {"server", false}, {"shards", false}, {"in the file", false},
        {"came", false},   {"went", false},
    };
    ui_table *table = ui_table_new(columns, 5);
    for (int i = 0; i < hv_server_count(store); i++) {
        size_t came, went;
        char *has = shards_of(store, i, false), *given = shards_of(store, i, true);
        char *gained = differing(store, i, true, &came), *lost = differing(store, i, false, &went);
        ui_cell(table, UI_NAME, "%s", hv_server_name(store, i));
        add_list(table, UI_PLAIN, "", has);
        if (hv_server_is_auto(store, i))
            ui_cell(table, UI_PLAIN, "auto");
        else
            add_list(table, came + went > 0 ? UI_WARN : UI_PLAIN, "", given);
        add_list(table, UI_GOOD, "+", gained);
        add_list(table, UI_WARN, "-", lost);
        free(has);
        free(given);
        free(gained);
        free(lost);
    }
    ui_table_print(table);
    ui_table_free(table);
}

static void print_text(const hv_store *store, const char *path, bool is_written) {
    size_t count, disputes;
    char *moved = moved_shards(store, &count), *twice = disputed(store, &disputes);
    print_servers(store);
    if (disputes > 0)
        printf(
            "%s%zu shard%s %s on two servers (%s): writes are refused until one gives %s up.%s\n",
            ui_on(stdout, UI_BAD), disputes, disputes == 1 ? "" : "s", disputes == 1 ? "is" : "are",
            twice, disputes == 1 ? "it" : "them", ui_off(stdout));
    if (is_written)
        printf("%s says so now.\n", path);
    else if (count > 0)
        printf("%s%zu shard%s not where %s says: `hv config --write` puts that right.%s\n",
               ui_on(stdout, UI_WARN), count, count == 1 ? " is" : "s are", path, ui_off(stdout));
    free(moved);
    free(twice);
}

/* ---- For programs ---------------------------------------------------------------------------- */

static json_t *server_as_json(const hv_store *store, int server) {
    size_t came, went;
    bool is_auto = hv_server_is_auto(store, server);
    char *has = shards_of(store, server, false), *given = shards_of(store, server, true);
    char *gained = differing(store, server, true, &came);
    char *lost = differing(store, server, false, &went);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", hv_server_name(store, server), "shards", has,
                  "file", is_auto ? "auto" : given, "came", gained, "went", lost);
    free(has);
    free(given);
    free(gained);
    free(lost);
    return object;
}

static void print_as_json(const hv_store *store, const char *path, bool is_written) {
    size_t count, disputes;
    char *moved = moved_shards(store, &count), *twice = disputed(store, &disputes);
    json_t *list = json_array();
    for (int i = 0; i < hv_server_count(store); i++)
        json_array_append_new(list, server_as_json(store, i));
    print_json(json_pack("{s:o, s:s, s:s, s:b, s:o}", "path", ui_json_text(path), "moved", moved,
                         "disputed", twice, "written", is_written, "servers", list));
    free(moved);
    free(twice);
}

/* ---- The command ----------------------------------------------------------------------------- */

static int show(hv_store *store, const char *path, bool writes) {
    hv_error *error = NULL;
    hv_status status =
        writes ? hv_config_write(store, path, &error) : hv_locate_shards(store, &error);
    bool is_written = writes && status == HV_OK;
    if (ui_is_json())
        print_as_json(store, path, is_written);
    else
        print_text(store, path, is_written);
    output_flush(); /* the error comes after the table */
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return status == HV_OK ? EXIT_DONE : EXIT_FAILED;
}

static int run(arguments *args) {
    bool writes = false;
    while (arguments_next(args) != 0)
        writes = true;
    arguments_expect(args, 0, 0);
    hv_options *loaded = NULL;
    hv_store *store = NULL;
    char *path = NULL;
    hv_error *error = NULL;
    int code = load_options(&loaded, &path);
    if (code != EXIT_DONE) {
        free(path);
        return code;
    }
    hv_status status = hv_open(loaded, &store, &error);
    hv_options_free(loaded);
    if (status == HV_OK)
        code = show(store, path, writes);
    else
        code = (ui_error(error), EXIT_FAILED);
    hv_error_free(error);
    hv_close(store, 0, NULL);
    free(path);
    return code;
}

const command command_config = {
    .name = "config",
    .synopsis = "[--write]",
    .summary = "show which server holds which shards",
    .help = "Asks all servers at the same time, and shows what differs from the configuration\n"
            "file: shards that a server has and the file gives to another one (+), and those\n"
            "that it has no more (-). Programs find moved shards without the file, too.\n"
            "\n"
            "--write puts the shards into the file. Only lines with `shards` change; `auto`\n"
            "becomes a list. Comments and everything else stay, and so do mode and owner. It is\n"
            "refused, and the file stays as it is, if a server could not be asked, or two of\n"
            "them claim a shard. The exit code is 1 then, and also without --write if a server\n"
            "could not be asked.",
    .options = options,
    .examples = "hv config\n"
                "hv config --write\n"
                "hv config --json | jq -r .moved",
    .run = run,
};
