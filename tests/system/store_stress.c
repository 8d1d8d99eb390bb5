/*
 * store_stress: many threads that put and get on one store, until stdin ends.
 *
 * usage: store_stress CONFIG THREADS FIRST_SHARD END_SHARD [OPTION=VALUE...]
 *
 * Every put has a writer (the thread) and a number, which are also its attributes, so that an
 * entity says who wrote it. Keys that were acknowledged are read back at once and again and again,
 * by all threads; an answer that is not the entity put is printed and ends the process with 1. At
 * the end one line for each put: writer, number, shard, status, key or 0, the time when it
 * ended in milliseconds by CLOCK_MONOTONIC. Then the longest time that any operation took: "slowest
 * MILLISECONDS".
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hypervault.h"

#define MAX_PUTS (1 << 20) /* of all threads */

typedef struct put {
    int writer;
    int number;
    int shard;
    hv_status status;
    int64_t key; /* 0 unless acknowledged */
    int64_t ended;
} put;

typedef struct worker {
    pthread_t thread;
    int writer;
    unsigned random;
    int64_t slowest;
} worker;

static hv_store *store;
static int first_shard, end_shard;
static put journal[MAX_PUTS]; /* [0, put_count) are taken */
static atomic_int put_count;
/* What is there to be read: places in the journal, published one after the other. */
static atomic_int acknowledged[MAX_PUTS];
static atomic_int acknowledged_count;
static atomic_bool ended;

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void die(const char *what, const put *of, hv_error *error) {
    printf("%s: writer %d number %d shard %d key %" PRId64 ": %s\n", what, of->writer, of->number,
           of->shard, of->key, error != NULL ? hv_error_message(error) : "");
    fflush(stdout);
    _exit(1);
}

static void note_time(worker *self, int64_t began) {
    int64_t took = now_ms() - began;
    if (took > self->slowest)
        self->slowest = took;
}

/* Bodies of different lengths: what one leaves in a buffer must not show in another. */
static hv_dict *make_body(const put *of) {
    static const char padding[] =
        "................................................................"
        "................................................................";
    char writer[16], number[16];
    hv_dict *dict = hv_dict_new();
    snprintf(writer, sizeof writer, "%d", of->writer);
    snprintf(number, sizeof number, "%d", of->number);
    hv_dict_set(dict, "writer", writer, NULL);
    hv_dict_set(dict, "number", number, NULL);
    hv_dict_set(dict, "padding", padding + of->number % (int) sizeof padding, NULL);
    return dict;
}

static void put_one(worker *self, int number) {
    int place = atomic_fetch_add(&put_count, 1);
    if (place >= MAX_PUTS)
        abort();
    put *this = &journal[place];
    this->writer = self->writer;
    this->number = number;
    this->shard = first_shard + rand_r(&self->random) % (end_shard - first_shard);
    hv_dict *body = make_body(this);
    hv_error *error = NULL;
    int64_t began = now_ms();
    this->status = hv_put(store, this->shard, number % 1000, body, &this->key, &error);
    note_time(self, began);
    this->ended = now_ms();
    if (this->status == HV_OK)
        atomic_store(&acknowledged[atomic_fetch_add(&acknowledged_count, 1)], place + 1);
    else if (hv_error_outcome_unknown(error) != (this->status == HV_OUTCOME_UNKNOWN))
        die("wrong error", this, error);
    hv_dict_free(body);
    hv_error_free(error);
}

/* Read back what somebody put. Only a server that cannot be reached is an excuse. */
static void get_one(worker *self, int place) {
    const put *of = &journal[place];
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    int64_t began = now_ms();
    hv_status status = hv_get(store, of->key, &entity, &error);
    note_time(self, began);
    if (status == HV_OK) {
        hv_dict *body = make_body(of);
        if (hv_entity_key(entity) != of->key || hv_entity_kind(entity) != of->number % 1000 ||
            !hv_dict_equal(hv_entity_dict(entity), body))
            die("another entity", of, NULL);
        hv_dict_free(body);
    } else if (status == HV_NOT_FOUND) {
        die("lost", of, NULL);
    } else if (!hv_error_retriable(error)) {
        die("not retriable", of, error);
    }
    hv_entity_free(entity);
    hv_error_free(error);
}

static void *work(void *context) {
    worker *self = context;
    for (int number = 0; !atomic_load(&ended); number++) {
        put_one(self, number);
        int count = atomic_load(&acknowledged_count);
        for (int i = 0; i < 2 && count > 0; i++) {
            int place = atomic_load(&acknowledged[rand_r(&self->random) % count]);
            if (place > 0)
                get_one(self, place - 1);
        }
    }
    return NULL;
}

static void open_store(int argc, char **argv) {
    hv_error *error = NULL;
    hv_options *options = hv_options_new();
    hv_status status = hv_options_load(options, argv[1], NULL, &error);
    for (int i = 5; i < argc && status == HV_OK; i++) {
        char *value = strchr(argv[i], '=');
        *value++ = '\0';
        status = hv_options_set(options, argv[i], value, &error);
    }
    if (status == HV_OK)
        status = hv_open(options, &store, &error);
    if (status != HV_OK) {
        fprintf(stderr, "%s\n", hv_error_message(error));
        exit(2);
    }
    hv_options_free(options);
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    int threads = atoi(argv[2]);
    int64_t slowest = 0;
    first_shard = atoi(argv[3]);
    end_shard = atoi(argv[4]);
    open_store(argc, argv);
    worker *workers = calloc((size_t) threads, sizeof *workers);
    for (int i = 0; i < threads; i++) {
        workers[i].writer = i;
        workers[i].random = (unsigned) i + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    atomic_store(&ended, true);
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].slowest > slowest)
            slowest = workers[i].slowest;
    }
    free(workers);
    if (hv_close(store, 0, NULL) != HV_OK)
        return 3;
    for (int i = 0; i < put_count; i++)
        printf("%d %d %d %s %" PRId64 " %" PRId64 "\n", journal[i].writer, journal[i].number,
               journal[i].shard, hv_status_name(journal[i].status), journal[i].key,
               journal[i].ended);
    printf("slowest %" PRId64 "\n", slowest);
    return 0;
}
