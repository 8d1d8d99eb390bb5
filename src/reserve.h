/*
 * reserve: unused keys of a shard, to put entities under.
 */
#ifndef HVI_RESERVE_H
#define HVI_RESERVE_H

#include "operation.h"

/* See hv_reserve(). `count` is 1 to HVI_RESERVE_MAX. */
hv_status hvi_reserve(hvi_operation *operation, int count, int64_t deadline, int64_t *keys,
                      hv_error **error);

#endif
