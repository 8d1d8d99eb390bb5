/*
 * futex: sleep until a word changes, and wake threads that sleep on it (Linux, futex(2)).
 *
 * For waits in which many threads are woken at once and need no lock afterwards: with a condition
 * variable, each would have to take its mutex in turn.
 */
#ifndef HVI_FUTEX_H
#define HVI_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"

/* Sleep while *word is `value`, until woken or until the deadline. May wake up spuriously. False if
 * the deadline has passed or the operation is interrupted. */
static inline bool hvi_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline) {
    /* FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC. */
    int64_t moment = hvi_interrupt_before(deadline);
    struct timespec until = hvi_deadline_timespec(moment);
    long result =
        syscall(SYS_futex, (void *) (uintptr_t) word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
                moment != HVI_NEVER ? &until : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
    if (result == 0 || errno == EAGAIN)
        return true;
    if (errno == EINTR)
        hvi_interrupt_signalled();
    return !hvi_is_late(deadline);
}

static inline void hvi_futex_wake(_Atomic uint32_t *word, int how_many) {
    syscall(SYS_futex, (void *) (uintptr_t) word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, how_many, NULL,
            NULL, 0);
}

#define HVI_FUTEX_ALL INT_MAX

#endif
