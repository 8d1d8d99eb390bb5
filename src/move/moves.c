/*
 * moves: what the journals of all servers have.
 */
#include "move/moves.h"

#include <stdlib.h>

struct hv_moves {
    hv_move_info *infos; /* owned, as is all in it */
    size_t count;
    hv_error **missing; /* owned, as the errors */
    size_t missing_count;
};

hv_status hvi_moves_list(hvi_router *router, hv_moves **moves, hv_error **error) {
    (void) router;
    *moves = calloc(1, sizeof **moves);
    return *moves != NULL ? HV_OK : hvi_no_memory(error);
}

void hv_moves_free(hv_moves *moves) {
    free(moves);
}

size_t hv_moves_count(const hv_moves *moves) {
    return moves->count;
}

const hv_move_info *hv_moves_at(const hv_moves *moves, size_t index) {
    return index < moves->count ? &moves->infos[index] : NULL;
}

const hv_error *hv_moves_missing(const hv_moves *moves, size_t index) {
    return index < moves->missing_count ? moves->missing[index] : NULL;
}

hv_status hvi_moves_sweep(hvi_router *router, size_t *removed, hv_error **error) {
    (void) router, (void) error;
    if (removed != NULL)
        *removed = 0;
    return HV_OK;
}
