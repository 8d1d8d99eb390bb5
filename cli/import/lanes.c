/*
 * lanes: open the lanes of an import, give them rows, and end them.
 */
#include "import/lanes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/lane.h"
#include "import/queue.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* Rows in a transaction: with this many for each shard, COPY is worth its round trip. Many more
 * would wait between reading and sending for so long that they leave the processor's caches. */
#define BATCH_ROWS_SHARD 256
#define BATCH_ROWS_LEAST 8192
#define BATCH_ROWS_MOST  32768

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
        ui_fail("Rows have numbers from 1.", "Without --resume a new import begins.",
                "the record of the import on server \"%s\" is invalid: row %" PRId64,
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
    lane->queue = new_memory(import_queue_room(lanes) * sizeof *lane->queue);
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

/* ---- Giving rows ----------------------------------------------------------------------------- */

/* Encode the dict while it is in this processor's cache: the result is a sixth of its size, and the
 * dict's memory is used for the next row. */
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
        import_look_for_interrupt(lanes);
        if (import_has_stopped(lanes) || import_queue_takes(lane, bytes))
            break;
        import_wait(&lanes->room, &lanes->lock, IMPORT_TICK_MS);
    }
    bool taken = !import_has_stopped(lanes);
    if (taken) {
        lanes->last = given->row->number;
        lanes->last_line = given->row->line;
    }
    if (taken && given->row->number <= lane->recorded) {
        lanes->totals.passed++;
    } else if (taken) {
        import_queue_add(lane, given);
        *given = (import_item){0};
    }
    pthread_mutex_unlock(&lanes->lock);
    import_item_free(given);
    return taken;
}

void import_lanes_abandon(import_lanes *lanes, bool decide_given) {
    pthread_mutex_lock(&lanes->lock);
    if (import_stop_lanes(lanes, IMPORT_UNREAD) && decide_given)
        lanes->finish_to = INT64_MAX;
    pthread_mutex_unlock(&lanes->lock);
}

/* ---- Ending ---------------------------------------------------------------------------------- */

/* Commit a lane's position. If the connection breaks, try again for as long as rows would be
 * tried. */
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
        import_wait(&lanes->room, &lanes->lock, IMPORT_TICK_MS);
        pthread_mutex_unlock(&lanes->lock);
    }
}

/* All threads have ended, and every row is decided: record that. */
static void record_end(import_lanes *lanes, uint64_t digest) {
    for (int i = 0; i < lanes->count && !import_has_stopped(lanes); i++) {
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

/* The row with the lowest number that was given and is not decided. */
static const import_item *first_undecided(const import_lanes *lanes) {
    const import_item *first = NULL;
    for (int i = 0; i < lanes->count; i++) {
        const import_lane *lane = &lanes->all[i];
        const import_item *item = lane->batch_len > 0   ? &lane->batch[0].item
                                  : lane->queue_len > 0 ? import_queued(lane, 0)
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
        import_look_for_interrupt(lanes);
        import_wait(&lanes->room, &lanes->lock, IMPORT_TICK_MS);
    }
    pthread_mutex_unlock(&lanes->lock);
    for (int i = 0; i < lanes->count; i++)
        if (lanes->all[i].started)
            pthread_join(lanes->all[i].thread, NULL);
    if (!import_has_stopped(lanes))
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
            import_work_free(&lane->batch[j]);
        for (size_t j = 0; j < lane->queue_len; j++)
            import_item_free(import_queued(lane, j));
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
