/*
 * load_insert: rows of a load stored by the statements of puts, which say of each row whether it is
 * stored. COPY, which is quicker, only says how many are.
 */
#ifndef HVI_LOAD_INSERT_H
#define HVI_LOAD_INSERT_H

#include "entity/load_batch.h"
#include "entity/target.h"

/* More rows than these are not to be stored at once. */
#define HVI_LOAD_INSERT_MAX 1024

/*
 * Store the rows of these numbers, which are of one shard and all with keys, in the order of these,
 * or all without. On HV_OK each is stored, or refused (HV_NOT_STORED), or waits still: then an
 * entity lies under its key, or it was not stored either. Errors: HV_REFUSED, after which all are
 * as they were; as hvi_session_run().
 */
hv_status hvi_load_insert(hvi_session *session, const hvi_target *target, hvi_load_batch *batch,
                          const size_t *numbers, size_t count, int64_t deadline, hv_error **error);

/* The row is refused for having vanished on its way. */
void hvi_load_insert_refuse(const hvi_target *target, hvi_load_row *row);

#endif
