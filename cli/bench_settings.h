/*
 * bench_settings: what one run of `hv bench` is to do.
 */
#ifndef BENCH_SETTINGS_H
#define BENCH_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

/* The attribute of every entity of a run whose value is the run's mark. */
#define BENCH_MARK "bench"

typedef enum bench_verb {
    BENCH_PUT,
    BENCH_GET,
    BENCH_VERBS,
} bench_verb;

typedef struct bench_settings {
    const char *work; /* "put", "get" or "mix" */
    int get_percent;
    int callers;
    int64_t seconds;
    int64_t warmup; /* seconds */
    int64_t rate;   /* operations a second; 0: each caller begins one when its last has ended */
    int kind;
    int64_t value_size; /* bytes of one attribute's value; -1: a typical record */
    int64_t entities;   /* put first, to be got */
    int *shards;        /* ascending; owned by the command */
    int shard_count;
    bool keep;
    bool via_pool;    /* on borrowed connections, not by hv_put() and hv_get() */
    bool prepare;     /* the store's options of these names: */
    int prepared_max; /* … for borrowed connections */
    char mark[17];    /* random, tells this run's entities from all others */
} bench_settings;

#endif
