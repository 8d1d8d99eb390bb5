/*
 * patience: how long a job has waited altogether, and how long its next pause is.
 */
#include "schema/patience.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"

#define FIRST_MS   50
#define LONGEST_MS 2000

/* Derived from the moment, the address and the process, which no two that wait have in common. */
static int64_t draw(const hvi_patience *patience, int64_t longest, int64_t now) {
    const int64_t drawn_from[] = {now, (intptr_t) patience, getpid(), patience->tries};
    int64_t shortest = longest / 2;
    return shortest + (int64_t) (hvi_hash(drawn_from, sizeof drawn_from) %
                                 (uint64_t) (longest - shortest + 1));
}

bool hvi_patience_next(hvi_patience *patience, int64_t max_wait, int64_t *pause) {
    int64_t now = hvi_clock_us();
    if (patience->tries == 0)
        patience->began = now;
    int64_t left = max_wait < 0 ? LONGEST_MS : max_wait - (now - patience->began) / 1000;
    if (left <= 0)
        return false;
    int64_t longest = FIRST_MS;
    for (int i = 0; i < patience->tries && longest < LONGEST_MS; i++)
        longest *= 2;
    longest = longest < LONGEST_MS ? longest : LONGEST_MS;
    int64_t drawn = draw(patience, longest, now);
    *pause = drawn < left ? drawn : left; /* the last try is at the end of the time */
    patience->tries++;
    return true;
}
