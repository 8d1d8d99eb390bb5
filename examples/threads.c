/*
 * threads: many threads share one store: each puts entities into all shards in turn and reads them
 * back.
 *
 *     cc -pthread threads.c $(pkg-config --cflags --libs hypervault) -o threads && ./threads 8 100
 */
#include <hypervault.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 256

static hv_store *store; /* set before the threads start */
static int rounds;

/* One thread's work. Each has numbers of its own, so that none needs a lock. */
typedef struct worker {
    char name[16];
    int stored, failed;
} worker;

/* Put one entity that names its writer, and check that it comes back. */
static hv_status put_and_get(int shard, const char *writer, hv_error **error) {
    int64_t key;
    hv_entity *entity = NULL;
    hv_dict *dict = hv_dict_new();
    if (dict == NULL)
        return HV_NO_MEMORY;
    hv_status status = hv_dict_set(dict, "writer", writer, error);
    if (status == HV_OK)
        status = hv_put(store, shard, 1, dict, &key, error);
    if (status == HV_OK)
        status = hv_get(store, key, &entity, error);
    const char *found = NULL;
    if (status == HV_OK) {
        hv_dict_get(hv_entity_dict(entity), "writer", HV_STRLEN, &found, NULL);
        if (found == NULL || strcmp(found, writer) != 0)
            status = HV_CORRUPT;
    }
    hv_entity_free(entity);
    hv_dict_free(dict);
    return status;
}

static void *work(void *argument) {
    worker *self = (worker *) argument;
    int shard = -1;
    for (int i = 0; i < rounds; i++) {
        hv_error *error = NULL;
        shard = hv_next_shard(store, -1, shard);
        if (shard < 0)
            shard = hv_next_shard(store, -1, -1);
        hv_status status = put_and_get(shard, self->name, &error);
        if (status == HV_OK) {
            self->stored++;
        } else {
            self->failed++;
            fprintf(stderr, "threads: shard %d: %s\n", shard,
                    error != NULL ? hv_error_message(error) : hv_status_name(status));
        }
        hv_error_free(error);
    }
    return NULL;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 8;
    rounds = argc > 2 ? atoi(argv[2]) : 100;
    if (count < 1 || count > MAX_THREADS || rounds < 0) {
        fprintf(stderr, "usage: threads [THREADS [ROUNDS]]\n");
        return 2;
    }
    hv_error *error = NULL;
    if (hv_open(NULL, &store, &error) != HV_OK) {
        fprintf(stderr, "threads: %s\n", hv_error_message(error));
        hv_error_free(error);
        return 1;
    }

    pthread_t threads[MAX_THREADS];
    static worker workers[MAX_THREADS];
    int started = 0, stored = 0, failed = 0;
    for (; started < count; started++) {
        snprintf(workers[started].name, sizeof workers[started].name, "thread %d", started);
        if (pthread_create(&threads[started], NULL, work, &workers[started]) != 0)
            break;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        stored += workers[i].stored;
        failed += workers[i].failed;
    }

    printf("%d threads stored and read %d entities, %d failed\n", started, stored, failed);
    for (int i = 0; i < hv_server_count(store); i++)
        printf("%s: %lld connections opened for %lld loans, %lld of which waited\n",
               hv_server_name(store, i), (long long) hv_pool_stat(store, i, HV_STAT_OPENED),
               (long long) hv_pool_stat(store, i, HV_STAT_LOANS),
               (long long) hv_pool_stat(store, i, HV_STAT_WAITS));
    hv_close(store, -1, NULL);
    return failed == 0 && started == count ? 0 : 1;
}
