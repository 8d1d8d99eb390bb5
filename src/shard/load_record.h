/*
 * load_record: how far a load has come, kept in the database that it loads.
 *
 * The table hypervault.imports has a row for each load, with its name, a position and a note, both
 * of which the caller chooses. Every transaction of a load locks the row first and writes the new
 * position last, so it is committed with the entities or not at all. A transaction that has the
 * lock sees the outcome of every earlier one.
 */
#ifndef HVI_LOAD_RECORD_H
#define HVI_LOAD_RECORD_H

#include "shard/layout.h"

#define HVI_LOAD_NAME_MAX 200

typedef struct hvi_load_record {
    char *name; /* owned */
    char *note; /* owned; NULL: none */
    int64_t position;
} hvi_load_record;

void hvi_load_record_fini(hvi_load_record *record);

/* SQL that creates the table, in the existing schema. */
extern const char hvi_load_record_table[];

/*
 * Create the table and the record named record->name if they are missing, and read the record.
 * `shard` is one of the server's, for the error about a database that was never initialised; -1: it
 * has none, and the table must be there. Errors: HV_NOT_INITIALIZED, HV_NO_SERVER, and those of
 * hvi_session_run().
 */
hv_status hvi_load_record_open(hvi_session *session, int shard, int64_t timeout,
                               hvi_load_record *record, hv_error **error);

/* Has the record this position and note? */
bool hvi_load_record_is(const hvi_load_record *record, int64_t position, const char *note);

/* Begin a transaction, lock the record and set the position and note of *found. */
hv_status hvi_load_record_begin(hvi_session *session, const hvi_load_record *record,
                                int64_t timeout, hvi_load_record *found, hv_error **error);

/* Write a new position and note (NULL: keep the old one) and commit. After HV_OUTCOME_UNKNOWN,
 * hvi_load_record_begin() sees whether that happened. */
hv_status hvi_load_record_commit(hvi_session *session, const hvi_load_record *record,
                                 int64_t position, const char *note, int64_t timeout,
                                 hv_error **error);

/* Call `each` for every record whose name begins with `prefix`, in the order of the bytes of their
 * names. Without the table there are no records. */
hv_status hvi_load_record_list(hvi_session *session, const char *prefix, int64_t timeout,
                               hv_load_fn each, void *context, hv_error **error);

#endif
