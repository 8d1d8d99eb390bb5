/*
 * exchange: see what was handed to libpq through: get it out of the door and the whole answer in,
 * step by step, without ever waiting.
 *
 * One exchange is what lies between two times that the connection is at rest: a statement, or a
 * pipeline. The connection is in non-blocking mode and belongs to the exchange until it is
 * finished.
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
    int syncs;     /* how many Syncs a pipeline has; 0: it is no pipeline */
    enum { HVI_FLUSHING, HVI_RECEIVING, HVI_ANSWERED, HVI_ASTRAY, HVI_LOST } state;
    bool sent;   /* may the last byte have left? */
    bool waited; /* advance() has asked for the socket: there may be something to read */

    /* The answer. */
    PGresult *last;        /* not in a pipeline: the last result that is no error; owned */
    PGresult *first_error; /* the first that is one, or the server's last word; owned */
    PGresult **all;        /* of a pipeline: see hvi_exchange_start_pipeline(); not owned */
    size_t room;
    size_t received; /* messages whose result has come, or that the server has skipped */
    int answered;    /* Syncs whose answer has come: what was sent before them is settled */
} hvi_exchange;

/*
 * After PQsend…(): begin. `is_sent` false says that libpq could not take it all.
 *
 * A pipeline brings an array, all NULL, for the results of its `room` messages; they come in the
 * order of the messages. One that the server has skipped or not answered stays NULL. With one Sync
 * only good results get there; with several each part, of one message, has its own fate, and errors
 * get there too.
 */
void hvi_exchange_start(hvi_exchange *exchange, PGconn *conn, const char *server, bool is_sent);
void hvi_exchange_start_pipeline(hvi_exchange *exchange, PGconn *conn, const char *server,
                                 bool is_sent, int syncs, PGresult **all, size_t room);

/* Do what can be done. HVI_WANTS_NOTHING: it is over, one way or the other. Else call again when
 * the socket is ready. */
hvi_wants hvi_exchange_advance(hvi_exchange *exchange);

/*
 * It is over, or given up for being late. *broken says that the connection is of no use any
 * more. HV_OK: there is an answer, and no error in it, except that a pipeline with several Syncs
 * may have some: see `all`. Errors: HV_REFUSED (the server's), HV_UNAVAILABLE (lost before anything
 * could have an effect, or only reads were sent), HV_OUTCOME_UNKNOWN, HV_TIMEOUT, HV_CORRUPT (an
 * answer to something else than was sent, and no writes were), HV_NO_MEMORY.
 */
hv_status hvi_exchange_finish(hvi_exchange *exchange, bool *broken, hv_error **error);

/* Results in `all` are the caller's. */
void hvi_exchange_fini(hvi_exchange *exchange);

/* Is this the server's word that it has done what it was told? */
bool hvi_result_is_good(const PGresult *result);

/* The error for a result that is one. */
hv_status hvi_fail_refused(const char *server, int shard, const PGresult *result, hv_error **error);

/* The error for an answer that has not come in time, or before the operation was interrupted.
 * `is_unknown`: a write that may have happened. */
hv_status hvi_fail_late(const char *server, int shard, bool is_unknown, hv_error **error);

#endif
