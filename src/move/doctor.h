/*
 * doctor: is there anything that would keep shards from moving?
 *
 * It looks at servers as they are and at each pair of them, and makes nothing that stays. What is
 * an error ends a move, so a move looks at these before it begins; a warning may.
 */
#ifndef HVI_DOCTOR_H
#define HVI_DOCTOR_H

#include "move/remarks.h"
#include "move/link.h"

/* What a server is in a move. With an undo it is both. */
enum { HVI_DOCTOR_SOURCE = 1, HVI_DOCTOR_TARGET = 2 };

/* What is asked about. */
typedef struct hvi_doctor_scope {
    int shard;        /* only this one, and what it needs; -1: all that there are */
    bool is_offline;  /* moves that need no stream */
    bool only_errors; /* what would not end a move need not be looked at */
} hvi_doctor_scope;

/* The checks of one server that has these parts (doctor_server.c). */
void hvi_doctor_server(hvi_link *link, int parts, const hvi_doctor_scope *scope, int64_t deadline,
                       hv_findings *findings);

/* The checks of a pair: whether the target reaches the source, has what its shards need, and is
 * another database (doctor_pair.c). */
void hvi_doctor_pair(hvi_link *from, hvi_link *to, const hvi_server_options *source,
                     const hvi_doctor_scope *scope, int64_t deadline, hv_findings *findings);

/* Only the first of these: can `to` connect to `from`, which is reached as these options say? */
void hvi_doctor_way(hvi_link *from, hvi_link *to, const hvi_server_options *source,
                    int64_t deadline, hv_findings *findings);

/* The checks of a shard on the server that has it; *bytes is its size (doctor_shard.c). */
void hvi_doctor_shard(hvi_link *from, int shard, const hvi_doctor_scope *scope, int64_t deadline,
                      int64_t *bytes, hv_findings *findings);

/* Before a move of scope->shard: the first error of all of this. `with_undo`: both servers need
 * what the other one does, too. Errors: HV_INVALID; HV_UNAVAILABLE if one cannot be reached. */
hv_status hvi_doctor_check(hvi_router *router, hvi_link *from, hvi_link *to,
                           const hvi_doctor_scope *scope, bool with_undo, int64_t deadline,
                           hv_error **error);

/* See hv_doctor(). */
hv_status hvi_doctor(hvi_router *router, int from, int to, int shard, hv_findings **findings,
                     hv_error **error);

#endif
