/*
 * scan: the entities of a shard in the order of their keys, by COPY, in bounded memory.
 */
#ifndef HVI_SCAN_H
#define HVI_SCAN_H

#include <stdatomic.h>

#include "value/copy_rows.h"
#include "entity/operation.h"

/* See hv_scan_open(). hv_scan_close() takes one from *users at the end. */
hv_status hvi_scan_open(hvi_router *router, int shard, int64_t from, int64_t until,
                        const int *kinds, size_t kind_count, atomic_int *users, hv_scan **scan,
                        hv_error **error);

#endif
