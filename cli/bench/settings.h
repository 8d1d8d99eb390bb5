/*
 * settings: the settings of one run of `hv bench`.
 */
#ifndef BENCH_SETTINGS_H
#define BENCH_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

/* The attribute of every entity of a run whose value is the run's mark. */
#define BENCH_MARK "bench"

/* The attribute that merges set: not one of those that are put. */
#define BENCH_CHANGED "changed"

typedef enum bench_verb {
    BENCH_PUT,
    BENCH_GET,
    BENCH_MERGE,
    BENCH_MODIFY, /* get, and merge what follows from it if nobody has changed it; or begin again */
    BENCH_DELETE,
    BENCH_VERBS,
} bench_verb;

static inline const char *bench_verb_name(bench_verb verb) {
    static const char *const names[] = {"put", "get", "merge", "modify", "delete"};
    return names[verb];
}

/* How operations reach the servers. */
typedef enum bench_way {
    BENCH_VIA_STORE, /* hv_put(), hv_get() and so on, or those of many at once */
    BENCH_VIA_LANE,  /* the same, with lanes whatever the configuration says */
    BENCH_VIA_POOL,  /* on borrowed connections */
    BENCH_WAYS,
} bench_way;

static inline const char *bench_way_name(bench_way way) {
    static const char *const names[] = {"store", "lane", "pool"};
    return names[way];
}

typedef struct bench_settings {
    const char *work; /* "mix", or the name of a verb */
    int get_percent;
    bench_verb write; /* what those are that are no gets */
    int callers;
    int batch; /* operations in one call */
    int64_t seconds;
    int64_t warmup; /* seconds */
    int64_t rate;   /* operations a second; 0: each caller begins one when its last has ended */
    int kind;
    int64_t value_size; /* bytes of one attribute's value; -1: a typical record */
    int64_t entities;   /* put first, to be got or changed */
    int *shards;        /* ascending; owned by the command */
    int shard_count;
    bool keep;
    bench_way way;
    int lanes;        /* the store's options of these names … */
    bool prepare;     /* … for borrowed connections */
    int prepared_max; /* … for borrowed connections */
    char mark[17];    /* random, distinguishes this run's entities from all others */
} bench_settings;

/* Is this verb a part of the run? */
static inline bool bench_has_verb(const bench_settings *settings, bench_verb verb) {
    return verb == BENCH_GET ? settings->get_percent > 0
                             : verb == settings->write && settings->get_percent < 100;
}

#endif
