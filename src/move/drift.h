/*
 * drift: has the schema of a shard been changed while it moves?
 *
 * The stream carries rows, and no change of the schema. So what the copy was made of is remembered:
 * a digest of all that the schema consists of (schema/catalogue), and which tables there are with
 * which columns. PostgreSQL itself refuses to alter the columns of a table that is attached to a
 * root; all else (CREATE TABLE, INDEX, FUNCTION, TRIGGER, GRANT …) it does not refuse, and this
 * finds it.
 *
 * The rule: the digest is taken in the same breath as the dump, and compared before the fence. If
 * it differs, the move ends with an error that shows the difference. Under the fence, whose locks
 * keep tables from being altered, a quick look at the relations is enough for what is left.
 */
#ifndef HVI_DRIFT_H
#define HVI_DRIFT_H

#include "wire/session.h"

/* What a schema consisted of at a moment. All zero: nothing is remembered. */
typedef struct hvi_drift {
    int shard;
    char *description; /* owned: its lines, see catalogue.h */
    char digest[65];   /* of these, for the journal: SHA-256 in hexadecimal digits */
    char *relations;   /* owned: its relations with their columns, as hvi_drift_quick() compares */
} hvi_drift;

/* Remember what the shard's live schema consists of now. What a move itself adds is not counted. */
hv_status hvi_drift_take(hvi_drift *drift, hvi_session *source, int shard, const char *server,
                         int64_t deadline, hv_error **error);

/*
 * Before the fence: is it the same still? Errors: HV_MISMATCH, whose detail has the lines that have
 * gone ("-") and come ("+").
 */
hv_status hvi_drift_check(const hvi_drift *drift, hvi_session *source, const char *server,
                          int64_t deadline, hv_error **error);

/* The same for a move that is resumed and only knows the digest that it had written down. */
hv_status hvi_drift_check_digest(const char *digest, hvi_session *source, int shard,
                                 const char *server, int64_t deadline, hv_error **error);

/* Under the fence, in its transaction: a millisecond. Errors: HV_MISMATCH. */
hv_status hvi_drift_quick(const hvi_drift *drift, hvi_session *source, const char *server,
                          int64_t deadline, hv_error **error);

void hvi_drift_fini(hvi_drift *drift);

#endif
