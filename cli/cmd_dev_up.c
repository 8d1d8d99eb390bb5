/*
 * hv dev up: make and start private servers, and their shards.
 *
 * Every step first checks whether it is done already, so that the command can be run again, even
 * after an error or a kill.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "commands.h"
#include "dev/dev.h"
#include "dev_view.h"
#include "init.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_DIR = 1, OPTION_SERVERS, OPTION_SHARDS, OPTION_PORT, OPTION_USER, OPTION_NO_INIT };

static const command_option options[] = {
    {"dir", 'd', "DIR", OPTION_DIR, "the servers' folder; default: see below"},
    {"servers", 'n', "N", OPTION_SERVERS, "how many servers, 1 to 16; default: 2"},
    {"shards", 's', "N", OPTION_SHARDS, "how many shards, spread evenly; default: 16"},
    {"port", 'p', "N", OPTION_PORT,
     "listen on 127.0.0.1 too, on ports N, N+1, ...; with a password"},
    {"user", 'u', "USER", OPTION_USER,
     "as root: the user that runs the servers; default: postgres, or else nobody"},
    {"no-init", 0, NULL, OPTION_NO_INIT, "do not make the shards; `hv init` does"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct request {
    char *dir; /* owned */
    const char *user;
    dev_wish wish;
    bool no_init;
} request;

static request read_request(arguments *args) {
    request asked = {0};
    const char *dir = NULL;
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_DIR:
            dir = args->value;
            break;
        case OPTION_SERVERS:
            asked.wish.servers =
                (int) argument_integer(args, "--servers", args->value, 1, DEV_MAX_SERVERS);
            break;
        case OPTION_SHARDS:
            asked.wish.shards = (int) argument_integer(args, "--shards", args->value, 1, HV_SHARDS);
            break;
        case OPTION_PORT:
            asked.wish.port =
                (int) argument_integer(args, "--port", args->value, 1, 65536 - DEV_MAX_SERVERS);
            break;
        case OPTION_USER:
            asked.user = args->value;
            break;
        case OPTION_NO_INIT:
            asked.no_init = true;
            break;
        }
    }
    arguments_expect(args, 0, 0);
    int servers = asked.wish.servers != 0 ? asked.wish.servers : DEV_DEFAULT_SERVERS;
    if (asked.wish.shards != 0 && asked.wish.shards < servers)
        usage_error(args, "Each server holds at least one shard.",
                    "%d servers cannot share %d shard%s", servers, asked.wish.shards,
                    asked.wish.shards == 1 ? "" : "s");
    asked.dir = dev_dir_argument(args, dir);
    return asked;
}

/* Read the folder, or make it; `*made` receives which. */
static bool prepare(dev_folder *folder, const request *asked, const char *bindir, bool *made) {
    if (!dev_lock(folder, asked->dir, true) || !dev_folder_read(folder, asked->dir, made))
        return false;
    if (*made)
        return dev_folder_make(folder, asked->dir, &asked->wish, bindir) &&
               dev_folder_complete(folder);
    if (!dev_folder_fits(folder, &asked->wish))
        return false;
    if (asked->wish.servers > folder->count) {
        int added = asked->wish.servers - folder->count;
        if (!dev_folder_grow(folder, asked->wish.servers))
            return false;
        ui_note("Adding %d server%s without shards.", added, added == 1 ? "" : "s");
    }
    if (!has_postgres(folder->bindir)) { /* a minor upgrade may have moved it */
        int major = 0;
        for (int i = 0; i < folder->count && major == 0; i++)
            major = data_version(folder->servers[i].data);
        free(folder->bindir);
        folder->bindir = find_postgres(major);
        if (folder->bindir == NULL)
            return false;
    }
    return dev_folder_complete(folder);
}

/* What `hv init` does, on these servers. */
static int make_shards(const dev_folder *folder, json_t **result) {
    hv_error *error = NULL;
    hv_store *store = NULL;
    hv_options *loaded = hv_options_new();
    if (loaded == NULL)
        out_of_memory();
    hv_status status = hv_options_load(loaded, folder->config, NULL, &error);
    if (status == HV_OK)
        status = hv_open(loaded, &store, &error);
    int code = exit_code(status);
    if (status == HV_OK)
        code = init_servers(store, NULL, result, NULL);
    else
        ui_error(error);
    hv_error_free(error);
    hv_close(store, 0, NULL);
    hv_options_free(loaded);
    return code;
}

static void print_way_on(const dev_folder *folder, bool has_shards) {
    char *config = quote_for_shell(folder->config);
    printf("\n%sContinue with%s\n  export HYPERVAULT_CONFIG=%s\n", ui_on(stdout, UI_BOLD),
           ui_off(stdout), config);
    free(config);
    if (!has_shards)
        puts("  hv init");
    else
        printf("  hv put %d 1 beep=boop\n  hv status\n", folder->servers[0].first_shard);
}

static int bring_up(request *asked, dev_folder *folder, const dev_extension *extension) {
    bool made = false;
    int started = 0;
    json_t *shards = NULL;
    char *bindir = NULL;
    int code = EXIT_FAILED;
    bool as_root = geteuid() == 0;

    bindir = find_postgres(0);
    if (bindir == NULL || !dev_enter(&asked->dir, asked->user, true) ||
        !prepare(folder, asked, bindir, &made))
        goto out;
    if (made) {
        char *user = as_root ? dev_user_name() : NULL;
        ui_note("Making %d PostgreSQL server%s in %s%s%s", folder->count,
                folder->count == 1 ? "" : "s", folder->dir, user != NULL ? ", as user " : "",
                user != NULL ? user : "");
        free(user);
    }
    if (!dev_make_data(folder) || !dev_settings_complete(folder) ||
        !dev_extension_install(folder, extension) || !dev_start(folder, &started))
        goto out;
    if (started == 0)
        ui_note("All servers were running.");
    code = asked->no_init ? EXIT_DONE : make_shards(folder, &shards);
    if (ui_is_json()) {
        json_t *view = dev_as_json(folder);
        if (shards != NULL)
            json_object_set_new(view, "init", shards);
        print_json(view);
    } else if (code == EXIT_DONE) {
        print_way_on(folder, !asked->no_init);
    }

out:
    free(bindir);
    return code;
}

static int run(arguments *args) {
    request asked = read_request(args);
    dev_folder folder = {.lock = -1};
    dev_extension *extension = dev_extension_read();
    int code = bring_up(&asked, &folder, extension);
    dev_extension_free(extension);
    dev_folder_free(&folder);
    free(asked.dir);
    return code;
}

const command command_dev_up = {
    .name = "dev up",
    .synopsis = "[--servers N] [--shards N] [--dir DIR] [--port N] [--user USER] [--no-init]",
    .summary = "make and start private servers with shards",
    .help = "Makes PostgreSQL servers in a folder of their own, starts them and makes their\n"
            "shards. Run again, it starts the servers that are stopped and changes nothing\n"
            "else, except that with a larger --servers it adds servers, without shards. They\n"
            "are reached through sockets that only the folder's user can open, or with --port\n"
            "on 127.0.0.1 with a password that is in the configuration.\n"
            "\n"
            "Shards can be moved between them at once (wal_level is logical, and there is room\n"
            "for slots and workers). Servers that an earlier version has made get these\n"
            "settings once, and are restarted for them. Moved shards stay where they are.\n"
            "\n"
            "They have the extension hypervault, for strict keys, if this hv was built or\n"
            "installed with it: a copy of PostgreSQL's program in the folder finds it. The\n"
            "machine's own PostgreSQL is not changed.\n"
            "\n"
            "PostgreSQL does not run as root. As root, a new folder and the servers belong to\n"
            "the user that --user names, or else to postgres, or to nobody where there is no\n"
            "such user. An existing folder must belong to the user named, not to root, and no\n"
            "other user may be able to change where the path to it leads.\n"
            "\n"
            "The folder is ~/.local/share/hypervault/dev (or below $XDG_DATA_HOME), as root\n"
            "/var/lib/hypervault/dev. PostgreSQL's programs are found by $PG_CONFIG, by\n"
            "pg_config, on PATH, or in the usual places.",
    .options = options,
    .examples = "hv dev up\n"
                "hv dev up --servers 4 --shards 64 --dir /tmp/try\n"
                "hv dev up --port 6001",
    .run = run,
};
