/*
 * connect: open a connection step by step, without waiting: the default connector, on libpq.
 *
 * libpq 15 returns only a text for a failed connection. With verbosity VERBOSE the text contains
 * the SQLSTATE ("FATAL:  28P01: password …"), the only part that does not depend on the server's
 * language.
 */
#include "wire/connect.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"

void hvi_discard_notice(void *context, const PGresult *result) {
    (void) context;
    (void) result;
}

static bool wait_fd(int fd, hvi_wants wants, int64_t deadline) {
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

bool hvi_wait_fd_until(int fd, hvi_wants wants, int64_t moment, int64_t deadline) {
    wait_fd(fd, wants, moment < deadline ? moment : deadline);
    return !hvi_is_late(deadline);
}

bool hvi_wait_socket(const PGconn *conn, hvi_wants wants, int64_t deadline) {
    return wait_fd(PQsocket(conn), wants, deadline);
}

short hvi_events_now(int fd, short events) {
    struct pollfd looked = {.fd = fd, .events = events};
    int count;
    do
        count = poll(&looked, 1, 0);
    while (count < 0 && errno == EINTR); /* even without waiting */
    return count > 0 ? looked.revents : 0;
}

/* A text of limited size, cut where it is full; always NUL-terminated. */
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
 * Copy libpq's text for a failed connection as one line: "… failed: Connection refused (Is the
 * server running …?)". The SQLSTATE is taken out into `sqlstate`, and the server's source position
 * is dropped.
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

/* ---- one address after the other ---- */

/* libpq has made progress: start the limits anew for a new address, and that on silence in any
 * case. */
static void note_progress(hvi_attempt *attempt) {
    int64_t now = hvi_clock_us();
    uint64_t address = hvi_hosts_current(attempt->conn);
    if (address != attempt->address || attempt->over_at == 0)
        attempt->over_at = attempt->limit_us > 0 ? now + attempt->limit_us : HVI_NEVER;
    attempt->address = address;
    attempt->silence_us = (attempt->deadline - now) / 2;
    bool has_end = attempt->deadline != HVI_NEVER && attempt->deadline > now;
    attempt->silent_at = has_end ? now + attempt->silence_us : HVI_NEVER;
}

/* Begin a connection with all parameters; of two with the same name, the later one counts. */
static void connect_to_hosts(hvi_attempt *attempt) {
    const hvi_hosts *hosts = &attempt->hosts;
    size_t count = attempt->count;
    const struct {
        const char *keyword, *value;
    } lists[] = {{"host", hosts->host}, {"hostaddr", hosts->hostaddr}, {"port", hosts->port}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (lists[i].value == NULL)
            continue;
        attempt->keywords[count] = lists[i].keyword;
        attempt->values[count++] = lists[i].value;
    }
    attempt->keywords[count] = NULL;
    attempt->values[count] = NULL;
    attempt->over_at = 0;
    attempt->polling = PGRES_POLLING_WRITING;
    attempt->conn = PQconnectStartParams(attempt->keywords, attempt->values, 0);
    if (attempt->conn == NULL)
        return; /* hvi_connect_finish() will say so */
    PQsetNoticeReceiver(attempt->conn, hvi_discard_notice, NULL);
    PQsetErrorVerbosity(attempt->conn, PQERRORS_VERBOSE);
    if (PQstatus(attempt->conn) == CONNECTION_BAD)
        attempt->polling = PGRES_POLLING_FAILED;
}

static bool is_under_way(const hvi_attempt *attempt) {
    return attempt->conn != NULL && attempt->polling != PGRES_POLLING_OK &&
           attempt->polling != PGRES_POLLING_FAILED;
}

/* Read connect_timeout, the limit for each address. An invalid value ends the attempt: libpq checks
 * it in PQconnectdb() only. */
static void read_limit(hvi_attempt *attempt) {
    int seconds = 0;
    char *text = hvi_hosts_parameter(attempt->conn, "connect_timeout");
    if (text == NULL) {
        PQfinish(attempt->conn);
        attempt->conn = NULL; /* hvi_connect_finish() will say so */
        return;
    }
    if (*text != '\0' && !hvi_hosts_number(text, &seconds)) {
        hvi_buffer_append_format(
            &attempt->given_up,
            "invalid integer value \"%s\" for connection option \"connect_timeout\"\n", text);
        attempt->all_given_up = true;
        attempt->polling = PGRES_POLLING_FAILED;
    }
    if (seconds > 0 && seconds < HVI_LEAST_CONNECT_TIMEOUT)
        seconds = HVI_LEAST_CONNECT_TIMEOUT;
    attempt->limit_us = seconds > 0 ? seconds * INT64_C(1000000) : 0;
    free(text);
}

void hvi_connect_start(hvi_attempt *attempt, const char *const *keywords, const char *const *values,
                       int64_t deadline) {
    size_t count = 0;
    while (keywords[count] != NULL)
        count++;
    const size_t room = count + 3 + 1;
    *attempt = (hvi_attempt){.count = count, .deadline = deadline};
    attempt->keywords = calloc(2 * room, sizeof *attempt->keywords);
    if (attempt->keywords == NULL)
        return; /* hvi_connect_finish() will say so */
    attempt->values = attempt->keywords + room;
    memcpy(attempt->keywords, keywords, count * sizeof *keywords);
    memcpy(attempt->values, values, count * sizeof *values);
    connect_to_hosts(attempt);
    if (is_under_way(attempt))
        read_limit(attempt);
    if (is_under_way(attempt))
        note_progress(attempt);
}

/* libpq's text ends with its current address: "connection to server at … failed: ". */
static void note_given_up(hvi_attempt *attempt, bool timed_out) {
    hvi_buffer_append_text(&attempt->given_up, PQerrorMessage(attempt->conn));
    if (timed_out)
        hvi_buffer_append_text(&attempt->given_up, "timeout expired\n");
    else
        hvi_buffer_append_format(&attempt->given_up, "no answer for %lld ms\n",
                                 (long long) (attempt->silence_us / 1000));
}

/* Go on to the hosts that are left. If there are none, the attempt fails if the address has timed
 * out, and otherwise goes on waiting for it. */
static void give_up_address(hvi_attempt *attempt, bool timed_out) {
    hvi_hosts left;
    bool something = hvi_hosts_left(attempt->conn, &left);
    if (!something && !timed_out) {
        attempt->silent_at = HVI_NEVER;
        return;
    }
    note_given_up(attempt, timed_out);
    if (!something) {
        attempt->all_given_up = true;
        attempt->polling = PGRES_POLLING_FAILED;
        return;
    }
    PQfinish(attempt->conn);
    hvi_hosts_fini(&attempt->hosts);
    attempt->hosts = left;
    connect_to_hosts(attempt);
    if (is_under_way(attempt))
        note_progress(attempt);
}

/* Is the socket ready for what libpq asked for? PQconnectPoll() must not be called before. */
static bool is_ready(const hvi_attempt *attempt) {
    int fd = PQsocket(attempt->conn);
    short events = attempt->polling == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
    return fd < 0 || hvi_events_now(fd, events) != 0;
}

/* Only one step: the socket of a server that keeps sending is always ready, and the caller must get
 * to check its deadline. Data that has arrived is read, however late it is. */
hvi_wants hvi_connect_advance(hvi_attempt *attempt) {
    if (is_under_way(attempt) && is_ready(attempt)) {
        attempt->polling = PQconnectPoll(attempt->conn);
        note_progress(attempt);
    }
    int64_t now = hvi_clock_us();
    if (now >= hvi_connect_next(attempt) && now < attempt->deadline)
        give_up_address(attempt, now >= attempt->over_at);
    if (!is_under_way(attempt))
        return HVI_WANTS_NOTHING;
    return attempt->polling == PGRES_POLLING_WRITING ? HVI_WANTS_WRITE : HVI_WANTS_READ;
}

int64_t hvi_connect_next(const hvi_attempt *attempt) {
    if (!is_under_way(attempt))
        return HVI_NEVER;
    return attempt->over_at < attempt->silent_at ? attempt->over_at : attempt->silent_at;
}

void hvi_connect_await(hvi_attempt *attempt, int64_t deadline) {
    hvi_wants wants;
    bool in_time = true;
    while ((wants = hvi_connect_advance(attempt)) != HVI_WANTS_NOTHING && in_time)
        in_time =
            hvi_wait_fd_until(PQsocket(attempt->conn), wants, hvi_connect_next(attempt), deadline);
}

static void fini(hvi_attempt *attempt) {
    hvi_hosts_fini(&attempt->hosts);
    hvi_buffer_fini(&attempt->given_up);
    free(attempt->keywords);
    attempt->keywords = attempt->values = NULL;
}

hv_status hvi_connect_finish(hvi_attempt *attempt, int64_t timeout, PGconn **conn, char *message,
                             size_t message_size, char sqlstate[6]) {
    PGconn *opened = attempt->conn;
    attempt->conn = NULL;
    if (opened == NULL) {
        fini(attempt);
        return HV_NO_MEMORY;
    }
    if (attempt->polling == PGRES_POLLING_OK) {
        PQsetErrorVerbosity(opened, PQERRORS_DEFAULT);
        fini(attempt);
        *conn = opened;
        return HV_OK;
    }
    hvi_buffer *text = &attempt->given_up;
    hv_status status = attempt->polling == PGRES_POLLING_FAILED ? HV_UNAVAILABLE : HV_TIMEOUT;
    if (!attempt->all_given_up)
        hvi_buffer_append_text(text, PQerrorMessage(opened));
    if (status == HV_TIMEOUT)
        hvi_buffer_append_format(text, "no connection within %lld ms", (long long) timeout);
    take_message(hvi_buffer_ok(text) && text->data != NULL ? text->data : PQerrorMessage(opened),
                 message, message_size, sqlstate);
    PQfinish(opened);
    fini(attempt);
    return status;
}

void hvi_libpq_disconnect(void *context, PGconn *conn, void *handle) {
    (void) context;
    (void) handle;
    PQfinish(conn);
}
