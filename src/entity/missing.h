/*
 * missing: what is missing from an answer: the errors behind hv_reader_missing() and
 * hv_counts_missing().
 */
#ifndef HVI_MISSING_H
#define HVI_MISSING_H

#include <stddef.h>

#include "base/buffer.h"

typedef struct hvi_missing {
    hv_error **errors; /* owned, as the array */
    size_t count;
    size_t room;
} hvi_missing;

/* Add what is missing. Takes *cause. Errors: HV_NO_MEMORY. */
hv_status hvi_missing_add(hvi_missing *missing, hv_error **cause, hv_error **error);

/* Append to the detail of an error which shards are missing because of it, "9-17". */
void hvi_missing_name(hv_error **cause, const hvi_buffer *shards);

/* Past the end it is NULL. */
const hv_error *hvi_missing_at(const hvi_missing *missing, size_t index);

void hvi_missing_fini(hvi_missing *missing);

/* Is this failure one of a shard's, so that it is worth finding out which shard of several has it?
 * Else it is their server's. */
bool hvi_missing_is_of_shard(const hv_error *cause);

/* May a partial answer go on without what has failed with this status? Not if the reason is the
 * caller's side: memory, a closed store, an interrupt. */
bool hvi_missing_allows(hv_status status);

#endif
