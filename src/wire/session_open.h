/*
 * session_open: open a session, make it ready to be lent, take it back, close it.
 */
#ifndef HVI_SESSION_OPEN_H
#define HVI_SESSION_OPEN_H

#include "wire/session.h"

/*
 * Asks the server of a new session something, and judges the answers. The first call has *sql NULL;
 * each one either sets *sql to what is to be asked next, or to NULL: then it is done. Before the
 * other calls the SQL was run, with `status` and, on HV_OK, `answer`; otherwise *cause, which the
 * function may take. On failure the session is closed.
 */
typedef hv_status (*hvi_session_check_fn)(void *context, hvi_session *session, const char **sql,
                                          hv_status status, const PGresult *answer,
                                          hv_error **cause, hv_error **error);

/*
 * A session being opened: connected to, set up (UTF8, UTC), checked. Nothing waits but a user's
 * connector without steps, which does its part in hvi_opening_start().
 */
typedef struct hvi_opening {
    hvi_session_check_fn check; /* NULL: none */
    void *check_context;
    int64_t timeout;      /* ms, for messages */
    hvi_session *session; /* owned */
    enum { HVI_CONNECTING, HVI_ASKING, HVI_OPENED, HVI_OPENING_FAILED } state;
    hvi_attempt attempt;
    bool by_user;        /* instead, an attempt of a user's connector with steps is under way … */
    void *users_attempt; /* … this one; owned … */
    int users_fd;        /* … and readable when it is over */
    hvi_script script;
    const char *sql; /* what the script asks; NULL: it sets up */
    hv_error *error; /* owned; when failed */
} hvi_opening;

/* `deadline` is for the user's connector, for messages, and shared by the hosts of a server. */
void hvi_opening_start(hvi_opening *opening, const hvi_session_config *config,
                       hvi_session_check_fn check, void *check_context, int64_t deadline);

/* HVI_WANTS_NOTHING: it is over, one way or the other. */
hvi_wants hvi_opening_advance(hvi_opening *opening);

/* The descriptor to wait for; it may change with each step. -1: none. */
int hvi_opening_fd(const hvi_opening *opening);

/* The moment when it must be advanced, whatever its descriptor says; HVI_NEVER. */
int64_t hvi_opening_next(const hvi_opening *opening);

/* Advance it until it is over or the deadline passes. */
void hvi_opening_await(hvi_opening *opening, int64_t deadline);

/* It is over, or given up for being late. Errors: HV_UNAVAILABLE, HV_TIMEOUT, HV_NO_MEMORY, and
 * what the check gives. */
hv_status hvi_opening_finish(hvi_opening *opening, hvi_session **session, hv_error **error);

/* In a forked child, instead: let its descriptor go, without a word to the server. */
void hvi_opening_disown(hvi_opening *opening);

/* Open one without a check, and wait for it. */
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

/* Is a returned connection as good as new already? Never waits, and calls nothing of the user's. */
bool hvi_session_is_as_new(hvi_session *session);

/* Make a returned connection as good as new: roll back, restore encoding and time zone. False if it
 * must be closed: broken, in COPY or pipeline mode, a statement under way. */
bool hvi_session_reset(hvi_session *session, int64_t patience_ms);

/* Make it blocking again, as libpq's users expect, before it is lent to one. */
void hvi_session_prepare_lending(hvi_session *session);

#endif
