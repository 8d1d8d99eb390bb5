/*
 * rejects: the file of rows that an import did not store.
 *
 * NDJSON, a line for each row:
 *
 *     {"line":7,"number":6,"import":"…","shard":12,"status":"HV_REFUSED","reason":"…",
 *      "row":"the row as it was read"}
 *
 * "number" counts rows, "line" lines; "import" is the import's name. "shard" is left out for a row
 * that was not sent to any. A row that is not UTF-8 also has "row_base64", which holds its exact
 * bytes; one that was too long to be read has "truncated":true. The file is made with the first
 * row, so that an import without rejected rows leaves none, and never replaces another file. Safe
 * for use by many threads.
 */
#ifndef IMPORT_REJECTS_H
#define IMPORT_REJECTS_H

#include <sys/types.h>

#include "rows/reader.h"

typedef struct import_rejects import_rejects;

/*
 * Makes no file yet. `path` is the file that the user named, which must not exist unless it is a
 * device or a pipe; NULL: NAME.rejects in the working folder, or NAME.rejects.2 and so on if that
 * exists. `mode` is its permissions.
 */
import_rejects *import_rejects_new(const char *path, const char *name, mode_t mode);

/* Close and free. False, with errno set, if what was written may be lost. */
bool import_rejects_free(import_rejects *rejects);

/* Name the import. If an earlier run has begun it, continue that run's file, if there is one,
 * without the rows for which `keep` returns false: they were written but not decided. False after
 * an error message. */
typedef bool (*import_rejects_keep)(void *context, int64_t number, int shard);
bool import_rejects_name(import_rejects *rejects, const char *import, bool begun,
                         import_rejects_keep keep, void *context);

/*
 * Write rows, all or none of them: begin, add each, end. False, with errno set, on failure: then
 * none of them is in the file (unless it is a pipe or a device), and nothing more will be written.
 * `shard` -1: none. Other threads wait from begin to end.
 */
void import_rejects_begin(import_rejects *rejects);
void import_rejects_add(import_rejects *rejects, const row *rejected, hv_status status, int shard,
                        const char *reason);
bool import_rejects_end(import_rejects *rejects);

/* The file's name; NULL while nothing was written. Valid as long as `rejects`. */
const char *import_rejects_path(import_rejects *rejects);

/* The name that it will have, for messages. */
const char *import_rejects_wanted(const import_rejects *rejects);

#endif
