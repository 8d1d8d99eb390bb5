/*
 * errors: failures, counted by status, with the first reason of each.
 */
#ifndef BENCH_ERRORS_H
#define BENCH_ERRORS_H

#include <pthread.h>
#include <stdint.h>

#include "servers/sql.h"

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
void bench_errors_add(bench_errors *errors, const sql_failure *failure);

#endif
