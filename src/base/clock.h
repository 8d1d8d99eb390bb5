/*
 * clock: monotonic time and deadlines.
 *
 * A moment is microseconds of CLOCK_MONOTONIC. A deadline is a moment, or HVI_NEVER.
 */
#ifndef HVI_CLOCK_H
#define HVI_CLOCK_H

#include <stdint.h>
#include <time.h>

#define HVI_NEVER INT64_MAX

int64_t hvi_clock_us(void);

/* The same, quicker, and up to some milliseconds late. */
int64_t hvi_clock_coarse_us(void);

/* The time of day: microseconds since 1970. */
int64_t hvi_clock_unix_us(void);

/* The moment `ms` milliseconds from now; HVI_NEVER for a negative number. */
int64_t hvi_deadline_after(int64_t ms);

/* Milliseconds until a deadline as poll(2) takes them: rounded up, 0 if it has passed, -1 for
 * HVI_NEVER. */
int hvi_deadline_poll_ms(int64_t deadline);

/* A deadline for pthread_cond_timedwait() on a condition that uses CLOCK_MONOTONIC. */
struct timespec hvi_deadline_timespec(int64_t deadline);

#endif
