/*
 * session_open: open a session, make it ready to be lent, take it back, close it.
 */
#ifndef HVI_SESSION_OPEN_H
#define HVI_SESSION_OPEN_H

#include "session.h"

/* Open and set up: UTF8, UTC. Errors: HV_UNAVAILABLE, HV_TIMEOUT, HV_NO_MEMORY. */
hv_status hvi_session_open(const hvi_session_config *config, int64_t deadline,
                           hvi_session **session, hv_error **error);

void hvi_session_close(hvi_session *session);

/* Let go of a connection that belongs to the parent process, in a forked child: without a word to
 * the server. It must have been at rest at the fork. */
void hvi_session_abandon(hvi_session *session);

/* The same for one that another thread may have been using at the fork: only its descriptor is let
 * go; its memory, in whatever state, stays as it is. */
void hvi_session_disown(hvi_session *session);

/* Is the connection still good, as far as can be told without a round trip: not broken, not closed
 * by the server, no unread bytes? */
bool hvi_session_is_fit(const hvi_session *session);

/* Make a returned connection as good as new: roll back, restore encoding and time zone. False if it
 * must be closed: broken, in COPY or pipeline mode, a statement under way. */
bool hvi_session_reset(hvi_session *session, int64_t deadline);

/* Make it blocking again, as libpq's users expect, before it is lent to one. */
void hvi_session_prepare_lending(hvi_session *session);

#endif
