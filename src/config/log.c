/*
 * log: the accessors of a log event.
 */
#include "config/log.h"

const char *hv_log_statement(const hv_log_event *event) {
    return event->statement;
}

const char *hv_log_server(const hv_log_event *event) {
    return event->server;
}

int hv_log_shard(const hv_log_event *event) {
    return event->shard;
}

int64_t hv_log_duration_us(const hv_log_event *event) {
    return event->duration_us;
}

hv_status hv_log_status(const hv_log_event *event) {
    return event->status;
}

const char *hv_log_sqlstate(const hv_log_event *event) {
    return event->sqlstate;
}

size_t hv_log_parameter_count(const hv_log_event *event) {
    return event->parameter_count;
}

const char *hv_log_parameter(const hv_log_event *event, size_t index) {
    return index < event->parameter_count ? event->parameters[index] : NULL;
}
