/*
 * clock: monotonic time and deadlines.
 */
#include "base/clock.h"

#include <limits.h>

static int64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t hvi_clock_us(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t hvi_clock_coarse_us(void) {
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

int64_t hvi_clock_unix_us(void) {
    return read_clock(CLOCK_REALTIME);
}

int64_t hvi_deadline_after(int64_t ms) {
    if (ms < 0 || ms > HVI_NEVER / 2000)
        return HVI_NEVER;
    return hvi_clock_us() + ms * 1000;
}

int hvi_deadline_poll_ms(int64_t deadline) {
    if (deadline == HVI_NEVER)
        return -1;
    int64_t left = deadline - hvi_clock_us();
    if (left <= 0)
        return 0;
    int64_t ms = (left + 999) / 1000;
    return ms < INT_MAX ? (int) ms : INT_MAX;
}

struct timespec hvi_deadline_timespec(int64_t deadline) {
    return (struct timespec){
        .tv_sec = (time_t) (deadline / 1000000),
        .tv_nsec = (long) (deadline % 1000000) * 1000,
    };
}
