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

#include "config/log.h"
#include "wire/exchange.h"
#include "wire/statements.h"

/* What the sessions of one server share. Owned by the router; outlives the sessions; immutable. */
typedef struct hvi_session_config {
    const char *server;          /* its name */
    const char *const *keywords; /* libpq's parameters, NULL-terminated */
    const char *const *values;
    hv_connector connector;
    bool own_connections; /* the connector is ours: notices are ours to silence */
    int utf8;             /* libpq's number of this encoding */
    bool prepare;
    uint32_t prepared_max;
    hvi_log log;
} hvi_session_config;

/* Is what the connection has cached of the database still true? DDL may have made types anew, to
 * which statements, parameters, another driver on this connection and triggers refer by number. */
typedef enum hvi_session_age {
    HVI_SESSION_CURRENT,
    HVI_SESSION_DOUBTFUL, /* the server has missed something: close it when it is returned */
    HVI_SESSION_OUTDATED, /* the type hstore is another: so do with all that were opened before */
} hvi_session_age;

typedef struct hvi_session {
    const hvi_session_config *config;
    PGconn *conn; /* owned, through the connector */
    void *handle; /* the connector's */
    hvi_statements statements;
    bool broken;
    hvi_session_age age;
    /* The types hstore and hstore[] in this database; 0: not known. Set where they are looked
     * up. */
    Oid hstore_type;
    Oid hstore_array_type;
    bool reads_text;   /* see hvi_body_column(): bodies are read in hstore's text form */
    int64_t opened_at; /* hvi_clock_us() */

    /* The pool's: guarded by its lock. */
    hvi_list link;
    int64_t ends_at; /* it is too old from this moment on */
    int64_t idle_since;
    int64_t lent_at;    /* if somebody waited then, hvi_clock_us(); else 0 */
    int64_t seen_alive; /* when it was last looked at, hvi_clock_us() */
    unsigned generation;
    bool borrowed; /* its connection is in the hands of a borrower */
} hvi_session;

/* A statement and its parameters. Pointers are borrowed for the call. */
typedef struct hvi_query {
    const char *sql;
    int shard;           /* for errors and the log; -1: none in particular */
    bool is_write;       /* a connection lost after sending leaves the outcome unknown */
    bool in_copy;        /* no statement, but a piece of a COPY's data: there may be more */
    hvi_statement_id id; /* kept prepared under this name, if it has one */
    /* Parameters, as PQexecParams() takes them. */
    int parameter_count;
    const Oid *types; /* NULL: inferred */
    const char *const *values;
    const int *lengths;
    const int *formats;
    bool binary_result;
    /* The same for people, if the log wants them; else NULL. */
    const char *const *log_values;
} hvi_query;

/* Something that the server has cached for it, or that it remembers, may be no more. */
static inline void hvi_session_doubt(hvi_session *session) {
    if (session->age == HVI_SESSION_CURRENT)
        session->age = HVI_SESSION_DOUBTFUL;
}

/* Is the type of arrays of hstore known? A connection that was opened while hstore was not there
 * may be closed for another one that knows it, but not over and over. */
bool hvi_session_knows_arrays(hvi_session *session);

/*
 * Statements under way. Several are one pipeline and by default one transaction: if the server
 * refuses one, nothing of any has happened. With `apart` each is a transaction of its own, with its
 * own fate, and is not kept prepared. A single one whose statement is prepared already, or is not
 * to be, goes without a pipeline, as quickly as libpq can.
 *
 * An implicit transaction commits after its results have been sent, so that a statement is answered
 * when the server is ready for the next.
 */
#define HVI_PIPELINE_MESSAGES 3 /* of a statement, at most */

typedef struct hvi_pipeline {
    hvi_session *session;
    const hvi_query *queries; /* not owned; must stay until the end, but not their parameters */
    size_t count;
    bool apart;
    bool is_mended;               /* a refusal as stale is mended: the log need not see it */
    bool is_lone;                 /* it is no pipeline */
    struct hvi_message *messages; /* what was sent; owned, as the results */
    size_t message_count;
    PGresult **results; /* one a message */
    /* Both, of a single statement. */
    struct hvi_message {
        enum { HVI_MESSAGE_GIVE_UP, HVI_MESSAGE_PREPARE, HVI_MESSAGE_RUN } what;
        size_t query;               /* its number */
        hvi_statement_id statement; /* not of HVI_MESSAGE_RUN */
    } few_messages[HVI_PIPELINE_MESSAGES];
    PGresult *few_results[HVI_PIPELINE_MESSAGES];
    hvi_exchange exchange;
    int64_t started;
} hvi_pipeline;

/* Send it, as far as it goes without waiting. Always followed by hvi_pipeline_finish(). */
void hvi_pipeline_start(hvi_pipeline *pipeline, hvi_session *session, const hvi_query *queries,
                        size_t count, bool apart);

/* See it through: as hvi_exchange_advance(). */
hvi_wants hvi_pipeline_advance(hvi_pipeline *pipeline);

/*
 * It is over, or given up for being late. On HV_OK results[i], which was NULL, is that of
 * queries[i] and belongs to the caller. Errors: HV_REFUSED (the server's), HV_UNAVAILABLE (lost
 * before anything could have an effect, or only reads), HV_OUTCOME_UNKNOWN (a write lost after it
 * was sent), HV_TIMEOUT (reads past the deadline, or nothing was sent), HV_CORRUPT, HV_NO_MEMORY;
 * the error speaks for all, and all results are NULL. But of several that went `apart` each that
 * was answered has its result, which may be an error (see hvi_fail_refused()), and the others have
 * NULL and the error that is returned.
 */
hv_status hvi_pipeline_finish(hvi_pipeline *pipeline, PGresult **results, hv_error **error);

/* In a forked child, instead: forget it, and leave the connection alone. */
void hvi_pipeline_forget(hvi_pipeline *pipeline);

/* A single statement: all three, waiting for it. *result (never NULL on HV_OK) is the caller's. */
hv_status hvi_session_run(hvi_session *session, const hvi_query *query, int64_t deadline,
                          PGresult **result, hv_error **error);

/*
 * After a refusal that is stale, see hvi_refusal_is_stale(): put our books right. A borrower may
 * have said DEALLOCATE ALL or DISCARD ALL, or somebody has altered the table, or made it and its
 * types anew, as `pg_restore --clean` does. All that the connection has prepared is given up, and
 * the session's age is found out.
 */
typedef struct hvi_mending {
    hvi_session *session;
    hvi_refusal refusal;
    hvi_exchange exchange;
} hvi_mending;

/* As the three of a pipeline. `cause` is the refusal. False if it did not go well. */
void hvi_mending_start(hvi_mending *mending, hvi_session *session, const hv_error *cause);
hvi_wants hvi_mending_advance(hvi_mending *mending);
bool hvi_mending_finish(hvi_mending *mending);

/*
 * Wait for something that goes step by step: go on, by `advance`, until it is over or late. What a
 * server sends without end makes its socket ready at any time, so the deadline counts then too; but
 * what came while this process was not running is still read once.
 */
typedef hvi_wants (*hvi_advance_fn)(void *what);
void hvi_session_await(const hvi_session *session, int64_t deadline, hvi_advance_fn advance,
                       void *what);

/* SQL without parameters under way, several statements allowed. */
typedef struct hvi_script {
    hvi_session *session;
    const char *sql; /* not owned */
    hvi_exchange exchange;
    int64_t started;
} hvi_script;

/* As the three of a pipeline. *result, if `result` is not NULL, is the last one, in text form. */
void hvi_script_start(hvi_script *script, hvi_session *session, const char *sql, int shard,
                      bool is_write);
hvi_wants hvi_script_advance(hvi_script *script);
hv_status hvi_script_finish(hvi_script *script, PGresult **result, hv_error **error);

/* All three, waiting for it. */
hv_status hvi_session_script(hvi_session *session, const char *sql, int shard, bool is_write,
                             int64_t deadline, PGresult **result, hv_error **error);

/* As hvi_session_script(), but its last result may be that the server is ready for a COPY: then it
 * ends there. */
hv_status hvi_session_script_copy(hvi_session *session, const char *sql, int shard,
                                  int64_t deadline, PGresult **result, hv_error **error);

/* For session_copy: after something was handed to libpq, `sent` or not, see it through as
 * hvi_session_run() does. With query->in_copy it ends also when the server is ready for more. */
hv_status hvi_session_exchange(hvi_session *session, const hvi_query *query, bool sent,
                               int64_t deadline, PGresult **result, hv_error **error);

#endif
