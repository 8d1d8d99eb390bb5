/*
 * exchange: send what was handed to libpq and receive the whole answer, step by step, without ever
 * waiting.
 *
 * An exchange is one statement or one pipeline: the connection is at rest before and after it. It
 * is in non-blocking mode, and belongs to the exchange until that is finished.
 */
#ifndef HVI_EXCHANGE_H
#define HVI_EXCHANGE_H

#include <libpq-fe.h>

#include "wire/connect.h"

typedef struct hvi_exchange {
    PGconn *conn;
    const char *server; /* for errors, as the next two; not owned */
    int shard;
    bool is_write;
    bool may_copy; /* it may end with the server ready for a COPY, or for more of one */
    int syncs;     /* the number of Syncs in a pipeline; 0: it is no pipeline */
    enum { HVI_FLUSHING, HVI_RECEIVING, HVI_ANSWERED, HVI_ASTRAY, HVI_LOST } state;
    bool sent;   /* the last byte may have been sent */
    bool waited; /* the caller has waited for the socket: there may be something to read */

    /* The answer. */
    /* Outside a pipeline: the last result that is no error, or the one of this number, from 1. */
    PGresult *last;        /* owned */
    size_t wanted;         /* 0: the last */
    size_t completed;      /* outside a pipeline: how many results were no errors */
    PGresult *first_error; /* the first error, or the one that ended the connection; owned */
    PGresult **all;        /* of a pipeline: see hvi_exchange_start_pipeline(); not owned */
    size_t room;
    size_t received; /* messages whose result has come, or that the server has skipped */
    int answered;    /* Syncs whose answer has come: what was sent before them is final */
} hvi_exchange;

/*
 * Begin, after PQsend…(). `is_sent` is false if libpq could not take everything.
 *
 * For a pipeline, `all` is an array of NULLs for the results of its `room` messages, in their
 * order. The result of a message that the server has skipped or not answered stays NULL. With one
 * Sync only good results are put there; with several, each part is one message with its own
 * outcome, and errors are put there too.
 */
void hvi_exchange_start(hvi_exchange *exchange, PGconn *conn, const char *server, bool is_sent);
void hvi_exchange_start_pipeline(hvi_exchange *exchange, PGconn *conn, const char *server,
                                 bool is_sent, int syncs, PGresult **all, size_t room);

/* Make progress. HVI_WANTS_NOTHING: the exchange is over, with an answer or without. Otherwise call
 * again when the socket is ready. */
hvi_wants hvi_exchange_advance(hvi_exchange *exchange);

/*
 * Finish the exchange; if it is not over, it is given up because it takes too long. *broken: the
 * connection cannot be used any more. HV_OK: there is an answer without an error, except that a
 * pipeline with several Syncs may have some: see `all`. Errors: HV_REFUSED (the server's),
 * HV_UNAVAILABLE (lost before anything could have an effect, or only reads were sent),
 * HV_OUTCOME_UNKNOWN, HV_TIMEOUT, HV_CORRUPT (an answer that does not fit what was sent, which were
 * only reads), HV_NO_MEMORY.
 */
hv_status hvi_exchange_finish(hvi_exchange *exchange, bool *broken, hv_error **error);

/* Results in `all` belong to the caller. */
void hvi_exchange_fini(hvi_exchange *exchange);

/* Does this result report success? */
bool hvi_result_is_good(const PGresult *result);

/* The error for a result that is one. */
hv_status hvi_fail_refused(const char *server, int shard, const PGresult *result, hv_error **error);

/* HV_UNAVAILABLE: the connection is lost, and nothing was written. */
hv_status hvi_fail_lost(const char *server, int shard, hv_error **error);

/* The error for an answer that has not come in time, or before the operation was interrupted.
 * `is_unknown`: a write that may have happened. */
hv_status hvi_fail_late(const char *server, int shard, bool is_unknown, hv_error **error);

#endif
