/*
 * store_stress: many threads that put and get on one store, until stdin ends.
 *
 * usage: store_stress CONFIG THREADS FIRST_SHARD END_SHARD [writers=N] [ways=WAY,...]
 *                     [OPTION=VALUE...]
 *
 * Every put has a writer (the thread, numbered from N) and a number, which are also its attributes,
 * so that an entity says which put stored it. The threads take turns in the WAYs of putting (see
 * store_stress_ways.c; "put" by default). Keys that were acknowledged are read back at
 * once and again and again, by all threads; an answer that is not the entity put is printed and
 * ends the process with 1. At the end one line for each put: writer, number, shard, status, key or
 * 0, the time when it ended in milliseconds by CLOCK_MONOTONIC. Then the longest time that any
 * single operation took: "slowest MILLISECONDS".
 */
#include "store_stress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_PUTS (1 << 22) /* of all threads */

hv_store *stress_store;
atomic_bool stress_ended;

static int first_shard, end_shard;
static put journal[MAX_PUTS]; /* the puts [0, put_count) have begun */
static atomic_int put_count;
/* The entities to be read: indexes into the journal + 1, published one after the other. */
static atomic_int acknowledged[MAX_PUTS];
static atomic_int acknowledged_count;

int64_t stress_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void stress_die(const char *what, const put *of, hv_error *error) {
    printf("%s: writer %d number %d shard %d key %" PRId64 ": %s %s\n", what, of->writer,
           of->number, of->shard, of->key,
           hv_status_name(error != NULL ? hv_error_status(error) : of->status),
           error != NULL ? hv_error_message(error) : "");
    fflush(stdout);
    _exit(1);
}

void stress_note_time(worker *self, int64_t began) {
    int64_t took = stress_now_ms() - began;
    if (took > self->slowest)
        self->slowest = took;
}

put *stress_begin(worker *self, int server) {
    int place = atomic_fetch_add(&put_count, 1);
    if (place >= MAX_PUTS)
        abort();
    put *this = &journal[place];
    this->writer = self->writer;
    this->number = self->number++;
    do
        this->shard = first_shard + rand_r(&self->random) % (end_shard - first_shard);
    while (server >= 0 && hv_shard_server(stress_store, this->shard) != server);
    return this;
}

/* Bodies of different lengths: what one leaves in a buffer must not show in another. */
hv_dict *stress_body(const put *of) {
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

int stress_kind(const put *of) {
    return of->number % 1000;
}

void stress_end(put *this, hv_status status, int64_t key, hv_error *error) {
    this->status = status;
    this->key = status == HV_OK ? key : 0;
    this->ended = stress_now_ms();
    if (this->key != 0)
        atomic_store(&acknowledged[atomic_fetch_add(&acknowledged_count, 1)],
                     (int) (this - journal) + 1);
    else if (status != HV_OK && hv_error_outcome_unknown(error) != (status == HV_OUTCOME_UNKNOWN))
        stress_die("wrong error", this, error);
    hv_error_free(error);
}

/* Read back what some thread has put. Only an unreachable server is an excuse for a failure. */
static void get_one(worker *self, const put *of) {
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    int64_t began = stress_now_ms();
    hv_status status = hv_get(stress_store, of->key, &entity, &error);
    stress_note_time(self, began);
    if (status == HV_OK) {
        hv_dict *body = stress_body(of);
        if (hv_entity_key(entity) != of->key || hv_entity_kind(entity) != stress_kind(of) ||
            !hv_dict_equal(hv_entity_dict(entity), body))
            stress_die("another entity", of, NULL);
        hv_dict_free(body);
    } else if (status == HV_NOT_FOUND) {
        stress_die("lost", of, NULL);
    } else if (!hv_error_retriable(error)) {
        stress_die("not retriable", of, error);
    }
    hv_entity_free(entity);
    hv_error_free(error);
}

static void *work(void *context) {
    worker *self = context;
    while (!atomic_load(&stress_ended)) {
        self->way(self);
        int count = atomic_load(&acknowledged_count);
        for (int i = 0; i < 2 && count > 0; i++) {
            int place = atomic_load(&acknowledged[rand_r(&self->random) % count]);
            if (place > 0)
                get_one(self, &journal[place - 1]);
        }
    }
    stress_way_fini(self);
    return NULL;
}

/* ---- the command line ---- */

/* The value of `name`=…, which is removed from the arguments; NULL if it is not among them. */
static char *take_argument(int *argc, char **argv, const char *name) {
    size_t len = strlen(name);
    for (int i = 5; i < *argc; i++) {
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            char *value = argv[i] + len + 1;
            memmove(&argv[i], &argv[i + 1], (size_t) (--*argc - i) * sizeof *argv);
            return value;
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
        status = hv_open(options, &stress_store, &error);
    if (status != HV_OK) {
        fprintf(stderr, "%s\n", hv_error_message(error));
        exit(2);
    }
    hv_options_free(options);
}

/* Give each worker its way: they take turns. */
static void share_out(worker *workers, int threads, char *ways) {
    way_fn found[8];
    int count = 0;
    for (char *rest = NULL, *name = strtok_r(ways, ",", &rest); name != NULL && count < 8;
         name = strtok_r(NULL, ",", &rest)) {
        found[count] = stress_way(name);
        if (found[count++] == NULL) {
            fprintf(stderr, "there is no way \"%s\"\n", name);
            exit(2);
        }
    }
    for (int i = 0; i < threads; i++) {
        workers[i].way = found[i % count];
        workers[i].load_server = i % hv_server_count(stress_store);
    }
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    char only_put[] = "put";
    int threads = atoi(argv[2]);
    const char *writers = take_argument(&argc, argv, "writers");
    char *ways = take_argument(&argc, argv, "ways");
    int first_writer = writers != NULL ? atoi(writers) : 0;
    int64_t slowest = 0;
    first_shard = atoi(argv[3]);
    end_shard = atoi(argv[4]);
    open_store(argc, argv);
    worker *workers = calloc((size_t) threads, sizeof *workers);
    share_out(workers, threads, ways != NULL ? ways : only_put);
    for (int i = 0; i < threads; i++) {
        workers[i].writer = first_writer + i;
        workers[i].random = (unsigned) (first_writer + i) + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    atomic_store(&stress_ended, true);
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].slowest > slowest)
            slowest = workers[i].slowest;
    }
    free(workers);
    if (hv_close(stress_store, 0, NULL) != HV_OK)
        return 3;
    for (int i = 0; i < put_count; i++)
        printf("%d %d %d %s %" PRId64 " %" PRId64 "\n", journal[i].writer, journal[i].number,
               journal[i].shard, hv_status_name(journal[i].status), journal[i].key,
               journal[i].ended);
    printf("slowest %" PRId64 "\n", slowest);
    return 0;
}
