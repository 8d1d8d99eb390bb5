/*
 * reserve: unused keys of a shard, to put entities under.
 */
#ifndef HVI_RESERVE_H
#define HVI_RESERVE_H

#include "entity/operation.h"

/* See hv_reserve(). `count` is 1 to HVI_RESERVE_MAX. */
hv_status hvi_reserve(hvi_operation *operation, int count, int64_t deadline, int64_t *keys,
                      hv_error **error);

/* Is this a key that the operation's shard may give? Otherwise HV_CORRUPT. */
hv_status hvi_reserve_check_key(const hvi_operation *operation, int64_t key, hv_error **error);

/* Say what the refusal of a reservation means. Takes *cause. */
hv_status hvi_reserve_fail(const hvi_operation *operation, hv_error **cause, hv_error **error);

#endif
