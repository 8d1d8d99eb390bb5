/*
 * import_lanes: threads that store rows, each in transactions of its own, and count what became of
 * each row.
 *
 * A row's way:
 *
 *     give --> queue --> batch --> decided (stored, or rejected and written to the file)
 *                 |         `--> undecided (the import has ended)
 *                 `--> dropped (the import has ended)
 *
 * Holds always, under the lock: rows leave a queue in the order of their numbers; no more than
 * IMPORT_TRIAL_ROWS rows have left the queues while none is stored; `stop` changes once, from
 * IMPORT_COMPLETE. After an interrupt all rows up to the last one that any lane has taken are still
 * decided, so that what is decided is the beginning of the input.
 */
#include "import_lanes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "import_lane.h"
#include "memory.h"
#include "ui.h"

/* Rows in a transaction: of so many of each shard COPY is worth its round trip. Many more would lie
 * in memory between reading and sending for so long that the processor's caches forget them. */
#define BATCH_ROWS_SHARD 256
#define BATCH_ROWS_LEAST 8192
#define BATCH_ROWS_MOST  32768
/* Text of rows in a transaction. */
#define BATCH_BYTES ((size_t) 8 << 20)
/* Text of rows that are in queues or under way; one longer row is taken alone. */
#define MAX_HELD_BYTES ((size_t) 64 << 20)
/* A row waits so long for others to fill the transaction. */
#define LINGER_MS 20
/* Waits are cut into such pieces, to notice an interrupt. */
#define TICK_MS 100

int64_t import_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void import_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t) (ms / 1000);
    until.tv_nsec += (long) (ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(condition, lock, &until);
}

/* ---- Ending early: under the lock ------------------------------------------------------------ */

static bool has_stopped(const import_lanes *lanes) {
    return lanes->totals.stop != IMPORT_COMPLETE;
}

bool import_stop_lanes(import_lanes *lanes, import_stop why) {
    if (has_stopped(lanes))
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

static void look_for_interrupt(import_lanes *lanes) {
    if (!has_stopped(lanes) && lanes->settings.interrupted())
        import_stop_lanes(lanes, IMPORT_INTERRUPTED);
}

/* ---- Queues ---------------------------------------------------------------------------------- */

static size_t queue_room(const import_lanes *lanes) {
    return 2 * lanes->batch_rows;
}

static import_item *queued(const import_lane *lane, size_t position) {
    return &lane->queue[(lane->queue_start + position) % queue_room(lane->lanes)];
}

/* How many rows of the queue may be taken now; under the lock. */
static size_t may_take(const import_lane *lane) {
    const import_lanes *lanes = lane->lanes;
    int64_t last = INT64_MAX;
    if (has_stopped(lanes))
        last = lanes->finish_to;
    else if (!lanes->tried && lanes->settings.first_row < INT64_MAX - IMPORT_TRIAL_ROWS)
        last = lanes->settings.first_row + IMPORT_TRIAL_ROWS;
    size_t count = 0, bytes = 0;
    if (lane->queue_len > 0 && queued(lane, lane->queue_len - 1)->row->number <= last &&
        lanes->held_bytes < BATCH_BYTES)
        return lane->queue_len < lanes->batch_rows ? lane->queue_len : lanes->batch_rows;
    while (count < lane->queue_len && count < lanes->batch_rows && bytes < BATCH_BYTES &&
           queued(lane, count)->row->number <= last)
        bytes += queued(lane, count++)->row->text_len;
    return count;
}

/* Is what may be taken all that will fit, or come? */
static bool is_ripe(const import_lane *lane, size_t count) {
    const import_lanes *lanes = lane->lanes;
    return count == lanes->batch_rows || lanes->given_all || has_stopped(lanes) ||
           (count > 0 && count < lane->queue_len) || lanes->held_bytes >= MAX_HELD_BYTES / 2 ||
           import_now() - lane->waiting_since >= LINGER_MS;
}

/* Will there be no more? */
static bool is_over(const import_lane *lane) {
    const import_lanes *lanes = lane->lanes;
    return has_stopped(lanes) || (lanes->given_all && lane->queue_len == 0);
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
        import_wait(&lanes->work, &lanes->lock, count > 0 ? LINGER_MS : TICK_MS);
    }
    for (size_t i = 0; i < count; i++) {
        lane->batch[i] = (import_work){.item = *queued(lane, 0)};
        lane->queue_start = (lane->queue_start + 1) % queue_room(lanes);
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

void import_item_free(import_item *item) {
    row_free(item->row);
    free(item->body);
    *item = (import_item){0};
}

/* The dict, while it is in this processor's cache, becomes what will be sent: it takes up a sixth,
 * and its memory serves the next row. */
static void encode(import_item *item) {
    if (item->row->fault != NULL)
        return;
    if (hv_dict_binary(item->row->dict, &item->body, &item->body_len, NULL) != HV_OK)
        out_of_memory();
    hv_dict_free(item->row->dict);
    item->row->dict = NULL;
}

bool import_lanes_give(import_lanes *lanes, import_item *given) {
    int number = given->shard >= 0 ? lanes->of_shard[given->shard] : 0;
    import_lane *lane = &lanes->all[number < 0 ? 0 : number];
    size_t bytes = given->row->text_len;
    encode(given);
    pthread_mutex_lock(&lanes->lock);
    for (;;) {
        look_for_interrupt(lanes);
        bool fits = lanes->held_bytes == 0 || lanes->held_bytes + bytes <= MAX_HELD_BYTES;
        if (has_stopped(lanes) || (fits && lane->queue_len < queue_room(lanes)))
            break;
        import_wait(&lanes->room, &lanes->lock, TICK_MS);
    }
    bool taken = !has_stopped(lanes);
    if (taken && given->row->number <= lane->recorded) {
        lanes->totals.passed++;
        lanes->last = given->row->number;
        lanes->last_line = given->row->line;
    } else if (taken) {
        size_t end = (lane->queue_start + lane->queue_len) % queue_room(lanes);
        lane->queue[end] = *given;
        if (lane->queue_len++ == 0) {
            lane->waiting_since = import_now();
            pthread_cond_broadcast(&lanes->work);
        } else if (lane->queue_len == lanes->batch_rows) {
            pthread_cond_broadcast(&lanes->work);
        }
        lanes->held_bytes += bytes;
        lanes->last = given->row->number;
        lanes->last_line = given->row->line;
        *given = (import_item){0};
    }
    pthread_mutex_unlock(&lanes->lock);
    import_item_free(given);
    return taken;
}

/* ---- What became of rows --------------------------------------------------------------------- */

static void free_work(import_work *work) {
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
        free_work(&lane->batch[i]);
    lane->batch_len -= count;
    memmove(lane->batch, lane->batch + count, lane->batch_len * sizeof *lane->batch);
}

bool import_lanes_stopped(import_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    look_for_interrupt(lanes);
    bool stopped = has_stopped(lanes);
    pthread_mutex_unlock(&lanes->lock);
    return stopped;
}

void import_lanes_abandon(import_lanes *lanes, bool decide_given) {
    pthread_mutex_lock(&lanes->lock);
    if (import_stop_lanes(lanes, IMPORT_UNREAD) && decide_given)
        lanes->finish_to = INT64_MAX;
    pthread_mutex_unlock(&lanes->lock);
}

char *import_note(const import_lane *lane, const char *state, uint64_t digest, int64_t stored) {
    return format_text("%s %016" PRIx64 " %" PRId64 " %s", state, digest, stored,
                       lane->lanes->settings.file);
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* The shards of a server take turns among its lanes. */
static int share_shards(import_lanes *lanes) {
    const import_settings *settings = &lanes->settings;
    int count = 0, most = 0;
    for (int server = 0; server < hv_server_count(settings->store); server++) {
        int shard = -1, found = 0;
        while ((shard = hv_next_shard(settings->store, server, shard)) >= 0) {
            if (settings->shard >= 0 && shard != settings->shard)
                continue;
            int lane = found++ % settings->jobs;
            lanes->of_shard[shard] = count + lane;
            lanes->all[count + lane].server = server;
        }
        count += found < settings->jobs ? found : settings->jobs;
        most = found > most ? found : most;
    }
    lanes->count = count;
    return (most + settings->jobs - 1) / settings->jobs;
}

static bool open_lane(import_lanes *lanes, int number) {
    import_lane *lane = &lanes->all[number];
    hv_error *error = NULL;
    char *name = format_text("%s/%d", lanes->settings.id, number);
    hv_status status = hv_load_open(lanes->settings.store, lane->server, name, &lane->load, &error);
    free(name);
    if (status != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        return false;
    }
    if (hv_load_position(lane->load) < 0) {
        ui_fail("Rows have numbers from 1.", "Without --resume an import begins anew.",
                "the record of the import on server \"%s\" cannot be: row %" PRId64,
                hv_server_name(lanes->settings.store, lane->server), hv_load_position(lane->load));
        return false;
    }
    const char *note = hv_load_note(lane->load);
    lane->lanes = lanes;
    lane->recorded = lane->taken = lane->decided = hv_load_position(lane->load);
    lane->ended = note != NULL && strncmp(note, "complete ", 9) == 0;
    if (note != NULL)
        sscanf(note, "%*s %" SCNx64 " %" SCNd64, &lane->digest, &lane->stored);
    lane->batch = new_memory(lanes->batch_rows * sizeof *lane->batch);
    lane->queue = new_memory(queue_room(lanes) * sizeof *lane->queue);
    return true;
}

static void init_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

import_lanes *import_lanes_open(const import_settings *settings) {
    size_t most = (size_t) hv_server_count(settings->store) * (size_t) settings->jobs;
    import_lanes *lanes = new_memory(sizeof *lanes);
    *lanes = (import_lanes){
        .settings = *settings,
        .all = new_memory(most * sizeof *lanes->all),
        .of_shard = new_memory(HV_SHARDS * sizeof *lanes->of_shard),
        .last = settings->first_row,
    };
    for (int i = 0; i < HV_SHARDS; i++)
        lanes->of_shard[i] = -1;
    pthread_mutex_init(&lanes->lock, NULL);
    init_condition(&lanes->room);
    init_condition(&lanes->work);
    size_t rows = (size_t) share_shards(lanes) * BATCH_ROWS_SHARD;
    lanes->batch_rows = rows < BATCH_ROWS_LEAST  ? BATCH_ROWS_LEAST
                        : rows > BATCH_ROWS_MOST ? BATCH_ROWS_MOST
                                                 : rows;
    for (int i = 0; i < lanes->count; i++) {
        if (!open_lane(lanes, i)) {
            import_lanes_free(lanes);
            return NULL;
        }
    }
    lanes->tried = import_lanes_resumed(lanes);
    return lanes;
}

int64_t import_lanes_position(const import_lanes *lanes, int shard) {
    int lane = shard >= 0 && shard < HV_SHARDS ? lanes->of_shard[shard] : 0;
    return lane >= 0 ? lanes->all[lane].recorded : 0;
}

bool import_lanes_complete(const import_lanes *lanes) {
    for (int i = 0; i < lanes->count; i++)
        if (!lanes->all[i].ended)
            return false;
    return true;
}

bool import_lanes_resumed(const import_lanes *lanes) {
    for (int i = 0; i < lanes->count; i++)
        if (lanes->all[i].recorded > 0)
            return true;
    return false;
}

bool import_lanes_agree(const import_lanes *lanes, int64_t number, uint64_t digest) {
    for (int i = 0; i < lanes->count; i++)
        if (lanes->all[i].recorded == number && lanes->all[i].digest != digest)
            return false;
    return true;
}

int64_t import_lanes_farthest(const import_lanes *lanes) {
    int64_t farthest = 0;
    for (int i = 0; i < lanes->count; i++)
        if (lanes->all[i].recorded > farthest)
            farthest = lanes->all[i].recorded;
    return farthest;
}

bool import_lanes_start(import_lanes *lanes) {
    int error = 0;
    for (int i = 0; i < lanes->count && error == 0; i++) {
        pthread_mutex_lock(&lanes->lock);
        error = pthread_create(&lanes->all[i].thread, NULL, import_lane_work, &lanes->all[i]);
        lanes->all[i].started = error == 0;
        lanes->working += error == 0;
        pthread_mutex_unlock(&lanes->lock);
    }
    if (error != 0)
        import_lanes_abandon(lanes, false);
    errno = error;
    return error == 0;
}

/* ---- Ending ---------------------------------------------------------------------------------- */

/* Commit a lane's position; over a connection that breaks, for as long as rows would be tried. */
static hv_status record(import_lanes *lanes, import_lane *lane, int64_t position, const char *note,
                        hv_error **error) {
    int64_t deadline = import_now() + lanes->settings.retry_for;
    hv_status status;
    for (;;) {
        status = hv_load_send(lane->load, 0, NULL, error);
        if (status == HV_OK)
            status = hv_load_commit(lane->load, position, note, error);
        bool may_pass = status == HV_OUTCOME_UNKNOWN ||
                        (status != HV_OK && *error != NULL && hv_error_retriable(*error));
        if (!may_pass || import_now() >= deadline || lanes->settings.interrupted())
            return status;
        hv_error_free(*error);
        *error = NULL;
        pthread_mutex_lock(&lanes->lock);
        import_wait(&lanes->room, &lanes->lock, TICK_MS);
        pthread_mutex_unlock(&lanes->lock);
    }
}

/* All threads have ended, and every row is decided: record that. */
static void record_end(import_lanes *lanes, uint64_t digest) {
    for (int i = 0; i < lanes->count && !has_stopped(lanes); i++) {
        import_lane *lane = &lanes->all[i];
        hv_error *error = NULL;
        char *note = import_note(lane, "complete", digest, lane->stored);
        int64_t position = lanes->last > lane->decided ? lanes->last : lane->decided;
        hv_status status = record(lanes, lane, position, note, &error);
        if (status != HV_OK && import_stop_lanes(lanes, IMPORT_FAILED)) {
            lanes->totals.error = error;
            error = NULL;
        }
        hv_error_free(error);
        free(note);
    }
}

/* The row of the lowest number that was given and is not decided. */
static const import_item *first_undecided(const import_lanes *lanes) {
    const import_item *first = NULL;
    for (int i = 0; i < lanes->count; i++) {
        const import_lane *lane = &lanes->all[i];
        const import_item *item = lane->batch_len > 0   ? &lane->batch[0].item
                                  : lane->queue_len > 0 ? queued(lane, 0)
                                                        : NULL;
        if (item != NULL && (first == NULL || item->row->number < first->row->number))
            first = item;
    }
    return first;
}

static void sum_up(import_lanes *lanes) {
    import_totals *totals = &lanes->totals;
    const import_item *first = first_undecided(lanes);
    totals->last_row = first != NULL ? first->row->number - 1 : lanes->last;
    totals->last_line = first != NULL ? first->before : lanes->last_line;
    for (int i = 0; i < lanes->count; i++) {
        const import_lane *lane = &lanes->all[i];
        totals->ahead = totals->ahead || lane->decided > totals->last_row;
        if (lane->unknown)
            totals->unknown += (int64_t) lane->batch_len;
    }
}

void import_lanes_finish(import_lanes *lanes, uint64_t digest, import_totals *totals) {
    pthread_mutex_lock(&lanes->lock);
    lanes->given_all = true;
    pthread_cond_broadcast(&lanes->work);
    while (lanes->working > 0) {
        look_for_interrupt(lanes);
        import_wait(&lanes->room, &lanes->lock, TICK_MS);
    }
    pthread_mutex_unlock(&lanes->lock);
    for (int i = 0; i < lanes->count; i++)
        if (lanes->all[i].started)
            pthread_join(lanes->all[i].thread, NULL);
    if (!has_stopped(lanes))
        record_end(lanes, digest);
    sum_up(lanes);
    *totals = lanes->totals;
    import_lanes_free(lanes);
}

void import_lanes_free(import_lanes *lanes) {
    if (lanes == NULL)
        return;
    for (int i = 0; i < lanes->count; i++) {
        import_lane *lane = &lanes->all[i];
        for (size_t j = 0; j < lane->batch_len; j++)
            free_work(&lane->batch[j]);
        for (size_t j = 0; j < lane->queue_len; j++)
            import_item_free(queued(lane, j));
        hv_load_free(lane->load);
        free(lane->batch);
        free(lane->queue);
    }
    pthread_mutex_destroy(&lanes->lock);
    pthread_cond_destroy(&lanes->room);
    pthread_cond_destroy(&lanes->work);
    free(lanes->of_shard);
    free(lanes->all);
    free(lanes);
}
