/*
 * limits: what a key and a kind may be, and the errors for what they may not be.
 */
#ifndef HVI_LIMITS_H
#define HVI_LIMITS_H

#include <stdint.h>

#include "hypervault.h"
#include "value/key.h"

/* HV_INVALID unless the key is positive; otherwise its fields. */
hv_status hvi_check_key(int64_t key, hvi_key_fields *fields, hv_error **error);

/* HV_INVALID unless a smallint holds the kind. */
hv_status hvi_check_kind(int kind, hv_error **error);

#endif
