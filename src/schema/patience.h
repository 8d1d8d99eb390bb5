/*
 * patience: how long a job has waited altogether, and how long its next pause is.
 *
 * A pause is 50 ms at first, twice as long each time up to 2 s, and of random length between half
 * and all of that, so that several that wait for the same do not come together again.
 */
#ifndef HVI_PATIENCE_H
#define HVI_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* All zero: it has not waited yet. */
typedef struct hvi_patience {
    int64_t began; /* hvi_clock_us() at its first pause */
    int tries;
} hvi_patience;

/* The length of the next pause, in ms; false: it has waited for `max_wait` ms (negative: for ever)
 * already. */
bool hvi_patience_next(hvi_patience *patience, int64_t max_wait, int64_t *pause);

#endif
