/*
 * queue: the rows that wait for each lane, and what the lanes' threads share under one lock.
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

char *import_note(const import_lane *lane, const char *state, uint64_t digest, int64_t stored) {
    return format_text("%s %016" PRIx64 " %" PRId64 " %s", state, digest, stored,
                       lane->lanes->settings.file);
}

/* ---- Ending early ---------------------------------------------------------------------------- */

bool import_has_stopped(const import_lanes *lanes) {
    return lanes->totals.stop != IMPORT_COMPLETE;
}

bool import_stop_lanes(import_lanes *lanes, import_stop why) {
    if (import_has_stopped(lanes))
        return false;
    lanes->totals.stop = why;
    lanes->finish_to = 0;
    for (int i = 0; i < lanes->count && why == IMPORT_INTERRUPTED; i++)
        if (lanes->all[i].taken > lanes->finish_to)
            lanes->finish_to = lanes->all[i].taken;
    pthread_cond_broadcast(&lanes->room);
    pthread_cond_broadcast(&lanes->work);
    return true;
}

void import_look_for_interrupt(import_lanes *lanes) {
    if (!import_has_stopped(lanes) && lanes->settings.interrupted())
        import_stop_lanes(lanes, IMPORT_INTERRUPTED);
}

bool import_lanes_stopped(import_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    import_look_for_interrupt(lanes);
    bool stopped = import_has_stopped(lanes);
    pthread_mutex_unlock(&lanes->lock);
    return stopped;
}

/* ---- Queues ---------------------------------------------------------------------------------- */

size_t import_queue_room(const import_lanes *lanes) {
    return 2 * lanes->batch_rows;
}

import_item *import_queued(const import_lane *lane, size_t position) {
    return &lane->queue[(lane->queue_start + position) % import_queue_room(lane->lanes)];
}

/* How many rows of the queue may be taken now; under the lock. */
static size_t may_take(const import_lane *lane) {
    const import_lanes *lanes = lane->lanes;
    int64_t last = INT64_MAX;
    if (import_has_stopped(lanes))
        last = lanes->finish_to;
    else if (!lanes->tried && lanes->settings.first_row < INT64_MAX - IMPORT_TRIAL_ROWS)
        last = lanes->settings.first_row + IMPORT_TRIAL_ROWS;
    size_t count = 0, bytes = 0;
    if (lane->queue_len > 0 && import_queued(lane, lane->queue_len - 1)->row->number <= last &&
        lanes->held_bytes < BATCH_BYTES)
        return lane->queue_len < lanes->batch_rows ? lane->queue_len : lanes->batch_rows;
    while (count < lane->queue_len && count < lanes->batch_rows && bytes < BATCH_BYTES &&
           import_queued(lane, count)->row->number <= last)
        bytes += import_queued(lane, count++)->row->text_len;
    return count;
}

/* Is there no reason to wait for more rows than may be taken now? */
static bool is_ripe(const import_lane *lane, size_t count) {
    const import_lanes *lanes = lane->lanes;
    return count == lanes->batch_rows || lanes->given_all || import_has_stopped(lanes) ||
           (count > 0 && count < lane->queue_len) || lanes->held_bytes >= MAX_HELD_BYTES / 2 ||
           import_now() - lane->waiting_since >= LINGER_MS;
}

/* Will there be no more? */
static bool is_over(const import_lane *lane) {
    const import_lanes *lanes = lane->lanes;
    return import_has_stopped(lanes) || (lanes->given_all && lane->queue_len == 0);
}

bool import_take(import_lane *lane) {
    import_lanes *lanes = lane->lanes;
    size_t count;
    pthread_mutex_lock(&lanes->lock);
    for (;;) {
        count = may_take(lane);
        if (count > 0 && is_ripe(lane, count))
            break;
        if (count == 0 && is_over(lane))
            break;
        import_wait(&lanes->work, &lanes->lock, count > 0 ? LINGER_MS : IMPORT_TICK_MS);
    }
    for (size_t i = 0; i < count; i++) {
        lane->batch[i] = (import_work){.item = *import_queued(lane, 0)};
        lane->queue_start = (lane->queue_start + 1) % import_queue_room(lanes);
        lane->queue_len--;
    }
    lane->batch_len = count;
    if (count > 0)
        lane->taken = lane->batch[count - 1].item.row->number;
    lane->waiting_since = import_now();
    pthread_cond_broadcast(&lanes->room);
    pthread_mutex_unlock(&lanes->lock);
    return count > 0;
}

bool import_queue_takes(const import_lane *lane, size_t bytes) {
    const import_lanes *lanes = lane->lanes;
    bool fits = lanes->held_bytes == 0 || lanes->held_bytes + bytes <= MAX_HELD_BYTES;
    return fits && lane->queue_len < import_queue_room(lanes);
}

void import_queue_add(import_lane *lane, const import_item *item) {
    import_lanes *lanes = lane->lanes;
    size_t end = (lane->queue_start + lane->queue_len) % import_queue_room(lanes);
    lane->queue[end] = *item;
    if (lane->queue_len++ == 0)
        lane->waiting_since = import_now();
    if (lane->queue_len == 1 || lane->queue_len == lanes->batch_rows)
        pthread_cond_broadcast(&lanes->work);
    lanes->held_bytes += item->row->text_len;
}

/* ---- What became of rows --------------------------------------------------------------------- */

void import_work_free(import_work *work) {
    import_item_free(&work->item);
    free(work->reason);
}

void import_decided(import_lane *lane, size_t count, int64_t stored, int64_t known,
                    const char *last_reason) {
    import_lanes *lanes = lane->lanes;
    import_totals *totals = &lanes->totals;
    pthread_mutex_lock(&lanes->lock);
    lane->decided = lane->batch[count - 1].item.row->number;
    totals->stored += stored;
    totals->known += known;
    totals->rejected += (int64_t) count - stored;
    lanes->tried = lanes->tried || totals->stored > 0;
    if (!lanes->tried && totals->rejected >= IMPORT_TRIAL_ROWS &&
        import_stop_lanes(lanes, IMPORT_HOPELESS))
        totals->reason = copy_text(last_reason);
    for (size_t i = 0; i < count; i++)
        lanes->held_bytes -= lane->batch[i].item.row->text_len;
    pthread_cond_broadcast(&lanes->work); /* the trial may be over */
    pthread_cond_broadcast(&lanes->room);
    pthread_mutex_unlock(&lanes->lock);
    if (lanes->settings.decided != NULL)
        lanes->settings.decided(lanes->settings.context, (int64_t) count);
    for (size_t i = 0; i < count; i++)
        import_work_free(&lane->batch[i]);
    lane->batch_len -= count;
    memmove(lane->batch, lane->batch + count, lane->batch_len * sizeof *lane->batch);
}
