/*
 * statements: which statements a connection has prepared; the least recently used go first.
 *
 * A server may hold hundreds of shards, and each has its own statements; every one that a
 * connection keeps prepared costs its server process memory. So a connection keeps a bounded
 * number.
 */
#ifndef HVI_STATEMENTS_H
#define HVI_STATEMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define HVI_STATEMENT_NAME_LEN 32

/* The purpose of a prepared statement, and its shard. */
typedef struct hvi_statement_id {
    const char *verb; /* "put_many", one static text for each; NULL: no statement */
    int shard;
} hvi_statement_id;

/* For example "hv_put_0012". Names are for people: they show in pg_prepared_statements. */
void hvi_statement_name(hvi_statement_id id, char name[HVI_STATEMENT_NAME_LEN]);

typedef struct hvi_statements {
    struct hvi_statement *entries;  /* `max` of them, allocated at the first use; owned */
    struct hvi_statement **buckets; /* hash table of chains, `bucket_count` long; owned */
    uint32_t bucket_count;          /* a power of two */
    uint32_t max;
    uint32_t count;
    hvi_list order; /* most recently used first */
} hvi_statements;

/* `max` at least 1. Allocates nothing. */
void hvi_statements_init(hvi_statements *statements, uint32_t max);
void hvi_statements_fini(hvi_statements *statements);

/* Is this one prepared? If so it becomes the most recently used. */
bool hvi_statements_use(hvi_statements *statements, hvi_statement_id id);

/* The one to give up before another is added: none while there is room. */
hvi_statement_id hvi_statements_oldest(const hvi_statements *statements);

/* Note one as prepared. There must be room. False if memory is short. */
bool hvi_statements_add(hvi_statements *statements, hvi_statement_id id);

/* Forget one; nothing happens if it is not there. */
void hvi_statements_remove(hvi_statements *statements, hvi_statement_id id);

/* Forget all. */
void hvi_statements_clear(hvi_statements *statements);

#endif
