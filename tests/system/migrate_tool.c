/*
 * migrate_tool: runs migrations, reads ledgers and makes plans, in a process of its own, which may
 * be killed.
 *
 * usage: migrate_tool CONFIG migrate|status|plan DIRECTORY [NAME=VALUE...]
 *        migrate_tool CONFIG init
 *
 *     events=1        print what the observer is told
 *     interrupt=N     interrupt it at the N-th event
 *     crash=N         end at once, as by SIGKILL, at the N-th event
 *     other names     options of the rollout
 *
 * DIRECTORY may be "-" for status: without one. Prints a line of JSON for each event, and one with
 * the outcome.
 */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hypervault.h"

static bool prints_events;
static int interrupt_at = -1, crash_at = -1; /* events until then */

_Noreturn static void die(const char *message) {
    fprintf(stderr, "migrate_tool: %s\n", message);
    exit(3);
}

static json_t *text(const char *value) {
    return value != NULL ? json_string(value) : json_null();
}

static json_t *error_of(const hv_error *error) {
    if (error == NULL)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:i}", "status",
                     hv_status_name(hv_error_status(error)), "message",
                     text(hv_error_message(error)), "detail", text(hv_error_detail(error)), "hint",
                     text(hv_error_hint(error)), "sqlstate", text(hv_error_sqlstate(error)),
                     "server", text(hv_error_server(error)), "shard", hv_error_shard(error));
}

static void print(json_t *line) {
    if (line == NULL)
        die("no line");
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

static json_t *outcome_of(hv_status status, hv_error *error) {
    json_t *outcome =
        json_pack("{s:s, s:o}", "status", hv_status_name(status), "error", error_of(error));
    hv_error_free(error);
    return outcome;
}

/* ---- options ---- */

static void take_option(hv_rollout *rollout, char *argument) {
    hv_error *error = NULL;
    char *value = strchr(argument, '=');
    if (value == NULL)
        die("an argument without a value");
    *value++ = '\0';
    if (strcmp(argument, "events") == 0)
        prints_events = true;
    else if (strcmp(argument, "interrupt") == 0)
        interrupt_at = atoi(value);
    else if (strcmp(argument, "crash") == 0)
        crash_at = atoi(value);
    else if (hv_rollout_set(rollout, argument, value, &error) != HV_OK)
        die(hv_error_message(error));
}

static void note(void *context, const hv_rollout_event *event) {
    (void) context;
    if (prints_events)
        print(json_pack("{s:i, s:i, s:s, s:o, s:o, s:f, s:o}", "server", event->server, "shard",
                        event->shard, "work", hv_work_name(event->work), "step", text(event->step),
                        "waits_for", text(event->waits_for), "share", event->share, "error",
                        error_of(event->error)));
    if (interrupt_at > 0)
        interrupt_at--;
    if (crash_at > 0 && --crash_at == 0)
        kill(getpid(), SIGKILL);
}

static bool is_interrupted(void *context) {
    (void) context;
    return interrupt_at == 0;
}

/* ---- outcomes ---- */

static json_t *summary_of(hv_summary *summary) {
    json_t *all = json_array();
    int server, shard;
    hv_work work;
    const hv_error *error;
    for (size_t i = 0; summary != NULL && hv_summary_at(summary, i, &server, &shard, &work, &error);
         i++)
        json_array_append_new(all,
                              json_pack("{s:i, s:i, s:s, s:o}", "server", server, "shard", shard,
                                        "work", hv_work_name(work), "error", error_of(error)));
    hv_summary_free(summary);
    return all;
}

static void set_ledger(json_t *outcome, hv_ledger *ledger) {
    static const char *const states[] = {"pending", "done", "changed", "interrupted", "no file"};
    json_t *files = json_array(), *shards = json_array();
    int server, shard;
    const hv_error *error;
    for (size_t i = 0; i < hv_ledger_files(ledger); i++)
        json_array_append_new(files, json_string(hv_ledger_file(ledger, i)));
    for (size_t i = 0; hv_ledger_shard(ledger, i, &server, &shard, &error); i++) {
        json_t *row = json_array();
        for (size_t j = 0; j < hv_ledger_files(ledger); j++) {
            const char *digest;
            int64_t applied_at;
            hv_migration_state state = hv_ledger_state(ledger, i, j, &digest, &applied_at);
            if ((digest == NULL) != (applied_at == 0))
                die("a digest without its time");
            json_array_append_new(row, json_pack("[s, o]", states[state], text(digest)));
        }
        json_array_append_new(shards, json_pack("{s:i, s:i, s:o, s:o}", "server", server, "shard",
                                                shard, "error", error_of(error), "files", row));
    }
    json_object_set_new(outcome, "files", files);
    json_object_set_new(outcome, "shards", shards);
    hv_ledger_free(ledger);
}

static json_t *steps_of(hv_plan *plan) {
    json_t *all = json_array();
    const hv_plan_step *step;
    for (size_t i = 0; (step = hv_plan_at(plan, i)) != NULL; i++)
        json_array_append_new(
            all,
            json_pack("{s:I, s:i, s:s, s:I, s:o, s:o, s:b, s:b, s:I, s:o}", "file",
                      (json_int_t) step->file, "line", step->line, "statement", step->statement,
                      "shards", (json_int_t) step->shards, "lock", text(step->lock), "relation",
                      text(step->relation), "rewrites", step->rewrites, "reads", step->reads,
                      "bytes", (json_int_t) step->bytes, "warning", text(step->warning)));
    hv_plan_free(plan);
    return all;
}

/* ---- the commands ---- */

static json_t *init(hv_store *store) {
    hv_error *error = NULL;
    hv_status status = HV_OK;
    int created = 0;
    for (int i = 0; status == HV_OK && i < hv_server_count(store); i++) {
        int some = 0;
        status = hv_create_shards(store, i, NULL, NULL, &some, &error);
        created += some;
    }
    json_t *outcome = outcome_of(status, error);
    json_object_set_new(outcome, "created", json_integer(created));
    return outcome;
}

static json_t *run(hv_store *store, const char *command, const hv_migrations *migrations,
                   const hv_rollout *rollout) {
    hv_error *error = NULL;
    hv_status status;
    json_t *outcome;
    if (strcmp(command, "migrate") == 0) {
        hv_summary *summary = NULL;
        status = hv_migrate(store, migrations, rollout, &summary, &error);
        outcome = outcome_of(status, error);
        json_object_set_new(outcome, "summary", summary_of(summary));
    } else if (strcmp(command, "status") == 0) {
        hv_ledger *ledger = NULL;
        status = hv_migrate_status(store, migrations, rollout, &ledger, &error);
        outcome = outcome_of(status, error);
        if (ledger != NULL)
            set_ledger(outcome, ledger);
    } else {
        hv_plan *plan = NULL;
        status = hv_migrate_plan(store, migrations, rollout, &plan, &error);
        outcome = outcome_of(status, error);
        if (plan != NULL)
            json_object_set_new(outcome, "steps", steps_of(plan));
    }
    return outcome;
}

static json_t *load_and_run(hv_store *store, const char *command, const char *directory,
                            const hv_rollout *rollout) {
    hv_error *error = NULL;
    hv_migrations *migrations = NULL;
    hv_status status = HV_OK;
    if (strcmp(directory, "-") != 0)
        status = hv_migrations_load(directory, &migrations, &error);
    json_t *outcome =
        status == HV_OK ? run(store, command, migrations, rollout) : outcome_of(status, error);
    hv_migrations_free(migrations);
    return outcome;
}

static hv_store *open_store(const char *path, hv_error **error) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    if (hv_options_load(options, path, NULL, error) == HV_OK) {
        hv_options_set_interrupt(options, is_interrupted, NULL);
        hv_open(options, &store, error);
    }
    hv_options_free(options);
    return store;
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: migrate_tool CONFIG migrate|status|plan|init [DIRECTORY] [NAME=VALUE...]");
    hv_error *error = NULL;
    hv_store *store = open_store(argv[1], &error);
    if (store == NULL)
        die(hv_error_message(error));
    hv_rollout *rollout = hv_rollout_new();
    hv_rollout_observe(rollout, note, NULL);
    for (int i = 4; i < argc; i++)
        take_option(rollout, argv[i]);
    print(argc > 3 ? load_and_run(store, argv[2], argv[3], rollout) : init(store));
    hv_rollout_free(rollout);
    if (hv_close(store, 5000, NULL) != HV_OK)
        die("the store is in use");
    return 0;
}
