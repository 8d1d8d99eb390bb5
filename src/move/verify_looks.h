/*
 * verify_looks: looking at the rows that are in doubt, until they agree, are left for the fence, or
 * are found to be different.
 */
#ifndef HVI_VERIFY_LOOKS_H
#define HVI_VERIFY_LOOKS_H

#include "move/verify_state.h"

/* Begin to look at all that are in doubt. */
void hvi_verify_looks_begin(hvi_verify *verify);

/* Send what the state asks for: LOOK_SOURCE … UNLOCK. */
hv_status hvi_verify_looks_enter(hvi_verify *verify, int64_t deadline, hv_error **error);

/* Take the answer. */
hv_status hvi_verify_looks_answered(hvi_verify *verify, hv_error **error);

/* A lock did not come: the next try, or none. */
hv_status hvi_verify_looks_refused(hvi_verify *verify, hv_error **error);

/* What hvi_verify_last() promises, but the error about what is found. */
hv_status hvi_verify_looks_last(hvi_verify *verify, hvi_session *source, hvi_session *target,
                                int64_t deadline, hv_error **error);

#endif
