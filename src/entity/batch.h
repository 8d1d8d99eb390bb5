/*
 * batch: items that travel to a server and back on one session: the only way in which operations
 * are carried, even a single one.
 *
 * Together they are one pipeline and one transaction; items of one verb and shard are one
 * statement. If the server refuses that, nothing of it has happened, and each item goes apart: in a
 * transaction of its own, still in one pipeline, so that only the items fail that the server
 * refuses. If the reason may pass, so that one may be sent again later, items that have to come
 * after another one on their key stay behind (HVI_FATE_BEHIND), and travel in the next batch. A
 * single item uses the plain statement, and goes without a pipeline once that is prepared.
 *
 * A batch advances step by step and never waits; waiting for it is a loop over its steps.
 */
#ifndef HVI_BATCH_H
#define HVI_BATCH_H

#include "entity/group.h"

typedef enum hvi_batch_state {
    HVI_BATCH_TOGETHER,
    HVI_BATCH_MENDING, /* putting the session's prepared statements right */
    HVI_BATCH_APART,
    HVI_BATCH_DONE,
} hvi_batch_state;

typedef struct hvi_batch {
    hvi_item *const *items; /* not owned, as the array; the array is left as it is */
    size_t count;
    bool log;            /* a single item, whose parameters go to the log */
    bool in_transaction; /* a single item, as a part of a transaction that is open: if it fails,
                            that has no effect, and nothing can be mended before its end */

    hvi_batch_state state;
    hvi_session *session; /* not owned */
    bool is_built;        /* else memory was short for what was to be sent */
    bool in_turn;         /* apart, only the first on each key are sent */
    int64_t deadline;     /* nothing more is sent after it */
    int mended;
    hvi_pipeline pipeline;
    hvi_mending mending;
    hv_error *error; /* the error of all items; owned */

    /* Owned, with room as hvi_groups_make() needs; a single item uses the ones below. */
    hvi_item **sorted;
    hvi_group *groups;
    hvi_query *queries;
    PGresult **results;
    size_t group_count;

    hvi_item *one_item;
    hvi_group one_group;
    hvi_query one_query;
    PGresult *one_result;
} hvi_batch;

/* Set up a batch of these items; nothing is sent yet. */
void hvi_batch_init(hvi_batch *batch, hvi_item *const *items, size_t count);

/* Frees what the items' answers point into. */
void hvi_batch_fini(hvi_batch *batch);

/* Send it, apart if it has to be. Always followed by hvi_batch_finish(). */
void hvi_batch_start(hvi_batch *batch, hvi_session *session, bool apart);

/* As hvi_exchange_advance(). */
hvi_wants hvi_batch_advance(hvi_batch *batch);

/* Wait until it is over, or late. */
void hvi_batch_await(hvi_batch *batch, int64_t deadline);

/* Can part of it have happened already? */
bool hvi_batch_is_sent(const hvi_batch *batch);

/* When it is over, or given up as late: each item gets its fate. The session is no longer used. */
void hvi_batch_finish(hvi_batch *batch);

/* Instead of starting it: there is no session for it, or no time. Takes *cause. */
void hvi_batch_fail(hvi_batch *batch, hvi_fate fate, hv_error **cause);

/* In a forked child, instead of finishing it: leave the connection alone. */
void hvi_batch_forget(hvi_batch *batch);

#endif
