/*
 * schema_line: what `hv status` says of the schemas of all shards.
 */
#include "schema_line.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "ui/memory.h"
#include "ui/ui.h"

static void compare(schema_line *line, hv_store *store, const hv_rollout *settings) {
    hv_schema_report *report = NULL;
    line->status = hv_schema_check(store, settings, &report, &line->error);
    if (line->status != HV_OK)
        return;
    for (const hv_schema_group *group;
         (group = hv_schema_report_group(report, line->groups)) != NULL; line->groups++) {
        line->shards += group->count;
        line->different += line->groups > 0 ? group->count : 0;
    }
    while (hv_schema_report_failure(report, line->unread, NULL, NULL, NULL))
        line->unread++;
    hv_schema_report_free(report);
}

static void read_ledgers(schema_line *line, hv_store *store, const hv_rollout *settings,
                         const char *directory) {
    hv_migrations *migrations = NULL;
    hv_ledger *ledger = NULL;
    hv_error **error = &line->migrations_error;
    line->has_migrations = true;
    if (hv_migrations_load(directory, &migrations, error) == HV_OK &&
        hv_migrate_status(store, migrations, settings, &ledger, error) == HV_OK)
        ledger_count(ledger, &line->ledgers);
    hv_ledger_free(ledger);
    hv_migrations_free(migrations);
}

void schema_line_ask(schema_line *line, hv_store *store, const char *shards,
                     const char *migrations) {
    *line = (schema_line){0};
    hv_rollout *settings = hv_rollout_new();
    if (settings == NULL)
        out_of_memory();
    line->status = hv_rollout_set(settings, "shards", shards, &line->error);
    if (line->status == HV_OK)
        compare(line, store, settings);
    if (line->status == HV_OK && migrations != NULL)
        read_ledgers(line, store, settings, migrations);
    hv_rollout_free(settings);
}

void schema_line_fini(schema_line *line) {
    hv_error_free(line->error);
    hv_error_free(line->migrations_error);
    *line = (schema_line){0};
}

static void print_error(const hv_error *error) {
    char *text = ui_error_line(error);
    printf("%s", ui_on(stdout, UI_BAD));
    ui_text(stdout, text, strlen(text));
    printf("%s", ui_off(stdout));
    free(text);
}

static void print_ledgers(const ledger_counts *counts) {
    if (counts->files > 0)
        printf("%s%zu %s on %zu shard%s%s, see `hv migrate status`", ui_on(stdout, UI_WARN),
               counts->files, counts->is_worse ? "not in order" : "pending", counts->shards,
               counts->shards == 1 ? "" : "s", ui_off(stdout));
    else if (counts->unread == 0)
        printf("%sall have run%s", ui_on(stdout, UI_GOOD), ui_off(stdout));
    if (counts->unread > 0)
        printf("%s%s%zu could not be read%s", counts->files > 0 ? "; " : "", ui_on(stdout, UI_WARN),
               counts->unread, ui_off(stdout));
}

void schema_line_print(const schema_line *line) {
    printf("%sschemas:%s ", ui_on(stdout, UI_BOLD), ui_off(stdout));
    if (line->status != HV_OK)
        print_error(line->error);
    else if (line->groups > 1)
        printf("%s%zu of %zu shards %s from the others%s, see `hv schema check`",
               ui_on(stdout, UI_WARN), line->different, line->shards,
               line->different == 1 ? "differs" : "differ", ui_off(stdout));
    else if (line->unread == 0)
        printf("%salike%s", ui_on(stdout, UI_GOOD), ui_off(stdout));
    if (line->unread > 0)
        printf("%s%zu could not be read", line->groups > 1 ? "; " : "", line->unread);
    if (line->has_migrations) {
        printf("; %smigrations:%s ", ui_on(stdout, UI_BOLD), ui_off(stdout));
        if (line->migrations_error != NULL)
            print_error(line->migrations_error);
        else
            print_ledgers(&line->ledgers);
    }
    putchar('\n');
}

void schema_line_add(const schema_line *line, json_t *object) {
    json_t *schemas =
        line->status != HV_OK
            ? json_pack("{s:o}", "error", ui_error_json(line->error))
            : json_pack("{s:b, s:I, s:I}", "alike", line->groups <= 1 && line->unread == 0,
                        "groups", (json_int_t) line->groups, "unread", (json_int_t) line->unread);
    json_object_set_new(object, "schemas", schemas);
    if (!line->has_migrations)
        return;
    json_t *migrations =
        line->migrations_error != NULL
            ? json_pack("{s:o}", "error", ui_error_json(line->migrations_error))
            : json_pack("{s:I, s:I, s:I}", "pending", (json_int_t) line->ledgers.files, "shards",
                        (json_int_t) line->ledgers.shards, "unread",
                        (json_int_t) line->ledgers.unread);
    json_object_set_new(object, "migrations", migrations);
}
