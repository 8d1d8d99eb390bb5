/*
 * group: operations on entities of one shard as one statement: its SQL, parameters and answers.
 *
 * Which answer is whose never depends on the order of rows: entities are found by their keys, and
 * new keys are stored and given out by the position of the operation that they were made for.
 */
#ifndef HVI_GROUP_H
#define HVI_GROUP_H

#include "base/buffer.h"
#include "wire/result.h"
#include "wire/session.h"
#include "entity/entity_sql.h"

typedef enum hvi_verb {
    HVI_GET,
    HVI_PUT,      /* under a new key */
    HVI_PUT_KEY,  /* under a given one, unless it has an entity */
    HVI_PUT_ONCE, /* the same, and reserve a key for the next */
    HVI_RESERVE,  /* one unused key */
} hvi_verb;

/* Does it store something, so that it must not be repeated when it may have happened? */
static inline bool hvi_verb_is_write(hvi_verb verb) {
    return verb == HVI_PUT || verb == HVI_PUT_KEY || verb == HVI_PUT_ONCE;
}

/* One operation, and what its statement gave. */
typedef struct hvi_item {
    hvi_verb verb;
    int shard;
    int64_t key;      /* get, put_key, put_once */
    int kind;         /* put… */
    const char *body; /* put…: hstore, binary; not owned */
    size_t body_len;

    bool answered;   /* get: found; put…: stored; reserve: has a new key */
    bool swallowed;  /* put…: the server has done without it, and not for its key's entity */
    int64_t new_key; /* put, put_once, reserve */
    const PGresult *result; /* get: id, type, body in binary, in … */
    int row;                /* … this row */
    const hv_error *error;  /* the answer has another form; the group's */
} hvi_item;

/* Items of one verb and shard, next to each other. */
typedef struct hvi_group {
    hvi_item **items; /* not owned */
    size_t count;
    bool apart; /* one item in a transaction of its own: with the plain statement */
    char sql[HVI_ENTITY_SQL_LEN];
    hvi_buffer bytes; /* the parameters */
    hv_error *error;  /* owned; NULL: none */
    const char *values[3];
    int lengths[3];
    uint32_t types[3];
} hvi_group;

/* Sort items into groups; `groups` has room for one each. Returns how many. */
size_t hvi_groups_make(hvi_item **items, size_t count, hvi_group *groups);

/*
 * As above, but each item is a group of its own, in the order given, with the plain statement:
 * which needs to know no type of the database's, and whose answer leaves nothing open. A put whose
 * key has an entity is refused by it.
 */
void hvi_groups_make_apart(hvi_item **items, size_t count, hvi_group *groups);

/* Make the group's query for this session, which lives as long as the group. False if memory is
 * short. */
bool hvi_group_query(hvi_group *group, const hvi_session *session, hvi_query *query);

/* The query was sent: its parameters can go. */
void hvi_group_forget_parameters(hvi_group *group);

/* The form of a statement's answer. */
const hvi_form *hvi_answer_form(hvi_statement_verb verb);

/*
 * Fill in what its statement gave each item; `server` is for the error. A put under a given key
 * that went together with others and is neither `answered` nor `swallowed` has an entity in its
 * way, or was swallowed: it has to go apart to know. So have two items that put under the same key:
 * it is not known which was stored.
 */
void hvi_group_answer(hvi_group *group, const PGresult *result, const char *server);

void hvi_group_fini(hvi_group *group);

#endif
