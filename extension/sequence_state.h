/*
 * sequence_state: the state of a shard's key generator, kept in a sequence.
 *
 * A sequence of PostgreSQL holds one number. Here it is a moment and a count,
 *
 *     value = milliseconds since the epoch << 10 | added_id
 *
 * so values sort as the keys that are made of them do, and "one more" in a full millisecond is the
 * first of the next one.
 */
#ifndef HVI_SEQUENCE_STATE_H
#define HVI_SEQUENCE_STATE_H

#include "value/key.h"
#include "sequence_cache.h"

/* The last value that can become a key. */
#define HVI_SEQUENCE_MAX ((HVI_KEY_MAX_TIME << HVI_KEY_ADDED_BITS) | HVI_KEY_MAX_ADDED)

/*
 * Take `count` consecutive values that were never taken before and never will be again: they are
 * greater than all that any session has taken before, and at least `now`, the first value of the
 * present millisecond. Returns the first.
 */
int64 hvi_sequence_take(hvi_sequence *sequence, int64 now, int64 count);

/* Make every value taken from now on greater than `value`. */
void hvi_sequence_advance(hvi_sequence *sequence, int64 value);

#endif
