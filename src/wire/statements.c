/*
 * statements: which statements a connection has prepared; the least recently used go first.
 *
 * Holds always: entries[0 .. count-1] are in use, each in `order` and in the chain of its bucket.
 * Removing one moves the last entry into its place.
 */
#include "wire/statements.h"

#include <stdlib.h>
#include <string.h>

#include "value/shard_map.h"

typedef struct hvi_statement {
    hvi_list link;              /* in order */
    struct hvi_statement *next; /* in its bucket */
    hvi_statement_id id;
} hvi_statement;

void hvi_statement_name(hvi_statement_id id, char name[HVI_STATEMENT_NAME_LEN]) {
    char *end = stpcpy(stpcpy(stpcpy(name, "hv_"), id.verb), "_");
    *hvi_shard_digits(id.shard, end) = '\0';
}

void hvi_statements_init(hvi_statements *statements, uint32_t max) {
    *statements = (hvi_statements){.max = max};
    hvi_list_init(&statements->order);
}

void hvi_statements_fini(hvi_statements *statements) {
    free(statements->entries);
    free(statements->buckets);
    hvi_statements_init(statements, statements->max);
}

/* The link that points at the entry, or the NULL one at the end of its chain. */
static hvi_statement **find(const hvi_statements *statements, hvi_statement_id id) {
    /* Knuth's multiplicative hash: numbers of shards are small and dense. */
    uint32_t number = 31 * (uint32_t) (uintptr_t) id.verb + (uint32_t) id.shard;
    uint32_t bucket = (number * UINT32_C(2654435761)) >> 8 & (statements->bucket_count - 1);
    hvi_statement **at = &statements->buckets[bucket];
    while (*at != NULL && ((*at)->id.verb != id.verb || (*at)->id.shard != id.shard))
        at = &(*at)->next;
    return at;
}

bool hvi_statements_use(hvi_statements *statements, hvi_statement_id id) {
    if (statements->count == 0)
        return false;
    hvi_statement *entry = *find(statements, id);
    if (entry == NULL)
        return false;
    hvi_list_remove(&entry->link);
    hvi_list_push_front(&statements->order, &entry->link);
    return true;
}

hvi_statement_id hvi_statements_oldest(const hvi_statements *statements) {
    if (statements->count < statements->max)
        return (hvi_statement_id){0};
    return hvi_list_entry(statements->order.prev, hvi_statement, link)->id;
}

/* Allocate the tables; they never grow, so entries only move when one is removed. */
static bool allocate(hvi_statements *statements) {
    uint32_t bucket_count = 16;
    while (bucket_count < statements->max)
        bucket_count *= 2;
    statements->entries = calloc(statements->max, sizeof *statements->entries);
    statements->buckets = calloc(bucket_count, sizeof(hvi_statement *));
    if (statements->entries == NULL || statements->buckets == NULL) {
        free(statements->entries);
        free(statements->buckets);
        statements->entries = NULL;
        statements->buckets = NULL;
        return false;
    }
    statements->bucket_count = bucket_count;
    return true;
}

bool hvi_statements_add(hvi_statements *statements, hvi_statement_id id) {
    if (statements->entries == NULL && !allocate(statements))
        return false;
    hvi_statement *entry = &statements->entries[statements->count++];
    entry->id = id;
    entry->next = NULL;
    *find(statements, id) = entry;
    hvi_list_push_front(&statements->order, &entry->link);
    return true;
}

void hvi_statements_remove(hvi_statements *statements, hvi_statement_id id) {
    if (statements->count == 0)
        return;
    hvi_statement **at = find(statements, id);
    hvi_statement *entry = *at;
    if (entry == NULL)
        return;
    *at = entry->next;
    hvi_list_remove(&entry->link);
    hvi_statement *last = &statements->entries[--statements->count];
    if (last == entry)
        return;
    /* Move the last entry here: its chain and its neighbours in the order must follow. */
    hvi_statement **to_last = find(statements, last->id);
    *entry = *last;
    *to_last = entry;
    hvi_list *before = last->link.prev;
    hvi_list_remove(&last->link);
    hvi_list_insert_after(before, &entry->link);
}

void hvi_statements_clear(hvi_statements *statements) {
    while (statements->count > 0)
        hvi_statements_remove(statements,
                              hvi_list_entry(statements->order.next, hvi_statement, link)->id);
}
