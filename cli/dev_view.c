/*
 * dev_view: the arguments and the output that the `hv dev` commands share.
 */
#include "dev_view.h"

#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "ui/memory.h"
#include "ui/ui.h"

char *dev_dir_argument(const arguments *args, const char *named) {
    forget_pg_environment();
    char *dir = named != NULL ? copy_text(named) : dev_default_dir();
    if (dir == NULL)
        usage_error(args, "Name the folder with --dir, or set HOME.",
                    "there is no home directory to put the servers' folder in");
    return dir;
}

char *dev_user_name(void) {
    const struct passwd *user = getpwuid(geteuid());
    return user != NULL ? copy_text(user->pw_name) : format_text("%u", (unsigned) geteuid());
}

json_t *dev_as_json(const dev_folder *folder) {
    json_t *list = json_array();
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        pid_t pid = dev_server_pid(server);
        char *version = dev_server_version(folder, server);
        char *shards = server->first_shard < server->end_shard
                           ? format_text("%d-%d", server->first_shard, server->end_shard)
                           : copy_text("");
        json_t *made =
            json_pack("{s:s, s:b, s:s*, s:s, s:i, s:s, s:s, s:s, s:I}", "name", server->name,
                      "running", pid != 0, "version", version[0] != '\0' ? version : NULL, "host",
                      folder->port != 0 ? "127.0.0.1" : folder->sockets, "port", server->port,
                      "shards", shards, "data", server->data, "log", server->log, "bytes",
                      (json_int_t) tree_bytes(server->place));
        if (pid != 0)
            json_object_set_new(made, "pid", json_integer(pid));
        json_array_append_new(list, made);
        free(shards);
        free(version);
    }
    char *user = dev_user_name();
    json_t *view =
        json_pack("{s:s, s:s, s:s, s:s, s:o}", "dir", folder->dir, "config", folder->config,
                  "sockets", folder->sockets, "user", user, "servers", list);
    free(user);
    return view;
}

static void print_fact(const char *name, const char *value) {
    printf("%s%-8s%s ", ui_on(stdout, UI_DIM), name, ui_off(stdout));
    ui_text(stdout, value, strlen(value));
    putchar('\n');
}

void dev_print(const dev_folder *folder) {
    static const ui_column columns[] = {
        {"server", false}, {"state", false}, {"pid", true},  {"postgres", false},
        {"port", true},    {"shards", true}, {"size", true},
    };
    ui_table *table = ui_table_new(columns, 7);
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        pid_t pid = dev_server_pid(server);
        char *version = dev_server_version(folder, server);
        char size[UI_NUMBER_SIZE];
        ui_cell(table, UI_NAME, "%s", server->name);
        ui_cell(table, pid != 0 ? UI_GOOD : UI_WARN, pid != 0 ? "running" : "stopped");
        if (pid != 0)
            ui_cell(table, UI_PLAIN, "%ld", (long) pid);
        else
            ui_cell(table, UI_DIM, "-");
        ui_cell(table, UI_PLAIN, "%s", version);
        ui_cell(table, UI_PLAIN, "%d", server->port);
        if (server->first_shard < server->end_shard)
            ui_cell(table, UI_PLAIN, "%d to %d", server->first_shard, server->end_shard - 1);
        else
            ui_cell(table, UI_DIM, "-");
        ui_cell(table, UI_PLAIN, "%s", ui_bytes(size, tree_bytes(server->place)));
        free(version);
    }
    ui_table_print(table);
    ui_table_free(table);
    char *user = dev_user_name();
    char *logs = format_text("%s/NAME/log", folder->dir);
    putchar('\n');
    print_fact("config", folder->config);
    print_fact("sockets", folder->sockets);
    print_fact("logs", logs);
    print_fact("user", user);
    free(logs);
    free(user);
}
