/*
 * hv find: show the entities of a selection, of all shards together in the order of their keys.
 *
 * What has been read is shown as soon as nothing more is at hand, so an answer that takes long can
 * be watched.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "export/format.h"
#include "selection.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_NEWEST = 1, OPTION_OLDEST, OPTION_REVERSE, OPTION_FORMAT, OPTION_EXPLAIN };

static const command_option options[] = {
    SELECTION_OPTIONS,
    SELECTION_FROM,
    SELECTION_UNTIL,
    SELECTION_AFTER,
    {"newest", 0, "N", OPTION_NEWEST, "the newest N entities, the newest first"},
    {"oldest", 0, "N", OPTION_OLDEST, "the oldest N entities, the oldest first"},
    {"reverse", 'r', NULL, OPTION_REVERSE, "the newest first, without a limit"},
    SELECTION_LIMIT,
    SELECTION_ONLY,
    SELECTION_PARTIAL,
    {"explain", 0, NULL, OPTION_EXPLAIN, "show how the servers would find them, and find nothing"},
    {"format", 0, "FORMAT", OPTION_FORMAT,
     "table, ndjson, csv or tsv; default: a table on a terminal, otherwise ndjson",
     "table ndjson csv tsv"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct finding {
    selection chosen;
    const row_format *format; /* NULL: a table */
    int64_t limit;            /* 0: none */
    bool is_explained;
    hv_store *store;
    hv_reader *reader;
    row_text text;   /* what was read and not yet written */
    ui_table *table; /* the same in a table */
    ui_column *columns;
    int64_t count;
    int64_t last; /* the last key, or 0 */
} finding;

/* How much is collected before it is written: bytes, and rows of a table. */
#define PIECE      ((size_t) 64 << 10)
#define PIECE_ROWS 500

/* ---- What was typed -------------------------------------------------------------------------- */

static const row_format *argument_format(const arguments *args, const char *text) {
    const row_format *format = row_format_named(text);
    if (format == NULL && strcmp(text, "table") != 0)
        usage_error(args, "The formats are table, ndjson, csv and tsv.", "unknown format \"%s\"",
                    text);
    return format;
}

/* --newest and --oldest are an order and a limit. */
static void take_first(finding *task, const arguments *args, bool newest) {
    hv_error *error = NULL;
    const char *what = newest ? "--newest" : "--oldest";
    if (task->limit != 0)
        usage_error(args, NULL, "%s after another limit", what);
    task->limit = argument_integer(args, what, args->value, 1, INT64_MAX);
    hv_selection_newest(task->chosen.built, newest);
    if (hv_selection_limit(task->chosen.built, task->limit, &error) != HV_OK)
        exit(selection_refused(HV_INVALID, error));
}

static void read_request(finding *task, arguments *args) {
    int id;
    bool format_given = false;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_NEWEST:
        case OPTION_OLDEST:
            take_first(task, args, id == OPTION_NEWEST);
            break;
        case OPTION_LIMIT:
            if (task->limit != 0)
                usage_error(args, NULL, "--limit after another limit");
            selection_option(&task->chosen, args, id);
            task->limit = selection_find(&task->chosen, OPTION_LIMIT)->number;
            break;
        case OPTION_REVERSE:
            hv_selection_newest(task->chosen.built, true);
            break;
        case OPTION_FORMAT:
            task->format = argument_format(args, args->value);
            format_given = true;
            break;
        case OPTION_EXPLAIN:
            task->is_explained = true;
            break;
        default:
            selection_option(&task->chosen, args, id);
        }
    }
    arguments_expect(args, 0, 0);
    bool for_people = task->is_explained || ui_is_terminal(stdout);
    if (!format_given && (ui_is_json() || !for_people))
        task->format = &row_ndjson;
}

/* ---- A table --------------------------------------------------------------------------------- */

/* Key, time, shard and kind, then all attributes in one column, or each that was asked for. */
static void begin_table(finding *task) {
    static const ui_column first[] = {
        {"key", true}, {"created", false}, {"shard", true}, {"kind", true}};
    const selection *chosen = &task->chosen;
    size_t more = chosen->only.of != NULL ? chosen->only.count : 1;
    task->columns = new_memory((4 + more) * sizeof *task->columns);
    memcpy(task->columns, first, sizeof first);
    for (size_t i = 0; i < more; i++)
        task->columns[4 + i] =
            (ui_column){chosen->only.of != NULL ? chosen->only.of[i] : "attributes", false};
    task->table = ui_table_new(task->columns, (int) (4 + more));
    ui_table_cut(task->table, 4);
}

/* All attributes in one line: free() it. */
static char *attributes_line(const hv_dict *dict) {
    char *line = NULL;
    size_t size = 0, name_len, value_len;
    const char *name, *value;
    FILE *text = open_memstream(&line, &size);
    if (text == NULL)
        out_of_memory();
    for (size_t i = 0; hv_dict_at(dict, i, &name, &name_len, &value, &value_len); i++)
        fprintf(text, "%s%s=%s", i > 0 ? ", " : "", name, value != NULL ? value : "NULL");
    if (fclose(text) != 0)
        out_of_memory();
    return line;
}

static void add_to_table(finding *task, const export_row *entity) {
    char time[UI_NUMBER_SIZE];
    int64_t created = 0;
    ui_table *table = task->table;
    const selection *chosen = &task->chosen;
    hv_key_unpack(entity->key, hv_epoch(task->store), &created, NULL, NULL, NULL);
    ui_cell(table, UI_NAME, "%" PRId64, entity->key);
    ui_cell(table, UI_PLAIN, "%s", ui_time(time, created));
    ui_cell(table, UI_PLAIN, "%d", entity->shard);
    ui_cell(table, UI_PLAIN, "%d", entity->kind);
    if (chosen->only.of == NULL) {
        char *line = attributes_line(entity->body);
        ui_cell(table, UI_PLAIN, "%s", line);
        free(line);
    }
    for (size_t i = 0; i < chosen->only.count; i++) {
        const char *value = NULL;
        bool is_there = hv_dict_get(entity->body, chosen->only.of[i], HV_STRLEN, &value, NULL);
        ui_cell(table, value != NULL ? UI_PLAIN : UI_DIM, "%s",
                value != NULL ? value
                : is_there    ? "NULL"
                              : "-");
    }
}

/* ---- Finding --------------------------------------------------------------------------------- */

static void begin(finding *task) {
    if (task->format == NULL)
        begin_table(task);
    else
        row_text_append(&task->text, export_header(task->format),
                        strlen(export_header(task->format)));
}

/* Write what was collected. CSV has no escapes: on a terminal they are made. */
static void write_piece(finding *task) {
    if (task->text.failed)
        out_of_memory();
    if (task->table != NULL)
        ui_table_flush(task->table);
    else if (task->format == &row_csv && ui_is_terminal(stdout))
        ui_lines(stdout, task->text.data, task->text.len);
    else if (task->text.len > 0)
        fwrite(task->text.data, 1, task->text.len, stdout);
    row_text_clear(&task->text);
}

static void show(finding *task) {
    export_row entity = {.key = hv_reader_key(task->reader),
                         .kind = hv_reader_kind(task->reader),
                         .body = hv_reader_dict(task->reader)};
    hv_key_unpack(entity.key, hv_epoch(task->store), NULL, &entity.shard, NULL, NULL);
    if (task->table != NULL)
        add_to_table(task, &entity);
    else
        export_entity(&task->text, task->format, &entity);
    task->count++;
    task->last = entity.key;
    if (task->text.len >= PIECE || task->text.failed ||
        (task->table != NULL && task->count % PIECE_ROWS == 0))
        write_piece(task);
}

/* The next entity; what was read is shown before waiting. */
static hv_status next(finding *task, hv_error **error) {
    hv_status status = hv_reader_next(task->reader, 0, error);
    if (status != HV_TIMEOUT || *error != NULL)
        return status;
    write_piece(task);
    output_flush();
    return hv_reader_next(task->reader, -1, error);
}

static int find(finding *task) {
    hv_error *error = NULL;
    hv_status status = hv_find(task->store, task->chosen.built, &task->reader, &error);
    if (status != HV_OK)
        return selection_refused(status, error);
    begin(task);
    while (output_ok() && (status = next(task, &error)) == HV_OK)
        show(task);
    write_piece(task);
    output_flush(); /* errors and remarks come after the entities */

    int code = EXIT_DONE;
    bool ended_early = status != HV_OK && status != HV_NOT_FOUND;
    if (ended_early) {
        ui_error(error);
        code = EXIT_FAILED;
    }
    const hv_error *missing;
    for (size_t i = 0; (missing = hv_reader_missing(task->reader, i)) != NULL; i++)
        code = worse_code(code, selection_missing(&task->chosen, missing));
    if (ended_early && task->last != 0)
        ui_note("%" PRId64 " shown; --after %" PRId64 " goes on behind them", task->count,
                task->last);
    else if (task->format == NULL && task->count == 0)
        ui_note("no entity is like that");
    else if (task->format == NULL && task->count == task->limit)
        ui_note("%" PRId64 " shown; the next ones: --after %" PRId64, task->count, task->last);
    hv_error_free(error);
    return code;
}

/* ---- Explaining ------------------------------------------------------------------------------ */

/* Shards whose plans are the same. */
typedef struct plan_group {
    char *plan;
    char *warning; /* of the first of them; NULL: none */
    int *shards;
    size_t count;
} plan_group;

typedef struct explanation {
    plan_group *groups;
    size_t count;
} explanation;

/* Are they the same but for numbers, such as those of the rows of a table? */
static bool is_alike(const char *left, const char *right) {
    static const char digits[] = "0123456789";
    if (left == NULL || right == NULL)
        return left == right;
    while (*left != '\0' && *right != '\0') {
        size_t len = strcspn(left, digits);
        if (len != strcspn(right, digits) || strncmp(left, right, len) != 0)
            return false;
        left += len + strspn(left + len, digits);
        right += len + strspn(right + len, digits);
    }
    return *left == *right;
}

static void take_plan(void *context, int shard, const char *plan, const char *warning) {
    explanation *all = context;
    size_t i = 0;
    while (i < all->count &&
           (strcmp(all->groups[i].plan, plan) != 0 || !is_alike(all->groups[i].warning, warning)))
        i++;
    if (i == all->count) {
        all->groups = resize_memory(all->groups, ++all->count * sizeof *all->groups);
        all->groups[i] = (plan_group){.plan = copy_text(plan),
                                      .warning = warning != NULL ? copy_text(warning) : NULL};
    }
    plan_group *group = &all->groups[i];
    group->shards = resize_memory(group->shards, (group->count + 1) * sizeof *group->shards);
    group->shards[group->count++] = shard;
}

/* "shards 1 to 8, 12" */
static void print_shards(const plan_group *group) {
    printf("%sshard%s", ui_on(stdout, UI_BOLD), group->count > 1 ? "s" : "");
    for (size_t i = 0, end; i < group->count; i = end) {
        for (end = i + 1; end < group->count && group->shards[end] == group->shards[end - 1] + 1;)
            end++;
        printf("%s%d", i > 0 ? ", " : " ", group->shards[i]);
        if (end - i > 1)
            printf(" to %d", group->shards[end - 1]);
    }
    printf("%s\n", ui_off(stdout));
}

static void print_plan(const plan_group *group) {
    print_shards(group);
    for (const char *line = group->plan; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        fputs("    ", stdout);
        ui_text(stdout, line, len);
        putchar('\n');
        line += len + (line[len] == '\n');
    }
    if (group->warning == NULL)
        return;
    printf("    %swarning:%s ", ui_on(stdout, UI_WARN), ui_off(stdout));
    ui_text(stdout, group->warning, strlen(group->warning));
    putchar('\n');
}

static json_t *plan_as_json(const plan_group *group) {
    json_t *shards = json_array();
    for (size_t i = 0; i < group->count; i++)
        json_array_append_new(shards, json_integer(group->shards[i]));
    return json_pack("{s:o, s:o, s:o*}", "shards", shards, "plan", ui_json_text(group->plan),
                     "warning", group->warning != NULL ? ui_json_text(group->warning) : NULL);
}

static int by_shard(const void *left, const void *right) {
    return *(const int *) left - *(const int *) right;
}

static int explain(finding *task) {
    explanation all = {0};
    hv_error *error = NULL;
    hv_status status = hv_explain(task->store, task->chosen.built, take_plan, &all, &error);
    for (size_t i = 0; i < all.count; i++) {
        plan_group *group = &all.groups[i];
        qsort(group->shards, group->count, sizeof *group->shards, by_shard);
        if (status == HV_OK && task->format != NULL)
            print_json(plan_as_json(group));
        else if (status == HV_OK)
            print_plan(group);
        free(group->plan);
        free(group->warning);
        free(group->shards);
    }
    free(all.groups);
    return status == HV_OK ? EXIT_DONE : selection_refused(status, error);
}

/* ---- The command ----------------------------------------------------------------------------- */

static int run(arguments *args) {
    finding task = {0};
    selection_init(&task.chosen);
    read_request(&task, args);
    int code = open_store(&task.store);
    if (code == EXIT_DONE)
        code = task.is_explained ? explain(&task) : find(&task);
    hv_reader_close(task.reader);
    hv_close(task.store, 0, NULL);
    ui_table_free(task.table);
    free(task.columns);
    row_text_fini(&task.text);
    selection_fini(&task.chosen);
    return code;
}

const command command_find = {
    .name = "find",
    .synopsis = "[OPTION]...",
    .summary = "show entities by kind, time and attributes",
    .help =
        "Entities of all shards and servers, or of those chosen, in the order of their keys,\n"
        "which is the order in which they were made. On a terminal they are a table, otherwise\n"
        "lines as hv export writes them: ndjson, csv, or tsv with the same columns. The last key\n"
        "shown is the token of the page: with --after the next call goes on behind it.\n"
        "\n" SELECTION_HELP "\n"
        "\n"
        "A server that fails ends the command with 1, after what was found by then. With\n"
        "--partial the others are shown to the end; what is missing is reported on standard\n"
        "error, and the exit code is 1. What --skip-server leaves out is named too, and the\n"
        "exit code is 0.\n"
        "\n"
        "--explain shows the plan of a shard's first page, once for all shards with the same\n"
        "plan, and warns of large tables that would be read from beginning to end.",
    .options = options,
    .examples = "hv find --kind 2 --where user=42 --newest 20\n"
                "hv find --kind 2 --where user=42 --newest 20 --after 307821103844175873\n"
                "hv find --from 2026-11-01 --until 2026-12-01 --has email --format csv\n"
                "hv find --contains '{\"state\": \"draft\"}' --only title --json | jq .body.title",
    .run = run,
};
