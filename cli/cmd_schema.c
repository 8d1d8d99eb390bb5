/*
 * hv schema check: are the schemas of all shards alike?
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "rollout.h"
#include "rollout_summary.h"
#include "shard_list.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_FULL = 1 };

static const command_option options[] = {
    {"full", 'f', NULL, OPTION_FULL, "print the whole description of each group, and all groups"},
    ROLLOUT_OPTIONS("4"),
    {NULL, 0, NULL, 0, NULL},
};

/* Without --full, no more groups and no more lines of a group are printed. */
#define MOST_GROUPS 10
#define MOST_LINES  40

/* ---- For people ------------------------------------------------------------------------------ */

/* Up to `most` lines, those of a diff in colour. Returns how many there are. */
static size_t print_lines(const char *text, size_t most) {
    size_t lines = 0;
    for (; *text != '\0'; lines++) {
        size_t len = strcspn(text, "\n");
        if (lines < most) {
            ui_style style = text[0] == '-' ? UI_BAD : text[0] == '+' ? UI_GOOD : UI_PLAIN;
            printf("    %s", ui_on(stdout, style));
            ui_text(stdout, text, len);
            printf("%s\n", ui_off(stdout));
        }
        text += len + (text[len] == '\n');
    }
    return lines;
}

static void print_group(const hv_schema_group *group, bool is_first, bool full) {
    char *list = full ? copy_text(group->shards) : shard_list_short(group->shards);
    printf("%s%zu shard%s%s %s: %s\n", ui_on(stdout, UI_BOLD), group->count,
           group->count == 1 ? "" : "s", ui_off(stdout),
           is_first            ? "alike"
           : group->count == 1 ? "differs"
                               : "differ",
           list);
    free(list);
    size_t lines = is_first ? 0 : print_lines(group->differences, full ? SIZE_MAX : MOST_LINES);
    if (!full && lines > MOST_LINES)
        printf("    and %zu more lines: --full prints all of them\n", lines - MOST_LINES);
    if (full) {
        printf("  %s%s%s\n", ui_on(stdout, UI_DIM), group->digest, ui_off(stdout));
        print_lines(group->description, SIZE_MAX);
    }
}

static void print_groups(const hv_schema_report *report, bool full) {
    const hv_schema_group *group;
    size_t count = 0;
    for (; (group = hv_schema_report_group(report, count)) != NULL; count++)
        if (full || count < MOST_GROUPS)
            print_group(group, count == 0, full);
    if (!full && count > MOST_GROUPS)
        printf("and %zu more groups: --full prints all of them\n", count - MOST_GROUPS);
}

/* ---- For programs ---------------------------------------------------------------------------- */

static json_t *lines_json(const char *text) {
    json_t *list = json_array();
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        char *line = format_text("%.*s", (int) len, text);
        json_array_append_new(list, ui_json_text(line));
        free(line);
        text += len + (text[len] == '\n');
    }
    return list;
}

static json_t *group_json(const hv_schema_group *group, bool full) {
    return json_pack("{s:I, s:s, s:s, s:o, s:o*}", "count", (json_int_t) group->count, "shards",
                     group->shards, "digest", group->digest, "differences",
                     lines_json(group->differences), "description",
                     full ? lines_json(group->description) : NULL);
}

static void print_all_json(const hv_schema_report *report, failures *failed, bool full) {
    json_t *list = json_array();
    const hv_schema_group *group;
    for (size_t i = 0; (group = hv_schema_report_group(report, i)) != NULL; i++)
        json_array_append_new(list, group_json(group, full));
    json_t *errors = failures_json(failed);
    bool alike = json_array_size(list) <= 1 && json_array_size(errors) == 0;
    print_json(json_pack("{s:b, s:o, s:o}", "alike", alike, "groups", list, "failures", errors));
}

/* ---- The command ----------------------------------------------------------------------------- */

static int show(const hv_schema_report *report, bool full) {
    const hv_error *error;
    int shard;
    size_t count = 0;
    failures *failed = failures_new();
    for (; hv_schema_report_failure(report, count, NULL, &shard, &error); count++)
        failures_add(failed, shard, error);
    if (ui_is_json()) {
        print_all_json(report, failed, full);
    } else {
        print_groups(report, full);
        output_flush(); /* the errors come after the groups */
        failures_say(failed);
    }
    failures_free(failed);
    bool alike = count == 0 && hv_schema_report_group(report, 1) == NULL;
    return alike ? EXIT_DONE : EXIT_FAILED;
}

static int check(rollout *work, bool full) {
    hv_error *error = NULL;
    hv_schema_report *report = NULL;
    rollout_begin(work);
    hv_status status = hv_schema_check(work->store, work->settings, &report, &error);
    if (status != HV_OK)
        return rollout_refused(work, status, error);
    rollout_over(work);
    int code = show(report, full);
    hv_schema_report_free(report);
    return code;
}

static int run(arguments *args) {
    rollout work;
    bool full = false;
    rollout_init(&work);
    for (int id; (id = arguments_next(args)) != 0;) {
        full = full || id == OPTION_FULL;
        rollout_option(&work, args, id);
    }
    arguments_expect(args, 0, 0);
    int code = rollout_open(&work, NULL, NULL);
    if (code == EXIT_DONE)
        code = check(&work, full);
    rollout_fini(&work);
    return code;
}

const command command_schema_check = {
    .name = "schema check",
    .synopsis = "[--full] [OPTION]...",
    .summary = "find out whether the schemas of all shards are alike",
    .help =
        "Describes the tables, columns, types, defaults, constraints, indexes, sequences,\n"
        "functions, triggers, rules, policies, views and grants of each shard's schema, in a\n"
        "fixed order and with @shard in place of the schema's name. Shards with the same\n"
        "description are a group; the largest is shown first, and for each other one what it\n"
        "lacks (-) and what it has instead or in addition (+). The ledger of migrations and the\n"
        "values of sequences do not count.\n"
        "\n"
        "The exit code is 0 if all shards are alike, and 1 if not, or if one could not be read.",
    .options = options,
    .examples = "hv schema check\n"
                "hv schema check --full --shards 12\n"
                "hv schema check --json | jq -r '.groups[1:][].shards'",
    .run = run,
};
