/*
 * hv plan, hv rebalance: which shards should move so that servers have their shares; and move them.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "commands.h"
#include "move/run.h"
#include "move/settings.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum {
    OPTION_BY = 1,
    OPTION_WEIGHT,
    OPTION_DRAIN,
    OPTION_MAX_MOVES,
    OPTION_YES,
};

#define PLAN_OPTIONS                                                                           \
    COMMAND_OPTION(                                                                            \
        "by", 0, "MEASURE", OPTION_BY,                                                         \
        "size, rows, writes or count; what servers are to share equally; default: size",       \
        "size rows writes count"),                                                             \
        COMMAND_OPTION("weight", 0, "SERVER=N", OPTION_WEIGHT,                                 \
                       "this server is to have N times the share of others; may be repeated"), \
        COMMAND_OPTION("drain", 0, "SERVER", OPTION_DRAIN,                                     \
                       "this server is to have no shards; may be repeated"),                   \
        COMMAND_OPTION("max-moves", 0, "N", OPTION_MAX_MOVES,                                  \
                       "no more moves than that; default: as many as are worth it")

static const command_option plan_options[] = {
    PLAN_OPTIONS,
    {NULL, 0, NULL, 0, NULL},
};

static const command_option rebalance_options[] = {
    PLAN_OPTIONS,
    MOVE_OPTIONS,
    {"yes", 'y', NULL, OPTION_YES, "do not ask"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct request {
    hv_balance_options *wishes; /* owned */
    const char *by;
    move_settings settings;
    bool yes;
    hv_store *store;  /* owned */
    hv_balance *plan; /* owned */
} request;

/* ---- What was typed -------------------------------------------------------------------------- */

/* A wrong value ends the process. */
static void wish(request *wanted, const char *name, const char *value) {
    hv_error *error = NULL;
    hv_status status = hv_balance_options_set(wanted->wishes, name, value, &error);
    if (status == HV_OK)
        return;
    ui_error(error);
    exit(exit_code(status));
}

static void read_option(request *wanted, arguments *args, int id) {
    switch (id) {
    case OPTION_BY:
        wanted->by = args->value;
        wish(wanted, "by", args->value);
        break;
    case OPTION_WEIGHT:
        wish(wanted, "weight", args->value);
        break;
    case OPTION_DRAIN:
        wish(wanted, "drain", args->value);
        break;
    case OPTION_MAX_MOVES:
        wish(wanted, "max_moves", args->value);
        break;
    case MOVE_JOBS:
        wanted->settings.jobs = (int) argument_integer(args, "--jobs", args->value, 1, 64);
        break;
    case OPTION_YES:
        wanted->yes = true;
        break;
    default:
        move_settings_take(&wanted->settings, id, args->value);
    }
}

/* ---- For people ------------------------------------------------------------------------------ */

static const char *name_of(const request *wanted, int server) {
    return hv_server_name(wanted->store, server);
}

static void print_moves(const request *wanted) {
    static const ui_column columns[] = {
        {"shard", true}, {"from", false}, {"to", false}, {"size", true},
        {"rows", true},  {"takes", true}, {"WAL", true},
    };
    char text[UI_NUMBER_SIZE];
    const hv_balance_move *move;
    ui_table *table = ui_table_new(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; (move = hv_balance_at(wanted->plan, i)) != NULL; i++) {
        ui_cell(table, UI_PLAIN, "%d", move->shard);
        ui_cell(table, UI_PLAIN, "%s", name_of(wanted, move->source));
        ui_cell(table, UI_PLAIN, "%s", name_of(wanted, move->target));
        ui_cell(table, UI_PLAIN, "%s", ui_bytes(text, move->bytes));
        ui_cell(table, UI_PLAIN, "~%s", ui_number(text, move->rows));
        ui_cell(table, UI_DIM, "~%s", ui_duration(text, move->seconds * 1000000));
        ui_cell(table, UI_DIM, "~%s", ui_bytes(text, move->wal_bytes));
    }
    ui_table_print(table);
    ui_table_free(table);
}

static void print_servers(const request *wanted) {
    static const ui_column columns[] = {
        {"server", false}, {"shards", true}, {"then", true},
        {"size", true},    {"then", true},   {"", false},
    };
    /* In the unit of --by, if that is neither shards nor size. */
    static const ui_column more[] = {
        {"server", false}, {"shards", true}, {"then", true}, {"size", true},
        {"then", true},    {"load", true},   {"then", true}, {"", false},
    };
    bool has_load = strcmp(wanted->by, "rows") == 0 || strcmp(wanted->by, "writes") == 0;
    char text[UI_NUMBER_SIZE];
    const hv_balance_server *server;
    ui_table *table = has_load ? ui_table_new(more, sizeof more / sizeof more[0])
                               : ui_table_new(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; (server = hv_balance_server_at(wanted->plan, i)) != NULL; i++) {
        ui_cell(table, UI_BOLD, "%s", name_of(wanted, server->server));
        ui_cell(table, UI_PLAIN, "%d", server->shards_before);
        ui_cell(table, UI_PLAIN, "%d", server->shards_after);
        ui_cell(table, UI_PLAIN, "%s", ui_bytes(text, server->bytes_before));
        ui_cell(table, UI_PLAIN, "%s", ui_bytes(text, server->bytes_after));
        if (has_load) {
            ui_cell(table, UI_PLAIN, "%s", ui_number(text, server->load_before));
            ui_cell(table, UI_PLAIN, "%s", ui_number(text, server->load_after));
        }
        if (server->is_drained)
            ui_cell(table, UI_DIM, "drained");
        else if (server->weight < 1 || server->weight > 1)
            ui_cell(table, UI_DIM, "weight %g", server->weight);
        else
            ui_cell(table, UI_PLAIN, "%s", "");
    }
    ui_table_print(table);
    ui_table_free(table);
}

/* The seconds that all moves take, so many at a time: the next one begins when the first of them is
 * over. */
static int64_t time_of_all(const request *wanted) {
    int64_t *ends = new_memory((size_t) wanted->settings.jobs * sizeof *ends);
    int64_t last = 0;
    const hv_balance_move *move;
    for (size_t i = 0; (move = hv_balance_at(wanted->plan, i)) != NULL; i++) {
        int64_t *first = ends;
        for (int job = 1; job < wanted->settings.jobs; job++)
            first = ends[job] < *first ? &ends[job] : first;
        *first += move->seconds;
        last = *first > last ? *first : last;
    }
    free(ends);
    return last;
}

static void print_sum(const request *wanted) {
    char size[UI_NUMBER_SIZE], time[UI_NUMBER_SIZE];
    int64_t bytes = 0;
    const hv_balance_move *move;
    size_t count = 0;
    for (; (move = hv_balance_at(wanted->plan, count)) != NULL; count++)
        bytes += move->bytes;
    printf("\n%zu move%s, %s, about %s", count, count == 1 ? "" : "s", ui_bytes(size, bytes),
           ui_duration(time, time_of_all(wanted) * 1000000));
    if (count > 1 && wanted->settings.jobs > 1)
        printf(" with %d at a time\n", wanted->settings.jobs);
    else
        puts(count > 1 ? " one after the other" : "");
}

static void print_plan(const request *wanted) {
    if (hv_balance_count(wanted->plan) > 0) {
        print_moves(wanted);
        printf("\n");
    }
    print_servers(wanted);
    if (hv_balance_count(wanted->plan) > 0)
        print_sum(wanted);
    else
        printf("\nno move is worth it\n");
    output_flush();
}

/* ---- For programs ---------------------------------------------------------------------------- */

/* With an `event`, unless that is NULL. */
static void print_plan_json(const request *wanted, const char *event) {
    json_t *moves = json_array(), *servers = json_array();
    const hv_balance_move *move;
    const hv_balance_server *server;
    for (size_t i = 0; (move = hv_balance_at(wanted->plan, i)) != NULL; i++)
        json_array_append_new(
            moves,
            json_pack("{s:i, s:o, s:o, s:I, s:I, s:I, s:I}", "shard", move->shard, "source",
                      ui_json_text(name_of(wanted, move->source)), "target",
                      ui_json_text(name_of(wanted, move->target)), "bytes",
                      (json_int_t) move->bytes, "rows", (json_int_t) move->rows, "seconds",
                      (json_int_t) move->seconds, "wal_bytes", (json_int_t) move->wal_bytes));
    for (size_t i = 0; (server = hv_balance_server_at(wanted->plan, i)) != NULL; i++)
        json_array_append_new(
            servers, json_pack("{s:o, s:f, s:b, s:i, s:i, s:I, s:I, s:I, s:I}", "server",
                               ui_json_text(name_of(wanted, server->server)), "weight",
                               server->weight, "drained", server->is_drained, "shards_before",
                               server->shards_before, "shards_after", server->shards_after,
                               "bytes_before", (json_int_t) server->bytes_before, "bytes_after",
                               (json_int_t) server->bytes_after, "load_before",
                               (json_int_t) server->load_before, "load_after",
                               (json_int_t) server->load_after));
    print_json(json_pack("{s:s*, s:s, s:o, s:o}", "event", event, "by", wanted->by, "moves", moves,
                         "servers", servers));
}

/* ---- Running --------------------------------------------------------------------------------- */

static int make_plan(request *wanted) {
    hv_error *error = NULL;
    int code = move_open_store(&wanted->store);
    if (code != EXIT_DONE)
        return code;
    hv_status status = hv_balance_plan(wanted->store, wanted->wishes, &wanted->plan, &error);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return exit_code(status);
}

static int confirm(const request *wanted) {
    size_t count = hv_balance_count(wanted->plan);
    if (wanted->yes)
        return EXIT_DONE;
    if (ui_is_json() || !isatty(STDIN_FILENO)) {
        ui_fail(NULL, "Add --yes to move the shards; `hv plan` only prints the plan.",
                "hv rebalance asks on a terminal, and there is none");
        return EXIT_USAGE;
    }
    return ui_confirm("Move %zu shard%s?", count, count == 1 ? "" : "s") ? EXIT_DONE : EXIT_FAILED;
}

/* Does a move keep something on this server, or may one? */
static bool is_in_a_move(const hv_moves *moves, const char *name) {
    const hv_move_info *move;
    for (size_t i = 0; (move = hv_moves_at(moves, i)) != NULL; i++)
        if (strcmp(move->source, name) == 0 || strcmp(move->target, name) == 0)
            return true;
    return false;
}

/* Drained servers that have nothing any more can be taken away. */
static void name_removable(const request *wanted) {
    const hv_balance_server *server;
    hv_moves *moves = NULL;
    if (hv_moves_list(wanted->store, &moves, NULL) != HV_OK || hv_moves_missing(moves, 0) != NULL) {
        hv_moves_free(moves);
        return;
    }
    for (size_t i = 0; (server = hv_balance_server_at(wanted->plan, i)) != NULL; i++) {
        /* As the plan has found them there, and its moves are made. */
        if (!server->is_drained || server->shards_after > 0)
            continue;
        if (is_in_a_move(moves, name_of(wanted, server->server))) {
            ui_note("Server \"%s\" has no shards any more, but old copies for `hv move --undo`: "
                    "`hv move --clean` drops them.",
                    name_of(wanted, server->server));
            continue;
        }
        ui_note("Server \"%s\" has no shards any more. `hv config --write` puts the shards' places "
                "into the file; once every program has that, remove the section [server %s].",
                name_of(wanted, server->server), name_of(wanted, server->server));
    }
    hv_moves_free(moves);
}

static int move_all(const request *wanted) {
    size_t count = hv_balance_count(wanted->plan);
    move_job *jobs = new_memory((count + 1) * sizeof *jobs);
    for (size_t i = 0; i < count; i++) {
        const hv_balance_move *move = hv_balance_at(wanted->plan, i);
        jobs[i] = (move_job){.shard = move->shard, .server = move->target};
    }
    move_run run = {.store = wanted->store,
                    .order = MOVE_START,
                    .options = wanted->settings.options,
                    .threads = wanted->settings.jobs,
                    .jobs = jobs,
                    .count = count};
    interrupt_catch();
    int code = move_run_all(&run);
    move_jobs_fini(jobs, count);
    free(jobs);
    return code;
}

static int plan_only(request *wanted) {
    int code = make_plan(wanted);
    if (code == EXIT_DONE && ui_is_json())
        print_plan_json(wanted, NULL);
    else if (code == EXIT_DONE)
        print_plan(wanted);
    return code;
}

static int plan_and_move(request *wanted) {
    int code = make_plan(wanted);
    if (code != EXIT_DONE)
        return code;
    if (ui_is_json())
        print_plan_json(wanted, "plan");
    else
        print_plan(wanted);
    bool has_moves = hv_balance_count(wanted->plan) > 0;
    if (has_moves)
        code = confirm(wanted);
    if (code == EXIT_DONE && has_moves && !ui_is_json())
        puts(""); /* before the second table */
    output_flush();
    if (code == EXIT_DONE && (has_moves || ui_is_json())) /* JSON ends with a summary */
        code = move_all(wanted);
    if (code == EXIT_DONE)
        name_removable(wanted);
    return code;
}

static int run(arguments *args, int (*serve)(request *wanted)) {
    request wanted = {.by = "size", .wishes = hv_balance_options_new()};
    if (wanted.wishes == NULL)
        out_of_memory();
    move_settings_init(&wanted.settings);
    for (int id; (id = arguments_next(args)) != 0;)
        read_option(&wanted, args, id);
    arguments_expect(args, 0, 0);
    int code = serve(&wanted);
    hv_balance_free(wanted.plan);
    hv_close(wanted.store, 0, NULL);
    hv_balance_options_free(wanted.wishes);
    move_settings_fini(&wanted.settings);
    return code;
}

static int run_plan(arguments *args) {
    return run(args, plan_only);
}

static int run_rebalance(arguments *args) {
    return run(args, plan_and_move);
}

const command command_plan = {
    .name = "plan",
    .synopsis = "[OPTION]...",
    .summary = "show which shards should move so that servers have their shares",
    .help =
        "Asks all servers how large their shards are, and prints the moves that `hv rebalance`\n"
        "would make with the same options: few, the most useful first. For each it shows how\n"
        "long it takes and how much WAL its source has to keep meanwhile, both as expected from\n"
        "the shard's size and from the WAL that the server is writing now; and how the servers\n"
        "stand before and after that. Nothing is moved.",
    .options = plan_options,
    .examples = "hv plan\n"
                "hv plan --by writes --max-moves 5\n"
                "hv plan --drain old\n"
                "hv plan --json | jq -r '.moves[] | \"\\(.shard) \\(.to)\"'",
    .run = run_plan,
};

const command command_rebalance = {
    .name = "rebalance",
    .synopsis = "[OPTION]...",
    .summary = "move shards so that servers have their shares",
    .help =
        "Prints the plan, as `hv plan` does, asks, and makes its moves, as `hv move` does, while\n"
        "the shards are used. After a failure it goes on with the other shards. A server that\n"
        "is new, or has more weight than it had, gets shards from the others; one that is\n"
        "drained gives all of its shards away. With --json the first line is the plan, with\n"
        "\"event\": \"plan\"; the others are those of `hv move`.\n"
        "\n"
        "The exit code is 5 if some shards were moved, and others not.",
    .options = rebalance_options,
    .examples = "hv rebalance --max-moves 4\n"
                "hv rebalance --weight big=2 --jobs 2 --keep-undo 1h --yes\n"
                "hv rebalance --drain old --yes",
    .run = run_rebalance,
};
