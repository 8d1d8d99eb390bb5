/*
 * watch: what people and programs see while shards move.
 */
#include "move/watch.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

/* What a shard waits for is named after so long. */
#define LONG_WAIT_US 2000000

struct watch {
    ui_progress *progress;
    int lines;
    const move_job **jobs; /* of each line; NULL: none yet; owned, as the next */
    char **labels;
};

/* ---- bars ------------------------------------------------------------------------------------ */

watch *watch_new(const move_run *run) {
    watch *seen = new_memory(sizeof *seen);
    size_t lines = run->threads > 0 ? (size_t) run->threads : 1;
    seen->lines = (int) (lines < run->count ? lines : run->count);
    seen->jobs = new_memory(((size_t) seen->lines + 1) * sizeof(move_job *));
    seen->labels = new_memory(((size_t) seen->lines + 1) * sizeof(char *));
    for (int i = 0; i < seen->lines; i++)
        seen->labels[i] = format_text("shard 8191 catching up"); /* the widest one */
    seen->progress = ui_progress_new(seen->lines, (const char *const *) seen->labels, "rows");
    for (int i = 0; i < seen->lines; i++)
        ui_progress_label(seen->progress, i, "");
    return seen;
}

static bool is_shown(const watch *seen, const move_job *job) {
    for (int i = 0; i < seen->lines; i++)
        if (seen->jobs[i] == job)
            return true;
    return false;
}

/* Jobs that have ended make room for those that have begun. */
static void assign(watch *seen, const move_run *run) {
    for (size_t i = 0; i < run->count; i++) {
        const move_job *job = &run->jobs[i];
        if (job->state != MOVE_RUNNING || is_shown(seen, job))
            continue;
        for (int line = 0; line < seen->lines; line++)
            if (seen->jobs[line] == NULL || seen->jobs[line]->state != MOVE_RUNNING) {
                seen->jobs[line] = job;
                ui_progress_again(seen->progress, line);
                break;
            }
    }
}

static void show_line(watch *seen, int line) {
    const move_job *job = seen->jobs[line];
    char *label = format_text("shard %d %s", job->shard, hv_move_phase_name(job->now.phase));
    if (strcmp(label, seen->labels[line]) != 0) {
        ui_progress_label(seen->progress, line, label);
        free(seen->labels[line]);
        seen->labels[line] = label;
        if (job->state == MOVE_RUNNING && job->now.phase == HV_MOVE_VERIFYING)
            ui_progress_again(seen->progress, line);
    } else {
        free(label);
    }
    if (job->now.rows_total > 0) /* not yet known, or an estimate of nothing */
        ui_progress_estimate(seen->progress, line, job->now.rows_total);
    if (job->now.rows >= 0)
        ui_progress_set(seen->progress, line, job->now.rows);
    if (job->state == MOVE_OVER)
        ui_progress_end(seen->progress, line, UI_DONE);
    else if (job->state == MOVE_FAILED)
        ui_progress_end(seen->progress, line, UI_FAILED);
}

/* "shard 12: copying entities, 120 MB of 1.1 GB, 3 MB behind", or what it waits for. */
static char *remark_of(const move_job *job) {
    char done[UI_NUMBER_SIZE], total[UI_NUMBER_SIZE], lag[UI_NUMBER_SIZE];
    const hv_move_status *now = &job->now;
    if (now->waits_for != NULL)
        return format_text("shard %d waits: %s", job->shard, now->waits_for);
    bool has_step = now->step != NULL && now->step[0] != '\0', has_lag = now->lag_bytes > 0;
    bool has_bytes = now->phase == HV_MOVE_COPYING && now->bytes >= 0 && now->bytes_total > 0;
    return format_text("shard %d: %s%s%s%s%s%s%s%s", job->shard,
                       has_step ? now->step : hv_move_phase_name(now->phase), has_bytes ? ", " : "",
                       has_bytes ? ui_bytes(done, now->bytes) : "", has_bytes ? " of " : "",
                       has_bytes ? ui_bytes(total, now->bytes_total) : "", has_lag ? ", " : "",
                       has_lag ? ui_bytes(lag, now->lag_bytes) : "", has_lag ? " behind" : "");
}

static void show_remarks(const watch *seen) {
    int index = 0;
    for (int waits = 1; waits >= 0; waits--)
        for (int line = 0; line < seen->lines && index < UI_REMARKS; line++) {
            const move_job *job = seen->jobs[line];
            if (job == NULL || job->state != MOVE_RUNNING ||
                (job->now.waits_for != NULL) != (waits == 1))
                continue;
            char *text = remark_of(job);
            ui_progress_remark(seen->progress, index++, waits == 1 ? UI_WARN : UI_DIM, text);
            free(text);
        }
    for (; index < UI_REMARKS; index++)
        ui_progress_remark(seen->progress, index, UI_PLAIN, NULL);
}

void watch_update(watch *seen, const move_run *run) {
    if (!ui_progress_is_shown(seen->progress))
        return;
    assign(seen, run);
    for (int line = 0; line < seen->lines; line++)
        if (seen->jobs[line] != NULL)
            show_line(seen, line);
    show_remarks(seen);
}

void watch_free(watch *seen) {
    ui_progress_free(seen->progress, false);
    for (int i = 0; i < seen->lines; i++)
        free(seen->labels[i]);
    free(seen->labels);
    free(seen->jobs);
    free(seen);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text) {
    return text != NULL ? ui_json_text(text) : json_null();
}

static void say_phase(const move_job *job) {
    const hv_move_status *now = &job->now;
    if (ui_is_json())
        print_json(json_pack("{s:s, s:i, s:s, s:o, s:o}", "event", "phase", "shard", job->shard,
                             "phase", hv_move_phase_name(now->phase), "source",
                             text_or_null(now->source), "target", text_or_null(now->target)));
    else if (!ui_can_draw())
        ui_note("shard %d: %s", job->shard, hv_move_phase_name(now->phase));
}

static void say_wait(const move_job *job) {
    if (ui_is_json())
        print_json(json_pack("{s:s, s:i, s:o}", "event", "waiting", "shard", job->shard,
                             "waits_for", text_or_null(job->now.waits_for)));
    else if (!ui_can_draw())
        ui_note("shard %d waits: %s", job->shard, job->now.waits_for);
}

/* Say once what it waits for, after a while. */
static void note_wait(move_job *job) {
    const char *waits_for = job->now.waits_for;
    if (waits_for == NULL) {
        job->waits_since = 0;
        return;
    }
    if (job->waits_since == 0)
        job->waits_since = hvi_clock_us();
    bool is_said = job->waited_for != NULL && strcmp(job->waited_for, waits_for) == 0;
    if (is_said || hvi_clock_us() - job->waits_since < LONG_WAIT_US)
        return;
    free(job->waited_for);
    job->waited_for = copy_text(waits_for);
    job->waits_since = hvi_clock_us();
    say_wait(job);
}

void watch_phase(const move_run *run, move_job *job) {
    (void) run;
    bool is_end = job->now.phase == HV_MOVE_DONE || job->now.phase == HV_MOVE_ABORTED ||
                  job->now.phase == HV_MOVE_KEPT;
    if (!is_end && (!job->has_said || job->said != job->now.phase))
        say_phase(job);
    job->has_said = true;
    job->said = job->now.phase;
    note_wait(job);
}

void watch_end(const move_run *run, const move_job *job) {
    (void) run;
    if (!ui_is_json() && !ui_can_draw() && job->state == MOVE_FAILED)
        ui_note("shard %d: failed", job->shard);
}
