/*
 * bench_errors: what failed, counted by status, with the first reason of each.
 */
#ifndef BENCH_ERRORS_H
#define BENCH_ERRORS_H

#include <pthread.h>
#include <stdint.h>

#include "hypervault.h"

/* Why an operation failed. All zero: it has not. */
typedef struct bench_failure {
    hv_status status;
    hv_error *error; /* owned; NULL if it did not come from the library */
    char *message;   /* owned; then this, if there is more to say than the status */
} bench_failure;

/* Set a failure that is not the library's, and return its status. */
hv_status bench_fail(bench_failure *failure, hv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Say on stderr what failed. */
void bench_failure_say(const bench_failure *failure);
void bench_failure_clear(bench_failure *failure);

#define BENCH_STATUSES 32 /* more than there are */

typedef struct bench_errors {
    pthread_mutex_t lock; /* guards the rest while callers run */
    int64_t total;
    int64_t count[BENCH_STATUSES]; /* by hv_status */
    char *first[BENCH_STATUSES];   /* owned; the first reason, or NULL */
} bench_errors;

void bench_errors_init(bench_errors *errors);
void bench_errors_fini(bench_errors *errors);

/* Count a failure. */
void bench_errors_add(bench_errors *errors, const bench_failure *failure);

#endif
