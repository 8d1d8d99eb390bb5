/*
 * hv dev down, status, psql and destroy: work with private servers that exist.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arguments.h"
#include "base/suggest.h"
#include "commands.h"
#include "dev/dev.h"
#include "dev_view.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_DIR = 1, OPTION_YES };

#define DIR_OPTION \
    { "dir", 'd', "DIR", OPTION_DIR, "the servers' folder; default: see `hv help dev up`" }

static const command_option dir_option[] = {
    DIR_OPTION,
    {NULL, 0, NULL, 0, NULL},
};

/* Read --dir and find the folder. */
static bool open_folder(arguments *args, char **dir, dev_folder *folder, bool lock) {
    const char *named = NULL;
    while (arguments_next(args) != 0)
        named = args->value;
    *dir = dev_dir_argument(args, named);
    return dev_enter(dir, NULL, false) && (!lock || dev_lock(folder, *dir, false)) &&
           dev_folder_read(folder, *dir, NULL);
}

/* ---- down ------------------------------------------------------------------------------------ */

static int run_down(arguments *args) {
    char *dir = NULL;
    dev_folder folder = {.lock = -1};
    int stopped = 0;
    int code = EXIT_FAILED;
    if (open_folder(args, &dir, &folder, true) && dev_stop(&folder, "fast", &stopped)) {
        code = EXIT_DONE;
        if (ui_is_json())
            print_json(json_pack("{s:i}", "stopped", stopped));
        else if (stopped == 0)
            printf("nothing was running in %s\n", dir);
        else
            printf("stopped %d server%s\n", stopped, stopped == 1 ? "" : "s");
    }
    dev_folder_free(&folder);
    free(dir);
    return code;
}

const command command_dev_down = {
    .name = "dev down",
    .synopsis = "[--dir DIR]",
    .summary = "stop private servers",
    .help = "Their data stays: `hv dev up` starts them again.",
    .options = dir_option,
    .examples = "hv dev down",
    .run = run_down,
};

/* ---- status ---------------------------------------------------------------------------------- */

static int run_status(arguments *args) {
    char *dir = NULL;
    dev_folder folder = {.lock = -1};
    int code = EXIT_FAILED;
    if (open_folder(args, &dir, &folder, false)) {
        code = EXIT_DONE;
        for (int i = 0; i < folder.count; i++)
            if (dev_server_pid(&folder.servers[i]) == 0)
                code = EXIT_FAILED;
        if (ui_is_json())
            print_json(dev_as_json(&folder));
        else
            dev_print(&folder);
    }
    dev_folder_free(&folder);
    free(dir);
    return code;
}

const command command_dev_status = {
    .name = "dev status",
    .synopsis = "[--dir DIR]",
    .summary = "show private servers",
    .help = "The exit code is 1 unless all of them are running.",
    .options = dir_option,
    .examples = "hv dev status\n"
                "hv dev status --json | jq -r .config",
    .run = run_status,
};

/* ---- psql ------------------------------------------------------------------------------------ */

static int find_server(const arguments *args, const dev_folder *folder, const char *name) {
    hvi_suggestion search = {.word = name};
    for (int i = 0; i < folder->count; i++) {
        if (strcmp(folder->servers[i].name, name) == 0)
            return i;
        hvi_suggestion_offer(&search, folder->servers[i].name);
    }
    char *hint = search.best != NULL ? format_text("Did you mean \"%s\"?", search.best)
                                     : copy_text("`hv dev status` shows the servers there are.");
    usage_error(args, hint, "there is no server \"%s\"", name);
}

/* Become psql. Returns only if that fails. */
static void become_psql(const dev_folder *folder, const dev_server *server, char **more,
                        int count) {
    char *program = format_text("%s/psql", folder->bindir);
    char *port = format_text("%d", server->port);
    const char *const own[] = {program,       "-h", folder->sockets, "-p", port, "-U",
                               DEV_SUPERUSER, "-d", DEV_SUPERUSER};
    size_t own_count = sizeof own / sizeof own[0];
    const char **argv = new_memory((own_count + (size_t) count + 1) * sizeof *argv);
    memcpy(argv, own, sizeof own);
    for (int i = 0; i < count; i++)
        argv[own_count + (size_t) i] = more[i];
    execv(program, (char *const *) (uintptr_t) argv);
    ui_fail(strerror(errno), errno == ENOENT ? "Install PostgreSQL's client programs." : NULL,
            "could not run \"%s\"", program);
    free(argv);
    free(port);
    free(program);
}

static int run_psql(arguments *args) {
    char *dir = NULL;
    dev_folder folder = {.lock = -1};
    if (open_folder(args, &dir, &folder, false)) {
        if (args->before_end > 1)
            usage_error(args, "Arguments of psql follow \"--\".", "unexpected argument \"%s\"",
                        args->items[1]);
        int number = args->before_end > 0 ? find_server(args, &folder, args->items[0]) : 0;
        const dev_server *server = &folder.servers[number];
        if (dev_server_pid(server) == 0)
            ui_fail(NULL, "`hv dev up` starts it.", "server \"%s\" is not running", server->name);
        else
            become_psql(&folder, server, args->items + args->before_end,
                        args->count - args->before_end);
    }
    dev_folder_free(&folder);
    free(dir);
    return EXIT_FAILED;
}

const command command_dev_psql = {
    .name = "dev psql",
    .synopsis = "[SERVER] [--dir DIR] [-- PSQL-ARGUMENT...]",
    .summary = "run psql on a private server",
    .help = "On the first server, unless one is named. What follows -- goes to psql.",
    .options = dir_option,
    .examples = "hv dev psql\n"
                "hv dev psql two -- -c 'SELECT count(*) FROM shard0012.entities'",
    .run = run_psql,
};

/* ---- destroy --------------------------------------------------------------------------------- */

static const command_option destroy_options[] = {
    DIR_OPTION,
    {"yes", 'y', NULL, OPTION_YES, "do not ask"},
    {NULL, 0, NULL, 0, NULL},
};

/* On a terminal ask; elsewhere --yes is needed. */
static bool confirmed(const arguments *args, const dev_folder *folder) {
    if (!ui_is_terminal(stdin) || !ui_is_terminal(stderr))
        usage_error(args, "Add --yes to confirm it.",
                    "servers are not destroyed without a confirmation on a terminal");
    int64_t bytes = 0;
    for (int i = 0; i < folder->count; i++)
        bytes += tree_bytes(folder->servers[i].place);
    char size[UI_NUMBER_SIZE];
    bool yes = ui_confirm("Destroy %d server%s in %s with all their data (%s)?", folder->count,
                          folder->count == 1 ? "" : "s", folder->dir, ui_bytes(size, bytes));
    if (!yes)
        ui_note("Nothing was destroyed.");
    return yes;
}

/* As the folder's user: remove everything but the folder itself. */
static int empty_folder(const arguments *args, char **dir, bool yes) {
    dev_folder folder = {.lock = -1};
    int stopped = 0;
    int code = EXIT_FAILED;
    if (dev_enter(dir, NULL, false) && dev_lock(&folder, *dir, false) &&
        dev_folder_read(&folder, *dir, NULL) && (yes || confirmed(args, &folder)) &&
        dev_stop(&folder, "immediate", &stopped) && dev_folder_clear(&folder))
        code = EXIT_DONE;
    dev_folder_free(&folder);
    return code;
}

/* Root steps down to empty the folder, but its parent may be root's alone: a child does it. */
static int empty_as_root(const arguments *args, char **dir, bool yes) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        exit(empty_folder(args, dir, yes));
    if (pid < 0) {
        ui_fail(strerror(errno), NULL, "could not start a process");
        return EXIT_FAILED;
    }
    return process_wait(pid);
}

static int run_destroy(arguments *args) {
    const char *named = NULL;
    bool yes = false;
    int id;
    while ((id = arguments_next(args)) != 0) {
        if (id == OPTION_DIR)
            named = args->value;
        else
            yes = true;
    }
    arguments_expect(args, 0, 0);
    char *dir = dev_dir_argument(args, named);
    dev_way way = {.parent = -1, .folder = -1};
    int code = EXIT_FAILED;
    if (geteuid() != 0)
        code = empty_folder(args, &dir, yes);
    else if (dev_way_of(&way, &dir))
        code = empty_as_root(args, &dir, yes);
    bool removed = code == EXIT_DONE && (geteuid() == 0 ? dev_way_remove(&way) : rmdir(dir) == 0);
    if (code == EXIT_DONE && !removed && errno != ENOENT) {
        if (errno == ENOTEMPTY || errno == EEXIST)
            ui_note("%s stays: there are other files in it", dir);
        else
            ui_note("%s stays, empty: %s", dir, strerror(errno));
    }
    if (code == EXIT_DONE && ui_is_json())
        print_json(json_pack("{s:s}", "destroyed", dir));
    else if (code == EXIT_DONE)
        printf("destroyed the servers in %s\n", dir);
    dev_way_close(&way);
    free(dir);
    return code;
}

const command command_dev_destroy = {
    .name = "dev destroy",
    .synopsis = "[--dir DIR] [--yes]",
    .summary = "stop private servers and remove them with their data",
    .help = "Removes only what `hv dev up` has made. It asks first; without a terminal it needs\n"
            "--yes.",
    .options = destroy_options,
    .examples = "hv dev destroy\n"
                "hv dev destroy --dir /tmp/try --yes",
    .run = run_destroy,
};
