/*
 * key_order: the operations of a port on each key, in the order in which they were added.
 *
 * One thread adds them, and may expect that each finds what the ones before it have done. As long
 * as only reads are pending, any order will do, and nothing is kept.
 */
#ifndef HVI_KEY_ORDER_H
#define HVI_KEY_ORDER_H

#include "base/list.h"
#include "entity/operation.h"

/* An operation's place. */
typedef struct hvi_key_place {
    hvi_list link;
    int64_t key;
    bool is_write;
    bool is_settled;   /* its verb's: see hvi_verb */
    const void *batch; /* the batch that carries it now, or NULL */
} hvi_key_place;

typedef struct hvi_key_order {
    hvi_list
        *buckets; /* of places by the hash of their keys, the oldest first; NULL: none are kept */
    size_t count;
} hvi_key_order;

void hvi_key_order_fini(hvi_key_order *order);

/* Does this operation write under a key, so that the order of pending operations matters? */
bool hvi_key_order_matters(const hvi_operation *operation);

/* Begin to keep the order. False if memory is short. */
bool hvi_key_order_begin(hvi_key_order *order);

/* Note an operation that was added, if the order is kept and it has a key. */
void hvi_key_order_add(hvi_key_order *order, hvi_key_place *place, const hvi_operation *operation);

/* It is done. */
void hvi_key_order_remove(hvi_key_order *order, hvi_key_place *place);

/* May the operation be sent in this batch? Those before it are done, or in the batch too. */
bool hvi_key_order_allows(const hvi_key_order *order, const hvi_key_place *place,
                          const void *batch);

#endif
