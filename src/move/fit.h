/*
 * fit: can the tables of a shard be moved as they are?
 *
 * What replication does not carry, or what would make the callers' own statements fail, is found
 * before anything is made.
 */
#ifndef HVI_FIT_H
#define HVI_FIT_H

#include "move/link.h"

/* Errors: HV_INVALID, whose detail names the objects and whose hint says what to do. `offline`:
 * only what an offline move cannot do either. */
hv_status hvi_fit_check(hvi_link *from, int shard, const char *schema, bool offline,
                        int64_t deadline, hv_error **error);

#endif
