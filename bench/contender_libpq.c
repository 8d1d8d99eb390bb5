/*
 * contender_libpq: single operations with libpq alone, on a connection for each caller, or from a
 * pool that is a queue of connections, as in many programs.
 */
#include <pthread.h>
#include <stdlib.h>

#include "statements.h"

/* ---- raw: a connection for each caller ---- */

typedef struct raw_caller {
    PGconn *conn;
    bench_body body;
} raw_caller;

static void *raw_open(const bench_settings *settings) {
    (void) settings;
    return NULL;
}

static void raw_close(void *shared) {
    (void) shared;
}

static void *raw_start(void *shared, const bench_settings *settings) {
    (void) shared;
    raw_caller *mine = malloc(sizeof *mine);
    mine->conn = bench_connect(settings);
    bench_body_init(&mine->body);
    return mine;
}

static void raw_stop(void *own) {
    raw_caller *mine = own;
    PQfinish(mine->conn);
    free(mine);
}

static void raw_put(void *own, bench_request *request) {
    raw_caller *mine = own;
    bench_put_one(mine->conn, &mine->body, request->shards[0], &request->keys[0]);
}

static void raw_get(void *own, bench_request *request) {
    raw_caller *mine = own;
    bench_get_one(mine->conn, &mine->body, request->shards[0], request->keys[0]);
}

const bench_contender bench_raw = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .start = raw_start,
    .stop = raw_stop,
    .call = {[BENCH_PUT] = raw_put, [BENCH_GET] = raw_get},
};

/* ---- queue: a caller takes the first connection of a queue, and puts it back ---- */

typedef struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    PGconn **free; /* a ring buffer */
    int size;
    int first;
    int count;
    bench_body body;
} queue;

static void *queue_open(const bench_settings *settings) {
    queue *made = calloc(1, sizeof *made);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->not_empty, NULL);
    made->size = made->count = settings->connections;
    made->free = calloc((size_t) made->size, sizeof(PGconn *));
    for (int i = 0; i < made->size; i++)
        made->free[i] = bench_connect(settings);
    bench_body_init(&made->body);
    return made;
}

static void queue_close(void *shared) {
    queue *closed = shared;
    for (int i = 0; i < closed->size; i++)
        PQfinish(closed->free[i]);
    pthread_cond_destroy(&closed->not_empty);
    pthread_mutex_destroy(&closed->lock);
    free(closed->free);
    free(closed);
}

static PGconn *take(queue *from) {
    pthread_mutex_lock(&from->lock);
    while (from->count == 0)
        pthread_cond_wait(&from->not_empty, &from->lock);
    PGconn *conn = from->free[from->first];
    from->first = (from->first + 1) % from->size;
    from->count--;
    pthread_mutex_unlock(&from->lock);
    return conn;
}

static void give(queue *to, PGconn *conn) {
    pthread_mutex_lock(&to->lock);
    to->free[(to->first + to->count++) % to->size] = conn;
    pthread_cond_signal(&to->not_empty);
    pthread_mutex_unlock(&to->lock);
}

static void queue_put(void *own, bench_request *request) {
    queue *shared = own;
    PGconn *conn = take(shared);
    bench_put_one(conn, &shared->body, request->shards[0], &request->keys[0]);
    give(shared, conn);
}

static void queue_get(void *own, bench_request *request) {
    queue *shared = own;
    PGconn *conn = take(shared);
    bench_get_one(conn, &shared->body, request->shards[0], request->keys[0]);
    give(shared, conn);
}

static void queue_borrow(void *own, bench_request *request) {
    (void) request;
    give(own, take(own));
}

const bench_contender bench_queue = {
    .name = "queue",
    .open = queue_open,
    .close = queue_close,
    .call = {[BENCH_PUT] = queue_put, [BENCH_GET] = queue_get, [BENCH_BORROW] = queue_borrow},
};
