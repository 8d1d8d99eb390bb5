/*
 * errors: failures, counted by status, with the first reason of each.
 */
#include "bench/errors.h"

#include <stdlib.h>

#include "ui/memory.h"
#include "ui/ui.h"

void bench_errors_init(bench_errors *errors) {
    *errors = (bench_errors){0};
    pthread_mutex_init(&errors->lock, NULL);
}

void bench_errors_fini(bench_errors *errors) {
    for (int i = 0; i < BENCH_STATUSES; i++)
        free(errors->first[i]);
    pthread_mutex_destroy(&errors->lock);
}

static char *reason_of(const sql_failure *failure) {
    if (failure->error == NULL)
        return failure->message != NULL ? copy_text(failure->message) : NULL;
    return ui_error_line(failure->error);
}

void bench_errors_add(bench_errors *errors, const sql_failure *failure) {
    int status = (int) failure->status;
    if (status < 0 || status >= BENCH_STATUSES)
        status = BENCH_STATUSES - 1; /* "HV_?" */
    pthread_mutex_lock(&errors->lock);
    errors->total++;
    if (errors->count[status]++ == 0)
        errors->first[status] = reason_of(failure);
    pthread_mutex_unlock(&errors->lock);
}
