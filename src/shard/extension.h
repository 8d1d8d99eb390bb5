/*
 * extension: make sure that the extensions hstore and hypervault are in a database.
 */
#ifndef HVI_EXTENSION_H
#define HVI_EXTENSION_H

#include "value/generator.h"
#include "wire/session.h"

/*
 * The beginning of every script that creates something: it takes a lock until the end of its
 * transaction, so that two runs at once take turns. The number is "hv" in ASCII. The statements
 * around the lock make sure that the script sees everything that an earlier run has made: each
 * statement gets its own snapshot, whatever the database's default is; and opening a table updates
 * the server's caches, which CREATE SCHEMA IF NOT EXISTS does not do before it checks.
 */
#define HVI_CREATION_LOCK                                  \
    "SET LOCAL transaction_isolation TO 'read committed';" \
    "SELECT pg_catalog.pg_advisory_xact_lock(26742);"      \
    "SELECT FROM pg_catalog.pg_namespace LIMIT 0;"

/* Create hstore if it is missing. *type is the type's name with its schema, quoted: free() it.
 * Errors: HV_REFUSED with a hint, and those of hvi_session_run(). */
hv_status hvi_extension_hstore(hvi_session *session, int64_t deadline, char **type,
                               hv_error **error);

/*
 * Create the extension `hypervault` if it is missing. The schema of that name exists. HV_NOT_FOUND
 * if it cannot be created or used; then *error is set to the reason, although a caller that does
 * not need the extension may ignore it. Errors: HV_MISMATCH for a version that is too old, and
 * those of hvi_session_run().
 */
hv_status hvi_extension_hypervault(hvi_session *session, int64_t deadline, hv_error **error);

/* Does the extension, which is there, work? HV_MISMATCH for a version that is too old, HV_NOT_FOUND
 * if its library cannot be loaded, both with *error set. */
hv_status hvi_extension_works(hvi_session *session, int64_t deadline, hv_error **error);

#endif
