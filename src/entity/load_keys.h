/*
 * load_keys: rows with given keys: find the entities that the keys have already, and see that the
 * shard never makes the keys again.
 */
#ifndef HVI_LOAD_KEYS_H
#define HVI_LOAD_KEYS_H

#include "entity/load_batch.h"
#include "entity/target.h"

/* The transaction in which rows are stored. */
typedef struct hvi_load_keys {
    hvi_session *session;
    hvi_load_batch *batch;
    const hvi_target *target; /* of the shard */
    int64_t epoch;
    int64_t timeout;
} hvi_load_keys;

/*
 * Of the rows order[from .. *end), which are of one shard, find those whose key has an entity: they
 * become known if it is equal, and are otherwise refused (HV_CONFLICT). Both leave the range.
 */
hv_status hvi_load_keys_sift(const hvi_load_keys *keys, size_t from, size_t *end, hv_error **error);

/*
 * Before the rows order[from .. *end) are stored: see that the shard's key generator is past their
 * keys, and stays as it is until the transaction's end. A strict one is advanced. Portable and
 * original ones follow the server's clock: this waits for a key that is ahead of it, up to two
 * seconds. Rows whose key is further ahead are refused (HV_INVALID) and leave the range, and so do
 * strict ones that are more than a day ahead, since a single wrong key could use up the shard's
 * keys. *has_triggers: the table, or a partition of it, has triggers that may change rows before
 * they are stored, even their keys.
 */
hv_status hvi_load_keys_prepare(const hvi_load_keys *keys, size_t from, size_t *end,
                                bool *has_triggers, hv_error **error);

#endif
