/*
 * queue: the rows that wait for each worker, and what the workers' threads share under one lock.
 */
#include "import/queue.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ui/interrupt.h"
#include "ui/memory.h"

/* Text of rows in a transaction. */
#define BATCH_BYTES ((size_t) 8 << 20)
/* Text of rows in queues or in batches; a single longer row is allowed. */
#define MAX_HELD_BYTES ((size_t) 64 << 20)
/* How long a row waits for others to fill the transaction. */
#define LINGER_MS 20

int64_t import_now(void) {
    return hvi_clock_us() / 1000;
}

void import_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ms) {
    struct timespec until = hvi_deadline_timespec(hvi_deadline_after(ms));
    pthread_cond_timedwait(condition, lock, &until);
}

char *import_note(const import_worker *worker, const char *state, uint64_t digest, int64_t stored) {
    const char *shards = worker->shards;
    return format_text("%s %016" PRIx64 " %" PRId64 " %s%s%s", state, digest, stored,
                       shards != NULL ? shards : "", shards != NULL ? " " : "",
                       worker->workers->settings.file);
}

/* ---- Ending early ---------------------------------------------------------------------------- */

bool import_has_stopped(const import_workers *workers) {
    return workers->totals.stop != IMPORT_COMPLETE;
}

bool import_stop_workers(import_workers *workers, import_stop why) {
    if (import_has_stopped(workers))
        return false;
    workers->totals.stop = why;
    workers->finish_to = 0;
    for (int i = 0; i < workers->count && why == IMPORT_INTERRUPTED; i++)
        if (workers->all[i].taken > workers->finish_to)
            workers->finish_to = workers->all[i].taken;
    pthread_cond_broadcast(&workers->room);
    pthread_cond_broadcast(&workers->work);
    return true;
}

void import_look_for_interrupt(import_workers *workers) {
    if (!import_has_stopped(workers) && workers->settings.interrupted())
        import_stop_workers(workers, IMPORT_INTERRUPTED);
}

bool import_workers_stopped(import_workers *workers) {
    pthread_mutex_lock(&workers->lock);
    import_look_for_interrupt(workers);
    bool stopped = import_has_stopped(workers);
    pthread_mutex_unlock(&workers->lock);
    return stopped;
}

/* ---- Queues ---------------------------------------------------------------------------------- */

size_t import_queue_room(const import_workers *workers) {
    return 2 * workers->batch_rows;
}

import_item *import_queued(const import_worker *worker, size_t position) {
    return &worker->queue[(worker->queue_start + position) % import_queue_room(worker->workers)];
}

/* How many rows of the queue may be taken now; under the lock. */
static size_t may_take(const import_worker *worker) {
    const import_workers *workers = worker->workers;
    int64_t last = INT64_MAX;
    if (import_has_stopped(workers))
        last = workers->finish_to;
    else if (!workers->tried && workers->settings.first_row < INT64_MAX - IMPORT_TRIAL_ROWS)
        last = workers->settings.first_row + IMPORT_TRIAL_ROWS;
    size_t count = 0, bytes = 0;
    if (worker->queue_len > 0 &&
        import_queued(worker, worker->queue_len - 1)->row->number <= last &&
        workers->held_bytes < BATCH_BYTES)
        return worker->queue_len < workers->batch_rows ? worker->queue_len : workers->batch_rows;
    while (count < worker->queue_len && count < workers->batch_rows && bytes < BATCH_BYTES &&
           import_queued(worker, count)->row->number <= last)
        bytes += import_queued(worker, count++)->row->text_len;
    return count;
}

/* Is there no reason to wait for more rows than may be taken now? */
static bool is_ripe(const import_worker *worker, size_t count) {
    const import_workers *workers = worker->workers;
    return count == workers->batch_rows || workers->given_all || import_has_stopped(workers) ||
           (count > 0 && count < worker->queue_len) || workers->held_bytes >= MAX_HELD_BYTES / 2 ||
           import_now() - worker->waiting_since >= LINGER_MS;
}

/* Will there be no more? */
static bool is_over(const import_worker *worker) {
    const import_workers *workers = worker->workers;
    return import_has_stopped(workers) || (workers->given_all && worker->queue_len == 0);
}

bool import_take(import_worker *worker) {
    import_workers *workers = worker->workers;
    size_t count;
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        count = may_take(worker);
        if (count > 0 && is_ripe(worker, count))
            break;
        if (count == 0 && is_over(worker))
            break;
        import_wait(&workers->work, &workers->lock, count > 0 ? LINGER_MS : IMPORT_TICK_MS);
    }
    for (size_t i = 0; i < count; i++) {
        worker->batch[i] = (import_work){.item = *import_queued(worker, 0)};
        worker->queue_start = (worker->queue_start + 1) % import_queue_room(workers);
        worker->queue_len--;
    }
    worker->batch_len = count;
    if (count > 0)
        worker->taken = worker->batch[count - 1].item.row->number;
    worker->waiting_since = import_now();
    pthread_cond_broadcast(&workers->room);
    pthread_mutex_unlock(&workers->lock);
    return count > 0;
}

bool import_queue_takes(const import_worker *worker, size_t bytes) {
    const import_workers *workers = worker->workers;
    bool fits = workers->held_bytes == 0 || workers->held_bytes + bytes <= MAX_HELD_BYTES;
    return fits && worker->queue_len < import_queue_room(workers);
}

void import_queue_add(import_worker *worker, const import_item *item) {
    import_workers *workers = worker->workers;
    size_t end = (worker->queue_start + worker->queue_len) % import_queue_room(workers);
    worker->queue[end] = *item;
    if (worker->queue_len++ == 0)
        worker->waiting_since = import_now();
    if (worker->queue_len == 1 || worker->queue_len == workers->batch_rows)
        pthread_cond_broadcast(&workers->work);
    workers->held_bytes += item->row->text_len;
}

/* ---- What became of rows --------------------------------------------------------------------- */

void import_work_free(import_work *work) {
    import_item_free(&work->item);
    free(work->reason);
}

void import_decided(import_worker *worker, size_t count, int64_t stored, int64_t known,
                    const char *last_reason) {
    import_workers *workers = worker->workers;
    import_totals *totals = &workers->totals;
    pthread_mutex_lock(&workers->lock);
    worker->decided = worker->batch[count - 1].item.row->number;
    totals->stored += stored;
    totals->known += known;
    totals->rejected += (int64_t) count - stored;
    workers->tried = workers->tried || totals->stored > 0;
    if (!workers->tried && totals->rejected >= IMPORT_TRIAL_ROWS &&
        import_stop_workers(workers, IMPORT_HOPELESS))
        totals->reason = copy_text(last_reason);
    for (size_t i = 0; i < count; i++)
        workers->held_bytes -= worker->batch[i].item.row->text_len;
    pthread_cond_broadcast(&workers->work); /* the trial may be over */
    pthread_cond_broadcast(&workers->room);
    pthread_mutex_unlock(&workers->lock);
    if (workers->settings.decided != NULL)
        workers->settings.decided(workers->settings.context, (int64_t) count);
    for (size_t i = 0; i < count; i++)
        import_work_free(&worker->batch[i]);
    worker->batch_len -= count;
    memmove(worker->batch, worker->batch + count, worker->batch_len * sizeof *worker->batch);
}
