/*
 * event_loop: many chains of operations at once in one thread that never blocks, driven by
 * epoll(7). Each chain stores an entity, fetches it when it is stored, and then begins again.
 *
 *     cc event_loop.c $(pkg-config --cflags --libs hypervault) -o event_loop && ./event_loop 2000 5
 *
 * A program with an event loop of its own adds hv_queue_fd() to the descriptors that it watches
 * (with libuv a uv_poll_t, UV_READABLE) and calls hv_queue_advance(queue, 0) when it is readable.
 * The timer here stands for whatever else such a program does: it is never kept waiting.
 */
#include <hypervault.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* One chain: the result of each operation decides what it does next. */
typedef struct chain {
    int shard;
    int rounds_left;
} chain;

static hv_queue *queue;
static hv_dict *dict;
static long stored, fetched, failed;

static void put(chain *c) {
    hv_new_entity entity;
    memset(&entity, 0, sizeof entity);
    entity.shard = c->shard;
    entity.kind = 1;
    entity.dict = dict;
    if (hv_queue_put(queue, &entity, c, NULL) != HV_OK)
        failed++;
}

static void get(chain *c, int64_t key) {
    if (hv_queue_get(queue, key, c, NULL) != HV_OK)
        failed++;
}

/* Called by hv_queue_advance() for each operation that is done. */
static void done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                 hv_error *error) {
    (void) context;
    chain *c = (chain *) tag;
    if (status != HV_OK) {
        if (failed++ == 0)
            fprintf(stderr, "event_loop: %s\n",
                    error != NULL ? hv_error_message(error) : hv_status_name(status));
    } else if (entity == NULL) {
        stored++;
        get(c, key);
    } else {
        fetched++;
        if (--c->rounds_left > 0)
            put(c);
    }
    hv_entity_free(entity);
    hv_error_free(error);
}

static void watch(int epoll, int fd) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        abort();
}

/* Run until nothing is pending. Returns how often the timer ticked meanwhile. */
static uint64_t loop(void) {
    uint64_t ticks = 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec often = {{0, 10000000}, {0, 10000000}}; /* every 10 ms */
    timerfd_settime(timer, 0, &often, NULL);
    watch(epoll, timer);
    watch(epoll, hv_queue_fd(queue));
    while (hv_queue_pending(queue) > 0) {
        struct epoll_event events[2];
        uint64_t expired;
        int count = epoll_wait(epoll, events, 2, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == hv_queue_fd(queue))
                hv_queue_advance(queue, 0);
            else if (read(timer, &expired, sizeof expired) == sizeof expired)
                ticks += expired;
        }
    }
    close(timer);
    close(epoll);
    return ticks;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1000;
    int rounds = argc > 2 ? atoi(argv[2]) : 1;
    if (count < 1 || rounds < 1) {
        fprintf(stderr, "usage: event_loop [CHAINS [ROUNDS]]\n");
        return 2;
    }
    hv_store *store = NULL;
    hv_error *error = NULL;
    dict = hv_dict_new();
    chain *chains = (chain *) calloc((size_t) count, sizeof *chains);
    if (chains == NULL || dict == NULL || hv_dict_set(dict, "beep", "boop", &error) != HV_OK ||
        hv_open(NULL, &store, &error) != HV_OK ||
        hv_queue_new(store, done, NULL, &queue, &error) != HV_OK) {
        fprintf(stderr, "event_loop: %s\n", error != NULL ? hv_error_message(error) : "no memory");
        return 1;
    }

    int shard = -1;
    for (int i = 0; i < count; i++) {
        shard = hv_next_shard(store, -1, shard);
        if (shard < 0)
            shard = hv_next_shard(store, -1, -1);
        chains[i].shard = shard;
        chains[i].rounds_left = rounds;
        put(&chains[i]);
    }
    uint64_t ticks = loop();
    printf("%ld stored, %ld fetched, %ld failed, in one thread that ticked %" PRIu64 " times\n",
           stored, fetched, failed, ticks);

    hv_queue_free(queue);
    hv_close(store, -1, NULL);
    hv_dict_free(dict);
    free(chains);
    return failed == 0 ? 0 : 1;
}
