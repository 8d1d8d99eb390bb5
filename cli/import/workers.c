/*
 * workers: open the workers of an import, give them rows, and end them.
 */
#include "import/workers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shard_ranges.h"
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

/* "[0-8,10]"; the first one's begins with "*", for malformed rows. */
static char *text_of(const import_workers *workers, int number) {
    hvi_buffer ranges = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &ranges};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (workers->of_shard[shard] == number)
            hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    hvi_buffer_append(&ranges, "", 0); /* so that it has data */
    if (!hvi_buffer_ok(&ranges))
        out_of_memory();
    char *text = format_text("[%s%s]", number == 0 ? "*" : "", ranges.data);
    hvi_buffer_fini(&ranges);
    return text;
}

static bool is_of(const import_part *part, const import_worker *worker) {
    return part->server == worker->server && part->number == worker->number;
}

/* The record of an earlier run that the worker goes on with: one of the same shards, or one that
 * does not say whose it is, because it was never used or is of an earlier version. */
static int find_record(const import_workers *workers, int number) {
    const import_worker *worker = &workers->all[number];
    const import_parts *parts = workers->settings.parts;
    int found = -1;
    for (size_t i = 0; i < parts->count; i++) {
        const import_part *part = &parts->of[i];
        bool has_shards = worker->shards != NULL && part->shards != NULL;
        if (part->server != worker->server)
            continue;
        if (has_shards && strcmp(part->shards, worker->shards) == 0)
            return part->number;
        if (!has_shards && part->number == number)
            found = number;
    }
    return found;
}

/* Each worker goes on with the record of the same shards, or begins one with a new number. */
static void choose_records(import_workers *workers) {
    const import_parts *parts = workers->settings.parts;
    int next = 0;
    for (size_t i = 0; i < parts->count; i++)
        next = parts->of[i].number >= next ? parts->of[i].number + 1 : next;
    for (int i = 0; i < workers->count; i++) {
        import_worker *worker = &workers->all[i];
        worker->workers = workers;
        worker->shards = parts->has_shards ? text_of(workers, i) : NULL;
        worker->number = find_record(workers, i);
        if (worker->number < 0)
            worker->number = parts->has_shards ? next++ : i;
    }
}

static hv_load *open_load(const import_workers *workers, int server, int number) {
    hv_load *load = NULL;
    hv_error *error = NULL;
    char *name = format_text("%s/%d", workers->settings.id, number);
    if (hv_load_open(workers->settings.store, server, name, &load, &error) != HV_OK)
        ui_error(error);
    hv_error_free(error);
    free(name);
    return load;
}

static bool open_worker(import_workers *workers, int number) {
    import_worker *worker = &workers->all[number];
    worker->load = open_load(workers, worker->server, worker->number);
    if (worker->load == NULL)
        return false;
    if (hv_load_position(worker->load) < 0) {
        ui_fail("Rows have numbers from 1.", "Without --resume a new import begins.",
                "the record of the import on server \"%s\" is invalid: row %" PRId64,
                hv_server_name(workers->settings.store, worker->server),
                hv_load_position(worker->load));
        return false;
    }
    const char *note = hv_load_note(worker->load);
    worker->recorded = worker->taken = worker->decided = hv_load_position(worker->load);
    worker->ended = note != NULL && strncmp(note, "complete ", 9) == 0;
    if (note != NULL)
        sscanf(note, "%*s %" SCNx64 " %" SCNd64, &worker->digest, &worker->stored);
    worker->batch = new_memory(workers->batch_rows * sizeof *worker->batch);
    worker->queue = new_memory(import_queue_room(workers) * sizeof *worker->queue);
    return true;
}

/* ---- The records of earlier runs ------------------------------------------------------------- */

static hv_status record(import_workers *workers, hv_load *load, int64_t position, const char *note,
                        hv_error **error);

/* False after an error message. */
static bool record_note(import_workers *workers, hv_load *load, const char *note) {
    hv_error *error = NULL;
    hv_status status = record(workers, load, hv_load_position(load), note, &error);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return status == HV_OK;
}

/* The shards of this record have others now. A process that goes on with it must not store any more
 * rows, and what it has committed is read after that. */
static bool pass(import_workers *workers, import_part *part) {
    hv_load *load = open_load(workers, part->server, part->number);
    if (load == NULL)
        return false;
    import_part_read(part, hv_load_position(load), hv_load_note(load));
    import_worker of = {.workers = workers, .shards = part->shards};
    char nothing[] = "[]";
    if (of.shards == NULL) /* it was never used */
        of.shards = nothing;
    char *note = import_note(&of, "passed", part->digest, part->stored);
    bool done = record_note(workers, load, note);
    free(note);
    hv_load_free(load);
    return done;
}

/* All rows of these shards up to the position are decided. */
static void note_decided(import_workers *workers, const import_part *part, bool *known) {
    const char *text = part->shards;
    hvi_shard_range range;
    if (text == NULL || *text++ != '[')
        return;
    if (*text == '*') {
        int64_t *passed = &workers->passed[HV_SHARDS];
        *passed = part->position > *passed ? part->position : *passed;
        text++;
    }
    char *ranges = format_text("%.*s", (int) strcspn(text, "]"), text);
    hvi_shard_reader reader = hvi_shard_reader_of(ranges, "shards of an import's record", "");
    while (ranges[0] != '\0' && hvi_shard_reader_next(&reader, &range, NULL) == HV_OK) {
        for (int shard = range.begin; shard < range.end; shard++) {
            int64_t *passed = &workers->passed[shard];
            *passed = part->position > *passed ? part->position : *passed;
            known[shard] = true;
        }
        if (!hvi_shard_reader_goes_on(&reader))
            break;
    }
    free(ranges);
}

/* A record may be on a server that the store has not got any more. */
static bool check_known(const import_workers *workers, const bool *known) {
    for (int shard = 0; shard < HV_SHARDS; shard++) {
        if (workers->of_shard[shard] < 0 || known[shard])
            continue;
        ui_fail("It is on the server that had the shard while the import ran.",
                "Add that server to the configuration, without shards, or leave --resume out to "
                "begin a new import.",
                "there is no record of how far the import has come with shard %d", shard);
        return false;
    }
    return true;
}

/* Find out what is decided, and see that no other process goes on. False after an error message. */
static bool take_over(import_workers *workers) {
    import_parts *parts = workers->settings.parts;
    bool known[HV_SHARDS] = {false};
    if (!parts->has_shards || parts->count == 0)
        return true;
    for (size_t i = 0; i < parts->count; i++) {
        import_part *part = &parts->of[i];
        const import_worker *worker = NULL;
        for (int j = 0; j < workers->count && worker == NULL; j++)
            if (is_of(part, &workers->all[j]))
                worker = &workers->all[j];
        if (worker != NULL)
            import_part_read(part, hv_load_position(worker->load), hv_load_note(worker->load));
        else if (!part->passed && !pass(workers, part))
            return false;
        note_decided(workers, part, known);
    }
    return check_known(workers, known);
}

/* Before any row is stored, each record has its shards. */
static bool record_shards(import_workers *workers) {
    for (int i = 0; i < workers->count; i++) {
        const import_worker *worker = &workers->all[i];
        import_part was = {.shards = NULL};
        import_part_read(&was, hv_load_position(worker->load), hv_load_note(worker->load));
        bool is_right = worker->shards == NULL || (was.shards != NULL && !was.passed);
        char *note = import_note(worker, "running", worker->digest, worker->stored);
        free(was.shards);
        is_right = is_right || record_note(workers, worker->load, note);
        free(note);
        if (!is_right)
            return false;
    }
    return true;
}

/* ---- All of them ----------------------------------------------------------------------------- */

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
        .passed = new_memory((HV_SHARDS + 1) * sizeof *workers->passed),
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
    choose_records(workers);
    bool opened = true;
    for (int i = 0; opened && i < workers->count; i++)
        opened = open_worker(workers, i);
    if (!opened || !take_over(workers) || !record_shards(workers)) {
        import_workers_free(workers);
        return NULL;
    }
    workers->tried = import_workers_resumed(workers);
    return workers;
}

int64_t import_workers_position(const import_workers *workers, int shard) {
    bool has_shard = shard >= 0 && shard < HV_SHARDS;
    int worker = has_shard ? workers->of_shard[shard] : 0;
    int64_t recorded = worker >= 0 ? workers->all[worker].recorded : 0;
    int64_t passed = workers->passed[has_shard ? shard : HV_SHARDS];
    return recorded > passed ? recorded : passed;
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
    for (size_t i = 0; i < workers->settings.parts->count; i++)
        if (workers->settings.parts->of[i].position > 0)
            return true;
    return false;
}

bool import_workers_agree(const import_workers *workers, int64_t number, uint64_t digest) {
    for (int i = 0; i < workers->count; i++)
        if (workers->all[i].recorded == number && workers->all[i].digest != digest)
            return false;
    for (size_t i = 0; i < workers->settings.parts->count; i++) {
        const import_part *part = &workers->settings.parts->of[i];
        if (part->position == number && part->digest != digest)
            return false;
    }
    return true;
}

int64_t import_workers_farthest(const import_workers *workers) {
    int64_t farthest = 0;
    for (int i = 0; i < workers->count; i++)
        if (workers->all[i].recorded > farthest)
            farthest = workers->all[i].recorded;
    for (size_t i = 0; i < workers->settings.parts->count; i++)
        if (workers->settings.parts->of[i].position > farthest)
            farthest = workers->settings.parts->of[i].position;
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
    if (taken && given->row->number <= import_workers_position(workers, given->shard)) {
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
static hv_status record(import_workers *workers, hv_load *load, int64_t position, const char *note,
                        hv_error **error) {
    int64_t deadline = import_now() + workers->settings.retry_for;
    hv_status status;
    for (;;) {
        status = hv_load_send(load, 0, NULL, error);
        if (status == HV_OK)
            status = hv_load_commit(load, position, note, error);
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
        hv_status status = record(workers, worker->load, position, note, &error);
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
        free(worker->shards);
        free(worker->batch);
        free(worker->queue);
    }
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->room);
    pthread_cond_destroy(&workers->work);
    free(workers->of_shard);
    free(workers->passed);
    free(workers->all);
    free(workers);
}
