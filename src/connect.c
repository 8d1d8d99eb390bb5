/*
 * connect: open a connection within a deadline: libpq's own connector.
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

void hvi_discard_notice(void *context, const PGresult *result) {
    (void) context;
    (void) result;
}

bool hvi_wait_socket(PGconn *conn, bool for_write, int64_t deadline) {
    struct pollfd fd = {
        .fd = PQsocket(conn),
        .events = for_write ? POLLOUT | POLLIN : POLLIN,
    };
    if (fd.fd < 0)
        return true;
    for (;;) {
        int ready = poll(&fd, 1, hvi_deadline_poll_ms(deadline));
        if (ready > 0)
            return true;
        if (ready == 0 && hvi_deadline_poll_ms(deadline) == 0)
            return false;
        if (ready < 0 && errno != EINTR)
            return true;
    }
}

/* Is this where a VERBOSE text has its SQLSTATE, as in ":  28P01: "? */
static bool is_sqlstate(const char *text) {
    for (int i = 0; i < 5; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'A' && text[i] <= 'Z')))
            return false;
    return strncmp(text + 5, ": ", 2) == 0;
}

/*
 * libpq's text for a failed connection as one line, without the SQLSTATE, which goes where it
 * belongs, and without the server's source position.
 */
static void take_message(const char *text, char *message, size_t size, char sqlstate[6]) {
    size_t len = 0;
    bool line_start = true;
    for (const char *at = text; *at != '\0' && len + 1 < size; at++) {
        if (line_start && strncmp(at, "LOCATION:", strlen("LOCATION:")) == 0) {
            at += strcspn(at, "\n");
            if (*at == '\0')
                break;
            continue;
        }
        line_start = *at == '\n';
        if (at >= text + 3 && strncmp(at - 3, ":  ", 3) == 0 && is_sqlstate(at)) {
            memcpy(sqlstate, at, 5);
            sqlstate[5] = '\0';
            at += strlen("28P01:");
            continue;
        }
        message[len++] = *at == '\n' || *at == '\t' ? ' ' : *at;
    }
    while (len > 0 && message[len - 1] == ' ')
        len--;
    message[len] = '\0';
}

static hv_status libpq_connect(void *context, const char *const *keywords,
                               const char *const *values, int64_t timeout, PGconn **conn,
                               void **handle, char *message, size_t message_size,
                               char sqlstate[6]) {
    (void) context;
    int64_t deadline = hvi_deadline_after(timeout);
    PGconn *opened = PQconnectStartParams(keywords, values, 0);
    if (opened == NULL)
        return HV_NO_MEMORY;
    PQsetNoticeReceiver(opened, hvi_discard_notice, NULL);
    PQsetErrorVerbosity(opened, PQERRORS_VERBOSE);

    PostgresPollingStatusType want = PGRES_POLLING_WRITING;
    bool in_time = true;
    if (PQstatus(opened) == CONNECTION_BAD)
        want = PGRES_POLLING_FAILED;
    while (want != PGRES_POLLING_OK && want != PGRES_POLLING_FAILED && in_time) {
        struct pollfd fd = {
            .fd = PQsocket(opened),
            .events = want == PGRES_POLLING_WRITING ? POLLOUT : POLLIN,
        };
        int ready = poll(&fd, 1, hvi_deadline_poll_ms(deadline));
        if (ready > 0 || (ready < 0 && errno != EINTR))
            want = PQconnectPoll(opened);
        else
            in_time = hvi_deadline_poll_ms(deadline) != 0;
    }
    if (want == PGRES_POLLING_OK) {
        PQsetErrorVerbosity(opened, PQERRORS_DEFAULT);
        *conn = opened;
        *handle = NULL;
        return HV_OK;
    }
    hv_status status = HV_UNAVAILABLE;
    if (in_time) {
        take_message(PQerrorMessage(opened), message, message_size, sqlstate);
    } else {
        snprintf(message, message_size, "no connection within %lld ms", (long long) timeout);
        status = HV_TIMEOUT;
    }
    PQfinish(opened);
    return status;
}

static void libpq_disconnect(void *context, PGconn *conn, void *handle) {
    (void) context;
    (void) handle;
    PQfinish(conn);
}

const hv_connector hvi_libpq_connector = {
    .connect = libpq_connect,
    .disconnect = libpq_disconnect,
};
