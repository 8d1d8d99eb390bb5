/*
 * session_open: open a session, make it ready to be lent, take it back, close it.
 */
#ifndef HVI_SESSION_OPEN_H
#define HVI_SESSION_OPEN_H

#include "wire/session.h"

/*
 * Checks a new session with queries. In the first call *sql is NULL; each call sets *sql to the
 * next query, or to NULL when the check is done. In later calls the query has been run, and
 * `status` and `answer` are its outcome, or on failure *cause, which the function may take. On
 * failure the session is closed.
 */
typedef hv_status (*hvi_session_check_fn)(void *context, hvi_session *session, const char **sql,
                                          hv_status status, const PGresult *answer,
                                          hv_error **cause, hv_error **error);

/*
 * A session being opened: connected, set up (UTF8, UTC), checked. Apart from the look-up of host
 * names (see connect), only a user's connector without steps blocks, in hvi_opening_start().
 */
typedef struct hvi_opening {
    hvi_session_check_fn check; /* NULL: none */
    void *check_context;
    int64_t timeout;      /* ms, for messages */
    hvi_session *session; /* owned */
    enum { HVI_CONNECTING, HVI_ASKING, HVI_OPENED, HVI_OPENING_FAILED } state;
    hvi_attempt attempt;
    bool by_user;        /* instead, a user's connector with steps is connecting: … */
    void *users_attempt; /* … this is its attempt; owned … */
    int users_fd;        /* … and this descriptor is readable when it is over */
    hvi_script script;
    const char *sql; /* the query of the check; NULL: the script sets the session up */
    hv_error *error; /* owned; when failed */
} hvi_opening;

/* `deadline` is for the user's connector and for messages, and is shared by the server's hosts. */
void hvi_opening_start(hvi_opening *opening, const hvi_session_config *config,
                       hvi_session_check_fn check, void *check_context, int64_t deadline);

/* Make progress. HVI_WANTS_NOTHING: the opening has succeeded or failed. */
hvi_wants hvi_opening_advance(hvi_opening *opening);

/* The descriptor to wait for; it may change with each step. -1: none. */
int hvi_opening_fd(const hvi_opening *opening);

/* The moment when it must be advanced even if its descriptor is not ready, or HVI_NEVER. */
int64_t hvi_opening_next(const hvi_opening *opening);

/* Advance it until it has succeeded or failed, or the deadline passes. */
void hvi_opening_await(hvi_opening *opening, int64_t deadline);

/* Finish it; if it is not over, it is given up because it takes too long. Errors: HV_UNAVAILABLE,
 * HV_TIMEOUT, HV_NO_MEMORY, and those of the check. */
hv_status hvi_opening_finish(hvi_opening *opening, hvi_session **session, hv_error **error);

/* In a forked child, instead: let go of its descriptor, without sending anything to the server. */
void hvi_opening_disown(hvi_opening *opening);

/* Open a session without a check, waiting for it. */
hv_status hvi_session_open(const hvi_session_config *config, int64_t deadline,
                           hvi_session **session, hv_error **error);

void hvi_session_close(hvi_session *session);

/* In a forked child, let go of a connection that belongs to the parent process, without sending
 * anything to the server. It must have been at rest at the fork. */
void hvi_session_abandon(hvi_session *session);

/* The same for a connection that another thread may have been using at the fork: only its
 * descriptor is let go; its memory, in whatever state, stays as it is. */
void hvi_session_disown(hvi_session *session);

/* Is the connection still good, as far as can be seen without a round trip: not broken, not closed
 * by the server, no unread bytes? */
bool hvi_session_is_fit(const hvi_session *session);

/* Is a returned connection as good as new already? Never waits, and calls no user's function. */
bool hvi_session_is_as_new(hvi_session *session);

/* Make a returned connection as good as new: roll back, restore encoding and time zone. False if it
 * must be closed: broken, in COPY or pipeline mode, a statement in progress. */
bool hvi_session_reset(hvi_session *session, int64_t patience_ms);

/* Make the connection blocking again, as users of libpq expect, before it is lent. */
void hvi_session_prepare_lending(hvi_session *session);

#endif
