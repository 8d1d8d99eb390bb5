/*
 * move: the driver of a move: its steps, resuming, taking back, undoing and cleaning up.
 *
 * See move.c for the steps and what always holds.
 */
#ifndef HVI_MOVE_H
#define HVI_MOVE_H

#include "pool/router.h"
#include "move/move_options.h"

typedef struct hvi_move hvi_move;

/* Only what can be seen without a server is checked here; all else fails when it is advanced.
 * `target` is for HVI_ORDER_MOVE. `options` may be NULL. */
hv_status hvi_move_new(hvi_router *router, hvi_move_order order, int shard, int target,
                       const struct hv_move_options *options, hvi_move **move, hv_error **error);

/* Of a shard that may have rows of several moves, only this one is meant. */
void hvi_move_only(hvi_move *move, uint32_t id);

hv_status hvi_move_advance(hvi_move *move, int64_t timeout, bool *done, hv_error **error);
void hvi_move_progress(const hvi_move *move, hv_move_status *status);
void hvi_move_free(hvi_move *move);

/* For a forked child: leaves the parent's connections alone. */
void hvi_move_abandon(hvi_move *move);

#endif
