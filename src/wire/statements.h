/*
 * statements: which statements a connection has prepared; the least recently used go first.
 *
 * A server may hold hundreds of shards, and each has its own statements; every one that a
 * connection keeps prepared costs its server process memory. So a connection keeps a bounded
 * number. A statement is known by what it does and for which shard, packed into a number.
 */
#ifndef HVI_STATEMENTS_H
#define HVI_STATEMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

/* What prepared statements do. Names are for people: they show in pg_prepared_statements. */
typedef enum hvi_statement_verb {
    HVI_STATEMENT_PUT,
    HVI_STATEMENT_PUT_KEY,
    HVI_STATEMENT_PUT_ONCE,
    HVI_STATEMENT_PUT_MANY,
    HVI_STATEMENT_PUT_KEY_MANY,
    HVI_STATEMENT_PUT_ONCE_MANY,
    HVI_STATEMENT_GET,
    HVI_STATEMENT_GET_MANY,
    HVI_STATEMENT_RESERVE,
} hvi_statement_verb;

#define HVI_NO_STATEMENT       UINT32_MAX
#define HVI_STATEMENT_NAME_LEN 32

static inline uint32_t hvi_statement_id(hvi_statement_verb verb, int shard) {
    return (uint32_t) verb << 16 | (uint32_t) shard;
}

/* For example "hv_put_0012". */
void hvi_statement_name(uint32_t id, char name[HVI_STATEMENT_NAME_LEN]);

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
bool hvi_statements_use(hvi_statements *statements, uint32_t id);

/* The one to give up before another is added: HVI_NO_STATEMENT while there is room. */
uint32_t hvi_statements_oldest(const hvi_statements *statements);

/* Note one as prepared. There must be room. False if memory is short. */
bool hvi_statements_add(hvi_statements *statements, uint32_t id);

/* Forget one; nothing happens if it is not there. */
void hvi_statements_remove(hvi_statements *statements, uint32_t id);

/* Forget all. */
void hvi_statements_clear(hvi_statements *statements);

#endif
