/*
 * layout: what hypervault finds in a database: the record of layout and epoch, and the shards.
 *
 * The schema `hypervault` has a table `layout` with one row: the version of the layout, the epoch
 * of the keys and the server's name. A database that the original implementation made has no such
 * schema; its version is 0 and it is accepted as it is.
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

/* Read the record, and set the session's OIDs of the types hstore and hstore[]. Errors: those of
 * hvi_session_run(), HV_CORRUPT, HV_MISMATCH. */
hv_status hvi_layout_read(hvi_session *session, int64_t deadline, hvi_layout *layout,
                          hv_error **error);
void hvi_layout_fini(hvi_layout *layout);

/*
 * Is this name only the server's position in a list, as "server 2" is? The Python package gives
 * such names to servers that have none. They change with the list, so they identify nothing: a
 * server that is configured under one, or a database that was recorded under one, is not checked by
 * its name.
 */
bool hvi_layout_is_numbered(const char *name);

/* Check that a store with this epoch may use a database with this record as this server. Errors:
 * HV_MISMATCH for another epoch, a newer layout, or another server's name. */
hv_status hvi_layout_accept(const hvi_layout *layout, int64_t epoch, const char *server,
                            hv_error **error);

/* Both of these as the check of a new session; `context` is the epoch (const int64_t *). */
hv_status hvi_layout_check(void *context, hvi_session *session, const char **sql, hv_status status,
                           const PGresult *answer, hv_error **cause, hv_error **error);

/* The shards that are there, in ascending order; free() *rows. */
hv_status hvi_layout_shards(hvi_session *session, int64_t deadline, hvi_shard_row **rows,
                            size_t *count, hv_error **error);

#endif
