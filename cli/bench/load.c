/*
 * load: callers, each a thread, that put, get and change as fast as they can or at a given rate.
 *
 * Callers share nothing but counters while they run: each has its own dict, histograms and random
 * numbers, which the main thread reads when all have ended.
 */
#include "bench/load.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "bench/call.h"
#include "bench/clock.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

#define SECOND BENCH_SECOND
#define TICK   (SECOND / 20)

/* In a closed loop a caller pauses after an operation that failed: failures are quick, and no
 * application would repeat them without a pause. */
#define FAILURE_PAUSE (SECOND / 100)

/* At the end of an open loop, operations that are later than this are not begun. */
#define GRACE (SECOND / 10)

/* Seconds after the end that are counted one by one. */
#define MORE_SECONDS 60

typedef struct caller {
    struct bench_load *load;
    pthread_t thread;
    sem_t stop; /* posted when the load is stopped: wakes a sleeping caller */
    uint64_t random;
    bench_call call;
    /* For the operations of one call; owned. */
    int *shards;
    int64_t *keys;
    sql_failure *failures;
    bench_histogram *latency; /* by verb; owned */
    int64_t last_end;         /* of a counted operation */
    int64_t counted;
    int64_t stored;
    int64_t unknown;
    int64_t deleted;
    int64_t least_key; /* 0: none */
} caller;

struct bench_load {
    const bench_settings *settings; /* not owned */
    caller *callers;
    int started;          /* threads that are to be joined */
    pthread_mutex_t gate; /* held until all threads have started */
    int64_t *keys;        /* of the entities to be got or changed */
    ui_progress *progress;

    _Atomic bool stopped;
    _Atomic int64_t next; /* the next operation's number, in an open loop and while filling */
    _Atomic int64_t next_deleted; /* the next entity to be deleted: each is deleted once */
    _Atomic bool used_up;         /* there is none left; `stopped` is set too */
    /* Points in time; set before the gate opens. */
    int64_t start;
    int64_t begin; /* the end of the warm-up */
    int64_t end;
    int64_t over; /* the end, or the interrupt before it; for the main thread alone */
    bench_result result;
};

/* splitmix64 */
static uint64_t next_random(caller *self) {
    uint64_t z = (self->random += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* 0 .. bound-1 */
static int64_t pick(caller *self, int64_t bound) {
    return (int64_t) (next_random(self) % (uint64_t) bound);
}

/* ---- One call -------------------------------------------------------------------------------- */

/* Put into the shards in self->shards. */
static void put(caller *self, int count) {
    bench_call_put(&self->call, self->shards, self->keys, count, self->failures);
    for (int i = 0; i < count; i++) {
        hv_status status = self->failures[i].status;
        if (status == HV_OK) {
            self->stored++;
            if (self->least_key == 0 || self->keys[i] < self->least_key)
                self->least_key = self->keys[i];
        }
        self->unknown += status == HV_OUTCOME_UNKNOWN;
    }
}

static void delete_all(caller *self, int count) {
    bench_call_change(&self->call, BENCH_DELETE, self->keys, count, self->failures);
    for (int i = 0; i < count; i++)
        self->deleted += self->failures[i].status == HV_OK;
}

static bench_second *second_of(bench_load *load, int64_t moment) {
    int64_t second = (moment - load->begin) / SECOND;
    int last = load->result.second_count - 1;
    return &load->result.seconds[second < last ? second : last];
}

/* Count an operation that began, or was due, at `from`, unless that was before the measurement. */
static void count(caller *self, bench_verb verb, const sql_failure *failure, int64_t from,
                  int64_t now) {
    bench_load *load = self->load;
    if (from < load->begin)
        return;
    bench_second *second = second_of(load, now);
    bool succeeded = failure->status == HV_OK;
    self->last_end = now;
    self->counted++;
    atomic_fetch_add(succeeded ? &second->succeeded : &second->failed, 1);
    if (succeeded)
        bench_histogram_add(&self->latency[verb], now - from);
    else
        bench_errors_add(&load->result.errors, failure);
}

/* The moment at which an operation is due, by its number. */
static int64_t due(const bench_load *load, int64_t number) {
    int64_t rate = load->settings->rate;
    return load->start + number / rate * SECOND + number % rate * SECOND / rate;
}

/* Choose keys for a call; returns how many there are. */
static int choose_keys(caller *self, bench_verb verb, int operations) {
    bench_load *load = self->load;
    int64_t entities = load->settings->entities;
    if (verb != BENCH_DELETE) {
        for (int i = 0; i < operations; i++)
            self->keys[i] = load->keys[pick(self, entities)];
        return operations;
    }
    int64_t first = atomic_fetch_add(&load->next_deleted, operations);
    int64_t left = first < entities ? entities - first : 0;
    int count = left < operations ? (int) left : operations;
    for (int i = 0; i < count; i++)
        self->keys[i] = load->keys[first + i];
    if (count < operations) {
        atomic_store(&load->used_up, true);
        atomic_store(&load->stopped, true);
    }
    return count;
}

/*
 * Run `operations` in one call. In an open loop `number` is that of the first one, and each is
 * timed from when it was due; in a closed loop all are timed from the call. False if one failed.
 */
static bool operate(caller *self, int operations, int64_t number) {
    bench_load *load = self->load;
    const bench_settings *settings = load->settings;
    int64_t start = bench_now();
    bench_verb verb = pick(self, 100) < settings->get_percent ? BENCH_GET : settings->write;
    if (verb != BENCH_PUT)
        operations = choose_keys(self, verb, operations);
    for (int i = 0; i < operations && verb == BENCH_PUT; i++)
        self->shards[i] = settings->shards[pick(self, settings->shard_count)];
    if (operations == 0)
        return true;
    if (verb == BENCH_PUT)
        put(self, operations);
    else if (verb == BENCH_GET)
        bench_call_get(&self->call, self->keys, operations, self->failures);
    else if (verb == BENCH_DELETE)
        delete_all(self, operations);
    else
        bench_call_change(&self->call, verb, self->keys, operations, self->failures);
    int64_t now = bench_now();
    bool succeeded = true;
    for (int i = 0; i < operations; i++) {
        int64_t from = settings->rate > 0 ? due(load, number + i) : start;
        succeeded = succeeded && self->failures[i].status == HV_OK;
        count(self, verb, &self->failures[i], from, now);
        sql_failure_clear(&self->failures[i]);
    }
    return succeeded;
}

/* ---- What a caller does ---------------------------------------------------------------------- */

/* Wait until all callers have started. */
static void pass_gate(bench_load *load) {
    pthread_mutex_lock(&load->gate);
    pthread_mutex_unlock(&load->gate);
}

/* Sleep until a moment. False: the load was stopped. */
static bool sleep_until(caller *self, int64_t moment) {
    struct timespec until = {.tv_sec = moment / SECOND, .tv_nsec = moment % SECOND};
    while (!atomic_load(&self->load->stopped)) {
        if (bench_now() >= moment)
            return true;
        sem_clockwait(&self->stop, CLOCK_MONOTONIC, &until);
    }
    return false;
}

static void *work_closed(void *argument) {
    caller *self = argument;
    bench_load *load = self->load;
    pass_gate(load);
    while (!atomic_load(&load->stopped) && bench_now() < load->end)
        if (!operate(self, load->settings->batch, 0))
            sleep_until(self, bench_now() + FAILURE_PAUSE);
    return NULL;
}

/* The number of operations that are due before a moment. */
static int64_t due_before(const bench_load *load, int64_t moment) {
    int64_t rate = load->settings->rate;
    int64_t after = moment - load->start;
    return after / SECOND * rate + (after % SECOND * rate + SECOND - 1) / SECOND;
}

/* A call is made when the last of its operations is due. */
static void *work_open(void *argument) {
    caller *self = argument;
    bench_load *load = self->load;
    int batch = load->settings->batch;
    pass_gate(load);
    prctl(PR_SET_TIMERSLACK, 1); /* ns; otherwise a sleeper wakes 50 us late */
    for (;;) {
        int64_t number = atomic_fetch_add(&load->next, batch);
        int operations = batch;
        while (operations > 0 && due(load, number + operations - 1) >= load->end)
            operations--;
        if (operations == 0)
            return NULL;
        int64_t moment = due(load, number + operations - 1);
        if (!sleep_until(self, moment))
            return NULL;
        int64_t now = bench_now();
        if (now >= load->end && now - moment > GRACE)
            return NULL;
        operate(self, operations, number);
    }
}

/* Entities are put in calls of the same size as they are got. The first failure ends it. */
static void *work_filling(void *argument) {
    caller *self = argument;
    bench_load *load = self->load;
    const bench_settings *settings = load->settings;
    int64_t number;
    pass_gate(load);
    while (!atomic_load(&load->stopped) &&
           (number = atomic_fetch_add(&load->next, settings->batch)) < settings->entities) {
        int64_t left = settings->entities - number;
        int operations = left < settings->batch ? (int) left : settings->batch;
        for (int i = 0; i < operations; i++)
            self->shards[i] = settings->shards[(number + i) % settings->shard_count];
        put(self, operations);
        for (int i = 0; i < operations; i++) {
            load->keys[number + i] = self->keys[i];
            if (self->failures[i].status == HV_OK)
                ui_progress_add(load->progress, 0, 1);
            else if (!atomic_exchange(&load->stopped, true)) /* the first to fail */
                sql_failure_say(&self->failures[i]);
            sql_failure_clear(&self->failures[i]);
        }
    }
    return NULL;
}

/* ---- All callers ----------------------------------------------------------------------------- */

static void stop(bench_load *load) {
    atomic_store(&load->stopped, true);
    for (int i = 0; i < load->settings->callers; i++)
        sem_post(&load->callers[i].stop);
}

static void join(bench_load *load) {
    for (int i = 0; i < load->started; i++)
        pthread_join(load->callers[i].thread, NULL);
    load->started = 0;
}

/* Start all callers, or none; they begin when the gate is opened. */
static bool start(bench_load *load, void *(*work)(void *) ) {
    int error = 0;
    pthread_mutex_lock(&load->gate);
    while (load->started < load->settings->callers && error == 0) {
        caller *next = &load->callers[load->started];
        error = pthread_create(&next->thread, NULL, work, next);
        load->started += error == 0;
    }
    if (error != 0) {
        ui_fail(strerror(error), "Take fewer --callers.", "could not start %d threads",
                load->settings->callers);
        stop(load);
        pthread_mutex_unlock(&load->gate);
        join(load);
    }
    return error == 0;
}

/* Show the progress until a moment, or until nothing is left to do. False if it was interrupted
 * before. */
static bool watch_until(bench_load *load, int64_t moment) {
    while (!interrupted()) {
        int64_t now = bench_now();
        int64_t left = moment - now;
        if (left <= 0 || atomic_load(&load->used_up))
            return true;
        int64_t done = 0;
        for (int i = 0; i < load->result.second_count; i++)
            done += load->result.seconds[i].succeeded;
        ui_progress_set(load->progress, 0, done);
        left = left < TICK ? left : TICK;
        nanosleep(&(struct timespec){.tv_nsec = (long) left}, NULL);
    }
    return false;
}

static void end_early(bench_load *load) {
    load->over = bench_now();
    load->result.measured = load->over > load->begin;
    stop(load);
    ui_note("finishing what is in progress; interrupt again to end at once");
}

static void add_up(bench_load *load) {
    const bench_settings *settings = load->settings;
    bench_result *result = &load->result;
    int64_t last_end = load->over, counted = 0;
    for (int i = 0; i < settings->callers; i++) {
        const caller *one = &load->callers[i];
        for (int verb = 0; verb < BENCH_VERBS; verb++)
            bench_histogram_merge(&result->latency[verb], &one->latency[verb]);
        last_end = one->last_end > last_end ? one->last_end : last_end;
        counted += one->counted;
    }
    for (int verb = 0; verb < BENCH_VERBS; verb++)
        result->succeeded += (int64_t) result->latency[verb].count;
    result->duration = last_end - load->begin;
    if (settings->rate > 0 && result->measured && !result->used_up) {
        int64_t were_due = due_before(load, load->over) - due_before(load, load->begin);
        result->missed = were_due > counted ? were_due - counted : 0;
    }
}

/* ---- Public ---------------------------------------------------------------------------------- */

bench_load *bench_load_new(const bench_settings *settings, hv_store *store) {
    bench_load *load = new_memory(sizeof *load);
    load->settings = settings;
    pthread_mutex_init(&load->gate, NULL);
    load->keys = new_memory((size_t) settings->entities * sizeof *load->keys);
    load->result.latency = new_memory(BENCH_VERBS * sizeof *load->result.latency);
    load->result.second_count = (int) settings->seconds + MORE_SECONDS;
    load->result.seconds =
        new_memory((size_t) load->result.second_count * sizeof *load->result.seconds);
    bench_errors_init(&load->result.errors);
    load->callers = new_memory((size_t) settings->callers * sizeof *load->callers);
    for (int i = 0; i < settings->callers; i++) {
        caller *made = &load->callers[i];
        made->load = load;
        made->random = (uint64_t) i << 32;
        made->latency = new_memory(BENCH_VERBS * sizeof *made->latency);
        made->shards = new_memory((size_t) settings->batch * sizeof *made->shards);
        made->keys = new_memory((size_t) settings->batch * sizeof *made->keys);
        made->failures = new_memory((size_t) settings->batch * sizeof *made->failures);
        sem_init(&made->stop, 0, 0);
        bench_call_init(&made->call, settings, store);
    }
    return load;
}

void bench_load_free(bench_load *load) {
    if (load == NULL)
        return;
    for (int i = 0; i < load->settings->callers; i++) {
        caller *made = &load->callers[i];
        bench_call_fini(&made->call);
        sem_destroy(&made->stop);
        free(made->latency);
        free(made->shards);
        free(made->keys);
        free(made->failures);
    }
    free(load->callers);
    bench_errors_fini(&load->result.errors);
    free(load->result.seconds);
    free(load->result.latency);
    free(load->keys);
    pthread_mutex_destroy(&load->gate);
    free(load);
}

bool bench_load_fill(bench_load *load) {
    if (load->settings->entities == 0)
        return true;
    load->progress = ui_progress_new(1, (const char *const[]){"preparing"}, "entities");
    ui_progress_total(load->progress, 0, load->settings->entities);
    bool is_started = start(load, work_filling);
    if (is_started) {
        pthread_mutex_unlock(&load->gate);
        while (!interrupted() && !atomic_load(&load->stopped) &&
               atomic_load(&load->next) < load->settings->entities)
            nanosleep(&(struct timespec){.tv_nsec = TICK}, NULL);
        if (interrupted())
            stop(load);
        join(load);
    }
    ui_progress_free(load->progress, false);
    load->progress = NULL;
    return is_started && !atomic_load(&load->stopped);
}

bool bench_load_start(bench_load *load) {
    const bench_settings *settings = load->settings;
    atomic_store(&load->next, 0);
    if (!start(load, settings->rate > 0 ? work_open : work_closed))
        return false;
    load->progress = ui_progress_new(1, (const char *const[]){settings->work}, "operations");
    load->start = bench_now();
    load->begin = load->start + settings->warmup * SECOND;
    load->end = load->over = load->begin + settings->seconds * SECOND;
    pthread_mutex_unlock(&load->gate);
    watch_until(load, load->begin);
    return true;
}

const bench_result *bench_load_finish(bench_load *load) {
    ui_progress_time(load->progress, 0, (load->end - bench_now()) / 1000);
    if (!watch_until(load, load->end)) {
        end_early(load);
    } else if (atomic_load(&load->used_up)) {
        load->over = bench_now();
        load->result.measured = load->over > load->begin;
        load->result.used_up = true;
        stop(load);
    } else {
        load->result.measured = true;
    }
    join(load);
    ui_progress_free(load->progress, false);
    load->progress = NULL;
    add_up(load);
    return &load->result;
}

int64_t bench_load_stored(const bench_load *load) {
    int64_t stored = 0;
    for (int i = 0; i < load->settings->callers; i++)
        stored += load->callers[i].stored;
    return stored;
}

int64_t bench_load_unknown(const bench_load *load) {
    int64_t unknown = 0;
    for (int i = 0; i < load->settings->callers; i++)
        unknown += load->callers[i].unknown;
    return unknown;
}

int64_t bench_load_deleted(const bench_load *load) {
    int64_t deleted = 0;
    for (int i = 0; i < load->settings->callers; i++)
        deleted += load->callers[i].deleted;
    return deleted;
}

int64_t bench_load_least_key(const bench_load *load) {
    int64_t least = 0;
    for (int i = 0; i < load->settings->callers; i++) {
        int64_t key = load->callers[i].least_key;
        if (key != 0 && (least == 0 || key < least))
            least = key;
    }
    return least;
}
