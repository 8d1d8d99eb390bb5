/*
 * moves: what the journals of all servers have, and the removal of what is over.
 */
#ifndef HVI_MOVES_H
#define HVI_MOVES_H

#include "pool/router.h"

/* As hv_moves_list(): the public functions that read it are here, too. */
hv_status hvi_moves_list(hvi_router *router, hv_moves **moves, hv_error **error);

/* As hv_moves_sweep(). A server that cannot be reached is passed over. */
hv_status hvi_moves_sweep(hvi_router *router, size_t *removed, hv_error **error);

#endif
