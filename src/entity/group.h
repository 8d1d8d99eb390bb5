/*
 * group: items of one verb and shard as one statement: its SQL, its parameters and its answer.
 *
 * Which answer is whose never depends on the order of rows: entities are found by their keys, and
 * new keys are stored and given out by the position of the item that they were made for.
 */
#ifndef HVI_GROUP_H
#define HVI_GROUP_H

#include "base/buffer.h"
#include "wire/session.h"
#include "entity/verb.h"

#define HVI_GROUP_SQL_LEN 900

/* Items of one verb and shard, next to each other. */
typedef struct hvi_group {
    hvi_item *const *items; /* not owned */
    size_t count;
    bool plain;      /* one item, with the verb's statement for one */
    hv_error *error; /* the error of its items, if they have one of their own; owned */
    char sql[HVI_GROUP_SQL_LEN];

    /* The parameters. */
    char numbers[HVI_PARAMETERS_MAX][8]; /* single ones */
    hvi_buffer bytes;                    /* arrays, or what the log sees */
    const char *values[HVI_PARAMETERS_MAX];
    int lengths[HVI_PARAMETERS_MAX];
    uint32_t types[HVI_PARAMETERS_MAX];
    const char *log_values[HVI_PARAMETERS_MAX];
} hvi_group;

/*
 * Sort items into groups; `groups` has room for one each. Returns how many. With `apart` each item
 * is a group of its own, in the order given, with the statement for one: which needs to know no
 * type of the database's, and whose answer leaves nothing open. Where its key has an entity, it is
 * refused.
 */
size_t hvi_groups_make(hvi_item **items, size_t count, bool apart, hvi_group *groups);

/* Make the group's query for this session, which lives as long as the group. With `log`, of a plain
 * one, the log sees the parameters. False if memory is short. */
bool hvi_group_query(hvi_group *group, const hvi_session *session, bool log, hvi_query *query);

/* The query was sent: its parameters can go. */
void hvi_group_forget_parameters(hvi_group *group);

/*
 * Fill in what its statement gave each item; `server` is for the error. A put under a given key
 * that went together with others and is neither `answered` nor `swallowed` has an entity in its
 * way, or was swallowed: it has to go apart to know. So have two items that put under the same key:
 * it is not known which was stored.
 */
void hvi_group_answer(hvi_group *group, const PGresult *result, const char *server);

void hvi_group_fini(hvi_group *group);

/* ---- for the functions that read answers ---- */

/* The first of the items, which are sorted by key, that has this one, or the place where it would
 * be. */
size_t hvi_items_find(hvi_item *const *items, size_t count, int64_t key);

#endif
