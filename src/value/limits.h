/*
 * limits: the ranges of keys and kinds, and the errors for values outside of them.
 */
#ifndef HVI_LIMITS_H
#define HVI_LIMITS_H

#include <stdint.h>

#include "hypervault.h"
#include "value/key.h"

/* Set *fields to the key's fields. Errors: HV_INVALID unless the key is positive. */
hv_status hvi_check_key(int64_t key, hvi_key_fields *fields, hv_error **error);

/* Errors: HV_INVALID unless the kind fits into a smallint. */
hv_status hvi_check_kind(int kind, hv_error **error);

#endif
