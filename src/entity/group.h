/*
 * group: items of one verb and shard as one statement: its SQL, its parameters and its answer.
 *
 * Two batches that change the same entities must lock their rows in the same order, or they wait
 * for each other until the server finds the deadlock, after a second. The statements of one verb
 * run in the order of shards and lock rows in the order of keys. Where a batch changes entities in
 * several ways, or one entity several times, a group for each shard comes first that only locks all
 * of them.
 *
 * Which item an answer belongs to never depends on the order of rows: entities are found by their
 * keys, and new keys are stored and assigned by the position of the item that they were made for.
 */
#ifndef HVI_GROUP_H
#define HVI_GROUP_H

#include "base/buffer.h"
#include "wire/session.h"
#include "entity/verb.h"

#define HVI_GROUP_SQL_LEN 4096

/* Items of one verb and shard, next to each other. */
typedef struct hvi_group {
    const hvi_verb *verb;
    hvi_item *const *items; /* not owned */
    size_t count;
    bool plain;      /* one item, with the verb's statement for one */
    hv_error *error; /* the error of its items, if the group has its own; owned */
    char sql[HVI_GROUP_SQL_LEN];

    /* The parameters. */
    char numbers[HVI_PARAMETERS_MAX][8]; /* single ones */
    hvi_buffer bytes;                    /* arrays, or texts for the log */
    const char *values[HVI_PARAMETERS_MAX];
    int lengths[HVI_PARAMETERS_MAX];
    uint32_t types[HVI_PARAMETERS_MAX];
    const char *log_values[HVI_PARAMETERS_MAX];
} hvi_group;

/*
 * Sort items into groups. Returns how many groups there are; `items` and `groups` have room for two
 * per item, or for one if there are no changes among them.
 * The statements run in the order of the groups. Items with the same key, one of which changes what
 * is under it, are in different groups, in their given order.
 *
 * With `apart` each item is a group of its own, in the given order, with the statement for one,
 * which needs no type numbers of the database and has an unambiguous answer. If its key has an
 * entity, it is refused.
 */
size_t hvi_groups_make(hvi_item **items, size_t count, bool apart, hvi_group *groups);

/* Move those items to the front, in their order, that need not come after another one of them.
 * Returns how many there are. */
size_t hvi_items_first(hvi_item **items, size_t count);

/* Make the group's query for this session; it is valid as long as the group. With `log`, the
 * parameters of a plain group go to the log. False if memory is short. */
bool hvi_group_query(hvi_group *group, const hvi_session *session, bool log, hvi_query *query);

/* Free the parameters of the query, which has been sent. */
void hvi_group_forget_parameters(hvi_group *group);

/*
 * Fill in what the statement, if it was not to lock rows, gave each item; `server` is for the
 * error. If a put under a given key went together with others and is neither `answered` nor
 * `swallowed`, its key has an entity, or it was swallowed: it has to go apart to find out.
 */
void hvi_group_answer(hvi_group *group, const PGresult *result, const char *server);

void hvi_group_fini(hvi_group *group);

/* ---- for the functions that read answers ---- */

/* The first of these items, sorted by key, that has this key, or the place where it would be. */
size_t hvi_items_find(hvi_item *const *items, size_t count, int64_t key);

#endif
