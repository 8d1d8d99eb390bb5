/*
 * layout: what hypervault finds in a database: the record of layout and epoch, and the shards.
 *
 * The schema `hypervault` has a table `layout` with one row: the version of the layout, the epoch
 * of the keys and the server's name. A database that the original implementation made has no such
 * schema; its version is 0 and it is taken as it is.
 */
#ifndef HVI_LAYOUT_H
#define HVI_LAYOUT_H

#include "wire/session_open.h"
#include "shard/shard_row.h"

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

/*
 * Does this name say only the server's place in a list, as "server 2" does? The Python package
 * gives such names to servers that have none. They move when the list changes, so they identify
 * nothing: neither a server that is configured under one nor a database that was recorded under one
 * is checked by its name.
 */
bool hvi_layout_is_numbered(const char *name);

/* May a store with this epoch use a database with this record as this server? Errors: HV_MISMATCH:
 * another epoch, a newer layout, another server's name. */
hv_status hvi_layout_accept(const hvi_layout *layout, int64_t epoch, const char *server,
                            hv_error **error);

/* Both of these as the check of a session's opening; `context` is the epoch (const int64_t *). */
hv_status hvi_layout_check(void *context, hvi_session *session, const char **sql, hv_status status,
                           const PGresult *answer, hv_error **cause, hv_error **error);

/* The shards that are there, in ascending order; free() *rows. */
hv_status hvi_layout_shards(hvi_session *session, int64_t deadline, hvi_shard_row **rows,
                            size_t *count, hv_error **error);

#endif
