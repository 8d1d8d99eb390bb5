/*
 * load_store: store the rows of a batch by COPY within a transaction, and find those that the
 * server refuses.
 */
#ifndef HVI_LOAD_STORE_H
#define HVI_LOAD_STORE_H

#include "wire/session_copy.h"
#include "entity/load_batch.h"
#include "entity/operation.h"

typedef struct hvi_load_store {
    hvi_session *session; /* in a transaction */
    hvi_router *router;
    hvi_load_batch *batch;
    int64_t timeout;
    size_t blocked;    /* see below */
    bool in_savepoint; /* the rows that were stored last can still be undone */
} hvi_load_store;

/*
 * Store the waiting rows among the first `count`: each is then stored, known or refused. Without an
 * error the transaction stays open.
 *
 * HV_REFUSED with a retriable error and `blocked` not HVI_LOAD_NOT_BLOCKED: that row (its number in
 * the batch) met a transient error, and kept meeting it when tried again at once. Any other error
 * would hit every row. After either, the transaction can only be rolled back.
 */
#define HVI_LOAD_NOT_BLOCKED SIZE_MAX
hv_status hvi_load_store_rows(hvi_load_store *store, size_t count, hv_error **error);

#endif
