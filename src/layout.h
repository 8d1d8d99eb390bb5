/*
 * layout: what hypervault finds in a database: the record of layout and epoch, and the shards.
 *
 * The schema `hypervault` has a table `layout` with one row: the version of the layout, the epoch
 * of the keys and the server's name. A database that the original implementation made has no such
 * schema; its version is 0 and it is taken as it is.
 */
#ifndef HVI_LAYOUT_H
#define HVI_LAYOUT_H

#include "generator.h"
#include "session_open.h"

/* The newest layout that this library knows. */
#define HVI_LAYOUT_VERSION 1

typedef struct hvi_layout {
    int version;   /* 0: no record */
    int64_t epoch; /* if version > 0 */
    char *server;  /* owned; if version > 0 */
} hvi_layout;

/* Read the record, and which types hstore and hstore[] are here, which goes into the session.
 * Errors: what hvi_session_run() gives, HV_CORRUPT. */
hv_status hvi_layout_read(hvi_session *session, int64_t deadline, hvi_layout *layout,
                          hv_error **error);
void hvi_layout_fini(hvi_layout *layout);

/* May a store with this epoch use a database with this record? Errors: HV_MISMATCH. */
hv_status hvi_layout_accept(const hvi_layout *layout, int64_t epoch, const char *server,
                            hv_error **error);

/* Both of these as the check of a session's opening; `context` is the epoch (const int64_t *). */
hv_status hvi_layout_check(void *context, hvi_session *session, const char **sql, hv_status status,
                           const PGresult *answer, hv_error **cause, hv_error **error);

/* A schema that is named like a shard, and what is in it. What is there and does not fit is of
 * another kind or form than a shard's, and in the way. */
typedef struct hvi_shard_row {
    int shard;
    bool has_table;
    bool table_fits;  /* id bigint PRIMARY KEY, type smallint, body hstore; what other columns there
                         are may be left out of an INSERT */
    bool has_default; /* of id */
    bool has_sequence;
    bool sequence_fits;
    hvi_generator generator;
    bool function_fits; /* next_id() returns a bigint */
    bool has_reserve_ids;
    bool has_reserved_sequence;
    int64_t function_epoch; /* what looks like an epoch in next_id()'s source; -1: nothing does */
    int64_t tuples;         /* the server's estimate; -1: none yet */
    int64_t bytes;          /* the table with its indexes */
    int64_t heap_bytes;     /* the table alone */
} hvi_shard_row;

/* All of them in ascending order; free() *rows. */
hv_status hvi_layout_shards(hvi_session *session, int64_t deadline, hvi_shard_row **rows,
                            size_t *count, hv_error **error);

/* Is all there that makes its keys? Without next_id(), no. */
static inline bool hvi_shard_row_makes_keys(const hvi_shard_row *row) {
    switch (row->generator) {
    case HVI_GENERATOR_NONE:
        return false;
    case HVI_GENERATOR_ORIGINAL:
        return true;
    default:
        return row->has_sequence && row->has_reserve_ids &&
               row->has_reserved_sequence == (row->generator == HVI_GENERATOR_PORTABLE);
    }
}

static inline bool hvi_shard_row_is_complete(const hvi_shard_row *row) {
    return row->has_table && row->table_fits && row->has_default && row->has_sequence &&
           row->sequence_fits && row->function_fits && hvi_shard_row_makes_keys(row);
}

/* The row of a shard, or NULL. */
const hvi_shard_row *hvi_shard_row_find(const hvi_shard_row *rows, size_t count, int shard);

#endif
