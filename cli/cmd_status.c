/*
 * hv status: the state of all servers, which are asked at the same time.
 *
 * Each server's report or error is kept until all have answered. A server that cannot be reached
 * delays the others by at most pool_block_timeout, and hides nothing about them.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "keys_view.h"
#include "moved_shards.h"
#include "rollout.h"
#include "schema_line.h"
#include "servers/servers.h"
#include "shard_list.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_SHARDS = 1 };

static const command_option options[] = {
    {"shards", 's', NULL, OPTION_SHARDS, "list every shard"},
    {NULL, 0, NULL, 0, NULL},
};

/* One server's answer, and the sums over its shards. */
typedef struct server_status {
    hv_status status;
    hv_error *error;
    hv_report *report; /* NULL unless status is HV_OK */
    int configured;    /* shards that the configuration gives it */
    int count[HV_SHARD_TWICE + 1];
    keys_count keys;
    int64_t entities;
    bool exact;
    int64_t bytes;
} server_status;

static const char *const state_names[] = {
    [HV_SHARD_READY] = "ready",           [HV_SHARD_MISSING] = "missing",
    [HV_SHARD_INCOMPLETE] = "incomplete", [HV_SHARD_UNMAPPED] = "unmapped",
    [HV_SHARD_ELSEWHERE] = "elsewhere",   [HV_SHARD_TWICE] = "twice",
};

typedef struct shard_line {
    int shard;
    hv_shard_state state;
    int64_t entities;
    bool exact;
    int64_t bytes;
    hv_keys keys;
    const char *detail; /* what is wrong with it and what to do; NULL: nothing */
    const char *hint;
} shard_line;

static bool shard_at(const hv_report *report, size_t index, shard_line *line) {
    line->keys = hv_report_shard_keys(report, index);
    line->detail = hv_report_shard_detail(report, index);
    line->hint = hv_report_shard_hint(report, index);
    return hv_report_shard(report, index, &line->shard, &line->state, &line->entities, &line->exact,
                           &line->bytes);
}

static void look(hv_store *store, int server, void *item) {
    server_status *seen = item;
    seen->configured = count_shards(store, server);
    seen->status = hv_inspect(store, server, &seen->report, &seen->error);
    seen->exact = true;
}

/* Count the shards in each state, when all servers have answered and were compared. */
static void add_up(server_status *seen) {
    if (seen->report != NULL)
        seen->keys = keys_count_report(seen->report);
    shard_line line;
    for (size_t i = 0; seen->report != NULL && shard_at(seen->report, i, &line); i++) {
        seen->count[line.state]++;
        seen->entities += line.entities > 0 ? line.entities : 0;
        seen->exact = seen->exact && line.exact;
        seen->bytes += line.bytes > 0 ? line.bytes : 0;
    }
}

/* Is there nothing to do? */
static bool in_order(const server_status *seen) {
    return seen->status == HV_OK && seen->count[HV_SHARD_MISSING] == 0 &&
           seen->count[HV_SHARD_INCOMPLETE] == 0 && seen->count[HV_SHARD_ELSEWHERE] == 0 &&
           seen->count[HV_SHARD_TWICE] == 0;
}

/* Is a shard on another server than the configuration says, or on two? */
static bool is_misplaced(const server_status *seen) {
    return seen->count[HV_SHARD_ELSEWHERE] > 0 || seen->count[HV_SHARD_TWICE] > 0;
}

/* ---- For people ------------------------------------------------------------------------------ */

static const char *about(bool exact) {
    return exact ? "" : ui_unicode() ? "≈" : "~";
}

static void add_row(ui_table *table, const char *name, const server_status *seen) {
    char number[UI_NUMBER_SIZE];
    ui_cell(table, UI_NAME, "%s", name);
    if (seen->status != HV_OK) {
        bool reached = seen->status != HV_UNAVAILABLE && seen->status != HV_TIMEOUT;
        ui_cell(table, UI_BAD, "%s", reached ? "failed" : "unreachable");
        for (int i = 0; i < 7; i++)
            ui_cell(table, UI_DIM, "-");
        return;
    }
    int ready = seen->count[HV_SHARD_READY];
    const char *version = hv_report_postgres_version(seen->report);
    ui_cell(table, in_order(seen) ? UI_GOOD : UI_WARN, "%s",
            in_order(seen)       ? "ready"
            : is_misplaced(seen) ? "misplaced"
            : ready == 0         ? "not initialised"
                                 : "incomplete");
    ui_cell(table, UI_PLAIN, "%.*s", (int) strcspn(version, " "), version);
    if (hv_report_layout(seen->report) > 0)
        ui_cell(table, UI_PLAIN, "%d", hv_report_layout(seen->report));
    else
        ui_cell(table, UI_DIM, "-");
    if (ready == seen->configured || in_order(seen)) /* some may have moved here, or away */
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, ready));
    else
        ui_cell(table, UI_WARN, "%d of %d", ready, seen->configured);
    char *keys = keys_count_text(&seen->keys);
    ui_cell(table, UI_PLAIN, "%s", keys);
    free(keys);
    ui_cell(table, UI_PLAIN, "%s%s", about(seen->exact), ui_number(number, seen->entities));
    ui_cell(table, UI_PLAIN, "%s", ui_bytes(number, seen->bytes));
    ui_cell(table, UI_PLAIN, "%d of %d", hv_report_connections(seen->report),
            hv_report_max_connections(seen->report));
}

static void print_servers(const hv_store *store, const server_status *all) {
    static const ui_column columns[] = {
        {"server", false},  {"state", false}, {"postgres", false},
        {"layout", true},   {"shards", true}, {"keys", false},
        {"entities", true}, {"size", true},   {"connections", true},
    };
    ui_table *table = ui_table_new(columns, 9);
    for (int i = 0; i < hv_server_count(store); i++)
        add_row(table, hv_server_name(store, i), &all[i]);
    ui_table_print(table);
    ui_table_free(table);
}

static bool same_text(const char *left, const char *right) {
    return left == right || (left != NULL && right != NULL && strcmp(left, right) == 0);
}

/* Is it in the same state, and for the same reason? */
static bool is_alike(const shard_line *line, const shard_line *other) {
    return line->state == other->state && same_text(line->detail, other->detail);
}

/* The shards in the same state as this one, as ranges, "12, 14 to 16"; cut when there are many. */
static char *list_shards(const hv_report *report, const shard_line *like, int *count) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL)
        out_of_memory();
    int ranges = 0, first = -2, last = -2;
    shard_line line;
    *count = 0;
    for (size_t i = 0;; i++) {
        bool more = shard_at(report, i, &line);
        if (more && !is_alike(&line, like))
            continue;
        *count += more;
        if (more && line.shard == last + 1) {
            last++;
            continue;
        }
        if (first >= 0 && ++ranges <= 9) {
            fprintf(stream, ranges == 9 ? ", ..." : ranges > 1 ? ", %d" : "%d", first);
            if (last > first && ranges < 9)
                fprintf(stream, " to %d", last);
        }
        if (!more)
            break;
        first = last = line.shard;
    }
    fclose(stream);
    return text;
}

static const char *what_to_do(const shard_line *line) {
    switch (line->state) {
    case HV_SHARD_MISSING:
        return "`hv init` makes them";
    case HV_SHARD_UNMAPPED:
        return line->hint != NULL ? line->hint : "on this server, but not in its configuration";
    default:
        return line->hint;
    }
}

/* What is wrong with the shards in the same state as this one, and what to do. */
static void print_remark(const char *name, const hv_report *report, const shard_line *like) {
    int count;
    char *shards = list_shards(report, like, &count);
    const char *remedy = what_to_do(like);
    fputs(ui_on(stdout, UI_WARN), stdout);
    ui_text(stdout, name, strlen(name));
    printf(":%s %d shard%s %s (%s): ", ui_off(stdout), count, count == 1 ? "" : "s",
           state_names[like->state], shards);
    if (like->detail != NULL) {
        ui_text(stdout, like->detail, strlen(like->detail));
        fputs(". ", stdout);
    }
    ui_text(stdout, remedy, strlen(remedy));
    putchar('\n');
    free(shards);
}

/* Is a shard before this one in the same state? */
static bool has_one_alike(const hv_report *report, size_t index, const shard_line *line) {
    shard_line other;
    for (size_t i = 0; i < index && shard_at(report, i, &other); i++)
        if (is_alike(&other, line))
            return true;
    return false;
}

/* Print a hint for each state and reason. */
static void print_remarks(const hv_store *store, const server_status *all) {
    for (int i = 0; i < hv_server_count(store); i++) {
        shard_line line;
        const hv_report *report = all[i].report;
        for (size_t j = 0; report != NULL && shard_at(report, j, &line); j++)
            if (line.state != HV_SHARD_READY && !has_one_alike(report, j, &line))
                print_remark(hv_server_name(store, i), report, &line);
    }
}

/* Moved shards are found wherever they are; a file that says so spares each program a question. */
static void print_moved(const hv_store *store) {
    size_t count;
    char *moved = moved_shards(store, &count), *list = shard_list_short(moved);
    if (count > 0)
        printf("%zu shard%s moved since the configuration was written (%s): `hv config --write` "
               "puts that into it\n",
               count, count == 1 ? " has" : "s have", list);
    free(moved);
    free(list);
}

static void print_shards(const hv_store *store, const server_status *all) {
    static const ui_column columns[] = {
        {"shard", true}, {"server", false},  {"state", false},
        {"keys", false}, {"entities", true}, {"size", true},
    };
    char number[UI_NUMBER_SIZE];
    ui_table *table = ui_table_new(columns, 6);
    for (int i = 0; i < hv_server_count(store); i++) {
        shard_line line;
        for (size_t j = 0; all[i].report != NULL && shard_at(all[i].report, j, &line); j++) {
            bool counted = line.state == HV_SHARD_READY || line.state == HV_SHARD_UNMAPPED ||
                           line.state == HV_SHARD_TWICE;
            ui_cell(table, UI_PLAIN, "%d", line.shard);
            ui_cell(table, UI_NAME, "%s", hv_server_name(store, i));
            ui_cell(table, line.state == HV_SHARD_READY ? UI_GOOD : UI_WARN, "%s",
                    state_names[line.state]);
            ui_cell(table, line.keys != HV_KEYS_NONE ? UI_PLAIN : UI_DIM, "%s",
                    line.keys != HV_KEYS_NONE ? keys_name(line.keys) : "-");
            if (counted) {
                ui_cell(table, UI_PLAIN, "%s%s", about(line.exact),
                        ui_number(number, line.entities));
                ui_cell(table, UI_PLAIN, "%s", ui_bytes(number, line.bytes));
            } else {
                ui_cell(table, UI_DIM, "-");
                ui_cell(table, UI_DIM, "-");
            }
        }
    }
    putchar('\n');
    ui_table_print(table);
    ui_table_free(table);
}

/* ---- For programs ---------------------------------------------------------------------------- */

static json_t *shards_as_json(const hv_report *report) {
    json_t *list = json_array();
    shard_line line;
    for (size_t i = 0; shard_at(report, i, &line); i++)
        json_array_append_new(
            list, json_pack("{s:i, s:s, s:s, s:I, s:b, s:I, s:s*, s:s*}", "shard_id", line.shard,
                            "state", state_names[line.state], "keys", keys_name(line.keys),
                            "entities", (json_int_t) line.entities, "exact", line.exact, "bytes",
                            (json_int_t) line.bytes, "detail", line.detail, "hint", line.hint));
    return list;
}

static json_t *server_as_json(const char *name, const server_status *seen) {
    if (seen->status != HV_OK)
        return json_pack("{s:s, s:b, s:b, s:i, s:o}", "name", name, "reachable",
                         seen->status != HV_UNAVAILABLE && seen->status != HV_TIMEOUT, "ready", 0,
                         "shards_configured", seen->configured, "error",
                         ui_error_json(seen->error));
    const hv_report *report = seen->report;
    return json_pack(
        "{s:s, s:b, s:b, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:I, s:b, s:I, "
        "s:i, s:i, s:o}",
        "name", name, "reachable", 1, "ready", in_order(seen), "postgres_version",
        hv_report_postgres_version(report), "database", hv_report_database(report), "layout",
        hv_report_layout(report), "shards_configured", seen->configured, "shards_ready",
        seen->count[HV_SHARD_READY], "shards_missing", seen->count[HV_SHARD_MISSING],
        "shards_incomplete", seen->count[HV_SHARD_INCOMPLETE], "shards_unmapped",
        seen->count[HV_SHARD_UNMAPPED], "shards_elsewhere", seen->count[HV_SHARD_ELSEWHERE],
        "shards_twice", seen->count[HV_SHARD_TWICE], "keys", keys_count_json(&seen->keys),
        "entities", (json_int_t) seen->entities, "exact", seen->exact, "bytes",
        (json_int_t) seen->bytes, "connections", hv_report_connections(report), "max_connections",
        hv_report_max_connections(report), "shards", shards_as_json(report));
}

static void print_all_json(const hv_store *store, const server_status *all,
                           const schema_line *schemas) {
    json_t *list = json_array();
    for (int i = 0; i < hv_server_count(store); i++)
        json_array_append_new(list, server_as_json(hv_server_name(store, i), &all[i]));
    size_t count;
    char *moved = moved_shards(store, &count);
    json_t *object = json_pack("{s:I, s:s, s:o}", "epoch", (json_int_t) hv_epoch(store),
                               "shards_moved", moved, "servers", list);
    free(moved);
    if (schemas != NULL)
        schema_line_add(schemas, object);
    print_json(object);
}

/* ---- The command ----------------------------------------------------------------------------- */

static void compare(server_status *all, int count) {
    hv_error *error = NULL;
    hv_report **reports = new_memory((size_t) count * sizeof(hv_report *));
    for (int i = 0; i < count; i++)
        reports[i] = all[i].report;
    if (hv_compare_reports(reports, (size_t) count, &error) != HV_OK)
        out_of_memory();
    for (int i = 0; i < count; i++)
        add_up(&all[i]);
    free(reports);
}

/* The shards of all servers that are ready, as ranges: free() it. */
static char *ready_shards(const server_status *all, int count) {
    bool *ready = new_memory(HV_SHARDS * sizeof *ready);
    shard_line line;
    for (int i = 0; i < count; i++)
        for (size_t j = 0; all[i].report != NULL && shard_at(all[i].report, j, &line); j++)
            ready[line.shard] = ready[line.shard] || line.state == HV_SHARD_READY;
    shard_list list = {0};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (ready[shard])
            shard_list_add(&list, shard);
    free(ready);
    return shard_list_take(&list);
}

static int show_status(const rollout *work, bool each_shard) {
    hv_store *store = work->store;
    int count = hv_server_count(store);
    server_status *all = new_memory((size_t) count * sizeof *all);
    on_all_servers(store, look, all, sizeof *all);
    compare(all, count);

    int code = EXIT_DONE;
    for (int i = 0; i < count; i++)
        if (!in_order(&all[i]))
            code = EXIT_FAILED;
    schema_line schemas = {0};
    char *ready = ready_shards(all, count);
    bool has_ready = ready[0] != '\0';
    if (has_ready)
        schema_line_ask(&schemas, store, ready, work->migrations);
    free(ready);
    if (ui_is_json()) {
        print_all_json(store, all, has_ready ? &schemas : NULL);
    } else {
        print_servers(store, all);
        if (each_shard)
            print_shards(store, all);
        print_remarks(store, all);
        print_moved(store);
        if (has_ready)
            schema_line_print(&schemas);
        output_flush(); /* the errors come after the table */
        for (int i = 0; i < count; i++)
            if (all[i].status != HV_OK)
                ui_error(all[i].error);
    }
    for (int i = 0; i < count; i++) {
        hv_error_free(all[i].error);
        hv_report_free(all[i].report);
    }
    free(all);
    schema_line_fini(&schemas);
    return code;
}

static int run(arguments *args) {
    bool each_shard = false;
    while (arguments_next(args) != 0)
        each_shard = true;
    arguments_expect(args, 0, 0);
    rollout work;
    rollout_init(&work);
    int code = rollout_open(&work, NULL, NULL);
    if (code == EXIT_DONE)
        code = show_status(&work, each_shard);
    rollout_fini(&work);
    return code;
}

const command command_status = {
    .name = "status",
    .synopsis = "[--shards]",
    .summary = "show the servers and their shards",
    .help = "Asks all servers at the same time. Entities of large tables are estimated (≈).\n"
            "The exit code is 1 if a server cannot be reached, or a shard is missing,\n"
            "incomplete, on another server than the configuration says, or on two. A shard is\n"
            "incomplete too if a role that is not trusted owns a part of it.\n"
            "The line below says whether the schemas of all shards are alike, and how many of the\n"
            "migrations in the directory of the option `migrations` have not run everywhere.\n"
            "With --json everything is printed, including each shard.",
    .options = options,
    .examples = "hv status\n"
                "hv status --shards\n"
                "hv status --json | jq '.servers[] | select(.ready | not) | .name'",
    .run = run,
};
