/*
 * sequences: the sequences of a shard go on at the target where they are at the source.
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

/* Read them on the link, and append to `sql` what sets those of the schema `copy` likewise: a
 * script that is a transaction of its own, after which the server is durable up to here. */
hv_status hvi_sequences_read(hvi_link *link, const char *schema, const char *copy, hvi_buffer *sql,
                             int64_t deadline, hv_error **error);

#endif
