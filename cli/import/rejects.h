/*
 * import_rejects: the file of rows that an import did not store.
 *
 * NDJSON, a line for each row:
 *
 *     {"line":7,"number":6,"import":"…","shard":12,"status":"HV_REFUSED","reason":"…",
 *      "row":"the row as it was read"}
 *
 * "number" counts rows, "line" lines; "import" is the import's name. "shard" is left out for a row
 * that was not sent to any. A row that is not UTF-8 has "row_base64" too, which holds its exact
 * bytes; one that was too long to be read has "truncated":true. The file is made with the first
 * row, so that an import without rejected rows leaves none, and never in place of another file.
 * Safe for use by many threads.
 */
#ifndef IMPORT_REJECTS_H
#define IMPORT_REJECTS_H

#include <sys/types.h>

#include "rows/reader.h"

typedef struct import_rejects import_rejects;

/*
 * Nothing is made yet. `path` is the file that the user named, which must not exist unless it is a
 * device or a pipe; NULL: NAME.rejects in the working folder, or NAME.rejects.2 and so on if that
 * exists. `mode` says by whom it may be read.
 */
import_rejects *import_rejects_new(const char *path, const char *name, mode_t mode);

/* Close and free. False, with errno set, if what was written may be lost. */
bool import_rejects_free(import_rejects *rejects);

/* Name the import. If it was begun by an earlier run, go on with the file of that, if there is one:
 * it loses what `keep` does not want, a row that was written and not decided. False after saying
 * why that failed. */
typedef bool (*import_rejects_keep)(void *context, int64_t number, int shard);
bool import_rejects_name(import_rejects *rejects, const char *import, bool begun,
                         import_rejects_keep keep, void *context);

/*
 * Write rows down, all or none of them: begin, add each, end. False, with errno set, if that
 * failed: then none of them is in the file (unless it is a pipe or a device), and nothing more will
 * be. `shard` -1: none. From begin to end other threads wait.
 */
void import_rejects_begin(import_rejects *rejects);
void import_rejects_add(import_rejects *rejects, const row *rejected, hv_status status, int shard,
                        const char *reason);
bool import_rejects_end(import_rejects *rejects);

/* The file's name; NULL while nothing was written. Lives as long as `rejects`. */
const char *import_rejects_path(import_rejects *rejects);

/* The name that it will have, for messages. */
const char *import_rejects_wanted(const import_rejects *rejects);

#endif
