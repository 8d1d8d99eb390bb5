/*
 * workers: open the workers of an import, give them rows, and end them.
 */
#include "import/workers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/worker.h"
#include "import/queue.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* Rows in a transaction: with this many for each shard, COPY is worth its round trip. Many more
 * would wait between reading and sending for so long that they leave the processor's caches. */
#define BATCH_ROWS_SHARD 256
#define BATCH_ROWS_LEAST 8192
#define BATCH_ROWS_MOST  32768

/* ---- Opening --------------------------------------------------------------------------------- */

/* The shards of a server take turns among its workers. */
static int share_shards(import_workers *workers) {
    const import_settings *settings = &workers->settings;
    int count = 0, most = 0;
    for (int server = 0; server < hv_server_count(settings->store); server++) {
        int shard = -1, found = 0;
        while ((shard = hv_next_shard(settings->store, server, shard)) >= 0) {
            if (settings->shard >= 0 && shard != settings->shard)
                continue;
            int worker = found++ % settings->jobs;
            workers->of_shard[shard] = count + worker;
            workers->all[count + worker].server = server;
        }
        count += found < settings->jobs ? found : settings->jobs;
        most = found > most ? found : most;
    }
    workers->count = count;
    return (most + settings->jobs - 1) / settings->jobs;
}

static bool open_worker(import_workers *workers, int number) {
    import_worker *worker = &workers->all[number];
    hv_error *error = NULL;
    char *name = format_text("%s/%d", workers->settings.id, number);
    hv_status status =
        hv_load_open(workers->settings.store, worker->server, name, &worker->load, &error);
    free(name);
    if (status != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        return false;
    }
    if (hv_load_position(worker->load) < 0) {
        ui_fail("Rows have numbers from 1.", "Without --resume a new import begins.",
                "the record of the import on server \"%s\" is invalid: row %" PRId64,
                hv_server_name(workers->settings.store, worker->server),
                hv_load_position(worker->load));
        return false;
    }
    const char *note = hv_load_note(worker->load);
    worker->workers = workers;
    worker->recorded = worker->taken = worker->decided = hv_load_position(worker->load);
    worker->ended = note != NULL && strncmp(note, "complete ", 9) == 0;
    if (note != NULL)
        sscanf(note, "%*s %" SCNx64 " %" SCNd64, &worker->digest, &worker->stored);
    worker->batch = new_memory(workers->batch_rows * sizeof *worker->batch);
    worker->queue = new_memory(import_queue_room(workers) * sizeof *worker->queue);
    return true;
}

static void init_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

import_workers *import_workers_open(const import_settings *settings) {
    size_t most = (size_t) hv_server_count(settings->store) * (size_t) settings->jobs;
    import_workers *workers = new_memory(sizeof *workers);
    *workers = (import_workers){
        .settings = *settings,
        .all = new_memory(most * sizeof *workers->all),
        .of_shard = new_memory(HV_SHARDS * sizeof *workers->of_shard),
        .last = settings->first_row,
    };
    for (int i = 0; i < HV_SHARDS; i++)
        workers->of_shard[i] = -1;
    pthread_mutex_init(&workers->lock, NULL);
    init_condition(&workers->room);
    init_condition(&workers->work);
    size_t rows = (size_t) share_shards(workers) * BATCH_ROWS_SHARD;
    workers->batch_rows = rows < BATCH_ROWS_LEAST  ? BATCH_ROWS_LEAST
                          : rows > BATCH_ROWS_MOST ? BATCH_ROWS_MOST
                                                   : rows;
    for (int i = 0; i < workers->count; i++) {
        if (!open_worker(workers, i)) {
            import_workers_free(workers);
            return NULL;
        }
    }
    workers->tried = import_workers_resumed(workers);
    return workers;
}

int64_t import_workers_position(const import_workers *workers, int shard) {
    int worker = shard >= 0 && shard < HV_SHARDS ? workers->of_shard[shard] : 0;
    return worker >= 0 ? workers->all[worker].recorded : 0;
}

bool import_workers_complete(const import_workers *workers) {
    for (int i = 0; i < workers->count; i++)
        if (!workers->all[i].ended)
            return false;
    return true;
}

bool import_workers_resumed(const import_workers *workers) {
    for (int i = 0; i < workers->count; i++)
        if (workers->all[i].recorded > 0)
            return true;
    return false;
}

bool import_workers_agree(const import_workers *workers, int64_t number, uint64_t digest) {
    for (int i = 0; i < workers->count; i++)
        if (workers->all[i].recorded == number && workers->all[i].digest != digest)
            return false;
    return true;
}

int64_t import_workers_farthest(const import_workers *workers) {
    int64_t farthest = 0;
    for (int i = 0; i < workers->count; i++)
        if (workers->all[i].recorded > farthest)
            farthest = workers->all[i].recorded;
    return farthest;
}

bool import_workers_start(import_workers *workers) {
    int error = 0;
    for (int i = 0; i < workers->count && error == 0; i++) {
        pthread_mutex_lock(&workers->lock);
        error = pthread_create(&workers->all[i].thread, NULL, import_worker_run, &workers->all[i]);
        workers->all[i].started = error == 0;
        workers->working += error == 0;
        pthread_mutex_unlock(&workers->lock);
    }
    if (error != 0)
        import_workers_abandon(workers, false);
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

bool import_workers_give(import_workers *workers, import_item *given) {
    int number = given->shard >= 0 ? workers->of_shard[given->shard] : 0;
    import_worker *worker = &workers->all[number < 0 ? 0 : number];
    size_t bytes = given->row->text_len;
    encode(given);
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        import_look_for_interrupt(workers);
        if (import_has_stopped(workers) || import_queue_takes(worker, bytes))
            break;
        import_wait(&workers->room, &workers->lock, IMPORT_TICK_MS);
    }
    bool taken = !import_has_stopped(workers);
    if (taken) {
        workers->last = given->row->number;
        workers->last_line = given->row->line;
    }
    if (taken && given->row->number <= worker->recorded) {
        workers->totals.passed++;
    } else if (taken) {
        import_queue_add(worker, given);
        *given = (import_item){0};
    }
    pthread_mutex_unlock(&workers->lock);
    import_item_free(given);
    return taken;
}

void import_workers_abandon(import_workers *workers, bool decide_given) {
    pthread_mutex_lock(&workers->lock);
    if (import_stop_workers(workers, IMPORT_UNREAD) && decide_given)
        workers->finish_to = INT64_MAX;
    pthread_mutex_unlock(&workers->lock);
}

/* ---- Ending ---------------------------------------------------------------------------------- */

/* Commit a worker's position. If the connection breaks, try again for as long as rows would be
 * tried. */
static hv_status record(import_workers *workers, import_worker *worker, int64_t position,
                        const char *note, hv_error **error) {
    int64_t deadline = import_now() + workers->settings.retry_for;
    hv_status status;
    for (;;) {
        status = hv_load_send(worker->load, 0, NULL, error);
        if (status == HV_OK)
            status = hv_load_commit(worker->load, position, note, error);
        bool may_pass = status == HV_OUTCOME_UNKNOWN ||
                        (status != HV_OK && *error != NULL && hv_error_retriable(*error));
        if (!may_pass || import_now() >= deadline || workers->settings.interrupted())
            return status;
        hv_error_free(*error);
        *error = NULL;
        pthread_mutex_lock(&workers->lock);
        import_wait(&workers->room, &workers->lock, IMPORT_TICK_MS);
        pthread_mutex_unlock(&workers->lock);
    }
}

/* All threads have ended, and every row is decided: record that. */
static void record_end(import_workers *workers, uint64_t digest) {
    for (int i = 0; i < workers->count && !import_has_stopped(workers); i++) {
        import_worker *worker = &workers->all[i];
        hv_error *error = NULL;
        char *note = import_note(worker, "complete", digest, worker->stored);
        int64_t position = workers->last > worker->decided ? workers->last : worker->decided;
        hv_status status = record(workers, worker, position, note, &error);
        if (status != HV_OK && import_stop_workers(workers, IMPORT_FAILED)) {
            workers->totals.error = error;
            error = NULL;
        }
        hv_error_free(error);
        free(note);
    }
}

/* The row with the lowest number that was given and is not decided. */
static const import_item *first_undecided(const import_workers *workers) {
    const import_item *first = NULL;
    for (int i = 0; i < workers->count; i++) {
        const import_worker *worker = &workers->all[i];
        const import_item *item = worker->batch_len > 0   ? &worker->batch[0].item
                                  : worker->queue_len > 0 ? import_queued(worker, 0)
                                                          : NULL;
        if (item != NULL && (first == NULL || item->row->number < first->row->number))
            first = item;
    }
    return first;
}

static void sum_up(import_workers *workers) {
    import_totals *totals = &workers->totals;
    const import_item *first = first_undecided(workers);
    totals->last_row = first != NULL ? first->row->number - 1 : workers->last;
    totals->last_line = first != NULL ? first->before : workers->last_line;
    for (int i = 0; i < workers->count; i++) {
        const import_worker *worker = &workers->all[i];
        totals->ahead = totals->ahead || worker->decided > totals->last_row;
        if (worker->unknown)
            totals->unknown += (int64_t) worker->batch_len;
    }
}

void import_workers_finish(import_workers *workers, uint64_t digest, import_totals *totals) {
    pthread_mutex_lock(&workers->lock);
    workers->given_all = true;
    pthread_cond_broadcast(&workers->work);
    while (workers->working > 0) {
        import_look_for_interrupt(workers);
        import_wait(&workers->room, &workers->lock, IMPORT_TICK_MS);
    }
    pthread_mutex_unlock(&workers->lock);
    for (int i = 0; i < workers->count; i++)
        if (workers->all[i].started)
            pthread_join(workers->all[i].thread, NULL);
    if (!import_has_stopped(workers))
        record_end(workers, digest);
    sum_up(workers);
    *totals = workers->totals;
    import_workers_free(workers);
}

void import_workers_free(import_workers *workers) {
    if (workers == NULL)
        return;
    for (int i = 0; i < workers->count; i++) {
        import_worker *worker = &workers->all[i];
        for (size_t j = 0; j < worker->batch_len; j++)
            import_work_free(&worker->batch[j]);
        for (size_t j = 0; j < worker->queue_len; j++)
            import_item_free(import_queued(worker, j));
        hv_load_free(worker->load);
        free(worker->batch);
        free(worker->queue);
    }
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->room);
    pthread_cond_destroy(&workers->work);
    free(workers->of_shard);
    free(workers->all);
    free(workers);
}
