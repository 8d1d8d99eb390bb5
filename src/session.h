/*
 * session: one PostgreSQL connection: set up, run statements within a deadline, keep statements
 * prepared, turn what the server says into errors. The only module that calls libpq's query
 * functions.
 *
 * A session is used by one thread at a time. After a failure that leaves the connection unusable it
 * is `broken`: close it.
 */
#ifndef HVI_SESSION_H
#define HVI_SESSION_H

#include <libpq-fe.h>

#include "log.h"
#include "statements.h"

/* What the sessions of one server share. Owned by the router; outlives the sessions; immutable. */
typedef struct hvi_session_config {
    const char *server;          /* its name */
    const char *const *keywords; /* libpq's parameters, NULL-terminated */
    const char *const *values;
    hv_connector connector;
    bool own_connections; /* the connector is ours: notices are ours to silence */
    bool prepare;
    uint32_t prepared_max;
    hvi_log log;
} hvi_session_config;

typedef struct hvi_session {
    const hvi_session_config *config;
    PGconn *conn; /* owned, through the connector */
    void *handle; /* the connector's */
    hvi_statements statements;
    bool broken;
    int64_t opened_at; /* hvi_clock_us() */

    /* The pool's: guarded by its lock. */
    hvi_list link;
    int64_t idle_since;
    unsigned generation;
    bool borrowed; /* its connection is in the hands of a borrower */
} hvi_session;

/* A statement and its parameters. Pointers are borrowed for the call. */
typedef struct hvi_query {
    const char *sql;
    int shard;     /* for errors and the log; -1: none in particular */
    bool is_write; /* a connection lost after sending leaves the outcome unknown */
    /* hvi_statement_id() of a statement to keep prepared, or HVI_NO_STATEMENT. */
    uint32_t id;
    /* Parameters, as PQexecParams() takes them: types are inferred. */
    int parameter_count;
    const char *const *values;
    const int *lengths;
    const int *formats;
    bool binary_result;
    /* The same for people, if the log wants them; else NULL. */
    const char *const *log_values;
} hvi_query;

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

/*
 * Run a statement and wait for all of its results, until the server is ready for the next: only
 * then has an implicit transaction committed. *result (never NULL on HV_OK) belongs to the caller:
 * PQclear(). Errors: HV_REFUSED (the server's), HV_UNAVAILABLE (lost before the statement could
 * have an effect, or a read), HV_OUTCOME_UNKNOWN (a write lost after it was sent), HV_TIMEOUT (a
 * read past its deadline), HV_NO_MEMORY.
 */
hv_status hvi_session_run(hvi_session *session, const hvi_query *query, int64_t deadline,
                          PGresult **result, hv_error **error);

/* The same for SQL without parameters, several statements allowed; the last result, in text form.
 * `result` may be NULL. */
hv_status hvi_session_script(hvi_session *session, const char *sql, int shard, bool is_write,
                             int64_t deadline, PGresult **result, hv_error **error);

#endif
