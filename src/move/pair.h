/*
 * pair: SQL on two servers at the same time, step by step, until both have answered or a deadline
 * has passed; what is under way then goes on.
 */
#ifndef HVI_MOVE_PAIR_H
#define HVI_MOVE_PAIR_H

#include "wire/session.h"

/* The two ends of a move. */
typedef enum hvi_side { HVI_SOURCE, HVI_TARGET } hvi_side;

/* All zero, but for `sessions` and `shard`: nothing is under way. */
typedef struct hvi_pair {
    hvi_session *sessions[2]; /* by hvi_side; not owned */
    int shard;
    hvi_script scripts[2];
    char *sql[2]; /* owned; NULL: nothing was sent on this side */
    bool over[2];
    PGresult *results[2]; /* of the last time; owned */
    int64_t started;      /* hvi_clock_us() */
} hvi_pair;

/* Send a script to one side, whose answer will be results[side]. Takes the text, and empties the
 * buffer. Nothing may be under way there. */
hv_status hvi_pair_send(hvi_pair *pair, hvi_side side, hvi_buffer *sql, hv_error **error);

/* Go on until all that was sent is answered (*over), or the deadline has passed. Errors: those of
 * hvi_script_finish() for reads; the source's first. Then nothing is under way. */
hv_status hvi_pair_advance(hvi_pair *pair, int64_t deadline, bool *over, hv_error **error);

/* Is anything under way? */
bool hvi_pair_runs(const hvi_pair *pair);

/* Cancel what is under way, and wait for a moment until it is over. A session that is not at rest
 * then is broken. */
void hvi_pair_stop(hvi_pair *pair);

/* Stops it, too. */
void hvi_pair_fini(hvi_pair *pair);

#endif
