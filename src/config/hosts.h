/*
 * hosts: the hosts that libpq tries for one connection, one address after the other.
 */
#ifndef HVI_HOSTS_H
#define HVI_HOSTS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Read a parameter of libpq's that is a number, such as connect_timeout, as libpq reads it: digits,
 * with a sign and white space around them if need be. False if it is no number, or not an int.
 */
bool hvi_hosts_number(const char *text, int *number);

/* libpq's least connect_timeout: a shorter one is made that long. */
#define HVI_LEAST_CONNECT_TIMEOUT 2

/* Which address of which host the attempt is at: equal for the same one, unlike for others. */
uint64_t hvi_hosts_current(const PGconn *conn);

/* The parameter's value in force for this connection, whether it came from the caller, a service
 * file or the environment: malloc()ed, "" if it has none. NULL if memory is short. */
char *hvi_hosts_parameter(PGconn *conn, const char *keyword);

/* libpq's lists of hosts, as values of its parameters. Each is owned, or NULL: not to be given. */
typedef struct hvi_hosts {
    char *host;
    char *hostaddr;
    char *port;
} hvi_hosts;

void hvi_hosts_fini(hvi_hosts *hosts);

/*
 * What is left to be tried without the address that an attempt is at: the other addresses of its
 * host and the hosts after it; of an attempt that prefers standbys also those before it, for they
 * may have been passed over only for being none. False if nothing is left, or memory is short.
 *
 * May look a host's name up, and then waits for that.
 */
bool hvi_hosts_left(PGconn *conn, hvi_hosts *left);

/*
 * How long each host may take when somebody else connects with these parameters and waits in libpq
 * for `timeout` ms at most: a value for connect_timeout, seconds. 0: as it is, for there is only
 * one host, or what was given is short enough. Nothing is connected to.
 */
int hvi_hosts_share(const char *const *keywords, const char *const *values, int64_t timeout);

#endif
