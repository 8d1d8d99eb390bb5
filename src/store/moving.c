/*
 * moving: the public functions that move shards.
 *
 * Each enters the store and calls the module in src/move that does it.
 */
#include <stdlib.h>

#include "move/move.h"
#include "move/moves.h"
#include "store/store.h"

struct hv_move {
    hv_store *store;
    unsigned generation; /* hvi_fork_generation() when it was made */
    hvi_move *move;
    bool sweeps; /* what earlier ones have left is removed first */
};

static hv_status begin(hv_store *store, hvi_move_order order, int shard, int server,
                       const hv_move_options *options, hv_move **move, hv_error **error) {
    hvi_visit visit;
    *move = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    hv_move *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_store_leave(&visit, hvi_no_memory(error));
    made->store = store;
    made->generation = hvi_fork_generation();
    made->sweeps = order == HVI_ORDER_MOVE;
    status = hvi_move_new(&store->router, order, shard, server, options, &made->move, error);
    if (status == HV_OK)
        *move = made;
    else
        free(made);
    return hvi_store_leave_object(&visit, status);
}

hv_status hv_move_start(hv_store *store, int shard, int server, const hv_move_options *options,
                        hv_move **move, hv_error **error) {
    return begin(store, HVI_ORDER_MOVE, shard, server, options, move, error);
}

hv_status hv_move_resume(hv_store *store, int shard, const hv_move_options *options, hv_move **move,
                         hv_error **error) {
    return begin(store, HVI_ORDER_RESUME, shard, -1, options, move, error);
}

hv_status hv_move_abort(hv_store *store, int shard, const hv_move_options *options, hv_move **move,
                        hv_error **error) {
    return begin(store, HVI_ORDER_ABORT, shard, -1, options, move, error);
}

hv_status hv_move_undo(hv_store *store, int shard, const hv_move_options *options, hv_move **move,
                       hv_error **error) {
    return begin(store, HVI_ORDER_UNDO, shard, -1, options, move, error);
}

hv_status hv_move_clean(hv_store *store, int shard, const hv_move_options *options, hv_move **move,
                        hv_error **error) {
    return begin(store, HVI_ORDER_CLEAN, shard, -1, options, move, error);
}

hv_status hv_move_advance(hv_move *move, int64_t timeout, bool *done, hv_error **error) {
    hvi_visit visit;
    *done = false;
    if (hvi_store_is_foreign(move->generation))
        return hvi_fail(error, HV_INVALID, "the move is another process's");
    hv_status status = hvi_store_enter(&visit, move->store, error);
    if (status != HV_OK)
        return status;
    if (move->sweeps)
        status = hvi_moves_sweep(&move->store->router, NULL, error);
    move->sweeps = false;
    if (status == HV_OK)
        status = hvi_move_advance(move->move, timeout, done, error);
    return hvi_store_leave(&visit, status);
}

void hv_move_progress(const hv_move *move, hv_move_status *status) {
    hvi_move_progress(move->move, status);
}

void hv_move_free(hv_move *move) {
    if (move == NULL)
        return;
    if (hvi_store_is_foreign(move->generation)) {
        hvi_move_abandon(move->move);
    } else {
        hvi_move_free(move->move);
        hvi_store_drop_object(move->store);
    }
    free(move);
}

/* ---- all of them ---- */

hv_status hv_moves_list(hv_store *store, hv_moves **moves, hv_error **error) {
    hvi_visit visit;
    *moves = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, hvi_moves_list(&store->router, moves, error));
}

hv_status hv_moves_sweep(hv_store *store, size_t *removed, hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, hvi_moves_sweep(&store->router, removed, error));
}
