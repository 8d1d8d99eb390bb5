/*
 * remains: remove what a move has made, whatever of it is there.
 */
#ifndef HVI_REMAINS_H
#define HVI_REMAINS_H

#include "move/state.h"

/*
 * Remove both streams, and every copy that is not the live one, from those of the two servers that
 * can be reached. Not the location rows, nor the journal's. Errors: HV_REFUSED with
 * HVI_SQLSTATE_LOCK or HVI_SQLSTATE_IN_USE: call it again.
 */
hv_status hvi_remains_remove(hvi_move *move, hv_error **error);

/* Only the stream of this way. */
hv_status hvi_remains_remove_stream(hvi_move *move, hv_error **error);

#endif
