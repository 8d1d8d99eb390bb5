/*
 * hv migrate plan: show what `hv migrate` would run where, and what it would lock.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "migration_folder.h"
#include "rollout.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

static const command_option options[] = {
    ROLLOUT_OPTIONS("4"),
    {NULL, 0, NULL, 0, NULL},
};

/* "0007_add_score.sql:3": free() it. */
static char *place_of(const hv_migrations *migrations, const hv_plan_step *step) {
    return format_text("%s:%d", hv_migrations_name(migrations, step->file), step->line);
}

static const char *effect_of(const hv_plan_step *step) {
    return step->rewrites ? "writes all of it anew" : step->reads ? "reads all of it" : "";
}

static ui_style style_of(const hv_plan_step *step) {
    bool is_exclusive = step->lock != NULL && strcmp(step->lock, "ACCESS EXCLUSIVE") == 0;
    return is_exclusive && (step->rewrites || step->reads) ? UI_BAD
           : is_exclusive                                  ? UI_WARN
                                                           : UI_PLAIN;
}

static void print_plan(const hv_migrations *migrations, const hv_plan *plan) {
    static const ui_column columns[] = {
        {"statement", false}, {"shards", true},  {"lock", false},        {"table", false},
        {"size", true},       {"effect", false}, {"begins with", false},
    };
    char number[UI_NUMBER_SIZE];
    const hv_plan_step *step;
    ui_table *table = ui_table_new(columns, 7);
    ui_table_cut(table, 6);
    for (size_t i = 0; (step = hv_plan_at(plan, i)) != NULL; i++) {
        char *place = place_of(migrations, step);
        ui_cell(table, UI_NAME, "%s", place);
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, (int64_t) step->shards));
        ui_cell(table, step->lock != NULL ? style_of(step) : UI_DIM, "%s",
                step->lock != NULL ? step->lock : "-");
        ui_cell(table, step->relation != NULL ? UI_PLAIN : UI_DIM, "%s",
                step->relation != NULL ? step->relation : "-");
        ui_cell(table, step->bytes >= 0 ? UI_PLAIN : UI_DIM, "%s",
                step->bytes >= 0 ? ui_bytes(number, step->bytes) : "-");
        ui_cell(table, step->rewrites ? UI_BAD : UI_WARN, "%s", effect_of(step));
        ui_cell(table, UI_PLAIN, "%s", step->statement);
        free(place);
    }
    ui_table_print(table);
    ui_table_free(table);
    for (size_t i = 0; (step = hv_plan_at(plan, i)) != NULL; i++) {
        if (step->warning == NULL)
            continue;
        char *place = place_of(migrations, step);
        fputs(ui_on(stdout, UI_WARN), stdout);
        ui_text(stdout, place, strlen(place));
        printf(":%s ", ui_off(stdout));
        ui_text(stdout, step->warning, strlen(step->warning));
        putchar('\n');
        free(place);
    }
}

static json_t *text_or_null(const char *text) {
    return text != NULL ? ui_json_text(text) : json_null();
}

static void print_plan_json(const hv_migrations *migrations, const hv_plan *plan) {
    json_t *list = json_array();
    const hv_plan_step *step;
    for (size_t i = 0; (step = hv_plan_at(plan, i)) != NULL; i++)
        json_array_append_new(
            list, json_pack("{s:o, s:i, s:o, s:I, s:o, s:o, s:b, s:b, s:o, s:o}", "file",
                            ui_json_text(hv_migrations_name(migrations, step->file)), "line",
                            step->line, "statement", ui_json_text(step->statement), "shards",
                            (json_int_t) step->shards, "lock", text_or_null(step->lock), "table",
                            text_or_null(step->relation), "rewrites", step->rewrites, "reads",
                            step->reads, "bytes",
                            step->bytes >= 0 ? json_integer(step->bytes) : json_null(), "warning",
                            text_or_null(step->warning)));
    print_json(json_pack("{s:o}", "steps", list));
}

static int run(arguments *args) {
    rollout work;
    hv_migrations *migrations = NULL;
    int code = migrate_begin(&work, args, true, &migrations);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_plan *plan = NULL;
        hv_status status = hv_migrate_plan(work.store, migrations, work.settings, &plan, &error);
        if (status != HV_OK)
            code = rollout_refused(&work, status, error);
        else if (ui_is_json())
            print_plan_json(migrations, plan);
        else if (hv_plan_at(plan, 0) != NULL)
            print_plan(migrations, plan);
        else
            puts("All shards have all files: there is nothing to run.");
        hv_plan_free(plan);
    }
    migrate_end(&work, migrations);
    return code;
}

const command command_migrate_plan = {
    .name = "migrate plan",
    .synopsis = "[DIR] [OPTION]...",
    .summary = "show what `hv migrate` would run where, and what it would lock",
    .help =
        "The statements that a shard lacks run on temporary copies of its tables, without their\n"
        "rows, each in a transaction of its own, and the server itself shows which locks a\n"
        "statement takes, and whether it reads or rewrites a whole table: then its lock lasts as\n"
        "long as that takes. Nothing of the shard is locked but for reading. A file without a\n"
        "transaction is listed and not tried, nor is what temporary tables cannot do.",
    .options = options,
    .examples = "hv migrate plan migrations/\n"
                "hv migrate plan --json | jq '.steps[] | select(.rewrites)'",
    .run = run,
};
