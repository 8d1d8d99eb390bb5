/*
 * connect: open a connection, step by step, without waiting: libpq's own connector.
 *
 * libpq 15 gives no result for a failed connection, only a text. Asked for VERBOSE texts it puts
 * the SQLSTATE in ("FATAL:  28P01: password …"), which is the only part of the text that does not
 * depend on the server's language.
 */
#include "connect.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "interrupt.h"

void hvi_discard_notice(void *context, const PGresult *result) {
    (void) context;
    (void) result;
}

bool hvi_wait_fd(int fd, hvi_wants wants, int64_t deadline) {
    struct pollfd waited = {
        .fd = fd,
        .events = wants == HVI_WANTS_WRITE ? POLLOUT | POLLIN : POLLIN,
    };
    if (fd < 0)
        return true;
    for (;;) {
        int ready = poll(&waited, 1, hvi_deadline_poll_ms(hvi_interrupt_before(deadline)));
        if (ready > 0 || (ready < 0 && errno != EINTR))
            return true;
        if (ready < 0)
            hvi_interrupt_signalled();
        if (hvi_is_late(deadline))
            return false;
    }
}

bool hvi_wait_socket(const PGconn *conn, hvi_wants wants, int64_t deadline) {
    return hvi_wait_fd(PQsocket(conn), wants, deadline);
}

bool hvi_is_readable(int fd) {
    struct pollfd looked = {.fd = fd, .events = POLLIN};
    return poll(&looked, 1, 0) != 0;
}

/* A text that is cut when the room is used up; always NUL-terminated. */
typedef struct bounded_text {
    char *text;
    size_t size;
    size_t len;
} bounded_text;

static void append(bounded_text *to, const char *bytes, size_t len) {
    size_t room = to->size - to->len - 1;
    size_t taken = len < room ? len : room;
    memcpy(to->text + to->len, bytes, taken);
    to->len += taken;
    to->text[to->len] = '\0';
}

/* The SQLSTATE in a line of a VERBOSE text, as in "FATAL:  28P01: …"; NULL if there is none. */
static const char *find_sqlstate(const char *line, size_t len) {
    for (const char *at = line; at + strlen(":  28P01: ") <= line + len; at++) {
        const char *state = at + strlen(":  ");
        if (strncmp(at, ":  ", 3) == 0 && strncmp(state + 5, ": ", 2) == 0 &&
            strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5)
            return state;
    }
    return NULL;
}

/*
 * libpq's text for a failed connection as one line: "… failed: Connection refused (Is the server
 * running …?)". The SQLSTATE goes where it belongs, the server's source position nowhere.
 */
static void take_message(const char *text, char *message, size_t size, char sqlstate[6]) {
    bounded_text to = {.text = message, .size = size};
    size_t len;
    for (const char *line = text; *line != '\0'; line += len + (line[len] == '\n')) {
        len = strcspn(line, "\n");
        bool is_remark = line[0] == '\t';
        if (len == 0 || strncmp(line, "LOCATION:", strlen("LOCATION:")) == 0)
            continue;
        append(&to, to.len == 0 ? "" : is_remark ? " (" : "; ", to.len == 0 ? 0 : 2);
        const char *start = is_remark ? line + 1 : line;
        const char *state = find_sqlstate(line, len);
        if (state != NULL) {
            memcpy(sqlstate, state, 5);
            sqlstate[5] = '\0';
            append(&to, start, (size_t) (state - start) - 1);
            start = state + strlen("28P01: ");
        }
        append(&to, start, (size_t) (line + len - start));
        append(&to, ")", is_remark ? 1 : 0);
    }
}

void hvi_connect_start(hvi_attempt *attempt, const char *const *keywords,
                       const char *const *values) {
    attempt->conn = PQconnectStartParams(keywords, values, 0);
    attempt->polling = PGRES_POLLING_WRITING;
    if (attempt->conn == NULL)
        return; /* hvi_connect_finish() will say so */
    PQsetNoticeReceiver(attempt->conn, hvi_discard_notice, NULL);
    PQsetErrorVerbosity(attempt->conn, PQERRORS_VERBOSE);
    if (PQstatus(attempt->conn) == CONNECTION_BAD)
        attempt->polling = PGRES_POLLING_FAILED;
}

/* libpq must not be called before the socket is ready for what it asked for. */
static bool is_ready(const hvi_attempt *attempt) {
    struct pollfd fd = {
        .fd = PQsocket(attempt->conn),
        .events = attempt->polling == PGRES_POLLING_WRITING ? POLLOUT : POLLIN,
    };
    return fd.fd < 0 || poll(&fd, 1, 0) != 0;
}

hvi_wants hvi_connect_advance(hvi_attempt *attempt) {
    while (attempt->conn != NULL && attempt->polling != PGRES_POLLING_OK &&
           attempt->polling != PGRES_POLLING_FAILED) {
        if (!is_ready(attempt))
            return attempt->polling == PGRES_POLLING_WRITING ? HVI_WANTS_WRITE : HVI_WANTS_READ;
        attempt->polling = PQconnectPoll(attempt->conn);
    }
    return HVI_WANTS_NOTHING;
}

hv_status hvi_connect_finish(hvi_attempt *attempt, int64_t timeout, PGconn **conn, char *message,
                             size_t message_size, char sqlstate[6]) {
    PGconn *opened = attempt->conn;
    attempt->conn = NULL;
    if (opened == NULL)
        return HV_NO_MEMORY;
    if (attempt->polling == PGRES_POLLING_OK) {
        PQsetErrorVerbosity(opened, PQERRORS_DEFAULT);
        *conn = opened;
        return HV_OK;
    }
    hv_status status = HV_UNAVAILABLE;
    if (attempt->polling == PGRES_POLLING_FAILED) {
        take_message(PQerrorMessage(opened), message, message_size, sqlstate);
    } else {
        snprintf(message, message_size, "no connection within %lld ms", (long long) timeout);
        status = HV_TIMEOUT;
    }
    PQfinish(opened);
    return status;
}

void hvi_libpq_disconnect(void *context, PGconn *conn, void *handle) {
    (void) context;
    (void) handle;
    PQfinish(conn);
}
