/*
 * lane: one lane's thread: store batches of rows, exactly once, with retries.
 *
 * A batch is one transaction, unless one of its rows meets a temporary error. Then the rows before
 * that one are a transaction of their own, so that they do not wait for it. The row is tried alone
 * until it is stored, or the time is up and it is rejected; the others follow.
 */
#include "import/lane.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ui/memory.h"
#include "ui/ui.h"

/* Pauses between attempts double from the first to the last of these. */
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS  2000

/* ---- Rejecting ------------------------------------------------------------------------------- */

/* A row that was refused will be rejected: note why. */
static void note_refusal(const import_lane *lane, import_work *work) {
    const hv_error *error = NULL;
    if (work->reason != NULL || work->index == SIZE_MAX)
        return;
    hv_status status = hv_load_row(lane->load, work->index, NULL, &error);
    if (status == HV_OK)
        return;
    work->status = status;
    work->reason = ui_error_line(error);
}

/* Of the first `count` rows, write those that will be rejected to the rejects file: all or none. */
static bool write_rejects(import_lane *lane, size_t count) {
    import_rejects *rejects = lane->lanes->settings.rejects;
    bool begun = false;
    for (size_t i = 0; i < count; i++) {
        import_work *work = &lane->batch[i];
        note_refusal(lane, work);
        if (work->reason == NULL || work->written)
            continue;
        if (!begun)
            import_rejects_begin(rejects);
        begun = true;
        import_rejects_add(rejects, work->item.row, work->status, work->item.shard, work->reason);
    }
    if (begun && !import_rejects_end(rejects)) {
        int error = errno;
        pthread_mutex_lock(&lane->lanes->lock);
        if (import_stop_lanes(lane->lanes, IMPORT_NO_REJECTS))
            lane->lanes->totals.write_errno = error;
        pthread_mutex_unlock(&lane->lanes->lock);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        lane->batch[i].written = lane->batch[i].reason != NULL;
    return true;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

/* How many of the first `count` rows are in the load. */
static size_t loaded(const import_lane *lane, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += lane->batch[i].index != SIZE_MAX;
    return found;
}

/* The rows of the load are numbered anew. */
static void number_rows(import_lane *lane) {
    size_t next = 0;
    for (size_t i = 0; i < lane->batch_len; i++)
        if (lane->batch[i].index != SIZE_MAX)
            lane->batch[i].index = next++;
}

/* The first `count` rows were sent: reject those that were refused, and commit. HV_NO_MEMORY
 * without an error: rejected rows cannot be written. */
static hv_status commit(import_lane *lane, size_t count, hv_error **error) {
    const import_work *last = &lane->batch[count - 1];
    int64_t stored = 0, known = 0;
    char *reason = NULL;
    if (!write_rejects(lane, count))
        return HV_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const import_work *work = &lane->batch[i];
        bool was_there = false;
        stored += work->reason == NULL;
        if (work->reason == NULL)
            hv_load_row(lane->load, work->index, &was_there, NULL);
        else
            reason = work->reason;
        known += was_there;
    }
    char *note = import_note(lane, "running", last->item.digest, lane->stored + stored);
    hv_status status = hv_load_commit(lane->load, last->item.row->number, note, error);
    free(note);
    lane->unknown = status == HV_OUTCOME_UNKNOWN;
    if (status == HV_OK) {
        lane->stored += stored;
        import_decided(lane, count, stored, known, reason);
        number_rows(lane);
    }
    return status;
}

/* Store the first `count` rows of the batch. *blocked receives the number in the batch of the row
 * that met a temporary error, or SIZE_MAX. */
static hv_status store(import_lane *lane, size_t count, size_t *blocked, hv_error **error) {
    size_t index = SIZE_MAX;
    *blocked = SIZE_MAX;
    hv_status status = hv_load_send(lane->load, loaded(lane, count), &index, error);
    for (size_t i = 0; index != SIZE_MAX && i < count; i++)
        if (lane->batch[i].index == index)
            *blocked = i;
    return status == HV_OK ? commit(lane, count, error) : status;
}

/* ---- Retrying -------------------------------------------------------------------------------- */

typedef struct attempts {
    int64_t since; /* of the first failure; 0: none */
    int64_t pause;
} attempts;

/* Pause before the next attempt. False: the time for attempts is over, or the import has ended. */
static bool pause_for(import_lane *lane, attempts *tried) {
    import_lanes *lanes = lane->lanes;
    int64_t now = import_now();
    if (tried->since == 0)
        *tried = (attempts){.since = now, .pause = FIRST_PAUSE_MS};
    int64_t deadline = tried->since + lanes->settings.retry_for;
    if (now >= deadline)
        return false;
    int64_t until = now + tried->pause < deadline ? now + tried->pause : deadline;
    tried->pause = 2 * tried->pause < LAST_PAUSE_MS ? 2 * tried->pause : LAST_PAUSE_MS;
    pthread_mutex_lock(&lanes->lock);
    while (lanes->totals.stop == IMPORT_COMPLETE && (now = import_now()) < until)
        import_wait(&lanes->work, &lanes->lock, until - now);
    bool go_on = lanes->totals.stop == IMPORT_COMPLETE;
    pthread_mutex_unlock(&lanes->lock);
    return go_on;
}

/* The error will meet every row: end the import. Takes *error. */
static void fail(import_lane *lane, hv_error **error) {
    import_lanes *lanes = lane->lanes;
    pthread_mutex_lock(&lanes->lock);
    if (import_stop_lanes(lanes, IMPORT_FAILED)) {
        lanes->totals.error = *error;
        *error = NULL;
    }
    pthread_mutex_unlock(&lanes->lock);
}

/* Decide the whole batch. False: the import has ended, and the rest of the batch is undecided. */
static bool decide_batch(import_lane *lane) {
    attempts of_server = {0}, of_row = {0};
    size_t part = lane->batch_len; /* of the batch, to be tried next */
    while (lane->batch_len > 0) {
        hv_error *error = NULL;
        size_t blocked;
        if (part > lane->batch_len || part == 0)
            part = lane->batch_len;
        hv_status status = store(lane, part, &blocked, &error);
        bool go_on = true;
        if (status == HV_OK) {
            of_server = of_row = (attempts){0};
            part = 0;               /* all the others */
        } else if (error == NULL) { /* rejected rows cannot be written */
            go_on = false;
        } else if (blocked != SIZE_MAX && blocked > 0) {
            part = blocked;
        } else if (blocked == 0) {
            part = 1;
            go_on = pause_for(lane, &of_row);
            if (!go_on && !import_lanes_stopped(lane->lanes)) {
                hv_load_give_up(lane->load, lane->batch[0].index);
                go_on = true;
            }
        } else {
            bool may_pass = hv_error_retriable(error) || status == HV_OUTCOME_UNKNOWN;
            go_on = may_pass && pause_for(lane, &of_server);
            if (!go_on && !(may_pass && import_lanes_stopped(lane->lanes)))
                fail(lane, &error);
        }
        hv_error_free(error);
        if (!go_on)
            return false;
    }
    return true;
}

/* Give the batch's rows to the load. False: memory is short. */
static bool load_batch(import_lane *lane) {
    for (size_t i = 0; i < lane->batch_len; i++) {
        import_work *work = &lane->batch[i];
        const row *given = work->item.row;
        hv_error *error = NULL;
        work->index = SIZE_MAX;
        if (given->fault != NULL) {
            char text[ROW_FAULT_SIZE];
            work->status = HV_INVALID;
            work->reason = copy_text(row_fault_text(text, given->fault));
            continue;
        }
        work->status =
            hv_load_add_binary(lane->load, work->item.key, work->item.shard, work->item.kind,
                               work->item.body, work->item.body_len, &error);
        if (work->status == HV_OK)
            work->index = hv_load_count(lane->load) - 1;
        else if (work->status == HV_NO_MEMORY)
            fail(lane, &error);
        else
            work->reason = ui_error_line(error);
        hv_error_free(error);
        if (work->status == HV_NO_MEMORY)
            return false;
    }
    return true;
}

void *import_lane_work(void *argument) {
    import_lane *lane = argument;
    while (import_take(lane) && load_batch(lane) && decide_batch(lane))
        continue;
    pthread_mutex_lock(&lane->lanes->lock);
    lane->lanes->working--;
    pthread_cond_broadcast(&lane->lanes->room);
    pthread_mutex_unlock(&lane->lanes->lock);
    return NULL;
}
