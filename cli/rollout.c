/*
 * rollout: what the commands have in common that do something on all shards.
 */
#include "rollout.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "rollout_summary.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

void rollout_init(rollout *work) {
    *work = (rollout){.settings = hv_rollout_new()};
    if (work->settings == NULL)
        out_of_memory();
}

void rollout_fini(rollout *work) {
    rollout_watch_free(work->watch);
    hv_close(work->store, 0, NULL);
    hv_rollout_free(work->settings);
    free(work->scope.shards);
    free(work->scope.skipped);
    free(work->migrations);
    *work = (rollout){0};
}

/* ---- What was typed -------------------------------------------------------------------------- */

void rollout_set(rollout *work, const char *name, const char *value) {
    hv_error *error = NULL;
    hv_status status = hv_rollout_set(work->settings, name, value, &error);
    if (status != HV_OK) {
        ui_error(error);
        exit(exit_code(status));
    }
}

static void set_number(rollout *work, const char *name, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    rollout_set(work, name, text);
}

/* --shards may be repeated: all that was typed is one list. */
static void take_shards(rollout *work, const char *text) {
    rollout_scope *scope = &work->scope;
    char *list =
        scope->shards != NULL ? format_text("%s,%s", scope->shards, text) : copy_text(text);
    free(scope->shards);
    scope->shards = list;
    rollout_set(work, "shards", list);
}

static void take_skipped(rollout *work, const char *server) {
    rollout_scope *scope = &work->scope;
    scope->skipped =
        resize_memory(scope->skipped, (scope->skipped_count + 1) * sizeof *scope->skipped);
    scope->skipped[scope->skipped_count++] = server;
    rollout_set(work, "skip", server);
}

bool rollout_option(rollout *work, const arguments *args, int id) {
    const char *value = args->value;
    switch (id) {
    case ROLLOUT_SHARDS:
        take_shards(work, value);
        break;
    case ROLLOUT_SKIP_SERVER:
        take_skipped(work, value);
        break;
    case ROLLOUT_PARALLEL:
        rollout_set(work, "parallel", value);
        work->parallel = (int) strtol(value, NULL, 10);
        break;
    case ROLLOUT_PARALLEL_TOTAL:
        rollout_set(work, "parallel_total", value);
        break;
    case ROLLOUT_TIMEOUT:
        set_number(work, "timeout", argument_duration(args, "--timeout", value));
        break;
    case ROLLOUT_NO_CANARY:
        rollout_set(work, "canary", "off");
        break;
    case ROLLOUT_MAX_FAILURES:
        rollout_set(work, "max_failures", value);
        break;
    case ROLLOUT_LOCK_TIMEOUT:
        set_number(work, "lock_timeout", argument_duration(args, "--lock-timeout", value));
        break;
    case ROLLOUT_MAX_WAIT:
        set_number(work, "max_wait",
                   strcmp(value, "forever") == 0 ? -1
                                                 : argument_duration(args, "--max-wait", value));
        break;
    default:
        return false;
    }
    return true;
}

/* ---- The store ------------------------------------------------------------------------------- */

/* By Ctrl-C, or because its results cannot be written any more. */
static bool is_interrupted(void *context) {
    const rollout *work = context;
    if (work->wait != NULL)
        work->wait(work->context);
    return interrupted() || !output_ok();
}

/* The pool of each server must have room for so many shards at once, and two connections more. */
static hv_status make_room(const rollout *work, hv_options *loaded, hv_error **error) {
    char text[24];
    int least = work->parallel + 2;
    if (work->parallel == 0 || strtol(hv_options_get(loaded, "pool_max"), NULL, 10) >= least)
        return HV_OK;
    snprintf(text, sizeof text, "%d", least);
    return hv_options_set(loaded, "pool_max", text, error);
}

int rollout_open(rollout *work, void (*wait)(void *context), void *context) {
    hv_options *loaded = NULL;
    hv_error *error = NULL;
    int code = load_options(&loaded, NULL);
    if (code != EXIT_DONE)
        return code;
    work->wait = wait;
    work->context = context;
    const char *migrations = hv_options_get(loaded, "migrations");
    if (migrations != NULL && migrations[0] != '\0')
        work->migrations = copy_text(migrations);
    interrupt_catch();
    hv_options_set_interrupt(loaded, is_interrupted, work);
    hv_status status = make_room(work, loaded, &error);
    if (status == HV_OK)
        status = hv_open(loaded, &work->store, &error);
    hv_options_free(loaded);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return status == HV_OK ? EXIT_DONE : EXIT_FAILED;
}

/* ---- Its way and its end --------------------------------------------------------------------- */

void rollout_begin(rollout *work) {
    work->watch = rollout_watch_new(work->store, &work->scope);
    hv_rollout_observe(work->settings, rollout_watch_event, work->watch);
}

void rollout_over(rollout *work) {
    hv_rollout_observe(work->settings, NULL, NULL);
    rollout_watch_free(work->watch);
    work->watch = NULL;
}

int rollout_refused(rollout *work, hv_status status, hv_error *error) {
    rollout_over(work);
    ui_error(error);
    hv_error_free(error);
    return status == HV_NO_SERVER ? EXIT_USAGE : exit_code(status);
}

static void say_failures(const hv_summary *summary) {
    failures *all = summary_failures(summary);
    failures_say(all);
    failures_free(all);
}

/* The call ended, but no shard failed: it was interrupted, or ended for a reason of its own. */
static bool has_reason_of_its_own(hv_status status, const hv_summary *summary) {
    return status != HV_OK && hv_summary_count(summary, HV_WORK_FAILED) == 0;
}

int rollout_end(rollout *work, hv_status status, hv_summary *summary, hv_error *error,
                json_t *more) {
    rollout_over(work);
    int code = EXIT_DONE;
    if (summary == NULL) {
        json_decref(more);
        return rollout_refused(work, status, error);
    }
    code = summary_code(summary);
    if (ui_is_json()) {
        json_t *object = summary_json(work->store, summary);
        if (more != NULL)
            json_object_update(object, more);
        print_json(object);
    } else {
        summary_print(work->store, summary);
        output_flush(); /* the errors come after the table */
        say_failures(summary);
    }
    if (has_reason_of_its_own(status, summary))
        ui_error(error);
    if (code != EXIT_DONE && !ui_is_json())
        ui_note("Run it again when the cause is gone: what is done is not done twice.");
    json_decref(more);
    hv_error_free(error);
    hv_summary_free(summary);
    return code;
}

int rollout_end_answers(rollout *work, hv_status status, const hv_summary *summary,
                        hv_error *error) {
    rollout_over(work);
    if (summary == NULL)
        return rollout_refused(work, status, error);
    int code = summary_code(summary);
    output_flush(); /* the errors come after the answers */
    say_failures(summary);
    if (has_reason_of_its_own(status, summary))
        ui_error(error);
    size_t waiting = hv_summary_count(summary, HV_WORK_NOT_BEGUN);
    if (waiting > 0)
        ui_note("%zu more %s not begun.", waiting, waiting == 1 ? "was" : "were");
    hv_error_free(error);
    return code;
}
