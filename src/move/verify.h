/*
 * verify: compare a shard with its copy on another server while its callers go on writing and the
 * stream of changes follows them.
 *
 * A pass goes through all tables, range by range of the key. Both servers count and hash a range at
 * the same time: what agrees is right, and needs no other look. Of a range that differs the rows
 * are compared, and those that differ are looked at again: read on the source, then a marker is
 * sent after them through the stream, and when it has arrived they are read on the target. A row
 * that has agreed once is right. What never agrees is either changed all the time, or it is really
 * different. To tell the two apart without any guess, the last look at rows that seem to stay
 * different is under a lock that stops the table's writers for some milliseconds. Rows that are
 * changed all the time are left for the fence, which has such a lock anyway: hvi_verify_last().
 *
 * A row is hashed with all of its columns but generated ones, by name and in the source's order,
 * and the hashes of a range are added up. Settings, collations, numbers of objects (OIDs) and the
 * order of columns or rows do not matter.
 */
#ifndef HVI_VERIFY_H
#define HVI_VERIFY_H

#include "move/verify_sides.h"

/* How far it is. */
typedef struct hvi_verify_progress {
    int64_t rows, rows_total; /* of this pass; the total is the servers' estimate */
    int64_t ranges, ranges_total;
    int pass;              /* 1: all; 2 and more: what has changed since */
    const char *table;     /* the one at hand; NULL: none. The verify's */
    const char *waits_for; /* for people; NULL: nothing. The verify's */
    size_t left;           /* rows that are left for hvi_verify_last() */
} hvi_verify_progress;

hv_status hvi_verify_new(const hvi_verify_sides *sides, hvi_verify **verify, hv_error **error);

/*
 * Go on until the pass is done or the deadline has passed, whatever is first: HV_OK in both cases.
 * The first pass is followed by one over what has changed since, before it is done. What is under
 * way on the sessions at the deadline goes on, so nothing else may use them until *done, or an
 * error, or hvi_verify_stop().
 *
 * Errors: HV_MISMATCH: the copy differs; the message names the table, the detail the ranges, and
 * the rows on both sides. Otherwise those of
 * hvi_session_run(); after HV_UNAVAILABLE and HV_TIMEOUT a new one may be tried.
 */
hv_status hvi_verify_step(hvi_verify *verify, int64_t deadline, bool *done, hv_error **error);

/* After *done: the next steps are a pass over what has changed since. Costs little if little has.
 */
void hvi_verify_again(hvi_verify *verify);

/*
 * Under the fence: on `source`, a session whose transaction has locked all tables against writers,
 * and on `target`, after a marker has arrived that was sent after the locks were granted. Compares
 * the rows that are left; some milliseconds, within the deadline. Both sessions may be those of the
 * sides, if no step is under way. Errors: HV_MISMATCH, HV_TIMEOUT, …
 */
hv_status hvi_verify_last(hvi_verify *verify, hvi_session *source, hvi_session *target,
                          int64_t deadline, hv_error **error);

void hvi_verify_progress_of(const hvi_verify *verify, hvi_verify_progress *progress);

/* Cancel what is under way on the sessions, and wait until they are at rest, or broken. */
void hvi_verify_stop(hvi_verify *verify);

/* Stops it, too. */
void hvi_verify_free(hvi_verify *verify);

#endif
