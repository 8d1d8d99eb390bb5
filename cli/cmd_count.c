/*
 * hv count: count the entities of a selection.
 *
 * Where progress is shown, all servers count some of their shards at a time, so that the bar can
 * advance; the sums are the same.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "commands.h"
#include "rows/reader.h"
#include "selection.h"
#include "servers/local_time.h"
#include "servers/shard_choice.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_BY = 1, OPTION_ZONE, OPTION_ESTIMATE, OPTION_FORMAT };

static const command_option options[] = {
    SELECTION_OPTIONS,
    SELECTION_FROM,
    SELECTION_UNTIL,
    SELECTION_PARTIAL,
    {"by", 'b', "WHAT", OPTION_BY,
     "kind, shard, server, second, minute, hour, day, week, month, quarter or year",
     "kind shard server second minute hour day week month quarter year"},
    {"zone", 'z', "ZONE", OPTION_ZONE, "the time zone of --by day and so on; default: UTC"},
    {"estimate", 'e', NULL, OPTION_ESTIMATE, "do not count: ask the servers' statistics"},
    {"format", 0, "FORMAT", OPTION_FORMAT, "table, ndjson, csv or tsv; default: table",
     "table ndjson csv tsv"},
    {NULL, 0, NULL, 0, NULL},
};

/* By what it can be counted, and how the group is called in the output. */
typedef struct grouping {
    const char *name;
    hv_count_by by;
    const char *member;
    const char *pattern; /* of strftime(): how the beginning of a unit of time is written */
    bool has_offset;     /* … with the offset of the zone, as an hour may occur twice */
} grouping;

static const grouping groupings[] = {
    {"kind", HV_COUNT_KIND, "kind", NULL, false},
    {"shard", HV_COUNT_SHARD, "shard_id", NULL, false},
    {"server", HV_COUNT_SERVER, "server", NULL, false},
    {"second", HV_COUNT_TIME, "second", "%Y-%m-%d %H:%M:%S", true},
    {"minute", HV_COUNT_TIME, "minute", "%Y-%m-%d %H:%M", true},
    {"hour", HV_COUNT_TIME, "hour", "%Y-%m-%d %H:%M", true},
    {"day", HV_COUNT_TIME, "day", "%Y-%m-%d", false},
    {"week", HV_COUNT_TIME, "week", "%Y-%m-%d", false},
    {"month", HV_COUNT_TIME, "month", "%Y-%m", false},
    {"quarter", HV_COUNT_TIME, "quarter", "%Y-Q", false},
    {"year", HV_COUNT_TIME, "year", "%Y", false},
};

typedef struct group {
    int64_t of; /* the kind, shard, server or moment */
    int64_t count;
    int64_t local_ms; /* of a moment: the same in the zone, as if that were UTC */
} group;

typedef struct counting {
    selection chosen;
    const grouping *by; /* NULL: everything together */
    const char *zone;
    bool estimate;
    const row_format *format; /* NULL: a table */
    hv_store *store;
    group *groups; /* in ascending order; owned */
    size_t count;
    int64_t total;
} counting;

/* ---- What was typed -------------------------------------------------------------------------- */

static const grouping *argument_by(const arguments *args, const char *text) {
    for (size_t i = 0; i < sizeof groupings / sizeof groupings[0]; i++)
        if (strcmp(groupings[i].name, text) == 0)
            return &groupings[i];
    usage_error(args,
                "Count by kind, shard, server, second, minute, hour, day, week, month, quarter or "
                "year.",
                "cannot count by \"%s\"", text);
}

static void read_request(counting *task, arguments *args) {
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_BY:
            task->by = argument_by(args, args->value);
            break;
        case OPTION_ZONE:
            task->zone = args->value;
            break;
        case OPTION_ESTIMATE:
            task->estimate = true;
            break;
        case OPTION_FORMAT:
            task->format = row_format_named(args->value);
            if (task->format == NULL && strcmp(args->value, "table") != 0)
                usage_error(args, "The formats are table, ndjson, csv and tsv.",
                            "unknown format \"%s\"", args->value);
            break;
        default:
            selection_option(&task->chosen, args, id);
        }
    }
    arguments_expect(args, 0, 0);
    if (task->zone != NULL && (task->by == NULL || task->by->by != HV_COUNT_TIME))
        usage_error(args, "It is for --by day, hour and other units of time.",
                    "--zone without a unit of time");
    if (ui_is_json() && task->format == NULL)
        task->format = &row_ndjson;
}

/* ---- Counting -------------------------------------------------------------------------------- */

/* Add groups in ascending order to those that are there. */
static void add_groups(counting *task, const hv_counts *counts) {
    size_t more = 0, at = 0, count = 0;
    int64_t of, number;
    while (hv_counts_at(counts, more, NULL, NULL))
        more++;
    group *sum = new_memory((task->count + more) * sizeof *sum);
    for (size_t i = 0; hv_counts_at(counts, i, &of, &number); i++) {
        while (at < task->count && task->groups[at].of < of)
            sum[count++] = task->groups[at++];
        sum[count] = (group){.of = of, .count = number};
        if (at < task->count && task->groups[at].of == of)
            sum[count].count += task->groups[at++].count;
        count++;
    }
    while (at < task->count)
        sum[count++] = task->groups[at++];
    free(task->groups);
    task->groups = sum;
    task->count = count;
    task->total += hv_counts_total(counts);
}

/* Count some of it, and add it to what was counted. Returns an exit code. */
static int count_some(counting *task, const hv_selection *some) {
    bool by_time = task->by != NULL && task->by->by == HV_COUNT_TIME;
    hv_counts *counts = NULL;
    hv_error *error = NULL;
    hv_status status = hv_count(task->store, some, task->by != NULL ? task->by->by : HV_COUNT_ALL,
                                by_time ? task->by->name : NULL, by_time ? task->zone : NULL,
                                task->estimate, &counts, &error);
    if (status != HV_OK)
        return selection_refused(status, error);
    add_groups(task, counts);
    int code = EXIT_DONE;
    const hv_error *missing;
    for (size_t i = 0; (missing = hv_counts_missing(counts, i)) != NULL; i++)
        code = worse_code(code, selection_missing(&task->chosen, missing));
    hv_counts_free(counts);
    return code;
}

/* The bar advances this many times. */
#define PIECES 16

/* A part of the shards, as a list that --shards would take: each server has shards in it. */
static char *shards_of_piece(const counting *task, const int *shards, int count, int piece) {
    int *met = new_memory((size_t) hv_server_count(task->store) * sizeof *met);
    char *list = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&list, &size);
    if (text == NULL)
        out_of_memory();
    for (int i = 0; i < count; i++)
        if (met[hv_shard_server(task->store, shards[i])]++ % PIECES == piece)
            fprintf(text, "%s%d", ftell(text) > 0 ? "," : "", shards[i]);
    if (fclose(text) != 0)
        out_of_memory();
    free(met);
    return list;
}

static int list_length(const char *list) {
    int length = list[0] != '\0';
    for (; *list != '\0'; list++)
        length += *list == ',';
    return length;
}

static int count_in_pieces(counting *task, const int *shards, int count) {
    const char *labels[] = {"counting"};
    ui_progress *progress = ui_progress_new(1, labels, "shards");
    ui_progress_total(progress, 0, count);
    int code = EXIT_DONE;
    for (int piece = 0; piece < PIECES && code == EXIT_DONE; piece++) {
        char *list = shards_of_piece(task, shards, count, piece);
        if (list[0] != '\0') {
            hv_selection *some = selection_in_shards(&task->chosen, list);
            code = count_some(task, some);
            hv_selection_free(some);
        }
        ui_progress_add(progress, 0, list_length(list));
        free(list);
    }
    ui_progress_free(progress, false);
    return code;
}

/* In pieces if that is seen, and if nothing can be missing: the report of that is of all together.
 */
static int count_all(counting *task) {
    const selection *chosen = &task->chosen;
    bool in_pieces = ui_can_draw() && !task->estimate &&
                     selection_find(chosen, OPTION_PARTIAL) == NULL &&
                     selection_find(chosen, OPTION_SKIP_SERVER) == NULL;
    if (!in_pieces)
        return count_some(task, chosen->built);
    int *shards = NULL, count = 0;
    char *list = selection_shards(chosen);
    int code = choose_shards(task->store, list, &shards, &count);
    if (code == EXIT_DONE)
        code = count_in_pieces(task, shards, count);
    free(list);
    free(shards);
    return code;
}

/* ---- Groups in words ------------------------------------------------------------------------- */

/* "2026-11-22", "2026-10-25 02:00+02", "2026-Q4" */
static void write_moment(char *text, size_t size, const grouping *by, const group *of) {
    time_t seconds = (time_t) (of->local_ms / 1000 - (of->local_ms % 1000 < 0));
    struct tm tm;
    size_t len = gmtime_r(&seconds, &tm) != NULL ? strftime(text, size, by->pattern, &tm) : 0;
    if (len == 0) {
        snprintf(text, size, "@%" PRId64, of->of);
    } else if (strcmp(by->name, "quarter") == 0) {
        snprintf(text + len, size - len, "%d", tm.tm_mon / 3 + 1);
    } else if (by->has_offset && of->local_ms != of->of) {
        int minutes = (int) ((of->local_ms - of->of) / 60000);
        int hours = abs(minutes) / 60, rest = abs(minutes) % 60;
        len += (size_t) snprintf(text + len, size - len, "%c%02d", minutes < 0 ? '-' : '+', hours);
        if (rest != 0)
            snprintf(text + len, size - len, ":%02d", rest);
    }
}

/* The group as people and other programs call it: free() it. */
static char *group_text(const counting *task, const group *of) {
    char text[64];
    switch (task->by->by) {
    case HV_COUNT_SERVER:
        return copy_text(hv_server_name(task->store, (int) of->of));
    case HV_COUNT_TIME:
        write_moment(text, sizeof text, task->by, of);
        return copy_text(text);
    default:
        return format_text("%" PRId64, of->of);
    }
}

/* Find out what the moments are in the zone. */
static bool find_local_times(counting *task) {
    int64_t *moments = new_memory(task->count * sizeof *moments);
    for (size_t i = 0; i < task->count; i++)
        moments[i] = task->groups[i].of;
    bool found = task->zone == NULL || local_times(task->store, task->zone, moments, task->count);
    for (size_t i = 0; i < task->count; i++)
        task->groups[i].local_ms = moments[i];
    free(moments);
    return found;
}

/* ---- The output ------------------------------------------------------------------------------ */

/* How many columns the longest bar has. */
#define BAR_WIDTH 30

static char *bar_text(int64_t count, int64_t most) {
    char *bar = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&bar, &size);
    if (text == NULL)
        out_of_memory();
    ui_bar(text, most > 0 ? (double) count / (double) most : 0, BAR_WIDTH);
    if (fclose(text) != 0)
        out_of_memory();
    return bar;
}

static const char *about(const counting *task) {
    return !task->estimate ? "" : ui_unicode() ? "≈" : "~";
}

static void print_table(const counting *task) {
    ui_column columns[] = {
        {task->by->name, task->by->by != HV_COUNT_SERVER}, {"entities", true}, {"", false}};
    char number[UI_NUMBER_SIZE];
    int64_t most = 0;
    if (task->by->by == HV_COUNT_TIME)
        columns[0].right = false;
    for (size_t i = 0; i < task->count; i++)
        most = task->groups[i].count > most ? task->groups[i].count : most;
    ui_table *table = ui_table_new(columns, 3);
    for (size_t i = 0; i < task->count; i++) {
        char *name = group_text(task, &task->groups[i]);
        char *bar = bar_text(task->groups[i].count, most);
        ui_cell(table, UI_PLAIN, "%s", name);
        ui_cell(table, UI_PLAIN, "%s%s", about(task), ui_number(number, task->groups[i].count));
        ui_cell(table, UI_NAME, "%s", bar);
        free(bar);
        free(name);
    }
    if (task->count != 1) {
        ui_cell(table, UI_BOLD, "total");
        ui_cell(table, UI_BOLD, "%s%s", about(task), ui_number(number, task->total));
        ui_cell(table, UI_PLAIN, "%s", "");
    }
    ui_table_print(table);
    ui_table_free(table);
}

/* The number alone: a program can read it, and people see what it is where they asked for it. */
static void print_total(const counting *task) {
    char number[UI_NUMBER_SIZE];
    if (ui_is_terminal(stdout))
        printf("%s%s\n", about(task), ui_number(number, task->total));
    else
        printf("%" PRId64 "\n", task->total);
}

static json_t *group_as_json(const counting *task, const group *of) {
    json_t *object = json_object();
    char time[UI_NUMBER_SIZE];
    if (task->by != NULL) {
        char *name = group_text(task, of);
        bool is_number = task->by->by == HV_COUNT_KIND || task->by->by == HV_COUNT_SHARD;
        json_object_set_new(object, task->by->member,
                            is_number ? json_integer(of->of) : ui_json_text(name));
        if (task->by->by == HV_COUNT_TIME)
            json_object_set_new(object, "begins", json_string(ui_time(time, of->of)));
        free(name);
    }
    json_object_set_new(object, "count", json_integer(of->count));
    json_object_set_new(object, "exact", json_boolean(!task->estimate));
    return object;
}

/* A field of CSV or TSV: names of servers may hold anything. */
static void print_field(const row_format *format, const char *text) {
    bool is_quoted = format == &row_csv && strpbrk(text, ",\"\r\n") != NULL;
    if (is_quoted)
        putchar('"');
    for (; *text != '\0'; text++) {
        if (is_quoted && *text == '"')
            putchar('"');
        if (format == &row_tsv && *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    if (is_quoted)
        putchar('"');
}

static void print_separated(const counting *task) {
    char tab = task->format == &row_csv ? ',' : '\t';
    char time[UI_NUMBER_SIZE];
    bool by_time = task->by != NULL && task->by->by == HV_COUNT_TIME;
    if (task->by != NULL)
        printf("%s%c", task->by->member, tab);
    if (by_time)
        printf("begins%c", tab);
    puts("count");
    for (size_t i = 0; i < task->count; i++) {
        const group *of = &task->groups[i];
        if (task->by != NULL) {
            char *name = group_text(task, of);
            print_field(task->format, name);
            putchar(tab);
            free(name);
        }
        if (by_time)
            printf("%s%c", ui_time(time, of->of), tab);
        printf("%" PRId64 "\n", of->count);
    }
}

static void print_counts(const counting *task) {
    if (task->format == &row_ndjson)
        for (size_t i = 0; i < task->count; i++)
            print_json(group_as_json(task, &task->groups[i]));
    else if (task->format != NULL)
        print_separated(task);
    else if (task->by == NULL)
        print_total(task);
    else
        print_table(task);
}

/* ---- The command ----------------------------------------------------------------------------- */

/* Show what was counted, though some of it may be missing. */
static int count_and_show(counting *task) {
    int code = count_all(task);
    if (code != EXIT_DONE && selection_find(&task->chosen, OPTION_PARTIAL) == NULL)
        return code;
    if (task->by != NULL && task->by->by == HV_COUNT_TIME && !find_local_times(task))
        return EXIT_FAILED;
    if (task->groups != NULL)
        print_counts(task);
    return code;
}

static int run(arguments *args) {
    counting task = {0};
    selection_init(&task.chosen);
    read_request(&task, args);
    int code = open_store(&task.store);
    if (code == EXIT_DONE)
        code = count_and_show(&task);
    hv_close(task.store, 0, NULL);
    free(task.groups);
    selection_fini(&task.chosen);
    return code;
}

const command command_count = {
    .name = "count",
    .synopsis = "[--by WHAT] [OPTION]...",
    .summary = "count entities by kind, shard or time",
    .help =
        "Prints one number, or with --by a table: for units of time by the moment when the\n"
        "entities were made, according to their keys. Weeks begin on Monday. Groups without\n"
        "entities are left out, except for shards and servers. All are counted exactly, each\n"
        "shard at a moment of its own; with --estimate the numbers come at once from the\n"
        "servers' statistics, and may be far from the truth.\n"
        "\n"
        "With --json there is an object on a line for each group, {\"kind\": 2, \"count\": 17,\n"
        "\"exact\": true}; for a unit of time it is called \"day\" and so on, and \"begins\" is\n"
        "the moment in UTC.\n"
        "\n" SELECTION_HELP "\n"
        "\n"
        "With --partial servers and shards that fail are left out and reported on standard\n"
        "error, and the exit code is 1. What --skip-server leaves out is named too, and the\n"
        "exit code is 0.",
    .options = options,
    .examples = "hv count --kind 2 --where user=42\n"
                "hv count --by day --zone Europe/Berlin --from 2026-11-01\n"
                "hv count --by shard --estimate",
    .run = run,
};
