/*
 * finder: what the program `finders` can measure, each a way to read entities of many shards.
 *
 * A way is opened once, and reads for one caller. Any error ends the program with a message.
 */
#ifndef BENCH_FINDER_H
#define BENCH_FINDER_H

#include <stdint.h>

#include "statements.h"

#define FINDER_SERVERS 2

/* The shards are those from 1 on; the odd ones are on the first server, the even ones on the
 * second. The table one.entities, on the first, has the entities of them all. */
typedef struct finder_settings {
    const char *config;                 /* the store's configuration file */
    const char *server[FINDER_SERVERS]; /* the same servers as connection strings of libpq */
    int shards;
    int limit;      /* the newest so many, or 0: all of them, the oldest first */
    int users;      /* above 0: only those with the attribute "user" of one of so many users */
    double seconds; /* for reading again and again, after a fifth of it to warm up; 0: once */
} finder_settings;

/* What was read: its size, and the sum of all keys, which is the same for all ways. */
typedef struct finder_found {
    int64_t rows;
    uint64_t keys;
    int64_t attributes; /* 0 if the way does not look at them */
} finder_found;

typedef struct finder_way {
    const char *name;
    void *(*open)(const finder_settings *settings);
    void (*close)(void *mine);
    /* Read; `user` is NULL, or the user as text. NULL if the way has no such function. */
    void (*newest)(void *mine, const char *user, finder_found *found);
    void (*all)(void *mine, finder_found *found);
} finder_way;

extern const finder_way finder_hv;    /* hv_find() */
extern const finder_way finder_table; /* libpq on the one table */
extern const finder_way finder_loop;  /* libpq on one shard after the other */
extern const finder_way finder_union; /* libpq with one statement for each server, both at once */
extern const finder_way finder_copy;  /* COPY TO of one shard after the other, in binary */

/* Count a row. Ends the program if its key is out of order: ascending, or descending with a
 * limit. */
void finder_see(const finder_settings *settings, finder_found *found, int64_t *last, int64_t key);

#endif
