/*
 * session: one PostgreSQL connection: set up, run statements within a deadline, keep statements
 * prepared, turn the server's messages into errors. With session_copy, the only module that calls
 * libpq's query functions.
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

/* Settings that the sessions of one server share. Owned by the router, outlives them; immutable. */
typedef struct hvi_session_config {
    const char *server;          /* its name */
    const char *const *keywords; /* libpq's parameters, NULL-terminated */
    const char *const *values;
    hv_connector connector;
    bool own_connections;      /* the connector is ours, so we silence notices */
    int utf8;                  /* libpq's number of this encoding */
    bool asks_for_no_encoding; /* when it logs in: it is set afterwards */
    bool prepare;
    uint32_t prepared_max;
    hvi_log log;
} hvi_session_config;

/* Is what the connection has cached about the database still valid? DDL may have re-created types
 * that statements, parameters, another driver on it and triggers refer to by number. */
typedef enum hvi_session_age {
    HVI_SESSION_CURRENT,
    HVI_SESSION_DOUBTFUL, /* its cache may be out of date: close it when it is returned */
    HVI_SESSION_OUTDATED, /* hstore is another type: close all that were opened before, too */
} hvi_session_age;

/* Room for a name of PostgreSQL's in quotes, each of whose up to 63 bytes may be a quote. */
#define HVI_QUOTED_NAME_LEN 130

typedef struct hvi_session {
    const hvi_session_config *config;
    PGconn *conn; /* owned, through the connector */
    void *handle; /* the connector's */
    hvi_statements statements;
    bool broken;
    hvi_session_age age;
    /* The types hstore and hstore[] in this database; 0: unknown. Set where they are looked up. */
    Oid hstore_type;
    Oid hstore_array_type;
    char hstore_schema[HVI_QUOTED_NAME_LEN]; /* that of the type and its functions, quoted */
    bool reads_text;   /* see hvi_body_column(): bodies are read in hstore's text form */
    int64_t opened_at; /* hvi_clock_us() */

    /* The pool's: guarded by its lock. */
    hvi_list link;
    int64_t ends_at; /* it is too old from this moment on */
    int64_t idle_since;
    int64_t lent_at;    /* if another caller waited then, hvi_clock_us(); else 0 */
    int64_t seen_alive; /* when it was last looked at, or answered, hvi_clock_us() */
    unsigned generation;
    bool borrowed; /* its connection is lent to a borrower */
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
    /* The parameters in readable form, if the log wants them; else NULL. */
    const char *const *log_values;
} hvi_query;

/* Something that the server or the session itself has cached for it may no longer exist. */
static inline void hvi_session_doubt(hvi_session *session) {
    if (session->age == HVI_SESSION_CURRENT)
        session->age = HVI_SESSION_DOUBTFUL;
}

/* Is the type of arrays of hstore known? A connection that was opened before hstore existed may be
 * closed in favour of one that knows it, but not over and over. */
bool hvi_session_knows_arrays(hvi_session *session);

/*
 * Running statements. Several are one pipeline and by default one transaction: if the server
 * refuses one, none of them has had an effect. With `apart` each is a transaction of its own, with
 * its own fate, and is not kept prepared. A single statement that is prepared already, or is not to
 * be, goes without a pipeline, as quickly as libpq can.
 *
 * An implicit transaction commits after its results have been sent, so that a statement is answered
 * when the server is ready for the next.
 */
#define HVI_PIPELINE_MESSAGES 3 /* of a statement, at most */

typedef struct hvi_pipeline {
    hvi_session *session;
    const hvi_query *queries; /* not owned; must last until the end, unlike their parameters */
    size_t count;
    bool apart;
    bool is_mended;               /* a stale refusal is mended: it need not be logged */
    bool is_lone;                 /* it goes without a pipeline */
    struct hvi_message *messages; /* what was sent; owned, as the results */
    size_t message_count;
    PGresult **results; /* one per message */
    /* Both, for a single statement. */
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

/* Make progress: as hvi_exchange_advance(). */
hvi_wants hvi_pipeline_advance(hvi_pipeline *pipeline);

/*
 * When it is over, or given up as late. On HV_OK results[i], which was NULL, is that of queries[i]
 * and belongs to the caller. Errors: HV_REFUSED (the server's), HV_UNAVAILABLE (lost before
 * anything could have an effect, or only reads), HV_OUTCOME_UNKNOWN (a write lost after it was
 * sent), HV_TIMEOUT (reads past the deadline, or nothing was sent), HV_CORRUPT, HV_NO_MEMORY; the
 * error is that of all queries, and all results are NULL. But of several that went `apart`, each
 * that was answered has its result, which may be an error (see hvi_fail_refused()); the others have
 * NULL and the error that is returned.
 */
hv_status hvi_pipeline_finish(hvi_pipeline *pipeline, PGresult **results, hv_error **error);

/* In a forked child, instead: forget it, and leave the connection alone. */
void hvi_pipeline_forget(hvi_pipeline *pipeline);

/* All three for one statement, waiting for it. *result (never NULL on HV_OK) is the caller's. */
hv_status hvi_session_run(hvi_session *session, const hvi_query *query, int64_t deadline,
                          PGresult **result, hv_error **error);

/*
 * After a stale refusal, see hvi_refusal_is_stale(): correct the list of prepared statements. A
 * borrower may have run DEALLOCATE ALL or DISCARD ALL, or another session has altered the table, or
 * re-created it and its types, as `pg_restore --clean` does. All that the connection has prepared
 * is given up, and the session's age is determined.
 */
typedef struct hvi_mending {
    hvi_session *session;
    hvi_refusal refusal;
    hvi_exchange exchange;
} hvi_mending;

/* As the three of a pipeline. `cause` is the refusal. Returns false if mending failed. */
void hvi_mending_start(hvi_mending *mending, hvi_session *session, const hv_error *cause);
hvi_wants hvi_mending_advance(hvi_mending *mending);
bool hvi_mending_finish(hvi_mending *mending);

/* All three, waiting for it. */
bool hvi_session_mend(hvi_session *session, const hv_error *cause, int64_t deadline);

/*
 * Wait for something that goes step by step: call `advance` until it is over or late. A server that
 * sends without end keeps its socket ready, so the deadline counts then too; but what arrived while
 * this process was not running is still read once.
 */
typedef hvi_wants (*hvi_advance_fn)(void *what);
void hvi_session_await(const hvi_session *session, int64_t deadline, hvi_advance_fn advance,
                       void *what);

/* Running SQL without parameters; several statements are allowed. */
typedef struct hvi_script {
    hvi_session *session;
    const char *sql; /* not owned */
    hvi_exchange exchange;
    int64_t started;
    size_t completed; /* when it is finished: how many statements were answered without an error */
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

/* For session_copy: after something was handed to libpq, `sent` or not, run it to its end as
 * hvi_session_run() does. With query->in_copy it also ends when the server is ready for more. */
hv_status hvi_session_exchange(hvi_session *session, const hvi_query *query, bool sent,
                               int64_t deadline, PGresult **result, hv_error **error);

#endif
