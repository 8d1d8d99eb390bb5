/*
 * move: the driver of a move: its steps, resuming, taking back, undoing and cleaning up.
 *
 * See move.c for the steps and what always holds.
 */
#ifndef HVI_MOVE_H
#define HVI_MOVE_H

#include "move/journal.h"
#include "pool/router.h"

/* What is asked of it; a copy is in each move. All as hv_move_options_set() describes. */
struct hv_move_options {
    int64_t keep_undo; /* ms; 0: none */
    bool offline;
    bool verify;
    int64_t max_pause; /* ms */
    int64_t max_wait;  /* ms */
    int64_t max_wal;   /* bytes */
};

/* The options as they are without any being set. */
void hvi_move_options_init(struct hv_move_options *options);

typedef struct hvi_move hvi_move;

/* What is begun. */
typedef enum hvi_move_order {
    HVI_ORDER_MOVE,   /* a new move, or the same one once more: then it is resumed */
    HVI_ORDER_RESUME, /* go on with what the journal has */
    HVI_ORDER_ABORT,  /* take it back, or if it is switched, bring it to its end */
    HVI_ORDER_UNDO,   /* of a kept one: the way back */
    HVI_ORDER_CLEAN,  /* of a kept one: drop the old copy */
} hvi_move_order;

/* Only what can be seen without a server is checked here; all else fails when it is advanced.
 * `target` is for HVI_ORDER_MOVE. `options` may be NULL. */
hv_status hvi_move_new(hvi_router *router, hvi_move_order order, int shard, int target,
                       const struct hv_move_options *options, hvi_move **move, hv_error **error);
hv_status hvi_move_advance(hvi_move *move, int64_t timeout, bool *done, hv_error **error);
void hvi_move_progress(const hvi_move *move, hv_move_status *status);
void hvi_move_free(hvi_move *move);

/* For a forked child: leaves the parent's connections alone. */
void hvi_move_abandon(hvi_move *move);

#endif
