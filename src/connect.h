/*
 * connect: open a connection, step by step, without waiting: libpq's own connector.
 */
#ifndef HVI_CONNECT_H
#define HVI_CONNECT_H

#include <libpq-fe.h>

#include "error.h"

/* What somebody who must not wait needs the socket for, before he can go on. */
typedef enum hvi_wants {
    HVI_WANTS_NOTHING, /* he is done */
    HVI_WANTS_READ,
    HVI_WANTS_WRITE, /* or to read */
} hvi_wants;

/*
 * An attempt to open a connection. Nothing waits but the look-up of a host's name, which libpq does
 * in hvi_connect_start(). Notices are discarded.
 */
typedef struct hvi_attempt {
    PGconn *conn; /* owned until hvi_connect_finish() gives it away */
    PostgresPollingStatusType polling;
} hvi_attempt;

void hvi_connect_start(hvi_attempt *attempt, const char *const *keywords,
                       const char *const *values);

/* HVI_WANTS_NOTHING: it is over, one way or the other. */
hvi_wants hvi_connect_advance(hvi_attempt *attempt);

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
 * operation is interrupted; true also if it is broken, or -1: the next use will tell.
 */
bool hvi_wait_fd(int fd, hvi_wants wants, int64_t deadline);

/* The same for a connection's socket. */
bool hvi_wait_socket(const PGconn *conn, hvi_wants wants, int64_t deadline);

/* Is there something to be read, or is it broken? */
bool hvi_is_readable(int fd);

#endif
