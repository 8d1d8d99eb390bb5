/*
 * group: operations on entities of one shard as one statement: its SQL, parameters and answers.
 *
 * Which answer is whose never depends on the order of rows: entities are found by their keys, and
 * new keys come with the position of the operation that they were made for.
 */
#ifndef HVI_GROUP_H
#define HVI_GROUP_H

#include "buffer.h"
#include "session.h"

typedef enum hvi_verb {
    HVI_GET,
    HVI_PUT,     /* under a new key */
    HVI_PUT_KEY, /* under a given one, unless it has an entity */
    HVI_RESERVE, /* one unused key */
} hvi_verb;

/* One operation, and what its statement gave. */
typedef struct hvi_item {
    hvi_verb verb;
    int shard;
    int64_t key;      /* get, put_key */
    int kind;         /* put, put_key */
    const char *body; /* put, put_key: hstore, binary; not owned */
    size_t body_len;

    bool answered;          /* get: found; put_key: stored; put, reserve: a key was given */
    int64_t new_key;        /* put, reserve */
    const PGresult *result; /* get: id, type, body in binary, in … */
    int row;                /* … this row */
} hvi_item;

/* Items of one verb and shard, next to each other. */
typedef struct hvi_group {
    hvi_item **items; /* not owned */
    size_t count;
    char sql[384];
    hvi_buffer bytes; /* the parameters */
    const char *values[3];
    int lengths[3];
    uint32_t types[3];
} hvi_group;

/* Sort items into groups; `groups` has room for one each, all zero. Returns how many. */
size_t hvi_groups_make(hvi_item **items, size_t count, hvi_group *groups);

/* As above, but each item is a group of its own, in the order given. */
void hvi_groups_make_apart(hvi_item **items, size_t count, hvi_group *groups);

/* Make the group's query, which lives as long as the group. `hstore` and `hstore_array` are the
 * types in this database. False if memory is short. */
bool hvi_group_query(hvi_group *group, uint32_t hstore, uint32_t hstore_array, hvi_query *query);

/* The query was sent: its parameters can go. */
void hvi_group_forget_parameters(hvi_group *group);

/* Fill in what its statement gave each item. Two items that put under the same key are both not
 * `answered`: which of them was stored is not told. */
void hvi_group_answer(const hvi_group *group, const PGresult *result);

void hvi_group_fini(hvi_group *group);

#endif
