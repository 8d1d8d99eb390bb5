/*
 * hv doctor: what would keep shards from moving.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "servers/named.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_FROM = 1, OPTION_TO, OPTION_SHARD };

static const command_option options[] = {
    {"from", 'f', "SERVER", OPTION_FROM, "only moves from this server"},
    {"to", 't', "SERVER", OPTION_TO, "only moves to this server"},
    {"shard", 's', "N", OPTION_SHARD, "of the shards only this one"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct request {
    const char *from; /* NULL: all */
    const char *to;
    int shard; /* -1: all */
} request;

/* The number of the server; -1: all. False after an error message. */
static bool number_of(const hv_store *store, const char *name, int *number) {
    *number = -1;
    if (name != NULL)
        *number = server_named(store, name, "The sections of the configuration name the servers.");
    return name == NULL || *number >= 0;
}

static size_t count_of(const hv_findings *findings, hv_severity severity) {
    size_t count = 0;
    for (size_t i = 0; i < hv_findings_count(findings); i++)
        count += hv_findings_at(findings, i)->severity == severity;
    return count;
}

static void print_line(const char *text) {
    fputs("  ", stdout);
    ui_lines(stdout, text, strlen(text));
    putchar('\n');
}

static void print_finding(const hv_finding *found) {
    ui_style style = found->severity == HV_SEVERITY_ERROR     ? UI_BAD
                     : found->severity == HV_SEVERITY_WARNING ? UI_WARN
                                                              : UI_DIM;
    printf("%s%s%s ", ui_on(stdout, style), hv_severity_name(found->severity), ui_off(stdout));
    ui_text(stdout, found->server, strlen(found->server));
    if (found->other != NULL) {
        fputs(" (from ", stdout);
        ui_text(stdout, found->other, strlen(found->other));
        fputs(")", stdout);
    }
    fputs(": ", stdout);
    ui_lines(stdout, found->text, strlen(found->text));
    putchar('\n');
    if (found->detail != NULL)
        print_line(found->detail);
    if (found->hint != NULL)
        print_line(found->hint);
}

static void print_text(const hv_findings *findings) {
    for (size_t i = 0; i < hv_findings_count(findings); i++)
        print_finding(hv_findings_at(findings, i));
    size_t errors = count_of(findings, HV_SEVERITY_ERROR);
    size_t warnings = count_of(findings, HV_SEVERITY_WARNING);
    if (errors + warnings == 0)
        puts("Shards can be moved: nothing is in the way.");
    else if (errors == 0)
        printf("Shards can be moved; %zu warning%s.\n", warnings, warnings == 1 ? "" : "s");
    else
        printf("%zu error%s keep%s shards from moving.\n", errors, errors == 1 ? "" : "s",
               errors == 1 ? "s" : "");
}

static void print_as_json(const hv_findings *findings) {
    json_t *list = json_array();
    for (size_t i = 0; i < hv_findings_count(findings); i++) {
        const hv_finding *found = hv_findings_at(findings, i);
        json_t *object =
            json_pack("{s:s, s:o, s:o}", "severity", hv_severity_name(found->severity), "server",
                      ui_json_text(found->server), "text", ui_json_text(found->text));
        if (found->other != NULL)
            json_object_set_new(object, "source", ui_json_text(found->other));
        if (found->shard >= 0)
            json_object_set_new(object, "shard", json_integer(found->shard));
        if (found->detail != NULL)
            json_object_set_new(object, "detail", ui_json_text(found->detail));
        if (found->hint != NULL)
            json_object_set_new(object, "hint", ui_json_text(found->hint));
        json_array_append_new(list, object);
    }
    print_json(json_pack("{s:b, s:o}", "ready", count_of(findings, HV_SEVERITY_ERROR) == 0,
                         "findings", list));
}

static int look(hv_store *store, const request *asked) {
    hv_error *error = NULL;
    hv_findings *findings = NULL;
    int from, to;
    if (!number_of(store, asked->from, &from) || !number_of(store, asked->to, &to))
        return EXIT_USAGE;
    hv_status status = hv_doctor(store, from, to, asked->shard, &findings, &error);
    int code = exit_code(status);
    if (status != HV_OK)
        ui_error(error);
    else if (ui_is_json())
        print_as_json(findings);
    else
        print_text(findings);
    if (status == HV_OK && count_of(findings, HV_SEVERITY_ERROR) > 0)
        code = EXIT_FAILED;
    hv_findings_free(findings);
    hv_error_free(error);
    return code;
}

static int run(arguments *args) {
    request asked = {.shard = -1};
    hv_store *store = NULL;
    for (int id; (id = arguments_next(args)) != 0;) {
        if (id == OPTION_FROM)
            asked.from = args->value;
        else if (id == OPTION_TO)
            asked.to = args->value;
        else
            asked.shard = (int) argument_integer(args, "--shard", args->value, 0, HV_SHARDS - 1);
    }
    arguments_expect(args, 0, 0);
    /* A server that is down is a finding, and not the end. */
    hv_options *loaded = NULL;
    hv_error *error = NULL;
    int code = load_options(&loaded, NULL);
    if (code == EXIT_DONE && (hv_options_set(loaded, "check_servers", "off", &error) != HV_OK ||
                              hv_open(loaded, &store, &error) != HV_OK)) {
        ui_error(error);
        code = EXIT_FAILED;
    }
    hv_error_free(error);
    hv_options_free(loaded);
    if (code == EXIT_DONE)
        code = look(store, &asked);
    hv_close(store, 0, NULL);
    return code;
}

const command command_doctor = {
    .name = "doctor",
    .synopsis = "[--from SERVER] [--to SERVER] [--shard N]",
    .summary = "find out what would keep shards from moving",
    .help =
        "Looks at each server and each pair of them before anything is copied: settings,\n"
        "slots, senders and workers, rights, roles, versions, extensions, collations,\n"
        "tablespaces, clocks, long transactions, tables that cannot be replicated, large\n"
        "objects, event triggers, poolers in between, and what earlier moves have left. Each\n"
        "server that may receive shards really connects to each that has some, as a move would\n"
        "let it. Nothing is changed. With each finding comes what to do about it. `hv move`\n"
        "looks at what would end it, too, before it begins.\n"
        "\n"
        "The exit code is 1 if an error was found, or a server cannot be reached; warnings\n"
        "do not count.",
    .options = options,
    .examples = "hv doctor\n"
                "hv doctor --from left --to right --shard 12\n"
                "hv doctor --json | jq -r '.findings[] | .server + \": \" + .text'",
    .run = run,
};
