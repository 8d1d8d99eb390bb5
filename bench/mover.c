/*
 * mover: moves a shard back and forth while threads write to it, and to another one, through the
 * library; what bench/move runs.
 *
 *     mover CONFIG SHARD OTHER WRITERS RATE MOVES
 *
 * WRITERS threads put entities into SHARD, RATE a second altogether, and two threads 500 a second
 * each into OTHER. Shards move between the servers 0 and 1. For each move it prints a line of JSON;
 * at the end the puts of every 10 ms around the last switch, and how many were acknowledged. With
 * 0 MOVES it prints "{}" and waits for the end of its input instead, while the caller does
 * something. How long a put took is the time of the call; one that comes late because the one
 * before took long begins at once. Each entity has a number of its own, and now and then one that
 * was acknowledged is read again at once: one that is not found was a stale read.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hypervault.h"

#define SAMPLES_MAX   4000000 /* of a thread */
#define OTHERS        2
#define OTHER_RATE    500
#define WRITERS_MAX   64
#define BEFORE_MS     1500
#define AFTER_MS      400
#define BUCKET_US     10000
#define BUCKETS_ABOUT 100 /* on each side of the switch */
#define READ_EVERY    50

typedef struct sample {
    int64_t begun; /* µs */
    int64_t took;
} sample;

typedef struct writer {
    pthread_t thread;
    hv_store *store;
    int shard;
    int number;
    int64_t every_us;
    sample *samples; /* owned */
    atomic_size_t count;
    atomic_long errors;
    long reads, stale;
    char error[256];
} writer;

static atomic_bool stops;

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void pause_until(int64_t moment) {
    int64_t left = moment - now_us();
    if (left > 0) {
        struct timespec pause = {.tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
}

static void note_error(writer *mine, hv_error *error) {
    atomic_fetch_add(&mine->errors, 1);
    snprintf(mine->error, sizeof mine->error, "%s", error != NULL ? hv_error_message(error) : "?");
    hv_error_free(error);
}

static void read_again(writer *mine, int64_t key) {
    hv_error *error = NULL;
    hv_entity *entity = NULL;
    hv_status status = hv_get(mine->store, key, &entity, &error);
    mine->reads++;
    if (status == HV_NOT_FOUND)
        mine->stale++;
    else if (status != HV_OK)
        note_error(mine, error);
    hv_entity_free(entity);
}

static void *write_all_the_time(void *context) {
    writer *mine = context;
    char number[32];
    hv_dict *dict = hv_dict_new();
    hv_dict_set(dict, "name", "Ada Lovelace", NULL);
    hv_dict_set(dict, "email", "ada@analytical.example", NULL);
    int64_t next = now_us();
    while (!atomic_load(&stops)) {
        hv_error *error = NULL;
        int64_t key;
        snprintf(number, sizeof number, "%d-%zu", mine->number, atomic_load(&mine->count));
        hv_dict_set(dict, "number", number, NULL);
        pause_until(next);
        next += mine->every_us;
        int64_t begun = now_us();
        hv_status status = hv_put(mine->store, mine->shard, 7, dict, &key, &error);
        int64_t took = now_us() - begun;
        size_t count = atomic_load(&mine->count);
        if (status != HV_OK) {
            note_error(mine, error);
        } else if (count < SAMPLES_MAX) {
            mine->samples[count] = (sample){begun, took};
            atomic_store(&mine->count, count + 1);
            if (count % READ_EVERY == 0)
                read_again(mine, key);
        } else {
            note_error(mine, NULL); /* too many for this program */
        }
    }
    hv_dict_free(dict);
    return NULL;
}

static void start(writer *to, hv_store *store, int shard, int number, int64_t every_us) {
    to->store = store;
    to->shard = shard;
    to->number = number;
    to->every_us = every_us;
    to->samples = malloc(SAMPLES_MAX * sizeof *to->samples);
    if (to->samples == NULL || pthread_create(&to->thread, NULL, write_all_the_time, to) != 0)
        exit(2);
}

static int by_size(const void *left, const void *right) {
    const int64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* The puts of these that were under way between two moments: the longest, the 99th percentile and
 * their number. */
static void look(writer *writers, int count, int64_t from, int64_t until, int64_t *longest,
                 int64_t *p99, size_t *puts) {
    size_t size = 0;
    int64_t *took = malloc(sizeof *took * 2000000);
    for (int i = 0; took != NULL && i < count; i++) {
        size_t end = atomic_load(&writers[i].count);
        for (size_t j = end; j > 0; j--) {
            const sample *at = &writers[i].samples[j - 1];
            if (at->begun + at->took < from)
                break;
            if (at->begun <= until && size < 2000000)
                took[size++] = at->took;
        }
    }
    *longest = *p99 = 0;
    *puts = size;
    if (size > 0) {
        qsort(took, size, sizeof *took, by_size);
        *longest = took[size - 1];
        *p99 = took[size * 99 / 100];
    }
    free(took);
}

static void die(const char *what, hv_status status, hv_error *error) {
    fprintf(stderr, "%s: %s: %s (%s)\n", what, hv_status_name(status),
            error != NULL ? hv_error_message(error) : "",
            error != NULL && hv_error_detail(error) != NULL ? hv_error_detail(error) : "");
    exit(1);
}

/* Returns the moment of the switch: when the call that made it has returned. While it is tried, a
 * call is no longer than the try. */
static int64_t move_once(hv_store *store, int shard, int server, hv_move_status *how,
                         double phases[HV_MOVE_ABORTED + 1]) {
    hv_error *error = NULL;
    hv_move *move = NULL;
    bool done = false;
    int64_t switched = 0, last = now_us();
    hv_status status = hv_move_start(store, shard, server, NULL, &move, &error);
    while (status == HV_OK && !done) {
        hv_move_progress(move, how);
        hv_move_phase phase = how->phase;
        status = hv_move_advance(move, phase == HV_MOVE_SWITCHING ? 1 : 5, &done, &error);
        int64_t now = now_us();
        phases[phase] += (double) (now - last) / 1e6;
        last = now;
        hv_move_progress(move, how);
        if (switched == 0 && how->phase >= HV_MOVE_CLEANING)
            switched = now;
    }
    if (status != HV_OK)
        die("move", status, error);
    hv_move_progress(move, how);
    how->source = how->target = how->kind = how->step = how->waits_for = NULL;
    hv_move_free(move);
    return switched;
}

static void print_buckets(writer *writers, int count, int64_t about) {
    int64_t begin = about - BUCKETS_ABOUT * (int64_t) BUCKET_US;
    size_t puts[2 * BUCKETS_ABOUT] = {0};
    int64_t longest[2 * BUCKETS_ABOUT] = {0};
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < atomic_load(&writers[i].count); j++) {
            const sample *at = &writers[i].samples[j];
            int64_t bucket = (at->begun + at->took - begin) / BUCKET_US;
            if (at->begun + at->took < begin || bucket >= 2 * BUCKETS_ABOUT)
                continue;
            puts[bucket]++;
            if (at->took > longest[bucket])
                longest[bucket] = at->took;
        }
    printf("{\"buckets\": [");
    for (int i = 0; i < 2 * BUCKETS_ABOUT; i++)
        printf("%s[%d, %zu, %.3f]", i == 0 ? "" : ", ", (i - BUCKETS_ABOUT) * 10, puts[i],
               (double) longest[i] / 1000);
    printf("]}\n");
}

/* What the others' puts take before, and while the caller does something. */
static void wait_for_caller(writer *others) {
    int64_t longest, before, during;
    size_t ignored;
    pause_until(now_us() + BEFORE_MS * 1000);
    int64_t begun = now_us();
    look(others, OTHERS, begun - BEFORE_MS * 1000, begun, &longest, &before, &ignored);
    printf("{}\n");
    fflush(stdout);
    while (getchar() != EOF)
        continue;
    look(others, OTHERS, begun, now_us(), &longest, &during, &ignored);
    printf("{\"other_before_ms\": %.3f, \"other_during_ms\": %.3f}\n", (double) before / 1000,
           (double) during / 1000);
}

int main(int argc, char **argv) {
    static writer writers[WRITERS_MAX], others[OTHERS];
    hv_error *error = NULL;
    hv_store *store = NULL;
    hv_options *options = hv_options_new();
    if (argc != 7)
        return 2;
    int shard = atoi(argv[2]), other = atoi(argv[3]);
    int count = atoi(argv[4]), rate = atoi(argv[5]), moves = atoi(argv[6]);
    hv_status status = hv_options_load(options, argv[1], NULL, &error);
    if (status == HV_OK)
        status = hv_open(options, &store, &error);
    if (status == HV_OK) /* an earlier run may have moved the shard */
        status = hv_locate_shards(store, &error);
    if (status != HV_OK)
        die("open", status, error);
    for (int i = 0; i < count && i < WRITERS_MAX; i++)
        start(&writers[i], store, shard, i, rate > 0 ? (int64_t) count * 1000000 / rate : 0);
    for (int i = 0; i < OTHERS; i++)
        start(&others[i], store, other, i, 1000000 / OTHER_RATE);
    int64_t switched = 0;
    if (moves == 0)
        wait_for_caller(others);
    for (int i = 0; i < moves; i++) {
        hv_move_status how = {0};
        double phases[HV_MOVE_ABORTED + 1] = {0};
        int64_t longest, p99, other_longest, other_before, other_during;
        size_t puts, ignored;
        pause_until(now_us() + BEFORE_MS * 1000);
        int64_t begun = now_us();
        look(others, OTHERS, begun - BEFORE_MS * 1000, begun, &other_longest, &other_before,
             &ignored);
        switched = move_once(store, shard, 1 - hv_shard_server(store, shard), &how, phases);
        int64_t ended = now_us();
        pause_until(ended + AFTER_MS * 1000);
        look(writers, count, begun, ended + AFTER_MS * 1000, &longest, &p99, &puts);
        look(others, OTHERS, begun, ended, &other_longest, &other_during, &ignored);
        printf("{\"move\": %d, \"seconds\": %.3f, \"pause_ms\": %.3f, \"longest_ms\": %.3f,"
               " \"p99_ms\": %.3f, \"puts\": %zu, \"rows\": %" PRId64 ", \"bytes\": %" PRId64
               ", \"other_before_ms\": %.3f, \"other_during_ms\": %.3f, \"phases\": {",
               i, (double) (ended - begun) / 1e6, how.pause_ms, (double) longest / 1000,
               (double) p99 / 1000, puts, how.rows, how.bytes, (double) other_before / 1000,
               (double) other_during / 1000);
        for (int phase = 0; phase <= HV_MOVE_ABORTED; phase++)
            printf("%s\"%s\": %.3f", phase == 0 ? "" : ", ",
                   hv_move_phase_name((hv_move_phase) phase), phases[phase]);
        printf("}}\n");
        fflush(stdout);
    }
    pause_until(now_us() + 1000000);
    atomic_store(&stops, true);
    size_t acknowledged = 0, of_other = 0;
    long errors = 0, reads = 0, stale = 0;
    for (int i = 0; i < count; i++) {
        pthread_join(writers[i].thread, NULL);
        acknowledged += atomic_load(&writers[i].count);
        reads += writers[i].reads;
        stale += writers[i].stale;
        errors += atomic_load(&writers[i].errors);
        if (writers[i].error[0] != '\0')
            fprintf(stderr, "%s\n", writers[i].error);
    }
    for (int i = 0; i < OTHERS; i++) {
        pthread_join(others[i].thread, NULL);
        of_other += atomic_load(&others[i].count);
        errors += atomic_load(&others[i].errors);
    }
    if (count > 0 && moves > 0)
        print_buckets(writers, count, switched);
    printf("{\"acknowledged\": %zu, \"of_other\": %zu, \"errors\": %ld, \"reads\": %ld,"
           " \"stale\": %ld, \"server\": %d}\n",
           acknowledged, of_other, errors, reads, stale, hv_shard_server(store, shard));
    hv_close(store, 1000, NULL);
    hv_options_free(options);
    for (int i = 0; i < count; i++)
        free(writers[i].samples);
    for (int i = 0; i < OTHERS; i++)
        free(others[i].samples);
    return 0;
}
