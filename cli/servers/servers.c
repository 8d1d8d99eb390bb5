/*
 * servers: do something on all servers of a store at the same time.
 */
#include "servers/servers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "ui/memory.h"

typedef struct work {
    server_task task;
    hv_store *store;
    int server;
    void *item;
    pthread_t thread;
    bool started;
} work;

static void *run_task(void *argument) {
    work *one = argument;
    one->task(one->store, one->server, one->item);
    return NULL;
}

void on_all_servers(hv_store *store, server_task task, void *items, size_t item_size) {
    int count = hv_server_count(store);
    work *all = new_memory((size_t) count * sizeof *all);
    for (int i = 0; i < count; i++) {
        all[i] = (work){.task = task, .store = store, .server = i};
        all[i].item = (char *) items + (size_t) i * item_size;
        all[i].started = pthread_create(&all[i].thread, NULL, run_task, &all[i]) == 0;
    }
    for (int i = 0; i < count; i++)
        if (!all[i].started) /* there are no more threads: one after the other */
            run_task(&all[i]);
    for (int i = 0; i < count; i++)
        if (all[i].started)
            pthread_join(all[i].thread, NULL);
    free(all);
}

int count_shards(const hv_store *store, int server) {
    int count = 0;
    for (int shard = -1; (shard = hv_next_shard(store, server, shard)) >= 0;)
        count++;
    return count;
}
