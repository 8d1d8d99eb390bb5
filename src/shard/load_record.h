/*
 * load_record: how far a load has come, kept in the database that it loads.
 *
 * The table hypervault.imports has a row for each load, known by its name: a position and a note,
 * both of the caller's making. Every transaction of a load locks the row first and writes the new
 * position last, so it is committed with the entities or not at all. Whoever has the lock knows
 * what became of every transaction before.
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

/* SQL that creates the table; the schema is there. */
extern const char hvi_load_record_table[];

/*
 * See that the table is there, creating it if need be, and the record, and read it. `shard` is one
 * of the server's, to tell a database that was never initialised. record->name is set.
 * Errors: HV_NOT_INITIALIZED, and what hvi_session_run() gives.
 */
hv_status hvi_load_record_open(hvi_session *session, int shard, int64_t timeout,
                               hvi_load_record *record, hv_error **error);

/* Begin a transaction with the record locked; *position is what it says. */
hv_status hvi_load_record_begin(hvi_session *session, const hvi_load_record *record,
                                int64_t timeout, int64_t *position, hv_error **error);

/* Write a new position and note (NULL: leave it) and commit. HV_OUTCOME_UNKNOWN: hvi_load_record_
 * begin() will tell. */
hv_status hvi_load_record_commit(hvi_session *session, const hvi_load_record *record,
                                 int64_t position, const char *note, int64_t timeout,
                                 hv_error **error);

/* Tell of each record whose name begins with `prefix`, in the order of names. No table: no
 * records. */
hv_status hvi_load_record_list(hvi_session *session, const char *prefix, int64_t timeout,
                               hv_load_fn tell, void *context, hv_error **error);

#endif
