/*
 * import_workers: threads that store rows, retry what can be retried, and count what became of
 * each.
 *
 * A row's way:
 *
 *     give --> queue --> a worker --> stored
 *                 |          |  ^`--> rejected, written to the file
 *                 |    retry `--'`--> unfinished (the import has ended)
 *                 `--> dropped (the import has ended)
 *
 * Holds always, under the lock: rows leave the queue in the order of their numbers, so those that
 * were taken from it are the first ones, and no more than IMPORT_TRIAL_ROWS of them while none is
 * stored. `stop` changes once, from IMPORT_COMPLETE.
 */
#include "import_workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory.h"

/* Rows that wait for a worker, for each worker. */
#define QUEUE_PER_JOB 16
/* Text of rows that are in the queue or under way; one longer row is taken alone. */
#define MAX_HELD_BYTES ((size_t) 64 << 20)
/* Waits are cut into such pieces, to notice an interrupt. */
#define TICK_MS 100
/* Pauses between attempts double from the first to the last of these. */
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS  2000
/* A server that can be reached must store nothing for so long to be given up. */
#define TRIAL_MS 1000

typedef struct item {
    row *row;
    int shard;
    hv_status status; /* of a rejected or unfinished row: why */
    char *reason;     /* the same in words; owned */
} item;

struct import_workers {
    import_settings settings;
    pthread_t *threads;
    int thread_count;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t room;  /* a row was taken or decided */
    pthread_cond_t work;  /* a row was given, or no more will be */
    pthread_cond_t idle;  /* `stop` has changed, or a worker has ended */
    item *queue;          /* a ring */
    size_t queue_cap;
    size_t queue_start;
    size_t queue_len;
    size_t held_bytes; /* in the queue or under way */
    int working;       /* threads that have not ended */
    bool complete;     /* no more rows will be given */
    item *unfinished;  /* one for each thread at most */
    int unfinished_count;
    int64_t *last_stored; /* for each server, when it last stored a row */
    import_totals totals;
};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait for a condition, at most some milliseconds. */
static void wait_for(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ms) {
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

static bool has_stopped(const import_workers *workers) {
    return workers->totals.stop != IMPORT_COMPLETE;
}

/* The one place where `stop` changes. Returns false if it had. */
static bool stop(import_workers *workers, import_stop why) {
    if (has_stopped(workers))
        return false;
    workers->totals.stop = why;
    pthread_cond_broadcast(&workers->room);
    pthread_cond_broadcast(&workers->work);
    pthread_cond_broadcast(&workers->idle);
    return true;
}

static void look_for_interrupt(import_workers *workers) {
    if (!has_stopped(workers) && workers->settings.interrupted())
        stop(workers, IMPORT_INTERRUPTED);
}

/* ---- What became of a row -------------------------------------------------------------------- */

/* Under the lock. */
static void count_decided(import_workers *workers, const item *done) {
    import_totals *totals = &workers->totals;
    if (done->row->number > totals->last_row) {
        totals->last_row = done->row->number;
        totals->last_line = done->row->line;
    }
    if (workers->settings.decided != NULL)
        workers->settings.decided(workers->settings.context, done->row);
}

/* Under the lock: the row's memory is free again, or will be at once. */
static void release_room(import_workers *workers, const item *done) {
    workers->held_bytes -= done->row->text_len;
    pthread_cond_signal(&workers->room);
}

static void free_item(item *done) {
    row_free(done->row);
    free(done->reason);
    *done = (item){0};
}

static void item_stored(import_workers *workers, item *done) {
    pthread_mutex_lock(&workers->lock);
    if (++workers->totals.stored == 1)
        pthread_cond_broadcast(&workers->work); /* the trial is over */
    workers->last_stored[hv_shard_server(workers->settings.store, done->shard)] = now_ms();
    count_decided(workers, done);
    release_room(workers, done);
    pthread_mutex_unlock(&workers->lock);
    free_item(done);
}

/* Leave it until all threads have ended: import_workers_finish() will know what to do with it. */
static void item_unfinished(import_workers *workers, item *done) {
    pthread_mutex_lock(&workers->lock);
    release_room(workers, done);
    workers->unfinished[workers->unfinished_count++] = *done;
    pthread_mutex_unlock(&workers->lock);
    *done = (item){0};
}

/* Write it to the rejects file, with the item's status and reason. */
static void item_rejected(import_workers *workers, item *done) {
    if (!import_rejects_add(workers->settings.rejects, done->row, done->status, done->shard,
                            done->reason)) {
        int error = errno;
        pthread_mutex_lock(&workers->lock);
        if (stop(workers, IMPORT_NO_REJECTS))
            workers->totals.write_errno = error;
        pthread_mutex_unlock(&workers->lock);
        item_unfinished(workers, done);
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->totals.rejected++;
    workers->totals.unknown += done->status == HV_OUTCOME_UNKNOWN;
    if (workers->totals.stored == 0 && workers->totals.rejected == IMPORT_TRIAL_ROWS &&
        stop(workers, IMPORT_HOPELESS))
        workers->totals.reason = copy_text(done->reason);
    count_decided(workers, done);
    release_room(workers, done);
    pthread_mutex_unlock(&workers->lock);
    free_item(done);
}

/* ---- Storing --------------------------------------------------------------------------------- */

/* Will this error hit every other row as well, until somebody does something about it? */
static bool hits_every_row(const hv_error *error) {
    static const char *const sqlstates[] = {
        "25006", /* the server is read-only */
        "28",    /* login refused */
        "3D",    /* no such database */
        "42",    /* no right to, or no such table or column */
    };
    const char *sqlstate = hv_error_sqlstate(error);
    switch (hv_error_status(error)) {
    case HV_BAD_CONFIG:
    case HV_NO_SERVER:
    case HV_NOT_INITIALIZED:
    case HV_MISMATCH:
    case HV_CLOSED:
        return true;
    case HV_UNAVAILABLE:
        return !hv_error_retriable(error);
    case HV_REFUSED:
        for (size_t i = 0; sqlstate != NULL && i < sizeof sqlstates / sizeof sqlstates[0]; i++) {
            if (strncmp(sqlstate, sqlstates[i], strlen(sqlstates[i])) == 0)
                return true;
        }
        return false;
    default:
        return false;
    }
}

/* Pause before the next attempt. False: the time for attempts is over, or the import has ended. */
static bool pause_for(import_workers *workers, int64_t pause, int64_t deadline) {
    int64_t now = now_ms();
    if (now >= deadline)
        return false;
    int64_t until = now + pause < deadline ? now + pause : deadline;
    pthread_mutex_lock(&workers->lock);
    while (!has_stopped(workers) && (now = now_ms()) < until)
        wait_for(&workers->idle, &workers->lock, until - now);
    bool go_on = !has_stopped(workers);
    pthread_mutex_unlock(&workers->lock);
    return go_on;
}

static char *reason_of(const hv_error *error) {
    const char *before = hv_error_outcome_unknown(error) ? "may or may not be stored: " : "";
    const char *detail = hv_error_detail(error);
    return format_text("%s%s%s%s", before, hv_error_message(error), detail != NULL ? ": " : "",
                       detail != NULL ? detail : "");
}

/* An error that no retry will mend, or has mended. */
static void store_failed(import_workers *workers, item *failed, hv_error *error, int64_t since) {
    failed->status = hv_error_status(error);
    failed->reason = reason_of(error);
    pthread_mutex_lock(&workers->lock);
    int server = hv_shard_server(workers->settings.store, failed->shard);
    /* A server that has stored nothing all this time will fail every row. */
    bool long_enough = failed->status == HV_UNAVAILABLE || now_ms() - since >= TRIAL_MS;
    bool gone = hv_error_retriable(error) && workers->last_stored[server] < since && long_enough;
    bool ends = hits_every_row(error) || gone;
    if (ends && stop(workers, IMPORT_FAILED)) {
        workers->totals.error = error;
        error = NULL;
    }
    /* A retry that was cut short by the end is no reason to reject the row. */
    ends = ends || (hv_error_retriable(error) && has_stopped(workers));
    pthread_mutex_unlock(&workers->lock);
    hv_error_free(error);
    if (ends)
        item_unfinished(workers, failed);
    else
        item_rejected(workers, failed);
}

static void store(import_workers *workers, item *taken) {
    const import_settings *settings = &workers->settings;
    int64_t since = now_ms();
    int64_t pause = FIRST_PAUSE_MS;
    for (;;) {
        hv_error *error = NULL;
        int64_t key;
        if (hv_put(settings->store, taken->shard, settings->kind, taken->row->dict, &key, &error) ==
            HV_OK) {
            item_stored(workers, taken);
            return;
        }
        if (!hv_error_retriable(error) || !pause_for(workers, pause, since + settings->retry_for)) {
            store_failed(workers, taken, error, since);
            return;
        }
        hv_error_free(error);
        pause = 2 * pause < LAST_PAUSE_MS ? 2 * pause : LAST_PAUSE_MS;
    }
}

/* Under the lock: until one of the first rows is stored, those behind them must wait. */
static bool is_on_trial(const import_workers *workers) {
    const item *first = &workers->queue[workers->queue_start];
    return workers->totals.stored == 0 &&
           first->row->number - workers->settings.first_row > IMPORT_TRIAL_ROWS;
}

/* The next row of the queue; false if there will be none. */
static bool take(import_workers *workers, item *taken) {
    pthread_mutex_lock(&workers->lock);
    while (!has_stopped(workers) &&
           (workers->queue_len == 0 ? !workers->complete : is_on_trial(workers)))
        pthread_cond_wait(&workers->work, &workers->lock);
    bool found = workers->queue_len > 0 && !has_stopped(workers);
    if (found) {
        *taken = workers->queue[workers->queue_start];
        workers->queue_start = (workers->queue_start + 1) % workers->queue_cap;
        workers->queue_len--;
        pthread_cond_signal(&workers->room);
    }
    pthread_mutex_unlock(&workers->lock);
    return found;
}

static void *work(void *argument) {
    import_workers *workers = argument;
    item taken;
    while (take(workers, &taken)) {
        if (taken.row->fault != NULL) {
            char text[ROW_FAULT_SIZE];
            taken.status = HV_INVALID;
            taken.reason = copy_text(row_fault_text(text, taken.row->fault));
            item_rejected(workers, &taken);
        } else {
            store(workers, &taken);
        }
    }
    pthread_mutex_lock(&workers->lock);
    workers->working--;
    pthread_cond_broadcast(&workers->idle);
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

/* ---- Public ---------------------------------------------------------------------------------- */

static void free_workers(import_workers *workers) {
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->room);
    pthread_cond_destroy(&workers->work);
    pthread_cond_destroy(&workers->idle);
    free(workers->threads);
    free(workers->queue);
    free(workers->unfinished);
    free(workers->last_stored);
    free(workers);
}

static void init_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

import_workers *import_workers_start(const import_settings *settings) {
    import_workers *workers = new_memory(sizeof *workers);
    size_t jobs = (size_t) settings->jobs;
    *workers = (import_workers){
        .settings = *settings,
        .threads = new_memory(jobs * sizeof *workers->threads),
        .queue = new_memory(QUEUE_PER_JOB * jobs * sizeof *workers->queue),
        .queue_cap = QUEUE_PER_JOB * jobs,
        .unfinished = new_memory(jobs * sizeof *workers->unfinished),
        .last_stored =
            new_memory((size_t) hv_server_count(settings->store) * sizeof *workers->last_stored),
        .totals = {.last_row = settings->first_row},
    };
    pthread_mutex_init(&workers->lock, NULL);
    init_condition(&workers->room);
    init_condition(&workers->work);
    init_condition(&workers->idle);
    int error = 0;
    while (workers->thread_count < settings->jobs && error == 0) {
        pthread_mutex_lock(&workers->lock);
        error = pthread_create(&workers->threads[workers->thread_count], NULL, work, workers);
        if (error == 0)
            workers->thread_count++;
        workers->working = workers->thread_count;
        pthread_mutex_unlock(&workers->lock);
    }
    if (workers->thread_count == 0) { /* fewer than wanted will do */
        free_workers(workers);
        errno = error;
        return NULL;
    }
    return workers;
}

bool import_workers_give(import_workers *workers, row *given, int shard) {
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        look_for_interrupt(workers);
        bool fits =
            workers->held_bytes == 0 || workers->held_bytes + given->text_len <= MAX_HELD_BYTES;
        if (has_stopped(workers) || (fits && workers->queue_len < workers->queue_cap))
            break;
        wait_for(&workers->room, &workers->lock, TICK_MS);
    }
    bool taken = !has_stopped(workers);
    if (taken) {
        size_t end = (workers->queue_start + workers->queue_len) % workers->queue_cap;
        workers->queue[end] = (item){.row = given, .shard = shard};
        workers->queue_len++;
        workers->held_bytes += given->text_len;
        pthread_cond_signal(&workers->work);
    }
    pthread_mutex_unlock(&workers->lock);
    if (!taken)
        row_free(given);
    return taken;
}

bool import_workers_stopped(import_workers *workers) {
    pthread_mutex_lock(&workers->lock);
    look_for_interrupt(workers);
    bool stopped = has_stopped(workers);
    pthread_mutex_unlock(&workers->lock);
    return stopped;
}

/*
 * All threads have ended: those unfinished rows that decided ones follow must be decided too. So
 * must those that may be stored, because they must not be given again.
 */
static void settle_unfinished(import_workers *workers,
                              void (*lost_row)(const row *row, const char *reason)) {
    import_totals *totals = &workers->totals;
    for (int i = 0; i < workers->unfinished_count; i++) {
        if (workers->unfinished[i].status == HV_OUTCOME_UNKNOWN)
            count_decided(workers, &workers->unfinished[i]);
    }
    for (int i = 0; i < workers->unfinished_count; i++) {
        item *left = &workers->unfinished[i];
        if (left->row->number <= totals->last_row) {
            totals->rejected++;
            totals->unknown += left->status == HV_OUTCOME_UNKNOWN;
            if (!import_rejects_add(workers->settings.rejects, left->row, left->status, left->shard,
                                    left->reason)) {
                totals->lost++;
                lost_row(left->row, left->reason);
            }
        }
        free_item(left);
    }
}

void import_workers_finish(import_workers *workers, import_totals *totals,
                           void (*lost_row)(const row *row, const char *reason)) {
    pthread_mutex_lock(&workers->lock);
    workers->complete = true;
    pthread_cond_broadcast(&workers->work);
    while (workers->working > 0) {
        look_for_interrupt(workers);
        wait_for(&workers->idle, &workers->lock, TICK_MS);
    }
    pthread_mutex_unlock(&workers->lock);
    for (int i = 0; i < workers->thread_count; i++)
        pthread_join(workers->threads[i], NULL);
    for (size_t i = 0; i < workers->queue_len; i++)
        free_item(&workers->queue[(workers->queue_start + i) % workers->queue_cap]);
    settle_unfinished(workers, lost_row);
    *totals = workers->totals;
    free_workers(workers);
}
