/*
 * hv index: create, list and drop indexes on the entities of all shards.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "rollout.h"
#include "shard_list.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_ALL = 1, OPTION_KIND, OPTION_UNIQUE, OPTION_NAME };

static const command_option create_options[] = {
    {"kind", 'k', "N", OPTION_KIND, "only entities of this kind"},
    {"unique", 'u', NULL, OPTION_UNIQUE, "in each shard, no two entities have the same values"},
    {"all", 'a', NULL, OPTION_ALL, "all attributes: a GIN index, for conditions of any of them"},
    {"name", 'n', "NAME", OPTION_NAME, "its name; default: made from the definition"},
    ROLLOUT_OPTIONS("4"),
    ROLLOUT_CHANGE_OPTIONS("1h"),
    {NULL, 0, NULL, 0, NULL},
};

static const command_option drop_options[] = {
    ROLLOUT_OPTIONS("4"),
    ROLLOUT_CHANGE_OPTIONS("1h"),
    {NULL, 0, NULL, 0, NULL},
};

static const command_option list_options[] = {
    ROLLOUT_OPTIONS("4"),
    {NULL, 0, NULL, 0, NULL},
};

/* End the process if there was an error. */
static void must(hv_status status, const hv_error *error) {
    if (status == HV_OK)
        return;
    ui_error(error);
    exit(exit_code(status));
}

/* ---- hv index create ------------------------------------------------------------------------- */

/* NAME or NAME:TYPE; the last colon counts. */
static void add_attribute(hv_index *index, const char *word) {
    const char *colon = strrchr(word, ':');
    hv_error *error = NULL;
    char *name = colon != NULL ? format_text("%.*s", (int) (colon - word), word) : copy_text(word);
    hv_status status = hv_index_attribute(index, name, colon != NULL ? colon + 1 : NULL, &error);
    must(status, error);
    free(name);
}

/* *kind is the text of the option, or NULL. */
static void read_index(hv_index *index, rollout *work, arguments *args, const char **kind) {
    int id;
    bool all = false, unique = false;
    hv_error *error = NULL;
    hv_status status;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_ALL:
            all = true;
            hv_index_all(index);
            break;
        case OPTION_KIND:
            *kind = args->value;
            hv_index_kind(index, (int16_t) argument_kind(args, args->value));
            break;
        case OPTION_UNIQUE:
            unique = true;
            hv_index_unique(index);
            break;
        case OPTION_NAME:
            status = hv_index_name(index, args->value, &error);
            must(status, error);
            break;
        default:
            rollout_option(work, args, id);
        }
    }
    arguments_expect(args, 0, -1);
    if (args->count == 0 && !all)
        usage_error(args, "Name an attribute, or write --all.", "an index on nothing");
    if (args->count > 0 && all)
        usage_error(args, "Write one or the other.", "both attributes and --all");
    if (unique && all)
        usage_error(args, NULL, "--unique cannot be used with --all");
    for (int i = 0; i < args->count; i++)
        add_attribute(index, args->items[i]);
}

static json_t *definition_json(hv_index *index) {
    return json_pack("{s:o, s:o}", "index", ui_json_text(hv_index_chosen_name(index)), "expression",
                     ui_json_text(hv_index_expression(index, NULL)));
}

static int create(rollout *work, hv_index *index, const char *kind) {
    hv_error *error = NULL;
    hv_summary *summary = NULL;
    const char *name = hv_index_chosen_name(index);
    if (name == NULL || hv_index_expression(index, NULL) == NULL)
        out_of_memory();
    rollout_begin(work);
    hv_status status = hv_index_create(work->store, index, work->settings, &summary, &error);
    rollout_over(work);
    if (!ui_is_json() && summary != NULL) {
        printf("%s", ui_on(stdout, UI_NAME));
        ui_text(stdout, name, strlen(name));
        printf("%s on ", ui_off(stdout));
        const char *expression = hv_index_expression(index, NULL);
        ui_text(stdout, expression, strlen(expression));
        if (kind != NULL) /* which a query needs, too */
            printf(" where type = %s", kind);
        putchar('\n');
    }
    return rollout_end(work, status, summary, error, definition_json(index));
}

static int run_create(arguments *args) {
    rollout work;
    const char *kind = NULL;
    hv_index *index = hv_index_new();
    if (index == NULL)
        out_of_memory();
    rollout_init(&work);
    read_index(index, &work, args, &kind);
    int code = rollout_open(&work, NULL, NULL);
    if (code == EXIT_DONE)
        code = create(&work, index, kind);
    rollout_fini(&work);
    hv_index_free(index);
    return code;
}

/* ---- hv index drop --------------------------------------------------------------------------- */

static int run_drop(arguments *args) {
    rollout work;
    rollout_init(&work);
    for (int id; (id = arguments_next(args)) != 0;)
        rollout_option(&work, args, id);
    arguments_expect(args, 1, 1);
    int code = rollout_open(&work, NULL, NULL);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_summary *summary = NULL;
        rollout_begin(&work);
        hv_status status =
            hv_index_drop(work.store, args->items[0], work.settings, &summary, &error);
        bool is_nowhere = summary != NULL && hv_summary_count(summary, HV_WORK_UNCHANGED) ==
                                                 hv_summary_shards(summary);
        code = rollout_end(&work, status, summary, error,
                           json_pack("{s:o}", "index", ui_json_text(args->items[0])));
        if (is_nowhere) /* the name may be wrong */
            ui_note("No shard has an index of this name.");
    }
    rollout_fini(&work);
    return code;
}

/* ---- hv index list --------------------------------------------------------------------------- */

static void add_count(ui_table *table, ui_style style, size_t count) {
    char number[UI_NUMBER_SIZE];
    ui_cell(table, count > 0 ? style : UI_DIM, "%s", ui_number(number, (int64_t) count));
}

static void print_table(const hv_indexes *indexes) {
    static const ui_column columns[] = {
        {"index", false},  {"shards", true},   {"missing", true},
        {"invalid", true}, {"building", true}, {"different", true},
        {"size", true},    {"scans", true},    {"definition", false},
    };
    char number[UI_NUMBER_SIZE];
    ui_table *table = ui_table_new(columns, 9);
    ui_table_cut(table, 8);
    const hv_index_info *info;
    for (size_t i = 0; (info = hv_indexes_at(indexes, i)) != NULL; i++) {
        ui_cell(table, UI_NAME, "%s", info->name);
        add_count(table, UI_PLAIN, info->shards);
        add_count(table, UI_WARN, info->missing);
        add_count(table, UI_BAD, info->invalid);
        add_count(table, UI_PLAIN, info->building);
        add_count(table, UI_WARN, info->different);
        ui_cell(table, UI_PLAIN, "%s", ui_bytes(number, info->bytes));
        ui_cell(table, info->scans > 0 ? UI_PLAIN : UI_DIM, "%s", ui_number(number, info->scans));
        ui_cell(table, UI_PLAIN, "%s", info->definition);
    }
    ui_table_print(table);
    ui_table_free(table);
}

static void print_remark(const char *name, const char *what, const char *shards) {
    if (shards == NULL || shards[0] == '\0')
        return;
    char *list = shard_list_short(shards);
    fputs(ui_on(stdout, UI_WARN), stdout);
    ui_text(stdout, name, strlen(name));
    printf(":%s %s shard%s %s\n", ui_off(stdout), what, strpbrk(shards, ",-") ? "s" : "", list);
    free(list);
}

static json_t *index_json(const hv_index_info *info) {
    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "name",
                     ui_json_text(info->name), "definition", ui_json_text(info->definition),
                     "shards", (json_int_t) info->shards, "missing", (json_int_t) info->missing,
                     "invalid", (json_int_t) info->invalid, "building", (json_int_t) info->building,
                     "different", (json_int_t) info->different, "bytes", (json_int_t) info->bytes,
                     "scans", (json_int_t) info->scans, "missing_in", info->missing_in,
                     "invalid_in", info->invalid_in, "different_in", info->different_in);
}

static void print_list(const hv_indexes *indexes) {
    const hv_index_info *info;
    if (ui_is_json()) {
        json_t *list = json_array();
        for (size_t i = 0; (info = hv_indexes_at(indexes, i)) != NULL; i++)
            json_array_append_new(list, index_json(info));
        print_json(json_pack("{s:o}", "indexes", list));
        return;
    }
    print_table(indexes);
    for (size_t i = 0; (info = hv_indexes_at(indexes, i)) != NULL; i++) {
        print_remark(info->name, "missing on", info->missing_in);
        print_remark(info->name, "invalid on", info->invalid_in);
        print_remark(info->name, "another definition on", info->different_in);
    }
}

static int run_list(arguments *args) {
    rollout work;
    rollout_init(&work);
    for (int id; (id = arguments_next(args)) != 0;)
        rollout_option(&work, args, id);
    arguments_expect(args, 0, 0);
    int code = rollout_open(&work, NULL, NULL);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_indexes *indexes = NULL;
        hv_status status = hv_index_list(work.store, work.settings, &indexes, &error);
        if (status == HV_OK)
            print_list(indexes);
        else
            code = rollout_refused(&work, status, error);
        hv_indexes_free(indexes);
    }
    rollout_fini(&work);
    return code;
}

/* ---- The commands ---------------------------------------------------------------------------- */

const command command_index_create = {
    .name = "index create",
    .synopsis = "ATTRIBUTE[:TYPE]... [OPTION]...\n--all [OPTION]...",
    .summary = "build an index on every shard",
    .help =
        "Builds the index CONCURRENTLY on each shard that lacks it: programs go on reading and\n"
        "writing. It is on the attributes, in this order, and on the key, so that\n"
        "`hv find --where user=42 --newest 20` is one walk along it. TYPE is text, the default,\n"
        "smallint, integer, bigint, numeric, real, double precision, boolean, uuid, date,\n"
        "timestamp or timestamptz; a name with a colon is written with its type.\n"
        "\n"
        "An interrupted build leaves an index that is not valid. It is dropped and built again\n"
        "by the next run. The size of a shard's table and how busy it is decide how long it\n"
        "takes; transactions that are older than the build are waited for up to --max-wait, and\n"
        "block nobody.\n"
        "\n" ROLLOUT_HELP,
    .options = create_options,
    .examples = "hv index create user\n"
                "hv index create user score:bigint --kind 2\n"
                "hv index create email --unique --name entities_email\n"
                "hv index create --all --parallel 1",
    .run = run_create,
};

const command command_index_list = {
    .name = "index list",
    .synopsis = "[OPTION]...",
    .summary = "show the indexes of the entities, over all shards",
    .help = "For each index: how many shards have it, lack it, have one that is not valid, are\n"
            "building it, or have another one of this name; the size in all shards; and how often\n"
            "it was used since the statistics were reset. @shard stands for the shard's schema.",
    .options = list_options,
    .examples = "hv index list\n"
                "hv index list --json | jq '.indexes[] | select(.scans == 0) | .name'",
    .run = run_list,
};

const command command_index_drop = {
    .name = "index drop",
    .synopsis = "NAME [OPTION]...",
    .summary = "drop an index from every shard",
    .help = "Drops the index CONCURRENTLY from each shard that has it. The primary key, an index\n"
            "of a constraint and an index of another table are refused.\n"
            "\n" ROLLOUT_HELP,
    .options = drop_options,
    .examples = "hv index drop entities_user_idx",
    .run = run_drop,
};
