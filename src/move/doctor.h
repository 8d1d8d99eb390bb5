/*
 * doctor: is there anything that would keep shards from moving?
 *
 * It looks at servers as they are and at each pair of them, and makes nothing that stays. What is
 * an error would end a move, mostly after it has begun to copy; a warning may.
 */
#ifndef HVI_DOCTOR_H
#define HVI_DOCTOR_H

#include "move/remarks.h"
#include "move/link.h"

/* What a server is in a move. With an undo it is both. */
enum { HVI_DOCTOR_SOURCE = 1, HVI_DOCTOR_TARGET = 2 };

/* The checks of one server that has these parts. */
void hvi_doctor_server(hvi_link *link, int parts, int64_t deadline, hv_findings *findings);

/* The checks of a pair: whether the target reaches the source, has what its shards need, and is
 * another database. */
void hvi_doctor_pair(hvi_link *from, hvi_link *to, const hvi_server_options *source,
                     int64_t deadline, hv_findings *findings);

/* All of this for one move: a link to each of its servers. `shard` may be -1. */
void hvi_doctor_check(hvi_router *router, hvi_link *from, hvi_link *to, int shard, bool offline,
                      int64_t deadline, hv_findings *findings);

/* See hv_doctor(). */
hv_status hvi_doctor(hvi_router *router, int from, int to, int shard, hv_findings **findings,
                     hv_error **error);

#endif
