/*
 * connect: open a connection within a deadline: libpq's own connector.
 */
#ifndef HVI_CONNECT_H
#define HVI_CONNECT_H

#include <libpq-fe.h>

#include "error.h"

/* Uses PQconnectStartParams() and poll(2), so that the time-out holds for everything but the
 * look-up of a host's name, which libpq does while the caller waits. Notices are discarded. */
extern const hv_connector hvi_libpq_connector;

/* What somebody who must not wait needs the socket for, before he can go on. */
typedef enum hvi_wants {
    HVI_WANTS_NOTHING, /* he is done */
    HVI_WANTS_READ,
    HVI_WANTS_WRITE, /* or to read */
} hvi_wants;

/* A notice receiver that does nothing: libpq's own prints to stderr. */
void hvi_discard_notice(void *context, const PGresult *result);

/*
 * Wait until the socket of `conn` can be read (or written, if `for_write`). False if the deadline
 * passed; true also if the socket is broken: the next use will tell.
 */
bool hvi_wait_socket(PGconn *conn, bool for_write, int64_t deadline);

#endif
