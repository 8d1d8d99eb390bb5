/*
 * extension: see to it that the extensions hstore and hypervault are in a database.
 */
#ifndef HVI_EXTENSION_H
#define HVI_EXTENSION_H

#include "value/generator.h"
#include "wire/session.h"

/*
 * Begins every script that creates something: takes a lock until the end of its transaction, so
 * that two runs at once take turns. The number is "hv" in ASCII. What stands around it makes sure
 * that the script sees all that the run before has made: each statement gets a snapshot of its own,
 * whatever the database's default is; and the server's caches are brought up to date when a table
 * is next opened, which CREATE SCHEMA IF NOT EXISTS does not do before it looks.
 */
#define HVI_CREATION_LOCK                                  \
    "SET LOCAL transaction_isolation TO 'read committed';" \
    "SELECT pg_catalog.pg_advisory_xact_lock(26742);"      \
    "SELECT FROM pg_catalog.pg_namespace LIMIT 0;"

/* Create hstore if it is missing. *type is the type's name with its schema, quoted: free() it.
 * Errors: HV_REFUSED with a hint, and what hvi_session_run() gives. */
hv_status hvi_extension_hstore(hvi_session *session, int64_t deadline, char **type,
                               hv_error **error);

/*
 * Is the extension `hypervault` there, or can it be created? The schema of that name exists.
 * HV_NOT_FOUND if it cannot be had, with the reason in *error, which is set although that is no
 * failure for who can do without. Errors: HV_MISMATCH for a version that is too old.
 */
hv_status hvi_extension_hypervault(hvi_session *session, int64_t deadline, hv_error **error);

/* The extension is there: does it work? HV_MISMATCH for a version that is too old, HV_NOT_FOUND if
 * its library cannot be loaded, both with *error set. */
hv_status hvi_extension_works(hvi_session *session, int64_t deadline, hv_error **error);

#endif
