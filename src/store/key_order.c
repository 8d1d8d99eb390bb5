/*
 * key_order: the operations of a port on each key, in the order in which they were added.
 */
#include "store/key_order.h"

#include <stdlib.h>

#define BUCKETS 4096 /* a power of two */

static hvi_key_place *place_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_key_place, link);
}

void hvi_key_order_fini(hvi_key_order *order) {
    free(order->buckets);
    order->buckets = NULL;
}

bool hvi_key_order_matters(const hvi_operation *operation) {
    return operation->verb->is_write && operation->item.key != 0;
}

bool hvi_key_order_begin(hvi_key_order *order) {
    order->buckets = malloc(BUCKETS * sizeof *order->buckets);
    for (int i = 0; i < BUCKETS && order->buckets != NULL; i++)
        hvi_list_init(&order->buckets[i]);
    return order->buckets != NULL;
}

/* The keys of one shard and moment differ in their lowest bits, others above them (Knuth's
 * multiplicative hash, TAOCP 6.4). */
static hvi_list *bucket_of(const hvi_key_order *order, int64_t key) {
    uint64_t hash = (uint64_t) key * UINT64_C(0x9E3779B97F4A7C15);
    return &order->buckets[hash >> 52];
}

void hvi_key_order_add(hvi_key_order *order, hvi_key_place *place, const hvi_operation *operation) {
    if (order->buckets == NULL || operation->item.key == 0)
        return;
    *place = (hvi_key_place){
        .key = operation->item.key,
        .is_write = operation->verb->is_write,
        .is_settled = operation->verb->is_settled,
    };
    hvi_list_push_back(bucket_of(order, place->key), &place->link);
    order->count++;
}

/* When none is left, reads need no order again. */
void hvi_key_order_remove(hvi_key_order *order, hvi_key_place *place) {
    if (place->key == 0)
        return;
    hvi_list_remove(&place->link);
    place->key = 0;
    if (--order->count == 0)
        hvi_key_order_fini(order);
}

bool hvi_key_order_allows(const hvi_key_order *order, const hvi_key_place *place,
                          const void *batch) {
    if (place->key == 0)
        return true;
    hvi_list *bucket = bucket_of(order, place->key);
    for (hvi_list *node = place->link.prev; node != bucket; node = node->prev) {
        const hvi_key_place *earlier = place_of(node);
        if (earlier->key != place->key)
            continue;
        if (earlier->is_write || place->is_write)
            return earlier->batch == batch && earlier->is_settled;
        /* Of two reads, what holds for the earlier one holds for this one: no need to go further
         * back, over all those that wait for the same write. */
        if (earlier->batch == batch || earlier->batch == NULL)
            return earlier->batch == batch;
    }
    return true;
}
