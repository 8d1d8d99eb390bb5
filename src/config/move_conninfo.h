/*
 * move_conninfo: how the other servers reach a server, for the subscriptions of a move.
 *
 * The other servers may know a server by another address than this program does, and log in as
 * another role: the settings move_host, move_port, move_user and so on of a server say how. They
 * are none of libpq's parameters of the server's own connections.
 *
 * A subscription keeps its connection string in pg_subscription.subconninfo of the server that
 * subscribes, where superusers can read it. So the server's own password never becomes part of it,
 * only what was given as move_password.
 */
#ifndef HVI_MOVE_CONNINFO_H
#define HVI_MOVE_CONNINFO_H

#include "base/buffer.h"
#include "config/options.h"

/*
 * Append the connection string, in libpq's "keyword = 'value'" form, with which another server
 * reaches this one. What is not set for moves is the server's own: host, hostaddr, port, database
 * and user (as libpq finds them: from a service file and the environment, too), sslmode and the
 * like; but no password, and no paths to files of this machine. If memory is short, the buffer is
 * broken.
 *
 * It may contain a secret: quote it for SQL, and keep it out of errors, logs and argv.
 */
void hvi_server_move_conninfo(const hvi_server_options *server, hvi_buffer *to);

/* Is there a password in the connection string? */
bool hvi_server_move_has_secret(const hvi_server_options *server);

#endif
