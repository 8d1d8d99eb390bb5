/*
 * contender: what the program `callers` can measure, each a way of using PostgreSQL.
 *
 * A contender is opened once; each caller, a thread, then starts its own part of it. Any error ends
 * the program with a message: a benchmark that goes on after an error measures nothing.
 */
#ifndef BENCH_CONTENDER_H
#define BENCH_CONTENDER_H

#include <stddef.h>
#include <stdint.h>

/* The entity that is put, and that every get must return: three small attributes. */
#define BENCH_KIND       7
#define BENCH_ATTRIBUTES 3
extern const char *const bench_attributes[BENCH_ATTRIBUTES][2];

/* A merge sets one of them. */
#define BENCH_MERGED 1
extern const char *const bench_merged[BENCH_MERGED][2];

typedef enum bench_verb {
    BENCH_PUT,
    BENCH_GET,
    BENCH_MERGE,
    BENCH_DELETE,
    BENCH_BORROW,
    BENCH_VERBS,
} bench_verb;

typedef struct bench_settings {
    bench_verb verb;
    int callers;
    int connections;    /* for a pool; a contender without one has a connection for each caller */
    int batch;          /* operations in one call; 1: the calls for single operations */
    double seconds;     /* to measure, after a fifth of it to warm up */
    double rate;        /* operations per second of all callers together; 0: as fast as they can */
    const char *config; /* the store's configuration file */
    const char *server; /* the same server as a connection string of libpq */
    int first_shard;    /* the shards to be used; they are on one server */
    int shard_count;
    int64_t first_moment;      /* the keys of entities that are there before the run are */
    int64_t entities_of_shard; /* (first_moment + n) << 23 | shard << 10, for each n below this */
} bench_settings;

/* One call. `shards` and `keys` have `count` elements. */
typedef struct bench_request {
    int count;
    int *shards;   /* the shards to put to or borrow from, or those of the keys */
    int64_t *keys; /* put: filled in, in the order of `shards`; get, merge, delete: given */
} bench_request;

typedef struct bench_contender {
    const char *name;
    void *(*open)(const bench_settings *settings);
    void (*close)(void *shared);
    /* Functions for a caller's own part; `start` may return `shared` itself. Either may be NULL. */
    void *(*start)(void *shared, const bench_settings *settings);
    void (*stop)(void *mine);
    void (*call[BENCH_VERBS])(void *mine, bench_request *request);
} bench_contender;

extern const bench_contender bench_hv;    /* libhypervault */
extern const bench_contender bench_raw;   /* a connection of its own for each caller */
extern const bench_contender bench_queue; /* connections in a queue, one borrowed for each call */
extern const bench_contender bench_array; /* many: one statement with arrays for each shard */
extern const bench_contender bench_pipelined; /* many: a statement each, in one pipeline */

/* Print a message and end the program. */
__attribute__((format(printf, 1, 2))) _Noreturn void bench_die(const char *format, ...);

#endif
