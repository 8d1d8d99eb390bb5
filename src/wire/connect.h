/*
 * connect: open a connection, step by step, without waiting: libpq's own connector.
 */
#ifndef HVI_CONNECT_H
#define HVI_CONNECT_H

#include <libpq-fe.h>

#include "base/buffer.h"
#include "config/hosts.h"

/* What a caller that must not wait needs the socket for, before it can go on. */
typedef enum hvi_wants {
    HVI_WANTS_NOTHING, /* it is done */
    HVI_WANTS_READ,
    HVI_WANTS_WRITE, /* or to read */
} hvi_wants;

/*
 * An attempt to open a connection, to one address after the other. Nothing waits but the look-up of
 * a host's name, which libpq does in hvi_connect_start(), and when it comes to the next host.
 * Notices are discarded.
 *
 * An address is given up after connect_timeout, as in PQconnectdb(): see hosts. And where others
 * are left, none may be silent for more than half of the time that there is until the deadline, so
 * that they have their turn whatever connect_timeout is.
 */
typedef struct hvi_attempt {
    PGconn *conn; /* owned until hvi_connect_finish() gives it away */
    PostgresPollingStatusType polling;
    /* The parameters, in arrays of its own with room for three more, which are `hosts`. */
    const char **keywords;
    const char **values;
    size_t count; /* without those three */
    hvi_hosts hosts;
    hvi_buffer given_up; /* libpq's texts about addresses that were given up */
    bool all_given_up;
    int64_t deadline;
    int64_t limit_us;   /* connect_timeout; 0: none */
    uint64_t address;   /* the one it is at, see hvi_hosts_current() … */
    int64_t over_at;    /* … given up at this moment, however it answers … */
    int64_t silence_us; /* … or after silence for so long, if there are others … */
    int64_t silent_at;  /* … that is at this moment */
} hvi_attempt;

/* The texts of the parameters must stay until it is finished. `deadline` is that of the whole
 * attempt: to finish it then is the caller's part. */
void hvi_connect_start(hvi_attempt *attempt, const char *const *keywords, const char *const *values,
                       int64_t deadline);

/* HVI_WANTS_NOTHING: it is over, one way or the other. */
hvi_wants hvi_connect_advance(hvi_attempt *attempt);

/* The moment when it must be advanced, whatever its socket says; HVI_NEVER. */
int64_t hvi_connect_next(const hvi_attempt *attempt);

/* Advance it until it is over or the deadline passes. */
void hvi_connect_await(hvi_attempt *attempt, int64_t deadline);

/* It is over: *conn is the caller's. Or it is not, and given up. Otherwise as hv_connector's
 * connect. */
hv_status hvi_connect_finish(hvi_attempt *attempt, int64_t timeout, PGconn **conn, char *message,
                             size_t message_size, char sqlstate[6]);

/* Closes what such an attempt opened. */
void hvi_libpq_disconnect(void *context, PGconn *conn, void *handle);

/* A notice receiver that does nothing: libpq's own prints to stderr. */
void hvi_discard_notice(void *context, const PGresult *result);

/*
 * Wait until a descriptor is ready for what is wanted. False if the deadline passed or the
 * operation is interrupted; true also if it is broken, or -1: the next use will show it.
 */
bool hvi_wait_fd(int fd, hvi_wants wants, int64_t deadline);

/* The same until `moment`, at which the waiter will do something and go on: false only if the
 * deadline has passed, even if it is ready. */
bool hvi_wait_fd_until(int fd, hvi_wants wants, int64_t moment, int64_t deadline);

/* The same for a connection's socket. */
bool hvi_wait_socket(const PGconn *conn, hvi_wants wants, int64_t deadline);

/* Is there something to be read, or is it broken? */
bool hvi_is_readable(int fd);

#endif
