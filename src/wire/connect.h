/*
 * connect: open a connection step by step, without waiting: the default connector, on libpq.
 */
#ifndef HVI_CONNECT_H
#define HVI_CONNECT_H

#include <libpq-fe.h>

#include "base/buffer.h"
#include "config/hosts.h"

/* What the socket must be ready for before a step can go on. */
typedef enum hvi_wants {
    HVI_WANTS_NOTHING, /* finished */
    HVI_WANTS_READ,
    HVI_WANTS_WRITE, /* or for reading */
} hvi_wants;

/*
 * An attempt to open a connection, to one address after the other. The only step that blocks is the
 * look-up of a host's name, which libpq does in hvi_connect_start(), and when it goes on to the
 * next host. Notices are discarded.
 *
 * An address is given up after connect_timeout, as in PQconnectdb(): see hosts. If other addresses
 * are left, it is also given up after silence for half of the time that remains until the deadline,
 * so that they get their turn whatever connect_timeout is.
 */
typedef struct hvi_attempt {
    PGconn *conn; /* owned until hvi_connect_finish() gives it away */
    PostgresPollingStatusType polling;
    /* The parameters, in arrays of its own with room for those in `hosts`. */
    const char **keywords;
    const char **values;
    size_t count; /* without those in `hosts` */
    hvi_hosts hosts;
    hvi_buffer given_up; /* libpq's texts about addresses that were given up */
    bool all_given_up;
    int64_t deadline;
    int64_t limit_us;   /* connect_timeout; 0: none */
    uint64_t address;   /* the current one, see hvi_hosts_current(); it is given up … */
    int64_t over_at;    /* … at this moment, even if it answers, … */
    int64_t silence_us; /* … or after so long a silence, if others are left: … */
    int64_t silent_at;  /* … at this moment */
} hvi_attempt;

/* The texts of the parameters must stay until the attempt is finished. `deadline` is that of the
 * whole attempt; the caller must finish it then. */
void hvi_connect_start(hvi_attempt *attempt, const char *const *keywords, const char *const *values,
                       int64_t deadline);

/* Do one step. HVI_WANTS_NOTHING: the attempt has succeeded or failed. */
hvi_wants hvi_connect_advance(hvi_attempt *attempt);

/* The moment when the attempt must be advanced even if its socket is not ready, or HVI_NEVER. */
int64_t hvi_connect_next(const hvi_attempt *attempt);

/* Advance the attempt until it has succeeded or failed, or the deadline passes. */
void hvi_connect_await(hvi_attempt *attempt, int64_t deadline);

/* Finish the attempt; if it is not over, it is given up. On HV_OK *conn belongs to the caller.
 * Otherwise as hv_connector's connect. */
hv_status hvi_connect_finish(hvi_attempt *attempt, int64_t timeout, PGconn **conn, char *message,
                             size_t message_size, char sqlstate[6]);

/* The default connector's disconnect. */
void hvi_libpq_disconnect(void *context, PGconn *conn, void *handle);

/* A notice receiver that does nothing: libpq's own prints to stderr. */
void hvi_discard_notice(void *context, const PGresult *result);

/* Wait until a connection's socket is ready. False if the deadline passed or the operation is
 * interrupted; true also if the socket is broken, or there is none: its next use will show that. */
bool hvi_wait_socket(const PGconn *conn, hvi_wants wants, int64_t deadline);

/* The same for any descriptor, but wait until `moment` at most. False if the deadline has passed,
 * even if the descriptor is ready. */
bool hvi_wait_fd_until(int fd, hvi_wants wants, int64_t moment, int64_t deadline);

/* What is ready of these events (as for poll(2)), without waiting; 0: nothing. A signal does not
 * change the answer. */
short hvi_events_now(int fd, short events);

#endif
