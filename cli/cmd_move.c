/*
 * hv move: move shards to another server while they are used.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arguments.h"
#include "base/shard_ranges.h"
#include "commands.h"
#include "move/list.h"
#include "move/run.h"
#include "move/settings.h"
#include "servers/named.h"
#include "servers/shard_choice.h"
#include "servers/sql.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum {
    OPTION_TO = 1,
    OPTION_RESUME,
    OPTION_ABORT,
    OPTION_UNDO,
    OPTION_CLEAN,
    OPTION_LIST,
    OPTION_YES,
};

static const command_option options[] = {
    {"to", 0, "SERVER", OPTION_TO, "the server that the shards go to"},
    MOVE_OPTIONS,
    MOVE_OFFLINE_OPTIONS,
    {"yes", 'y', NULL, OPTION_YES, "with --offline: do not ask"},
    {"list", 0, NULL, OPTION_LIST, "show what is under way or can be undone, on all servers"},
    {"resume", 0, NULL, OPTION_RESUME, "go on with moves that were interrupted"},
    {"abort", 0, NULL, OPTION_ABORT, "take moves back that are not over"},
    {"undo", 0, NULL, OPTION_UNDO, "go back with shards whose old copy was kept"},
    {"clean", 0, NULL, OPTION_CLEAN, "drop the old copies that were kept"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct request {
    int mode; /* OPTION_RESUME … OPTION_LIST; 0: a new move */
    const char *to;
    bool yes;
    move_settings settings;
    hv_store *store; /* owned */
    int *shards;     /* owned; in ascending order, each once */
    int count;
} request;

/* ---- What was typed -------------------------------------------------------------------------- */

static void set_mode(request *wanted, const arguments *args, int mode) {
    if (wanted->mode != 0 && wanted->mode != mode)
        usage_error(args, NULL, "--list, --resume, --abort, --undo and --clean exclude each other");
    wanted->mode = mode;
}

static void read_options(request *wanted, arguments *args) {
    int id;
    while ((id = arguments_next(args)) != 0) {
        if (id == OPTION_TO)
            wanted->to = args->value;
        else if (id == MOVE_JOBS)
            wanted->settings.jobs = (int) argument_integer(args, "--jobs", args->value, 1, 64);
        else if (id == OPTION_YES)
            wanted->yes = true;
        else if (!move_settings_take(&wanted->settings, id, args->value))
            set_mode(wanted, args, id);
    }
}

static void read_request(request *wanted, arguments *args) {
    read_options(wanted, args);
    bool is_new = wanted->mode == 0;
    if (is_new && wanted->to == NULL)
        usage_error(args, "`hv status` shows the servers.", "--to is missing");
    if (!is_new && wanted->to != NULL)
        usage_error(args, NULL, "--to is for new moves only");
    if (!is_new && wanted->settings.offline)
        usage_error(args, NULL, "--offline is for new moves only");
    if (wanted->settings.offline && wanted->settings.keeps)
        usage_error(args, NULL, "--offline and --keep-undo exclude each other");
    arguments_expect(args, is_new || wanted->mode == OPTION_UNDO ? 1 : 0,
                     wanted->mode == OPTION_LIST ? 0 : -1);
}

/* The shards that were typed. */
static int read_shards(request *wanted, const arguments *args) {
    bool *is_named = new_memory(HV_SHARDS * sizeof *is_named);
    int code = EXIT_DONE;
    for (int i = 0; i < args->count && code == EXIT_DONE; i++) {
        hv_error *error = NULL;
        hvi_shard_range range;
        hvi_shard_reader reader = hvi_shard_reader_of(args->items[i], "argument", "SHARD");
        reader.status = HV_INVALID;
        hv_status status;
        do {
            status = hvi_shard_reader_next(&reader, &range, &error);
            for (int shard = range.begin; status == HV_OK && shard < range.end; shard++)
                is_named[shard] = true;
        } while (status == HV_OK && hvi_shard_reader_goes_on(&reader));
        if (status != HV_OK) {
            ui_error(error);
            code = EXIT_USAGE;
        }
        hv_error_free(error);
    }
    wanted->shards = new_memory(HV_SHARDS * sizeof *wanted->shards);
    for (int shard = 0; shard < HV_SHARDS && code == EXIT_DONE; shard++)
        if (is_named[shard])
            wanted->shards[wanted->count++] = shard;
    free(is_named);
    return code;
}

/* ---- Which server, which shards -------------------------------------------------------------- */

static int find_target(const request *wanted) {
    char *hint = format_text(
        "Add a section [server %s] to the configuration; it need not have shards.", wanted->to);
    int server = server_named(wanted->store, wanted->to, hint);
    free(hint);
    return server;
}

static int check_shards(const request *wanted) {
    for (int i = 0; i < wanted->count; i++) {
        hv_error *error = NULL;
        if (hv_shard_server(wanted->store, wanted->shards[i]) >= 0)
            continue;
        hv_status status = know_all_shards(wanted->store, &error);
        if (hv_shard_server(wanted->store, wanted->shards[i]) >= 0) {
            hv_error_free(error);
            continue;
        }
        if (status != HV_OK) /* that server may have it */
            ui_error(error);
        hv_error_free(error);
        ui_fail_status(HV_NO_SERVER, NULL, "See `hv status --shards`.",
                       "shard %d is on no server%s", wanted->shards[i],
                       status != HV_OK ? " that has answered" : "");
        return status != HV_OK ? EXIT_FAILED : EXIT_USAGE;
    }
    return EXIT_DONE;
}

/* The size of a shard's tables, without their indexes; -1: unknown. */
static int64_t size_of(hv_store *store, int shard) {
    static const char sql[] =
        "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_table_size(c.oid)), 0)::bigint"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE n.nspname OPERATOR(pg_catalog.=)"
        " $1::pg_catalog.name AND c.relkind OPERATOR(pg_catalog.=) 'r'";
    PGconn *conn = NULL;
    PGresult *result = NULL;
    sql_failure failure = {0};
    int64_t size = -1;
    char schema[32];
    snprintf(schema, sizeof schema, "shard%04d", shard);
    const char *values[] = {schema};
    if (hv_acquire(store, shard, &conn, NULL) != HV_OK)
        return -1;
    int sent = PQsendQueryParams(conn, sql, 1, NULL, values, NULL, NULL, 0);
    if (sql_answer(conn, sent, false, SQL_PATIENCE_MS, &result, &failure) == HV_OK &&
        sql_check(result, "n", 1, 1, &failure) == HV_OK)
        size = sql_number(result, 0, 0, -1);
    PQclear(result);
    sql_failure_clear(&failure);
    hv_release(store, conn, NULL);
    return size;
}

/* Say for how long writers will be stopped, and ask. */
static int confirm_offline(const request *wanted) {
    char longest[UI_NUMBER_SIZE], size[UI_NUMBER_SIZE];
    int64_t most = -1, known = 0;
    int largest = wanted->shards[0];
    if (!wanted->settings.offline)
        return EXIT_DONE;
    for (int i = 0; i < wanted->count; i++) {
        int64_t its = size_of(wanted->store, wanted->shards[i]);
        if (its > most) {
            most = its;
            largest = wanted->shards[i];
        }
        known += its > 0 ? its : 0;
    }
    /* Copying, with indexes, takes about so long; and a second for all the rest. */
    int64_t us = 1000000 + (most > 0 ? most / 30 : 0);
    ui_note("Each shard's writers have to wait while it is copied: for about %s for shard %d, the "
            "largest one. The shards have %s in all.",
            ui_duration(longest, us), largest, ui_bytes(size, known));
    if (wanted->yes)
        return EXIT_DONE;
    if (ui_is_json() || !isatty(STDIN_FILENO)) {
        ui_fail("Writers would be stopped.", "Add --yes if that is meant.",
                "--offline asks on a terminal, and there is none");
        return EXIT_USAGE;
    }
    return ui_confirm("Stop writers and move %d shard%s?", wanted->count,
                      wanted->count == 1 ? "" : "s")
               ? EXIT_DONE
               : EXIT_FAILED;
}

/* ---- Running --------------------------------------------------------------------------------- */

static move_order order_of(int mode) {
    return mode == OPTION_RESUME  ? MOVE_RESUME
           : mode == OPTION_ABORT ? MOVE_ABORT
           : mode == OPTION_UNDO  ? MOVE_UNDO
           : mode == OPTION_CLEAN ? MOVE_CLEAN
                                  : MOVE_START;
}

static int move_them(const request *wanted, int server) {
    move_job *jobs = new_memory(((size_t) wanted->count + 1) * sizeof *jobs);
    for (int i = 0; i < wanted->count; i++)
        jobs[i] = (move_job){.shard = wanted->shards[i], .server = server};
    move_run run = {.store = wanted->store,
                    .order = order_of(wanted->mode),
                    .options = wanted->settings.options,
                    .threads = wanted->settings.jobs,
                    .jobs = jobs,
                    .count = (size_t) wanted->count};
    interrupt_catch();
    int code = move_run_all(&run);
    move_jobs_fini(jobs, (size_t) wanted->count);
    free(jobs);
    return code;
}

/* Without shards: all that there are. EXIT_PARTLY: of the servers that have answered. */
static int find_moves(request *wanted) {
    if (wanted->count > 0)
        return EXIT_DONE;
    free(wanted->shards);
    int code = shards_of_moves(wanted->store, wanted->mode == OPTION_CLEAN, &wanted->shards,
                               &wanted->count);
    if (code != EXIT_FAILED && wanted->count == 0)
        ui_note(wanted->mode == OPTION_CLEAN ? "there is no old copy to be dropped"
                                             : "there is no move that nobody works on");
    return code;
}

/* Go on with moves, or end them. */
static int serve_old(request *wanted) {
    int found = find_moves(wanted);
    if (found == EXIT_FAILED)
        return found;
    int code = wanted->count > 0 || ui_is_json() ? move_them(wanted, -1) : EXIT_DONE;
    if (found == EXIT_DONE || code != EXIT_DONE)
        return code;
    return wanted->count > 0 ? EXIT_PARTLY : EXIT_FAILED;
}

static int serve_new(request *wanted) {
    int server = find_target(wanted);
    int code = server < 0 ? EXIT_USAGE : check_shards(wanted);
    if (code == EXIT_DONE)
        code = confirm_offline(wanted);
    return code == EXIT_DONE ? move_them(wanted, server) : code;
}

static int serve(request *wanted, const arguments *args) {
    int code = read_shards(wanted, args);
    if (code == EXIT_DONE)
        code = move_open_store(&wanted->store);
    if (code != EXIT_DONE)
        return code;
    if (wanted->mode == OPTION_LIST)
        return list_moves(wanted->store);
    return wanted->mode == 0 ? serve_new(wanted) : serve_old(wanted);
}

static int run(arguments *args) {
    request wanted = {.mode = 0};
    move_settings_init(&wanted.settings);
    read_request(&wanted, args);
    int code = serve(&wanted, args);
    hv_close(wanted.store, 0, NULL);
    move_settings_fini(&wanted.settings);
    free(wanted.shards);
    return code;
}

const command command_move = {
    .name = "move",
    .synopsis = "SHARD... --to SERVER [OPTION]...\n"
                "--resume|--abort|--clean [SHARD]... [OPTION]...\n"
                "--undo SHARD... [OPTION]...\n"
                "--list",
    .summary = "move shards to another server while they are used",
    .help =
        "SHARD is a shard or several, as in the configuration: 12, 1-9, 1-5,9-12. All of a\n"
        "shard's schema goes along. PostgreSQL's logical replication copies the tables and\n"
        "follows the changes; then the copy is compared with the original, and the shard is\n"
        "switched over, which stops its callers for some milliseconds. Stores, also those of\n"
        "other processes, find the shard on its new server by themselves. `hv doctor` says what\n"
        "the servers need for it.\n"
        "\n"
        "Each step is written down on both servers before it is made. Whatever is killed or cut\n"
        "off: until the switch the shard is where it was, afterwards it is at SERVER. --resume\n"
        "then goes on, and --abort takes back what is not switched yet; without SHARD, all moves\n"
        "that nobody works on. Both can be run on any machine. Ctrl-C stops in this way.\n"
        "\n"
        "With --keep-undo the old copy follows the new one after the switch, and --undo goes\n"
        "back to it, with what was written meanwhile. --clean drops it before its time is over.\n"
        "\n"
        "The exit code is 5 if some shards were moved, and others not.",
    .options = options,
    .examples = "hv move 12 --to two\n"
                "hv move 0-16 --to two --jobs 4 --keep-undo 1h\n"
                "hv move --list\n"
                "hv move --resume\n"
                "hv move --undo 12\n"
                "hv move 12 --to two --offline --yes",
    .run = run,
};
