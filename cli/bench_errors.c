/*
 * bench_errors: what failed, counted by status, with the first reason of each.
 */
#include "bench_errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory.h"
#include "ui.h"

hv_status bench_fail(bench_failure *failure, hv_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    if (vasprintf(&failure->message, format, values) < 0)
        out_of_memory();
    va_end(values);
    failure->status = status;
    return status;
}

void bench_failure_say(const bench_failure *failure) {
    if (failure->error != NULL)
        ui_error(failure->error);
    else
        ui_fail_status(failure->status, NULL, NULL, "%s",
                       failure->message != NULL ? failure->message
                                                : hv_status_name(failure->status));
}

void bench_failure_clear(bench_failure *failure) {
    hv_error_free(failure->error);
    free(failure->message);
    *failure = (bench_failure){0};
}

void bench_errors_init(bench_errors *errors) {
    *errors = (bench_errors){0};
    pthread_mutex_init(&errors->lock, NULL);
}

void bench_errors_fini(bench_errors *errors) {
    for (int i = 0; i < BENCH_STATUSES; i++)
        free(errors->first[i]);
    pthread_mutex_destroy(&errors->lock);
}

static char *reason_of(const bench_failure *failure) {
    if (failure->error == NULL)
        return failure->message != NULL ? copy_text(failure->message) : NULL;
    const char *detail = hv_error_detail(failure->error);
    return format_text("%s%s%s", hv_error_message(failure->error), detail != NULL ? ": " : "",
                       detail != NULL ? detail : "");
}

void bench_errors_add(bench_errors *errors, const bench_failure *failure) {
    int status = (int) failure->status;
    if (status < 0 || status >= BENCH_STATUSES)
        status = BENCH_STATUSES - 1; /* "HV_?" */
    pthread_mutex_lock(&errors->lock);
    errors->total++;
    if (errors->count[status]++ == 0)
        errors->first[status] = reason_of(failure);
    pthread_mutex_unlock(&errors->lock);
}
