/*
 * cancel: ask a server to end the statement that a session is running.
 *
 * libpq opens a connection of its own for that and waits for the server, without a limit. So the
 * caller first finds out whether the server answers at all: one that is stopped does not, although
 * its system accepts connections.
 */
#ifndef HVI_CANCEL_H
#define HVI_CANCEL_H

#include "wire/session.h"

/* Does the server at the other end of this session's connection answer a new connection within this
 * time? Blocks for so long. */
bool hvi_cancel_is_heard(const hvi_session *session, int64_t patience_ms);

/* Ask for the end of its statement. It may have ended meanwhile; whether it was cancelled, its
 * answer shows. */
void hvi_cancel(hvi_session *session);

#endif
