/*
 * load_insert: store rows of a load by the statements of puts, which report for each row whether it
 * is stored. COPY, which is quicker, only reports how many are.
 */
#ifndef HVI_LOAD_INSERT_H
#define HVI_LOAD_INSERT_H

#include "entity/load_batch.h"
#include "entity/target.h"

/* At most this many rows are stored at once. */
#define HVI_LOAD_INSERT_MAX 1024

/*
 * Store the rows with these numbers: all of one shard, and either all with keys, in key order and
 * each only once, or all without. On HV_OK each is stored, refused (HV_NOT_STORED), or still
 * waiting: then its key has an entity, or the server dropped it, too. Errors: HV_REFUSED, after
 * which all are as they were; as hvi_session_run().
 */
hv_status hvi_load_insert(hvi_session *session, const hvi_target *target, hvi_load_batch *batch,
                          const size_t *numbers, size_t count, int64_t deadline, hv_error **error);

/* Refuse the row because the server accepted it but did not store it. */
void hvi_load_insert_refuse(const hvi_target *target, hvi_load_row *row);

#endif
