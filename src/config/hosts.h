/*
 * hosts: the hosts that libpq tries for one connection, one address after the other.
 */
#ifndef HVI_HOSTS_H
#define HVI_HOSTS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Read one of libpq's numeric parameters, such as connect_timeout, as libpq does: digits, perhaps
 * with a sign and with white space around them. False if it is not a number, or not in the range of
 * int.
 */
bool hvi_hosts_number(const char *text, int *number);

/* libpq's minimum connect_timeout, in seconds: a shorter one is raised to it. */
#define HVI_LEAST_CONNECT_TIMEOUT 2

/* A hash of the host and address that the attempt is at, to see when it goes on to another. */
uint64_t hvi_hosts_current(const PGconn *conn);

/* The parameter's effective value for this connection, whether it came from the caller, a service
 * file or the environment; "" if it has none. free() it. NULL if memory is short. */
char *hvi_hosts_parameter(PGconn *conn, const char *keyword);

/* libpq's lists of hosts, as values of its parameters. Each is owned, or NULL: not given. */
typedef struct hvi_hosts {
    char *host;
    char *hostaddr;
    char *port;
} hvi_hosts;

void hvi_hosts_fini(hvi_hosts *hosts);

/*
 * The hosts that are left to be tried after the address that an attempt is at: the other addresses
 * of its host and the hosts after it; if the attempt prefers standbys, also those before it, as
 * they may have been passed over only for not being standbys. False if nothing is left, or memory
 * is short.
 *
 * May look up a host's name, and blocks for that time.
 */
bool hvi_hosts_left(PGconn *conn, hvi_hosts *left);

/*
 * The time that each host may take when a user's connector connects with these parameters and waits
 * in libpq for at most `timeout` ms: a value for connect_timeout, in seconds. 0: leave it as it is,
 * because there is only one host, or the given value is short enough or malformed. Does not connect
 * to anything.
 */
int hvi_hosts_share(const char *const *keywords, const char *const *values, int64_t timeout);

/* Where a connection with some parameters would go, wherever libpq takes it from. Each is owned and
 * may be empty, but host and hostaddr are not both. */
typedef struct hvi_hosts_known {
    char *host;
    char *hostaddr;
    char *port;
    char *dbname;
    char *user;
    char *sslmode;
} hvi_hosts_known;

/* Does not connect to anything. False if memory is short, and then there is nothing to free. */
bool hvi_hosts_know(const char *const *keywords, const char *const *values, hvi_hosts_known *known);
void hvi_hosts_known_fini(hvi_hosts_known *known);

#endif
