/*
 * verify_parts: comparing tables part by part.
 */
#ifndef HVI_VERIFY_PARTS_H
#define HVI_VERIFY_PARTS_H

#include "move/verify_state.h"

/* Send what the state asks for: HASHING … ROWS. */
hv_status hvi_verify_parts_enter(hvi_verify *verify, hv_error **error);

/* Take the answer. */
hv_status hvi_verify_parts_answered(hvi_verify *verify, hv_error **error);

/* NEXT: go to the next part, table, or look. */
void hvi_verify_parts_next(hvi_verify *verify);

/* Begin another pass. */
void hvi_verify_parts_again(hvi_verify *verify);

#endif
