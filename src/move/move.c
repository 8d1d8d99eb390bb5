/*
 * move: the driver of a move.
 */
#include "move/move.h"

#include <stdlib.h>

struct hvi_move {
    hvi_router *router;
};

hv_status hvi_move_new(hvi_router *router, hvi_move_order order, int shard, int target,
                       const struct hv_move_options *options, hvi_move **move, hv_error **error) {
    (void) router, (void) order, (void) shard, (void) target, (void) options, (void) move;
    return hvi_fail(error, HV_INVALID, "shards do not move yet");
}

hv_status hvi_move_advance(hvi_move *move, int64_t timeout, bool *done, hv_error **error) {
    (void) move, (void) timeout, (void) done;
    return hvi_fail(error, HV_INVALID, "shards do not move yet");
}

void hvi_move_progress(const hvi_move *move, hv_move_status *status) {
    (void) move;
    *status = (hv_move_status){.shard = -1};
}

void hvi_move_free(hvi_move *move) {
    free(move);
}

void hvi_move_abandon(hvi_move *move) {
    free(move);
}

void hvi_move_set_hook(hvi_move_hook hook, void *context) {
    (void) hook, (void) context;
}

const char *hv_move_phase_name(hv_move_phase phase) {
    static const char *const names[] = {
        [HV_MOVE_BEGUN] = "begun",
        [HV_MOVE_SCHEMA] = "schema",
        [HV_MOVE_COPYING] = "copying",
        [HV_MOVE_INDEXING] = "indexing",
        [HV_MOVE_CATCHING_UP] = "catching up",
        [HV_MOVE_VERIFYING] = "verifying",
        [HV_MOVE_SWITCHING] = "switching",
        [HV_MOVE_CLEANING] = "cleaning",
        [HV_MOVE_KEPT] = "kept",
        [HV_MOVE_DONE] = "done",
        [HV_MOVE_ABORTING] = "aborting",
        [HV_MOVE_ABORTED] = "aborted",
    };
    return (size_t) phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}
