/*
 * switch: the fence, the one transaction by which a shard goes from one server to another.
 *
 * See switch.c for its order, and why nothing is lost whatever is killed at which moment.
 */
#ifndef HVI_SWITCH_H
#define HVI_SWITCH_H

#include "move/drift.h"
#include "move/names.h"
#include "move/stream.h"
#include "move/verify.h"

typedef struct hvi_switch {
    hvi_link *from, *to; /* sessions at rest */
    hvi_link *witness;   /* another one of the source: the marker's */
    int shard;
    const hvi_move_names *names;
    int64_t generation;       /* after it */
    const char *target;       /* the name that the location row gives for it */
    const hvi_stream *stream; /* published by `witness`; NULL: offline, nothing is waited for */
    const hvi_drift *drift;   /* NULL: not looked at */
    hvi_verify *verify;       /* whose last rows are compared under the fence; or NULL */
    int64_t max_pause_ms;     /* the largest budget */

    /* Its own; all zero at first. */
    int tries;
    int64_t pause_us; /* the longest time that callers may have waited, over all tries */
    char waits_for[256];
    char relations[64]; /* which the schema had under the locks */
} hvi_switch;

typedef enum hvi_switch_result {
    HVI_SWITCH_DONE,  /* committed */
    HVI_SWITCH_AGAIN, /* nothing has happened; `waits_for` is what was in the way */
    HVI_SWITCH_LOST,  /* a connection was lost: the location row knows */
    HVI_SWITCH_WRONG, /* nothing has happened, and it need not be tried again: *error says why */
} hvi_switch_result;

/* Try it once. */
hvi_switch_result hvi_switch_try(hvi_switch *attempt, hv_error **error);

#endif
