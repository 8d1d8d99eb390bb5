/*
 * load_batch: rows that wait to be stored, as COPY will send them, and the state of each.
 */
#ifndef HVI_LOAD_BATCH_H
#define HVI_LOAD_BATCH_H

#include "value/copy_rows.h"

typedef enum hvi_load_state {
    HVI_LOAD_WAITING,
    HVI_LOAD_STORED,  /* in the running transaction */
    HVI_LOAD_KNOWN,   /* its key has an equal entity already */
    HVI_LOAD_REFUSED, /* for good: `error` says why */
} hvi_load_state;

typedef struct hvi_load_row {
    int64_t key; /* 0: the database makes one */
    int shard;
    int kind;
    hvi_load_state state;
    size_t at; /* where its tuple starts in `tuples` */
    size_t len;
    hv_error *error; /* of a refused row; of a waiting one, why the last try failed; owned */
} hvi_load_row;

typedef struct hvi_load_batch {
    hvi_buffer tuples;
    hvi_load_row *rows; /* in the order in which they were added; owned */
    size_t count;
    size_t room;
    size_t *order; /* of waiting rows: see hvi_load_batch_sort(); owned */
    size_t order_room;
} hvi_load_batch;

void hvi_load_batch_fini(hvi_load_batch *batch);

/* Append a row, whose arguments are valid. Errors: HV_NO_MEMORY; the batch is then unusable. */
hv_status hvi_load_batch_add(hvi_load_batch *batch, int64_t key, int shard, int kind,
                             const hv_dict *dict, hv_error **error);

/* The same with a body that is a binary hstore already. */
hv_status hvi_load_batch_add_encoded(hvi_load_batch *batch, int64_t key, int shard, int kind,
                                     const char *body, size_t body_len, hv_error **error);

/* Put the numbers of the waiting rows among the first `count` into `order`: shard by shard, first
 * those without keys, then those with keys in key order. *waiting is how many there are. */
hv_status hvi_load_batch_sort(hvi_load_batch *batch, size_t count, size_t *waiting,
                              hv_error **error);

/* The transaction is rolled back: the rows stored in it wait again. Refused rows stay refused. */
void hvi_load_batch_undo(hvi_load_batch *batch);

/* Forget the first `count` rows. */
void hvi_load_batch_drop(hvi_load_batch *batch, size_t count);

/* The binary hstore of a row. */
const char *hvi_load_row_body(const hvi_load_batch *batch, const hvi_load_row *row, size_t *len);

#endif
