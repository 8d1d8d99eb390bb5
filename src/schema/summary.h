/*
 * summary: the struct hv_summary: what has become of each shard.
 */
#ifndef HVI_SUMMARY_H
#define HVI_SUMMARY_H

#include "base/error.h"

typedef struct hvi_summary_entry {
    int server;
    int shard;
    hv_work work;
    hv_error *error; /* owned */
} hvi_summary_entry;

struct hv_summary {
    hvi_summary_entry *entries; /* owned */
    size_t count;
};

/* With `count` entries, all zero. NULL if memory is short. */
hv_summary *hvi_summary_new(size_t count);

/* Sort by shard, then by server. */
void hvi_summary_sort(hv_summary *summary);

#endif
