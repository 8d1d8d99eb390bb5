/*
 * error: build, copy and free an hv_error.
 *
 * Holds always: an error on the heap owns its texts. The errors in `bare` are static and never
 * changed. They are used when there is no memory for an error, and have the right status, because
 * "the write may have happened" must not turn into "out of memory".
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hv_error {
    hv_status status;
    bool retriable;
    int shard;        /* -1: none */
    int64_t copy_row; /* 0: none */
    int position;     /* likewise */
    hvi_refusal refusal;
    char sqlstate[6]; /* "" for none */
    char *message;
    char *detail; /* these three may be NULL */
    char *hint;
    char *server;
    char *constraint;
};

#define NAME(s) [s] = #s

static const char *const names[] = {NAME(HV_OK),          NAME(HV_NOT_FOUND),
                                    NAME(HV_INVALID),     NAME(HV_BAD_CONFIG),
                                    NAME(HV_NO_SERVER),   NAME(HV_TIMEOUT),
                                    NAME(HV_UNAVAILABLE), NAME(HV_OUTCOME_UNKNOWN),
                                    NAME(HV_REFUSED),     NAME(HV_NOT_INITIALIZED),
                                    NAME(HV_MISMATCH),    NAME(HV_CORRUPT),
                                    NAME(HV_CLOSED),      NAME(HV_BUSY),
                                    NAME(HV_NO_MEMORY),   NAME(HV_CONFLICT),
                                    NAME(HV_NOT_STORED),  NAME(HV_CHANGED),
                                    NAME(HV_MOVED)};

#define BARE(s) \
    [s] = {.status = (s), .shard = -1, .message = (char[]){#s ": out of memory for more"}}

static hv_error bare[] = {
    BARE(HV_INVALID),
    BARE(HV_BAD_CONFIG),
    BARE(HV_NO_SERVER),
    BARE(HV_TIMEOUT),
    BARE(HV_UNAVAILABLE),
    BARE(HV_OUTCOME_UNKNOWN),
    BARE(HV_REFUSED),
    BARE(HV_NOT_INITIALIZED),
    BARE(HV_MISMATCH),
    BARE(HV_CORRUPT),
    BARE(HV_CLOSED),
    BARE(HV_BUSY),
    BARE(HV_CONFLICT),
    BARE(HV_NOT_STORED),
    BARE(HV_MOVED),
    [HV_NO_MEMORY] = {.status = HV_NO_MEMORY, .shard = -1, .message = (char[]){"out of memory"}},
};

const char *hv_status_name(hv_status status) {
    return (size_t) status < sizeof names / sizeof *names ? names[status] : "HV_?";
}

/* Formatted text on the heap, or NULL. */
static char *format_text(const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0)
        return NULL;
    char *text = malloc((size_t) len + 1);
    if (text != NULL)
        vsnprintf(text, (size_t) len + 1, format, args);
    return text;
}

static char *copy_text(const char *text) {
    return text != NULL ? strdup(text) : NULL;
}

static bool is_bare(const hv_error *error) {
    return error >= bare && error < bare + sizeof bare / sizeof *bare;
}

/* The error that may still be written to, or NULL. */
static hv_error *writable(hv_error **error) {
    return error != NULL && !is_bare(*error) ? *error : NULL;
}

/* Put the static error of this status in place of what *error holds. */
static hv_status fail_bare(hv_error **error, hv_status status) {
    if (error != NULL) {
        hv_error_free(*error);
        *error = &bare[status];
    }
    return status;
}

hv_status hvi_no_memory(hv_error **error) {
    return fail_bare(error, HV_NO_MEMORY);
}

/* Is an error retriable, as far as its status decides that? */
static bool status_retriable(hv_status status) {
    return status == HV_TIMEOUT || status == HV_UNAVAILABLE || status == HV_MOVED;
}

hv_status hvi_fail(hv_error **error, hv_status status, const char *format, ...) {
    if (error == NULL)
        return status;
    hv_error *made = calloc(1, sizeof *made);
    if (made != NULL) {
        va_list args;
        va_start(args, format);
        made->message = format_text(format, args);
        va_end(args);
    }
    if (made == NULL || made->message == NULL) {
        free(made);
        return fail_bare(error, status);
    }
    made->status = status;
    made->retriable = status_retriable(status);
    made->shard = -1;
    hv_error_free(*error);
    *error = made;
    return status;
}

/* Replace one text of an error (the old one may be among the arguments). If memory is short the
 * error just lacks that text. */
static void set_text(char **field, const char *format, va_list args) {
    char *text = format_text(format, args);
    free(*field);
    *field = text;
}

/* In front of the message, which stays as it is if memory is short. */
void hvi_error_prefix(hv_error **error, const char *format, ...) {
    hv_error *e = writable(error);
    if (e == NULL)
        return;
    va_list args;
    va_start(args, format);
    char *prefix = format_text(format, args);
    va_end(args);
    size_t len = prefix != NULL ? strlen(prefix) : 0, rest = strlen(e->message) + 1;
    char *message = prefix != NULL ? realloc(prefix, len + rest) : NULL;
    if (message == NULL) {
        free(prefix);
        return;
    }
    memcpy(message + len, e->message, rest);
    free(e->message);
    e->message = message;
}

void hvi_error_detail(hv_error **error, const char *format, ...) {
    hv_error *e = writable(error);
    if (e == NULL)
        return;
    va_list args;
    va_start(args, format);
    set_text(&e->detail, format, args);
    va_end(args);
}

void hvi_error_hint(hv_error **error, const char *format, ...) {
    hv_error *e = writable(error);
    if (e == NULL)
        return;
    va_list args;
    va_start(args, format);
    set_text(&e->hint, format, args);
    va_end(args);
}

void hvi_error_where(hv_error **error, const char *server, int shard) {
    hv_error *e = writable(error);
    if (e == NULL)
        return;
    if (server != NULL) {
        char *copy = copy_text(server);
        free(e->server);
        e->server = copy;
    }
    if (shard >= 0)
        e->shard = shard;
}

/* Errors after which the same statement may succeed, by the classes of PostgreSQL's appendix A. */
static bool sqlstate_retriable(const char *sqlstate) {
    return strncmp(sqlstate, "40", 2) == 0      /* rollback: serialization failure, deadlock */
           || strncmp(sqlstate, "53", 2) == 0   /* resources: connections, disk, memory */
           || strcmp(sqlstate, "55P03") == 0    /* lock not available */
           || strncmp(sqlstate, "57P", 3) == 0; /* shutting down, starting up */
}

void hvi_error_sqlstate(hv_error **error, const char *sqlstate) {
    hv_error *e = writable(error);
    if (e == NULL || sqlstate == NULL)
        return;
    snprintf(e->sqlstate, sizeof e->sqlstate, "%s", sqlstate);
    if (e->status == HV_REFUSED)
        e->retriable = sqlstate_retriable(e->sqlstate);
}

bool hvi_error_has_sqlstate(const hv_error *error, const char *sqlstate) {
    const char *its = error != NULL ? hv_error_sqlstate(error) : NULL;
    return its != NULL && strcmp(its, sqlstate) == 0;
}

void hvi_error_constraint(hv_error **error, const char *constraint) {
    hv_error *e = writable(error);
    if (e == NULL || constraint == NULL)
        return;
    free(e->constraint);
    e->constraint = copy_text(constraint);
}

void hvi_error_copy_row(hv_error **error, int64_t row) {
    hv_error *e = writable(error);
    if (e != NULL)
        e->copy_row = row;
}

void hvi_error_position(hv_error **error, int position) {
    hv_error *e = writable(error);
    if (e != NULL)
        e->position = position;
}

int hvi_error_position_of(const hv_error *error) {
    return error != NULL ? error->position : 0;
}

void hvi_error_refusal(hv_error **error, hvi_refusal refusal) {
    hv_error *e = writable(error);
    if (e != NULL)
        e->refusal = refusal;
}

void hvi_error_retriable(hv_error **error, bool retriable) {
    hv_error *e = writable(error);
    if (e != NULL)
        e->retriable = retriable;
}

hv_error *hvi_error_copy(const hv_error *error) {
    if (error == NULL)
        return NULL;
    hv_error *copy = is_bare(error) ? NULL : malloc(sizeof *copy);
    if (copy == NULL)
        return &bare[error->status];
    *copy = *error;
    copy->message = copy_text(error->message);
    copy->detail = copy_text(error->detail);
    copy->hint = copy_text(error->hint);
    copy->server = copy_text(error->server);
    copy->constraint = copy_text(error->constraint);
    if (copy->message == NULL) {
        hv_error_free(copy);
        return &bare[error->status];
    }
    return copy;
}

hv_status hvi_error_move(hv_error **error, hv_error **from) {
    hv_status status = hv_error_status(*from);
    if (error == NULL) {
        hv_error_free(*from);
    } else {
        hv_error_free(*error);
        *error = *from;
    }
    *from = NULL;
    return status;
}

void hv_error_free(hv_error *error) {
    if (error == NULL || is_bare(error))
        return;
    free(error->message);
    free(error->detail);
    free(error->hint);
    free(error->server);
    free(error->constraint);
    free(error);
}

hv_status hv_error_status(const hv_error *error) {
    return error->status;
}

const char *hv_error_message(const hv_error *error) {
    return error->message;
}

const char *hv_error_detail(const hv_error *error) {
    return error->detail;
}

const char *hv_error_hint(const hv_error *error) {
    return error->hint;
}

const char *hv_error_sqlstate(const hv_error *error) {
    return error->sqlstate[0] != '\0' ? error->sqlstate : NULL;
}

const char *hv_error_server(const hv_error *error) {
    return error->server;
}

int64_t hvi_error_copy_row_of(const hv_error *error) {
    return error->copy_row;
}

hvi_refusal hvi_error_refusal_of(const hv_error *error) {
    return error != NULL ? error->refusal : HVI_REFUSAL_OTHER;
}

const char *hv_error_constraint(const hv_error *error) {
    return error->constraint;
}

int hv_error_shard(const hv_error *error) {
    return error->shard;
}

bool hv_error_retriable(const hv_error *error) {
    return is_bare(error) ? status_retriable(error->status) : error->retriable;
}

bool hv_error_outcome_unknown(const hv_error *error) {
    return error->status == HV_OUTCOME_UNKNOWN;
}
