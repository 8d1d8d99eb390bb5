/*
 * clock: the monotonic clock, in nanoseconds.
 */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

#define BENCH_SECOND INT64_C(1000000000)

static inline int64_t bench_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * BENCH_SECOND + now.tv_nsec;
}

#endif
