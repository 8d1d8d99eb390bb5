/*
 * apart: run a file without a transaction, statement by statement, on one shard.
 *
 * Before a statement the ledger gets "begun", afterwards "done", so that an interrupted run is
 * known to have been in that statement. What CONCURRENTLY leaves behind (an index that is not
 * valid) is found in the catalogue, dropped, and built again. The session form of the shard's lock
 * is held meanwhile: it also shows that a server is still at work for a client that has gone.
 *
 *     LOCK ─► ASK ─► READ ─► PREPARE ─┬─► CHECK ◄─► DROP        RECOVER: begun by an earlier run
 *                                     ├────┘
 *     FINISH ◄────────────────────────┴─► MARK ─► RUN ─┬─► CHECK ◄─► DROP      VERIFY: an index
 *        ▲                                  ▲          ├────┘
 *        └──────────────────────────────────┴──────────┤
 *                                                      └ refused ─► CHECK ◄─► DROP ─► CLEAR
 */
#ifndef HVI_APART_H
#define HVI_APART_H

#include "schema/crew.h"
#include "schema/ledger.h"
#include "schema/obstacle.h"

typedef struct hvi_apart {
    const hv_migrations *migrations; /* not owned, as the next two */
    const hvi_migration *file;
    const hv_rollout *rollout;
    hvi_obstacle *obstacle; /* the job's */
    bool locked;            /* this session has the shard's lock */
    bool changed;           /* it has run or recorded something */

    enum {
        HVI_APART_LOCK,
        HVI_APART_ASK,
        HVI_APART_READ,
        HVI_APART_PREPARE,
        HVI_APART_CHECK,
        HVI_APART_DROP,
        HVI_APART_MARK,
        HVI_APART_RUN,
        HVI_APART_CLEAR,
        HVI_APART_FINISH,
    } phase;
    enum { HVI_APART_RECOVER, HVI_APART_VERIFY, HVI_APART_CLEAN_UP } purpose; /* of CHECK, DROP */
    int statement;                                                            /* from 1 */
    bool is_begun; /* an earlier run has begun it */
    int drops;     /* for this statement */
    hvi_ledger_rows rows;
    hvi_buffer text; /* the statement, with the schema's name */
    hvi_concurrently concurrently;
    hvi_buffer sql;
    hv_error *refusal; /* of the statement; owned */
} hvi_apart;

void hvi_apart_fini(hvi_apart *apart);

/* Begin with a file, or go on after a pause or on another connection (then not `locked`). */
hvi_job_next hvi_apart_begin(hvi_apart *apart, hvi_job *job, hvi_session *session,
                             hvi_request *request);

/* As a job's step, with an answer. HVI_JOB_END with HV_WORK_DONE: the file is done, and the shard's
 * lock is held until the session is cleaned. */
hvi_job_next hvi_apart_step(hvi_apart *apart, hvi_job *job, hvi_session *session,
                            hvi_answer *answer, hvi_request *request);

#endif
