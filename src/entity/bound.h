/*
 * bound: up to which moment everything that was put on a server can be seen.
 *
 * A key holds the moment when it was made, and its transaction commits later. So a reader that
 * remembers the last key misses what is committed late. But a transaction that makes a key holds a
 * lock on the shard's table until it ends: an INSERT or a COPY takes it before it makes its first
 * key, and reserve_ids() takes it itself. A poll asks a server for its time, and then for the
 * transactions that hold such a lock, the holders. When these have ended, every key below that time
 * is visible:
 *
 *  - A transaction that had made a key by then was a holder, and its locks are released after its
 *    rows can be seen.
 *  - A transaction that takes the lock later makes a later key.
 *
 * A poll's time is passed when all of its holders have ended. Of each holder of the latest poll a
 * time is known before which it has made no key: its beginning, or that of the last poll in which
 * it was no holder. The smallest of these times is passed. So one long transaction delays what
 * comes after its beginning, and nothing else.
 *
 * A poll says nothing of a shard that is not on the server when it is asked: the answer names
 * those. It is valid for a shard that leaves the server after the poll's time, since what was put
 * before has been committed then, and later keys are made elsewhere; and for one that arrives
 * before the look for its table, because what was put where it comes from was committed before it
 * left.
 *
 * Times are milliseconds since 1970, on the server's clock.
 */
#ifndef HVI_BOUND_H
#define HVI_BOUND_H

#include "base/buffer.h"
#include "wire/result.h"

/* No time: nothing is known yet. Before all others. */
#define HVI_BOUND_UNKNOWN INT64_MIN

/* A transaction that may have made keys. */
typedef struct hvi_holder {
    int64_t id;      /* its virtual transaction */
    int pid;         /* the server's process; 0: the transaction is prepared */
    int64_t start;   /* when it began, by the server's clock; HVI_BOUND_UNKNOWN: unknown */
    int64_t clear;   /* it has made no key before this time */
    int64_t seen_at; /* when it was first seen, hvi_clock_us() */
} hvi_holder;

typedef struct hvi_bound {
    int64_t delay;       /* how far to stay behind, in milliseconds */
    int64_t ceiling;     /* what was put before this time is final; it never decreases */
    int64_t time;        /* of the latest poll */
    int64_t answered_at; /* when its answer came, hvi_clock_us() */
    hvi_holder *holders; /* by their ids; owned */
    size_t holder_count;
} hvi_bound;

/* `ceiling`: what was put before that time is not asked for; or HVI_BOUND_UNKNOWN. */
void hvi_bound_init(hvi_bound *bound, int64_t delay, int64_t ceiling);
void hvi_bound_fini(hvi_bound *bound);

/* A poll's answer. */
typedef struct hvi_bound_answer {
    int64_t time;
    bool is_standby; /* it does not know of the writers */
    /* "4/91 27166 1795803556729,5/2  ": virtual transaction, process, beginning; NULL: none. */
    const char *holders;
    /* Of the prepared transaction that was asked about, if it is there. */
    const char *gid;
    int64_t age; /* since it was prepared, in milliseconds */
    /* "shard0003,shard0007": those of the shards whose tables are not there; NULL: none. */
    const char *missing;
} hvi_bound_answer;

/*
 * Take the answer that came at `now`, hvi_clock_us(). *stepped is a time on the server's clock,
 * from which on keys may have been made below the ceiling, because the clock has stepped back; else
 * HVI_BOUND_UNKNOWN. Errors: HV_NO_MEMORY; HV_CORRUPT for an answer that makes no sense.
 */
hv_status hvi_bound_take(hvi_bound *bound, const hvi_bound_answer *answer, int64_t now,
                         int64_t *stepped, hv_error **error);

/* The holder that the ceiling waits for; NULL: none. */
const hvi_holder *hvi_bound_holder(const hvi_bound *bound);

/* ---- the statement ---- */

/* Append it for these shards: of `schemas`, "shard0001,shard0002", not empty. Its parameter: the
 * virtual transaction of a prepared holder, of which more is to be known; '': of none. */
void hvi_bound_sql(hvi_buffer *sql, const char *schemas);

/* The virtual transaction of a holder, as the statement's parameter. */
#define HVI_HOLDER_ID_LEN 32
const char *hvi_holder_id(const hvi_holder *holder, char text[HVI_HOLDER_ID_LEN]);

extern const hvi_form hvi_bound_form;

/* Is it a standby's? */
bool hvi_bound_is_standby(const PGresult *result);

/* Read an answer of this form; its texts live as long as the result. */
void hvi_bound_read(const PGresult *result, hvi_bound_answer *answer);

#endif
