/*
 * callers: threads that put, get, change or borrow as fast as they can, for bench/compare.
 *
 *     callers CONTENDER put|get|merge|delete|borrow [NAME=VALUE]...
 *
 * Prints the result as a JSON object. An operation counts if it began before the time was over; the
 * time counts up to the end of the last one. Each caller makes at least one. Merges and deletes
 * take each entity once; where a caller finds no more of them, the time is over.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "contender.h"

/* The order in which merges and deletes take a shard's entities: each is so many places after the
 * last, so that neighbours in the table are not taken at the same time. A prime number. */
#define STEP 15485863

static const bench_contender *const contenders[] = {
    &bench_hv, &bench_raw, &bench_queue, &bench_array, &bench_pipelined,
};

static const char *const verbs[BENCH_VERBS] = {"put", "get", "merge", "delete", "borrow"};

typedef enum bench_phase { PREPARE, WARM_UP, MEASURE, END } bench_phase;

typedef struct bench_run {
    bench_settings settings;
    const bench_contender *contender;
    void *shared;
    pthread_barrier_t prepared;
    _Atomic int phase;
    sem_t ended; /* posted if the phase is END before the time is over */
} bench_run;

typedef struct caller {
    bench_run *run;
    pthread_t thread;
    int number;
    uint64_t random;
    double turn;    /* at a steady rate: when the next call is due */
    int64_t *taken; /* merge, delete: how many entities of each shard */
    int64_t all;    /* operations, including those of the warm-up */
    int64_t measured;
} caller;

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static struct timespec moment(double seconds) {
    struct timespec time = {.tv_sec = (time_t) seconds};
    time.tv_nsec = (long) ((seconds - (double) time.tv_sec) * 1e9);
    return time;
}

/* ---- one caller ---- */

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static int64_t key_of(const bench_settings *settings, int shard, int64_t number) {
    return (settings->first_moment + number) << 23 | (int64_t) shard << 10;
}

/* Take the next entity of the caller's own share of a shard. Returns false if there are no more. */
static bool take(caller *me, int shard, int64_t *key) {
    const bench_settings *settings = &me->run->settings;
    int64_t place = me->taken[shard - settings->first_shard]++ * settings->callers + me->number;
    *key = key_of(settings, shard, place * STEP % settings->entities_of_shard);
    return place < settings->entities_of_shard;
}

/* Returns false if there is nothing more to do. */
static bool choose(caller *me, bench_request *request) {
    const bench_settings *settings = &me->run->settings;
    for (int i = 0; i < request->count; i++) {
        int shard = settings->first_shard +
                    (int) (next_random(&me->random) % (uint64_t) settings->shard_count);
        request->shards[i] = shard;
        request->keys[i] = 0;
        if (settings->verb == BENCH_GET)
            request->keys[i] = key_of(
                settings, shard,
                (int64_t) (next_random(&me->random) % (uint64_t) settings->entities_of_shard));
        else if ((settings->verb == BENCH_MERGE || settings->verb == BENCH_DELETE) &&
                 !take(me, shard, &request->keys[i]))
            return false;
    }
    return true;
}

static void check(const bench_settings *settings, const bench_request *request) {
    if (settings->verb != BENCH_PUT)
        return;
    for (int i = 0; i < request->count; i++)
        if ((request->keys[i] >> 10 & 8191) != request->shards[i])
            bench_die("a put to shard %d gave the key %" PRId64, request->shards[i],
                      request->keys[i]);
}

/* At a steady rate, wait for the caller's next turn. A caller that is late does not catch up. */
static void wait_for_turn(caller *me) {
    const bench_settings *settings = &me->run->settings;
    double present = now(CLOCK_MONOTONIC);
    if (settings->rate <= 0)
        return;
    if (me->turn < present)
        me->turn = me->turn == 0 ? present + (double) me->number / settings->rate : present;
    const struct timespec until = moment(me->turn);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
    me->turn += settings->callers * settings->batch / settings->rate;
}

static void *work(void *argument) {
    caller *me = argument;
    bench_run *run = me->run;
    const bench_settings *settings = &run->settings;
    void *mine = run->shared;
    if (run->contender->start != NULL)
        mine = run->contender->start(run->shared, settings);
    bench_request request = {
        .count = settings->batch,
        .shards = calloc((size_t) settings->batch, sizeof(int)),
        .keys = calloc((size_t) settings->batch, sizeof(int64_t)),
    };
    void (*call)(void *, bench_request *) = run->contender->call[settings->verb];

    pthread_barrier_wait(&run->prepared);
    int phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    do {
        if (!choose(me, &request)) {
            atomic_store(&run->phase, END);
            sem_post(&run->ended);
            break;
        }
        wait_for_turn(me);
        call(mine, &request);
        check(settings, &request);
        me->all += request.count;
        if (phase == MEASURE)
            me->measured += request.count;
        phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    } while (phase != END);

    if (run->contender->stop != NULL)
        run->contender->stop(mine);
    free(request.shards);
    free(request.keys);
    return NULL;
}

/* ---- all callers ---- */

/* Wait for so many seconds, or until a caller has nothing more to do. */
static void wait_for(bench_run *run, double seconds) {
    struct timespec time = moment(now(CLOCK_MONOTONIC) + seconds);
    while (sem_clockwait(&run->ended, CLOCK_MONOTONIC, &time) != 0 && errno == EINTR)
        ;
}

static void measure(bench_run *run) {
    const bench_settings *settings = &run->settings;
    caller *callers = calloc((size_t) settings->callers, sizeof *callers);
    run->shared = run->contender->open(settings);
    pthread_barrier_init(&run->prepared, NULL, (unsigned) settings->callers + 1);
    sem_init(&run->ended, 0, 0);
    for (int i = 0; i < settings->callers; i++) {
        callers[i] = (caller){.run = run, .number = i, .random = (uint64_t) i * 7919 + 1};
        callers[i].taken = calloc((size_t) settings->shard_count, sizeof(int64_t));
        if (pthread_create(&callers[i].thread, NULL, work, &callers[i]) != 0)
            bench_die("a thread cannot be started");
    }
    atomic_store(&run->phase, WARM_UP);
    pthread_barrier_wait(&run->prepared);
    wait_for(run, settings->seconds / 5);
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID), start = now(CLOCK_MONOTONIC);
    int phase = WARM_UP;
    if (!atomic_compare_exchange_strong(&run->phase, &phase, MEASURE))
        bench_die("there are too few entities: all were taken during the warm-up");
    wait_for(run, settings->seconds);
    atomic_store(&run->phase, END);
    int64_t all = 0, measured = 0;
    for (int i = 0; i < settings->callers; i++) {
        pthread_join(callers[i].thread, NULL);
        all += callers[i].all;
        measured += callers[i].measured;
        free(callers[i].taken);
    }
    double took = now(CLOCK_MONOTONIC) - start;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    run->contender->close(run->shared);
    pthread_barrier_destroy(&run->prepared);
    sem_destroy(&run->ended);
    free(callers);
    printf("{\"operations\": %" PRId64 ", \"measured\": %" PRId64
           ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"per_second\": %.3f}\n",
           all, measured, took, cpu, (double) measured / took);
}

/* ---- arguments ---- */

static void set(bench_settings *settings, char *argument) {
    char *value = strchr(argument, '=');
    if (value == NULL)
        bench_die("\"%s\" is not NAME=VALUE", argument);
    *value++ = '\0';
    if (strcmp(argument, "callers") == 0)
        settings->callers = atoi(value);
    else if (strcmp(argument, "connections") == 0)
        settings->connections = atoi(value);
    else if (strcmp(argument, "batch") == 0)
        settings->batch = atoi(value);
    else if (strcmp(argument, "seconds") == 0)
        settings->seconds = atof(value);
    else if (strcmp(argument, "rate") == 0)
        settings->rate = atof(value);
    else if (strcmp(argument, "config") == 0)
        settings->config = value;
    else if (strcmp(argument, "server") == 0)
        settings->server = value;
    else if (strcmp(argument, "first_shard") == 0)
        settings->first_shard = atoi(value);
    else if (strcmp(argument, "shard_count") == 0)
        settings->shard_count = atoi(value);
    else if (strcmp(argument, "first_moment") == 0)
        settings->first_moment = atoll(value);
    else if (strcmp(argument, "entities_of_shard") == 0)
        settings->entities_of_shard = atoll(value);
    else
        bench_die("unknown setting \"%s\"", argument);
}

int main(int argc, char **argv) {
    bench_run run = {.settings = {.callers = 1,
                                  .connections = 10,
                                  .batch = 1,
                                  .seconds = 1,
                                  .first_shard = 1,
                                  .shard_count = 1,
                                  .entities_of_shard = 1}};
    if (argc < 3)
        bench_die("usage: callers CONTENDER put|get|merge|delete|borrow [NAME=VALUE]...");
    for (size_t i = 0; i < sizeof contenders / sizeof contenders[0]; i++)
        if (strcmp(argv[1], contenders[i]->name) == 0)
            run.contender = contenders[i];
    if (run.contender == NULL)
        bench_die("there is no contender \"%s\"", argv[1]);
    run.settings.verb = BENCH_VERBS;
    for (int verb = 0; verb < BENCH_VERBS; verb++)
        if (strcmp(argv[2], verbs[verb]) == 0)
            run.settings.verb = (bench_verb) verb;
    if (run.settings.verb == BENCH_VERBS || run.contender->call[run.settings.verb] == NULL)
        bench_die("%s cannot \"%s\"", argv[1], argv[2]);
    for (int i = 3; i < argc; i++)
        set(&run.settings, argv[i]);
    if (run.settings.callers < 1 || run.settings.batch < 1 || run.settings.shard_count < 1 ||
        run.settings.entities_of_shard < 1)
        bench_die("callers, batch, shard_count and entities_of_shard are at least 1");
    measure(&run);
    return 0;
}
