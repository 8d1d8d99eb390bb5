/*
 * worker: one worker's thread: store batches of rows, exactly once, with retries.
 *
 * A batch is one transaction, unless one of its rows meets a temporary error. Then the rows before
 * that one are a transaction of their own, so that they do not wait for it. The row is tried alone
 * until it is stored, or the time is up and it is rejected; the others follow.
 */
#include "import/worker.h"

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
static void note_refusal(const import_worker *worker, import_work *work) {
    const hv_error *error = NULL;
    if (work->reason != NULL || work->index == SIZE_MAX)
        return;
    hv_status status = hv_load_row(worker->load, work->index, NULL, &error);
    if (status == HV_OK)
        return;
    work->status = status;
    work->reason = ui_error_line(error);
}

/* Of the first `count` rows, write those that will be rejected to the rejects file: all or none. */
static bool write_rejects(import_worker *worker, size_t count) {
    import_rejects *rejects = worker->workers->settings.rejects;
    bool begun = false;
    for (size_t i = 0; i < count; i++) {
        import_work *work = &worker->batch[i];
        note_refusal(worker, work);
        if (work->reason == NULL || work->written)
            continue;
        if (!begun)
            import_rejects_begin(rejects);
        begun = true;
        import_rejects_add(rejects, work->item.row, work->status, work->item.shard, work->reason);
    }
    if (begun && !import_rejects_end(rejects)) {
        int error = errno;
        pthread_mutex_lock(&worker->workers->lock);
        if (import_stop_workers(worker->workers, IMPORT_NO_REJECTS))
            worker->workers->totals.write_errno = error;
        pthread_mutex_unlock(&worker->workers->lock);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        worker->batch[i].written = worker->batch[i].reason != NULL;
    return true;
}

/* ---- Transactions ---------------------------------------------------------------------------- */

/* How many of the first `count` rows are in the load. */
static size_t loaded(const import_worker *worker, size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += worker->batch[i].index != SIZE_MAX;
    return found;
}

/* The rows of the load are numbered anew. */
static void number_rows(import_worker *worker) {
    size_t next = 0;
    for (size_t i = 0; i < worker->batch_len; i++)
        if (worker->batch[i].index != SIZE_MAX)
            worker->batch[i].index = next++;
}

/* The first `count` rows were sent: reject those that were refused, and commit. HV_NO_MEMORY
 * without an error: rejected rows cannot be written. */
static hv_status commit(import_worker *worker, size_t count, hv_error **error) {
    const import_work *last = &worker->batch[count - 1];
    int64_t stored = 0, known = 0;
    char *reason = NULL;
    if (!write_rejects(worker, count))
        return HV_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const import_work *work = &worker->batch[i];
        bool was_there = false;
        stored += work->reason == NULL;
        if (work->reason == NULL)
            hv_load_row(worker->load, work->index, &was_there, NULL);
        else
            reason = work->reason;
        known += was_there;
    }
    char *note = import_note(worker, "running", last->item.digest, worker->stored + stored);
    hv_status status = hv_load_commit(worker->load, last->item.row->number, note, error);
    free(note);
    worker->unknown = status == HV_OUTCOME_UNKNOWN;
    if (status == HV_OK) {
        worker->stored += stored;
        import_decided(worker, count, stored, known, reason);
        number_rows(worker);
    }
    return status;
}

/* Store the first `count` rows of the batch. *blocked receives the number in the batch of the row
 * that met a temporary error, or SIZE_MAX. */
static hv_status store(import_worker *worker, size_t count, size_t *blocked, hv_error **error) {
    size_t index = SIZE_MAX;
    *blocked = SIZE_MAX;
    hv_status status = hv_load_send(worker->load, loaded(worker, count), &index, error);
    for (size_t i = 0; index != SIZE_MAX && i < count; i++)
        if (worker->batch[i].index == index)
            *blocked = i;
    return status == HV_OK ? commit(worker, count, error) : status;
}

/* ---- Retrying -------------------------------------------------------------------------------- */

typedef struct attempts {
    int64_t since; /* of the first failure; 0: none */
    int64_t pause;
} attempts;

/* Pause before the next attempt. False: the time for attempts is over, or the import has ended. */
static bool pause_for(import_worker *worker, attempts *tried) {
    import_workers *workers = worker->workers;
    int64_t now = import_now();
    if (tried->since == 0)
        *tried = (attempts){.since = now, .pause = FIRST_PAUSE_MS};
    int64_t deadline = tried->since + workers->settings.retry_for;
    if (now >= deadline)
        return false;
    int64_t until = now + tried->pause < deadline ? now + tried->pause : deadline;
    tried->pause = 2 * tried->pause < LAST_PAUSE_MS ? 2 * tried->pause : LAST_PAUSE_MS;
    pthread_mutex_lock(&workers->lock);
    while (workers->totals.stop == IMPORT_COMPLETE && (now = import_now()) < until)
        import_wait(&workers->work, &workers->lock, until - now);
    bool may_continue = workers->totals.stop == IMPORT_COMPLETE;
    pthread_mutex_unlock(&workers->lock);
    return may_continue;
}

/* The error will meet every row: end the import. Takes *error. */
static void fail(import_worker *worker, hv_error **error) {
    import_workers *workers = worker->workers;
    pthread_mutex_lock(&workers->lock);
    if (import_stop_workers(workers, IMPORT_FAILED)) {
        workers->totals.error = *error;
        *error = NULL;
    }
    pthread_mutex_unlock(&workers->lock);
}

/* Decide the whole batch. False: the import has ended, and the rest of the batch is undecided. */
static bool decide_batch(import_worker *worker) {
    attempts of_server = {0}, of_row = {0};
    size_t part = worker->batch_len; /* of the batch, to be tried next */
    while (worker->batch_len > 0) {
        hv_error *error = NULL;
        size_t blocked;
        if (part > worker->batch_len || part == 0)
            part = worker->batch_len;
        hv_status status = store(worker, part, &blocked, &error);
        bool may_continue = true;
        if (status == HV_OK) {
            of_server = of_row = (attempts){0};
            part = 0;               /* all the others */
        } else if (error == NULL) { /* rejected rows cannot be written */
            may_continue = false;
        } else if (blocked != SIZE_MAX && blocked > 0) {
            part = blocked;
        } else if (blocked == 0) {
            part = 1;
            may_continue = pause_for(worker, &of_row);
            if (!may_continue && !import_workers_stopped(worker->workers)) {
                hv_load_give_up(worker->load, worker->batch[0].index);
                may_continue = true;
            }
        } else {
            bool may_pass = hv_error_retriable(error) || status == HV_OUTCOME_UNKNOWN;
            may_continue = may_pass && pause_for(worker, &of_server);
            if (!may_continue && !(may_pass && import_workers_stopped(worker->workers)))
                fail(worker, &error);
        }
        hv_error_free(error);
        if (!may_continue)
            return false;
    }
    return true;
}

/* Is it not the row that was refused, but its shard? That has moved, or two servers claim it. */
static bool is_of_shard(hv_status status) {
    return status == HV_MOVED || status == HV_MISMATCH;
}

/* Give the batch's rows to the load. False: memory is short, or a shard takes no rows here. */
static bool load_batch(import_worker *worker) {
    for (size_t i = 0; i < worker->batch_len; i++) {
        import_work *work = &worker->batch[i];
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
            hv_load_add_binary(worker->load, work->item.key, work->item.shard, work->item.kind,
                               work->item.body, work->item.body_len, &error);
        if (work->status == HV_OK)
            work->index = hv_load_count(worker->load) - 1;
        else if (work->status == HV_NO_MEMORY || is_of_shard(work->status))
            fail(worker, &error);
        else
            work->reason = ui_error_line(error);
        hv_error_free(error);
        if (work->status == HV_NO_MEMORY || is_of_shard(work->status))
            return false;
    }
    return true;
}

void *import_worker_run(void *argument) {
    import_worker *worker = argument;
    while (import_take(worker) && load_batch(worker) && decide_batch(worker))
        continue;
    pthread_mutex_lock(&worker->workers->lock);
    worker->workers->working--;
    pthread_cond_broadcast(&worker->workers->room);
    pthread_mutex_unlock(&worker->workers->lock);
    return NULL;
}
