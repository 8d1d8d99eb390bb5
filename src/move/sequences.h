/*
 * sequences: the sequences and the keys of a shard go on at the target where they are at the
 * source.
 *
 * Replication does not carry them. They are read under the fence, when nobody can use them, and set
 * on the copy before the fence is committed.
 */
#ifndef HVI_SEQUENCES_H
#define HVI_SEQUENCES_H

#include "move/link.h"

/* Append the statements that keep others from using the schema's sequences until the end of the
 * transaction. Run on `link` to find them, outside of the fence. */
hv_status hvi_sequences_lock_sql(hvi_link *link, const char *schema, hvi_buffer *sql,
                                 int64_t deadline, hv_error **error);

/* Can the target make the keys of this shard as the source does? Errors: HV_INVALID, with a hint,
 * if they are strict and the extension is missing there. */
hv_status hvi_sequences_check(hvi_link *from, hvi_link *to, int shard, const char *schema,
                              int64_t deadline, hv_error **error);

/* Read them on the link, and append to `sql` what sets those of the schema `copy` likewise: a
 * script, for a transaction of the caller's. After it, the keys that the copy makes are greater
 * than those that the source has made, whatever the target's clock says; for a next_id() that is
 * neither strict nor portable it may be refused, with HVI_GENERATOR_LATER, see there. */
hv_status hvi_sequences_read(hvi_link *link, const char *schema, const char *copy, hvi_buffer *sql,
                             int64_t deadline, hv_error **error);

#endif
