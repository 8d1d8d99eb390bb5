/*
 * import_rejects: the file of rows that an import did not store.
 *
 * NDJSON, a line for each row:
 *
 *     {"line":7,"reason":"…","status":"HV_REFUSED","shard":12,"row":"the row as it was read"}
 *
 * "shard" is left out for a row that was not sent to any. A row that is not UTF-8 has
 * "row_base64" too, which holds its exact bytes; one that was too long to be read has
 * "truncated":true. The file is made with the first row, so that an import without rejected rows
 * leaves none, and never in place of another file. Safe for use by many threads.
 */
#ifndef IMPORT_REJECTS_H
#define IMPORT_REJECTS_H

#include <sys/types.h>

#include "row_reader.h"

typedef struct import_rejects import_rejects;

/*
 * Nothing is made yet. `path` is the file that the user named, which must not exist unless it is a
 * device or a pipe; NULL: NAME.rejects in the working folder, or NAME.rejects.2 and so on if that
 * exists. `mode` says by whom it may be read. Returns NULL after saying why if it could not be made
 * later.
 */
import_rejects *import_rejects_new(const char *path, const char *name, mode_t mode);

/* Close and free. False, with errno set, if what was written may be lost. */
bool import_rejects_free(import_rejects *rejects);

/* Write a row down. False, with errno set, if that failed: then the row is not in the file.
 * `shard` -1: none. */
bool import_rejects_add(import_rejects *rejects, const row *rejected, hv_status status, int shard,
                        const char *reason);

/* The file's name; NULL while nothing was written. Lives as long as `rejects`. */
const char *import_rejects_path(import_rejects *rejects);

/* The name that it will have, for messages. */
const char *import_rejects_wanted(const import_rejects *rejects);

#endif
