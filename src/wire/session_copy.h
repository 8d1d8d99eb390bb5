/*
 * session_copy: COPY over a session, both ways.
 *
 * A COPY of any length has no deadline; each wait for the server has, `timeout` milliseconds.
 * Beside session the only module that calls libpq's query functions: COPY has its own.
 */
#ifndef HVI_SESSION_COPY_H
#define HVI_SESSION_COPY_H

#include "wire/session.h"

/* Gives the next piece of what is to be copied, valid until the next call; false: there is no more.
 */
typedef bool (*hvi_copy_source)(void *context, const char **piece, size_t *len);

/*
 * Run a script that ends with a COPY … FROM STDIN, sending what the source gives, and wait for its
 * end. *stored is how many rows the server says that it has stored. To be run inside a transaction:
 * that a connection is lost means then that nothing was written. Errors: as hvi_session_run() for a
 * read.
 */
hv_status hvi_session_copy_in(hvi_session *session, const char *sql, int shard,
                              hvi_copy_source source, void *context, int64_t timeout,
                              int64_t *stored, hv_error **error);

/* Begin a COPY … TO STDOUT. Errors: as hvi_session_run() for a read. */
hv_status hvi_session_copy_out(hvi_session *session, const char *sql, int shard, int64_t timeout,
                               hv_error **error);

/* The next piece of it: PQfreemem() it. HV_NOT_FOUND: that was all, and the session is at rest.
 * Errors: as hvi_session_run() for a read. */
hv_status hvi_session_copy_next(hvi_session *session, int shard, int64_t timeout, char **piece,
                                size_t *len, hv_error **error);

#endif
