/*
 * log: call the log callback for a statement.
 */
#ifndef HVI_LOG_H
#define HVI_LOG_H

#include "base/error.h"

/* Where events go. Copied into every session; immutable. */
typedef struct hvi_log {
    hv_log_fn fn; /* NULL: none */
    void *context;
    bool parameters; /* log the parameters too */
} hvi_log;

struct hv_log_event {
    const char *statement;
    const char *server;
    int shard;
    int64_t duration_us;
    hv_status status;
    const char *sqlstate;          /* NULL: none */
    const char *const *parameters; /* readable text; NULL for NULL */
    size_t parameter_count;
};

static inline void hvi_log_emit(const hvi_log *log, const hv_log_event *event) {
    if (log->fn != NULL)
        log->fn(log->context, event);
}

#endif
