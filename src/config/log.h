/*
 * log: tell the log callback about a statement.
 */
#ifndef HVI_LOG_H
#define HVI_LOG_H

#include "base/error.h"

/* Where events go. Copied into every session; immutable. */
typedef struct hvi_log {
    hv_log_fn fn; /* NULL: nobody listens */
    void *context;
    bool parameters; /* are parameters asked for? */
} hvi_log;

struct hv_log_event {
    const char *statement;
    const char *server;
    int shard;
    int64_t duration_us;
    hv_status status;
    const char *sqlstate;          /* NULL: none */
    const char *const *parameters; /* text for people; NULL entries are NULL */
    size_t parameter_count;
};

static inline void hvi_log_emit(const hvi_log *log, const hv_log_event *event) {
    if (log->fn != NULL)
        log->fn(log->context, event);
}

#endif
