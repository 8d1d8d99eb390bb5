/*
 * outcome: what has become of shards that were to be moved.
 */
#include "move/outcome.h"

#include <jansson.h>
#include <stdio.h>

#include "ui/exit.h"
#include "ui/output.h"
#include "ui/ui.h"

static const ui_column columns[] = {
    {"shard", true}, {"from", false}, {"to", false},           {"rows", true},
    {"size", true},  {"time", true},  {"longest pause", true}, {"", false},
};

/* "moved", "aborted", "failed" … */
static const char *word_of(const move_run *run, const move_job *job) {
    switch (job->state) {
    case MOVE_WAITING:
        return "not begun";
    case MOVE_RUNNING:
    case MOVE_STOPPED:
        return "stopped";
    case MOVE_FAILED:
        return "failed";
    case MOVE_OVER:
        break;
    }
    if (job->now.phase == HV_MOVE_ABORTED)
        return "aborted";
    if (run->order == MOVE_CLEAN)
        return "cleaned";
    return job->now.phase == HV_MOVE_KEPT ? "moved, can be undone" : "moved";
}

static ui_style style_of(const move_job *job) {
    return job->state == MOVE_FAILED ? UI_BAD : job->state == MOVE_OVER ? UI_GOOD : UI_WARN;
}

/* The rows and bytes are those that the move has copied: an undo and a removal copy none anew. */
static bool has_copied(const move_run *run) {
    return run->order != MOVE_UNDO && run->order != MOVE_CLEAN;
}

/* Nobody waits for the removal of an old copy: the pause is the move's. */
static bool has_paused(const move_run *run, const move_job *job) {
    return run->order != MOVE_CLEAN && job->now.pause_ms > 0;
}

/* ---- for people ------------------------------------------------------------------------------ */

/* Is it known what moves from where? */
static bool is_known(const move_job *job) {
    return job->now.source != NULL && job->now.source[0] != '\0';
}

static void add_row(ui_table *table, const move_run *run, const move_job *job) {
    char number[UI_NUMBER_SIZE];
    const hv_move_status *now = &job->now;
    bool begun = is_known(job);
    bool copied = begun && has_copied(run);
    ui_cell(table, UI_PLAIN, "%d", job->shard);
    ui_cell(table, UI_NAME, "%s", begun ? now->source : "");
    ui_cell(table, UI_NAME, "%s", now->target != NULL ? now->target : "");
    ui_cell(table, UI_PLAIN, "%s", copied && now->rows >= 0 ? ui_number(number, now->rows) : "");
    ui_cell(table, UI_PLAIN, "%s", copied && now->bytes >= 0 ? ui_bytes(number, now->bytes) : "");
    ui_cell(table, UI_PLAIN, "%s",
            begun ? ui_duration(number, (int64_t) (now->seconds * 1e6)) : "");
    if (has_paused(run, job))
        ui_cell(table, UI_PLAIN, "%.*f ms", now->pause_ms < 10 ? 1 : 0, now->pause_ms);
    else
        ui_cell(table, UI_PLAIN, "%s", "");
    ui_cell(table, style_of(job), "%s", word_of(run, job));
}

static void print_table(const move_run *run) {
    ui_table *table = ui_table_new(columns, (int) (sizeof columns / sizeof columns[0]));
    for (size_t i = 0; i < run->count; i++)
        add_row(table, run, &run->jobs[i]);
    ui_table_print(table);
    ui_table_free(table);
    output_flush(); /* the errors come after the table */
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *text(const char *value) {
    return value != NULL ? ui_json_text(value) : json_null();
}

static json_t *count_of(int64_t value) {
    return value >= 0 ? json_integer(value) : json_null();
}

static json_t *job_json(const move_run *run, const move_job *job) {
    const hv_move_status *now = &job->now;
    bool copied = has_copied(run);
    json_t *object = json_pack(
        "{s:i, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:f, s:f}", "shard", job->shard, "outcome",
        word_of(run, job), "source", text(now->source), "target", text(now->target), "kind",
        text(now->kind), "phase", hv_move_phase_name(now->phase), "rows",
        count_of(copied ? now->rows : -1), "bytes", count_of(copied ? now->bytes : -1), "seconds",
        now->seconds, "pause_ms", has_paused(run, job) ? now->pause_ms : 0.0);
    if (now->left_behind != NULL)
        json_object_set_new(object, "left_behind", ui_json_text(now->left_behind));
    if (job->error != NULL)
        json_object_set_new(object, "error", ui_error_json(job->error));
    return object;
}

static void print_summary(const move_run *run, size_t over, size_t failed) {
    json_t *list = json_array();
    for (size_t i = 0; i < run->count; i++)
        json_array_append_new(list, job_json(run, &run->jobs[i]));
    print_json(json_pack("{s:o, s:i, s:i, s:i}", "shards", list, "done", (int) over, "failed",
                         (int) failed, "stopped", (int) (run->count - over - failed)));
}

/* ---- both ------------------------------------------------------------------------------------ */

/* What could not be removed is no failure, but to be known. */
static void note_left_behind(const move_run *run) {
    for (size_t i = 0; i < run->count; i++)
        if (run->jobs[i].now.left_behind != NULL)
            ui_note("shard %d: left behind: %s", run->jobs[i].shard, run->jobs[i].now.left_behind);
}

static size_t count_in(const move_run *run, move_state state) {
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++)
        count += run->jobs[i].state == state;
    return count;
}

/* Was anything done? Otherwise there are only errors to be shown. */
static bool has_begun(const move_run *run) {
    for (size_t i = 0; i < run->count; i++)
        if (run->jobs[i].state != MOVE_FAILED || is_known(&run->jobs[i]))
            return true;
    return false;
}

int outcome_show(const move_run *run) {
    size_t over = count_in(run, MOVE_OVER), failed = count_in(run, MOVE_FAILED);
    size_t stopped = count_in(run, MOVE_STOPPED);
    const move_job *first = NULL;
    if (ui_is_json())
        print_summary(run, over, failed);
    else if (has_begun(run))
        print_table(run);
    for (size_t i = 0; i < run->count; i++) {
        if (run->jobs[i].error != NULL && !ui_is_json())
            ui_error(run->jobs[i].error);
        if (run->jobs[i].error != NULL && first == NULL)
            first = &run->jobs[i];
    }
    note_left_behind(run);
    if (stopped > 0)
        ui_note("%zu move%s not over: go on with `hv move --resume`, or take %s back with "
                "`hv move --abort`.",
                stopped, stopped == 1 ? " is" : "s are", stopped == 1 ? "it" : "them");
    if (over == run->count)
        return EXIT_DONE;
    if (over > 0)
        return EXIT_PARTLY;
    return first != NULL && run->count == 1 ? exit_code(hv_error_status(first->error))
                                            : EXIT_FAILED;
}
