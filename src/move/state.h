/*
 * state: the struct hvi_move, for the files that make up the driver.
 */
#ifndef HVI_MOVE_STATE_H
#define HVI_MOVE_STATE_H

#include "schema/patience.h"
#include "shard/location.h"
#include "move/drift.h"
#include "move/journal.h"
#include "move/late_keys.h"
#include "move/link.h"
#include "move/move_options.h"
#include "move/stream.h"
#include "move/switch.h"
#include "move/verify.h"

typedef struct hvi_move hvi_move;

struct hvi_move {
    hvi_router *router;
    hvi_move_order order;
    struct hv_move_options options;
    int shard;
    bool only_id; /* the move with this id is meant, whatever other one there is */
    uint32_t id;
    int wanted; /* the number of the server to move to; of HVI_ORDER_MOVE */
    int64_t began;

    /* Where it is. */
    enum {
        HVI_MOVE_FINDING, /* the servers and the journal's rows are not known yet */
        HVI_MOVE_LOOKING, /* both are; the links are to be opened, and the step to be found */
        HVI_MOVE_AT_WORK,
        HVI_MOVE_OVER,
        HVI_MOVE_BROKEN, /* an error has been returned */
    } state;
    bool is_begun;         /* the step's row is written, and its function has been called */
    int stage;             /* of a step of several parts: its own number; 0 at first */
    int64_t wake_at;       /* nothing to do until then; 0: at once */
    hvi_patience patience; /* of what is waited for now: a server, a lock */
    hvi_patience refused;  /* of switching */
    hv_error *cause;       /* owned: why it is taken back; NULL: it was asked for */
    hv_error *lost;        /* owned: why a server cannot be reached; NULL: all are */
    bool is_aborted;

    /* The servers: of the way that is being gone. NULL: not in the configuration. */
    hvi_server *source, *target; /* of the move as it was begun */
    hvi_link from, to;           /* which have the shard's advisory lock; `from` is the fence's */
    hvi_link witness;            /* another session of from's server */
    hvi_link readers[2];         /* of both servers: the verification's */
    bool from_given_up, to_given_up; /* it could not be reached for too long */
    enum { HVI_LOST_NONE, HVI_LOST_FROM, HVI_LOST_TO } lost_side; /* which was to be opened last */
    bool is_new;                                                  /* its row is not written yet */
    bool is_stuck; /* with what can be reached nothing can be done: no waiting helps */

    hvi_journal_row row;
    bool is_back; /* an undo: from the target to the source */
    hvi_move_names names;
    hvi_location from_location, to_location; /* as they were looked at */

    /* What the steps have. */
    hvi_drift drift;
    hvi_late_keys late_keys;
    bool has_missed_keys;   /* they were too late: all are made with the tables from now on */
    hvi_verify *verify;     /* owned */
    hvi_verify_sides sides; /* of that, which borrows it */
    bool is_verified;
    hvi_switch fence;
    int64_t locked;              /* hvi_clock_us() since when an offline move keeps writers out */
    int64_t marker;              /* its number; 0: none is under way */
    int64_t marked;              /* hvi_clock_us() */
    int64_t looked;              /* at the stream */
    int64_t looked_at_wal;       /* that the source keeps, while the stream is not looked at */
    int64_t failures, failed_at; /* of the subscription's workers, and when one was seen */
    hvi_stream_state stream_state;

    /* For hvi_move_progress(). */
    char step_text[128];
    char waits_for[320];
    char no_space[200]; /* what the target says if its disk is full; "": it is not */
    char left_behind[320];
};

/* ---- looking (look.c) ---- */

/* Find the journal's rows of the shard, and the servers. */
hv_status hvi_move_find(hvi_move *move, hv_error **error);

/* Open what is not open, take the locks, and find the step to go on with. */
hv_status hvi_move_look(hvi_move *move, hv_error **error);

void hvi_move_close_links(hvi_move *move);

/* Of a new move, whose target's lock another session has: if both servers are one database, that is
 * its own; then HV_INVALID and another error, else the given ones. */
hv_status hvi_move_check_same(hvi_move *move, hv_status status, hv_error **error);

/* Of a new move: is there anything that would end it (before.c)? Both servers are open and locked,
 * and nothing of it has been made. */
hv_status hvi_move_check_before(hvi_move *move, hv_error **error);

/* ---- what steps share (look.c) ---- */

/* Write the row on both servers, as far as they are there: the target of the move first. */
hv_status hvi_move_write(hvi_move *move, hv_error **error);

/* What it is doing, for people; and that it has nothing to do for so long. */
void hvi_move_say(hvi_move *move, const char *step);
void hvi_move_stay(hvi_move *move, int64_t ms);

/* The stream there (of this way), and the other one. */
hvi_stream hvi_move_stream(hvi_move *move);
hvi_stream hvi_move_stream_back(hvi_move *move);

/* ---- the steps (steps.c, finish.c) ---- */

/* What a step's function answers: HV_OK and this. */
typedef enum hvi_move_next {
    HVI_NEXT_STAY, /* call it again, at wake_at */
    HVI_NEXT_STEP, /* *next is the next step */
    HVI_NEXT_OVER,
} hvi_move_next;

typedef hv_status (*hvi_move_step_fn)(hvi_move *move, int64_t deadline, hvi_move_next *what,
                                      hvi_move_step *next, hv_error **error);

hv_status hvi_step_begun(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_schema(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_streaming(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_copying(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_copying_offline(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *,
                                   hv_error **);
hv_status hvi_step_indexing(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_catching_up(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_verifying(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_ready(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_switching(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_switched(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_returning(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_cleaning(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_kept(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_done(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);
hv_status hvi_step_aborting(hvi_move *, int64_t, hvi_move_next *, hvi_move_step *, hv_error **);

/* Have the writers of an offline move waited for too long by now? HV_TIMEOUT: they go on, and the
 * copy is worth nothing any more. */
hv_status hvi_move_check_offline(hvi_move *move, hv_error **error);

/* Look at the stream, now and then. HV_MISMATCH: it is lost, or it is a danger to the source. */
hv_status hvi_move_look_at_stream(hvi_move *move, hv_error **error);

/* The same while the target's link is busy with what was started on it. That is given up if the
 * source is in danger. */
hv_status hvi_move_look_at_source(hvi_move *move, hv_error **error);

/* The same, of nothing but the WAL that the source keeps, for steps that are busy with other
 * things; by the link `from`. HV_OK if there is no stream. */
hv_status hvi_move_look_at_wal(hvi_move *move, hv_error **error);

/* The target cannot be reached: a source must not keep WAL for it without end. If it keeps too much
 * the move is taken back before the patience is over. */
void hvi_move_protect_source(hvi_move *move);

/* Is the subscription at work? HV_TIMEOUT: not for max_wait. */
hv_status hvi_move_check_worker(hvi_move *move, hv_error **error);

/* Refused for want of a lock: wait and try again, for up to max_wait. HV_OK: it waits. Else the
 * status of the error. */
hv_status hvi_move_wait_for_lock(hvi_move *move, hvi_link *on, hv_status status, hv_error **cause,
                                 hvi_move_next *what, hv_error **error);

#endif
