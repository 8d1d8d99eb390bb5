/*
 * session_copy: COPY over a session, both ways.
 *
 * A COPY has no deadline as a whole, but each wait for the server has: `timeout` milliseconds. Only
 * session and this module, for COPY, call libpq's query functions.
 */
#ifndef HVI_SESSION_COPY_H
#define HVI_SESSION_COPY_H

#include "wire/session.h"

/* Returns the next piece to be copied, valid until the next call, or false if there are no more. */
typedef bool (*hvi_copy_source)(void *context, const char **piece, size_t *len);

/*
 * Run a script that ends with a COPY … FROM STDIN, sending the source's pieces, and wait for its
 * end. *stored is the number of stored rows that the server reports. Run it inside a transaction,
 * so that a lost connection means that nothing was written. Errors: as hvi_session_run() for a
 * read.
 */
hv_status hvi_session_copy_in(hvi_session *session, const char *sql, int shard,
                              hvi_copy_source source, void *context, int64_t timeout,
                              int64_t *stored, hv_error **error);

/* Begin a COPY … TO STDOUT. Errors: as hvi_session_run() for a read. */
hv_status hvi_session_copy_out(hvi_session *session, const char *sql, int shard, int64_t timeout,
                               hv_error **error);

/* The next piece; PQfreemem() it. HV_NOT_FOUND: there are no more, and the session is idle again.
 * Errors: as hvi_session_run() for a read. */
hv_status hvi_session_copy_next(hvi_session *session, int shard, int64_t timeout, char **piece,
                                size_t *len, hv_error **error);

#endif
